//! Finds what builds the kernel programs: a Rust compiler with a core for BPF, and bpf-linker.
//! In go the machine's directories and PATH; out comes a [`Toolchain`], or [`Missing`], which says
//! what to type. `tracer/build.rs` includes this file too, so it uses the standard library alone.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The target that the kernel programs are compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Who compiles for BPF: `cargo`, its `rustc`, and where core comes from.
#[derive(Debug)]
pub(crate) struct Compiler {
    pub(crate) cargo: PathBuf,
    pub(crate) rustc: PathBuf,
    pub(crate) core: Core,
}

/// The profile of the workspace that they are built with, and the folder that they are built into.
pub(crate) const PROFILE: &str = "kernel";

/// Where `core` for [`TARGET`] comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// The distribution ships it compiled.
    Prebuilt,
    /// A nightly toolchain has its source: cargo builds it (`-Zbuild-std`).
    Source,
}

/// All that a build of the kernel programs needs.
#[derive(Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    pub(crate) linker: PathBuf,
}

/// What is missing, each as a phrase.
#[derive(Debug)]
pub(crate) struct Missing(Vec<&'static str>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the kernel programs cannot be built; missing:")?;
        for what in &self.0 {
            writeln!(f, "  - {what}")?;
        }
        write!(f, "install all of it with:  cargo xtask setup")
    }
}

impl std::error::Error for Missing {}

/// Finds compiler and linker.
pub(crate) fn find() -> Result<Toolchain, Missing> {
    let (compiler, linker) = (find_compiler(), find_linker());
    let mut missing = Vec::new();
    if compiler.is_none() {
        missing.push(
            "a Rust compiler with a core for BPF (the distribution's rustc with its \
             libstd-rust-*-dev-bpf, or a rustup nightly with rust-src)",
        );
    }
    if linker.is_none() {
        missing.push("bpf-linker");
    }
    match (compiler, linker) {
        (Some(compiler), Some(linker)) => Ok(Toolchain { compiler, linker }),
        _ => Err(Missing(missing)),
    }
}

/// The distribution's compiler if it has a core for BPF, else a rustup nightly with `rust-src`.
pub(crate) fn find_compiler() -> Option<Compiler> {
    distribution_compiler().or_else(nightly_compiler)
}

/// bpf-linker from our own tools, else from PATH.
pub(crate) fn find_linker() -> Option<PathBuf> {
    let ours = tools_bin().into_iter();
    let path = env::var_os("PATH").unwrap_or_default();
    ours.chain(env::split_paths(&path))
        .map(|dir| dir.join("bpf-linker"))
        .find(|file| file.is_file())
}

/// The directory of everything that set-up installs outside the package manager's reach.
pub(crate) fn cache() -> Option<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("TRACER_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("tracer")))
        .or_else(|| env::home_dir().map(|home| home.join(".cache/tracer")))
}

/// Where set-up puts programs.
pub(crate) fn tools_bin() -> Option<PathBuf> {
    cache().map(|cache| cache.join("tools/bin"))
}

/// `/usr/bin/rustc`, or one with a version in its name, whose sysroot has the target.
fn distribution_compiler() -> Option<Compiler> {
    let bin = Path::new("/usr/bin");
    let mut versions: Vec<OsString> = names_in(bin)
        .into_iter()
        .filter_map(|name| Some(name.to_str()?.strip_prefix("rustc")?.to_owned().into()))
        .filter(|version: &OsString| version.is_empty() || version.as_encoded_bytes()[0] == b'-')
        .collect();
    versions.sort();
    versions.into_iter().find_map(|version| {
        let tool = |name: &str| {
            let mut file = OsString::from(name);
            file.push(&version);
            Some(bin.join(file)).filter(|path| path.is_file())
        };
        let (rustc, cargo) = (tool("rustc")?, tool("cargo")?);
        let library = sysroot(&rustc)?.join("lib/rustlib").join(TARGET);
        library.is_dir().then_some(Compiler {
            cargo,
            rustc,
            core: Core::Prebuilt,
        })
    })
}

fn sysroot(rustc: &Path) -> Option<PathBuf> {
    let output = tidy(&mut Command::new(rustc))
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(path.trim_end()))
}

/// The newest installed nightly that has the source of core.
fn nightly_compiler() -> Option<Compiler> {
    let rustup = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".rustup")))?;
    let toolchains = rustup.join("toolchains");
    let mut nightlies = names_in(&toolchains);
    nightlies.retain(|name| name.as_encoded_bytes().starts_with(b"nightly"));
    // Undated ones are updated in place, and sort behind every date.
    nightlies.sort();
    nightlies
        .iter()
        .rev()
        .map(|name| toolchains.join(name))
        .find_map(|toolchain| {
            let source = toolchain.join("lib/rustlib/src/rust/library/core/src/lib.rs");
            let (cargo, rustc) = (toolchain.join("bin/cargo"), toolchain.join("bin/rustc"));
            (source.is_file() && cargo.is_file() && rustc.is_file()).then_some(Compiler {
                cargo,
                rustc,
                core: Core::Source,
            })
        })
}

fn names_in(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect()
}

impl Toolchain {
    /// The command that builds the kernel programs of the workspace at `root` into `target_dir`.
    pub(crate) fn build(&self, root: &Path, target_dir: &Path) -> Command {
        let mut rustflags = OsString::from("-Clinker=");
        rustflags.push(&self.linker);
        rustflags.push("\x1f-Clink-arg=--btf");
        let mut cargo = Command::new(&self.compiler.cargo);
        tidy(&mut cargo)
            .current_dir(root)
            .args([
                "build",
                "--profile",
                PROFILE,
                "--locked",
                "--package",
                "tracer-ebpf",
                "--target",
                TARGET,
            ])
            .arg("--target-dir")
            .arg(target_dir)
            .env("RUSTC", &self.compiler.rustc)
            // The target, and the crates for it, need features that a stable compiler hides.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags);
        if self.compiler.core == Core::Source {
            cargo.arg("-Zbuild-std=core");
        }
        cargo
    }
}

/// Keeps what an outer cargo set for its own compiler away from another toolchain. How to reach
/// the registry stays.
fn tidy(command: &mut Command) -> &mut Command {
    const KEPT: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_TERM_",
    ];
    const OTHERS: [&str; 11] = [
        "DEBUG",
        "HOST",
        "LD_LIBRARY_PATH",
        "MAKEFLAGS",
        "MFLAGS",
        "NUM_JOBS",
        "OPT_LEVEL",
        "OUT_DIR",
        "PROFILE",
        "RUSTUP_TOOLCHAIN",
        "TARGET",
    ];
    for (name, _) in env::vars_os() {
        let begins = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
        let cargos = begins("CARGO") && !KEPT.iter().any(|prefix| begins(prefix));
        let rustcs = begins("RUSTC") || begins("RUSTDOC") || begins("RUSTFLAGS");
        if cargos || rustcs || OTHERS.iter().any(|other| name == OsStr::new(other)) {
            command.env_remove(&name);
        }
    }
    command
}
