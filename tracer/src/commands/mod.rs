//! The commands. In: what was asked for. Out: what it prints, or why it failed.

mod alone;
mod completions;
mod decode_id;
mod detect;
mod doctor;
pub mod launch;
mod live;
mod man;
mod past;
mod schema;
mod ss;
mod tree;
mod version;

use std::io::{self, ErrorKind, Write};

pub use self::version::{VERSION, target};
use crate::cli::Command;
use crate::config::{Config, Surroundings, capture};
use crate::failure::Failure;

/// Does what was asked for.
pub fn execute(command: Command) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process();
    match command {
        Command::Run(args) => {
            let config = Config::of_run(args, surroundings).map_err(detect::failure)?;
            live::live(config)
        }
        Command::Trace(args) => live::live(Config::of_trace(args, surroundings)),
        Command::Ss(args) => ss::ss(&args),
        Command::Tree(args) => tree::tree(&args, surroundings),
        Command::Query(args) => past::query::query(&args, surroundings),
        Command::Talkers(args) => past::talkers::talkers(&args, surroundings),
        Command::Who(args) => past::who::who(&args, surroundings),
        Command::Export(args) => past::export::export(&args),
        Command::Report(args) => past::report::report(&args),
        Command::Replay(args) => past::replay::replay(&args, surroundings),
        Command::Doctor(args) => doctor::doctor(&capture(&args.capture), args.output, surroundings),
        Command::Detect(command) => print(detect::detect(&command)?.as_bytes()),
        Command::Config(command) => print(detect::config(&command)?.as_bytes()),
        Command::Schema => print(schema::schema()),
        Command::Completions { shell } => print(&completions::completions(&shell)?),
        Command::Man { directory: None } => print(&man::man()?),
        Command::Man {
            directory: Some(directory),
        } => man::write(&directory),
        Command::DecodeId(args) => print(decode_id::decode_id(&args)?.as_bytes()),
        Command::Version => print(version::version().as_bytes()),
    }
}

/// Prints all of it to stdout. A reader that goes away has read enough.
pub fn print(text: &[u8]) -> Result<(), Failure> {
    print_more(text).map(drop)
}

/// The same; returns whether somebody may read more.
fn print_more(text: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(format_args!(
            "cannot write to stdout: {error}"
        ))),
    }
}
