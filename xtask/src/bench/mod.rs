//! `cargo xtask bench`: what tracing costs. One file a kind of measurement; what comes out is compared
//! with the budgets in `bench/`.

use std::process::ExitCode;
use std::thread;

use anyhow::{Result, bail};

use crate::test::{self, libtest::Tally};
use crate::{command, setup};

mod budget;
mod comparison;
mod conditions;
mod guest;
mod history;
mod host;
mod kernel;
mod measurement;
mod peers;
mod target;
mod user;
mod user_budget;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommands {
    /// Instructions that tracing adds to connections, processes and system calls, in emulated machines
    Kernel(kernel::Options),
    /// The daemon: a made-up ring through decoding, attribution, metrics and outputs
    User(user::Options),
    /// This machine: latency, idle time, and the part of its rates that tracing leaves
    Host(host::Options),
    /// The history: how fast it is written, how large it is, how long its answers take
    History(history::Options),
    /// Other people's tracers beside this one, in emulated machines
    Peers(peers::Options),
    /// Both budgets, as far as `cargo xtask ci` holds a change against them
    Check,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    match &options.subcommand {
        Subcommands::Kernel(options) => kernel::main(options),
        Subcommands::User(options) => user::main(options),
        Subcommands::Host(options) => host::main(options),
        Subcommands::History(options) => history::main(options),
        Subcommands::Peers(options) => peers::main(options),
        Subcommands::Check => {
            setup::ensure(setup::Scope::Ci, true)?;
            let tally = check()?;
            println!("{}", test::closing_line(tally));
            Ok(tally.exit_code())
        }
    }
}

/// Holds this build against the budgets, as far as every change can wait for it: one guest, and callgrind
/// beside it. Each keeps one processor busy, and counts what does not depend on how busy the other is.
pub(crate) fn check() -> Result<Tally> {
    let (guest, replay) = (kernel::programs()?, user::program()?);
    let in_guest = || kernel::check(&guest)?.judged();
    let in_replay = || user::check(&replay)?.judged();
    let (guest, replay) = thread::scope(|scope| {
        let guest = scope.spawn(|| command::step("budget of the hooks", in_guest));
        let replay = command::step("budget of the daemon", in_replay);
        (guest.join().expect("a check does not panic"), replay)
    });
    match (guest, replay) {
        (Ok(guest), Ok(replay)) => Ok(guest + replay),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(guest), Err(replay)) => bail!("{guest:#}\n{replay:#}"),
    }
}
