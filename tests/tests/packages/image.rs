//! The image under exactly the security settings that the DaemonSet gives its container.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, PodSpec, Probe, VolumeMount};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::containers::{LOWER_LIMITS, Podman};
use tests::daemon::Tracer;
use tests::event::Event;
use tests::expectations::port;
use tests::suite::Fact;
use tests::workload::Workload;
use tests::{command, environment, facts};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        the_image_holds_the_program_and_its_licences_alone,
        the_image_tells_the_container_of_others,
        the_image_traces_under_its_own_seccomp_profile,
        a_capability_that_is_missing_is_named,
        a_seccomp_profile_that_forbids_bpf_is_suspected,
    ]
}

const DAEMONSET: &str = include_str!("../../../deploy/kubernetes/base/daemonset.yaml");
const SECCOMP: &str = "../deploy/kubernetes/seccomp/tracer.json";

/// What the node is called.
const NODE: &str = "node-1";

fn the_image_holds_the_program_and_its_licences_alone() {
    let images = Images::load();
    let listed = images.succeed(&["image", "inspect", &images.name]);
    let image: Value = serde_json::from_str(&listed).expect("it is JSON");
    assert_eq!(image[0]["Config"]["Entrypoint"], json!(["/usr/bin/tracer"]));
    let licences = &image[0]["Labels"]["org.opencontainers.image.licenses"];
    assert_eq!(*licences, "MIT OR Apache-2.0");
    let made = images.succeed(&["create", &images.name]);
    let exported = images.podman.path().join("root.tar");
    let exported = exported.to_str().expect("paths here are UTF-8");
    images.succeed(&["export", "--output", exported, made.trim()]);
    let list = command::run(
        Command::new("tar")
            .args(["--list", "--verbose", "--file", exported])
            .stdout(Stdio::piped()),
    );
    let files: Vec<_> = list
        .stdout
        .lines()
        .filter(|line| !line.starts_with('d'))
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    let doc = |name: &str| format!("usr/share/doc/tracer/{name}");
    let mut expected = vec!["usr/bin/tracer".to_owned()];
    expected.extend(["LICENSE-APACHE", "LICENSE-MIT", "LICENSES"].map(doc));
    assert_eq!(files, expected);
}

fn the_image_tells_the_container_of_others() {
    let images = Images::load();
    let profile = images.default_profile();
    let mut tracer = images.run(&Settings::of_daemonset(), &profile);
    assert!(tracer.becomes_ready(), "{}", tracer.stderr());
    for probe in probes() {
        assert_eq!(images.status_of(&probe), 200, "{probe:?}");
    }
    expect_container_told(&mut tracer);
    tracer.stop(Signal::TERM);
    let kept = fs::read_dir(images.history()).expect("it is mounted");
    let has_history = kept.flatten().any(|file| {
        let name = file.file_name().into_string().unwrap_or_default();
        name.starts_with("history-")
    });
    assert!(has_history, "no history on the host's path");
}

fn the_image_traces_under_its_own_seccomp_profile() {
    let images = Images::load();
    let mut tracer = images.run(&Settings::of_daemonset(), Path::new(SECCOMP));
    assert!(tracer.becomes_ready(), "{}", tracer.stderr());
    expect_container_told(&mut tracer);
    tracer.stop(Signal::TERM);
}

/// A connection of another container has that container's ID, and the node's name.
fn expect_container_told(tracer: &mut Tracer) {
    let podman = Podman::new();
    let mut container = Workload::spawn(&mut podman.workload(&["refused", "1", "127.0.0.1:0"]));
    let port = port(&container.fact());
    container.finish();
    let is_it =
        |event: &Event| event.action() == "connection_failed" && event.destination_port() == port;
    let failed = tracer.wait_for("the other container's connection", 0, is_it);
    failed.expect("/container/id", podman.workload_id().as_str());
    failed.expect("/container/runtime", "podman");
    failed.expect("/process/executable", "/workload");
    failed.expect("/host/name", NODE);
}

fn a_capability_that_is_missing_is_named() {
    let images = Images::load();
    let profile = images.default_profile();
    for needed in ["BPF", "PERFMON", "NET_ADMIN"] {
        let mut settings = Settings::of_daemonset();
        let all = settings.capabilities.len();
        settings.capabilities.retain(|name| name != needed);
        assert_eq!(settings.capabilities.len() + 1, all, "{needed}");
        let mut podman = images.command(&settings, &profile);
        let finished = command::run(podman.stdout(Stdio::null()));
        assert_eq!(finished.code, Some(3), "{finished:#?}");
        let named = format!("CAP_{needed}");
        assert!(finished.stderr.contains(&named), "{finished:#?}");
    }
}

fn a_seccomp_profile_that_forbids_bpf_is_suspected() {
    let images = Images::load();
    let profile = images.podman.path().join("without-bpf.json");
    let rule = json!({"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1});
    let rules = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    fs::write(&profile, rules.to_string()).expect("the directory is ours");
    let mut podman = images.command(&Settings::of_daemonset(), &profile);
    let finished = command::run(podman.stdout(Stdio::null()));
    assert_eq!(finished.code, Some(3), "{finished:#?}");
    assert!(finished.stderr.contains("seccomp"), "{finished:#?}");
}

/// What the DaemonSet says of its container.
struct Settings {
    pod: PodSpec,
    container: Container,
    capabilities: Vec<String>,
}

impl Settings {
    fn of_daemonset() -> Settings {
        let daemonset: DaemonSet = serde_yaml_ng::from_str(DAEMONSET).expect("it is one");
        let template = daemonset.spec.expect("it has one").template;
        let mut pod = template.spec.expect("it has one");
        let container = pod.containers.remove(0);
        let context = container.security_context.clone().expect("it has one");
        let capabilities = context.capabilities.and_then(|set| set.add);
        Settings {
            pod,
            container,
            capabilities: capabilities.expect("it adds some"),
        }
    }

    /// The same in Podman's words.
    fn arguments(&self, history: &Path) -> Vec<String> {
        let context = self
            .container
            .security_context
            .as_ref()
            .expect("it has one");
        let mut arguments = Vec::new();
        if self.pod.host_pid == Some(true) {
            arguments.push("--pid=host".to_owned());
        }
        if self.pod.host_network != Some(true) {
            arguments.push("--network=none".to_owned());
        }
        if context.read_only_root_filesystem == Some(true) {
            arguments.extend(["--read-only", "--read-only-tmpfs=false"].map(str::to_owned));
        }
        if context.allow_privilege_escalation == Some(false) {
            arguments.push("--security-opt=no-new-privileges".to_owned());
        }
        let user = context.run_as_user.expect("it says who");
        let group = context.run_as_group.expect("it says who");
        arguments.push(format!("--user={user}:{group}"));
        arguments.push("--cap-drop=all".to_owned());
        let added = self.capabilities.iter();
        arguments.extend(added.map(|name| format!("--cap-add={name}")));
        for variable in self.container.env.iter().flatten() {
            // The only one, and what it is taken from.
            assert_eq!(variable.name, "TRACER_HOST_NAME");
            arguments.push(format!("--env={}={NODE}", variable.name));
        }
        let mounts = self.container.volume_mounts.iter().flatten();
        arguments.extend(mounts.map(|mount| self.mount(mount, history)));
        arguments
    }

    fn mount(&self, mount: &VolumeMount, history: &Path) -> String {
        let volumes = self.pod.volumes.as_ref().expect("it has some");
        let volume = volumes.iter().find(|volume| volume.name == mount.name);
        let Some(path) = &volume.expect("what is mounted is there").host_path else {
            return format!("--mount=type=tmpfs,destination={}", mount.mount_path);
        };
        let of_host = if mount.name == "history" {
            history
        } else {
            Path::new(&path.path)
        };
        let mode = if mount.read_only == Some(true) {
            "ro"
        } else {
            "rw"
        };
        format!("--volume={}:{}:{mode}", of_host.display(), mount.mount_path)
    }
}

/// The probes of the DaemonSet: paths.
fn probes() -> Vec<String> {
    let Container {
        startup_probe,
        liveness_probe,
        readiness_probe,
        ..
    } = Settings::of_daemonset().container;
    let path = |probe: Option<Probe>| probe?.http_get?.path;
    let probes = [startup_probe, liveness_probe, readiness_probe].map(path);
    probes
        .into_iter()
        .map(|path| path.expect("it is HTTP"))
        .collect()
}

/// The image, where Podman finds it.
struct Images {
    podman: Podman,
    name: String,
}

impl Drop for Images {
    fn drop(&mut self) {
        // A test that failed may have left one that runs.
        let mut remove = self.podman.command();
        remove.args(["rm", "--all", "--force", "--time", "0"]);
        let _ = remove.stdout(Stdio::null()).status();
    }
}

impl Images {
    fn load() -> Images {
        let podman = Podman::new();
        fs::create_dir(podman.path().join("history")).expect("the directory is ours");
        let images = Images {
            podman,
            name: Settings::of_daemonset()
                .container
                .image
                .expect("it has one"),
        };
        let archive = environment::image();
        let archive = archive.to_str().expect("paths here are UTF-8");
        images.succeed(&["load", "--quiet", "--input", archive]);
        images
    }

    fn history(&self) -> PathBuf {
        self.podman.path().join("history")
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let mut podman = self.podman.command();
        let finished = command::run(podman.args(arguments).stdout(Stdio::piped()));
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        finished.stdout
    }

    /// The container of the DaemonSet; its process's PID comes to the file `pid`.
    fn command(&self, settings: &Settings, seccomp: &Path) -> Command {
        let mut podman = self.podman.command_with_tracefs();
        podman.args(["run", "--rm"]).args(LOWER_LIMITS);
        podman.args(["--name", "tracer"]);
        podman.arg(format!("--security-opt=seccomp={}", seccomp.display()));
        podman.args(settings.arguments(&self.history()));
        podman.arg(&self.name);
        podman.args(settings.container.args.iter().flatten());
        podman
    }

    fn run(&self, settings: &Settings, seccomp: &Path) -> Tracer {
        Tracer::spawn(&mut self.command(settings, seccomp))
    }

    /// How the running container answers a probe, in its own network.
    fn status_of(&self, path: &str) -> u16 {
        let pid = self.succeed(&["inspect", "--format", "{{.State.Pid}}", "tracer"]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 10935));
        let mut curl = Command::new("nsenter");
        curl.args(["--target", pid.trim(), "--net", "curl", "--silent"]);
        curl.args(["--output", "/dev/null", "--write-out", "%{http_code}"]);
        let curl = curl.arg(format!("http://{address}{path}"));
        let finished = command::run(curl.stdout(Stdio::piped()));
        assert_eq!(finished.code, Some(0), "{finished:#?}");
        finished.stdout.trim().parse().expect("it is a number")
    }

    /// A container runtime's default profile as containerd has it from 1.7 on: that of this machine's packages, with
    /// bpf(2) and perf_event_open(2) for whoever has the capability of each, of which an older one does not know.
    fn default_profile(&self) -> PathBuf {
        const PACKAGED: &str = "/usr/share/containers/seccomp.json";
        const BY_CAPABILITY: [(&str, &str); 2] =
            [("bpf", "CAP_BPF"), ("perf_event_open", "CAP_PERFMON")];
        let text = fs::read(PACKAGED).expect("it comes with Podman");
        let mut profile: Value = serde_json::from_slice(&text).expect("it is JSON");
        let rules = profile["syscalls"].as_array_mut().expect("it has rules");
        for rule in rules.iter_mut() {
            let names = rule["names"].as_array_mut().expect("a rule has names");
            names.retain(|name| BY_CAPABILITY.iter().all(|(call, _)| name != call));
        }
        rules.extend(BY_CAPABILITY.map(|(call, capability)| {
            json!({
                "names": [call],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": [capability]},
            })
        }));
        let path = self.podman.path().join("seccomp.json");
        fs::write(&path, profile.to_string()).expect("the directory is ours");
        path
    }
}
