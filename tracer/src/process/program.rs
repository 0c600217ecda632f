//! What a process runs, from the strings of its exec.
//!
//! In: an [`Exec`] event that borrows a record. Out: a [`Program`] that owns its strings.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes};

use super::image::Program;
use super::secrets::Secrets;
use super::strings::Strings;
use crate::event::Exec;

impl Program {
    /// A program that was there before, without the secrets in its arguments.
    pub(super) fn masked(mut self: Arc<Self>, secrets: &Secrets) -> Arc<Self> {
        let arguments = self.arguments.as_deref().unwrap_or_default();
        if let Some(masked) = secrets.mask(arguments, self.arguments_truncated) {
            let program = Arc::make_mut(&mut self);
            program.arguments = Some(masked.into());
            program.arguments_masked = true;
        }
        self
    }

    /// The program that an exec starts, but for its content, which others may run, too.
    pub(super) fn executed(exec: &Exec<'_>, strings: &mut Strings, secrets: &Secrets) -> Self {
        let masked = secrets.mask(exec.args, exec.args_truncated);
        let arguments = masked.as_deref().unwrap_or(exec.args);
        Program {
            executable: executable(exec, strings),
            file: Some(exec.file),
            content: None,
            upper_layer: exec.upper_layer,
            privileges: exec.privileges,
            script: script(exec, strings),
            script_truncated: exec.script_truncated,
            executable_truncated: exec.path_truncated,
            memfd: exec.memfd,
            deleted: exec.deleted,
            arguments: (!exec.args_unreadable).then(|| copy(arguments, strings)),
            arguments_truncated: exec.args_truncated,
            arguments_masked: masked.is_some(),
            working_directory: working_directory(exec, strings),
            invoked_as: exec.task.name,
            streams: exec.streams,
            over: None,
        }
    }
}

fn copy(bytes: &[u8], strings: &mut Strings) -> Bytes {
    strings.cut(bytes.len(), |out| out.put_slice(bytes))
}

/// A memfd has a name but no directory: `memfd:NAME`, which is its name in the kernel, too.
fn executable(exec: &Exec<'_>, strings: &mut Strings) -> Bytes {
    if exec.memfd {
        return copy(exec.path.strip_suffix(b"\0").unwrap_or(exec.path), strings);
    }
    path(exec.path, exec.path_truncated, strings)
}

/// Only the root directory has no components; if it is marked as truncated, nothing is known of it.
fn working_directory(exec: &Exec<'_>, strings: &mut Strings) -> Bytes {
    if exec.cwd.is_empty() && !exec.cwd_truncated {
        return Bytes::from_static(b"/");
    }
    path(exec.cwd, exec.cwd_truncated, strings)
}

/// `curl\0bin\0usr\0` as `/usr/bin/curl`; a truncated path lacks the slash at its beginning.
fn path(components: &[u8], truncated: bool, strings: &mut Strings) -> Bytes {
    let components = components.strip_suffix(b"\0").unwrap_or(components);
    if components.is_empty() {
        return Bytes::new();
    }
    strings.cut(components.len() + 1, |out| {
        for (index, component) in components.rsplit(|&byte| byte == 0).enumerate() {
            if index > 0 || !truncated {
                out.put_u8(b'/');
            }
            out.put_slice(component);
        }
    })
}

/// What exec was called with, which is relative to the working directory unless it begins with a slash.
fn script(exec: &Exec<'_>, strings: &mut Strings) -> Bytes {
    let script = exec.script;
    if script.is_empty() || script.starts_with(b"/") || exec.cwd_truncated {
        return copy(script, strings);
    }
    let directory = path(exec.cwd, false, strings);
    let script = script.strip_prefix(b"./").unwrap_or(script);
    strings.cut(directory.len() + 1 + script.len(), |out| {
        out.put_slice(&directory);
        out.put_u8(b'/');
        out.put_slice(script);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FileId, FileStatus, FileVersion, Name, Task};

    const FILE: FileStatus = FileStatus {
        mode: 0o100_755,
        links: 1,
        owner: 0,
        group: 0,
        version: FileVersion {
            id: FileId {
                device: 1,
                inode: 2,
            },
            size: 3,
            changed_ns: 4,
        },
    };

    fn exec<'a>(path: &'a [u8], cwd: &'a [u8]) -> Exec<'a> {
        let task = Task {
            tgid: 1,
            tid: 1,
            start_ns: Some(1),
            euid: Some(0),
            kernel_thread: false,
            parent: None,
            name: Name::default(),
        };
        Exec {
            cwd,
            args: b"curl\0-s\0",
            file: FILE,
            ..Exec::of(task, path)
        }
    }

    fn executed(exec: &Exec<'_>) -> Program {
        Program::executed(exec, &mut Strings::default(), &Secrets::default())
    }

    #[test]
    fn components_become_a_path() {
        let program = executed(&exec(b"curl\0bin\0usr\0", b"root\0"));
        assert_eq!(program.executable, "/usr/bin/curl");
        assert_eq!(program.working_directory, "/root");
        assert_eq!(program.arguments.as_deref(), Some(&b"curl\0-s\0"[..]));
        assert_eq!(program.file, Some(FILE));
    }

    #[test]
    fn path_without_its_beginning_does_not_look_absolute() {
        let cut = Exec {
            path_truncated: true,
            ..exec(b"curl\0bin\0", b"")
        };
        assert_eq!(executed(&cut).executable, "bin/curl");
    }

    #[test]
    fn root_is_a_working_directory_and_an_unknown_one_is_empty() {
        assert_eq!(executed(&exec(b"init\0", b"")).working_directory, "/");
        let unknown = Exec {
            cwd_truncated: true,
            ..exec(b"init\0", b"")
        };
        assert_eq!(executed(&unknown).working_directory, "");
    }

    #[test]
    fn a_script_is_where_exec_looked_for_it() {
        for (script, cwd, expected) in [
            (&b"/opt/job"[..], &b"root\0"[..], &b"/opt/job"[..]),
            (b"./job", b"root\0", b"/root/job"),
            (b"bin/job", b"", b"/bin/job"),
            (b"", b"root\0", b""),
        ] {
            let exec = Exec {
                script,
                ..exec(b"dash\0bin\0", cwd)
            };
            assert_eq!(executed(&exec).script, expected);
        }
        let cut = Exec {
            script: b"job",
            cwd_truncated: true,
            ..exec(b"dash\0bin\0", b"deep\0")
        };
        assert_eq!(executed(&cut).script, "job");
    }

    #[test]
    fn unknown_executable_is_empty() {
        assert_eq!(executed(&exec(b"", b"")).executable, "");
    }

    #[test]
    fn memfd_has_a_name_but_no_directory() {
        let memfd = Exec {
            memfd: true,
            ..exec(b"memfd:payload\0", b"")
        };
        assert_eq!(executed(&memfd).executable, "memfd:payload");
    }

    #[test]
    fn a_secret_among_the_arguments_is_not_kept() {
        let secret = Exec {
            args: b"app\0--token\0hunter2\0",
            ..exec(b"app\0", b"")
        };
        let program = executed(&secret);
        let arguments = program.arguments.as_deref();
        assert_eq!(arguments, Some(&b"app\0--token\0***\0"[..]));
        assert!(program.arguments_masked);
        assert!(!executed(&exec(b"curl\0", b"")).arguments_masked);
    }

    #[test]
    fn unreadable_arguments_are_not_an_empty_list() {
        let unreadable = Exec {
            args_unreadable: true,
            ..exec(b"sh\0", b"")
        };
        assert_eq!(executed(&unreadable).arguments, None);
    }
}
