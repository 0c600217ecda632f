//! What a process calls itself, against what it runs.
//!
//! In: an image. Out: the names that disagree with the facts. A name is anyone's to choose: `comm` by
//! `prctl`, the first argument by whoever calls exec. The file is not, nor the path by which exec found
//! it, of which the kernel makes the first `comm`: that is how `sh` can be a name of `dash`.

use super::image::{Image, Program};
use crate::event::Name;

/// Names that disagree with what a process runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disagreements {
    /// `comm` is the name neither of the file nor of the path that was executed.
    pub name: bool,
    /// Neither is the first argument.
    pub first_argument: bool,
}

impl Image {
    /// The names that disagree with what it runs, as far as that is known.
    pub fn disagreements(&self) -> Disagreements {
        if self.kernel_thread {
            return Disagreements::default();
        }
        self.program.disagreements(self.name.as_bytes())
    }
}

impl Program {
    /// The names that disagree with it, if the one that runs it is called `name`.
    pub(crate) fn disagreements(&self, name: &[u8]) -> Disagreements {
        if self.executable.is_empty() || self.executable_truncated {
            return Disagreements::default();
        }
        // That of a script is its interpreter, from its first line.
        let first = self.first_argument().map(claimed);
        let first = first.filter(|_| self.script.is_empty());
        if self.invoked_as.as_bytes().is_empty() {
            // How it was started was not seen. A link would explain one name under two headings.
            let linked = first.is_some_and(|first| is_comm(name, first));
            return Disagreements {
                name: !linked && !self.is_named(name),
                first_argument: !linked && first.is_some_and(|first| !self.is_named(first)),
            };
        }
        Disagreements {
            name: !self.is_named(name),
            first_argument: first.is_some_and(|first| !self.is_named(first)),
        }
    }

    /// Of the names by which it can have been executed, the first with which `name` and its first argument
    /// disagree as they did. A name that nobody saw comes first.
    pub(crate) fn invoked(mut self, name: &[u8], disagreed: Disagreements) -> Self {
        const COMM: usize = 15;
        let first = self.first_argument().map(claimed).unwrap_or_default();
        let candidates = [b"", base_name(&self.executable), name, first];
        let candidates = candidates.map(|candidate| {
            let mut comm = [0; 16];
            let length = candidate.len().min(COMM);
            comm[..length].copy_from_slice(&candidate[..length]);
            Name(comm)
        });
        for candidate in candidates {
            self.invoked_as = candidate;
            if self.disagreements(name) == disagreed {
                return self;
            }
        }
        self.invoked_as = Name::default();
        self
    }

    fn first_argument(&self) -> Option<&[u8]> {
        let arguments = self.arguments.as_deref()?;
        arguments
            .split(|&byte| byte == 0)
            .next()
            .filter(|first| !first.is_empty())
    }

    /// Whether `name`, whole or cut as `comm` is, is that of the file, of the script or of the path that
    /// was executed.
    fn is_named(&self, name: &[u8]) -> bool {
        let executable = self
            .executable
            .strip_prefix(b"memfd:")
            .filter(|_| self.memfd);
        let executable = executable.unwrap_or(&self.executable);
        is_comm(name, base_name(executable))
            || is_comm(name, self.invoked_as.as_bytes())
            || is_comm(self.invoked_as.as_bytes(), name)
            || is_comm(name, base_name(&self.script))
    }
}

/// What the first argument says that the program is: a login shell has a dash before its name.
fn claimed(first: &[u8]) -> &[u8] {
    base_name(first.strip_prefix(b"-").unwrap_or(first))
}

/// What follows the last slash of a path.
pub fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// Whether `name` is `whole`, or the first 15 bytes of it, which is what the kernel keeps as `comm`.
fn is_comm(name: &[u8], whole: &[u8]) -> bool {
    const COMM: usize = 15;
    !name.is_empty() && (name == whole || name.len() == COMM && whole.starts_with(name))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    /// Whether name and first argument disagree. Without an `invoked_as` the exec was not seen.
    fn disagree(executable: &str, invoked_as: &str, name: &str, first: &str) -> (bool, bool) {
        let of = |text: &str| Image::sample(1, text.as_bytes()).name;
        let program = Program {
            executable: Bytes::copy_from_slice(executable.as_bytes()),
            invoked_as: of(invoked_as),
            arguments: Some(Bytes::from(format!("{first}\0-x\0"))),
            ..Program::default()
        };
        let image = Image {
            program: Arc::new(program),
            ..Image::sample(1, name.as_bytes())
        };
        let Disagreements {
            name,
            first_argument,
        } = image.disagreements();
        (name, first_argument)
    }

    #[test]
    fn links_login_shells_and_cut_names_agree() {
        let agree = (false, false);
        assert_eq!(disagree("/usr/bin/curl", "curl", "curl", "curl"), agree);
        assert_eq!(disagree("/usr/bin/dash", "sh", "sh", "sh"), agree);
        assert_eq!(disagree("/usr/bin/bash", "bash", "bash", "-bash"), agree);
        let long = "/usr/libexec/gvfs-udisks2-volume-monitor";
        let (comm, whole) = ("gvfs-udisks2-vo", "gvfs-udisks2-volume-monitor");
        assert_eq!(disagree(long, comm, comm, whole), agree);
    }

    #[test]
    fn chosen_names_disagree() {
        let path = "/tmp/.x/miner";
        assert_eq!(
            disagree(path, "miner", "miner", "[kworker/0:1]"),
            (false, true)
        );
        assert_eq!(disagree(path, "miner", "sshd", "miner"), (true, false));
        assert_eq!(
            disagree(path, "miner", "sshd", "/usr/sbin/sshd"),
            (true, true)
        );
    }

    #[test]
    fn of_a_process_that_was_there_before_a_link_cannot_be_excluded() {
        assert_eq!(disagree("/usr/bin/dash", "", "sh", "sh"), (false, false));
        assert_eq!(disagree("/tmp/miner", "", "sshd", "miner"), (true, false));
        assert_eq!(
            disagree("/tmp/miner", "", "miner", "sshd: root"),
            (false, true)
        );
    }

    #[test]
    fn a_name_of_its_execution_is_found_that_agrees_with_what_was_said() {
        let all = ["", "sh", "dash", "sshd", "curl"];
        let words = |length| {
            (0..all.len().pow(length)).map(move |number| {
                let place = |digit: u32| all[number / all.len().pow(digit) % all.len()];
                [place(0), place(1), place(2)]
            })
        };
        for [invoked_as, name, first] in words(3) {
            let of = |text: &str| Image::sample(1, text.as_bytes()).name;
            let program = Program {
                executable: Bytes::from_static(b"/usr/bin/dash"),
                invoked_as: of(invoked_as),
                arguments: Some(Bytes::from(format!("{first}\0-x\0"))),
                ..Program::default()
            };
            let said = program.disagreements(name.as_bytes());
            let found = program.invoked(name.as_bytes(), said);
            assert_eq!(found.disagreements(name.as_bytes()), said, "{found:?}");
        }
    }

    #[test]
    fn of_what_is_not_known_nothing_is_said() {
        assert_eq!(disagree("", "", "sshd", "sshd"), (false, false));
    }
}
