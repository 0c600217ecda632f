//! What a process runs: the file as the kernel has it, the script, the names beside it, the lineage's
//! fingerprint.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{XattrFlags, setxattr};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;
use tests::event::Event;
use tests::expectations::only;
use tests::facts;
use tests::procfs::real_path;
use tests::suite::Fact;

use crate::common;

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        the_file_is_told_as_its_inode_is,
        a_script_is_told_beside_its_interpreter,
        arguments_of_32_kib_are_told_whole_and_longer_ones_are_cut,
        a_set_user_id_program_is_marked_where_that_gives_another_user,
        a_program_with_capabilities_is_marked_where_it_gets_them,
        names_that_neither_file_nor_path_bears_out_are_marked,
        a_file_that_was_changed_in_an_overlay_is_marked,
        the_same_job_has_the_same_fingerprint_again,
    ]
}

const SHELL: &str = "/bin/sh";

fn directory() -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // Another user has to get there.
    permit(directory.path(), 0o755);
    directory
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the file is ours");
}

fn copy_of_shell(path: PathBuf) -> PathBuf {
    fs::copy(SHELL, &path).expect("the directory is writable");
    path
}

/// The exec of a command that ends by itself.
fn exec(command: &mut Command) -> Event {
    let (pid, events) = common::observe(|| {
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let status = child.wait().expect("a child can be waited for");
        assert!(status.success(), "{command:?}: {status}");
        child.id()
    });
    only(&events, "process_exec", pid).clone()
}

fn shell(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.args(["-c", "exit 0"]);
    command
}

/// Without the one that comes when the file has been read, perhaps after the event.
fn flags(event: &Event) -> Vec<&str> {
    let mut flags = match event.get("/tracer/flags") {
        Some(_) => event.words("/tracer/flags"),
        None => Vec::new(),
    };
    flags.retain(|&flag| flag != "unpackaged");
    flags
}

fn the_file_is_told_as_its_inode_is() {
    let directory = directory();
    let path = copy_of_shell(directory.path().join("tool"));
    fs::hard_link(&path, directory.path().join("other")).expect("a link");
    permit(&path, 0o757);
    let exec = exec(&mut shell(&path));
    let is = fs::metadata(&path).expect("it is there");
    let device =
        rustix::fs::major(is.dev()).to_string() + ":" + &rustix::fs::minor(is.dev()).to_string();
    exec.expect("/tracer/file/device", device);
    exec.expect("/tracer/file/inode", is.ino());
    exec.expect("/tracer/file/mode", "0757");
    exec.expect("/tracer/file/links", 2);
    exec.expect("/tracer/file/size", is.size());
    exec.expect("/tracer/file/uid", is.uid().to_string());
    exec.expect("/tracer/file/gid", is.gid().to_string());
    let changed = jiff::Timestamp::new(
        is.ctime(),
        i32::try_from(is.ctime_nsec()).expect("below a second"),
    );
    let told: jiff::Timestamp = exec.text("/tracer/file/ctime").parse().expect("a time");
    assert_eq!(told, changed.expect("a time"), "in {exec}");
    assert_eq!(flags(&exec), ["writable_by_others"], "in {exec}");
}

fn a_script_is_told_beside_its_interpreter() {
    let directory = directory();
    let script = directory.path().join("job");
    fs::write(&script, "#!/bin/sh\nexit 0\n").expect("the directory is writable");
    permit(&script, 0o755);
    let told = script.to_str().expect("UTF-8");
    let interpreter = real_path(SHELL);
    for command in [
        &mut Command::new(&script),
        Command::new("./job").current_dir(&directory),
    ] {
        let exec = exec(command);
        exec.expect("/tracer/script", told);
        exec.expect("/process/executable", interpreter.to_str().expect("UTF-8"));
        assert_eq!(flags(&exec), [""; 0], "in {exec}");
    }
    exec(&mut shell(Path::new(SHELL))).expect_absent("/tracer/script");
}

fn arguments_of_32_kib_are_told_whole_and_longer_ones_are_cut() {
    const LONGEST: usize = 32_768;
    let before = [SHELL, "-c", "exit 0"].map(|argument| argument.len() + 1);
    let room = LONGEST - before.iter().sum::<usize>();
    for length in [4000, 5000, room - 1] {
        let long = "x".repeat(length);
        let exec = exec(shell(Path::new(SHELL)).arg(&long));
        assert_eq!(exec.words("/process/args")[3], long);
        exec.expect_absent("/process/args_truncated");
    }
    let exec = exec(shell(Path::new(SHELL)).arg("x".repeat(100_000)));
    assert_eq!(exec.words("/process/args")[3], "x".repeat(room));
    exec.expect("/process/args_truncated", true);
}

const NOBODY: u32 = 65_534;

fn a_set_user_id_program_is_marked_where_that_gives_another_user() {
    let directory = directory();
    // Where the directory is may be mounted `nosuid`.
    let memory = Mounted::at(directory.path().join("memory"), "tmpfs", "mode=755");
    let path = copy_of_shell(memory.0.join("tool"));
    let as_nobody = || exec(shell(&path).uid(NOBODY).gid(NOBODY));
    assert_eq!(flags(&as_nobody()), [""; 0]);
    permit(&path, 0o4755);
    let exec_by_root = exec(&mut shell(&path));
    assert_eq!(flags(&exec_by_root), [""; 0], "in {exec_by_root}");
    let gained = as_nobody();
    assert_eq!(flags(&gained), ["setuid"], "in {gained}");
    gained.expect("/process/user/id", "0");
    permit(&path, 0o2755);
    assert_eq!(flags(&as_nobody()), ["setgid"]);
}

fn a_program_with_capabilities_is_marked_where_it_gets_them() {
    // `struct vfs_cap_data`, include/uapi/linux/capability.h: revision 2, effective, CAP_NET_RAW.
    let words = [0x0200_0001_u32, 1 << 13, 0, 0, 0];
    let capabilities: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    let directory = directory();
    let memory = Mounted::at(directory.path().join("memory"), "tmpfs", "mode=755");
    let path = copy_of_shell(memory.0.join("tool"));
    let flags = XattrFlags::empty();
    setxattr(&path, "security.capability", &capabilities, flags).expect("root may");
    let gained = exec(shell(&path).uid(NOBODY).gid(NOBODY));
    assert_eq!(self::flags(&gained), ["capabilities_gained"], "in {gained}");
    let by_root = exec(&mut shell(&path));
    assert_eq!(self::flags(&by_root), [""; 0], "in {by_root}");
}

fn names_that_neither_file_nor_path_bears_out_are_marked() {
    let directory = directory();
    let path = copy_of_shell(directory.path().join("tool"));
    let claims = exec(shell(&path).arg0("[kworker/0:1]"));
    assert_eq!(flags(&claims), ["argv0_disagrees"], "in {claims}");
    let login = exec(shell(&path).arg0("-tool"));
    assert_eq!(flags(&login), [""; 0], "in {login}");
    let link = directory.path().join("linked");
    std::os::unix::fs::symlink(&path, &link).expect("the directory is writable");
    let linked = exec(&mut shell(&link));
    linked.expect("/process/name", "linked");
    assert_eq!(flags(&linked), [""; 0], "in {linked}");
    let (pid, events) = common::observe(|| {
        let mut child = Command::new(&path)
            .args(["-c", "printf sshd > /proc/$$/comm; exit 0"])
            .spawn()
            .expect("the shell starts");
        child.wait().expect("a child can be waited for");
        child.id()
    });
    let exit = only(&events, "process_exit", pid);
    exit.expect("/process/name", "sshd");
    assert_eq!(flags(exit), ["name_disagrees"], "in {exit}");
}

/// Something that is mounted, until it is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf, kind: &str, options: &str) -> Self {
        fs::create_dir_all(&path).expect("the directory is writable");
        let options = std::ffi::CString::new(options).expect("without a NUL");
        mount(
            kind,
            &path,
            kind,
            MountFlags::empty(),
            Some(options.as_c_str()),
        )
        .unwrap_or_else(|error| panic!("{kind} cannot be mounted: {error}"));
        Self(path)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("it is mounted");
    }
}

fn a_file_that_was_changed_in_an_overlay_is_marked() {
    let directory = directory();
    let memory = Mounted::at(directory.path().join("memory"), "tmpfs", "mode=755");
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| memory.0.join(name));
    for layer in [&lower, &upper, &work] {
        fs::create_dir(layer).expect("the directory is writable");
    }
    for name in ["kept", "changed"] {
        copy_of_shell(lower.join(name));
    }
    let [lower, upper, work] = [lower, upper, work].map(|path| path.display().to_string());
    let layers = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let merged = Mounted::at(directory.path().join("merged"), "overlay", &layers);
    copy_of_shell(merged.0.join("new"));
    permit(&merged.0.join("changed"), 0o755);
    for (name, expected) in [
        ("kept", &[][..]),
        ("new", &["upper_layer"]),
        ("changed", &["upper_layer"]),
    ] {
        // `chmod` to the same mode copies a file up.
        let exec = exec(&mut shell(&merged.0.join(name)));
        assert_eq!(flags(&exec), expected, "{name} in {exec}");
    }
}

fn the_same_job_has_the_same_fingerprint_again() {
    let job = |arguments: [&str; 2]| {
        let exec = exec(shell(Path::new(SHELL)).args(arguments));
        exec.text("/tracer/fingerprint").to_owned()
    };
    let first = job(["--since", "2026-11-21T10:00:00"]);
    assert_eq!(job(["--since", "2026-11-22T17:30:01"]), first);
    assert_ne!(job(["--until", "2026-11-22T17:30:01"]), first);
}
