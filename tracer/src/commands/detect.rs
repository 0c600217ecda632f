//! `tracer detect list`, `tracer detect explain RULE`, `tracer config check`: what is looked for, and whether the
//! configuration says so.

use std::fmt::Write as _;
use std::path::Path;

use crate::cli::{ConfigCommand, DetectCommand};
use crate::configuration::{Configuration, ConfigurationError, DEFAULT_PATH};
use crate::detect::settings::{Allow, Settings};
use crate::detect::{RULES, rule};
use crate::failure::Failure;

pub(super) fn detect(command: &DetectCommand) -> Result<String, Failure> {
    match command {
        DetectCommand::List => Ok(list()),
        DetectCommand::Explain { rule, config } => {
            let settings = load(config.as_deref())?.detect;
            explain(rule, &settings)
        }
    }
}

pub(super) fn config(command: &ConfigCommand) -> Result<String, Failure> {
    let ConfigCommand::Check { file } = command;
    let path = file.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let settings = load(Some(path))?.detect;
    let on = RULES
        .iter()
        .filter(|rule| settings.is_enabled(rule))
        .count();
    Ok(format!(
        "{}: right; {on} of {} rules are on, {} entries allow\n",
        path.display(),
        RULES.len(),
        settings.allow.len()
    ))
}

fn load(path: Option<&Path>) -> Result<Configuration, Failure> {
    Configuration::load(path).map_err(failure)
}

/// As others fail that are given a file: what is wrong in it is the user's to mend.
pub(super) fn failure(error: ConfigurationError) -> Failure {
    Failure::usage(error)
}

fn list() -> String {
    let width = RULES.iter().map(|rule| rule.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for rule in RULES {
        let techniques = rule.techniques.join(", ");
        let _ = writeln!(text, "{:width$}  {} ({techniques})", rule.id, rule.name);
    }
    text
}

fn explain(id: &str, settings: &Settings) -> Result<String, Failure> {
    let Some(rule) = rule(id) else {
        return Err(Failure::usage(format_args!(
            "no rule {id:?}: see `tracer detect list`"
        )));
    };
    let mut text = format!(
        "{}: {}\n\n{}\n\nHow it decides: {}\n\nMITRE ATT&CK: {}\n",
        rule.id,
        rule.name,
        rule.description,
        rule.method,
        rule.techniques.join(", ")
    );
    let state = if settings.is_enabled(rule) {
        "on"
    } else {
        "off"
    };
    let _ = writeln!(text, "It is {state}.");
    let concerns = |allow: &&Allow| {
        allow.rules.is_empty() || allow.rules.iter().any(|allowed| allowed == rule.id)
    };
    for allow in settings.allow.iter().filter(concerns) {
        let _ = writeln!(text, "Allowed: {}.", describe(allow));
    }
    Ok(text)
}

fn describe(allow: &Allow) -> String {
    let peers: Vec<String> = allow.peers.iter().map(ToString::to_string).collect();
    let ports: Vec<String> = allow.ports.iter().map(ToString::to_string).collect();
    let conditions = [
        ("fingerprint", &allow.fingerprints),
        ("program", &allow.programs),
        ("package", &allow.packages),
        ("container", &allow.containers),
        ("peer", &peers),
        ("port", &ports),
    ];
    let conditions: Vec<String> = conditions
        .into_iter()
        .filter(|(_, values)| !values.is_empty())
        .map(|(name, values)| format!("{name} {}", values.join(" or ")))
        .collect();
    format!("{} ({})", conditions.join(", "), allow.reason)
}
