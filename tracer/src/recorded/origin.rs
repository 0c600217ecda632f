//! Where and when lines were recorded.
//!
//! In: host, identifiers and times of a line. Out: what is true of it and of those around it. Host, boot and the offset
//! of the clocks follow from any line about a process; users, hooks and names of network namespaces are learned as
//! they are told.

use std::sync::Arc;

use super::document::{Document, Host as HostMember};
use super::error::LineError;
use super::words::{self, Ids};
use crate::event::BootTime;
use crate::host::Host;
use crate::identity::BootId;
use crate::observation::Connection;
use crate::output::About;
use crate::output::names::HookNames;
use crate::process::image::Image;

type Result<T> = std::result::Result<T, LineError>;

/// What is true of the lines read last.
#[derive(Debug, Default)]
pub(super) struct Origin {
    about: Option<Arc<About>>,
}

/// What a line says of its origin.
pub(super) struct Place {
    /// When it happened.
    pub(super) time: BootTime,
    host: Host,
    offset: i64,
}

impl Origin {
    /// What is true of the last line.
    pub(super) fn about(&self) -> Option<&Arc<About>> {
        self.about.as_ref()
    }

    /// Finds out when a line happened. Its first identifier is added to `ids`.
    pub(super) fn place(&self, document: &Document<'_>, ids: &mut Ids) -> Result<Place> {
        let timestamp = words::time("@timestamp", &document.timestamp)?;
        let measured = measured(document, timestamp, ids)?;
        let known = self.about.as_deref().filter(|about| {
            let is_boot = |boot: BootId| about.host.boot_id == boot;
            is_host(&about.host, &document.host) && ids.boot().is_none_or(is_boot)
        });
        let offset = match (measured, known) {
            (Measured::ByProcess(offset), _) => offset,
            (_, Some(about)) => about.offset,
            (Measured::ByConnection(offset), None) => offset,
            (Measured::Not, None) => 0,
        };
        let time = timestamp.checked_sub(offset);
        let time = time.and_then(|time| u64::try_from(time).ok());
        let time = time.filter(|&time| time <= words::TIME_MAX);
        let machine_id = document.host.id.as_deref();
        let machine_id = machine_id
            .map(|id| words::plain("host.id", id))
            .transpose()?;
        let boot_id = ids.boot().or(known.map(|about| about.host.boot_id));
        Ok(Place {
            time: BootTime(time.ok_or(LineError::wrong(
                "@timestamp",
                "after the boot of its host, as process.start tells that",
            ))?),
            host: Host {
                name: (*document.host.name).to_owned(),
                machine_id: machine_id.map(str::to_owned),
                boot_id: boot_id.unwrap_or_default(),
            },
            offset,
        })
    }

    /// Whether a line is of another host or boot than the one before.
    pub(super) fn is_other(&self, place: &Place) -> bool {
        let about = self.about.as_ref();
        about.is_none_or(|about| about.host != place.host)
    }

    /// Takes over what a line says.
    pub(super) fn learn(
        &mut self,
        place: Place,
        document: &Document<'_>,
        process: Option<&Image>,
        connection: Option<&Connection>,
    ) {
        let is_other = self.is_other(&place);
        let before = self.about.take().filter(|_| !is_other);
        let mut about = match before {
            Some(about) => about,
            None => Arc::new(About {
                host: place.host,
                offset: place.offset,
                hooks: HookNames::default(),
                users: [].into(),
                netns: Some([].into()),
            }),
        };
        if about.offset != place.offset {
            Arc::make_mut(&mut about).offset = place.offset;
        }
        if let Some(image) = process.filter(|image| image.has_host_users()) {
            learn_users(&mut about, document, image);
        }
        if let Some(connection) = connection {
            learn_hook(&mut about, document, connection);
        }
        learn_netns(&mut about, document);
        self.about = Some(about);
    }
}

/// How far the wall clock was ahead, by what a line tells.
enum Measured {
    /// Exactly: when its process was started, by both clocks.
    ByProcess(i64),
    /// As if it had happened when its connection was first seen.
    ByConnection(i64),
    Not,
}

fn measured(document: &Document<'_>, timestamp: i64, ids: &mut Ids) -> Result<Measured> {
    let ahead = |wall: i64, boot: u64| wall.saturating_sub(i64::try_from(boot).unwrap_or(i64::MAX));
    if let Some(process) = &document.process {
        let (key, _) = ids.process("process.entity_id", &process.entity_id)?;
        let start = words::time("process.start", &process.start)?;
        return Ok(Measured::ByProcess(ahead(start, key.start_ns)));
    }
    if let Some(id) = &document.tracer.connection_id {
        let id = ids.connection("tracer.connection_id", id)?;
        return Ok(Measured::ByConnection(ahead(timestamp, id.first_seen_ns)));
    }
    Ok(Measured::Not)
}

fn is_host(host: &Host, member: &HostMember<'_>) -> bool {
    *host.name == *member.name && host.machine_id.as_deref() == member.id.as_deref()
}

fn learn_users(about: &mut Arc<About>, document: &Document<'_>, image: &Image) {
    let Some(process) = &document.process else {
        return;
    };
    let named = [
        (image.euid, &process.user),
        (image.session.login_uid, &process.login_user),
    ];
    for (id, user) in named {
        let Some(id) = id else { continue };
        let name = user.as_ref().and_then(|user| user.name.as_deref());
        if about.users.get(&id).map(String::as_str) == name {
            continue;
        }
        let users = &mut Arc::make_mut(about).users;
        match name {
            Some(name) => drop(users.insert(id, name.to_owned())),
            None => drop(users.remove(&id)),
        }
    }
}

fn learn_hook(about: &mut Arc<About>, document: &Document<'_>, connection: &Connection) {
    let hook = document.tracer.hook.as_deref();
    if about.hooks.of(connection) == hook {
        return;
    }
    let (opening, ipv6) = (connection.opening, connection.endpoints.ipv6_socket);
    let place = Arc::make_mut(about).hooks.of_mut(opening, ipv6);
    hook.unwrap_or_default().clone_into(place);
}

fn learn_netns(about: &mut Arc<About>, document: &Document<'_>) {
    let Some(netns) = &document.tracer.netns else {
        return;
    };
    let name = netns.name.as_deref();
    let known = |about: &About| {
        let names = about.netns.as_ref()?;
        names.get(&netns.id).cloned()
    };
    if known(about).as_deref() == name {
        return;
    }
    let names = Arc::make_mut(about).netns.get_or_insert_default();
    match name {
        Some(name) => drop(names.insert(netns.id, name.to_owned())),
        None => drop(names.remove(&netns.id)),
    }
}
