//! Secrets in arguments, masked before anybody remembers them.
//!
//! In: a block of arguments as in `/proc/PID/cmdline`. Out: the same with `***` in place of each secret, if it
//! has any. That is a guess from names and shapes: what looks like none stays, and what looks like one may be
//! none. Most arguments have none, and one pass of an automaton says so.

mod rules;

use std::ops::Range;
use std::str::FromStr;
use std::sync::LazyLock;

use regex::bytes::{Regex, RegexBuilder};

use self::rules::{COMMANDS, CUT, Command, RULES, Rule};

/// What stands for a secret.
const MASK: &[u8] = b"***";

/// Matches in one block. Whoever has more has them for making this slow: then nothing but the program's name
/// is kept.
const MATCHES_MAX: usize = 64;

/// Bytes that patterns may look at in one block beyond the first look, each pattern's for itself, since whoever
/// executes chooses the bytes and the reader of records waits. What needs more is kept like too many matches.
const WORK_MAX: usize = 96 * 1024;

/// What it costs to find a group in a byte of a match, in bytes that are only looked at: another machine does it.
const CAPTURE_COST: usize = 32;

/// What it costs to begin a look, in the same.
const LOOK_COST: usize = 64;

/// Which secrets are masked.
#[derive(Clone, Debug)]
pub struct Secrets {
    obvious: Option<&'static Obvious>,
    own: Vec<Pattern>,
}

impl Default for Secrets {
    fn default() -> Self {
        Self::new(true, Vec::new())
    }
}

/// A pattern of a user's. It is matched against the arguments joined by spaces, and masks what its first group
/// covers, or all of the match if it has no group.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The library's own message needs several lines to show the place.
        let parsed = regex_syntax::ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .build()
            .parse(text);
        let at = |place: &regex_syntax::ast::Span, kind: &dyn std::fmt::Display| {
            format!("at character {}: {kind}", place.start.column)
        };
        match parsed {
            Ok(_) => {}
            Err(regex_syntax::Error::Parse(error)) => return Err(at(error.span(), error.kind())),
            Err(regex_syntax::Error::Translate(error)) => {
                return Err(at(error.span(), error.kind()));
            }
            Err(error) => return Err(error.to_string()),
        }
        compile(text)
            .map(Self)
            .map_err(|_| "it is too large".to_owned())
    }
}

/// What is masked unless somebody does not want it.
#[derive(Debug)]
struct Obvious {
    /// Whether there is anything at all.
    sieve: Regex,
    /// Where a rule may apply.
    hint: Regex,
    rules: Vec<Regex>,
    /// Whether a program and its option are there.
    command: Regex,
    commands: Vec<Known>,
    cut: Vec<Regex>,
}

/// A program's option.
#[derive(Debug)]
struct Known {
    /// The program, if the option is anywhere behind it; otherwise it is in the option's pattern.
    program: Option<Regex>,
    option: Regex,
}

static OBVIOUS: LazyLock<Obvious> = LazyLock::new(|| {
    let secrets: Vec<&str> = RULES.iter().map(|rule| rule.secret).collect();
    let hint = secrets.join("|");
    let commands: Vec<String> = COMMANDS.iter().map(Command::pattern).collect();
    let command = commands.join("|");
    Obvious {
        sieve: known(&format!("{hint}|{command}")),
        hint: known(&hint),
        rules: RULES.iter().map(Rule::compiled).collect(),
        command: known(&command),
        commands: COMMANDS.iter().map(Command::compiled).collect(),
        cut: CUT.into_iter().map(known).collect(),
    }
});

impl Rule {
    fn compiled(&self) -> Regex {
        let Self { except, secret } = self;
        match except {
            Some(except) => known(&format!("{except}|{secret}")),
            None => known(secret),
        }
    }
}

impl Command {
    /// The program, whatever is between, and the option.
    fn pattern(&self) -> String {
        let Self { name, option, .. } = self;
        let between = if self.anywhere {
            r"(?:[\x00\s](?s:.)*)?"
        } else {
            ""
        };
        format!(r"(?:^|[\x00\s/])(?:{name}){between}(?:{option})")
    }

    fn compiled(&self) -> Known {
        let Self { name, option, .. } = self;
        let program = || known(&format!(r"(?:^|[\x00\s/])(?:{name})[\x00\s]"));
        Known {
            program: self.anywhere.then(program),
            option: if self.anywhere {
                known(option)
            } else {
                known(&self.pattern())
            },
        }
    }
}

fn known(pattern: &str) -> Regex {
    compile(pattern).expect("a test compiles all of them")
}

fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).unicode(false).build()
}

impl Secrets {
    /// The obvious ones, if they are wanted, and those of a user's patterns.
    pub fn new(obvious: bool, own: Vec<Pattern>) -> Self {
        Self {
            obvious: obvious.then(|| &*OBVIOUS),
            own,
        }
    }

    /// The arguments with their secrets masked; `None` if there are none. `truncated` says that the end is
    /// missing.
    pub fn mask(&self, arguments: &[u8], truncated: bool) -> Option<Vec<u8>> {
        let found = self.find(arguments, truncated);
        (!found.secrets.is_empty()).then(|| found.masked(arguments))
    }

    fn find(&self, arguments: &[u8], truncated: bool) -> Found {
        let mut found = Found::default();
        let mut is_done = true;
        if let Some(obvious) = self.obvious {
            is_done = obvious.find(arguments, truncated, &mut found).is_some();
        }
        if is_done && !self.own.is_empty() {
            let line: Vec<u8> = arguments
                .iter()
                .map(|&byte| if byte == 0 { b' ' } else { byte })
                .collect();
            let mut own = self.own.iter();
            is_done = own.all(|Pattern(own)| found.matches(own, &line, 0).is_some());
        }
        if !is_done {
            let name = arguments.iter().position(|&byte| byte == 0);
            found.secrets.push(name.unwrap_or(0)..arguments.len());
        }
        found
    }
}

impl Obvious {
    /// `None` if that is more work than it may be.
    fn find(&self, arguments: &[u8], truncated: bool, found: &mut Found) -> Option<()> {
        if truncated {
            for cut in &self.cut {
                found.matches(cut, arguments, 0)?;
            }
        }
        if !self.sieve.is_match(arguments) {
            return Some(());
        }
        self.follow_hints(arguments, found)?;
        found.charge(arguments.len())?;
        if !self.command.is_match(arguments) {
            return Some(());
        }
        for Known { program, option } in &self.commands {
            let mut start = 0;
            if let Some(program) = program {
                found.charge(arguments.len())?;
                let Some(program) = program.find(arguments) else {
                    continue;
                };
                // With the character that ends its name.
                start = program.end() - 1;
            }
            found.add(option, arguments, start)?;
        }
        Some(())
    }

    /// Applies the rules to the arguments that have something, with what they need to see before them.
    fn follow_hints(&self, arguments: &[u8], found: &mut Found) -> Option<()> {
        found.charge(arguments.len())?;
        let mut window = 0..0;
        while let Some(hint) = self.hint.shortest_match_at(arguments, window.end) {
            let next = around(arguments, hint);
            if next.start > window.end {
                self.apply(arguments, window, found)?;
                window = next;
            } else {
                window.end = next.end;
            }
            if window.end == arguments.len() {
                break;
            }
        }
        self.apply(arguments, window, found)
    }

    fn apply(&self, arguments: &[u8], window: Range<usize>, found: &mut Found) -> Option<()> {
        for rule in &self.rules {
            found.add(rule, &arguments[..window.end], window.start)?;
        }
        Some(())
    }
}

/// The argument in which a match ends, between NULs, and an option before it: no rule looks further back.
fn around(arguments: &[u8], end: usize) -> Range<usize> {
    let is_end = |&byte: &u8| byte == 0;
    let before = |at: usize| arguments[..at].iter().rposition(is_end);
    let own = before(end.saturating_sub(1));
    let option = own.map(|own| before(own).unwrap_or(0));
    let begins = |start: &usize| {
        let argument = &arguments[*start..];
        argument
            .strip_prefix(b"\0")
            .unwrap_or(argument)
            .starts_with(b"-")
    };
    let start = option.filter(begins).or(own).unwrap_or(0);
    let rest = arguments[end..].iter().position(is_end);
    start..rest.map_or(arguments.len(), |length| end + length)
}

/// Where there are secrets, and what finding them has cost. What adds to it returns `None` when that is too much.
#[derive(Default)]
struct Found {
    secrets: Vec<Range<usize>>,
    matches: usize,
    work: usize,
}

impl Found {
    /// Allows work before it is done.
    fn charge(&mut self, work: usize) -> Option<()> {
        let sum = self.work.saturating_add(work);
        if sum > WORK_MAX {
            return None;
        }
        self.work = sum;
        Some(())
    }

    /// Adds what a pattern finds from `start` on, and charges the look.
    fn add(&mut self, pattern: &Regex, arguments: &[u8], start: usize) -> Option<()> {
        self.charge(arguments.len() - start + LOOK_COST)?;
        self.matches(pattern, arguments, start)
    }

    /// Adds what a pattern finds from `start` on, and charges the matches.
    fn matches(&mut self, pattern: &Regex, arguments: &[u8], start: usize) -> Option<()> {
        let rest = &arguments[start..];
        for whole in pattern.find_iter(rest) {
            self.matches += 1;
            if self.matches >= MATCHES_MAX {
                return None;
            }
            let secret = if pattern.captures_len() > 1 {
                self.charge(whole.len() * CAPTURE_COST)?;
                let captures = pattern.captures_at(rest, whole.start());
                captures.and_then(|captures| captures.iter().skip(1).flatten().next())
            } else {
                Some(whole)
            };
            let range = secret.map(|secret| start + secret.start()..start + secret.end());
            self.secrets.extend(range);
        }
        Some(())
    }

    /// Every part of an argument that a secret covers becomes one mask.
    fn masked(mut self, arguments: &[u8]) -> Vec<u8> {
        self.secrets.sort_unstable_by_key(|secret| secret.start);
        let mut secrets = self.secrets.into_iter().peekable();
        let mut masked = Vec::with_capacity(arguments.len());
        let mut covered = 0;
        let mut is_masked = false;
        for (at, &byte) in arguments.iter().enumerate() {
            while let Some(secret) = secrets.next_if(|secret| secret.start <= at) {
                covered = covered.max(secret.end);
            }
            let is_secret = at < covered && byte != 0;
            if !is_secret {
                masked.push(byte);
            } else if !is_masked {
                masked.extend_from_slice(MASK);
            }
            is_masked = is_secret;
        }
        masked
    }
}

#[cfg(test)]
mod tests;
