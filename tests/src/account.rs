//! What a tracer says about a mix of connections, folded into a few numbers for each, and compared
//! with what the processes wrote down.
//!
//! In: lines of the output, one by one; then the truth. Out: what is missing, which the tracer must have
//! counted as lost, and what is wrong, of which there must be nothing.

use std::net::IpAddr;

use serde::Deserialize;

use crate::workload::mix::plan::{self, Pattern};
use crate::workload::mix::truth::End;

/// How many examples of each kind a verdict has.
const EXAMPLES: u64 = 5;

/// What is read of a line.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event: What<'a>,
    #[serde(borrow)]
    network: Option<Network<'a>>,
    source: Option<Side>,
    destination: Option<Side>,
    process: Option<Process>,
    #[serde(borrow)]
    error: Option<Error<'a>>,
    #[serde(borrow)]
    tracer: Option<Details<'a>>,
}

/// What a line tells.
#[derive(Debug, Deserialize)]
pub(crate) struct What<'a> {
    pub(crate) action: &'a str,
}

#[derive(Debug, Deserialize)]
struct Network<'a> {
    direction: &'a str,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Side {
    ip: Option<IpAddr>,
    bytes: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Process {
    pid: u32,
}

#[derive(Debug, Deserialize)]
struct Error<'a> {
    code: &'a str,
}

#[derive(Debug, Deserialize)]
struct Details<'a> {
    state: Option<&'a str>,
    owner_provenance: Option<&'a str>,
    lost: Option<Lost>,
}

#[derive(Debug, Deserialize)]
struct Lost {
    count: u64,
}

/// How a connection is to end, or ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ending {
    /// `tracer.state`.
    state: [u8; 4],
    /// Up and down.
    bytes: Option<[u32; 2]>,
}

impl Ending {
    fn new(state: &str, bytes: Option<[u32; 2]>) -> Ending {
        let mut letters = [0; 4];
        let length = state.len().min(4);
        letters[..length].copy_from_slice(&state.as_bytes()[..length]);
        Ending {
            state: letters,
            bytes,
        }
    }
}

/// What was said about one end of a connection: how often each event came, and whom it named (0: nobody).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    begun: u8,
    ended: u8,
    failed: u8,
    beginner: u32,
    ender: u32,
    inferred: bool,
    cancelled: bool,
    ending: Ending,
}

/// Everything that was said about a mix.
#[derive(Debug)]
pub struct Account {
    /// By number, initiator first.
    ends: Vec<[Said; 2]>,
    lost: u64,
    /// The first lines that could not belong to the mix.
    strange: Vec<String>,
}

/// An account compared with the truth.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Ends of connections that should have been told.
    pub told: u64,
    /// Ends of which something is missing, or of which it is not known whose they are.
    pub incomplete: u64,
    /// Records and events that the tracer counted as lost.
    pub lost: u64,
    /// Ends told twice or under another name, and the first few of them.
    pub wrong: u64,
    /// Of what is wrong, and then of what is missing, the first few.
    pub examples: Vec<String>,
}

impl Account {
    /// Nothing has been said about `count` connections.
    pub fn new(count: u32) -> Account {
        Account {
            ends: vec![[Said::default(); 2]; count as usize],
            lost: 0,
            strange: Vec::new(),
        }
    }

    /// Takes the next line. Whatever is not about the mix counts for nothing.
    ///
    /// # Panics
    /// If it is no event.
    pub fn fold(&mut self, line: &[u8]) {
        let line: Line<'_> = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(line)));
        let details = line.tracer.as_ref();
        if let Some(lost) = details.and_then(|details| details.lost.as_ref()) {
            self.lost += lost.count;
        }
        let address = line.destination.and_then(|side| side.ip);
        let Some(index) = address.and_then(plan::index_of) else {
            return;
        };
        let end = match line.network.as_ref().map(|network| network.direction) {
            Some("egress") => 0,
            Some("ingress") => 1,
            // Its beginning was lost: it is missing where it belongs.
            _ => return,
        };
        let said = self.ends.get_mut(index as usize).map(|ends| &mut ends[end]);
        let known = said.is_some_and(|said| said.take(&line));
        if !known && self.strange.len() < 5 {
            self.strange.push(format!("{line:?}"));
        }
    }

    /// Compares it with who did what. `listener` opened what nobody accepted from.
    pub fn compare(&self, choice: &str, truth: &[[u32; 2]], listener: u32) -> Verdict {
        let mut verdict = Verdict {
            lost: self.lost,
            wrong: self.strange.len() as u64,
            examples: self.strange.clone(),
            ..Verdict::default()
        };
        for (index, (said, owners)) in (0..).zip(self.ends.iter().zip(truth)) {
            for end in [End::Initiator, End::Acceptor] {
                let pattern = Pattern::of(index, choice);
                let owner = owners[end as usize];
                let expected = expected(index, pattern, end, owner, listener);
                verdict.judge(index, pattern, &expected, &said[end as usize]);
            }
        }
        verdict
    }
}

impl Said {
    /// Takes what a line says about this end; whether it is an event of a connection.
    fn take(&mut self, line: &Line<'_>) -> bool {
        let pid = line.process.as_ref().map_or(0, |process| process.pid);
        let details = line.tracer.as_ref();
        match line.event.action {
            "connection_opened" | "connection_accepted" => {
                self.begun = self.begun.saturating_add(1);
                self.beginner = pid;
                return true;
            }
            "connection_closed" => self.ended = self.ended.saturating_add(1),
            "connection_failed" => self.failed = self.failed.saturating_add(1),
            _ => return false,
        }
        self.ender = pid;
        let provenance = details.and_then(|details| details.owner_provenance);
        self.inferred = provenance == Some("inferred");
        self.cancelled = line.error.as_ref().map(|error| error.code) == Some("ECANCELED");
        let bytes = |side: Option<Side>| side.and_then(|side| side.bytes);
        let bytes = bytes(line.source).zip(bytes(line.destination));
        let state = details.and_then(|details| details.state).unwrap_or("");
        self.ending = Ending::new(state, bytes.map(|(up, down)| [up, down]));
        true
    }
}

/// What is to be said about one end.
fn expected(index: u32, pattern: Pattern, end: End, owner: u32, listener: u32) -> Said {
    let exchanged = pattern.is_accepted();
    let carried = |bytes: usize| if exchanged { bytes as u32 } else { 0 };
    let bytes = Some([carried(plan::up(index)), carried(plan::down(index))]);
    let state = if pattern.resets() { "RSTO" } else { "SF" };
    let closed = Said {
        begun: 1,
        ended: 1,
        beginner: owner,
        ender: owner,
        ending: Ending::new(state, bytes),
        ..Said::default()
    };
    match (end, pattern) {
        (End::Initiator, Pattern::Cancelled) => Said {
            failed: 1,
            ender: owner,
            cancelled: true,
            ending: Ending::new("S0", None),
            ..Said::default()
        },
        (End::Initiator, Pattern::Refused | Pattern::RefusedLater) => Said {
            failed: 1,
            ender: owner,
            ending: Ending::new("REJ", None),
            ..Said::default()
        },
        (End::Initiator, _) => closed,
        (End::Acceptor, Pattern::NeverAccepted) => Said {
            begun: 0,
            beginner: 0,
            ender: listener,
            inferred: true,
            ..closed
        },
        (End::Acceptor, _) if exchanged => closed,
        (End::Acceptor, _) => Said::default(),
    }
}

impl Verdict {
    fn judge(&mut self, index: u32, pattern: Pattern, expected: &Said, said: &Said) {
        self.told += u64::from(*expected != Said::default());
        if said == expected {
            return;
        }
        let names_another = |named: u32, owner: u32| named != 0 && named != owner;
        // That it failed may be all that is left of a connection: what followed the request is lost.
        let wrong = said.begun.max(said.ended).max(said.failed) > 1
            || (said.failed > 0 && said.begun + said.ended > 0)
            || (*expected == Said::default())
            || names_another(said.beginner, expected.beginner)
            || names_another(said.ender, expected.ender);
        let counter = if wrong {
            &mut self.wrong
        } else {
            &mut self.incomplete
        };
        *counter += 1;
        let example = || format!("{pattern:?} {index}: expected {expected:?}, told {said:?}");
        if wrong && self.wrong <= EXAMPLES {
            self.examples.insert(0, example());
        } else if !wrong && self.incomplete <= EXAMPLES {
            self.examples.push(example());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNERS: [u32; 2] = [7, 8];

    fn line(action: &str, direction: &str, pid: Option<u32>, state: &str) -> String {
        let process = pid.map_or(String::new(), |pid| {
            format!(r#""process":{{"pid":{pid}}},"#)
        });
        format!(
            r#"{{"event":{{"action":"{action}"}},"network":{{"direction":"{direction}"}},{process}
            "source":{{"ip":"127.0.0.1","bytes":{}}},"destination":{{"ip":"{}","bytes":{}}},
            "tracer":{{"state":"{state}","owner_provenance":"kernel"}}}}"#,
            plan::up(90),
            plan::address(90),
            plan::down(90)
        )
    }

    /// What is to be said about number 90, which is a plain one.
    fn lines() -> Vec<String> {
        vec![
            line("connection_opened", "egress", Some(7), "S1"),
            line("connection_accepted", "ingress", Some(8), "S1"),
            line("connection_closed", "egress", Some(7), "SF"),
            line("connection_closed", "ingress", Some(8), "SF"),
        ]
    }

    fn verdict(lines: &[String]) -> Verdict {
        let mut account = Account::new(91);
        for line in lines {
            account.fold(line.as_bytes());
        }
        let before = account.ends.pop().expect("there are 91");
        account.ends = vec![[Said::default(); 2]; 90];
        account.ends.push(before);
        let verdict = account.compare("all", &[OWNERS; 91], 9);
        // The other 90 are missing.
        Verdict {
            incomplete: verdict.incomplete - missing(),
            ..verdict
        }
    }

    fn missing() -> u64 {
        let none = Account::new(90).compare("all", &[OWNERS; 90], 9);
        assert_eq!(none.incomplete, none.told);
        none.told
    }

    #[test]
    fn the_truth_is_complete_and_right() {
        assert_eq!(Pattern::of(90, "all"), Pattern::Plain);
        let verdict = verdict(&lines());
        assert_eq!((verdict.incomplete, verdict.wrong), (0, 0), "{verdict:?}");
    }

    #[test]
    fn each_line_that_is_missing_or_told_twice_is_noticed() {
        for index in 0..4 {
            let mut lines = lines();
            let line = lines.remove(index);
            assert_eq!(verdict(&lines).incomplete, 1, "without {line}");
            lines.extend([line.clone(), line]);
            assert_eq!(verdict(&lines).wrong, 1);
        }
    }

    #[test]
    fn another_owner_is_wrong_and_none_is_incomplete() {
        for (pid, wrong, incomplete) in [(Some(9), 1, 0), (None, 0, 1)] {
            let mut lines = lines();
            lines[3] = line("connection_closed", "ingress", pid, "SF");
            let verdict = verdict(&lines);
            assert_eq!((verdict.wrong, verdict.incomplete), (wrong, incomplete));
        }
    }

    #[test]
    fn another_end_is_incomplete() {
        let mut lines = lines();
        lines[2] = line("connection_closed", "egress", Some(7), "RSTO");
        assert_eq!(verdict(&lines).incomplete, 1);
    }
}
