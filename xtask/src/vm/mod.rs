//! `cargo xtask vm`: boots a kernel of the matrix in QEMU and runs one command there, as root, with
//! `tracer` and the kernel tests in PATH. The command's output and exit status become ours.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{IsTerminal as _, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::setup::kernels::{self, Kernel};
use crate::test::matrix::Mode;
use crate::{artifacts, command, paths, setup, test};

mod cpio;
mod initramfs;
mod modules;
pub(crate) mod qemu;

pub(crate) use initramfs::Program;
pub(crate) use qemu::Clock;

/// Where the guest has what we have built.
pub(crate) const TRACER: &str = "/usr/bin/tracer";
pub(crate) const KERNEL_TESTS: &str = "/usr/bin/kernel-tests";

/// What a guest has of it unless it needs more.
pub(crate) const MEMORY: &str = "1G";

/// Loopback connections that a test makes in a guest: emulated, each takes its time.
const CONNECTIONS: &str = "1000";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// 5.10, 6.1, 6.12, newest, or all, one after the other
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Hook mode, passed on in TRACER_HOOK_MODE
    #[arg(long)]
    mode: Option<Mode>,
    /// Seconds after which the guest is killed
    #[arg(long, default_value = "600")]
    deadline: u64,
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
    /// The command and its arguments; a shell if there are none
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// What one guest is to do.
pub(crate) struct Guest<'a> {
    pub(crate) kernel: &'a Kernel,
    /// Names the files that it leaves in the target directory.
    pub(crate) name: String,
    pub(crate) programs: &'a [Program],
    pub(crate) environment: Vec<(&'static str, String)>,
    pub(crate) command: Vec<OsString>,
    pub(crate) clock: Clock,
    /// As QEMU reads it.
    pub(crate) memory: &'static str,
    pub(crate) deadline: Duration,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Tests, !options.no_setup)?;
    let interactive = options.command.is_empty();
    if interactive && !stdin().is_terminal() {
        anyhow::bail!("no command, and stdin is no terminal for a shell");
    }
    let labels = match options.kernel.as_str() {
        "all" => kernels::LABELS.to_vec(),
        label => vec![label],
    };
    let programs = test_programs()?;
    let mut status = 0;
    for label in labels {
        let kernel = Kernel::find(label)?;
        let mut environment = test_environment();
        environment.extend(
            options
                .mode
                .map(|mode| ("TRACER_HOOK_MODE", mode.to_string())),
        );
        environment.extend(std::env::var("TERM").map(|terminal| ("TERM", terminal)));
        let shell = || ["setsid", "-c", "bash", "-l"].map(OsString::from).to_vec();
        let guest = Guest {
            kernel: &kernel,
            name: label.to_owned(),
            programs: &programs,
            environment,
            command: if interactive {
                shell()
            } else {
                options.command.clone()
            },
            clock: Clock::Host,
            memory: MEMORY,
            deadline: Duration::from_secs(options.deadline),
        };
        let input = if interactive {
            Stdio::inherit()
        } else {
            Stdio::null()
        };
        status = status.max(guest.run(input, Stdio::inherit())?);
    }
    Ok(ExitCode::from(status))
}

/// What the tests in a guest learn from their environment, but for the mode.
pub(crate) fn test_environment() -> Vec<(&'static str, String)> {
    [
        ("TRACER_BIN", TRACER),
        ("TRACER_CONNECTIONS", CONNECTIONS),
        ("TRACER_VM", "1"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .to_vec()
}

/// What goes into every guest that tests.
pub(crate) fn test_programs() -> Result<Vec<Program>> {
    programs(artifacts::test_program(test::KERNEL)?, KERNEL_TESTS)
}

/// Builds what goes into every guest, adds what this kind of guest is there for, and takes the debugging
/// information out of it all: a guest has little memory.
pub(crate) fn programs(purpose: PathBuf, there: &str) -> Result<Vec<Program>> {
    let directory = directory()?;
    let program = |built: PathBuf, there: &str| -> Result<Program> {
        let here = directory.join(built.file_name().unwrap_or_default());
        let mut strip = Command::new("strip");
        command::run(strip.arg("--strip-debug").arg("-o").arg(&here).arg(&built))?;
        Ok(Program {
            here,
            there: there.into(),
            libraries: Vec::new(),
        })
    };
    Ok(vec![
        program(artifacts::vm_init()?, "/init")?,
        program(artifacts::tracer()?, TRACER)?,
        program(purpose, there)?,
    ])
}

/// Where guests leave their files.
pub(crate) fn directory() -> Result<PathBuf> {
    let directory = paths::target().join("vm");
    fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
    Ok(directory)
}

impl Guest<'_> {
    /// Boots, runs the command, and returns its exit status.
    pub(crate) fn run(&self, stdin: Stdio, stdout: Stdio) -> Result<u8> {
        let directory = directory()?;
        let file = |suffix: &str| directory.join(format!("{}.{suffix}", self.name));
        let initramfs = file("cpio");
        self.write_initramfs(&initramfs)?;
        let machine = qemu::Machine {
            image: &self.kernel.image(),
            initramfs: &initramfs,
            console: file("console"),
            clock: self.clock,
            memory: self.memory,
            deadline: self.deadline,
        };
        let status = machine.run(stdin, stdout);
        fs::remove_file(&initramfs).context("removing the guest's root")?;
        status.with_context(|| format!("kernel {} ({})", self.kernel.label, self.kernel.version()))
    }

    fn write_initramfs(&self, path: &Path) -> Result<()> {
        let mut root = initramfs::Initramfs::create(path)?;
        for program in self.programs {
            root.program(program)?;
        }
        root.modules(self.kernel)?;
        root.file("/vm-plan", &self.plan())?;
        root.finish()
    }

    /// What `vm-init` reads: strings that end in NUL; `=` begins an assignment, `-` an argument.
    fn plan(&self) -> Vec<u8> {
        let mut plan = Vec::new();
        let mut add = |kind: u8, words: &[&OsStr]| {
            plan.push(kind);
            words
                .iter()
                .for_each(|word| plan.extend_from_slice(word.as_encoded_bytes()));
            plan.push(0);
        };
        for (name, value) in &self.environment {
            add(b'=', &[name.as_ref(), "=".as_ref(), value.as_ref()]);
        }
        for argument in &self.command {
            add(b'-', &[argument]);
        }
        plan
    }
}
