//! Processes, out of the lines of a recording.
//!
//! In: the members of a line about its process and those before it. Out: images, the same for the same, so that what
//! is behind knows them again. Of an ancestor a line tells name and path alone: the rest of it is known only if it had
//! a line of its own by then.

use std::sync::Arc;

use bytes::Bytes;

use super::document::{
    Ancestor, Brief as BriefMember, Document, Link, Text, Tracer, Tty as TtyMember, User,
};
use super::error::LineError;
use super::programs::Programs;
use super::shared::Shared;
use super::words::{self, Ids};
use crate::event::{CgroupId, Name, ProcessKey, Session, Tty};
use crate::observation::ConnectionId;
use crate::output::names;
use crate::process::cause::{Cause, LINKS_MAX};
use crate::process::cgroup::Cgroup;
use crate::process::fingerprint::{Derived, Fingerprint};
use crate::process::image::{Brief, Image, Parent, Program, Provenance};
use crate::process::lineage::DEPTH_MAX;

type Result<T> = std::result::Result<T, LineError>;

/// Every process of one boot that was told lately, and what is known of them.
#[derive(Default)]
pub(super) struct Images {
    images: Shared<ProcessKey, Image>,
    programs: Programs,
    cgroups: Shared<Bytes, Cgroup>,
    causes: Shared<ConnectionId, Cause>,
}

/// Whose cause a line tells: that of its process, or of something else, which says nothing about the process's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CauseOf {
    Process,
    Other,
}

impl Images {
    /// The process of a line.
    pub(super) fn process(
        &mut self,
        document: &Document<'_>,
        (cause_of, cause): (CauseOf, Option<&Arc<Cause>>),
        ids: &mut Ids,
    ) -> Result<Option<Arc<Image>>> {
        let Some(process) = &document.process else {
            return Ok(None);
        };
        let tracer = &document.tracer;
        let own = tracer.lineage.first();
        let own = own.ok_or(LineError::Missing("tracer.lineage"))?;
        let (key, key_rounded) = ids.process("process.entity_id", &process.entity_id)?;
        let name = name("process.name", process.name.as_ref(), &tracer.escaped)?;
        let (parent, depth) = self.parent(own, tracer, ids)?;
        let cgroup = self.cgroup(tracer)?;
        let is_contained = cgroup.as_ref().is_some_and(|it| it.container.is_some());
        let user = user("process.user.id", process.user.as_ref())?;
        let login = self::user("process.login_user.id", process.login_user.as_ref())?;
        let is_named = [&user, &login]
            .into_iter()
            .flatten()
            .any(|(_, name)| name.is_some());
        let own_users = user.filter(|_| is_contained);
        let program = self
            .programs
            .program(document, name.as_bytes(), own_users)?;
        let present_parent = match &tracer.present_parent {
            Some(parent) => Some(Arc::new(brief(parent, ids)?)),
            None => None,
        };
        let fingerprint = match &tracer.fingerprint {
            Some(text) => Derived::from(words::hex::<Fingerprint>("tracer.fingerprint", text)?),
            None => Derived::default(),
        };
        let image = Image {
            key,
            key_rounded,
            name,
            euid: user.map(|(id, _)| id),
            kernel_thread: tracer.has_flag("kernel_thread"),
            program,
            cgroup,
            session: Session {
                login_uid: login.map(|(id, _)| id),
                id: tracer.session_id,
                tty: process.tty.as_ref().map(tty),
            },
            namespace_pid: process.namespace_pid,
            // Whoever has a name without a container is named by the host.
            has_host_root: is_named && !is_contained,
            in_user_namespace: false,
            parent,
            present_parent,
            provenance: provenance(own)?,
            depth,
            cause: cause.filter(|_| cause_of == CauseOf::Process).cloned(),
            fingerprint,
        };
        let is_same = |kept: &Image| is_same(kept, &image, cause_of);
        let found = self.images.find(&key, is_same);
        Ok(Some(found.unwrap_or_else(|| self.images.keep(key, image))))
    }

    /// The link to the parent of a line's process, and how many ancestors it leads to.
    fn parent(
        &mut self,
        own: &Ancestor<'_>,
        tracer: &Tracer<'_>,
        ids: &mut Ids,
    ) -> Result<(Parent, u32)> {
        let ancestors = &tracer.lineage[1..];
        if ancestors.len() > DEPTH_MAX as usize {
            let expected = format!("one of at most {DEPTH_MAX} ancestors");
            return Err(LineError::wrong("tracer.lineage", expected));
        }
        let is_cut = || {
            tracer
                .lineage_text
                .as_ref()
                .is_some_and(|text| text.ends_with('…'))
        };
        let mut end = match tracer.lineage_complete {
            true => Parent::Root,
            false if is_cut() => Parent::Cut,
            false => Parent::Unknown,
        };
        let mut depth = 0;
        for (index, ancestor) in ancestors.iter().enumerate().rev() {
            let image = self.ancestor(ancestor, (end, depth), &tracer.escaped, ids)?;
            // Each says how it is related to the next.
            let below = if index == 0 {
                own
            } else {
                &ancestors[index - 1]
            };
            end = Parent::Known(words::relation(below.relation.as_ref())?, image);
            depth += 1;
        }
        Ok((end, depth))
    }

    fn ancestor(
        &mut self,
        ancestor: &Ancestor<'_>,
        (parent, depth): (Parent, u32),
        escaped: &[Text<'_>],
        ids: &mut Ids,
    ) -> Result<Arc<Image>> {
        let (key, key_rounded) = ids.process("tracer.lineage.entity_id", &ancestor.entity_id)?;
        let name = name("tracer.lineage.name", ancestor.name.as_ref(), escaped)?;
        let executable = path(
            "tracer.lineage.executable",
            ancestor.executable.as_ref(),
            escaped,
        )?;
        let provenance = provenance(ancestor)?;
        let is_it = |kept: &Image| {
            kept.key_rounded == key_rounded
                && kept.name == name
                && kept.provenance == provenance
                && kept.program.executable == executable
                && is_same_link(&kept.parent, &parent)
        };
        if let Some(image) = self.images.find(&key, is_it) {
            return Ok(image);
        }
        let image = Image {
            provenance,
            parent,
            depth,
            ..bare(key, key_rounded, name, executable)
        };
        Ok(self.images.keep(key, image))
    }

    /// Someone of whom only name and path are told.
    pub(super) fn holder(&mut self, holder: &BriefMember<'_>, ids: &mut Ids) -> Result<Arc<Image>> {
        let Brief {
            key,
            key_rounded,
            name,
            program,
        } = brief(holder, ids)?;
        let executable = program.executable.clone();
        let is_it = |kept: &Image| kept.name == name && kept.program.executable == executable;
        let found = self.images.find(&key, is_it);
        Ok(found.unwrap_or_else(|| {
            let image = bare(key, key_rounded, name, executable.clone());
            self.images.keep(key, image)
        }))
    }

    /// What led to a line: a list from the outermost contact inwards.
    pub(super) fn cause(
        &mut self,
        links: &[Link<'_>],
        ids: &mut Ids,
    ) -> Result<Option<Arc<Cause>>> {
        if links.len() > usize::from(LINKS_MAX) {
            let expected = format!("a list of at most {LINKS_MAX} links");
            return Err(LineError::wrong("tracer.cause", expected));
        }
        let mut before = None;
        for link in links {
            let id = ids.connection("tracer.cause.connection_id", &link.connection_id)?;
            let peer = (link.peer.ip, link.peer.port).into();
            let server = brief(&link.process, ids)?;
            let certainty =
                words::word("tracer.cause.certainty", &link.certainty, names::certainty)?;
            let cause = Cause::new(id, peer, server, (certainty, link.candidates), before);
            let found = self.causes.find(&id, |kept| is_same_cause(kept, &cause));
            before = Some(found.unwrap_or_else(|| self.causes.keep(id, cause)));
        }
        Ok(before)
    }

    /// Its container, pod and unit are what the path says.
    fn cgroup(&mut self, tracer: &Tracer<'_>) -> Result<Option<Arc<Cgroup>>> {
        const FIELD: &str = "tracer.cgroup";
        let Some(text) = &tracer.cgroup else {
            return Ok(None);
        };
        let path = words::bytes(FIELD, text, &tracer.escaped)?;
        if let Some(cgroup) = self.cgroups.find(&path, |_| true) {
            return Ok(Some(cgroup));
        }
        // Its number is not told: what stands for it is the same for the same path.
        let node = u64::from_le_bytes(
            *blake3::hash(&path)
                .as_bytes()
                .first_chunk()
                .unwrap_or(&[0; 8]),
        );
        let cgroup = Cgroup::new(CgroupId { hierarchy: 0, node }, &path);
        Ok(Some(self.cgroups.keep(path, cgroup)))
    }
}

/// A process of which nothing else is known.
fn bare(key: ProcessKey, key_rounded: bool, name: Name, executable: Bytes) -> Image {
    Image {
        key,
        key_rounded,
        name,
        euid: None,
        kernel_thread: false,
        program: Arc::new(Program {
            executable,
            ..Program::default()
        }),
        cgroup: None,
        session: Session::default(),
        namespace_pid: None,
        has_host_root: false,
        in_user_namespace: false,
        parent: Parent::Unknown,
        present_parent: None,
        provenance: Provenance::Unknown,
        depth: 0,
        cause: None,
        fingerprint: Derived::default(),
    }
}

fn brief(member: &BriefMember<'_>, ids: &mut Ids) -> Result<Brief> {
    let (key, key_rounded) = ids.process("entity_id", &member.entity_id)?;
    let executable = path("executable", member.executable.as_ref(), &member.escaped)?;
    Ok(Brief {
        key,
        key_rounded,
        name: name("name", member.name.as_ref(), &member.escaped)?,
        program: Arc::new(Program {
            executable,
            ..Program::default()
        }),
    })
}

fn name(field: &'static str, text: Option<&Text<'_>>, escaped: &[Text<'_>]) -> Result<Name> {
    words::comm(field, &path(field, text, escaped)?)
}

/// Bytes; none if there is no such member.
fn path(field: &'static str, text: Option<&Text<'_>>, escaped: &[Text<'_>]) -> Result<Bytes> {
    text.map_or(Ok(Bytes::new()), |text| words::bytes(field, text, escaped))
}

/// ID and name of a user.
fn user<'a>(
    field: &'static str,
    user: Option<&'a User<'_>>,
) -> Result<Option<(u32, Option<&'a str>)>> {
    let Some(user) = user else { return Ok(None) };
    let name = user.name.as_deref();
    Ok(Some((words::number(field, &user.id)?, name)))
}

fn tty(tty: &TtyMember) -> Tty {
    Tty(tty.char_device.major << 20 | tty.char_device.minor & 0xf_ffff)
}

fn provenance(ancestor: &Ancestor<'_>) -> Result<Provenance> {
    let word = &ancestor.provenance;
    words::word("tracer.lineage.provenance", word, names::provenance)
}

fn is_same_link(one: &Parent, other: &Parent) -> bool {
    match (one, other) {
        (Parent::Known(one, a), Parent::Known(other, b)) => one == other && Arc::ptr_eq(a, b),
        (Parent::Root, Parent::Root)
        | (Parent::Unknown, Parent::Unknown)
        | (Parent::Cut, Parent::Cut) => true,
        _ => false,
    }
}

fn is_same_brief(one: &Brief, other: &Brief) -> bool {
    (one.key, one.key_rounded, one.name) == (other.key, other.key_rounded, other.name)
        && one.program == other.program
}

fn is_same_cause(one: &Cause, other: &Cause) -> bool {
    let before = |cause: &Cause| cause.before.as_ref().map(Arc::as_ptr);
    one.peer == other.peer
        && (one.certainty, one.candidates) == (other.certainty, other.candidates)
        && before(one) == before(other)
        && is_same_brief(&one.server, &other.server)
}

fn is_same(kept: &Image, image: &Image, cause_of: CauseOf) -> bool {
    let cause = |image: &Image| image.cause.as_ref().map(Arc::as_ptr);
    let cgroup = |image: &Image| image.cgroup.as_ref().map(Arc::as_ptr);
    let is_same_parent = match (&kept.present_parent, &image.present_parent) {
        (Some(one), Some(other)) => is_same_brief(one, other),
        (one, other) => one.is_none() && other.is_none(),
    };
    let rest = |image: &Image| {
        (
            (image.key_rounded, image.kernel_thread, image.has_host_root),
            (image.name, image.euid, image.session, image.namespace_pid),
            image.provenance,
        )
    };
    rest(kept) == rest(image)
        && is_same_link(&kept.parent, &image.parent)
        && is_same_parent
        && cgroup(kept) == cgroup(image)
        && (cause_of == CauseOf::Other || cause(kept) == cause(image))
        && (Arc::ptr_eq(&kept.program, &image.program)
            || kept.program == image.program && kept.program.facts() == image.program.facts())
        && kept.fingerprint() == image.fingerprint()
}
