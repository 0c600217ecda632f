//! `cargo xtask setup`: finds or installs what a build and the tests need. A table of items; each
//! knows how to find itself, how to be installed, and what one would type instead. Whatever is
//! installed outside the package manager appears in the cache by one rename, so that an interrupted
//! run leaves nothing half-done.

use std::fs::File;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::{command, paths};

mod apt;
mod bpf_linker;
mod cargo_deb;
mod cargo_deny;
mod compiler;
mod debian;
pub(crate) mod kernels;
pub(crate) mod peers;
mod programs;
mod prometheus;
mod qemu;
mod tools;
mod valgrind;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Also what `cargo xtask deb` needs: cargo-deb
    #[arg(long)]
    packages: bool,
    /// Also what `cargo xtask test` needs: QEMU, kernels, Prometheus
    #[arg(long)]
    tests: bool,
    /// Also what `cargo xtask bench` needs: Valgrind
    #[arg(long)]
    bench: bool,
    /// What `cargo xtask bench peers` needs beside the tests: other people's tracers
    #[arg(long)]
    peers: bool,
    /// All of it but those: what `cargo xtask ci` needs
    #[arg(long)]
    ci: bool,
}

impl Options {
    fn scopes(&self) -> Vec<Scope> {
        let asked = [
            (self.packages, Scope::Packages),
            (self.tests, Scope::Tests),
            (self.bench, Scope::Bench),
            (self.peers, Scope::Peers),
            (self.ci, Scope::Ci),
        ];
        let asked = asked.into_iter().filter(|(is_asked, _)| *is_asked);
        [Scope::Build]
            .into_iter()
            .chain(asked.map(|(_, scope)| scope))
            .collect()
    }
}

/// How much is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Build,
    /// What `cargo xtask deb` makes packages with.
    Packages,
    /// And those are tested.
    Tests,
    Bench,
    Peers,
    /// Everything but other people's tracers.
    Ci,
}

impl Scope {
    fn includes(self, other: Self) -> bool {
        match self {
            Self::Ci => other != Self::Peers,
            Self::Tests => matches!(other, Self::Build | Self::Packages | Self::Tests),
            _ => other == Self::Build || other == self,
        }
    }
}

/// Something to find or install.
struct Item {
    name: String,
    scope: Scope,
    /// Where it is, or `None` if it is missing.
    find: Box<dyn Fn() -> Option<String>>,
    install: Box<dyn Fn() -> Result<()>>,
    /// The commands that do it by hand.
    by_hand: Box<dyn Fn() -> Vec<String>>,
}

/// All items, in the order in which they need each other.
fn items() -> Vec<Item> {
    let mut items = vec![
        compiler::item(),
        bpf_linker::item(),
        programs::item(),
        qemu::item(),
        prometheus::item(),
    ];
    items.extend(kernels::items());
    items.push(cargo_deb::item());
    items.push(valgrind::item());
    items.push(cargo_deny::item());
    items.push(peers::item());
    items
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let begin = Instant::now();
    let scopes = options.scopes();
    let is_wanted = |item: &&Item| scopes.iter().any(|scope| scope.includes(item.scope));
    for item in items().iter().filter(is_wanted) {
        if let Some(place) = (item.find)() {
            eprintln!("xtask: {}: already there ({place})", item.name);
        }
    }
    for scope in scopes {
        ensure(scope, true)?;
    }
    eprintln!(
        "xtask: set-up complete in {}",
        command::seconds(begin.elapsed())
    );
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing, or if that is not `allowed` says what to type.
pub(crate) fn ensure(scope: Scope, allowed: bool) -> Result<()> {
    let mut missing = items();
    missing.retain(|item| scope.includes(item.scope) && (item.find)().is_none());
    if missing.is_empty() {
        return Ok(());
    }
    if !allowed {
        bail!("{}", by_hand(scope, &missing));
    }
    let _lock = lock()?;
    tools::remove_partial()?;
    for item in &missing {
        // Another run may have installed it while this one waited.
        if (item.find)().is_none() {
            command::step(&format!("installing {}", item.name), &item.install)?;
        }
        if (item.find)().is_none() {
            bail!("{} was installed, but is still not found", item.name);
        }
    }
    debian::remove_lists()
}

fn by_hand(scope: Scope, missing: &[Item]) -> String {
    let option = match scope {
        Scope::Build => "",
        Scope::Packages => " --packages",
        Scope::Tests => " --tests",
        Scope::Bench => " --bench",
        Scope::Peers => " --peers",
        Scope::Ci => " --ci",
    };
    let mut message = format!(
        "something is missing, and --no-setup forbids to install it.\n\
         All of it:\n\n  cargo xtask setup{option}\n\nOne by one:\n"
    );
    // Items that the same commands install stand together.
    let mut groups: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for item in missing {
        let lines = (item.by_hand)();
        match groups.last_mut() {
            Some((names, same)) if *same == lines => names.push(&item.name),
            _ => groups.push((vec![&item.name], lines)),
        }
    }
    for (names, lines) in groups {
        message += &format!("\n  # {}\n  {}\n", names.join(", "), lines.join("\n  "));
    }
    message
}

/// One set-up at a time; the lock ends with the process, however it ends.
fn lock() -> Result<File> {
    let path = paths::cache()?.join("lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("xtask: waiting for another set-up to finish");
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::Scope;

    #[test]
    fn ci_needs_everything_but_other_peoples_tracers() {
        for scope in [
            Scope::Build,
            Scope::Packages,
            Scope::Tests,
            Scope::Bench,
            Scope::Ci,
        ] {
            assert!(Scope::Ci.includes(scope));
        }
        assert!(!Scope::Ci.includes(Scope::Peers));
        assert!(Scope::Peers.includes(Scope::Peers) && Scope::Peers.includes(Scope::Build));
    }
}
