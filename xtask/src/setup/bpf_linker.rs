//! bpf-linker, built against the LLVM that the compiler for BPF was built with: it must read that
//! compiler's bitcode.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Item, Scope, apt, compiler, tools};
use crate::{command, ebpf_toolchain};

const VERSION: &str = "0.13.0";

pub(super) fn item() -> Item {
    Item {
        name: format!("bpf-linker {VERSION}"),
        scope: Scope::Build,
        find: Box::new(find),
        install: Box::new(|| install(llvm()?)),
        by_hand: Box::new(|| by_hand(llvm().ok())),
    }
}

/// Ours if it was built for the compiler's LLVM; one that somebody else has put into place is
/// taken at its word, if it runs.
fn find() -> Option<String> {
    let linker = ebpf_toolchain::find_linker()?;
    let real = linker.canonicalize().ok()?;
    if linker.is_symlink() && real.starts_with(ebpf_toolchain::cache()?.canonicalize().ok()?) {
        let expected = place(llvm().ok()?);
        real.components()
            .find(|component| component.as_os_str() == expected.as_str())?;
    }
    command::output(Command::new(&linker).arg("--version")).ok()?;
    Some(linker.display().to_string())
}

fn llvm() -> Result<u32> {
    let compiler = ebpf_toolchain::find_compiler().context("no Rust with a core for BPF")?;
    compiler::llvm_major(&compiler.rustc)
}

fn place(llvm: u32) -> String {
    format!("bpf-linker-{VERSION}-llvm-{llvm}")
}

fn prefix(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

fn has_llvm(llvm: u32) -> bool {
    Path::new(&prefix(llvm)).join("lib/libLLVM.so").exists()
}

fn arguments(llvm: u32) -> Vec<String> {
    [
        "--no-default-features".into(),
        "--features".into(),
        format!("llvm-{llvm}"),
    ]
    .into()
}

fn install(llvm: u32) -> Result<()> {
    if !has_llvm(llvm) {
        let package = format!("llvm-{llvm}-dev");
        if !apt::is_here() {
            bail!(
                "no LLVM {llvm} in {}, and no apt-get to install it: install LLVM {llvm} by this \
                 system's own means, then  {}",
                prefix(llvm),
                by_hand(Some(llvm)).join("; ")
            );
        }
        apt::install(&[package])?;
    }
    let environment = [
        ("LLVM_PREFIX", prefix(llvm)),
        // LLVM does the work: optimizing the rest takes longer than it ever saves.
        ("CARGO_PROFILE_RELEASE_DEBUG", "0".to_owned()),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0".to_owned()),
    ];
    tools::cargo_install(
        "bpf-linker",
        VERSION,
        &place(llvm),
        &arguments(llvm),
        &environment,
    )
}

fn by_hand(llvm: Option<u32>) -> Vec<String> {
    let Some(llvm) = llvm else {
        return vec!["cargo xtask setup    # once the compiler is there: its LLVM decides".into()];
    };
    let mut lines = Vec::new();
    if apt::is_here() && !has_llvm(llvm) {
        lines.push(apt::by_hand(&[format!("llvm-{llvm}-dev")]));
    }
    lines.push(format!(
        "LLVM_PREFIX={} cargo install bpf-linker --locked --version ={VERSION} {}",
        prefix(llvm),
        arguments(llvm).join(" ")
    ));
    lines
}
