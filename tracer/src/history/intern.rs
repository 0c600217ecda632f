//! What many rows refer to, stored once: strings, programs, processes, lineages, contacts.
//!
//! In: what a row is about. Out: the number of the row that has it, which is written first if there is none.
//! What has been written is remembered up to a bound; what has been forgotten is written a second time,
//! which costs room and changes no answer.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, Hash};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, Result, params};
use serde_json::json;

use super::code::{Coded as _, bits};
use crate::event::{FileStatus, FileVersion, Protocol};
use crate::observation::{ConnState, Connection as Traced, Direction, Opening};
use crate::output::lineage::write_lineage;
use crate::passwd::Names;
use crate::process::cause::Cause;
use crate::process::cgroup::Cgroup;
use crate::process::content::{Content, Origin};
use crate::process::image::{Brief, Image, Parent, Program, Provenance, Relation};

/// How many contacts, strings, and how many of anything else, are remembered.
const CONTACTS_MAX: usize = 131_072;
const STRINGS_MAX: usize = 65_536;
const OTHERS_MAX: usize = 16_384;

/// How the parent of a process is stored, beside the row of the parent: two bits of its flags.
pub(super) mod parent {
    pub(in crate::history) const BIRTH: i64 = 0;
    pub(in crate::history) const PRESENT: i64 = 1;
    pub(in crate::history) const UNKNOWN: i64 = 2;
    pub(in crate::history) const CUT: i64 = 3;
}

/// Bytes as text where they are UTF-8, which is what people can compare with, else as they are.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match std::str::from_utf8(self.0) {
            Ok(_) => ValueRef::Text(self.0),
            Err(_) => ValueRef::Blob(self.0),
        }))
    }
}

/// Rows by a key. It forgets everything when it is full.
struct Known<K, V = i64>(HashMap<K, V, FixedState>);

impl<K: Hash + Eq, V> Known<K, V> {
    fn new() -> Self {
        Self(HashMap::with_hasher(FixedState::default()))
    }

    fn remember(&mut self, key: K, row: V, limit: usize) {
        if self.0.len() >= limit {
            self.0.clear();
        }
        self.0.insert(key, row);
    }
}

/// How a connection came to be, from which address.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Way {
    direction: Direction,
    protocol: Protocol,
    local: IpAddr,
    netns: u32,
    provenance: Provenance,
    opening: Opening,
    ipv6_socket: bool,
    existing: bool,
    mptcp: bool,
}

/// Who talks to whom, as far as it is the same for many connections.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Contact {
    lineage: Option<i64>,
    way: i64,
    remote: IpAddr,
    port: u16,
    domain: Option<(i64, i64)>,
}

/// What tells lineages apart: fingerprint, text, user, container.
type LineageKey = ([u8; 16], i64, Option<u32>, Option<i64>);

/// The rows of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    /// Its own.
    pub(super) row: i64,
    /// That of its lineage.
    lineage: i64,
}

/// Everything that rows refer to.
pub(super) struct Interned {
    base: i64,
    strings: Known<u128>,
    programs: Known<usize>,
    same_programs: Known<[Option<i64>; 11]>,
    contents: Known<FileVersion>,
    users: Known<usize>,
    cgroups: Known<(u32, u64)>,
    lineages: Known<LineageKey>,
    processes: Known<usize, Written>,
    causes: Known<usize>,
    endings: Known<(bool, ConnState, Option<u32>, u32)>,
    ways: Known<Way>,
    contacts: Known<Contact>,
    /// What the numbers of the other maps point to, so that no address is used again.
    kept_images: Vec<Arc<Image>>,
    kept_programs: Vec<Arc<Program>>,
    kept_causes: Vec<Arc<Cause>>,
    kept_users: Vec<Arc<Names>>,
    /// Contents of which nothing was known when they were written.
    unexamined: Vec<(i64, Arc<Content>)>,
}

impl Interned {
    /// For an empty file whose times begin at `base`.
    pub(super) fn new(base: i64) -> Self {
        Self {
            base,
            strings: Known::new(),
            programs: Known::new(),
            same_programs: Known::new(),
            contents: Known::new(),
            users: Known::new(),
            cgroups: Known::new(),
            lineages: Known::new(),
            processes: Known::new(),
            causes: Known::new(),
            endings: Known::new(),
            ways: Known::new(),
            contacts: Known::new(),
            kept_images: Vec::new(),
            kept_programs: Vec::new(),
            kept_causes: Vec::new(),
            kept_users: Vec::new(),
            unexamined: Vec::new(),
        }
    }

    /// The row of a string; `None` for an empty one.
    pub(super) fn string(&mut self, database: &Connection, bytes: &[u8]) -> Result<Option<i64>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        // Two hashes of 64 bits: strings that share both are not to be expected in the life of a host.
        let half = |seed| u128::from(FixedState::with_seed(seed).hash_one(bytes));
        let key = half(1) << 64 | half(2);
        if let Some(&row) = self.strings.0.get(&key) {
            return Ok(Some(row));
        }
        let mut insert = database.prepare_cached("INSERT INTO string (value) VALUES (?1)")?;
        let row = insert.insert([Text(bytes)])?;
        self.strings.remember(key, row, STRINGS_MAX);
        Ok(Some(row))
    }

    fn content(&mut self, database: &Connection, content: &Arc<Content>) -> Result<i64> {
        let key = *content.version();
        if let Some(&row) = self.contents.0.get(&key) {
            return Ok(row);
        }
        let mut insert = database.prepare_cached(
            "INSERT INTO content (device, inode, size, changed) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let row = insert.insert(params![
            key.id.device,
            key.id.inode.cast_signed(),
            key.size.cast_signed(),
            key.changed_ns
        ])?;
        if self.unexamined.len() < OTHERS_MAX {
            self.unexamined.push((row, Arc::clone(content)));
        }
        self.contents.remember(key, row, OTHERS_MAX);
        Ok(row)
    }

    /// Writes what has been found out about files since they were written.
    pub(super) fn learn(&mut self, database: &Connection) -> Result<()> {
        let mut pending = std::mem::take(&mut self.unexamined);
        for (row, content) in pending.extract_if(.., |(_, content)| content.facts().is_some()) {
            self.facts(database, row, &content)?;
        }
        // Whoever holds the only reference waits for facts that nobody will tell.
        pending.retain(|(_, content)| Arc::strong_count(content) > 1);
        self.unexamined = pending;
        Ok(())
    }

    fn facts(&mut self, database: &Connection, row: i64, content: &Content) -> Result<()> {
        let Some(facts) = content.facts() else {
            return Ok(());
        };
        let package = match &facts.origin {
            Origin::Package(package) => Some(package),
            Origin::Unknown | Origin::Unpackaged => None,
        };
        let mut of_package = |field: fn(&crate::process::content::Package) -> &Bytes| match package
        {
            Some(package) => self.string(database, field(package)),
            None => Ok(None),
        };
        let name = of_package(|package| &package.name)?;
        let version = of_package(|package| &package.version)?;
        let architecture = of_package(|package| &package.architecture)?;
        let users = match &facts.users {
            Some(users) => Some(self.users(database, users)?),
            None => None,
        };
        let mut update = database.prepare_cached(
            "UPDATE content SET sha256 = ?2, build_id = ?3, origin = ?4, package_type = ?5,
             package_name = ?6, package_version = ?7, package_architecture = ?8, intact = ?9, users = ?10
             WHERE id = ?1",
        )?;
        update.execute(params![
            row,
            facts.sha256.as_ref().map(<[u8; 32]>::as_slice),
            facts.build_id.as_deref(),
            match facts.origin {
                Origin::Unknown => 0,
                Origin::Unpackaged => 1,
                Origin::Package(_) => 2,
            },
            package.map(|package| package.kind.code()),
            name,
            version,
            architecture,
            package.and_then(|package| package.intact),
            users,
        ])?;
        Ok(())
    }

    fn users(&mut self, database: &Connection, users: &Arc<Names>) -> Result<i64> {
        let key = Arc::as_ptr(users) as usize;
        if let Some(&row) = self.users.0.get(&key) {
            return Ok(row);
        }
        let mut insert = database.prepare_cached("INSERT INTO users (names) VALUES (?1)")?;
        let row = insert.insert([json!(**users).to_string()])?;
        if self.kept_users.len() >= OTHERS_MAX {
            self.kept_users.clear();
            self.users.0.clear();
        }
        self.kept_users.push(Arc::clone(users));
        self.users.remember(key, row, OTHERS_MAX);
        Ok(row)
    }

    fn program(&mut self, database: &Connection, program: &Arc<Program>) -> Result<i64> {
        let key = Arc::as_ptr(program) as usize;
        if let Some(&row) = self.programs.0.get(&key) {
            return Ok(row);
        }
        let content = match &program.content {
            Some(content) => Some(self.content(database, content)?),
            None => None,
        };
        let executable = self.string(database, &program.executable)?;
        let script = self.string(database, &program.script)?;
        let working_directory = self.string(database, &program.working_directory)?;
        let invoked_as = self.string(database, program.invoked_as.as_bytes())?;
        let arguments = match program.arguments.as_deref() {
            Some(arguments) => self.string(database, &stored_arguments(arguments))?,
            None => None,
        };
        let flags = bits([
            program.executable_truncated,
            program.memfd,
            program.deleted,
            program.upper_layer,
            program.script_truncated,
            program.arguments_truncated,
            program.arguments_masked,
            program.privileges.setuid,
            program.privileges.setgid,
            program.privileges.capabilities,
            program
                .arguments
                .as_deref()
                .is_some_and(|arguments| arguments.ends_with(b"\0")),
        ]);
        // A file whose content nobody knows has a version still: the content's row has it.
        let content = match (content, &program.file) {
            (None, Some(file)) => {
                let content = Arc::new(Content::new(file.version));
                Some(self.content(database, &content)?)
            }
            (content, _) => content,
        };
        let file = program.file.as_ref();
        let of_file = |member: fn(&FileStatus) -> u32| file.map(|file| i64::from(member(file)));
        let columns = [
            executable,
            content,
            of_file(|file| file.mode),
            of_file(|file| file.links),
            of_file(|file| file.owner),
            of_file(|file| file.group),
            script,
            arguments,
            working_directory,
            invoked_as,
            Some(flags),
        ];
        // Who executes the same once more has a program of its own, but not a row.
        let row = match self.same_programs.0.get(&columns) {
            Some(&row) => row,
            None => {
                let mut insert = database.prepare_cached(
                    "INSERT INTO program (executable, content, mode, links, owner, owner_group, script,
                     arguments, working_directory, invoked_as, flags)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
                )?;
                let row = insert.insert(columns)?;
                self.same_programs.remember(columns, row, OTHERS_MAX);
                row
            }
        };
        if self.kept_programs.len() >= OTHERS_MAX {
            self.kept_programs.clear();
            self.programs.0.clear();
        }
        self.kept_programs.push(Arc::clone(program));
        self.programs.remember(key, row, OTHERS_MAX);
        Ok(row)
    }

    fn cgroup(&mut self, database: &Connection, cgroup: &Cgroup) -> Result<i64> {
        let key = (cgroup.id.hierarchy, cgroup.id.node);
        if let Some(&row) = self.cgroups.0.get(&key) {
            return Ok(row);
        }
        let path = self.string(database, &cgroup.path)?;
        let container = self.container(database, Some(cgroup))?;
        let mut insert = database.prepare_cached(
            "INSERT INTO cgroup (hierarchy, node, path, container) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let row = insert.insert(params![key.0, key.1.cast_signed(), path, container])?;
        self.cgroups.remember(key, row, OTHERS_MAX);
        Ok(row)
    }

    fn container(&mut self, database: &Connection, cgroup: Option<&Cgroup>) -> Result<Option<i64>> {
        match cgroup.and_then(|cgroup| cgroup.container.as_ref()) {
            Some(container) => self.string(database, &container.id),
            None => Ok(None),
        }
    }

    fn lineage(&mut self, database: &Connection, image: &Image) -> Result<i64> {
        let mut text = Vec::new();
        write_lineage(image, &mut text);
        let text = self.string(database, &text)?;
        let container = self.container(database, image.cgroup.as_deref())?;
        let key = (
            image.fingerprint(),
            text.unwrap_or_default(),
            image.euid,
            container,
        );
        if let Some(&row) = self.lineages.0.get(&key) {
            return Ok(row);
        }
        let name = self.string(database, image.name.as_bytes())?;
        let executable = self.string(database, &image.program.executable)?;
        let mut insert = database.prepare_cached(
            "INSERT INTO lineage (fingerprint, text, name, executable, uid, container)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let row = insert.insert(params![
            image.fingerprint().as_slice(),
            text,
            name,
            executable,
            image.euid,
            container
        ])?;
        self.lineages.remember(key, row, OTHERS_MAX);
        Ok(row)
    }

    /// The rows of a process, after those of its ancestors.
    pub(super) fn process(&mut self, database: &Connection, image: &Arc<Image>) -> Result<Written> {
        let key = |image: &Arc<Image>| Arc::as_ptr(image) as usize;
        if let Some(&written) = self.processes.0.get(&key(image)) {
            return Ok(written);
        }
        let mut missing = vec![image];
        let mut next = image;
        let mut above = loop {
            match &next.parent {
                Parent::Known(_, parent) => match self.processes.0.get(&key(parent)) {
                    Some(written) => break Some(written.row),
                    None => missing.push(parent),
                },
                Parent::Root | Parent::Unknown | Parent::Cut => break None,
            }
            next = missing[missing.len() - 1];
        };
        if self.kept_images.len() + missing.len() > OTHERS_MAX {
            self.kept_images.clear();
            self.processes.0.clear();
        }
        while let Some(ancestor) = missing.pop() {
            let written = self.new_process(database, ancestor, above)?;
            above = Some(written.row);
            self.kept_images.push(Arc::clone(ancestor));
            self.processes.remember(key(ancestor), written, OTHERS_MAX);
            if missing.is_empty() {
                return Ok(written);
            }
        }
        unreachable!("the process itself is missing")
    }

    fn new_process(
        &mut self,
        database: &Connection,
        image: &Image,
        parent: Option<i64>,
    ) -> Result<Written> {
        let name = self.string(database, image.name.as_bytes())?;
        let program = self.program(database, &image.program)?;
        let lineage = self.lineage(database, image)?;
        let cgroup = match &image.cgroup {
            Some(cgroup) => Some(self.cgroup(database, cgroup)?),
            None => None,
        };
        let cause = self.cause(database, image.cause.as_ref())?;
        let present_parent = match &image.present_parent {
            Some(brief) => Some(self.brief(database, brief)?),
            None => None,
        };
        let relation = match &image.parent {
            Parent::Known(Relation::Birth, _) | Parent::Root => parent::BIRTH,
            Parent::Known(Relation::Present, _) => parent::PRESENT,
            Parent::Unknown => parent::UNKNOWN,
            Parent::Cut => parent::CUT,
        };
        let flags = relation
            | image.provenance.code() << 2
            | bits([
                image.key_rounded,
                image.kernel_thread,
                image.has_host_root,
                image.in_user_namespace,
            ]) << 4;
        let mut insert = database.prepare_cached(
            "INSERT INTO process (pid, start, name, program, lineage, uid, cgroup, login_uid, session, tty,
             namespace_pid, parent, present_parent, cause, flags)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?;
        let row = insert.insert(params![
            image.key.tgid,
            self.time(image.key.start_ns),
            name,
            program,
            lineage,
            image.euid,
            cgroup,
            image.session.login_uid,
            image.session.id,
            image.session.tty.map(|tty| tty.0),
            image.namespace_pid,
            parent,
            present_parent,
            cause,
            flags,
        ])?;
        Ok(Written { row, lineage })
    }

    /// A process of which only the name and the program count.
    fn brief(&mut self, database: &Connection, brief: &Brief) -> Result<i64> {
        let name = self.string(database, brief.name.as_bytes())?;
        let program = self.program(database, &brief.program)?;
        let rounded = bits([brief.key_rounded]) << 4;
        let flags = parent::UNKNOWN | Provenance::Unknown.code() << 2 | rounded;
        let mut insert = database.prepare_cached(
            "INSERT INTO process (pid, start, name, program, flags) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        insert.insert(params![
            brief.key.tgid,
            self.time(brief.key.start_ns),
            name,
            program,
            flags
        ])
    }

    /// The row of a cause, after those of what led to it.
    pub(super) fn cause(
        &mut self,
        database: &Connection,
        cause: Option<&Arc<Cause>>,
    ) -> Result<Option<i64>> {
        let Some(cause) = cause else { return Ok(None) };
        let key = Arc::as_ptr(cause) as usize;
        if let Some(&row) = self.causes.0.get(&key) {
            return Ok(Some(row));
        }
        // As deep as a chain of causes, which is bounded.
        let before = self.cause(database, cause.before.as_ref())?;
        let server = self.brief(database, &cause.server)?;
        let mut insert = database.prepare_cached(
            "INSERT INTO cause (first_seen, serial, peer, server, certainty, candidates, before)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let row = insert.insert(params![
            self.time(cause.connection.first_seen_ns),
            cause.connection.serial,
            cause.peer.to_string(),
            server,
            cause.certainty.code(),
            cause.candidates,
            before,
        ])?;
        if self.kept_causes.len() >= OTHERS_MAX {
            self.kept_causes.clear();
            self.causes.0.clear();
        }
        self.kept_causes.push(Arc::clone(cause));
        self.causes.remember(key, row, OTHERS_MAX);
        Ok(Some(row))
    }

    /// The row of how connections end.
    pub(super) fn ending(
        &mut self,
        database: &Connection,
        (failed, state, errno, retransmits): (bool, ConnState, Option<u32>, u32),
    ) -> Result<i64> {
        let key = (failed, state, errno, retransmits);
        if let Some(&row) = self.endings.0.get(&key) {
            return Ok(row);
        }
        let mut insert = database.prepare_cached(
            "INSERT INTO ending (failed, state, errno, retransmits) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let row = insert.insert(params![failed, state.code(), errno, retransmits])?;
        self.endings.remember(key, row, OTHERS_MAX);
        Ok(row)
    }

    /// The row of who talks to whom, and the port that is not part of it, which is the initiator's.
    pub(super) fn contact(
        &mut self,
        database: &Connection,
        traced: &Traced,
        owner: Option<Written>,
    ) -> Result<(i64, u16)> {
        let (local, remote) = (traced.endpoints.local, traced.endpoints.remote);
        let (port, other) = match traced.direction {
            Direction::Ingress => (local.port(), remote.port()),
            Direction::Egress | Direction::Unknown => (remote.port(), local.port()),
        };
        let domain = match &traced.domain {
            Some(domain) => {
                let name = self.string(database, domain.name.as_bytes())?;
                name.map(|name| (name, domain.known_from.code()))
            }
            None => None,
        };
        let way = self.way(database, traced)?;
        let key = Contact {
            lineage: owner.map(|owner| owner.lineage),
            way,
            remote: remote.ip(),
            port,
            domain,
        };
        if let Some(&row) = self.contacts.0.get(&key) {
            return Ok((row, other));
        }
        let remote = self.string(database, remote.ip().to_string().as_bytes())?;
        let mut insert = database.prepare_cached(
            "INSERT INTO contact (lineage, way, remote, port, domain, domain_known_from)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        let row = insert.insert(params![
            key.lineage,
            way,
            remote,
            port,
            domain.map(|(name, _)| name),
            domain.map(|(_, known_from)| known_from),
        ])?;
        self.contacts.remember(key, row, CONTACTS_MAX);
        Ok((row, other))
    }

    fn way(&mut self, database: &Connection, traced: &Traced) -> Result<i64> {
        let way = Way {
            direction: traced.direction,
            protocol: traced.protocol,
            local: traced.endpoints.local.ip(),
            netns: traced.endpoints.netns,
            provenance: traced.owner_provenance,
            opening: traced.opening,
            ipv6_socket: traced.endpoints.ipv6_socket,
            existing: traced.existing,
            mptcp: traced.mptcp,
        };
        if let Some(&row) = self.ways.0.get(&way) {
            return Ok(row);
        }
        let local = self.string(database, way.local.to_string().as_bytes())?;
        let mut insert = database.prepare_cached(
            "INSERT INTO way (direction, protocol, local, netns, provenance, opening, flags)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let row = insert.insert(params![
            way.direction.code(),
            way.protocol.0,
            local,
            way.netns,
            way.provenance.code(),
            way.opening.code(),
            bits([way.ipv6_socket, way.existing, way.mptcp]),
        ])?;
        self.ways.remember(way, row, OTHERS_MAX);
        Ok(row)
    }

    /// A time of `CLOCK_BOOTTIME` as this file has it.
    pub(super) fn time(&self, boot_ns: u64) -> i64 {
        boot_ns.cast_signed().wrapping_sub(self.base)
    }
}

/// Arguments as a list in JSON, of which SQL understands something; as they are where they are no text.
fn stored_arguments(arguments: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(arguments) else {
        return arguments.into();
    };
    let text = text.strip_suffix('\0').unwrap_or(text);
    let list: Vec<&str> = if arguments.is_empty() {
        Vec::new()
    } else {
        text.split('\0').collect()
    };
    json!(list).to_string().into_bytes().into()
}
