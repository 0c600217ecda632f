//! PID 1 of a guest of `cargo xtask vm`. In goes `/vm-plan`: the environment and the command to run.
//! It mounts what a system has, runs the command on the second serial port, reaps orphans, writes
//! the command's exit status to the console, and turns the machine off.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::Command;
use std::{env, io};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use rustix::system::{RebootCommand, finit_module, reboot, sethostname};
use rustix::termios::{OptionalActions, isatty, tcdrain, tcgetattr, tcsetattr};

const TERMINAL: &str = "/dev/ttyS1";

fn main() {
    let status = run().unwrap_or_else(|error| {
        println!("vm-init: {error:#}");
        // Who waits at the other end sees the terminal, not the console.
        let _ = fs::write(TERMINAL, format!("vm-init: {error:#}\r\n"));
        125
    });
    println!("vm-init: exit status {status}");
    if isatty(io::stdout()) {
        // The machine must not be off before the line is out.
        let _ = tcdrain(io::stdout());
    }
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("vm-init: power off: {error}");
    }
}

fn run() -> Result<i32> {
    mount_all()?;
    let plan = fs::read("/vm-plan").context("reading the plan")?;
    let (environment, command) = parse(&plan);
    load_modules()?;
    sethostname(b"vm").context("setting the host's name")?;
    let mut loopback = Command::new("/usr/bin/ip");
    loopback.args(["link", "set", "lo", "up"]).env("PATH", PATH);
    anyhow::ensure!(
        loopback.status().context("starting ip")?.success(),
        "lo does not come up"
    );
    run_command(&environment, &command)
}

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

fn mount_all() -> Result<()> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    for (kind, place, flags) in [
        ("proc", "/proc", strict),
        ("sysfs", "/sys", strict),
        ("devtmpfs", "/dev", MountFlags::NOSUID),
        ("devpts", "/dev/pts", MountFlags::NOSUID),
        ("tmpfs", "/dev/shm", plain),
        ("tmpfs", "/tmp", plain),
        ("tmpfs", "/run", plain),
        ("cgroup2", "/sys/fs/cgroup", strict),
    ] {
        let _ = fs::create_dir(place);
        mount(kind, place, kind, flags, None).with_context(|| format!("mounting {place}"))?;
    }
    Ok(())
}

/// The plan's assignments and the command's words.
fn parse(plan: &[u8]) -> (Vec<(OsString, OsString)>, Vec<OsString>) {
    let (mut environment, mut command) = (Vec::new(), Vec::new());
    for entry in plan.split(|byte| *byte == 0) {
        match entry {
            [b'-', word @ ..] => command.push(OsString::from_vec(word.to_vec())),
            [b'=', assignment @ ..] => {
                let mut parts = assignment.splitn(2, |byte| *byte == b'=');
                let mut part = || OsString::from_vec(parts.next().unwrap_or_default().to_vec());
                environment.push((part(), part()));
            }
            _ => {}
        }
    }
    (environment, command)
}

/// Loads `/modules`, whose names sort in the order of loading.
fn load_modules() -> Result<()> {
    let Ok(entries) = fs::read_dir("/modules") else {
        return Ok(());
    };
    let mut modules: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    modules.sort();
    for module in modules {
        let file = File::open(&module).with_context(|| format!("opening {}", module.display()))?;
        finit_module(&file, c"", 0).with_context(|| format!("loading {}", module.display()))?;
    }
    Ok(())
}

fn run_command(environment: &[(OsString, OsString)], command: &[OsString]) -> Result<i32> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
    let terminal = terminal.with_context(|| format!("opening {TERMINAL}"))?;
    let (program, arguments) = command.split_first().context("the plan has no command")?;
    if program != OsStr::new("setsid") {
        // Bytes go out as they are; a shell wants a terminal's manners.
        let mut settings = tcgetattr(&terminal).context("the terminal's settings")?;
        settings.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &settings).context("a raw terminal")?;
    }
    let end = |what| terminal.try_clone().context(what);
    let child = Command::new(find(program))
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), ("LANG", "C.UTF-8")])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/root")
        .stdin(end("stdin")?)
        .stdout(end("stdout")?)
        .stderr(end("stderr")?)
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let status = reap_until(Pid::from_child(&child))?;
    tcdrain(&terminal).context("draining the terminal")?;
    Ok(status)
}

/// PID 1 has no PATH of its own to search.
fn find(program: &OsStr) -> std::path::PathBuf {
    let candidates = env::split_paths(PATH).map(|directory| directory.join(program));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.unwrap_or_else(|| Path::new(program).to_owned())
}

/// Waits for children, whoever's they were, until this one has ended; its status as a shell says it.
fn reap_until(child: Pid) -> Result<i32> {
    loop {
        if let Some((pid, status)) = wait(WaitOptions::empty()).context("waiting")?
            && pid == child
        {
            return Ok(exit_code(status));
        }
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    let signalled = status.terminating_signal().map(|signal| 128 + signal);
    status.exit_status().or(signalled).unwrap_or(255)
}
