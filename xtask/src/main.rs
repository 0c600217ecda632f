//! `cargo xtask`: the project's own commands, one file each. In goes the command line, out comes
//! what the command leaves, and its exit status.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod artifacts;
mod bench;
mod ci;
mod command;
mod ebpf_toolchain;
mod package;
mod paths;
mod run;
mod setup;
mod test;
mod vm;

/// Builds, runs and tests tracer.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Options {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Find or install what a build needs, and with --tests what the tests need
    Setup(setup::Options),
    /// Build everything and run `tracer run` with the given arguments
    Run(run::Options),
    /// Run all tests: unit and replay, this machine's kernel, a matrix of kernels in VMs
    Test(test::Options),
    /// Make an image for containers: the program and its licences, nothing else
    Image(package::image::Options),
    /// Make a package for Debian and Ubuntu
    Deb(package::deb::Options),
    /// Boot a kernel in QEMU and run a command there
    Vm(vm::Options),
    /// Measure what tracing costs, and compare with the budget
    Bench(bench::Options),
    /// Check format, lints, dependencies and costs, then run the tests that a change has to pass
    Ci(ci::Options),
    /// Run all tests, with as many connections and starts as take an hour
    Nightly(test::Options),
}

fn main() -> ExitCode {
    let result = match Options::parse().subcommand {
        Subcommands::Setup(options) => setup::main(&options),
        Subcommands::Run(options) => run::main(&options),
        Subcommands::Test(options) => test::main(&options),
        Subcommands::Image(options) => package::image::main(&options),
        Subcommands::Deb(options) => package::deb::main(&options),
        Subcommands::Vm(options) => vm::main(&options),
        Subcommands::Bench(options) => bench::main(&options),
        Subcommands::Ci(options) => ci::main(&options),
        Subcommands::Nightly(options) => test::main(&options.nightly()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}
