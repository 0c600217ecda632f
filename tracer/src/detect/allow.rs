//! What is allowed: findings that nobody wants to hear of.

use ipnet::IpNet;
use serde::Deserialize;

use super::finding::Finding;
use crate::process::content::Origin;
use crate::process::image::{Image, Program};

/// Conditions that must all hold. At least one is needed beside the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// Why: shown with what it allows.
    pub reason: String,
    /// By ID; all, if there are none.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Fingerprints of lineages (`tracer.fingerprint`).
    #[serde(default)]
    pub fingerprints: Vec<String>,
    /// Paths of executables, or of scripts that an interpreter runs; `*` at the end stands for anything.
    #[serde(default)]
    pub programs: Vec<String>,
    /// Names of packages that brought the executable, unaltered.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Beginnings of container IDs.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Networks in which the peer is.
    #[serde(default)]
    pub peers: Vec<IpNet>,
    /// Ports of the peer; of a listener, its own.
    #[serde(default)]
    pub ports: Vec<u16>,
}

impl Allow {
    /// Whether it would allow everything that its rules tell.
    pub(super) fn is_unconditional(&self) -> bool {
        let Self {
            reason: _,
            rules: _,
            fingerprints,
            programs,
            packages,
            containers,
            peers,
            ports,
        } = self;
        fingerprints.is_empty()
            && programs.is_empty()
            && packages.is_empty()
            && containers.is_empty()
            && peers.is_empty()
            && ports.is_empty()
    }

    pub(super) fn allows(&self, finding: &Finding) -> bool {
        let process = finding.process.as_deref();
        let peer = finding.connection.as_ref().map(|it| it.endpoints.remote);
        let has_process = |condition: &dyn Fn(&Image) -> bool| process.is_some_and(condition);
        let holds = |list_is_empty: bool, condition: bool| list_is_empty || condition;
        let port = finding.connection.as_ref().map(|connection| {
            match connection.endpoints.remote.port() {
                0 => connection.endpoints.local.port(),
                port => port,
            }
        });
        holds(
            self.rules.is_empty(),
            self.rules.iter().any(|id| id == finding.detection.rule.id),
        ) && holds(
            self.fingerprints.is_empty(),
            has_process(&|process| {
                let own = hex(&process.fingerprint());
                self.fingerprints.contains(&own)
            }),
        ) && holds(
            self.programs.is_empty(),
            has_process(&|process| {
                self.programs
                    .iter()
                    .any(|path| runs(&process.program, path))
            }),
        ) && holds(
            self.packages.is_empty(),
            has_process(&|process| {
                let package = package_of(&process.program);
                self.packages
                    .iter()
                    .any(|name| package == Some(name.as_bytes()))
            }),
        ) && holds(
            self.containers.is_empty(),
            has_process(&|process| {
                let id = process.container().map(|container| &*container.id);
                id.is_some_and(|id| {
                    self.containers
                        .iter()
                        .any(|prefix| id.starts_with(prefix.as_bytes()))
                })
            }),
        ) && holds(
            self.peers.is_empty(),
            peer.is_some_and(|peer| self.peers.iter().any(|net| net.contains(&peer.ip()))),
        ) && holds(
            self.ports.is_empty(),
            port.is_some_and(|port| self.ports.contains(&port)),
        )
    }
}

/// Whether it runs that path, or what a `*` at its end stands for.
fn runs(program: &Program, path: &str) -> bool {
    let run = if program.script.is_empty() {
        &program.executable
    } else {
        &program.script
    };
    match path.strip_suffix('*') {
        Some(beginning) => run.starts_with(beginning.as_bytes()),
        None => run == path.as_bytes(),
    }
}

/// The package that brought it, if it is as that brought it.
fn package_of(program: &Program) -> Option<&[u8]> {
    match &program.facts()?.origin {
        Origin::Package(package) if package.intact != Some(false) => Some(&package.name),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
