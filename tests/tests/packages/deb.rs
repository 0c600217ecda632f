//! The package from its installation to its purge, in a root file system with the programs of this machine and
//! nothing else: neither its configuration nor its state.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind_recursive, unmount};
use rustix::process::Signal;
use tests::command::{self, Finished};
use tests::containers::{LOWER_LIMITS, Podman};
use tests::daemon::Tracer;
use tests::loopback::Traffic;
use tests::suite::Fact;
use tests::{environment, facts, wait};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        a_package_keeps_the_history_until_it_is_purged,
        the_service_starts_is_reloaded_and_ends_under_systemd,
    ]
}

fn a_package_keeps_the_history_until_it_is_purged() {
    let root = Root::make_with_kernel();
    let before = root.files();
    let [first, second] = environment::packages();

    root.dpkg(&["--install"], Some(&first));
    let group = root.group().expect("the group is made");
    assert_eq!(
        root.succeed(&["tracer", "version"]).split(' ').next(),
        Some("tracer")
    );
    let enabled = "etc/systemd/system/multi-user.target.wants/tracer.service";
    assert!(root.path(enabled).is_symlink(), "the service is enabled");
    root.succeed(&[
        "systemd-analyze",
        "verify",
        "--man=no",
        "/usr/lib/systemd/system/tracer.service",
    ]);
    root.succeed(&["logrotate", "--debug", "/etc/logrotate.d/tracer"]);
    root.run_daemon(group);
    let kept = root.history();
    assert!(!kept.is_empty(), "it keeps a history");
    fs::write(root.path("etc/default/tracer"), "TRACER_OPTIONS=--tls\n").expect("it is there");

    root.dpkg(&["--force-confold", "--install"], Some(&second));
    assert_eq!(root.history(), kept, "an upgrade keeps the history");
    let options = fs::read_to_string(root.path("etc/default/tracer")).expect("it is there");
    assert_eq!(options, "TRACER_OPTIONS=--tls\n", "and the configuration");
    root.succeed(&["tracer", "talkers"]);

    root.dpkg(&["--remove", "tracer"], None);
    assert!(!root.path("usr/bin/tracer").exists());
    assert_eq!(root.history(), kept, "removing it does, too");
    assert!(root.path("etc/default/tracer").exists());

    root.dpkg(&["--purge", "tracer"], None);
    let left: Vec<_> = root.files().difference(&before).cloned().collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// The unit with all that it forbids, by the service manager that it is for.
fn the_service_starts_is_reloaded_and_ends_under_systemd() {
    let root = Root::make();
    fs::write(root.path("etc/machine-id"), "").expect("it is new");
    let [package, _] = environment::packages();
    root.dpkg(&["--install"], Some(&package));
    // Nothing but what the package enables, and what that needs.
    let default = root.path("etc/systemd/system/default.target");
    symlink("/lib/systemd/system/multi-user.target", default).expect("it is new");
    let systemd = Systemd::boot(&root);
    let has_become = |state: &str| (systemd.property("ActiveState") == state).then_some(());
    wait::until("the service to be active", || has_become("active"));
    let [log, rotated] =
        ["events.json", "events.json.1"].map(|name| root.path("var/log/tracer").join(name));
    let traffic = Traffic::start();
    wait::until("events", || {
        log.metadata().ok().filter(|file| file.len() > 0)
    });
    fs::rename(&log, &rotated).expect("it is there");
    systemd.control(&["reload", "tracer.service"]);
    wait::until("a new file", || {
        log.metadata().ok().filter(|file| file.len() > 0)
    });
    drop(traffic);
    assert_eq!(systemd.property("ActiveState"), "active");
    systemd.control(&["stop", "tracer.service"]);
    assert_eq!(systemd.property("Result"), "success");
    assert_eq!(systemd.property("NRestarts"), "0");
    assert!(!root.history().is_empty(), "it keeps a history");
}

/// systemd in a container, with nothing to start but the package's service.
struct Systemd(Podman);

impl Drop for Systemd {
    fn drop(&mut self) {
        let mut remove = self.0.command();
        remove.args(["rm", "--all", "--force", "--time", "0"]);
        let _ = remove.stdout(Stdio::null()).status();
    }
}

impl Systemd {
    fn boot(root: &Root) -> Systemd {
        let systemd = Systemd(Podman::new());
        let mut podman = systemd.0.command();
        podman.args(["run", "--detach", "--name", "systemd", "--systemd=always"]);
        podman.args([
            "--network=none",
            "--cap-add=all",
            "--security-opt=seccomp=unconfined",
        ]);
        podman.args(LOWER_LIMITS).arg("--rootfs").arg(root.0.path());
        let finished = command::run(podman.arg("/lib/systemd/systemd").stdout(Stdio::null()));
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        systemd
    }

    fn systemctl(&self, arguments: &[&str]) -> Finished {
        let mut podman = self.0.command();
        podman
            .args(["exec", "systemd", "systemctl"])
            .args(arguments);
        command::run(podman.stdout(Stdio::piped()))
    }

    #[track_caller]
    fn control(&self, arguments: &[&str]) {
        let finished = self.systemctl(arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
    }

    /// A property of the service; empty while systemd does not answer yet.
    fn property(&self, name: &str) -> String {
        let finished = self.systemctl(&["show", "--value", "--property", name, "tracer.service"]);
        finished.stdout.trim().to_owned()
    }
}

/// Where a package is installed.
struct Root(tempfile::TempDir);

impl Drop for Root {
    fn drop(&mut self) {
        for name in ["sys", "proc", "dev", "usr", ""] {
            // What was not mounted cannot be unmounted.
            let _ = unmount(self.0.path().join(name), UnmountFlags::DETACH);
        }
    }
}

/// What dpkg calls the package that makes the group.
const STATUS: &str = "\
Package: systemd
Status: install ok installed
Maintainer: nobody
Architecture: all
Version: 252
Description: as this machine has it
";

/// Where groups are written down, and what is left of writing.
const OF_GROUPS: [&str; 5] = [
    "etc/.pwd.lock",
    "etc/group",
    "etc/group-",
    "etc/gshadow",
    "etc/gshadow-",
];

impl Root {
    fn make() -> Root {
        let root = Root(tempfile::tempdir().expect("a temporary directory"));
        let plain = MountFlags::empty();
        mount("tmpfs", root.0.path(), "tmpfs", plain, None).expect("tmpfs is in every kernel");
        for name in ["dev", "proc", "sys", "tmp", "run", "usr", ".upper", ".work"] {
            fs::create_dir(root.path(name)).expect("it is empty");
        }
        for name in [
            "etc",
            "var/log",
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
        ] {
            fs::create_dir_all(root.path(name)).expect("it is empty");
        }
        for name in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{name}"), root.path(name)).expect("it is empty");
        }
        fs::write(root.path("var/lib/dpkg/status"), STATUS).expect("it is empty");
        let user = "root:x:0:0:root:/root:/bin/sh\n";
        fs::write(root.path("etc/passwd"), user).expect("it is empty");
        fs::write(root.path("etc/group"), "root:x:0:\n").expect("it is empty");
        let [upper, work] = [".upper", ".work"].map(|name| root.path(name));
        let (upper, work) = (upper.display(), work.display());
        let layers = format!("lowerdir=/usr,upperdir={upper},workdir={work}\0");
        let layers = std::ffi::CStr::from_bytes_with_nul(layers.as_bytes()).expect("one end");
        mount("overlay", root.path("usr"), "overlay", plain, layers).expect("overlayfs");
        root
    }

    /// The same with this host's devices and kernel.
    fn make_with_kernel() -> Root {
        let (root, plain) = (Root::make(), MountFlags::empty());
        for name in ["dev", "proc", "sys"] {
            let of_host = Path::new("/").join(name);
            mount_bind_recursive(of_host, root.path(name)).expect("root may");
        }
        mount(
            "tracefs",
            root.path("sys/kernel/tracing"),
            "tracefs",
            plain,
            None,
        )
        .expect("tracefs");
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command in there.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.0.path()).args(arguments);
        command
            .env("PATH", "/usr/sbin:/usr/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let finished = command::run(self.command(arguments).stdout(Stdio::piped()));
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:#?}");
        finished.stdout
    }

    #[track_caller]
    fn dpkg(&self, arguments: &[&str], package: Option<&Path>) {
        let mut all = vec!["dpkg"];
        all.extend(arguments);
        if let Some(package) = package {
            fs::copy(package, self.path("tmp/tracer.deb")).expect("there is room");
            all.push("/tmp/tracer.deb");
        }
        self.succeed(&all);
        let _ = fs::remove_file(self.path("tmp/tracer.deb"));
    }

    /// The number of the group that may read the history.
    fn group(&self) -> Option<u32> {
        let groups = fs::read_to_string(self.path("etc/group")).expect("it is there");
        let line = groups.lines().find_map(|line| line.strip_prefix("tracer:"));
        line?.split(':').nth(1)?.parse().ok()
    }

    /// Starts the daemon as the unit does, and lets it see something.
    fn run_daemon(&self, group: u32) {
        let unit = fs::read_to_string(self.path("usr/lib/systemd/system/tracer.service"));
        let unit = unit.expect("it is installed");
        let value = |key: &str| {
            let line = unit.lines().find_map(|line| line.strip_prefix(key));
            line.unwrap_or_else(|| panic!("the unit has no {key}"))
                .to_owned()
        };
        // What the service manager makes.
        let log = self.path("var/log/tracer");
        for directory in ["var/lib/tracer", "var/log/tracer", "run/tracer"] {
            let directory = self.path(directory);
            fs::create_dir(&directory).expect("it is not there");
            std::os::unix::fs::chown(directory, None, Some(group)).expect("it is ours");
        }
        let capabilities: Vec<_> = value("CapabilityBoundingSet=")
            .split(' ')
            .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
            .collect();
        let set = format!("-all,{}", capabilities.join(","));
        let group = group.to_string();
        let start = value("ExecStart=").replace("${LOGS_DIRECTORY}", "/var/log/tracer");
        let mut arguments = vec![
            "setpriv",
            "--regid",
            &group,
            "--clear-groups",
            "--no-new-privs",
        ];
        arguments.extend(["--bounding-set", &set, "--inh-caps", &set]);
        let options = start.split(' ').filter(|word| *word != "$TRACER_OPTIONS");
        arguments.extend(options);
        arguments.extend(["--metrics-listen", "off"]);
        let mut tracer = Tracer::spawn(&mut self.command(&arguments));
        assert!(tracer.becomes_ready(), "{}", tracer.stderr());
        let traffic = Traffic::start();
        wait::until("events in the log", || {
            let text = fs::read_to_string(log.join("events.json")).ok()?;
            text.contains("connection_closed").then_some(())
        });
        drop(traffic);
        tracer.stop(Signal::TERM);
        for path in self.history() {
            let file = fs::metadata(self.0.path().join(&path)).expect("it is there");
            assert_eq!(
                (file.gid().to_string(), file.mode() & 0o777),
                (group.clone(), 0o640)
            );
        }
    }

    /// The files of the history.
    fn history(&self) -> Vec<PathBuf> {
        let files = self.files().into_iter();
        files
            .filter(|file| file.starts_with("var/lib/tracer") && is_history(file))
            .collect()
    }

    /// Every file that is kept on a disk, but for dpkg's own records and the list of groups; and the directories of the
    /// package's own. The group stays: it may own files elsewhere.
    fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        let mut waiting = ["etc", "var", ".upper"]
            .map(|name| self.path(name))
            .to_vec();
        while let Some(directory) = waiting.pop() {
            for entry in fs::read_dir(&directory).expect("it is ours") {
                let path = entry.expect("it is ours").path();
                let name = path
                    .strip_prefix(self.0.path())
                    .expect("it is below")
                    .to_owned();
                let is_directory = path.is_dir() && !path.is_symlink();
                if is_directory {
                    waiting.push(path);
                }
                let is_ours = !name.starts_with("var/lib/dpkg")
                    && !OF_GROUPS.iter().any(|of| name == Path::new(of));
                if is_ours && (!is_directory || name.ends_with("tracer")) {
                    files.insert(name);
                }
            }
        }
        files
    }
}

fn is_history(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with("history-"))
}
