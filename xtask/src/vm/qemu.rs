//! Runs one guest in QEMU, without KVM. The kernel's console goes to a file; the second serial port is
//! the command's terminal. The guest's init writes the command's exit status to the console as its
//! last line; a guest that ends without one, or outlives its deadline, has failed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::paths;

/// Everything that a machine without a bootloader is told. Mitigations are off: under emulation they
/// protect nothing and cost a third.
const COMMAND_LINE: &str =
    "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off random.trust_cpu=on tsc=reliable";

/// How a guest's time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// As this machine's, on two processors.
    Host,
    /// By one nanosecond an instruction, on one processor; an idle guest jumps to its next timer. The
    /// same guest then does the same again.
    Instructions,
}

impl Clock {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Host => &[
                "-accel",
                "tcg,thread=single",
                "-cpu",
                "max,la57=off",
                "-smp",
                "2",
            ],
            // An instruction that copies bytes is counted for each of them, so none is to be used.
            Self::Instructions => &[
                "-accel",
                "tcg,thread=single",
                "-cpu",
                "max,la57=off,-erms",
                "-smp",
                "1",
                "-icount",
                "shift=0,sleep=off",
                "-rtc",
                "base=2026-01-01,clock=vm",
                "-seed",
                "1",
            ],
        }
    }

    /// What the kernel is told besides: where things lie in memory changes what they cost.
    fn command_line(self) -> &'static str {
        match self {
            Self::Host => "",
            Self::Instructions => " nokaslr norandmaps",
        }
    }
}

/// The last line of the console, before the status. `vm-init` writes it.
const STATUS: &str = "vm-init: exit status ";

/// A guest that is to run.
pub(super) struct Machine<'a> {
    pub(super) image: &'a Path,
    pub(super) initramfs: &'a Path,
    /// Where the kernel's console goes.
    pub(super) console: PathBuf,
    pub(super) clock: Clock,
    pub(super) memory: &'static str,
    pub(super) deadline: Duration,
}

impl Machine<'_> {
    /// Boots, waits for the end, and returns the command's exit status.
    pub(super) fn run(&self, stdin: Stdio, stdout: Stdio) -> Result<u8> {
        let mut qemu = self.command();
        let child = qemu
            .stdin(stdin)
            .stdout(stdout)
            .spawn()
            .context("starting QEMU")?;
        let in_time = wait(child, self.deadline)?;
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let status = console
            .lines()
            .rev()
            .find_map(|line| line.trim_end().strip_prefix(STATUS));
        match status.and_then(|status| status.parse().ok()) {
            Some(status) => Ok(status),
            None if in_time => bail!("the guest died\n{}", tail(&console)),
            None => bail!(
                "the guest did not end within {:?}\n{}",
                self.deadline,
                tail(&console)
            ),
        }
    }

    fn command(&self) -> Command {
        let mut qemu = program();
        qemu.args(self.clock.arguments())
            .args(["-m", self.memory])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .arg("-kernel")
            .arg(self.image)
            .arg("-initrd")
            .arg(self.initramfs)
            .arg("-append")
            .arg(format!("{COMMAND_LINE}{}", self.clock.command_line()))
            .arg("-serial")
            .arg(format!("file:{}", self.console.display()))
            .args([
                "-chardev",
                "stdio,id=terminal,signal=off",
                "-serial",
                "chardev:terminal",
            ]);
        qemu
    }
}

/// QEMU itself, our own or the machine's.
pub(crate) fn program() -> Command {
    let name = "qemu-system-x86_64";
    Command::new(paths::program(name).unwrap_or_else(|| name.into()))
}

/// Waits for the end; at the deadline makes it. Whether it came in time.
fn wait(mut child: Child, deadline: Duration) -> Result<bool> {
    let end = Instant::now() + deadline;
    while child.try_wait().context("waiting for QEMU")?.is_none() {
        if Instant::now() > end {
            child.kill().context("killing QEMU")?;
            child.wait().context("waiting for QEMU")?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// The console's last lines.
fn tail(console: &str) -> String {
    let lines: Vec<&str> = console.lines().collect();
    let shown = &lines[lines.len().saturating_sub(40)..];
    format!("its console's last lines:\n{}", shown.join("\n"))
}
