//! What a reader has to know about a process and about the very fields of a line.
//!
//! In: an image with what is known of its file, and what a single event adds. Out: `tracer.flags` and
//! `tracer.provenance`, of which the process's part is rendered once per image.

use super::object::{Key, Object, key, write_word};
use crate::dns::names::KnownFrom;
use crate::output::names;
use crate::process::content::{Facts, Origin};
use crate::process::image::{Image, Provenance};

/// The process's part, without the brackets around it.
#[derive(Clone, Default)]
pub(super) struct Marks {
    flags: Vec<u8>,
    provenance: Vec<u8>,
}

/// What an event adds.
#[derive(Clone, Copy, Default)]
pub(super) struct Added {
    /// A flag.
    pub(super) flag: Option<&'static str>,
    /// Where the name of the destination is known from.
    pub(super) domain: Option<KnownFrom>,
    /// Whether the protocol is known by its port alone.
    pub(super) probable_protocol: bool,
}

impl Marks {
    /// Writes the members, unless nothing is to be said.
    #[inline]
    pub(super) fn write(&self, added: &Added, tracer: &mut Object<'_>) {
        if !self.flags.is_empty() || added.flag.is_some() {
            self.write_flags(added.flag, tracer);
        }
        if !self.provenance.is_empty() || added.domain.is_some() || added.probable_protocol {
            tracer.object(key!("provenance"), |object| {
                object.members(&self.provenance);
                if let Some(known_from) = added.domain {
                    object.word(key!("destination.domain"), names::known_from(known_from));
                }
                if added.probable_protocol {
                    let inferred = names::provenance(Provenance::Inferred);
                    object.word(key!("network.protocol"), inferred);
                }
            });
        }
    }

    fn write_flags(&self, added: Option<&str>, tracer: &mut Object<'_>) {
        let out = tracer.key(key!("flags"));
        out.push(b'[');
        out.extend_from_slice(&self.flags);
        if let Some(flag) = added {
            if !self.flags.is_empty() {
                out.push(b',');
            }
            write_word(flag, out);
        }
        out.push(b']');
    }
}

/// Renders the process's part anew.
pub(super) fn render_marks(image: &Image, facts: Option<&Facts>, marks: &mut Marks) {
    marks.flags.clear();
    marks.provenance.clear();
    for flag in names::process_flags(image, facts) {
        if !marks.flags.is_empty() {
            marks.flags.push(b',');
        }
        write_word(flag, &mut marks.flags);
    }
    let mut provenance = Object::members_only(&mut marks.provenance);
    render_provenance(image, facts, &mut provenance);
}

/// Where the members are known from that no hook has seen: what is in a file, nobody but its reader tells.
fn render_provenance(image: &Image, facts: Option<&Facts>, object: &mut Object<'_>) {
    let is_packaged = |facts: &Facts| matches!(facts.origin, Origin::Package(_));
    let is_known = [
        (
            key!("hash"),
            facts.is_some_and(|facts| facts.sha256.is_some()),
        ),
        (
            key!("build_id"),
            facts.is_some_and(|facts| facts.build_id.is_some()),
        ),
        (key!("package"), facts.is_some_and(is_packaged)),
    ];
    let read = is_known.into_iter().filter(|(_, is_known)| *is_known);
    let read = read.map(|(key, _)| (key, Provenance::Procfs));
    let process = (key!("process"), image.provenance);
    let is_worth_telling = |(_, provenance): &(Key, Provenance)| *provenance != Provenance::Kernel;
    let told = std::iter::once(process)
        .chain(read)
        .filter(is_worth_telling);
    told.for_each(|(key, provenance)| object.word(key, names::provenance(provenance)));
}
