//! The part of a line that describes a process, rendered once per image.
//!
//! In: an image. Out: the members of `process`, `container`, `orchestrator` and `package`, and those members of
//! `tracer` that depend on the image and on what is known of its file. Once that is known they are rendered anew.
//! Nearly every event is about a process that had events before, and a process with its ancestors
//! is most of a line: so both are kept as text, for the 512 images seen last.

use std::sync::Arc;

use super::file;
use super::marks::{Added, Marks, render_marks};
use super::object::{Key, Object, key, write_bytes, write_list, write_word};
use crate::clock::UtcClock;
use crate::event::{BootTime, ProcessKey};
use crate::identity::Identities;
use crate::output::lineage::write_lineage;
use crate::output::users::Users;
use crate::output::{names, text};
use crate::process::cgroup::{Cgroup, Container};
use crate::process::content::{Facts, Origin, Package};
use crate::process::image::{Brief, Image, Parent, Program};

const SETS: usize = 128;
const WAYS: usize = 4;

/// Ancestors whose part of a lineage is kept.
const ANCESTORS: usize = 512;

/// Longer texts are rendered anew each time, so that the cache holds at most 4 MiB.
const LONGEST_KEPT: usize = 8192;

/// What is kept of one image.
#[derive(Clone, Default)]
pub(super) struct Rendered {
    image: Option<Arc<Image>>,
    /// What an examination of its file found is in the texts.
    has_facts: bool,
    /// Members of `process`.
    pub(super) process: Vec<u8>,
    /// `container`, `orchestrator` and `package`.
    pub(super) workload: Vec<u8>,
    /// Members of `tracer` but for `flags` and `provenance`, to which an event may add.
    pub(super) tracer: Vec<u8>,
    /// Those two.
    marks: Marks,
}

impl Rendered {
    fn is_of(&self, image: &Arc<Image>) -> bool {
        let kept = self.image.as_ref();
        kept.is_some_and(|kept| Arc::ptr_eq(kept, image))
    }

    /// Writes all members of `tracer`.
    pub(super) fn write_tracer(&self, added: &Added, tracer: &mut Object<'_>) {
        tracer.members(&self.tracer);
        self.marks.write(added, tracer);
    }
}

/// Images with the same place share four ways, which are replaced in turn.
#[derive(Default)]
struct Set {
    ways: [Rendered; WAYS],
    next: usize,
}

/// Renders processes.
pub(super) struct Processes {
    renderer: Renderer,
    sets: Vec<Set>,
    scratch: Rendered,
}

impl Processes {
    /// With an empty cache.
    pub(super) fn new(identities: Identities, clock: UtcClock, users: Users) -> Self {
        let renderer = Renderer {
            identities,
            file_clock: clock.clone(),
            clock,
            users,
            escaped: Vec::new(),
            line: Vec::new(),
            ancestors: vec![Ancestor::default(); ANCESTORS],
        };
        let sets = std::iter::repeat_with(Set::default).take(SETS).collect();
        Self {
            renderer,
            sets,
            scratch: Rendered::default(),
        }
    }

    /// The texts of an image. `now` is the time of the event.
    pub(super) fn rendered(&mut self, image: &Arc<Image>, now: BootTime) -> &Rendered {
        let set = &mut self.sets[place(image.key)];
        if let Some(way) = set.ways.iter().position(|way| way.is_of(image)) {
            if set.ways[way].has_facts == image.program.facts().is_some() {
                return &set.ways[way];
            }
            set.ways[way].image = None;
        }
        self.renderer.render(image, now, &mut self.scratch);
        let Rendered {
            process,
            workload,
            tracer,
            ..
        } = &self.scratch;
        if process.len() + workload.len() + tracer.len() > LONGEST_KEPT {
            return &self.scratch;
        }
        let free = set.ways.iter().position(|way| way.image.is_none());
        let way = free.unwrap_or_else(|| {
            set.next = (set.next + 1) % WAYS;
            set.next
        });
        let way = &mut set.ways[way];
        // What was there becomes the next scratch space: no allocation once the buffers have grown.
        std::mem::swap(way, &mut self.scratch);
        way.image = Some(image.clone());
        self.scratch.image = None;
        way
    }

    /// Everyone who holds a socket.
    pub(super) fn write_holders(&self, holders: &[Arc<Image>], object: &mut Object<'_>) {
        write_list(holders, object.key(key!("holders")), |holder, out| {
            let mut object = Object::begin(out);
            self.write_brief(&(&**holder).into(), &mut object);
            object.end();
        });
    }

    /// Who somebody is, without lineage and arguments.
    pub(super) fn write_brief(&self, process: &Brief, object: &mut Object<'_>) {
        self.renderer.brief(process, object);
    }

    /// The same without the lineage: members of `process`, `container` and `orchestrator`, those of `tracer`.
    pub(super) fn without_lineage(&mut self, image: &Image, now: BootTime) -> Rendered {
        let mut rendered = Rendered::default();
        self.renderer.render_place(image, now, &mut rendered);
        rendered
    }

    /// Drops what is kept of a process that has exited.
    pub(super) fn forget(&mut self, key: ProcessKey) {
        for way in &mut self.sets[place(key)].ways {
            way.image.take_if(|image| image.key == key);
        }
    }
}

fn place(key: ProcessKey) -> usize {
    key.tgid as usize % SETS
}

/// An image as an element of a lineage: the same in that of every descendant.
#[derive(Clone, Default)]
struct Ancestor {
    image: Option<Arc<Image>>,
    text: Vec<u8>,
}

/// Renders one image.
struct Renderer {
    identities: Identities,
    clock: UtcClock,
    /// For times of files, which are of other seconds than events.
    file_clock: UtcClock,
    users: Users,
    /// The fields that had to be escaped.
    escaped: Vec<&'static str>,
    /// Scratch space for texts that are put together.
    line: Vec<u8>,
    /// The ancestors seen last, by PID. None of them needs escaping.
    ancestors: Vec<Ancestor>,
}

impl Renderer {
    fn render(&mut self, image: &Image, now: BootTime, rendered: &mut Rendered) {
        let facts = self.process_and_workload(image, now, rendered);
        let mut tracer = Object::members_only(&mut rendered.tracer);
        self.tracer(image, facts, &mut tracer);
        render_marks(image, facts, &mut rendered.marks);
    }

    fn render_place(&mut self, image: &Image, now: BootTime, rendered: &mut Rendered) {
        let facts = self.process_and_workload(image, now, rendered);
        let mut tracer = Object::members_only(&mut rendered.tracer);
        self.place(image, facts, &mut tracer);
        render_marks(image, facts, &mut rendered.marks);
    }

    /// Returns the facts that it has written, since they may come at any time.
    fn process_and_workload<'a>(
        &mut self,
        image: &'a Image,
        now: BootTime,
        rendered: &mut Rendered,
    ) -> Option<&'a Facts> {
        self.escaped.clear();
        rendered.process.clear();
        rendered.workload.clear();
        rendered.tracer.clear();
        let facts = image.program.facts();
        rendered.has_facts = facts.is_some();
        let mut process = Object::members_only(&mut rendered.process);
        self.process(image, now, &mut process);
        if let Some(sha256) = facts.and_then(|facts| facts.sha256) {
            process.object(key!("hash"), |hash| hash.hex(key!("sha256"), &sha256));
        }
        let mut workload = Object::members_only(&mut rendered.workload);
        if let Some(cgroup) = &image.cgroup {
            self.workload(cgroup, &mut workload);
        }
        if let Some(Origin::Package(package)) = facts.map(|facts| &facts.origin) {
            workload.object(key!("package"), |object| self.package(package, object));
        }
        facts
    }

    fn package(&mut self, package: &Package, object: &mut Object<'_>) {
        object.word(key!("type"), names::package_kind(package.kind));
        for (field, key, text) in [
            ("package.name", key!("name"), &package.name),
            ("package.version", key!("version"), &package.version),
            (
                "package.architecture",
                key!("architecture"),
                &package.architecture,
            ),
        ] {
            self.text(field, key, text, object);
        }
    }

    fn process(&mut self, image: &Image, now: BootTime, object: &mut Object<'_>) {
        let program = &image.program;
        self.identity(image.key, image.key_rounded, object);
        self.text("process.name", key!("name"), image.name.as_bytes(), object);
        self.text(
            "process.executable",
            key!("executable"),
            &program.executable,
            object,
        );
        self.arguments(program, object);
        self.text(
            "process.working_directory",
            key!("working_directory"),
            &program.working_directory,
            object,
        );
        object.word(
            key!("start"),
            self.clock.render(BootTime(image.key.start_ns)),
        );
        if let Some(id) = image.euid {
            let name = self.users.of(image, now);
            object.object(key!("user"), |user| write_user(id, name, user));
        }
        if let Some(id) = image.session.login_uid {
            let name = self.users.login(image, now);
            object.object(key!("login_user"), |user| write_user(id, name, user));
        }
        if let Some(tty) = image.session.tty {
            object.object(key!("tty"), |object| {
                object.object(key!("char_device"), |device| {
                    device.number(key!("major"), tty.major());
                    device.number(key!("minor"), tty.minor());
                });
            });
        }
        if let Some(pid) = image.namespace_pid
            && pid != image.key.tgid
        {
            object.number(key!("namespace_pid"), pid);
        }
        if let Parent::Known(_, parent) = &image.parent {
            object.object(key!("parent"), |object| {
                self.identity(parent.key, parent.key_rounded, object);
                self.text(
                    "process.parent.name",
                    key!("name"),
                    parent.name.as_bytes(),
                    object,
                );
                let executable = &parent.program.executable;
                self.text(
                    "process.parent.executable",
                    key!("executable"),
                    executable,
                    object,
                );
            });
        }
    }

    /// Who somebody is, without lineage and arguments.
    fn brief(&self, process: &Brief, object: &mut Object<'_>) {
        self.identity(process.key, process.key_rounded, object);
        let mut escaped = Vec::new();
        for (field, key, bytes) in [
            ("name", key!("name"), process.name.as_bytes()),
            (
                "executable",
                key!("executable"),
                &process.program.executable,
            ),
        ] {
            let escape = text::needs_escaping(bytes);
            escaped.extend(escape.then_some(field));
            if !bytes.is_empty() {
                object.bytes(key, bytes, escape);
            }
        }
        if !escaped.is_empty() {
            object.words(key!("escaped"), &escaped);
        }
    }

    fn identity(&self, key: ProcessKey, rounded: bool, object: &mut Object<'_>) {
        object.word(key!("entity_id"), self.identities.process(key, rounded));
        object.number(key!("pid"), key.tgid);
    }

    /// A string of the outside world; an empty one is one that is not known.
    fn text(&mut self, field: &'static str, key: Key, bytes: &[u8], object: &mut Object<'_>) {
        if bytes.is_empty() {
            return;
        }
        if text::is_plain(bytes) {
            return object.word(key, bytes);
        }
        let escape = text::needs_escaping(bytes);
        self.escaped.extend(escape.then_some(field));
        object.bytes(key, bytes, escape);
    }

    /// `command_line` joins the arguments by spaces, as `ps` does; `args` keeps them apart.
    fn arguments(&mut self, program: &Program, object: &mut Object<'_>) {
        let Some(block) = &program.arguments else {
            return;
        };
        let block = block.strip_suffix(b"\0").unwrap_or(block);
        self.line.clear();
        self.line.extend(
            block
                .iter()
                .map(|&byte| if byte == 0 { b' ' } else { byte }),
        );
        let escape = text::needs_escaping(&self.line);
        if escape {
            self.escaped
                .extend(["process.args", "process.command_line"]);
        }
        let arguments = (!block.is_empty()).then(|| block.split(|&byte| byte == 0));
        let arguments = arguments.into_iter().flatten();
        let args = object.key(key!("args"));
        if text::is_plain(&self.line) {
            write_list(arguments, args, write_word);
            object.word(key!("command_line"), &self.line);
        } else {
            write_list(arguments, args, |argument, out| {
                write_bytes(argument, escape, out);
            });
            object.bytes(key!("command_line"), &self.line, escape);
        }
        if program.arguments_truncated {
            object.boolean(key!("args_truncated"), true);
        }
    }

    fn workload(&mut self, cgroup: &Cgroup, object: &mut Object<'_>) {
        if let Some(Container { id, runtime }) = &cgroup.container {
            object.object(key!("container"), |object| {
                self.text("container.id", key!("id"), id, object);
                if let Some(runtime) = runtime {
                    object.word(key!("runtime"), runtime);
                }
            });
        }
        if let Some(pod) = &cgroup.pod {
            object.object(key!("orchestrator"), |object| {
                object.object(key!("resource"), |resource| {
                    resource.word(key!("type"), "pod");
                    resource.word(key!("id"), pod);
                });
            });
        }
    }

    fn cgroup(&mut self, cgroup: &Cgroup, object: &mut Object<'_>) {
        self.text("tracer.cgroup", key!("cgroup"), &cgroup.path, object);
        if cgroup.unit.is_none() && cgroup.slice.is_none() {
            return;
        }
        object.object(key!("systemd"), |object| {
            for (field, key, name) in [
                ("tracer.systemd.unit", key!("unit"), &cgroup.unit),
                ("tracer.systemd.slice", key!("slice"), &cgroup.slice),
            ] {
                if let Some(name) = name {
                    self.text(field, key, name, object);
                }
            }
        });
    }

    fn tracer(&mut self, image: &Image, facts: Option<&Facts>, object: &mut Object<'_>) {
        let out = object.key(key!("lineage"));
        let begin = out.len();
        if !self.write_plain_lineage(image, out) {
            out.truncate(begin);
            self.write_escaped_lineage(image, out);
        }
        object.boolean(key!("lineage_complete"), image.lineage_complete());
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        if write_lineage(image, &mut line) {
            object.word(key!("lineage_text"), &line);
        } else {
            self.text("tracer.lineage_text", key!("lineage_text"), &line, object);
        }
        self.line = line;
        self.place(image, facts, object);
    }

    /// Where it belongs, and what has to be known about it.
    fn place(&mut self, image: &Image, facts: Option<&Facts>, object: &mut Object<'_>) {
        if let Some(parent) = &image.present_parent {
            object.object(key!("present_parent"), |object| self.brief(parent, object));
        }
        object.hex(key!("fingerprint"), &image.fingerprint());
        self.program(&image.program, object);
        if let Some(cgroup) = &image.cgroup {
            self.cgroup(cgroup, object);
        }
        if let Some(id) = image.session.id {
            object.number(key!("session_id"), id);
        }
        if let Some(build_id) = facts.and_then(|facts| facts.build_id.as_deref()) {
            object.hex(key!("build_id"), build_id);
        }
        if !self.escaped.is_empty() {
            object.words(key!("escaped"), &self.escaped);
        }
    }

    /// What it runs, beyond what `process` says.
    fn program(&mut self, program: &Program, object: &mut Object<'_>) {
        self.text("tracer.script", key!("script"), &program.script, object);
        if let Some(file) = &program.file {
            let clock = &mut self.file_clock;
            object.object(key!("file"), |object| file::write(file, clock, object));
        }
    }

    /// Writes a lineage of which no name and no path needs escaping. Returns whether it is one; if
    /// not, something has been written nevertheless.
    fn write_plain_lineage(&mut self, image: &Image, out: &mut Vec<u8>) -> bool {
        if needs_escaping(image) {
            return false;
        }
        out.push(b'[');
        self.write_ancestor(image, false, false, out);
        let mut next = &image.parent;
        while let Parent::Known(_, ancestor) = next {
            let place = ancestor.key.tgid as usize % ANCESTORS;
            let is_kept = |kept: &Arc<Image>| Arc::ptr_eq(kept, ancestor);
            if !self.ancestors[place].image.as_ref().is_some_and(is_kept) {
                if needs_escaping(ancestor) {
                    return false;
                }
                let mut text = std::mem::take(&mut self.ancestors[place].text);
                text.clear();
                self.write_ancestor(ancestor, false, false, &mut text);
                let image = Some(ancestor.clone());
                self.ancestors[place] = Ancestor { image, text };
            }
            out.push(b',');
            out.extend_from_slice(&self.ancestors[place].text);
            next = &ancestor.parent;
        }
        out.push(b']');
        true
    }

    /// Writes any lineage.
    fn write_escaped_lineage(&mut self, image: &Image, out: &mut Vec<u8>) {
        let escape_names = image
            .lineage()
            .any(|it| text::needs_escaping(it.name.as_bytes()));
        let escape_paths = image
            .lineage()
            .any(|it| text::needs_escaping(&it.program.executable));
        self.escaped
            .extend(escape_names.then_some("tracer.lineage.name"));
        self.escaped
            .extend(escape_paths.then_some("tracer.lineage.executable"));
        write_list(image.lineage(), out, |ancestor, out| {
            self.write_ancestor(ancestor, escape_names, escape_paths, out);
        });
    }

    fn write_ancestor(
        &mut self,
        image: &Image,
        escape_names: bool,
        escape_paths: bool,
        out: &mut Vec<u8>,
    ) {
        let mut object = Object::begin(out);
        self.identity(image.key, image.key_rounded, &mut object);
        if !image.name.as_bytes().is_empty() {
            object.bytes(key!("name"), image.name.as_bytes(), escape_names);
        }
        if !image.program.executable.is_empty() {
            object.bytes(key!("executable"), &image.program.executable, escape_paths);
        }
        object.word(
            key!("start"),
            self.clock.render(BootTime(image.key.start_ns)),
        );
        object.word(key!("provenance"), names::provenance(image.provenance));
        if let Parent::Known(relation, _) = &image.parent {
            object.word(key!("relation"), names::relation(*relation));
        }
        object.end();
    }
}

/// Whether the name or the path of an image needs escaping.
fn needs_escaping(image: &Image) -> bool {
    text::needs_escaping(image.name.as_bytes()) || text::needs_escaping(&image.program.executable)
}

fn write_user(id: u32, name: Option<&str>, user: &mut Object<'_>) {
    let mut digits = itoa::Buffer::new();
    user.word(key!("id"), digits.format(id));
    if let Some(name) = name {
        user.text(key!("name"), name);
    }
}
