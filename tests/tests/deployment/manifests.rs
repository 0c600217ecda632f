//! The manifests for Kubernetes: each is what its kind allows, and nothing more.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, Namespace, PodSpec, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{path, read};

/// Each directory that `kubectl apply --kustomize` takes.
const DIRECTORIES: [&str; 4] = ["", "base", "prometheus-operator", "seccomp"];

/// A document's text as the type of its kind, and back.
type Parse = fn(Value) -> serde_json::Result<Value>;

/// Every kind that there is a manifest of.
const KINDS: [(&str, &str, Parse); 7] = [
    ("v1", "Namespace", through::<Namespace>),
    ("v1", "ServiceAccount", through::<ServiceAccount>),
    ("apps/v1", "DaemonSet", through::<DaemonSet>),
    (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        through::<NetworkPolicy>,
    ),
    (
        "scheduling.k8s.io/v1",
        "PriorityClass",
        through::<PriorityClass>,
    ),
    (
        "monitoring.coreos.com/v1",
        "PodMonitor",
        through::<PodMonitor>,
    ),
    (
        "kustomize.config.k8s.io/v1beta1",
        "Kustomization",
        through::<Kustomization>,
    ),
];

fn through<T: DeserializeOwned + Serialize>(document: Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(document)?)
}

/// As much of the Prometheus operator's type as is used here.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodMonitor {
    api_version: String,
    kind: String,
    metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    spec: PodMonitorSpec,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodMonitorSpec {
    selector: k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector,
    pod_metrics_endpoints: Vec<PodMetricsEndpoint>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PodMetricsEndpoint {
    port: String,
    path: String,
    interval: String,
    relabelings: Vec<Relabeling>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Relabeling {
    source_labels: Vec<String>,
    target_label: String,
}

/// As much of kustomize's type as is used here.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    api_version: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    resources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<Image>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patches: Option<Vec<Patch>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Image {
    name: String,
    new_tag: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Patch {
    target: Target,
    patch: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Target {
    kind: String,
    name: String,
}

/// Every document of a file.
fn documents(name: &str) -> Vec<Value> {
    let text = read(&format!("kubernetes/{name}"));
    serde_yaml_ng::Deserializer::from_str(&text)
        .map(|document| {
            Value::deserialize(document).unwrap_or_else(|error| panic!("{name}: {error}"))
        })
        .collect()
}

/// The names of all manifests, below `deploy/kubernetes`.
fn files() -> Vec<String> {
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        let entries = path("kubernetes").join(directory);
        for entry in std::fs::read_dir(&entries).expect("it is there") {
            let name = entry.expect("it can be read").file_name();
            let name = name.into_string().expect("names are UTF-8");
            if name.ends_with(".yaml") {
                files.push(format!("{directory}/{name}"));
            }
        }
    }
    files
}

/// A document through the type of its kind.
fn checked(name: &str, document: &Value) -> Result<(), String> {
    let word = |key: &str| document[key].as_str().unwrap_or_default();
    let kind = KINDS
        .iter()
        .find(|(version, kind, _)| (*version, *kind) == (word("apiVersion"), word("kind")));
    let Some((.., parse)) = kind else {
        return Err(format!("{name}: no such kind: {document}"));
    };
    let known = parse(document.clone()).map_err(|error| format!("{name}: {error}"))?;
    let unknown = difference("", document, &known);
    unknown.map_or(Ok(()), |at| Err(format!("{name}: {at} means nothing")))
}

/// The first place of a document that its type has lost.
fn difference(at: &str, document: &Value, known: &Value) -> Option<String> {
    match (document, known) {
        (Value::Object(members), Value::Object(kept)) => members.iter().find_map(|(key, value)| {
            let at = format!("{at}/{key}");
            match kept.get(key) {
                Some(known) => difference(&at, value, known),
                // What is empty says nothing.
                None if *value == Value::Array(Vec::new()) => None,
                None => Some(at),
            }
        }),
        (Value::Array(items), Value::Array(kept)) if items.len() == kept.len() => {
            let mut pairs = items.iter().zip(kept).enumerate();
            pairs.find_map(|(index, (item, known))| {
                difference(&format!("{at}/{index}"), item, known)
            })
        }
        _ => (document != known).then(|| at.to_owned()),
    }
}

#[test]
fn each_manifest_is_what_its_kind_allows() {
    let files = files();
    assert!(files.len() >= 8, "{files:?}");
    for name in &files {
        let documents = documents(name);
        assert!(!documents.is_empty(), "{name} is empty");
        for document in documents {
            checked(name, &document).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

#[test]
fn a_key_that_no_type_has_is_found() {
    let mut daemonset = documents("base/daemonset.yaml").remove(0);
    let container = &mut daemonset["spec"]["template"]["spec"]["containers"][0];
    container["securityContext"]["readOnlyRootFileSystem"] = true.into();
    let error = checked("it", &daemonset).expect_err("it is misspelt");
    assert!(
        error.contains("securityContext/readOnlyRootFileSystem"),
        "{error}"
    );
}

#[test]
fn each_kustomization_names_files_that_are_there() {
    for directory in DIRECTORIES {
        for document in documents(&format!("{directory}/kustomization.yaml")) {
            let kustomization: Kustomization =
                serde_json::from_value(document).expect("its type has been checked");
            for resource in kustomization.resources {
                let path = path("kubernetes").join(directory).join(&resource);
                assert!(path.exists(), "{directory}: {resource}");
            }
        }
    }
}

fn daemonset() -> DaemonSet {
    let document = documents("base/daemonset.yaml").remove(0);
    serde_json::from_value(document).expect("its type has been checked")
}

fn pod() -> PodSpec {
    let template = daemonset().spec.expect("a DaemonSet has one").template;
    template.spec.expect("a pod has one")
}

fn container() -> Container {
    pod().containers.remove(0)
}

/// What the DaemonSet adds after dropping all.
pub(crate) fn capabilities() -> Vec<String> {
    let context = container().security_context.expect("it has one");
    let capabilities = context.capabilities.expect("it has some");
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    capabilities.add.expect("it adds some")
}

#[test]
fn the_container_has_no_more_privileges_than_it_needs() {
    let context = container().security_context.expect("it has one");
    assert_eq!(context.privileged, Some(false));
    assert_eq!(context.allow_privilege_escalation, Some(false));
    assert_eq!(context.read_only_root_filesystem, Some(true));
    let pod = pod();
    assert_eq!((pod.host_network, pod.host_ipc), (Some(false), None));
    assert_eq!(pod.automount_service_account_token, Some(false));
    let writable: Vec<_> = container()
        .volume_mounts
        .unwrap_or_default()
        .into_iter()
        .filter(|mount| mount.read_only != Some(true))
        .map(|mount| mount.mount_path)
        .collect();
    assert_eq!(writable, ["/var/lib/tracer", "/run/tracer"]);
}

#[test]
fn the_image_is_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let image = format!("localhost/tracer:{version}");
    assert_eq!(container().image, Some(image));
    let document = documents("base/kustomization.yaml").remove(0);
    assert_eq!(document["images"][0]["newTag"], version);
}

#[test]
fn what_is_mounted_is_there_and_what_is_there_is_mounted() {
    let mounted: BTreeSet<_> = container()
        .volume_mounts
        .unwrap_or_default()
        .into_iter()
        .map(|mount| mount.name)
        .collect();
    let volumes: BTreeSet<_> = pod()
        .volumes
        .unwrap_or_default()
        .into_iter()
        .map(|volume| volume.name)
        .collect();
    assert_eq!(mounted, volumes);
}

#[test]
fn the_daemon_takes_the_arguments_of_the_daemonset() {
    use clap::Parser as _;
    let arguments = container().args.expect("it has some");
    let arguments = ["tracer".to_owned()].into_iter().chain(arguments);
    if let Err(error) = tracer::cli::Cli::try_parse_from(arguments) {
        panic!("{error}");
    }
}
