//! With what instructions were counted. A newer kernel or compiler needs others for the same work, so that
//! a count says something about a change of ours only beside one that was made with the same.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use toml::Value;

use crate::setup::kernels::Kernel;
use crate::vm::qemu;
use crate::{command, ebpf_toolchain};

/// Versions by what they are of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions(BTreeMap<String, String>);

impl Conditions {
    /// Those of a guest on this kernel.
    pub(crate) fn of_guest(kernel: &Kernel) -> Result<Self> {
        let ebpf_compiler =
            ebpf_toolchain::find_compiler().context("no Rust with a core for BPF")?;
        let rustc_of_ebpf = Command::new(ebpf_compiler.rustc);
        Ok(Self::collect([
            ("kernel", kernel.version()),
            ("qemu", version(qemu::program())?),
            ("rustc", version(Command::new("rustc"))?),
            ("rustc_of_ebpf", version(rustc_of_ebpf)?),
        ]))
    }

    /// Those of a replay under callgrind. Valgrind shows the same made-up processor on every machine with
    /// AVX2, and libc chooses its memcpy by what it is shown; with an older one, a line of JSON costs 3 %
    /// more.
    pub(crate) fn of_replay() -> Result<Self> {
        let processor = fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?;
        let has_avx2 = processor.split_whitespace().any(|flag| flag == "avx2");
        Ok(Self::collect([
            ("libc", version(Command::new("ldd"))?),
            (
                "processor",
                if has_avx2 { "AVX2" } else { "no AVX2" }.to_owned(),
            ),
            ("rustc", version(Command::new("rustc"))?),
            ("valgrind", version(Command::new("valgrind"))?),
        ]))
    }

    /// Those that a table of a budget names; none, if it names none.
    pub(crate) fn parse(table: Option<&Value>) -> Self {
        let table = table.and_then(Value::as_table).into_iter().flatten();
        let strings =
            table.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        Self(strings.collect())
    }

    /// As an inline table.
    pub(crate) fn text(&self) -> String {
        let pairs = self
            .0
            .iter()
            .map(|(name, version)| format!("{name} = \"{version}\""));
        format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
    }

    /// What is different from when the budget was recorded, for people; `None` if nothing is.
    pub(crate) fn changes(&self, recorded: &Self) -> Option<String> {
        let changes = self.0.iter().filter_map(|(name, now)| {
            let before = recorded.0.get(name);
            let before = before.map_or("unknown", String::as_str);
            (before != now).then(|| format!("{name} {now} instead of {before}"))
        });
        let changes: Vec<String> = changes.collect();
        (!changes.is_empty()).then(|| changes.join(", "))
    }

    fn collect<const N: usize>(versions: [(&str, String); N]) -> Self {
        Self(
            versions
                .map(|(name, version)| (name.to_owned(), version))
                .into(),
        )
    }
}

/// The first two numbers of what a program calls its version: the third is for corrections.
fn version(mut program: Command) -> Result<String> {
    let name = command::display(&program);
    let said = command::text(program.arg("--version"))?;
    major_and_minor(&said).with_context(|| format!("{name} names no version: {said}"))
}

fn major_and_minor(said: &str) -> Option<String> {
    said.lines().next()?.split_whitespace().find_map(|word| {
        let word = word.trim_start_matches(|c: char| !c.is_ascii_digit());
        let mut numbers = word.split(|c: char| !c.is_ascii_digit());
        let mut number = || numbers.next().filter(|number| !number.is_empty());
        Some(format!("{}.{}", number()?, number()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_the_first_word_with_two_numbers() {
        for (said, version) in [
            (
                "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n2003\n",
                "7.2",
            ),
            ("valgrind-3.19.0", "3.19"),
            ("ldd (Debian GLIBC 2.36-9+deb12u14) 2.36", "2.36"),
            ("rustc 1.95.0 (59807616e 2026-04-14)", "1.95"),
        ] {
            assert_eq!(major_and_minor(said).as_deref(), Some(version));
        }
        assert_eq!(major_and_minor("no version 7"), None);
    }

    #[test]
    fn what_has_changed_is_named_with_what_it_was() {
        let [before, now] = ["1.95", "1.96"].map(|rustc| {
            Conditions::collect([("kernel", "6.12".to_owned()), ("rustc", rustc.to_owned())])
        });
        assert_eq!(
            now.changes(&before).as_deref(),
            Some("rustc 1.96 instead of 1.95")
        );
        assert_eq!(now.changes(&now), None);
        let unknown = now.changes(&Conditions::default()).unwrap();
        assert!(
            unknown.starts_with("kernel 6.12 instead of unknown"),
            "{unknown}"
        );
    }
}
