//! Processes with their lineages, and what led to them.
//!
//! In: images. Out: the numbers of their rows, ancestors first.

use std::sync::Arc;

use rusqlite::{Connection, Result, params};

use super::{Interned, OTHERS_MAX, Written, parent};
use crate::history::code::{Coded as _, bits};
use crate::output::lineage::write_lineage;
use crate::process::cause::Cause;
use crate::process::cgroup::Cgroup;
use crate::process::image::{Brief, Image, Parent, Provenance, Relation};

impl Interned {
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
    pub(in crate::history) fn process(
        &mut self,
        database: &Connection,
        image: &Arc<Image>,
    ) -> Result<Written> {
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
    pub(in crate::history) fn cause(
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
}
