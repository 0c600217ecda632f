//! Outputs that users and their programs rely on, compared with files in `goldens/`.
//!
//! `TRACER_BLESS=1 cargo test -p tests --test goldens` writes those files anew.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{env, fs};

use jiff::tz::TimeZone;
use tests::samples::{self, Samples, context, ingress};
use tracer::cli::Cli;
use tracer::event::{BootTime, FileVersion, ProcessKey, Totals};
use tracer::filter::Filter;
use tracer::metrics::metrics;
use tracer::observation::{Fact, Observation, Sink};
use tracer::output::Format;
use tracer::output::action::Action;
use tracer::output::compact::{Compact, Detail};
use tracer::output::json::Json;
use tracer::output::record::Record;
use tracer::output::schema;
use tracer::process::content::{Content, Facts};
use tracer::process::image::{Image, Program};

/// Compares with the golden file, or writes it.
fn check(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("goldens")
        .join(name);
    if env::var_os("TRACER_BLESS").is_some() {
        fs::write(&path, actual).expect("the golden file can be written");
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    for (number, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(
            actual,
            expected,
            "line {} of {}",
            number + 1,
            path.display()
        );
    }
    assert_eq!(
        actual.lines().count(),
        expected.lines().count(),
        "lines of {}",
        path.display()
    );
}

/// One line for every sample.
fn lines(mut format: impl Format) -> String {
    let samples = Samples::default();
    let mut out = Vec::new();
    for (sequence, observation) in samples.observations().iter().enumerate() {
        format.line(&Record::of(observation), sequence as u64, &mut out);
    }
    String::from_utf8(out).expect("every output is UTF-8")
}

#[test]
fn json_is_as_published() {
    check("events.json", &lines(Json::new(context())));
}

#[test]
fn what_is_found_of_a_file_is_in_the_next_line_about_whoever_runs_it() {
    let content = Arc::new(Content::new(FileVersion::default()));
    let sample = samples::image(4312, "curl", "/usr/bin/curl", b"curl\0");
    let program = Program {
        content: Some(Arc::clone(&content)),
        ..(*sample.program).clone()
    };
    let image = Arc::new(Image {
        program: Arc::new(program),
        ..sample
    });
    let observation = Observation {
        time: BootTime(1),
        fact: Fact::ProcessExecuted(&image),
    };
    let mut json = Json::new(context());
    let mut line = || {
        let mut out = Vec::new();
        json.line(&Record::of(&observation), 0, &mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    };
    assert!(!line().contains("\"hash\""));
    content.learn(Facts {
        sha256: Some([0xa5; 32]),
        ..Facts::default()
    });
    let hash = format!("\"hash\":{{\"sha256\":\"{}\"}}", "a5".repeat(32));
    assert!(line().contains(&hash), "{}", line());
    assert!(line().contains(&hash), "it is kept");
}

fn compact(detail: Detail, color: bool) -> String {
    lines(Compact::new(context(), detail, color, TimeZone::UTC))
}

#[test]
fn compact_lines_are_as_published() {
    check("compact.txt", &compact(Detail::Compact, false));
    check(
        "compact-color.txt",
        &compact(Detail::Compact, true).replace('\u{1b}', "␛"),
    );
}

#[test]
fn wide_lines_are_as_published() {
    check("wide.txt", &compact(Detail::Wide, false));
}

#[test]
fn no_control_character_reaches_a_terminal() {
    for detail in [Detail::Compact, Detail::Wide] {
        let text = compact(detail, false);
        let raw = text
            .lines()
            .flat_map(str::chars)
            .find(|character| character.is_control());
        assert_eq!(raw, None);
        assert!(
            !text.contains('\u{202e}'),
            "a mark that turns the direction of writing"
        );
    }
}

#[test]
fn help_is_as_published() {
    let mut definition = Cli::definition().term_width(100);
    definition.build();
    let mut text = definition.render_help().to_string();
    for command in definition.get_subcommands_mut() {
        let help = command.render_help();
        text += &format!("\n--- {} ---\n{help}", command.get_name());
    }
    check("help.txt", &text);
}

/// The exposition of all samples, without what the process itself tells, which varies.
fn exposition() -> String {
    let stranger = ProcessKey {
        tgid: 99,
        start_ns: 1,
    };
    let filter = Filter::hiding(stranger);
    let (metrics, mut sink) = metrics(&["curl".into()], filter).expect("metrics");
    let samples = Samples::default();
    for observation in samples.observations() {
        sink.observe(&observation);
    }
    let carried = Totals {
        sent: 1000,
        received: 2000,
        ..Totals::default()
    };
    metrics.sample([(ingress().id, Some(carried))]);
    metrics.shed(3);
    metrics.program_runs("fentry:tcp_connect", 4);
    let families = metrics.registry().gather();
    prometheus::TextEncoder::new()
        .encode_to_string(&families)
        .expect("metrics are text")
}

#[test]
fn metrics_are_as_published() {
    let text = exposition();
    let own = text
        .lines()
        .filter(|line| !line.contains("process_") || line.contains("tracer_"));
    check(
        "metrics.txt",
        &own.map(|line| format!("{line}\n")).collect::<String>(),
    );
}

#[test]
fn promtool_finds_nothing_to_criticize() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed: Debian's package `prometheus`");
    let mut stdin = promtool.stdin.take().expect("stdin is a pipe");
    stdin
        .write_all(exposition().as_bytes())
        .expect("promtool reads");
    drop(stdin);
    let output = promtool
        .wait_with_output()
        .expect("a child can be waited for");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{}: {said}",
        output.status
    );
}

#[test]
fn schema_is_as_published() {
    check("schema.json", schema::EVENT);
}

#[test]
fn the_samples_have_every_action() {
    let samples = Samples::default();
    for action in Action::ALL {
        let has_action = samples
            .observations()
            .iter()
            .any(|it| Action::of(&it.fact) == action);
        assert!(has_action, "{}", action.name());
    }
}

fn schema() -> jsonschema::Validator {
    let schema = serde_json::from_str(schema::EVENT).expect("the schema is JSON");
    jsonschema::draft202012::new(&schema).expect("the schema is valid")
}

#[test]
fn every_line_of_json_fits_the_schema() {
    let schema = schema();
    for line in lines(Json::new(context())).lines() {
        let event = serde_json::from_str(line).expect("every line is JSON");
        let errors: Vec<_> = schema
            .iter_errors(&event)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{line}\n{errors:#?}");
    }
}

#[test]
fn the_schema_refuses_a_member_that_it_does_not_describe_at_any_level() {
    let schema = schema();
    for line in lines(Json::new(context())).lines() {
        let event: serde_json::Value = serde_json::from_str(line).expect("every line is JSON");
        for pointer in objects(&event, String::new()) {
            let mut event = event.clone();
            let object = event
                .pointer_mut(&pointer)
                .and_then(serde_json::Value::as_object_mut);
            object
                .expect("an object")
                .insert("unheard_of".into(), 1.into());
            assert!(!schema.is_valid(&event), "{pointer} of {line}");
        }
    }
}

#[test]
fn the_schema_misses_what_an_action_must_have() {
    let schema = schema();
    let required = [
        ("process_exec", "/process"),
        ("connection_opened", "/tracer/connection_id"),
        ("connection_opened", "/tracer/hook"),
        ("connection_accepted", "/source"),
        ("connection_failed", "/event/outcome"),
        ("connection_existing", "/tracer/existing"),
        ("connection_closed", "/tracer/state"),
        ("listen_opened", "/destination"),
        ("dns_lookup", "/dns"),
        ("dns_lookup", "/event/outcome"),
        ("events_lost", "/tracer/lost"),
    ];
    for (action, pointer) in required {
        let lines = lines(Json::new(context()));
        let line = lines
            .lines()
            .find(|line| line.contains(&format!("\"{action}\"")));
        let mut event: serde_json::Value =
            serde_json::from_str(line.expect("a sample")).expect("every line is JSON");
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let object = event
            .pointer_mut(parent)
            .and_then(serde_json::Value::as_object_mut);
        assert!(
            object.expect("an object").remove(name).is_some(),
            "{pointer} of {action}"
        );
        assert!(!schema.is_valid(&event), "{action} without {pointer}");
    }
}

/// Pointers to all objects in a value.
fn objects(value: &serde_json::Value, pointer: String) -> Vec<String> {
    let mut found = Vec::new();
    match value {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                found.extend(objects(member, format!("{pointer}/{name}")));
            }
            found.push(pointer);
        }
        serde_json::Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                found.extend(objects(element, format!("{pointer}/{index}")));
            }
        }
        _ => {}
    }
    found
}
