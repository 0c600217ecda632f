//! Programs, the contents of their files, and who these users are.
//!
//! In: programs. Out: the numbers of their rows.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::{Connection, Result, params};
use serde_json::json;

use super::{Interned, OTHERS_MAX};
use crate::event::FileStatus;
use crate::history::code::{Coded as _, bits};
use crate::passwd::Names;
use crate::process::content::{Content, Origin};
use crate::process::image::Program;

impl Interned {
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
    pub(in crate::history) fn learn(&mut self, database: &Connection) -> Result<()> {
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

    pub(super) fn program(&mut self, database: &Connection, program: &Arc<Program>) -> Result<i64> {
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
