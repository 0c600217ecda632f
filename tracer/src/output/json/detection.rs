//! A detection: `rule` and `threat`, by the names of the ECS, and what that lacks in `tracer.detection`.

use super::Json;
use super::object::{Object, key, write_list, write_word};
use crate::detect::{Detection, Evidence};

/// The rule that matched, and the techniques that it is about.
pub(super) fn write_rule(detection: &Detection, line: &mut Object<'_>) {
    let rule = detection.rule;
    line.object(key!("rule"), |object| {
        object.word(key!("id"), rule.id);
        object.text(key!("name"), rule.name);
        object.text(key!("description"), rule.description);
    });
    line.object(key!("threat"), |threat| {
        threat.word(key!("framework"), "MITRE ATT&CK");
        threat.object(key!("technique"), |technique| {
            technique.words(key!("id"), rule.techniques);
        });
    });
}

impl Json {
    /// How grave it is, why, and on what it rests.
    pub(super) fn detection(&self, detection: &Detection, tracer: &mut Object<'_>) {
        tracer.object(key!("detection"), |object| {
            object.word(key!("severity"), detection.severity.name());
            object.text(key!("explanation"), &detection.explanation);
            write_list(
                &detection.evidence,
                object.key(key!("evidence")),
                |evidence, out| {
                    let id = match *evidence {
                        Evidence::Connection(id) => self.identities.connection(id),
                        Evidence::Process(key, rounded) => self.identities.process(key, rounded),
                    };
                    write_word(id, out);
                },
            );
            object.number(key!("evidence_total"), detection.evidence_total);
        });
    }
}
