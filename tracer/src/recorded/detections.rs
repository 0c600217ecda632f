//! A recorded detection.
//!
//! In: the members `rule` and `tracer.detection`. Out: what they say. Name, description and techniques of the rule are
//! those of this build.

use super::document::Document;
use super::error::LineError;
use super::words::Ids;
use crate::detect::rule::Severity;
use crate::detect::{Detection, EVIDENCE_MAX, Evidence, RULES, rule};

type Result<T> = std::result::Result<T, LineError>;

pub(super) fn detection(document: &Document<'_>, ids: &mut Ids) -> Result<Detection> {
    let id = &document.rule.as_ref().ok_or(LineError::Missing("rule"))?.id;
    let rule = rule(id).ok_or_else(|| {
        let known = RULES.map(|rule| rule.id).join(", ");
        LineError::wrong("rule.id", format!("one of {known}"))
    })?;
    let told = document.tracer.detection.as_ref();
    let told = told.ok_or(LineError::Missing("tracer.detection"))?;
    let evidence = told.evidence.iter().take(EVIDENCE_MAX);
    let evidence = evidence.map(|id| evidence_of(id, ids));
    Ok(Detection {
        rule,
        severity: severity(&told.severity)?,
        explanation: told.explanation.to_string(),
        evidence: evidence.collect::<Result<_>>()?,
        evidence_total: told.evidence_total,
    })
}

fn severity(word: &str) -> Result<Severity> {
    let mut all = Severity::ALL.into_iter();
    let found = all.find(|severity| severity.name() == word);
    found.ok_or_else(|| {
        let words = Severity::ALL.map(Severity::name).join(", ");
        LineError::wrong("tracer.detection.severity", format!("one of {words}"))
    })
}

fn evidence_of(id: &str, ids: &mut Ids) -> Result<Evidence> {
    const FIELD: &str = "tracer.detection.evidence";
    match ids.process(FIELD, id) {
        Ok((key, rounded)) => Ok(Evidence::Process(key, rounded)),
        Err(_) => ids.connection(FIELD, id).map(Evidence::Connection),
    }
}
