//! A figure beside what it must not exceed, or must reach: a line of a table.

/// What is aimed at.
#[derive(Clone, Copy)]
pub(super) enum Target {
    AtMost(f64),
    AtLeast(f64),
}

/// The line.
pub(super) fn line(what: &str, value: f64, unit: &str, target: Option<Target>) -> String {
    let (target, is_met) = match target {
        Some(Target::AtMost(limit)) => (format!("at most {limit}"), value <= limit),
        Some(Target::AtLeast(limit)) => (format!("at least {limit}"), value >= limit),
        None => (String::new(), true),
    };
    let verdict = if is_met { "" } else { "  MISSED" };
    let figure = figure(value);
    format!("{what:38} {figure:>11} {unit:20} {target}{verdict}")
        .trim_end()
        .to_owned()
}

/// A number with what matters of it: small ones differ behind the point.
pub(super) fn figure(value: f64) -> String {
    let decimals = if value < 10.0 { 4 } else { 0 };
    format!("{value:.decimals$}")
}
