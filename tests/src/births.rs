//! What a tracer says about many processes, folded into one entry for each, and compared with who forked whom.
//!
//! In: lines of the output, one by one; then the truth. Out: what is missing, which the tracer must have
//! counted as lost, and what is wrong, of which there must be nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::CStr;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;

use crate::account::What;
use crate::workload::mix::plan;

/// How a crowd's processes are named.
pub const CROWD: &CStr = c"crowd";
/// With what they end.
pub const CROWD_STATUS: i32 = 77;

/// How many examples of what is wrong are kept.
const EXAMPLES: usize = 5;

/// What is read of a line.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    event: What<'a>,
    destination: Option<Side>,
    #[serde(borrow)]
    process: Option<Process<'a>>,
    #[serde(borrow)]
    tracer: Option<Details<'a>>,
}

#[derive(Debug, Deserialize)]
struct Side {
    ip: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
struct Process<'a> {
    pid: u32,
    entity_id: &'a str,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    args: Vec<Cow<'a, str>>,
    start: &'a str,
    exit_code: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct Details<'a> {
    #[serde(borrow, default)]
    lineage: Vec<Ancestor<'a>>,
    lineage_complete: Option<bool>,
    lost: Option<Lost>,
}

#[derive(Debug, Deserialize)]
struct Ancestor<'a> {
    pid: u32,
    entity_id: &'a str,
    /// To the next one.
    relation: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Lost {
    count: u64,
}

/// Who a process is, as every event about it must have it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    pid: u32,
    /// PIDs of its parent, its grandparent, and that one's parent, as far as they are known by birth.
    ancestors: Vec<u32>,
    /// The `entity_id` of the first of them.
    parent: Option<String>,
}

impl Identity {
    fn of(pid: u32, lineage: &[Ancestor<'_>]) -> Self {
        let links = lineage.iter().zip(lineage.iter().skip(1));
        let births = links.map_while(|(child, parent)| {
            let is_birth = child.relation == Some("birth");
            is_birth.then_some(parent)
        });
        let ancestors: Vec<_> = births.take(3).collect();
        Self {
            pid,
            ancestors: ancestors.iter().map(|it| it.pid).collect(),
            parent: ancestors.first().map(|it| it.entity_id.to_owned()),
        }
    }
}

#[derive(Debug)]
struct Told {
    identity: Identity,
    /// Whether its lineage reaches PID 1 or 2.
    is_complete: bool,
    start: Timestamp,
    exits: u32,
    /// `comm`, when it was last told.
    name: String,
    is_of_crowd: bool,
}

/// Everything that was said about processes.
#[derive(Debug)]
pub struct Births {
    since: Timestamp,
    /// By `entity_id`.
    processes: HashMap<String, Told>,
    /// The `entity_id` that connected, by the number of the life.
    lives: HashMap<u32, String>,
    /// The same, of those that became the workload `exit 0 LIFE`.
    executed: HashMap<u32, String>,
    verdict: Verdict,
}

/// What was said, compared with the truth.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Processes of which nothing, or not their end, was told.
    pub missing: u64,
    /// Records and events that the tracer counted as lost.
    pub lost: u64,
    /// Facts that are wrong.
    pub wrong: u64,
    /// The first few of them.
    pub examples: Vec<String>,
}

impl Verdict {
    fn wrong(&mut self, example: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(example());
        }
    }

    /// Asserts that nothing is wrong, and that what is missing was counted.
    #[track_caller]
    pub fn expect_truth(&self) {
        assert_eq!(self.wrong, 0, "wrong:\n{}", self.examples.join("\n"));
        assert!(self.missing <= self.lost, "{self:?}");
    }
}

impl Births {
    /// Nothing has been said about those who begin from now on.
    pub fn new() -> Births {
        Births {
            since: Timestamp::now(),
            processes: HashMap::new(),
            lives: HashMap::new(),
            executed: HashMap::new(),
            verdict: Verdict::default(),
        }
    }

    /// Takes the next line.
    ///
    /// # Panics
    /// If it is no event.
    pub fn fold(&mut self, line: &[u8]) {
        let line: Line<'_> = serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("{error} in {}", String::from_utf8_lossy(line)));
        let details = line.tracer.as_ref();
        if let Some(lost) = details.and_then(|details| details.lost.as_ref()) {
            self.verdict.lost += lost.count;
        }
        if let (Some(process), Some(details)) = (&line.process, details) {
            self.take_process(&line, process, details);
            self.take_life(&line, process);
        }
    }

    fn take_process(&mut self, line: &Line<'_>, process: &Process<'_>, details: &Details<'_>) {
        let identity = Identity::of(process.pid, &details.lineage);
        let told = || Told {
            identity: identity.clone(),
            is_complete: details.lineage_complete == Some(true),
            start: process.start.parse().expect("RFC 3339"),
            exits: 0,
            name: String::new(),
            is_of_crowd: false,
        };
        let told = self
            .processes
            .entry(process.entity_id.to_owned())
            .or_insert_with(told);
        if told.identity != identity {
            let before = &told.identity;
            self.verdict
                .wrong(|| format!("{} was {before:?} and is {line:?}", process.entity_id));
        }
        let name = process.name.as_deref().unwrap_or_default();
        name.clone_into(&mut told.name);
        if line.event.action == "process_exit" {
            told.exits += 1;
            told.is_of_crowd =
                CROWD.to_str() == Ok(name) && process.exit_code == Some(CROWD_STATUS);
        }
    }

    /// Notes which process a life is, if the line says so.
    fn take_life(&mut self, line: &Line<'_>, process: &Process<'_>) {
        let address = line.destination.as_ref().and_then(|side| side.ip);
        let (life, lives) = match line.event.action {
            "connection_failed" => (address.and_then(plan::index_of), &mut self.lives),
            "process_exec" => (executed_life(&process.args), &mut self.executed),
            _ => return,
        };
        let Some(life) = life else { return };
        let before = lives.insert(life, process.entity_id.to_owned());
        if let Some(before) = before {
            self.verdict
                .wrong(|| format!("life {life} was {before} and is {line:?}"));
        }
    }

    /// Compares what was told of lives with the PIDs that they had; see the workload `lives`.
    pub fn compare_lives(&self, forker: u32, pids: &[u32]) -> Verdict {
        let mut verdict = self.verdict.clone();
        let mut lives_of: HashMap<&str, u32> = HashMap::new();
        for (life, &pid) in (0..).zip(pids) {
            let is_child = life % 2 == 1;
            let elder = is_child.then(|| pids[life as usize - 1]);
            let ancestors: Vec<u32> = elder.into_iter().chain([forker]).collect();
            let Some(entity) = self.lives.get(&life) else {
                verdict.missing += 1;
                continue;
            };
            let told = &self.processes[entity];
            if let Some(other) = lives_of.insert(entity, life) {
                verdict.wrong(|| format!("{entity} is life {other} and life {life}"));
            }
            let parent = is_child.then(|| self.lives.get(&(life - 1))).flatten();
            let identity = &told.identity;
            let is_known = identity.parent.is_some();
            if identity.pid != pid
                || !is_as_far_as_known(&identity.ancestors, &ancestors)
                || parent.is_some_and(|parent| is_known && identity.parent.as_ref() != Some(parent))
                || self
                    .executed
                    .get(&life)
                    .is_some_and(|other| other != entity)
                || told.exits > 1
            {
                verdict.wrong(|| format!("life {life}, {pid} of {ancestors:?}: {told:?}"));
            }
            verdict.missing += u64::from(told.exits == 0 || !is_known);
        }
        verdict
    }

    /// Compares what was told of a crowd with how many they were, and of whom; see the workload `crowd`.
    pub fn compare_crowd(&self, forker: u32, count: u64) -> Verdict {
        let mut verdict = self.verdict.clone();
        let crowd = self.processes.values().filter(|told| told.is_of_crowd);
        let told = crowd.clone().count() as u64;
        verdict.missing += count.saturating_sub(told);
        if told > count {
            verdict.wrong(|| format!("{told} of {count} have ended"));
        }
        for told in crowd {
            match told.identity.ancestors[..] {
                _ if told.exits > 1 => verdict.wrong(|| format!("ends twice: {told:?}")),
                [] => verdict.missing += 1,
                [first, ..] if first == forker => {}
                [_, second, ..] if second == forker => {}
                // The parent is the one that is missing.
                [_] => {}
                _ => verdict.wrong(|| format!("not of {forker}: {told:?}")),
            }
        }
        verdict
    }

    /// How many processes of a crowd, and of that name, that began since the beginning are of unknown parents. The
    /// host's other processes may have parents that the kernel hides.
    pub fn of_unknown_parents(&self, name: &str) -> u64 {
        let is_meant = |told: &&Told| told.is_of_crowd || told.name == name;
        let unknown = |told: &&Told| told.start > self.since && !told.is_complete;
        let processes = self.processes.values().filter(is_meant);
        processes.filter(unknown).count() as u64
    }
}

impl Default for Births {
    fn default() -> Self {
        Births::new()
    }
}

/// Whether what is known of a line is true.
fn is_as_far_as_known(known: &[u32], truth: &[u32]) -> bool {
    known.iter().zip(truth).all(|(known, truth)| known == truth)
}

/// The last argument of the workload `exit`.
fn executed_life(arguments: &[Cow<'_, str>]) -> Option<u32> {
    match arguments {
        [_, _, workload, _, life] if workload == "exit" => life.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One process by its number, which is its PID too; what `lineage` has after it.
    fn line(action: &str, entity: &str, life: u32, lineage: &[(&str, u32)]) -> String {
        let chain: Vec<_> = lineage
            .iter()
            .map(|(entity, pid)| {
                format!(r#"{{"entity_id":"{entity}","pid":{pid},"relation":"birth"}}"#)
            })
            .collect();
        format!(
            r#"{{"event":{{"action":"{action}"}},"destination":{{"ip":"{}"}},
            "process":{{"entity_id":"{entity}","pid":{},"name":"crowd","start":"2126-01-01T00:00:00Z","exit_code":77}},
            "tracer":{{"lineage":[{}],"lineage_complete":true}}}}"#,
            plan::address(life),
            lineage[0].1,
            chain.join(",")
        )
    }

    const PARENT: [(&str, u32); 2] = [("a", 20), ("f", 10)];
    const CHILD: [(&str, u32); 3] = [("b", 30), ("a", 20), ("f", 10)];

    fn truth() -> Vec<String> {
        vec![
            line("connection_failed", "a", 0, &PARENT),
            line("connection_failed", "b", 1, &CHILD),
            line("process_exit", "a", 9, &PARENT),
            line("process_exit", "b", 9, &CHILD),
        ]
    }

    fn births(lines: &[String]) -> Births {
        let mut births = Births::new();
        for line in lines {
            births.fold(line.as_bytes());
        }
        births
    }

    fn lives(lines: &[String]) -> (u64, u64) {
        let verdict = births(lines).compare_lives(10, &[20, 30]);
        (verdict.wrong, verdict.missing)
    }

    #[test]
    fn the_truth_is_complete_and_right() {
        assert_eq!(lives(&truth()), (0, 0));
        let verdict = births(&truth()).compare_crowd(10, 2);
        assert_eq!((verdict.wrong, verdict.missing), (0, 0), "{verdict:?}");
    }

    #[test]
    fn each_line_that_is_missing_is_noticed() {
        for index in 0..4 {
            let mut lines = truth();
            lines.remove(index);
            assert_eq!(lives(&lines), (0, 1), "without {index}");
        }
        assert_eq!(births(&truth()[..3]).compare_crowd(10, 2).missing, 1);
    }

    #[test]
    fn a_child_of_its_parents_namesake_is_wrong() {
        let mut lines = truth();
        let namesake = [("b", 30), ("z", 20), ("f", 10)];
        lines[1] = line("connection_failed", "b", 1, &namesake);
        lines[3] = line("process_exit", "b", 9, &namesake);
        assert_eq!(lives(&lines), (1, 0));
    }

    #[test]
    fn a_process_with_two_parents_is_wrong() {
        let mut lines = truth();
        lines[3] = line("process_exit", "b", 9, &[("b", 30), ("f", 10)]);
        assert_eq!(lives(&lines).0, 1);
    }

    #[test]
    fn one_process_for_two_lives_is_wrong() {
        let mut lines = truth();
        lines[1] = line("connection_failed", "a", 1, &PARENT);
        assert!(lives(&lines).0 > 0);
    }

    #[test]
    fn an_unknown_parent_is_missing_and_not_wrong() {
        let mut lines = truth();
        lines[1] = line("connection_failed", "b", 1, &CHILD[..1]);
        lines[3] = line("process_exit", "b", 9, &CHILD[..1]);
        assert_eq!(lives(&lines), (0, 1));
        let verdict = births(&lines).compare_crowd(10, 2);
        assert_eq!((verdict.wrong, verdict.missing), (0, 1), "{verdict:?}");
    }

    #[test]
    fn a_crowd_of_another_is_wrong() {
        let others = [("b", 30), ("y", 21), ("z", 11)];
        let lines = [line("process_exit", "b", 9, &others)];
        assert_eq!(births(&lines).compare_crowd(10, 1).wrong, 1);
    }
}
