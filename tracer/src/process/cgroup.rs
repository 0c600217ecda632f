//! What the path of a cgroup says about who is in it.
//!
//! In: the path, from the root of its hierarchy. Out: a [`Cgroup`] with the container, the pod and the
//! systemd unit, as far as the runtimes' ways of naming cgroups tell.
//!
//! Containers nest, e.g. Kubernetes in Docker: the innermost container counts, and so does the innermost
//! pod. For units the rule is that of systemd: behind the slices at the beginning of the path comes the
//! unit, so that it is always one of the host's.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::event::CgroupId;

/// A cgroup and what its path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Which one.
    pub id: CgroupId,
    /// From the root of its hierarchy.
    pub path: Bytes,
    /// The container that it belongs to.
    pub container: Option<Container>,
    /// UID of the pod that it belongs to.
    pub pod: Option<Bytes>,
    /// The systemd unit that it belongs to: a service, a scope, …
    pub unit: Option<Bytes>,
    /// The systemd slice that this is in.
    pub slice: Option<Bytes>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits, or a name with LXC and systemd-nspawn.
    pub id: Bytes,
    /// What runs it; `None` if the path does not tell.
    pub runtime: Option<&'static str>,
}

/// What a container's ID is prefixed with, and who does that.
const PREFIXES: [(&[u8], &str); 6] = [
    (b"docker", "docker"),
    (b"cri-containerd", "containerd"),
    (b"nerdctl", "containerd"),
    (b"crio", "cri-o"),
    (b"libpod", "podman"),
    (b"libpod-payload", "podman"),
];

/// In which directories containers have nothing but their ID for a name, and who makes these. The last two
/// are names of containerd's namespaces.
const PARENTS: [(&[u8], &str); 3] = [
    (b"docker", "docker"),
    (b"k8s.io", "containerd"),
    (b"default", "containerd"),
];

/// Kinds of systemd units that have processes.
const UNITS: [&[u8]; 5] = [b".service", b".scope", b".socket", b".mount", b".swap"];

impl Cgroup {
    /// The cgroup of this ID and path.
    pub fn new(id: CgroupId, path: &[u8]) -> Self {
        let path = Bytes::copy_from_slice(path);
        let components: Vec<Bytes> = path
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty())
            .map(|component| path.slice_ref(component))
            .collect();
        // From the longest path to the shortest: the innermost counts.
        let mut paths = (1..=components.len())
            .rev()
            .map(|length| &components[..length]);
        let container = paths.clone().find_map(container);
        let pod = paths.find_map(pod);
        let slices = components
            .iter()
            .take_while(|component| component.ends_with(b".slice"))
            .count();
        let unit = components.get(slices).filter(|component| {
            UNITS
                .iter()
                .any(|kind| component.len() > kind.len() && component.ends_with(kind))
        });
        let slice = slices.checked_sub(1).map(|last| &components[last]);
        Self {
            unit: unit.map(unescaped),
            slice: slice.map(unescaped),
            id,
            container,
            pod,
            path,
        }
    }
}

/// The container that the last component of a path is for.
fn container(path: &[Bytes]) -> Option<Container> {
    let (name, above) = path.split_last()?;
    let parent = above.last().map_or(&b""[..], |parent| parent);
    let known = |id: &[u8], runtime| Container {
        id: name.slice_ref(id),
        runtime,
    };
    // containerd that was given a systemd path but makes the cgroup itself: SLICE:PREFIX:ID.
    if let Some((before, id)) = split_last(name, b':').filter(|(_, id)| is_id(id)) {
        let prefix = split_last(before, b':').map_or(before, |(_, prefix)| prefix);
        return Some(known(id, runtime_of(&PREFIXES, prefix)));
    }
    let stem = name.strip_suffix(b".scope").unwrap_or(name);
    if let Some((prefix, id)) = split_last(stem, b'-').filter(|(_, id)| is_id(id)) {
        let runtime = runtime_of(&PREFIXES, prefix);
        // Whatever runs in a pod is a container, except for what watches one.
        let is_container =
            runtime.is_some() || pod(above).is_some() && !prefix.ends_with(b"conmon");
        return is_container.then(|| known(id, runtime));
    }
    if is_id(name) {
        // Podman's pods look like others' containers.
        let is_pod = parent == b"libpod_parent";
        return (!is_pod).then(|| known(name, runtime_of(&PARENTS, parent)));
    }
    let lxc = match parent {
        b"lxc" if above.len() == 1 => Some(&name[..]),
        b"lxc.payload" => Some(&name[..]),
        _ => name.strip_prefix(b"lxc.payload."),
    };
    if let Some(lxc) = lxc.filter(|lxc| !lxc.is_empty()) {
        return Some(known(lxc, Some("lxc")));
    }
    (name == "payload").then(|| nspawn(parent)).flatten()
}

fn runtime_of(table: &[(&[u8], &'static str)], name: &[u8]) -> Option<&'static str> {
    let row = table.iter().find(|(known, _)| *known == name);
    row.map(|(_, runtime)| *runtime)
}

/// The machine whose `payload` is in this unit.
fn nspawn(unit: &[u8]) -> Option<Container> {
    let service = |unit: &'_ [u8]| {
        let machine = unit.strip_prefix(b"systemd-nspawn@")?;
        machine.strip_suffix(b".service").map(<[u8]>::to_vec)
    };
    let scope = |unit: &'_ [u8]| {
        let machine = unit.strip_prefix(b"machine-")?;
        machine.strip_suffix(b".scope").map(<[u8]>::to_vec)
    };
    let machine = service(unit).or_else(|| scope(unit))?;
    Some(Container {
        id: systemd_unescaped(&machine),
        runtime: Some("systemd-nspawn"),
    })
}

/// Undoes `\x2d` and its like, by which systemd puts any name into that of a unit.
fn systemd_unescaped(name: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let digits = tail.strip_prefix(b"x").and_then(|tail| tail.get(..2));
        let byte = digits
            .filter(|_| *first == b'\\')
            .and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok());
        out.put_u8(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[3..] } else { tail };
    }
    out.freeze()
}

/// UID of the pod that the last component of a path is for.
fn pod(path: &[Bytes]) -> Option<Bytes> {
    let (name, above) = path.split_last()?;
    if let Some(uid) = name.strip_prefix(b"pod") {
        let is_kubelets = above.iter().any(|component| component == "kubepods");
        return (is_kubelets && is_pod_uid(uid)).then(|| name.slice_ref(uid));
    }
    // In a slice's name a dash separates, so that those of the UID have become underscores.
    let slice = name.split(|&byte| byte == b':').next()?;
    let stem = slice.strip_suffix(b".slice")?;
    let (slices, last) = split_last(stem, b'-')?;
    let is_kubelets = slices
        .split(|&byte| byte == b'-')
        .any(|part| part == b"kubepods");
    let uid: Bytes = last
        .strip_prefix(b"pod")?
        .iter()
        .map(|&byte| if byte == b'_' { b'-' } else { byte })
        .collect();
    (is_kubelets && is_pod_uid(&uid)).then_some(uid)
}

/// A UUID, or the 32 digits that the kubelet gives a pod of its own configuration.
fn is_pod_uid(uid: &[u8]) -> bool {
    let mut parts = uid.split(|&byte| byte == b'-').map(<[u8]>::len);
    let is_uuid = parts.by_ref().eq([8, 4, 4, 4, 12]);
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (is_uuid || uid.len() == 32)
        && uid
            .iter()
            .all(|byte| is_hex(byte) || is_uuid && *byte == b'-')
}

fn is_id(text: &[u8]) -> bool {
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.iter().all(is_hex)
}

/// What is before and after the last `separator`.
fn split_last(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().rposition(|&byte| byte == separator)?;
    Some((&text[..at], &text[at + 1..]))
}

/// The unit's name: systemd puts an underscore before one that the kernel might take for its own.
fn unescaped(component: &Bytes) -> Bytes {
    component.slice(usize::from(component.starts_with(b"_"))..)
}

#[cfg(test)]
mod tests;
