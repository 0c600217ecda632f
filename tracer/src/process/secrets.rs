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

/// Matches in one block. Whoever has more has them for making this slow, since each can take a look at all that
/// follows: then nothing but the program's name is kept.
const MATCHES_MAX: usize = 64;

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
    rules: Vec<Regex>,
    /// The programs, and their options.
    commands: Vec<(Regex, Regex)>,
    cut: Vec<Regex>,
}

static OBVIOUS: LazyLock<Obvious> = LazyLock::new(|| {
    let known = |pattern: &str| compile(pattern).expect("a test compiles all of them");
    let alternatives = RULES.iter().map(|rule| rule.secret.to_owned());
    let alternatives = alternatives.chain(COMMANDS.iter().map(|Command { name, option }| {
        format!(r"(?:^|[\x00\s/])(?:{name})(?:[\x00\s](?s:.)*)?(?:{option})")
    }));
    let alternatives: Vec<String> = alternatives.collect();
    let rule = |Rule { except, secret }: &Rule| match except {
        Some(except) => known(&format!("{except}|{secret}")),
        None => known(secret),
    };
    let program = |name: &str| known(&format!(r"(?:^|[\x00\s/])(?:{name})[\x00\s]"));
    Obvious {
        sieve: known(&alternatives.join("|")),
        rules: RULES.iter().map(rule).collect(),
        commands: COMMANDS
            .iter()
            .map(|Command { name, option }| (program(name), known(option)))
            .collect(),
        cut: CUT.into_iter().map(known).collect(),
    }
});

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
        let mut found = Found::default();
        if let Some(obvious) = self.obvious {
            obvious.find(arguments, truncated, &mut found);
        }
        if !self.own.is_empty() {
            let line: Vec<u8> = arguments
                .iter()
                .map(|&byte| if byte == 0 { b' ' } else { byte })
                .collect();
            for Pattern(pattern) in &self.own {
                found.add(pattern, &line, 0);
            }
        }
        (!found.secrets.is_empty()).then(|| found.masked(arguments))
    }
}

impl Obvious {
    fn find(&self, arguments: &[u8], truncated: bool, found: &mut Found) {
        if truncated {
            for cut in &self.cut {
                found.add(cut, arguments, 0);
            }
        }
        if !self.sieve.is_match(arguments) {
            return;
        }
        for rule in &self.rules {
            found.add(rule, arguments, 0);
        }
        for (program, option) in &self.commands {
            if let Some(program) = program.find(arguments) {
                // With the character that ends its name.
                found.add(option, arguments, program.end() - 1);
            }
        }
    }
}

/// Where there are secrets.
#[derive(Default)]
struct Found {
    secrets: Vec<Range<usize>>,
    matches: usize,
}

impl Found {
    /// Adds what a pattern finds from `start` on.
    fn add(&mut self, pattern: &Regex, arguments: &[u8], start: usize) {
        let Some(rest) = arguments.get(start..) else {
            return;
        };
        let left = MATCHES_MAX.saturating_sub(self.matches);
        for captures in pattern.captures_iter(rest).take(left) {
            self.matches += 1;
            let mut groups = captures.iter();
            let whole = groups.next().flatten();
            let secret = if captures.len() > 1 {
                groups.flatten().next()
            } else {
                whole
            };
            if let Some(secret) = secret {
                self.secrets
                    .push(start + secret.start()..start + secret.end());
            }
        }
        if self.matches >= MATCHES_MAX {
            let name = arguments.iter().position(|&byte| byte == 0);
            self.secrets.push(name.unwrap_or(0)..arguments.len());
        }
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
