//! A list of tests and what runs them: facts in, trials out, and in the end what took how long.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;

/// A test: its name and what it does. It fails by a panic.
pub type Fact = (&'static str, fn());

/// Lists functions as [`Fact`]s under their own names.
#[macro_export]
macro_rules! facts {
    ($($name:ident),* $(,)?) => {
        vec![$((stringify!($name), $name as fn())),*]
    };
}

/// What has run so far: subjects in order, and how long each took.
static TIMES: Mutex<Vec<(String, Duration)>> = Mutex::new(Vec::new());

/// Trials for `facts`, named `subject::fact`. Those that cannot run here are listed as ignored.
pub fn trials(subject: &str, facts: Vec<Fact>, can_run: bool) -> impl Iterator<Item = Trial> {
    facts.into_iter().map(move |(name, fact)| {
        let of = subject.to_owned();
        let run = move || {
            let _timed = Timed(of, Instant::now());
            fact();
            Ok(())
        };
        Trial::test(format!("{subject}::{name}"), run).with_ignored_flag(!can_run)
    })
}

/// The subjects that took longest, so that whoever wants a shorter run knows where to look.
pub fn print_times() {
    let mut times = TIMES.lock().expect("no test holds it").clone();
    times.sort_by_key(|(_, took)| std::cmp::Reverse(*took));
    let longest = times.iter().take(12);
    let longest = longest.map(|(subject, took)| format!("{subject} {:.1} s", took.as_secs_f64()));
    println!("longest: {}", longest.collect::<Vec<_>>().join(", "));
}

/// Adds what a test takes to its subject's time, also if it fails.
struct Timed(String, Instant);

impl Drop for Timed {
    fn drop(&mut self) {
        let Self(subject, begin) = self;
        let mut times = TIMES.lock().expect("nobody fails with it");
        let took = begin.elapsed();
        match times.iter_mut().find(|(of, _)| of == subject) {
            Some((_, sum)) => *sum += took,
            None => times.push((std::mem::take(subject), took)),
        }
    }
}
