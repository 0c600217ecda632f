//! What is written as JSON and read again is written once more: the same, byte for byte.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tracer::output::json::Json;
use tracer::output::record::Record;
use tracer::output::{About, Format};
use tracer::recorded::Recording;

/// Lines as they are read and written again, by one who knows nothing but them.
#[derive(Default)]
pub(crate) struct Rewriter {
    recording: Recording,
    json: Option<(Arc<About>, Json)>,
}

impl Rewriter {
    /// The line, or what is wrong with it.
    pub(crate) fn rewritten(&mut self, line: &str, sequence: u64) -> Result<String, String> {
        let item = self.recording.read(line.as_bytes());
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
        let mut out = Vec::new();
        json.line(&Record::of(&observation), sequence, &mut out);
        Ok(String::from_utf8(out).expect("JSON is UTF-8"))
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
        assert_eq!(rewritten.as_deref().map(str::trim_end), Ok(line));
    }
}

#[test]
fn a_line_alone_says_as_much_as_among_others() {
    for (sequence, line) in golden().lines().enumerate() {
        let rewritten = Rewriter::default().rewritten(line, sequence as u64);
        assert_eq!(rewritten.as_deref().map(str::trim_end), Ok(line));
    }
}
