//! Head and foot of the page: what it is about, what is missing, what to do next, how all of it is known.
//!
//! In: a report. Out: HTML.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::super::escape::Html;
use super::super::{Evidence, Report, advice};
use super::{end_table, section, table};

const STYLE: &str = include_str!("../style.css");
/// For so many peers rules are suggested.
const PEERS: usize = 8;

impl Report {
    pub(super) fn write_head(&self, out: &mut impl Write) -> io::Result<()> {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        writeln!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>Network report: {}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            Html(&self.heading.subject)
        )
    }

    pub(super) fn write_summary(
        &self,
        out: &mut impl Write,
        evidence: &Evidence,
    ) -> io::Result<()> {
        let subject = Html(&self.heading.subject);
        writeln!(
            out,
            "<header>\n<p class=\"soft\">Network activity by process</p>\n<h1>{subject}</h1>"
        )?;
        writeln!(out, "<dl class=\"facts\">")?;
        let mut hosts: Vec<String> = self.abouts.iter().map(host).collect();
        hosts.dedup();
        let first = self.lines.first().map_or(i64::MAX, |(at, _)| *at);
        let (since, until) = (self.heading.window.since, self.heading.window.until);
        let since = if since == i64::MIN { first } else { since };
        let facts = [
            ("Host", hosts.join("; ")),
            (
                "Window",
                format!(
                    "{} to {}",
                    self.time(since),
                    self.time(until.min(self.heading.made))
                ),
            ),
            ("Made", self.time(self.heading.made)),
            ("Times", format!("of the zone {}", self.zone())),
            (
                "Evidence",
                format!("{}, {} events", evidence.name, self.totals.events),
            ),
        ];
        for (name, fact) in facts {
            writeln!(out, "<dt>{name}</dt><dd>{}</dd>", Html(fact))?;
        }
        writeln!(out, "</dl>\n</header>")?;
        self.write_tiles(out)?;
        writeln!(
            out,
            "<nav><a href=\"#missing\">What is missing</a><a href=\"#processes\">Processes</a>\
             <a href=\"#programs\">Programs</a><a href=\"#contacts\">Contacts</a>\
             <a href=\"#names\">Names</a><a href=\"#sockets\">Sockets</a>\
             <a href=\"#timeline\">Timeline</a><a href=\"#next\">What next</a>\
             <a href=\"#known\">How it is known</a><a href=\"#files\">Files</a></nav>"
        )
    }

    fn write_tiles(&self, out: &mut impl Write) -> io::Result<()> {
        let totals = &self.totals;
        let lost = totals.lost.sorted(|lost| lost.count);
        let lost: u64 = lost.iter().map(|(_, lost)| lost.count).sum();
        let number = |number: u64| number.to_string();
        let tiles = [
            ("connections ended", number(totals.connections), false),
            ("of these failed", number(totals.failed), totals.failed > 0),
            ("still open", number(totals.open), false),
            ("datagram flows", number(totals.flows), false),
            ("programs run", number(totals.executed), false),
            ("names asked for", number(totals.lookups), false),
            ("sent", self.bytes(totals.sent), false),
            ("received", self.bytes(totals.received), false),
            ("lost to the tracer", number(lost), lost > 0),
        ];
        writeln!(out, "<div class=\"tiles\">")?;
        for (name, value, is_bad) in tiles {
            let class = if is_bad { " class=\"bad\"" } else { "" };
            writeln!(
                out,
                "<div{class}><b>{}</b><span>{name}</span></div>",
                Html(value)
            )?;
        }
        writeln!(out, "</div>")
    }

    pub(super) fn write_missing(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "missing", "What is missing")?;
        if !self.heading.notes.is_empty() {
            writeln!(out, "<div class=\"notes\"><ul>")?;
            for note in &self.heading.notes {
                writeln!(out, "<li>{}</li>", Html(note))?;
            }
            writeln!(out, "</ul></div>")?;
        }
        let lost = self.totals.lost.sorted(|lost| lost.count);
        if lost.is_empty() {
            return writeln!(out, "<p>The tracer counted no losses in this window.</p>");
        }
        writeln!(
            out,
            "<p>In this window the tracer lost the following, of the whole host: what is told here may lack it.</p>"
        )?;
        table(out, &["Lost|", "Of what", "Where", "First", "Last"])?;
        for ((stage, kind, unit), lost) in lost {
            let (first, last) = lost.seen.unwrap_or_default();
            writeln!(
                out,
                "<tr><td class=\"n\">{} {}s</td><td>{}</td><td>{}</td><td class=\"t\">{}</td>\
                 <td class=\"t\">{}</td></tr>",
                lost.count,
                Html(unit),
                Html(kind),
                Html(stage),
                Html(self.time(first)),
                Html(self.time(last))
            )?;
        }
        end_table(out, self.totals.lost.omitted, "losses")
    }

    pub(super) fn write_advice(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "next", "What one might do next")?;
        let talks = self.totals.peers(PEERS);
        if talks.is_empty() {
            return writeln!(out, "<p>Nobody was talked with.</p>");
        }
        writeln!(
            out,
            "<p>Nothing of this has been done. It covers the {} peers that were talked with most.</p>\n\
             <p>To record what they say from now on:</p>\n<pre>tcpdump -n -i any -w evidence.pcap {}</pre>",
            talks.len(),
            Html(format!("'{}'", advice::tcpdump_filter(&talks)))
        )?;
        write!(
            out,
            "<p>To refuse these connections, as a file for <code>nft -f</code>; \
             <code>nft -c -f</code> only checks it, <code>nft delete table inet tracer_report</code> takes it \
             back:</p>\n<pre>"
        )?;
        for line in advice::nft_rules(&talks).lines() {
            writeln!(out, "{}", Html(line))?;
        }
        writeln!(out, "</pre>")
    }

    pub(super) fn write_provenance(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "known", "How it is known")?;
        let known = [
            ("kernel", "a hook in the kernel saw it when it happened"),
            (
                "procfs",
                "read from the kernel's lists or from /proc, when the tracer started or afterwards",
            ),
            ("inferred", "concluded from other facts"),
            ("unknown", "not known; nothing is guessed"),
        ];
        table(
            out,
            &["Known by", "Meaning", "Owners of connections and flows|"],
        )?;
        for ((word, meaning), count) in known.iter().zip(self.totals.known) {
            writeln!(
                out,
                "<tr><td>{word}</td><td>{}</td><td class=\"n\">{count}</td></tr>",
                Html(meaning)
            )?;
        }
        end_table(out, 0, "")?;
        writeln!(
            out,
            "<p>A process stands under the one that forked it, as the kernel told it then; “now child of” marks the \
             present parent where the birth was not seen. A name in parentheses after an address was asked for by that \
             very process; with “perhaps”, by another one of its container or host. Characters that could \
             command a terminal or turn the direction of writing are shown as <code>\\u{{202e}}</code>, bytes that are \
             no text as <code>\\xff</code>. Secrets in arguments were masked as *** before anything was kept.</p>"
        )
    }

    pub(super) fn write_files(&self, out: &mut impl Write, evidence: &Evidence) -> io::Result<()> {
        section(out, "files", "Files")?;
        writeln!(
            out,
            "<p>Every event of this report stands in <code>{}</code>, a JSON object a line, by the names of the \
             Elastic Common Schema; <code>tracer schema</code> describes it. Its SHA-256 is</p>\n<pre>{}</pre>\n\
             <p>That of this page stands beside it. <code>sha256sum -c</code> compares both.</p>\n\
             <footer>tracer {}</footer>",
            Html(&evidence.name),
            Html(&evidence.sha256),
            Html(env!("CARGO_PKG_VERSION"))
        )
    }
}

fn host(about: &crate::output::About) -> String {
    match &about.host.machine_id {
        Some(id) => format!(
            "{}, machine {id}, boot {}",
            String::from_utf8_lossy(about.host.name.as_bytes()),
            about.host.boot_id
        ),
        None => format!("{}, boot {}", about.host.name, about.host.boot_id),
    }
}
