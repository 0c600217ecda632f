//! What the names of a process say: of its program, of itself (`comm`) and of its first argument.
//!
//! In: a process that executes something. Out: whom it resembles or claims to be, and what kind of program that is. Hosts execute
//! the same few programs all the time, so that what was said once is remembered.

use std::sync::LazyLock;

use hashlink::LruCache;

use super::known_names::{INTERPRETERS, KERNEL_THREADS, SYSTEM, TOOLS, is_one_of};
use super::places::{executable_name, program_name};
use crate::process::image::Image;

/// How many combinations of names are remembered.
const REMEMBERED: usize = 4096;

/// What the names of a process say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The known name that its program's name resembles and is not.
    pub(super) resembles: Option<&'static str>,
    /// The kernel thread that it claims to be.
    pub(super) thread: Option<&'static str>,
    /// The daemon that it claims to be.
    pub(super) daemon: Option<&'static str>,
    /// Its program is what an intruder starts first.
    pub(super) is_tool: bool,
    /// Its program takes commands from its input.
    pub(super) is_interpreter: bool,
}

/// Remembers what names say.
pub(super) struct Names {
    said: LruCache<Box<[u8]>, Said, foldhash::fast::FixedState>,
    /// The names that are asked for, each ended by a NUL.
    key: Vec<u8>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self {
            said: LruCache::with_hasher(REMEMBERED, Default::default()),
            key: Vec::new(),
        }
    }

    /// What the names of a process say.
    pub(super) fn of(&mut self, process: &Image) -> Said {
        let names = [
            executable_name(&process.program),
            program_name(&process.program),
            first_argument(process),
            process.name.as_bytes(),
        ];
        self.key.clear();
        for name in names {
            self.key.extend_from_slice(name);
            self.key.push(0);
        }
        if let Some(said) = self.said.get(&self.key[..]) {
            return *said;
        }
        let said = read(names);
        self.said.insert(self.key.as_slice().into(), said);
        said
    }
}

fn first_argument(process: &Image) -> &[u8] {
    let arguments = process.program.arguments.as_deref().unwrap_or_default();
    arguments
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default()
}

fn read([executable, program, first, name]: [&[u8]; 4]) -> Said {
    Said {
        resembles: resembled(program),
        thread: kernel_thread(name, first),
        daemon: daemon(program, first),
        is_tool: is_one_of(&TOOLS, executable),
        is_interpreter: is_one_of(&INTERPRETERS, executable),
    }
}

/// The known name that `name` resembles and is not.
pub(super) fn resembled(name: &[u8]) -> Option<&'static str> {
    const LENGTH_MIN: usize = 5;
    let name = std::str::from_utf8(name).ok()?;
    if name.len() < LENGTH_MIN || SYSTEM.contains(&name) {
        return None;
    }
    static SKELETONS: LazyLock<[String; SYSTEM.len()]> = LazyLock::new(|| SYSTEM.map(skeleton));
    let own = skeleton(name);
    let known = SYSTEM.into_iter().zip(SKELETONS.iter());
    let mut known = known.filter(|(known, _)| known.len() >= LENGTH_MIN);
    let found = known.find(|(known, skeleton)| {
        // A distance of one cannot change the length by more.
        let is_near = known.len().abs_diff(name.len()) <= 1
            && !is_version_of(name, known)
            && strsim::osa_distance(name, known) == 1;
        is_near || **skeleton == own
    });
    found.map(|(known, _)| known)
}

/// What all names have in common that look the same (Unicode TR 39).
fn skeleton(name: &str) -> String {
    unicode_security::skeleton(name).collect()
}

/// Whether they differ in digits at most, as `python3` and `python4` do.
fn is_version_of(name: &str, known: &str) -> bool {
    let bare = |name: &str| name.replace(|letter: char| letter.is_ascii_digit(), "");
    bare(name) == bare(known)
}

/// The kernel thread that a process claims to be.
fn kernel_thread(name: &[u8], first_argument: &[u8]) -> Option<&'static str> {
    let is_named = |name: &[u8], thread: &str| {
        let rest = name.strip_prefix(thread.as_bytes());
        rest.is_some_and(|rest| {
            rest.first()
                .is_none_or(|next| !next.is_ascii_alphanumeric())
        })
    };
    // Brackets are how ps shows a thread without arguments.
    let bracketed = first_argument.strip_prefix(b"[").unwrap_or_default();
    KERNEL_THREADS
        .into_iter()
        .find(|thread| is_named(name, thread) || is_named(bracketed, thread))
}

/// The daemon that a process says it is, by its program's name or its first argument.
fn daemon(program: &[u8], first_argument: &[u8]) -> Option<&'static str> {
    let path = first_argument.split(|&byte| byte == b' ').next();
    let first = path.and_then(|path| path.rsplit(|&byte| byte == b'/').next());
    let names = [Some(program), first];
    names
        .into_iter()
        .flatten()
        .find_map(|name| SYSTEM.into_iter().find(|known| known.as_bytes() == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_one_letter_away_resembles_another() {
        for (name, known) in [
            ("systemd-jounald", "systemd-journald"),
            ("sytsemd", "systemd"),
            ("nginix", "nginx"),
            ("containerd-shin", "containerd-shim"),
            // A Cyrillic letter, and a digit in place of a letter.
            ("d\u{43e}ckerd", "dockerd"),
            ("conta1nerd", "containerd"),
        ] {
            assert_eq!(resembled(name.as_bytes()), Some(known), "{name}");
        }
    }

    #[test]
    fn other_names_do_not() {
        for name in [
            "systemd",
            "python4",
            "sh",
            "cron",
            "postgrest-api",
            "myserver",
            "sshd",
        ] {
            assert_eq!(resembled(name.as_bytes()), None, "{name}");
        }
        assert_eq!(resembled(b"systemd-jou\xffnald"), None);
    }

    #[test]
    fn a_thread_is_claimed_by_its_whole_name() {
        for (name, first, thread) in [
            ("kworker/0:1", "", Some("kworker")),
            ("a", "[kthreadd]", Some("kthreadd")),
            ("migrate", "migrate", None),
            ("kworkers", "[kworkers]", None),
        ] {
            let claimed = kernel_thread(name.as_bytes(), first.as_bytes());
            assert_eq!(claimed, thread, "{name} {first}");
        }
    }

    #[test]
    fn what_is_remembered_is_what_was_said() {
        let mut names = Names::new();
        let process = Image::sample(1, b"kworker/0:1");
        let said = names.of(&process);
        assert_eq!(said.thread, Some("kworker"));
        assert_eq!(names.of(&process), said);
    }
}
