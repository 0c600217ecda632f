//! Pictures of families that are put together here.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::event::{Endpoints, ProcessKey, TcpState, Totals, Transport};
use crate::process::image::{Brief, Program, Provenance};

const SECOND: u64 = 1_000_000_000;
const NOW: BootTime = BootTime(100 * SECOND);

fn image(tgid: u32, name: &[u8], arguments: &[u8], parent: Parent) -> Arc<Image> {
    let start_ns = u64::from(tgid) * SECOND;
    Arc::new(Image {
        key: ProcessKey { tgid, start_ns },
        euid: Some(0),
        has_host_root: true,
        program: Arc::new(Program {
            arguments: Some(Bytes::copy_from_slice(arguments)),
            ..Program::default()
        }),
        parent,
        ..Image::sample(tgid, name)
    })
}

fn node(image: &Arc<Image>, life: Life) -> Node {
    let image = Arc::clone(image);
    Node {
        member: Member { image, life },
        sockets: Vec::new(),
        children: Vec::new(),
        omitted: 0,
    }
}

fn socket(local: &str, remote: &str, state: TcpState, owner: &Arc<Image>) -> Socket {
    Socket {
        transport: Transport::Tcp,
        state,
        endpoints: Endpoints {
            netns: 7,
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            ipv6_socket: false,
        },
        netns_name: None,
        is_in_own_netns: true,
        is_ingress: true,
        has_file: true,
        mptcp: false,
        queues: None,
        totals: Some(Totals {
            sent: 78,
            received: 2220,
            ..Totals::default()
        }),
        connection: None,
        owner: Some(Arc::clone(owner)),
        owner_provenance: Provenance::Kernel,
        holders: vec![Arc::clone(owner)],
    }
}

/// `init` and a server whose parent is only the present one; a worker of it that has ended, and what is left.
fn family() -> Tree {
    let birth = |parent: &Arc<Image>| Parent::Known(Relation::Birth, Arc::clone(parent));
    let init = image(1, b"init", b"/sbin/init\0", Parent::Root);
    let present = Parent::Known(Relation::Present, Arc::clone(&init));
    let server = image(40, b"httpd", b"httpd\0-D\0FOREGROUND\0", present);
    let worker = image(50, b"worker", b"worker\0", birth(&server));
    let mut evil = image(60, b"a\x1b[2J", b"\xe2\x86\x90\0\x9b\0", birth(&worker));
    let init_brief = Brief::from(&*init);
    Arc::make_mut(&mut evil).present_parent = Some(Arc::new(init_brief));
    let other = image(70, b"other", b"", birth(&server));
    let mut subject = node(&server, Life::Living);
    subject.sockets = vec![
        socket("0.0.0.0:80", "0.0.0.0:0", TcpState::Listen, &server),
        socket(
            "10.0.0.1:80",
            "10.0.0.9:51000",
            TcpState::Established,
            &server,
        ),
    ];
    let mut middle = node(&worker, Life::Exited(Some(BootTime(97 * SECOND))));
    middle.children = vec![node(&evil, Life::Living)];
    let mut last = node(&other, Life::Living);
    last.omitted = 2;
    last.sockets = vec![Socket {
        owner: None,
        owner_provenance: Provenance::Unknown,
        holders: vec![Arc::clone(&other), Arc::clone(&evil)],
        is_ingress: false,
        totals: None,
        ..socket("10.0.0.1:5", "10.0.0.2:6", TcpState::CloseWait, &other)
    }];
    subject.children = vec![middle, last];
    Tree {
        ancestors: vec![node(&init, Life::Living)],
        subject,
    }
}

fn drawn(tree: &Tree, look: Look) -> Vec<String> {
    let picture = draw(tree, look, NOW, Users::fixed(&[(0, "root")]));
    picture.lines().map(str::to_owned).collect()
}

#[test]
fn a_picture_shows_a_family_from_its_first_ancestor_down() {
    assert_eq!(
        drawn(&family(), Look::default()),
        [
            "init[1]  root  1 min 39 s  /sbin/init",
            "└─←? ▶ httpd[40]  root  1 min 0 s  httpd -D FOREGROUND",
            "  │   tcp 0.0.0.0:80  LISTEN",
            "  │   tcp 10.0.0.9:51000 → 10.0.0.1:80  ESTAB  sent 78 B, received 2.22 kB",
            "  ├─worker[50]  root  exited 3.00 s ago  worker",
            r"  │ └─a\u{1b}[2J[60]  root  40.0 s  (later below init[1])  ← \x9b",
            "  └─other[70]  root  30.0 s",
            r"    │   tcp 10.0.0.1:5 ↔ 10.0.0.2:6  CLOSE-WAIT  (owner ?; held by other[70] and 1 more)",
            "    └─… 2 descendants",
        ]
    );
}

#[test]
fn a_picture_in_ascii_has_nothing_else_and_is_as_wide_as_asked_for() {
    let look = Look {
        width: Some(50),
        ascii: true,
    };
    let lines = drawn(&family(), look);
    assert_eq!(
        lines,
        [
            "init[1]  root  1 min 39 s  /sbin/init",
            "`-<-? => httpd[40]  root  1 min 0 s  httpd -D F...",
            "  |   tcp 0.0.0.0:80  LISTEN",
            "  |   tcp 10.0.0.9:51000 -> 10.0.0.1:80  ESTAB ...",
            "  |-worker[50]  root  exited 3.00 s ago  worker",
            r"  | `-a\u{1b}[2J[60]  root  40.0 s  (later belo...",
            "  `-other[70]  root  30.0 s",
            "    |   tcp 10.0.0.1:5 <-> 10.0.0.2:6  CLOSE-WA...",
            "    `-... 2 descendants",
        ]
    );
}

#[test]
fn what_is_not_ascii_is_escaped_where_nothing_else_is_wanted() {
    let look = Look {
        width: None,
        ascii: true,
    };
    let lines = drawn(&family(), look);
    assert!(
        lines[5].ends_with(r"(later below init[1])  \u{2190} \x9b"),
        "{lines:?}"
    );
}

#[test]
fn unknown_ancestors_and_lives_are_shown_as_such() {
    let orphan = image(40, b"orphan", b"", Parent::Unknown);
    let tree = Tree {
        ancestors: vec![node(&orphan, Life::Unknown)],
        subject: node(&image(41, b"x", b"", Parent::Cut), Life::Exited(None)),
    };
    assert_eq!(
        drawn(&tree, Look::default()),
        [
            "?",
            "└─orphan[40]  root  perhaps exited",
            "  └─▶ x[41]  root  exited",
        ]
    );
}
