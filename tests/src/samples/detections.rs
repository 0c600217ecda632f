//! Detections: one about a contact, one about a process with a name that is not UTF-8.

use tracer::detect::rule::Severity;
use tracer::detect::{Detection, Evidence, rule};
use tracer::event::ProcessKey;

use super::connections::egress;

pub(super) fn all() -> [Detection; 2] {
    let rule = |id| rule(id).expect("there is such a rule");
    let contact = Detection {
        rule: rule("beacon"),
        severity: Severity::Medium,
        explanation: "curl contacted www.example.org, port 443, 8 times, every 1 min 0 s"
            .to_owned(),
        evidence: vec![Evidence::Connection(egress().id)],
        evidence_total: 8,
    };
    let process = Detection {
        rule: rule("lookalike_name"),
        severity: Severity::High,
        explanation: "\\xffjou\u{1b}[31mrnald is nearly the name of \"systemd-journald\""
            .to_owned(),
        evidence: vec![Evidence::Process(
            ProcessKey {
                tgid: 4312,
                start_ns: 1,
            },
            true,
        )],
        evidence_total: 1,
    };
    [contact, process]
}
