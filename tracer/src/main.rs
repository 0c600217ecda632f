//! The `tracer` program: arguments in, a command's output and an exit status out.

use std::io::{self, Write};
use std::process::ExitCode;

use tracer::cli::{Cli, Parsed};
use tracer::commands::{self, launch};
use tracer::failure::Failure;
use tracer::kernel::canary;
use tracer::memory;

fn main() -> ExitCode {
    // A copy of ourselves that shows whether the hooks see has nothing else to do.
    if canary::is_canary() {
        return ExitCode::SUCCESS;
    }
    if launch::is_launcher() {
        return launch::become_command();
    }
    memory::give_back_at_once();
    let result = match Cli::parse_arguments() {
        Ok(cli) => commands::execute(cli.command),
        Err(Parsed::Help(help)) => show(&help),
        Err(Parsed::Failure(failure)) => Err(failure),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where stderr is closed, the status has to do.
            let _ = writeln!(io::stderr(), "tracer: {failure}");
            failure.status().into()
        }
    }
}

/// Prints help, with styles where stdout has them.
fn show(help: &clap::Error) -> Result<(), Failure> {
    match help.print() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(
            format_args!("cannot write to stdout: {error}"),
        )),
        _ => Ok(()),
    }
}
