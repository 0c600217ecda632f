//! What is written as JSON and read again is written once more: the same, byte for byte. What is no event is refused,
//! whatever it is.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde_json::Value;
use tests::samples;
use tracer::filter::Filter;
use tracer::history::Item;
use tracer::history::import::Import;
use tracer::history::reader::{Glance, History, Kind};
use tracer::history::window::Window;
use tracer::metrics;
use tracer::observation::{Observation, Sink};
use tracer::output::compact::{Compact, Detail};
use tracer::output::json::Json;
use tracer::output::record::Record;
use tracer::output::{About, Format};
use tracer::recorded::Recording;

/// Lines of what is observed, on the host of the samples.
pub(crate) struct Written {
    json: Json,
    pub(crate) lines: Vec<String>,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            json: Json::new(samples::context()),
            lines: Vec::new(),
        }
    }
}

impl Sink for Written {
    fn observe(&mut self, observation: &Observation<'_>) {
        let sequence = self.lines.len() as u64;
        let record = Record::of(observation);
        self.lines.push(line(&mut self.json, &record, sequence));
    }

    fn flush(&mut self) {}
}

fn line(format: &mut impl Format, record: &Record<'_>, sequence: u64) -> String {
    let mut out = Vec::new();
    format.line(record, sequence, &mut out);
    let line = String::from_utf8(out).expect("every output is UTF-8");
    line.trim_end().to_owned()
}

/// Lines as they are read and written again, by one who knows nothing but them.
#[derive(Default)]
pub(crate) struct Rewriter {
    recording: Recording,
    json: Option<(Arc<About>, Json)>,
}

impl Rewriter {
    /// The line, or what is wrong with it.
    pub(crate) fn rewritten(&mut self, text: &str, sequence: u64) -> Result<String, String> {
        let item = self.recording.read(text.as_bytes());
        let item = item.map_err(|error| error.to_string())?;
        let about = self.recording.about().expect("a line was read");
        if self
            .json
            .as_ref()
            .is_none_or(|(of, _)| !Arc::ptr_eq(of, about))
        {
            self.json = Some((Arc::clone(about), Json::new(about.context())));
        }
        let (_, json) = self.json.as_mut().expect("it was made");
        let observation = item.observation().ok_or("it lacks its process")?;
        Ok(line(json, &Record::of(&observation), sequence))
    }
}

fn golden() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens/events.json");
    fs::read_to_string(path).expect("the golden file is there")
}

#[test]
fn every_line_is_written_again_as_it_was() {
    let mut rewriter = Rewriter::default();
    for (sequence, line) in golden().lines().enumerate() {
        let rewritten = rewriter.rewritten(line, sequence as u64);
        assert_eq!(rewritten.as_deref(), Ok(line));
    }
}

#[test]
fn a_line_alone_says_as_much_as_among_others() {
    for (sequence, line) in golden().lines().enumerate() {
        let rewritten = Rewriter::default().rewritten(line, sequence as u64);
        assert_eq!(rewritten.as_deref(), Ok(line));
    }
}

#[test]
fn lines_of_two_hosts_and_boots_keep_their_times_and_names() {
    let golden = golden();
    // The samples' boot is 0x42 all over; another one has other ids, and another clock.
    let other = golden
        .replace("QkJCQkJC", "Q0NDQ0ND")
        .replace("node-1", "node-2");
    let other = other
        .replace("2026-11-21T", "2026-11-22T")
        .replace("www-data", "web");
    let mut rewriter = Rewriter::default();
    for (line, other) in golden.lines().zip(other.lines()) {
        for line in [line, other] {
            let sequence = serde_json::from_str::<Value>(line).expect("JSON")["event"]["sequence"]
                .as_u64()
                .expect("a number");
            assert_eq!(rewriter.rewritten(line, sequence).as_deref(), Ok(line));
        }
    }
}

#[test]
fn who_is_told_twice_is_one_process() {
    let mut recording = Recording::default();
    let golden = golden();
    let mut of_curl = golden.lines().filter_map(|line| {
        let process = recording.read(line.as_bytes()).expect("an event").process?;
        (process.key.tgid == 4312).then_some(process)
    });
    let first = of_curl.next().expect("curl is forked");
    let others: Vec<_> = of_curl.collect();
    assert!(others.len() > 5);
    for other in others {
        assert!(Arc::ptr_eq(&first, &other));
    }
}

#[test]
fn of_a_flow_only_what_is_new_is_counted() {
    let (registry, mut sink) = metrics::of_recorded(&[], Filter::default()).expect("metrics");
    let mut recording = Recording::default();
    for line in golden().lines() {
        let item = recording.read(line.as_bytes()).expect("an event");
        sink.observe(&item.observation().expect("its process is known"));
    }
    let families = registry.gather();
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&families)
        .expect("metrics are text");
    for expected in [
        "tracer_datagrams_total{direction=\"transmit\"} 1000\n",
        "tracer_datagrams_total{direction=\"receive\"} 501\n",
        "tracer_events_lost_total{stage=\"ring\"} 17\n",
    ] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    assert!(
        !text.contains("_active"),
        "of a recording nothing is there now"
    );
}

#[test]
fn what_is_wrong_with_a_line_is_told_by_the_member() {
    let golden = golden();
    let opened = golden.lines().nth(7).expect("a connection is opened");
    let exec = golden.lines().nth(1).expect("curl is executed");
    let with = |line: &str, from: &str, to: &str| {
        assert!(line.contains(from), "{from} in {line}");
        line.replacen(from, to, 1)
    };
    for (line, words) in [
        ("not JSON".to_owned(), "column 1: expected a JSON object"),
        ("[]".to_owned(), "column 1: expected a JSON object"),
        ("{}".to_owned(), "column 2: missing field `@timestamp`"),
        (opened[..500].to_owned(), "column 500: EOF while parsing"),
        (
            with(opened, "connection_opened", "connection_vanished"),
            "event.action is not one of process_fork, ",
        ),
        (
            with(opened, "\"port\":443", "\"port\":65536"),
            "invalid value: integer `65536`, expected u16",
        ),
        (
            with(
                opened,
                "\"direction\":\"egress\"",
                "\"direction\":\"ingress\"",
            ),
            "network.direction is not that of event.action",
        ),
        (
            with(opened, "\"hook\"", "\"existing\":true,\"hook\""),
            "tracer.existing is not absent",
        ),
        (
            with(
                opened,
                "\"tracer\":{\"connection_id\"",
                "\"tracer\":{\"id\"",
            ),
            "tracer.connection_id is missing",
        ),
        (
            with(opened, "AQJCQkJC", "AQJDQkJC"),
            "tracer.connection_id is not of the boot of the line's other ids",
        ),
        (
            with(
                opened,
                "\"owner_provenance\":\"kernel\"",
                "\"owner_provenance\":\"\"",
            ),
            "tracer.owner_provenance is not one of kernel, procfs, inferred, unknown",
        ),
        (
            with(exec, "\"process\":{", "\"process\":null,\"other\":{"),
            "process is missing",
        ),
        (
            with(exec, "2026-11-21T20:30:10", "2026-11-21T20:29:59"),
            "@timestamp is not after the boot of its host",
        ),
        (
            with(exec, "\"lineage\":[", "\"lineage\":[],\"other\":["),
            "tracer.lineage is missing",
        ),
    ] {
        let error = Recording::default().read(line.as_bytes()).err();
        let error = error.expect(&line).to_string();
        assert!(error.contains(words), "{error:?} does not say {words:?}");
    }
}

#[test]
fn members_of_newer_versions_are_left_out() {
    let golden = golden();
    let line = golden.lines().nth(7).expect("a connection is opened");
    let newer = line.replace("\"event\":{", "\"event\":{\"module\":[{\"a\":1}],");
    let newer = newer.replace("\"tracer\":{", "\"tracer\":{\"mood\":\"good\",");
    let rewritten = Rewriter::default().rewritten(&newer, 7);
    assert_eq!(rewritten.as_deref(), Ok(line));
}

#[test]
fn a_lineage_or_a_cause_without_end_is_refused() {
    let golden = golden();
    let line = golden.lines().nth(1).expect("curl is executed");
    for (pointer, words) in [
        ("/tracer/lineage", "at most 256 ancestors"),
        ("/tracer/cause", "at most 8 links"),
    ] {
        let mut event: Value = serde_json::from_str(line).expect("JSON");
        let list = event.pointer_mut(pointer).and_then(Value::as_array_mut);
        let list = list.expect("a list");
        while list.len() < 300 {
            list.insert(0, list[0].clone());
        }
        let error = Recording::default().read(event.to_string().as_bytes());
        let error = error.expect_err(pointer).to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// Numbers that look random and are the same each time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// A line whose bytes have been changed.
fn garbled(line: &str, other: &str, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = line.as_bytes().to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        let end = (at + dice.below(40)).min(bytes.len());
        match dice.below(5) {
            0 => bytes[at] = dice.below(256) as u8,
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let from = dice.below(other.len());
                let to = (from + dice.below(200)).min(other.len());
                let piece = other.as_bytes()[from..to].to_vec();
                bytes.splice(at..end, piece).for_each(drop);
            }
        }
        if bytes.is_empty() {
            bytes.push(b'{');
        }
    }
    bytes
}

/// A line of which some values have been replaced by such as nobody expects there.
fn changed(line: &str, other: &str, dice: &mut Dice) -> Vec<u8> {
    let mut event: Value = serde_json::from_str(line).expect("JSON");
    let other: Value = serde_json::from_str(other).expect("JSON");
    let (places, others) = (pointers(&event), pointers(&other));
    for _ in 0..=dice.below(2) {
        let foreign = other.pointer(&others[dice.below(others.len())]);
        let Some(place) = event.pointer_mut(&places[dice.below(places.len())]) else {
            continue; // What was replaced before had it.
        };
        let numbers = [0, 1, 255, 65_535, u64::MAX];
        let texts = [
            "",
            "\u{1b}[31m\u{0}\"",
            r"a\xff\\\",
            "9999-12-31T23:59:59.999999999Z",
            "AQJCQkJCQkJCQkJCQkJCQkJC_____________wAA",
            "unknown",
            "7",
        ];
        *place = match (&*place, dice.below(4)) {
            (_, 0) => foreign.expect("it is there").clone(),
            (Value::Number(_), _) => numbers[dice.below(numbers.len())].into(),
            (Value::String(text), 1) => text.repeat(1 + dice.below(300)).into(),
            (Value::String(_), _) => texts[dice.below(texts.len())].into(),
            (Value::Array(list), _) => [&list[..], &list[..]].concat().into(),
            (Value::Bool(value), _) => (!value).into(),
            _ => Value::Null,
        };
    }
    event.to_string().into_bytes()
}

fn pointers(value: &Value) -> Vec<String> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), value))
            .collect(),
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    let below = children.into_iter().flat_map(|(name, value)| {
        let mut below = pointers(value);
        below.push(String::new());
        below.into_iter().map(move |rest| format!("/{name}{rest}"))
    });
    below.collect()
}

#[test]
fn whatever_a_line_has_become_it_is_refused_or_can_be_shown() {
    const LINES: usize = 4000;
    let golden = golden();
    let lines: Vec<&str> = golden.lines().collect();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut recording = Recording::default();
    let (_, mut metrics) = metrics::of_recorded(&["*".into()], Filter::default()).expect("metrics");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut import = Import::new(directory.path(), Filter::default()).expect("there is none yet");
    let mut read = 0;
    for number in 0..LINES {
        let [line, other] = [(); 2].map(|()| lines[dice.below(lines.len())]);
        let bytes = if number % 4 == 0 {
            garbled(line, other, &mut dice)
        } else {
            changed(line, other, &mut dice)
        };
        let Ok(item) = recording.read(&bytes) else {
            continue;
        };
        let about = recording.about().expect("a line was read");
        let Some(observation) = item.observation() else {
            continue;
        };
        read += 1;
        let record = Record::of(&observation);
        let written = line_of(about, &record);
        let again = Rewriter::default().rewritten(&written, 0);
        assert!(again.is_ok(), "{again:?}: {written}");
        metrics.observe(&observation);
        let host = samples::context().host;
        if (&about.host.name, &about.host.machine_id) == (&host.name, &host.machine_id) {
            import.begin(about);
            import.observe(&observation);
        }
    }
    import.close().expect("one host, and room");
    let mut history = History::open(directory.path(), Window::ALL).expect("it was written");
    let mut kept = 0;
    let mut count = |_, item: Item| {
        kept += usize::from(item.observation().is_some());
        ControlFlow::Continue(())
    };
    history
        .visit_in_order(&Kind::ALL, Glance::All, &mut count)
        .expect("it can be read");
    assert!(kept > read / 3, "{kept} of {read} are kept");
    assert!(
        (LINES / 5..LINES).contains(&read),
        "{read} of {LINES} lines were still events: these are no mutations worth a test"
    );
}

/// A record as JSON; it is also shown to people.
fn line_of(about: &About, record: &Record<'_>) -> String {
    let mut wide = Compact::new(about.context(), Detail::Wide, false, TimeZone::UTC);
    let shown = line(&mut wide, record, 0);
    assert!(!shown.chars().any(char::is_control), "{shown}");
    line(&mut Json::new(about.context()), record, 0)
}
