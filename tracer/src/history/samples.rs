//! Things that happened, for tests, and a history that has them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::item::{End, Item, What};
use super::store::Options;
use super::writer::Writer;
use crate::clock;
use crate::dns::names::{Domain, KnownFrom};
use crate::event::{BootTime, Endpoints, ProcessKey, Protocol, SocketId, Totals};
use crate::host::Host;
use crate::identity::BootId;
use crate::observation::{ConnState, Connection, ConnectionId, Direction, Opening};
use crate::output::About;
use crate::output::names::HookNames;
use crate::process::image::{Image, Parent, Program, Provenance, Relation};

/// How far the wall clock is ahead, in nanoseconds.
pub(crate) const OFFSET: i64 = 1_700_000_000_000_000_000;

/// A process with its arguments, and who forked it.
pub(crate) fn image(
    tgid: u32,
    name: &[u8],
    arguments: &[u8],
    parent: Option<&Arc<Image>>,
) -> Arc<Image> {
    let program = Program {
        executable: b"/usr/bin/sample".as_slice().into(),
        arguments: Some(arguments.to_vec().into()),
        ..Program::default()
    };
    Arc::new(Image {
        key: ProcessKey {
            tgid,
            start_ns: u64::from(tgid),
        },
        euid: Some(0),
        program: Arc::new(program),
        parent: parent.map_or(Parent::Root, |parent| {
            Parent::Known(Relation::Birth, Arc::clone(parent))
        }),
        ..Image::sample(tgid, name)
    })
}

/// A connection that a process made.
pub(crate) fn connection(image: &Arc<Image>, opened: u64, remote: &str) -> Connection {
    Connection {
        id: ConnectionId {
            first_seen_ns: opened,
            serial: 0,
        },
        socket: SocketId(0),
        protocol: Protocol::TCP,
        endpoints: Endpoints {
            netns: 1,
            local: ([10, 0, 0, 1], 40_000).into(),
            remote: remote.parse().unwrap(),
            ipv6_socket: false,
        },
        direction: Direction::Egress,
        owner: Some(image.key),
        owner_provenance: Provenance::Kernel,
        opening: Opening::Connect,
        peer: None,
        opened_at: Some(BootTime(opened)),
        existing: false,
        cause: None,
        mptcp: false,
        domain: None,
    }
}

/// The same, by a name.
pub(crate) fn named(connection: Connection, name: &str) -> Connection {
    let domain = Some(Domain {
        name: name.into(),
        known_from: KnownFrom::Process,
    });
    Connection {
        domain,
        ..connection
    }
}

/// Its end in order, with what it carried.
pub(crate) fn ended(image: &Arc<Image>, time: u64, connection: Connection) -> Item {
    let end = End {
        failed: false,
        totals: Some(Totals {
            sent: 78,
            received: 190,
            ..Totals::default()
        }),
        subflows: Vec::new(),
        state: ConnState::SF,
        errno: None,
    };
    item(image, time, What::Ended(connection, Box::new(end)))
}

/// Something that a process did.
pub(crate) fn item(image: &Arc<Image>, time: u64, what: What) -> Item {
    Item {
        time: BootTime(time),
        process: Some(Arc::clone(image)),
        what,
        over: None,
        beyond: None,
    }
}

/// What is true of all of it.
pub(crate) fn about() -> About {
    About {
        host: Host {
            name: "sample".to_owned(),
            machine_id: None,
            boot_id: BootId([7; 16]),
        },
        offset: OFFSET,
        hooks: HookNames::default(),
        users: [(0, "root".to_owned())].into(),
        netns: None,
    }
}

/// A history that has items.
pub(crate) fn write(directory: &Path, items: Vec<Item>) {
    let mut writer = writer(directory);
    writer.batch(items);
    writer.finish();
}

/// What writes one.
pub(crate) fn writer(directory: &Path) -> Writer {
    let mut context = about().context();
    let options = Options {
        directory: directory.to_owned(),
        size_limit: u64::MAX,
        age_limit: Duration::MAX,
        group: None,
    };
    let run = clock::boot_time();
    Writer::new(options, &mut context, run, Arc::default())
}
