//! What a process runs, from the strings of its exec.
//!
//! In: an [`Exec`] event that borrows a record. Out: a [`Program`] that owns its strings.

use bytes::Bytes;

use super::image::Program;
use crate::event::Exec;

impl Program {
    /// The program that an exec starts.
    pub(super) fn executed(exec: &Exec<'_>) -> Self {
        Program {
            executable: executable(exec),
            file: Some(exec.file),
            executable_truncated: exec.path_truncated,
            memfd: exec.memfd,
            deleted: exec.deleted,
            arguments: (!exec.args_unreadable).then(|| Bytes::copy_from_slice(exec.args)),
            arguments_truncated: exec.args_truncated,
            working_directory: working_directory(exec),
        }
    }
}

/// A memfd has a name but no directory: `memfd:NAME`, which is its name in the kernel, too.
fn executable(exec: &Exec<'_>) -> Bytes {
    if exec.memfd {
        let name = exec.path.strip_suffix(b"\0").unwrap_or(exec.path);
        return Bytes::copy_from_slice(name);
    }
    path(exec.path, exec.path_truncated)
}

/// Only the root directory has no components; if it is marked as truncated, nothing is known of it.
fn working_directory(exec: &Exec<'_>) -> Bytes {
    if exec.cwd.is_empty() && !exec.cwd_truncated {
        return Bytes::from_static(b"/");
    }
    path(exec.cwd, exec.cwd_truncated)
}

/// `curl\0bin\0usr\0` as `/usr/bin/curl`; a truncated path lacks the slash at its beginning.
fn path(components: &[u8], truncated: bool) -> Bytes {
    let mut path = Vec::with_capacity(components.len() + 1);
    let components = components.strip_suffix(b"\0").unwrap_or(components);
    if components.is_empty() {
        return Bytes::new();
    }
    for component in components.rsplit(|&byte| byte == 0) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    if truncated {
        path.remove(0);
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FileId, Name, Task};

    fn exec<'a>(path: &'a [u8], cwd: &'a [u8]) -> Exec<'a> {
        let task = Task {
            tgid: 1,
            tid: 1,
            start_ns: Some(1),
            euid: Some(0),
            kernel_thread: false,
            name: Name::default(),
        };
        Exec {
            cwd,
            args: b"curl\0-s\0",
            file: FileId {
                device: 1,
                inode: 2,
            },
            ..Exec::of(task, path)
        }
    }

    #[test]
    fn components_become_a_path() {
        let program = Program::executed(&exec(b"curl\0bin\0usr\0", b"root\0"));
        assert_eq!(program.executable, "/usr/bin/curl");
        assert_eq!(program.working_directory, "/root");
        assert_eq!(program.arguments.as_deref(), Some(&b"curl\0-s\0"[..]));
        assert_eq!(
            program.file,
            Some(FileId {
                device: 1,
                inode: 2
            })
        );
    }

    #[test]
    fn path_without_its_beginning_does_not_look_absolute() {
        let cut = Exec {
            path_truncated: true,
            ..exec(b"curl\0bin\0", b"")
        };
        assert_eq!(Program::executed(&cut).executable, "bin/curl");
    }

    #[test]
    fn root_is_a_working_directory_and_an_unknown_one_is_empty() {
        assert_eq!(
            Program::executed(&exec(b"init\0", b"")).working_directory,
            "/"
        );
        let unknown = Exec {
            cwd_truncated: true,
            ..exec(b"init\0", b"")
        };
        assert_eq!(Program::executed(&unknown).working_directory, "");
    }

    #[test]
    fn unknown_executable_is_empty() {
        assert_eq!(Program::executed(&exec(b"", b"")).executable, "");
    }

    #[test]
    fn memfd_has_a_name_but_no_directory() {
        let memfd = Exec {
            memfd: true,
            ..exec(b"memfd:payload\0", b"")
        };
        assert_eq!(Program::executed(&memfd).executable, "memfd:payload");
    }

    #[test]
    fn unreadable_arguments_are_not_an_empty_list() {
        let unreadable = Exec {
            args_unreadable: true,
            ..exec(b"sh\0", b"")
        };
        assert_eq!(Program::executed(&unreadable).arguments, None);
    }
}
