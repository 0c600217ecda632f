//! Every metric of our own, with its labels and what it says.

use prometheus::Opts;

/// A metric before it exists.
pub(super) struct Definition {
    name: &'static str,
    help: &'static str,
    /// Names of its labels.
    pub(super) labels: &'static [&'static str],
}

impl Definition {
    pub(super) fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }
}

/// A table of metrics.
macro_rules! metrics {
    ($($constant:ident = $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $constant: Definition =
            Definition { name: $name, help: $help, labels: &[$($label),*] };)*
    };
}

metrics! {
    CONNECTIONS = "tracer_connections_total" ["direction", "outcome", "family", "process"]
        "Connections opened (egress) and accepted (ingress), and attempts that failed.";
    CONNECTIONS_ACTIVE = "tracer_connections_active" ["direction"]
        "Connections that are open now.";
    TRANSMIT_BYTES = "tracer_transmit_bytes_total" []
        "Payload sent, in bytes; open connections are sampled, flows of datagrams counted when told.";
    RECEIVE_BYTES = "tracer_receive_bytes_total" []
        "Payload received, in bytes; open connections are sampled, flows of datagrams counted when told.";
    DATAGRAMS = "tracer_datagrams_total" ["direction"]
        "Datagrams that sockets sent and received, counted when their flow is told.";
    CONNECT_DURATION = "tracer_connect_duration_seconds" []
        "From connect to an established connection.";
    CONNECTION_DURATION = "tracer_connection_duration_seconds" []
        "From connect or accept to the end of a connection.";
    PROCESSES_STARTED = "tracer_processes_started_total" []
        "Processes that were forked.";
    LISTENERS_ACTIVE = "tracer_listeners_active" []
        "Sockets that listen now.";
    UNATTRIBUTED = "tracer_unattributed_connections_total" []
        "Connections and failed attempts whose process is not known.";
    COMPARISON_RUNS = "tracer_comparison_runs_total" []
        "Comparisons with the kernel's own sockets, the one at the start included.";
    COMPARISON_MISSED = "tracer_comparison_missed_total" []
        "Connections and listeners that the hooks missed and a comparison found.";
    COMPARISON_STALE = "tracer_comparison_stale_total" []
        "Connections and listeners whose end the hooks missed, as a comparison found.";
    COMPARISON_REPAIRED = "tracer_comparison_repaired_total" []
        "Connections whose accept the hooks missed and whose holder a comparison found.";
    DNS_LOOKUPS = "tracer_dns_lookups_total" ["rcode"]
        "Look-ups of names, by the response code; `none`: no answer came, `unknown`: it may have been missed.";
    DNS_LOOKUP_DURATION = "tracer_dns_lookup_duration_seconds" []
        "From the question to the answer of a look-up.";
    DNS_MALFORMED = "tracer_dns_malformed_total" []
        "Messages from or to port 53 that could not be read to their end.";
    DNS_UNEXPECTED_ANSWERS = "tracer_dns_unexpected_answers_total" []
        "Answers to no question that waited: late, repeated or forged.";
    DNS_NAMES_EVICTED = "tracer_dns_names_evicted_total" []
        "Names of addresses that had to make room for others in a full table.";
    TLS_MALFORMED = "tracer_tls_malformed_total" []
        "What was sent first on a connection, began like a ClientHello and could not be read.";
    DETECTIONS = "tracer_detections_total" ["rule"]
        "Detections, by the rule that matched.";
    FILES_EXAMINED = "tracer_files_examined_total" ["outcome"]
        "Executed files that were to be read for hash, build ID and package, by how that ended.";
    EVENTS = "tracer_events_total" ["action"]
        "Events, before the filters of any output.";
    EVENTS_LOST = "tracer_events_lost_total" ["stage"]
        "Records or events that were lost, by where.";
    CONNECTION_TABLE_ENTRIES = "tracer_connection_table_entries" []
        "Sockets in the table: open connections, listeners, and what is about to begin or to end.";
    PROCESS_TABLE_ENTRIES = "tracer_process_table_entries" []
        "Processes in the table: alive, or needed by a descendant or a connection.";
    PROCESS_TABLE_EVICTIONS = "tracer_process_table_evictions_total" []
        "Processes that had to make room for others in a full table.";
    CGROUP_TABLE_EVICTIONS = "tracer_cgroup_table_evictions_total" []
        "Cgroups that had to make room for others in a full table.";
    SERIES_FOLDED = "tracer_series_folded_total" []
        "Connections counted under process=\"other\" because too many names have series of their own.";
    PROGRAM_RUNS = "tracer_bpf_program_runs_total" ["hook"]
        "Runs of kernel programs, while the kernel counts them (kernel.bpf_stats_enabled).";
    BUILD_INFO = "tracer_build_info" ["version", "target"]
        "Always 1; the labels say which tracer this is.";
}
