//! Processes: an ordinary one, a server in a container, and one whose every word is awkward.

use std::sync::Arc;

use bytes::Bytes;
use tracer::event::{
    CgroupId, FileId, FileStatus, FileVersion, Name, Privileges, ProcessKey, Session, Tty,
};
use tracer::process::cgroup::Cgroup;
use tracer::process::content::{Content, Facts, Origin, Package, PackageKind};
use tracer::process::fingerprint::Derived;
use tracer::process::image::{Brief, Image, Parent, Program, Provenance, Relation};

use super::SECOND;
use super::connections::cause;

/// A process without ancestors.
pub fn image(tgid: u32, name: &str, executable: &str, arguments: &[u8]) -> Image {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Image {
        key: ProcessKey {
            tgid,
            start_ns: SECOND + u64::from(tgid) * 1_000,
        },
        key_rounded: false,
        name: Name(comm),
        euid: Some(0),
        kernel_thread: false,
        program: Arc::new(Program {
            executable: Bytes::copy_from_slice(executable.as_bytes()),
            arguments: Some(Bytes::copy_from_slice(arguments)),
            working_directory: Bytes::from_static(b"/root"),
            invoked_as: Name(comm),
            file: Some(FileStatus {
                version: FileVersion {
                    id: FileId {
                        device: 8 << 20 | 1,
                        inode: 1_000_000 + u64::from(tgid),
                    },
                    size: 314_159,
                    changed_ns: 1_700_000_000_123_456_789,
                },
                mode: 0o100_755,
                links: 1,
                owner: 0,
                group: 0,
            }),
            ..Program::default()
        }),
        cgroup: Some(cgroup(3, b"/system.slice/ssh.service")),
        session: Session::default(),
        namespace_pid: None,
        has_host_root: true,
        in_user_namespace: false,
        parent: Parent::Root,
        present_parent: None,
        provenance: Provenance::Kernel,
        depth: 0,
        cause: None,
        fingerprint: Derived::default(),
    }
}

fn cgroup(node: u64, path: &[u8]) -> Arc<Cgroup> {
    let id = CgroupId { hierarchy: 0, node };
    Arc::new(Cgroup::new(id, path))
}

/// The same process as a child of `parent`.
pub fn child_of(parent: &Arc<Image>, relation: Relation, child: Image) -> Arc<Image> {
    let depth = parent.depth + 1;
    Arc::new(Image {
        parent: Parent::Known(relation, parent.clone()),
        depth,
        ..child
    })
}

/// What an examination has found of an executed file.
fn examined(image: Image, facts: Facts) -> Image {
    let content = Content::new(FileVersion::default());
    content.learn(facts);
    let program = Program {
        content: Some(Arc::new(content)),
        ..(*image.program).clone()
    };
    Image {
        program: Arc::new(program),
        ..image
    }
}

/// A file as its package brought it, or not.
fn packaged(name: &'static [u8], intact: bool) -> Facts {
    let package = Package {
        kind: PackageKind::Deb,
        name: Bytes::from_static(name),
        version: Bytes::from_static(b"7.88.1-10+deb12u8"),
        architecture: Bytes::from_static(b"amd64"),
        intact: Some(intact),
    };
    Facts {
        sha256: Some([0xa5; 32]),
        build_id: Some([0x0f; 20].into()),
        origin: Origin::Package(Box::new(package)),
        users: None,
    }
}

/// `curl` in a shell in a session of `sshd`.
pub fn curl() -> Arc<Image> {
    let old = |image: Image| Image {
        provenance: Provenance::Procfs,
        ..image
    };
    let systemd = Arc::new(old(image(
        1,
        "systemd",
        "/usr/lib/systemd/systemd",
        b"/sbin/init\0",
    )));
    let sshd = old(image(812, "sshd", "/usr/sbin/sshd", b"sshd: root@pts/0\0"));
    let sshd = child_of(&systemd, Relation::Present, sshd);
    let bash = child_of(
        &sshd,
        Relation::Birth,
        old(image(4210, "bash", "/usr/bin/bash", b"-bash\0")),
    );
    let arguments = b"curl\0-s\0https://example.org\0";
    let image = image(4312, "curl", "/usr/bin/curl", arguments);
    let curl = Image {
        cgroup: Some(cgroup(4, b"/user.slice/user-0.slice/session-3.scope")),
        session: Session {
            login_uid: Some(33),
            id: Some(3),
            tty: Some(Tty(136 << 20 | 1)),
        },
        cause: Some(cause()),
        ..examined(image, packaged(b"curl", true))
    };
    child_of(&bash, Relation::Birth, curl)
}

/// The first process of a container of a pod.
pub(super) fn server() -> Arc<Image> {
    let path = b"/kubepods.slice/kubepods-pod0d4a5b1c_1111_2222_3333_444455556666.slice/\
        cri-containerd-3f4b0c1d2e5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0.scope";
    let facts = Facts {
        sha256: Some([0x5a; 32]),
        origin: Origin::Unpackaged,
        ..Facts::default()
    };
    let image = image(4400, "server", "/bin/server", b"server\0");
    Arc::new(Image {
        cgroup: Some(cgroup(5, path)),
        namespace_pid: Some(1),
        has_host_root: false,
        ..examined(image, facts)
    })
}

/// A deleted program with the most awkward strings, whose parent nobody knows.
pub(super) fn awkward() -> Arc<Image> {
    let mut name = [0; 16];
    name[..9].copy_from_slice(b"a\xff\\\x1b[31m\n");
    let program = Program {
        executable: Bytes::from_static(b"/tmp/\xfe\x80 \"x\""),
        arguments: Some(Bytes::from_static(b"a\xff\0\0back\\slash\x07\0cut")),
        arguments_truncated: true,
        arguments_masked: true,
        working_directory: Bytes::from_static("/tmp/\u{202e}dir".as_bytes()),
        deleted: true,
        upper_layer: true,
        privileges: Privileges {
            setuid: true,
            ..Privileges::default()
        },
        script: Bytes::from_static(b"/tmp/\xffscript"),
        invoked_as: Name(*b"script\0\0\0\0\0\0\0\0\0\0"),
        ..Program::default()
    };
    let plain = examined(
        Image {
            program: Arc::new(program),
            ..image(5001, "", "", b"")
        },
        packaged(b"curl\xff\x1b", false),
    );
    let reaper = image(900, "a\\b", "/usr/bin/reaper", b"reaper\0");
    let provenance = Provenance::Procfs;
    let (name, parent) = (Name(name), Parent::Unknown);
    let euid = Some(4_000_000_000);
    Arc::new(Image {
        name,
        parent,
        present_parent: Some(Arc::new(Brief::from(&reaper))),
        provenance,
        euid,
        cgroup: Some(cgroup(6, b"/lxc.payload.\xff\x1bname")),
        key_rounded: true,
        ..plain
    })
}
