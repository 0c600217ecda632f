//! One event as the tracer wrote it: a line of JSON in, its fields out.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// An event, cheap to clone. Fields are named by JSON pointer, e.g. `/process/pid`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event(Arc<Value>);

impl From<Value> for Event {
    fn from(value: Value) -> Event {
        Event(Arc::new(value))
    }
}

impl Event {
    /// `event.action`.
    pub fn action(&self) -> &str {
        self.text("/event/action")
    }

    /// Whether `event.action` is `action` and the process has the PID `pid`.
    pub fn is(&self, action: &str, pid: u32) -> bool {
        self.action() == action && self.pid() == Some(pid)
    }

    /// `process.pid`, if the process is known.
    pub fn pid(&self) -> Option<u32> {
        self.0
            .pointer("/process/pid")
            .and_then(Value::as_u64)
            .and_then(|pid| u32::try_from(pid).ok())
    }

    /// `event.sequence`.
    pub fn sequence(&self) -> u64 {
        self.number("/event/sequence")
    }

    /// `tracer.connection_id`.
    pub fn connection_id(&self) -> &str {
        self.text("/tracer/connection_id")
    }

    /// `source.port` or, for what has no source, 0.
    pub fn source_port(&self) -> u16 {
        self.port("/source/port")
    }

    /// `destination.port`, or 0.
    pub fn destination_port(&self) -> u16 {
        self.port("/destination/port")
    }

    fn port(&self, pointer: &str) -> u16 {
        self.0
            .pointer(pointer)
            .and_then(Value::as_u64)
            .and_then(|port| u16::try_from(port).ok())
            .unwrap_or(0)
    }

    /// The whole event.
    pub fn json(&self) -> &Value {
        &self.0
    }

    /// A field, if it is there.
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer)
    }

    /// A field that must be there and be a string.
    ///
    /// # Panics
    /// If it is not; the message shows the event. The same holds for the other accessors.
    #[track_caller]
    pub fn text(&self, pointer: &str) -> &str {
        self.get(pointer)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no text {pointer} in {self}"))
    }

    /// A field that must be there and be a whole number.
    #[track_caller]
    pub fn number(&self, pointer: &str) -> u64 {
        self.get(pointer)
            .and_then(Value::as_u64)
            .unwrap_or_else(|| panic!("no number {pointer} in {self}"))
    }

    /// A field that must be there and be a list.
    #[track_caller]
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.get(pointer)
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("no list {pointer} in {self}"))
    }

    /// The strings of a list, none if the list is absent.
    pub fn words(&self, pointer: &str) -> Vec<&str> {
        let list = self.get(pointer).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }

    /// Asserts that a field has a value.
    #[track_caller]
    pub fn expect(&self, pointer: &str, expected: impl Into<Value>) {
        let expected = expected.into();
        assert_eq!(self.get(pointer), Some(&expected), "{pointer} in {self}");
    }

    /// Asserts that a field is absent.
    #[track_caller]
    pub fn expect_absent(&self, pointer: &str) {
        assert_eq!(self.get(pointer), None, "{pointer} in {self}");
    }

    /// Whether `pid` is the process or one of its ancestors.
    pub fn descends_from(&self, pid: u32) -> bool {
        let lineage = self.get("/tracer/lineage").and_then(Value::as_array);
        self.pid() == Some(pid)
            || lineage
                .into_iter()
                .flatten()
                .any(|entry| entry["pid"] == pid)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}
