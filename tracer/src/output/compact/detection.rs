//! A detection, for people.
//!
//! In: a rule that matched. Out: its name, how grave it is, and why.

use super::paint::{Painter, Style};
use super::{text, write_all};
use crate::detect::Detection;
use crate::detect::rule::Severity;
use crate::output::record::Record;

pub(super) fn push_rule(record: &Record<'_>, column: &mut Vec<u8>) {
    if let Some(detection) = record.detection {
        write_all(
            column,
            format_args!("{} ({})", detection.rule.id, detection.severity.name()),
        );
    }
}

pub(super) fn write_explanation(detection: &Detection, painter: &Painter, out: &mut Vec<u8>) {
    let mut explanation = Vec::new();
    text::write_terminal(detection.explanation.as_bytes(), &mut explanation);
    let style = match detection.severity {
        Severity::Low => Style::Plain,
        Severity::Medium => Style::Strong,
        Severity::High => Style::Bad,
    };
    painter.paint(style, &explanation, out);
    out.extend_from_slice(b"  ");
}
