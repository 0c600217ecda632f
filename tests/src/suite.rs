//! A list of tests and what runs them: facts in, trials out.

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

/// Trials for `facts`, named `subject::fact`. Those that cannot run here are listed as ignored.
pub fn trials(subject: &str, facts: Vec<Fact>, can_run: bool) -> impl Iterator<Item = Trial> {
    facts.into_iter().map(move |(name, fact)| {
        let run = move || {
            fact();
            Ok(())
        };
        Trial::test(format!("{subject}::{name}"), run).with_ignored_flag(!can_run)
    })
}
