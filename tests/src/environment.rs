//! What the caller says about this run: environment variables in, plain values out.
//!
//! `cargo xtask test` sets them; nothing else in this package reads the environment.

use std::env;
use std::path::PathBuf;
use std::str::FromStr;

/// How connect and accept are watched, as `--hook-mode` takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookMode {
    /// fentry and fexit programs.
    Fentry,
    /// Kprobes and kretprobes.
    Kprobe,
    /// Tracepoints and cgroup programs only.
    Tracepoint,
}

impl HookMode {
    /// Every mode.
    pub const ALL: [HookMode; 3] = [HookMode::Fentry, HookMode::Kprobe, HookMode::Tracepoint];

    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            HookMode::Fentry => "fentry",
            HookMode::Kprobe => "kprobe",
            HookMode::Tracepoint => "tracepoint",
        }
    }
}

/// `TRACER_BIN`: the program under test, if the caller named one.
pub fn tracer_bin_if_any() -> Option<PathBuf> {
    env::var_os("TRACER_BIN").map(PathBuf::from)
}

/// `TRACER_BIN`, which this test cannot do without.
///
/// # Panics
/// If it is not set.
pub fn tracer_bin() -> PathBuf {
    tracer_bin_if_any()
        .expect("TRACER_BIN must name the tracer to test; `cargo xtask test` sets it")
}

/// `TRACER_HOOK_MODE`: the mode under test; without it no kernel test runs.
///
/// # Panics
/// If it is not the name of a mode.
pub fn hook_mode_if_any() -> Option<HookMode> {
    let word = env::var("TRACER_HOOK_MODE").ok()?;
    let mode = HookMode::ALL.into_iter().find(|mode| mode.as_str() == word);
    Some(mode.unwrap_or_else(|| {
        panic!("TRACER_HOOK_MODE is {word:?}, not fentry, kprobe or tracepoint")
    }))
}

/// The mode under test.
///
/// # Panics
/// If `TRACER_HOOK_MODE` is not set.
pub fn hook_mode() -> HookMode {
    hook_mode_if_any()
        .expect("TRACER_HOOK_MODE must be fentry, kprobe or tracepoint; `cargo xtask test` sets it")
}

/// `TRACER_IMAGE`: the archive with the image under test, if the caller named one.
pub fn image_if_any() -> Option<PathBuf> {
    env::var_os("TRACER_IMAGE").map(PathBuf::from)
}

/// `TRACER_IMAGE`, which this test cannot do without.
///
/// # Panics
/// If it is not set.
pub fn image() -> PathBuf {
    image_if_any().expect("TRACER_IMAGE must name an image; `cargo xtask test` sets it")
}

/// `TRACER_PACKAGES`: a Debian package and its next revision, if the caller named some.
pub fn packages_if_any() -> Option<[PathBuf; 2]> {
    let paths = env::var_os("TRACER_PACKAGES")?;
    let paths: Vec<_> = env::split_paths(&paths).collect();
    paths.try_into().ok()
}

/// `TRACER_PACKAGES`, which this test cannot do without.
///
/// # Panics
/// If it does not name two.
pub fn packages() -> [PathBuf; 2] {
    packages_if_any().expect("TRACER_PACKAGES must name two packages; `cargo xtask test` sets it")
}

/// `TRACER_CONNECTIONS`: how many connections the ledger test makes.
///
/// # Panics
/// If it is not a number.
pub fn connections() -> usize {
    number("TRACER_CONNECTIONS", 1000)
}

/// `TRACER_MIX`: how many connections a mix of every kind has.
///
/// # Panics
/// If it is not a number.
pub fn mix() -> u32 {
    number("TRACER_MIX", 2000)
}

/// `TRACER_PROCESSES`: how many processes begin in a test of many short lives.
///
/// # Panics
/// If it is not a number.
pub fn processes() -> u32 {
    number("TRACER_PROCESSES", 600)
}

/// `TRACER_EXECS`: how often a program is executed while its path and arguments are being changed.
///
/// # Panics
/// If it is not a number.
pub fn execs() -> u32 {
    number("TRACER_EXECS", 20)
}

/// `TRACER_STARTS`: how often a tracer is started under load.
///
/// # Panics
/// If it is not a number.
pub fn starts() -> u32 {
    number("TRACER_STARTS", 1)
}

/// `TRACER_BY_MODE`: whether only what the hook mode decides is to be tested.
pub fn by_mode_alone() -> bool {
    env::var_os("TRACER_BY_MODE").is_some_and(|value| value == "1")
}

fn number<T: FromStr>(variable: &str, default: T) -> T {
    env::var(variable).map_or(default, |word| {
        let number = word.parse().ok();
        number.unwrap_or_else(|| panic!("{variable} is {word:?}, not a number"))
    })
}

/// `TRACER_VM=1`: the tests run in a virtual machine that has little but them.
pub fn in_vm() -> bool {
    env::var_os("TRACER_VM").is_some_and(|value| value == "1")
}

/// Whether this process may load kernel programs and drop privileges.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
