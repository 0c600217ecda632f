//! Programs and what is known of their files, out of the lines of a recording.
//!
//! In: the members of a line about what its process runs. Out: programs, whose contents are shared by all who run the
//! same.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::document::{Document, File, Text};
use super::error::LineError;
use super::shared::Shared;
use super::words;
use crate::event::{FileId, FileStatus, FileVersion, Privileges};
use crate::output::names;
use crate::process::claims::Disagreements;
use crate::process::content::{Content, Facts, Origin, Package};
use crate::process::image::Program;

type Result<T> = std::result::Result<T, LineError>;

/// What processes run.
#[derive(Default)]
pub(super) struct Programs {
    contents: Shared<FileVersion, Content>,
}

impl Programs {
    /// What the process of a line runs, which is called `name`. `user` is its user, if a container names that.
    pub(super) fn program(
        &mut self,
        document: &Document<'_>,
        name: &[u8],
        user: Option<(u32, Option<&str>)>,
    ) -> Result<Arc<Program>> {
        let Some(process) = &document.process else {
            return Ok(Arc::default());
        };
        let tracer = &document.tracer;
        let text = |field, text: Option<&Text<'_>>| {
            text.map_or(Ok(Bytes::new()), |text| {
                words::bytes(field, text, &tracer.escaped)
            })
        };
        let file = tracer.file.as_ref().map(file).transpose()?;
        let arguments = match &process.args {
            Some(list) => Some(arguments(list, process.args_truncated, &tracer.escaped)?),
            None => None,
        };
        let program = Program {
            executable: text("process.executable", process.executable.as_ref())?,
            file,
            content: self.content(file, facts(document, user)?),
            upper_layer: tracer.has_flag("upper_layer"),
            privileges: Privileges {
                setuid: tracer.has_flag("setuid"),
                setgid: tracer.has_flag("setgid"),
                capabilities: tracer.has_flag("capabilities_gained"),
            },
            script: text("tracer.script", tracer.script.as_ref())?,
            script_truncated: tracer.has_flag("script_truncated"),
            executable_truncated: tracer.has_flag("executable_truncated"),
            memfd: tracer.has_flag("memfd"),
            deleted: tracer.has_flag("deleted"),
            arguments,
            arguments_truncated: process.args_truncated,
            arguments_masked: tracer.has_flag("args_masked"),
            working_directory: text(
                "process.working_directory",
                process.working_directory.as_ref(),
            )?,
            ..Program::default()
        };
        let disagreed = Disagreements {
            name: tracer.has_flag("name_disagrees"),
            first_argument: tracer.has_flag("argv0_disagrees"),
        };
        Ok(Arc::new(program.invoked(name, disagreed)))
    }

    /// The content of a file; `None` if neither is known.
    fn content(&mut self, file: Option<FileStatus>, facts: Facts) -> Option<Arc<Content>> {
        let is_known = facts != Facts::default();
        if file.is_none() && !is_known {
            return None;
        }
        let version = file.map(|file| file.version).unwrap_or_default();
        let told = is_known.then_some(&facts);
        let found = self.contents.find(&version, |kept| kept.facts() == told);
        if found.is_some() {
            return found;
        }
        if is_known && let Some(content) = self.contents.find(&version, |it| it.facts().is_none()) {
            // It had not been examined yet.
            content.learn(facts);
            return Some(content);
        }
        let content = Content::new(version);
        if is_known {
            content.learn(facts);
        }
        Some(self.contents.keep(version, content))
    }
}

/// What an examination had found by then.
fn facts(document: &Document<'_>, user: Option<(u32, Option<&str>)>) -> Result<Facts> {
    let tracer = &document.tracer;
    let hash = document.process.as_ref().and_then(|it| it.hash.as_ref());
    let sha256 = match hash {
        Some(hash) => Some(words::hex("process.hash.sha256", &hash.sha256)?),
        None => None,
    };
    let build_id = match &tracer.build_id {
        Some(text) => Some(words::hex::<Vec<u8>>("tracer.build_id", text)?.into()),
        None => None,
    };
    let name = user.and_then(|(id, name)| Some((id, name?.to_owned())));
    Ok(Facts {
        sha256,
        build_id,
        origin: origin(document)?,
        users: name.map(|name| Arc::new([name].into())),
    })
}

fn origin(document: &Document<'_>) -> Result<Origin> {
    let tracer = &document.tracer;
    let Some(package) = &document.package else {
        return Ok(match tracer.has_flag("unpackaged") {
            true => Origin::Unpackaged,
            false => Origin::Unknown,
        });
    };
    let text = |field, text: Option<&Text<'_>>| {
        text.map_or(Ok(Bytes::new()), |text| {
            words::bytes(field, text, &tracer.escaped)
        })
    };
    Ok(Origin::Package(Box::new(Package {
        kind: words::word("package.type", &package.kind, names::package_kind)?,
        name: text("package.name", package.name.as_ref())?,
        version: text("package.version", package.version.as_ref())?,
        architecture: text("package.architecture", package.architecture.as_ref())?,
        // Whether it is intact, or whether that is not known, is not told.
        intact: tracer.has_flag("altered").then_some(false),
    })))
}

/// As in `/proc/PID/cmdline`: each ended by a NUL, unless the end is missing.
fn arguments(list: &[Text<'_>], truncated: bool, escaped: &[Text<'_>]) -> Result<Bytes> {
    const FIELD: &str = "process.args";
    let is_escaped = escaped.iter().any(|field| &**field == FIELD);
    let mut block = BytesMut::new();
    for (index, argument) in list.iter().enumerate() {
        let argument = words::bytes_if(FIELD, argument, is_escaped)?;
        if argument.contains(&0) {
            return Err(LineError::wrong(FIELD, "a list of arguments without NUL"));
        }
        block.extend_from_slice(&argument);
        let is_last = index + 1 == list.len();
        if !is_last || !truncated || argument.is_empty() {
            block.extend_from_slice(b"\0");
        }
    }
    Ok(block.freeze())
}

fn file(file: &File<'_>) -> Result<FileStatus> {
    const DEVICE: &str = "tracer.file.device";
    let device = file.device.split_once(':');
    let (major, minor) =
        device.ok_or(LineError::wrong(DEVICE, "two numbers with a colon between"))?;
    let (major, minor): (u32, u32) = (words::number(DEVICE, major)?, words::number(DEVICE, minor)?);
    let mode = u32::from_str_radix(&file.mode, 8).ok();
    let mode = mode.filter(|_| file.mode.bytes().all(|byte| byte.is_ascii_digit()));
    Ok(FileStatus {
        version: FileVersion {
            id: FileId {
                device: major << 20 | minor & 0xf_ffff,
                inode: file.inode,
            },
            size: file.size,
            changed_ns: words::time("tracer.file.ctime", &file.ctime)?,
        },
        mode: mode.ok_or(LineError::wrong("tracer.file.mode", "octal digits"))?,
        links: file.links,
        owner: words::number("tracer.file.uid", &file.uid)?,
        group: words::number("tracer.file.gid", &file.gid)?,
    })
}
