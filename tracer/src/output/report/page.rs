//! The page: what was gathered, as HTML.
//!
//! In: a report. Out: one file, for a screen, for paper, and for whoever has no network.

mod activity;
mod head;
mod people;

use std::io::{self, Write};

use super::escape::Html;
use super::{Evidence, Report};

/// At most so many rows has a table.
const ROWS_MAX: usize = 1000;

impl Report {
    /// Writes the page.
    pub fn write(&mut self, out: &mut impl Write, evidence: &Evidence) -> io::Result<()> {
        self.lines.sort_by_key(|(at, _)| *at);
        self.forest.sort();
        self.write_head(out)?;
        self.write_summary(out, evidence)?;
        self.write_missing(out)?;
        self.write_processes(out)?;
        self.write_programs(out)?;
        self.write_contacts(out)?;
        self.write_names(out)?;
        self.write_sockets(out)?;
        self.write_timeline(out)?;
        self.write_advice(out)?;
        self.write_provenance(out)?;
        self.write_files(out, evidence)?;
        out.write_all(b"</body>\n</html>\n")
    }
}

/// Begins a section.
fn section(out: &mut impl Write, id: &str, title: &str) -> io::Result<()> {
    writeln!(out, "<h2 id=\"{id}\">{}</h2>", Html(title))
}

/// Begins a table; titles of numbers end with a bar.
fn table(out: &mut impl Write, titles: &[&str]) -> io::Result<()> {
    write!(out, "<table>\n<thead><tr>")?;
    for title in titles {
        match title.strip_suffix('|') {
            Some(title) => write!(out, "<th class=\"n\">{}</th>", Html(title))?,
            None => write!(out, "<th>{}</th>", Html(title))?,
        }
    }
    writeln!(out, "</tr></thead>\n<tbody>")
}

/// Ends a table, and says how many rows it lacks.
fn end_table(out: &mut impl Write, omitted: u64, what: &str) -> io::Result<()> {
    writeln!(out, "</tbody>\n</table>")?;
    if omitted > 0 {
        writeln!(
            out,
            "<p class=\"soft\">{omitted} {} are not shown here; the evidence has them.</p>",
            Html(what)
        )?;
    }
    Ok(())
}
