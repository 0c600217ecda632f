//! What a tracer says about the execs of a race (see the workload `race`): lines in, the program of each out.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use crate::account::What;

/// Which program was executed, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Program {
    /// Its path.
    pub executable: String,
    /// The argument that was being rewritten.
    pub argument: String,
    /// The device that its file is on, as `MAJOR:MINOR`.
    pub device: String,
    /// Its file's inode.
    pub inode: u64,
}

#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event: What<'a>,
    #[serde(borrow)]
    process: Option<Process<'a>>,
    tracer: Option<Details>,
}

#[derive(Debug, Deserialize)]
struct Process<'a> {
    #[serde(borrow)]
    executable: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    args: Vec<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Details {
    lost: Option<Lost>,
    #[serde(default)]
    file: File,
}

/// None has inode 0.
#[derive(Debug, Default, Deserialize)]
struct File {
    device: String,
    inode: u64,
}

#[derive(Debug, Deserialize)]
struct Lost {
    count: u64,
}

/// Everything that was said.
#[derive(Debug, Default)]
pub struct Execs {
    programs: HashMap<u32, Vec<Program>>,
    lost: u64,
}

impl Execs {
    /// Takes the next line.
    ///
    /// # Panics
    /// If it is no event.
    pub fn fold(&mut self, line: &[u8]) {
        let line: Line<'_> = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(line)));
        let Some(details) = line.tracer else { return };
        self.lost += details.lost.map_or(0, |lost| lost.count);
        let Some(process) = line.process.filter(|_| line.event.action == "process_exec") else {
            return;
        };
        if let [_, _, workload, number, argument] = &process.args[..]
            && workload == "tell-itself"
            && let Ok(number) = number.parse()
        {
            let program = Program {
                executable: process.executable.unwrap_or_default().into_owned(),
                argument: argument.clone().into_owned(),
                device: details.file.device,
                inode: details.file.inode,
            };
            self.programs.entry(number).or_default().push(program);
        }
    }

    /// What was lost, of anything.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Every program that is said to have been the one of this number.
    pub fn programs(&self, number: u32) -> &[Program] {
        self.programs.get(&number).map_or(&[], |programs| programs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_of_the_race_is_known_by_its_number() {
        let mut execs = Execs::default();
        let line = |action: &str| {
            format!(
                r#"{{"event":{{"action":"{action}"}},"process":{{"executable":"/a\n",
                "args":["x","--workload","tell-itself","7","ab"]}},"tracer":{{"file":{{"device":"8:1","inode":5}}}}}}"#
            )
        };
        execs.fold(line("process_exit").as_bytes());
        assert!(execs.programs(7).is_empty());
        execs.fold(line("process_exec").as_bytes());
        let program = Program {
            executable: "/a\n".to_owned(),
            argument: "ab".to_owned(),
            device: "8:1".to_owned(),
            inode: 5,
        };
        assert_eq!(execs.programs(7), [program]);
    }
}
