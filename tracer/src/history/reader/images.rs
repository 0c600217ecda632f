//! Processes as they were, out of a file of the history.
//!
//! In: numbers of rows. Out: images with their lineage, shared by whoever descends from the same.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Result};

use crate::event::{
    BootTime, CgroupId, FileId, FileStatus, FileVersion, Name, Privileges, ProcessKey, Session, Tty,
};
use crate::history::code::{Coded as _, flags};
use crate::history::intern::parent;
use crate::observation::ConnectionId;
use crate::passwd::Names;
use crate::process::cause::{Cause, Certainty};
use crate::process::cgroup::Cgroup;
use crate::process::content::{Content, Facts, Origin, Package, PackageKind};
use crate::process::fingerprint::{Derived, Fingerprint};
use crate::process::image::{Brief, Image, Parent, Program, Provenance, Relation};

/// How many rows of a kind are remembered.
const CACHE_MAX: usize = 65_536;

/// Rows that have been read.
struct Cache<T>(HashMap<i64, T, foldhash::fast::RandomState>);

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T: Clone> Cache<T> {
    fn get(&self, row: i64) -> Option<T> {
        self.0.get(&row).cloned()
    }

    fn keep(&mut self, row: i64, value: &T) {
        if self.0.len() >= CACHE_MAX {
            self.0.clear();
        }
        self.0.insert(row, value.clone());
    }
}

/// Reads processes and what belongs to them.
#[derive(Default)]
pub(super) struct Images {
    base: i64,
    strings: Cache<Bytes>,
    addresses: Cache<IpAddr>,
    images: Cache<Arc<Image>>,
    programs: Cache<Arc<Program>>,
    contents: Cache<Arc<Content>>,
    users: Cache<Arc<Names>>,
    cgroups: Cache<Arc<Cgroup>>,
    causes: Cache<Arc<Cause>>,
}

impl Images {
    /// Of a file whose times begin at `base`.
    pub(super) fn new(base: i64) -> Self {
        Self {
            base,
            ..Self::default()
        }
    }

    /// A time of the file as the kernel had it.
    pub(super) fn time(&self, stored: i64) -> BootTime {
        BootTime(stored.wrapping_add(self.base).cast_unsigned())
    }

    /// A string; empty if there is none.
    pub(super) fn string(&mut self, database: &Connection, row: Option<i64>) -> Result<Bytes> {
        let Some(row) = row.filter(|&row| row != 0) else {
            return Ok(Bytes::new());
        };
        if let Some(bytes) = self.strings.get(row) {
            return Ok(bytes);
        }
        let mut select = database.prepare_cached("SELECT value FROM string WHERE id = ?1")?;
        let value = select.query_row([row], |row| {
            Ok(match row.get_ref(0)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Bytes::copy_from_slice(bytes),
                _ => Bytes::new(),
            })
        });
        let value = value.optional()?.unwrap_or_default();
        self.strings.keep(row, &value);
        Ok(value)
    }

    /// An address.
    pub(super) fn address(&mut self, database: &Connection, row: Option<i64>) -> Result<IpAddr> {
        let row = row.unwrap_or_default();
        if let Some(address) = self.addresses.get(row) {
            return Ok(address);
        }
        let text = self.string(database, Some(row))?;
        let text = std::str::from_utf8(&text).unwrap_or_default();
        let address = text.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
        self.addresses.keep(row, &address);
        Ok(address)
    }

    /// A process and its ancestors.
    pub(super) fn image(&mut self, database: &Connection, row: i64) -> Result<Option<Arc<Image>>> {
        if let Some(image) = self.images.get(row) {
            return Ok(Some(image));
        }
        let mut select = database.prepare_cached(
            "SELECT p.pid, p.start, p.name, p.program, p.uid, p.cgroup, p.login_uid, p.session, p.tty,
             p.namespace_pid, p.parent, p.present_parent, p.cause, p.flags, l.fingerprint
             FROM process p LEFT JOIN lineage l ON l.id = p.lineage WHERE p.id = ?1",
        )?;
        let stored = select
            .query_row([row], |row| Stored::try_from(row))
            .optional()?;
        drop(select);
        let Some(stored) = stored else {
            return Ok(None);
        };
        // As deep as a lineage is long, which is bounded. A row refers to earlier ones only: a file that says
        // otherwise was not written by us.
        let above = match stored.parent.filter(|&parent| parent < row) {
            Some(parent) => self.image(database, parent)?,
            None => None,
        };
        let image = Arc::new(self.build(database, &stored, above)?);
        self.images.keep(row, &image);
        Ok(Some(image))
    }

    fn build(
        &mut self,
        database: &Connection,
        stored: &Stored,
        above: Option<Arc<Image>>,
    ) -> Result<Image> {
        let [key_rounded, kernel_thread, has_host_root, in_user_namespace] =
            flags(stored.flags >> 4);
        let depth = above.as_ref().map_or(0, |parent| parent.depth + 1);
        let parent = match (above, stored.flags & 3) {
            (Some(parent), parent::BIRTH) => Parent::Known(Relation::Birth, parent),
            (Some(parent), parent::PRESENT) => Parent::Known(Relation::Present, parent),
            (None, parent::BIRTH) if stored.parent.is_none() => Parent::Root,
            (_, parent::CUT) => Parent::Cut,
            _ => Parent::Unknown,
        };
        let present_parent = match stored.present_parent {
            Some(row) => Some(Arc::new(self.brief(database, row)?)),
            None => None,
        };
        Ok(Image {
            key: ProcessKey {
                tgid: stored.pid,
                start_ns: self.time(stored.start).0,
            },
            key_rounded,
            name: name(&self.string(database, stored.name)?),
            euid: stored.uid,
            kernel_thread,
            program: self.program(database, stored.program)?,
            cgroup: self.cgroup(database, stored.cgroup)?,
            session: Session {
                login_uid: stored.login_uid,
                id: stored.session,
                tty: stored.tty.map(Tty),
            },
            namespace_pid: stored.namespace_pid,
            has_host_root,
            in_user_namespace,
            parent,
            present_parent,
            provenance: Provenance::of_code(stored.flags >> 2 & 3).unwrap_or(Provenance::Unknown),
            depth,
            cause: self.cause(database, stored.cause)?,
            // It may have been computed from more than what is stored, where it was imported.
            fingerprint: stored
                .fingerprint
                .map_or_else(Derived::default, Derived::from),
        })
    }

    fn brief(&mut self, database: &Connection, row: i64) -> Result<Brief> {
        let mut select = database
            .prepare_cached("SELECT pid, start, name, program, flags FROM process WHERE id = ?1")?;
        let (tgid, start, name, program, bits) = select.query_row([row], |row| {
            let flags: i64 = row.get(4)?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, flags))
        })?;
        let [key_rounded] = flags(bits >> 4);
        Ok(Brief {
            key: ProcessKey {
                tgid,
                start_ns: self.time(start).0,
            },
            key_rounded,
            name: self::name(&self.string(database, name)?),
            program: self.program(database, program)?,
        })
    }

    fn program(&mut self, database: &Connection, row: Option<i64>) -> Result<Arc<Program>> {
        let Some(row) = row else {
            return Ok(Arc::default());
        };
        if let Some(program) = self.programs.get(row) {
            return Ok(program);
        }
        let mut select = database.prepare_cached(
            "SELECT executable, content, mode, links, owner, owner_group, script, arguments,
             working_directory, invoked_as, flags FROM program WHERE id = ?1",
        )?;
        let mut rows = select.query([row])?;
        let Some(stored) = rows.next()? else {
            return Ok(Arc::default());
        };
        let [
            executable_truncated,
            memfd,
            deleted,
            upper_layer,
            script_truncated,
            arguments_truncated,
            arguments_masked,
            setuid,
            setgid,
            capabilities,
            arguments_ended,
        ] = flags(stored.get(10)?);
        let content = self.content(database, stored.get(1)?)?;
        let mode: Option<u32> = stored.get(2)?;
        let file = match (mode, &content) {
            (Some(mode), Some(content)) => Some(FileStatus {
                version: *content.version(),
                mode,
                links: stored.get(3)?,
                owner: stored.get(4)?,
                group: stored.get(5)?,
            }),
            _ => None,
        };
        let arguments: Option<i64> = stored.get(7)?;
        let program = Arc::new(Program {
            executable: self.string(database, stored.get(0)?)?,
            file,
            content,
            upper_layer,
            privileges: Privileges {
                setuid,
                setgid,
                capabilities,
            },
            script: self.string(database, stored.get(6)?)?,
            script_truncated,
            executable_truncated,
            memfd,
            deleted,
            arguments: match arguments {
                Some(_) => {
                    let stored = self.string(database, arguments)?;
                    Some(self::arguments(stored, arguments_ended))
                }
                None => None,
            },
            arguments_truncated,
            arguments_masked,
            working_directory: self.string(database, stored.get(8)?)?,
            invoked_as: name(&self.string(database, stored.get(9)?)?),
            ..Program::default()
        });
        self.programs.keep(row, &program);
        Ok(program)
    }

    fn content(&mut self, database: &Connection, row: Option<i64>) -> Result<Option<Arc<Content>>> {
        let Some(row) = row else { return Ok(None) };
        if let Some(content) = self.contents.get(row) {
            return Ok(Some(content));
        }
        let mut select = database.prepare_cached(
            "SELECT device, inode, size, changed, sha256, build_id, origin, package_type, package_name,
             package_version, package_architecture, intact, users FROM content WHERE id = ?1",
        )?;
        let mut rows = select.query([row])?;
        let Some(stored) = rows.next()? else {
            return Ok(None);
        };
        let version = FileVersion {
            id: FileId {
                device: stored.get(0)?,
                inode: stored.get::<_, i64>(1)?.cast_unsigned(),
            },
            size: stored.get::<_, i64>(2)?.cast_unsigned(),
            changed_ns: stored.get(3)?,
        };
        let content = Content::new(version);
        let origin: Option<i64> = stored.get(6)?;
        if let Some(origin) = origin {
            let sha256: Option<Vec<u8>> = stored.get(4)?;
            let build_id: Option<Vec<u8>> = stored.get(5)?;
            let kind = PackageKind::of_code(stored.get::<_, Option<i64>>(7)?.unwrap_or(-1));
            let origin = match (origin, kind) {
                (1, _) => Origin::Unpackaged,
                (2, Some(kind)) => Origin::Package(Box::new(Package {
                    kind,
                    name: self.string(database, stored.get(8)?)?,
                    version: self.string(database, stored.get(9)?)?,
                    architecture: self.string(database, stored.get(10)?)?,
                    intact: stored.get(11)?,
                })),
                _ => Origin::Unknown,
            };
            content.learn(Facts {
                sha256: sha256.and_then(|bytes| bytes.try_into().ok()),
                build_id: build_id.map(Vec::into_boxed_slice),
                origin,
                users: self.users(database, stored.get(12)?)?,
            });
        }
        let content = Arc::new(content);
        self.contents.keep(row, &content);
        Ok(Some(content))
    }

    fn users(&mut self, database: &Connection, row: Option<i64>) -> Result<Option<Arc<Names>>> {
        let Some(row) = row else { return Ok(None) };
        if let Some(users) = self.users.get(row) {
            return Ok(Some(users));
        }
        let mut select = database.prepare_cached("SELECT names FROM users WHERE id = ?1")?;
        let names: String = select.query_row([row], |row| row.get(0))?;
        let names: Names = serde_json::from_str(&names).unwrap_or_default();
        let names = Arc::new(names);
        self.users.keep(row, &names);
        Ok(Some(names))
    }

    fn cgroup(&mut self, database: &Connection, row: Option<i64>) -> Result<Option<Arc<Cgroup>>> {
        let Some(row) = row else { return Ok(None) };
        if let Some(cgroup) = self.cgroups.get(row) {
            return Ok(Some(cgroup));
        }
        let mut select =
            database.prepare_cached("SELECT hierarchy, node, path FROM cgroup WHERE id = ?1")?;
        let (hierarchy, node, path) = select.query_row([row], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?))
        })?;
        let path = self.string(database, path)?;
        let node = node.cast_unsigned();
        let cgroup = Arc::new(Cgroup::new(CgroupId { hierarchy, node }, &path));
        self.cgroups.keep(row, &cgroup);
        Ok(Some(cgroup))
    }

    /// What led to something.
    pub(super) fn cause(
        &mut self,
        database: &Connection,
        row: Option<i64>,
    ) -> Result<Option<Arc<Cause>>> {
        let Some(row) = row else { return Ok(None) };
        if let Some(cause) = self.causes.get(row) {
            return Ok(Some(cause));
        }
        let mut select = database.prepare_cached(
            "SELECT first_seen, serial, peer, server, certainty, candidates, before FROM cause WHERE id = ?1",
        )?;
        let mut rows = select.query([row])?;
        let Some(stored) = rows.next()? else {
            return Ok(None);
        };
        let id = ConnectionId {
            first_seen_ns: self.time(stored.get(0)?).0,
            serial: stored.get(1)?,
        };
        let peer: String = stored.get(2)?;
        let (Ok(peer), Some(certainty)) = (peer.parse(), Certainty::of_code(stored.get(4)?)) else {
            return Ok(None);
        };
        let before: Option<i64> = stored.get(6)?;
        let candidates = (certainty, stored.get(5)?);
        let server = self.brief(database, stored.get(3)?)?;
        let before = self.cause(database, before.filter(|&before| before < row))?;
        let cause = Arc::new(Cause::new(id, peer, server, candidates, before));
        self.causes.keep(row, &cause);
        Ok(Some(cause))
    }
}

/// A row of `process`.
struct Stored {
    pid: u32,
    start: i64,
    name: Option<i64>,
    program: Option<i64>,
    uid: Option<u32>,
    cgroup: Option<i64>,
    login_uid: Option<u32>,
    session: Option<u32>,
    tty: Option<u32>,
    namespace_pid: Option<u32>,
    parent: Option<i64>,
    present_parent: Option<i64>,
    cause: Option<i64>,
    flags: i64,
    fingerprint: Option<Fingerprint>,
}

impl TryFrom<&rusqlite::Row<'_>> for Stored {
    type Error = rusqlite::Error;

    fn try_from(row: &rusqlite::Row<'_>) -> Result<Self> {
        Ok(Self {
            pid: row.get(0)?,
            start: row.get(1)?,
            name: row.get(2)?,
            program: row.get(3)?,
            uid: row.get(4)?,
            cgroup: row.get(5)?,
            login_uid: row.get(6)?,
            session: row.get(7)?,
            tty: row.get(8)?,
            namespace_pid: row.get(9)?,
            parent: row.get(10)?,
            present_parent: row.get(11)?,
            cause: row.get(12)?,
            flags: row.get(13)?,
            fingerprint: row.get(14)?,
        })
    }
}

/// A name as the kernel keeps it.
fn name(bytes: &[u8]) -> Name {
    let mut name = [0; 16];
    let length = bytes.len().min(15);
    name[..length].copy_from_slice(&bytes[..length]);
    Name(name)
}

/// The way back of [`stored_arguments`](crate::history::intern).
fn arguments(stored: Bytes, ended: bool) -> Bytes {
    let Ok(list) = serde_json::from_slice::<Vec<&str>>(&stored) else {
        return match serde_json::from_slice::<Vec<String>>(&stored) {
            Ok(list) => joined(&list, ended),
            Err(_) => stored,
        };
    };
    joined(&list, ended)
}

fn joined<T: AsRef<str>>(list: &[T], ended: bool) -> Bytes {
    let mut block = Vec::new();
    for (index, argument) in list.iter().enumerate() {
        if index > 0 {
            block.push(0);
        }
        block.extend_from_slice(argument.as_ref().as_bytes());
    }
    if ended {
        block.push(0);
    }
    block.into()
}
