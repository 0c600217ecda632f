//! Who it was: the processes under their ancestors, and the programs that they ran.
//!
//! In: a report. Out: HTML.

use std::io::{self, Write};

use hashbrown::HashMap;

use super::super::escape::Html;
use super::super::processes::{Node, Who};
use super::super::{Report, story};
use super::{ROWS_MAX, end_table, section, table};
use crate::identity::Identities;
use crate::output::{names, past};
use crate::process::image::{Image, Parent, Provenance, Relation};

/// Flags that a reader ought not to overlook.
const REMARKABLE: [&str; 7] = [
    "memfd",
    "deleted",
    "unpackaged",
    "altered",
    "name_disagrees",
    "argv0_disagrees",
    "writable_by_others",
];

/// What is still to be drawn.
enum Step {
    Process(Who),
    EndOfChildren,
}

impl Report {
    pub(super) fn write_processes(&self, out: &mut impl Write) -> io::Result<()> {
        section(
            out,
            "processes",
            "Processes, each under the one that forked it",
        )?;
        if self.forest.len() == 0 {
            return writeln!(out, "<p>None is known.</p>");
        }
        writeln!(out, "<ul class=\"tree\">")?;
        let roots = self.forest.roots.iter().rev();
        let mut steps: Vec<Step> = roots.map(|&who| Step::Process(who)).collect();
        // A chain may be long: the stack is our own.
        while let Some(step) = steps.pop() {
            match step {
                Step::EndOfChildren => writeln!(out, "</ul></li>")?,
                Step::Process(who) => {
                    let Some(node) = self.forest.node(who) else {
                        continue;
                    };
                    self.write_process(out, who, node)?;
                    if node.children.is_empty() {
                        writeln!(out, "</li>")?;
                        continue;
                    }
                    writeln!(out, "<ul>")?;
                    steps.push(Step::EndOfChildren);
                    let children = node.children.iter().rev();
                    steps.extend(children.map(|&child| Step::Process(child)));
                }
            }
        }
        writeln!(out, "</ul>")?;
        if self.forest.omitted > 0 {
            writeln!(
                out,
                "<p class=\"soft\">{} events are of processes for which there was no room here; the evidence has \
                 them.</p>",
                self.forest.omitted
            )?;
        }
        Ok(())
    }

    fn write_process(&self, out: &mut impl Write, who: Who, node: &Node) -> io::Result<()> {
        let image = &*node.image;
        let class = if node.involved { "who" } else { "who above" };
        write!(
            out,
            "<li><span class=\"{class}\">{}</span> ",
            Html(story::name(image))
        )?;
        if !image.program.executable.is_empty() {
            let command = if node.involved {
                story::command(image)
            } else {
                story::short_command(image)
            };
            write!(out, "<code>{}</code>", Html(command))?;
        }
        for flag in flags(image) {
            let class = if REMARKABLE.contains(&flag) {
                "tag warn"
            } else {
                "tag"
            };
            write!(out, "<span class=\"{class}\">{}</span>", Html(flag))?;
        }
        if node.involved {
            let life = self.life(who, node);
            write!(out, "<span class=\"life\">{}</span>", Html(life))?;
        }
        Ok(())
    }

    /// What is known of a process beside what it runs.
    fn life(&self, (boot, key): Who, node: &Node) -> String {
        let (image, cells) = (&*node.image, &self.cells[node.file]);
        let mut facts = vec![format!("user {}", cells.user_of(image))];
        let start = cells.time(crate::event::BootTime(key.start_ns));
        facts.push(format!("started {start}"));
        match node.over {
            Some((over, status)) => {
                let how = status.map_or_else(String::new, |it| format!(", {}", story::exit(it)));
                facts.push(format!("ended {}{how}", cells.time(over)));
            }
            None => facts.push("end not seen".to_owned()),
        }
        match node.contacts {
            0 => {}
            1 => facts.push("1 connection or flow".to_owned()),
            count => facts.push(format!("{count} connections or flows")),
        }
        if node.relation == Some(Relation::Present) {
            facts.push("now child of the one above, birth not seen".to_owned());
        }
        if matches!(image.parent, Parent::Unknown | Parent::Cut) {
            facts.push("ancestors not known".to_owned());
        }
        if image.provenance != Provenance::Kernel {
            facts.push(format!("known by {}", names::provenance(image.provenance)));
        }
        if let Some(container) = image.container() {
            let id = String::from_utf8_lossy(&container.id);
            facts.push(format!("container {}", id.get(..12).unwrap_or(&id)));
        }
        let id = Identities::new(boot).process(key, image.key_rounded);
        facts.push(format!("id {id}"));
        facts.join(" · ")
    }

    pub(super) fn write_programs(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "programs", "Programs that ran")?;
        let mut programs: HashMap<(String, String), (u64, &Image)> = HashMap::new();
        for node in self.forest.involved() {
            let image = &*node.image;
            let key = (past::program_of(image), past::sha256_of(image));
            programs.entry(key).or_insert((0, image)).0 += 1;
        }
        let mut programs: Vec<_> = programs.into_iter().collect();
        programs.sort_by(|one, other| one.0.cmp(&other.0));
        table(out, &["Program", "Package", "SHA-256", "Processes|"])?;
        for ((program, hash), (count, image)) in programs.iter().take(ROWS_MAX) {
            let package = match past::package_of(image).as_str() {
                "none" => "in no package".to_owned(),
                "?" => "not known".to_owned(),
                package => package.to_owned(),
            };
            let hash = if hash.is_empty() { "not known" } else { hash };
            writeln!(
                out,
                "<tr><td class=\"w\"><code>{}</code></td><td>{}</td><td><code>{}</code></td><td class=\"n\">{count}</td></tr>",
                Html(program),
                Html(package),
                Html(hash)
            )?;
        }
        let omitted = programs.len().saturating_sub(ROWS_MAX);
        end_table(out, omitted as u64, "programs")
    }
}

fn flags(image: &Image) -> Vec<&'static str> {
    names::process_flags(image, image.program.facts()).collect()
}
