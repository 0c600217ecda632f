//! Builds the kernel programs for the BPF target with a toolchain of their own. Out comes
//! `TRACER_EBPF_OBJECT`, the path of the object that the daemon embeds.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../xtask/src/ebpf_toolchain.rs"]
mod ebpf_toolchain;

fn main() {
    for source in ["tracer-ebpf", "tracer-common"] {
        println!("cargo::rerun-if-changed=../{source}/src");
        println!("cargo::rerun-if-changed=../{source}/Cargo.toml");
    }
    println!("cargo::rerun-if-changed=../Cargo.lock");
    println!("cargo::rerun-if-changed=../xtask/src/ebpf_toolchain.rs");
    println!("cargo::rerun-if-env-changed=TRACER_CACHE");
    match build() {
        Ok(object) => println!("cargo::rustc-env=TRACER_EBPF_OBJECT={}", object.display()),
        // One line each, or cargo takes what follows for something else.
        Err(message) => message
            .lines()
            .for_each(|line| println!("cargo::error={line}")),
    }
}

fn build() -> Result<PathBuf, String> {
    let toolchain = ebpf_toolchain::find().map_err(|missing| missing.to_string())?;
    println!("cargo::rerun-if-changed={}", toolchain.linker.display());
    println!(
        "cargo::rerun-if-changed={}",
        toolchain.compiler.rustc.display()
    );

    let variable = |name| env::var_os(name).ok_or(format!("{name} is not set: not run by cargo"));
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    let manifest_dir = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let root = manifest_dir.parent().unwrap_or(Path::new(".."));
    let target_dir = shared_directory(&out_dir);

    let mut command = toolchain.build(root, &target_dir);
    let output = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let compiler = toolchain.compiler.rustc.display();
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "the kernel programs do not build with {compiler}:\n{said}"
        ));
    }
    // Ours to keep: another profile's build may replace the shared one.
    let built = target_dir
        .join(ebpf_toolchain::TARGET)
        .join(ebpf_toolchain::PROFILE)
        .join("tracer");
    let object = out_dir.join("tracer.bpf.o");
    fs::copy(&built, &object).map_err(|error| format!("copying {}: {error}", built.display()))?;
    Ok(object)
}

/// One directory for all profiles, since they build the same: `ebpf` in cargo's target directory,
/// of which `OUT_DIR` is PROFILE/build/PACKAGE/out.
fn shared_directory(out_dir: &Path) -> PathBuf {
    let build = out_dir
        .ancestors()
        .find(|ancestor| ancestor.ends_with("build"));
    let target = build.and_then(|build| build.parent()?.parent());
    target.unwrap_or(out_dir).join("ebpf")
}
