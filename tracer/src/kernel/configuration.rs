//! How the running kernel was configured, as far as it matters to the tracer.
//!
//! In: `/proc/config.gz` or `/boot/config-RELEASE`. Out: the value of each option in [`OPTIONS`].

use std::{fs, io::Read as _, path::Path};

use flate2::read::GzDecoder;
use serde::Serialize;

/// More than any configuration has, in bytes: what claims to be longer is not one.
const LONGEST: u64 = 16 << 20;

/// Options that matter, and what for.
const OPTIONS: [(&str, &str); 14] = [
    ("CONFIG_BPF_SYSCALL", "kernel programs at all"),
    ("CONFIG_BPF_EVENTS", "programs on tracepoints and functions"),
    ("CONFIG_BPF_JIT", "fentry mode"),
    ("CONFIG_DEBUG_INFO_BTF", "where members of structures lie"),
    ("CONFIG_FUNCTION_TRACER", "fentry mode"),
    ("CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "fentry mode"),
    ("CONFIG_KPROBES", "kprobe mode"),
    ("CONFIG_KRETPROBES", "kprobe mode, returns of functions"),
    ("CONFIG_KPROBE_EVENTS", "kprobe mode, attaching"),
    ("CONFIG_CGROUP_BPF", "tracepoint mode, connect and accept"),
    ("CONFIG_FTRACE_SYSCALLS", "tracepoint mode, accept"),
    ("CONFIG_SECURITYFS", "lets lockdown and policies be read"),
    ("CONFIG_SECURITY_LOCKDOWN_LSM", "may refuse kernel reads"),
    ("CONFIG_BPF_LSM", "lets programs of others refuse ours"),
];

/// The configuration that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Configuration {
    /// The file that it is from.
    pub source: String,
    /// The options that matter.
    pub options: Vec<KernelOption>,
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KernelOption {
    /// Its name, e.g. `CONFIG_KPROBES`.
    pub name: &'static str,
    /// `y`, `m`, a number or a string; `None` if it is not set.
    pub value: Option<String>,
    /// What it is for.
    pub purpose: &'static str,
}

impl Configuration {
    /// That of the running kernel, whose release is `release`; `None` where it cannot be read.
    pub fn of_running_kernel(release: &str) -> Option<Self> {
        let boot = format!("/boot/config-{release}");
        let module = format!("/lib/modules/{release}/config");
        let compressed = (
            "/proc/config.gz",
            read_compressed("/proc/config.gz".as_ref()),
        );
        let plain = |path| (path, fs::read_to_string(path).ok());
        [compressed, plain(boot.as_str()), plain(module.as_str())]
            .into_iter()
            .find_map(|(path, text)| Some(Self::parse(path, &text?)))
    }

    fn parse(source: &str, text: &str) -> Self {
        let options = OPTIONS.iter().map(|&(name, purpose)| KernelOption {
            name,
            value: value(text, name),
            purpose,
        });
        Self {
            source: source.to_owned(),
            options: options.collect(),
        }
    }

    /// Whether an option is set, to whatever.
    pub fn has(&self, name: &str) -> bool {
        let mut options = self.options.iter();
        options.any(|option| option.name == name && option.value.is_some())
    }
}

fn read_compressed(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    GzDecoder::new(file)
        .take(LONGEST)
        .read_to_string(&mut text)
        .ok()?;
    Some(text)
}

/// The value of an option in a `.config` file: `NAME=value`, or `# NAME is not set`.
fn value(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    (value != "n").then(|| value.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_are_set_are_told_from_those_that_are_not() {
        let text = "\
# Linux/x86 6.12
CONFIG_BPF_SYSCALL=y
CONFIG_BPF_JIT_ALWAYS_ON=y
# CONFIG_KPROBES is not set
CONFIG_BPF_LSM=n
CONFIG_CGROUP_BPF=m
";
        let configuration = Configuration::parse("/boot/config-6.12", text);
        assert!(configuration.has("CONFIG_BPF_SYSCALL"));
        assert!(configuration.has("CONFIG_CGROUP_BPF"));
        // A longer name that begins likewise is another option.
        for unset in ["CONFIG_BPF_JIT", "CONFIG_KPROBES", "CONFIG_BPF_LSM"] {
            assert!(!configuration.has(unset), "{unset}");
        }
        assert_eq!(
            value("CONFIG_LSM=\"lockdown,bpf\"\n", "CONFIG_LSM").as_deref(),
            Some("lockdown,bpf")
        );
    }

    #[test]
    fn a_compressed_configuration_is_read_and_a_damaged_one_is_not() {
        use std::io::Write as _;
        let path = std::env::temp_dir().join(format!("tracer-config-{}.gz", std::process::id()));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"CONFIG_KPROBES=y\n").unwrap();
        let compressed = encoder.finish().unwrap();
        fs::write(&path, &compressed).unwrap();
        assert_eq!(
            read_compressed(&path).as_deref(),
            Some("CONFIG_KPROBES=y\n")
        );
        fs::write(&path, &compressed[..compressed.len() - 9]).unwrap();
        assert_eq!(read_compressed(&path), None);
        fs::remove_file(&path).unwrap();
    }
}
