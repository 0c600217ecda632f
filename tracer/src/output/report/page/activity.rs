//! What was done: contacts, names, sockets, and all of it in order of time.
//!
//! In: a report. Out: HTML.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::super::escape::Html;
use super::super::story::{Line, transport};
use super::super::{Report, sums};
use super::{ROWS_MAX, end_table, section, table};
use crate::event::Protocol;
use crate::output::names;

impl Report {
    pub(super) fn write_contacts(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "contacts", "Who was talked with")?;
        let contacts = self.totals.contacts.sorted(|contact| contact.count);
        if contacts.is_empty() {
            return writeln!(out, "<p>Nobody.</p>");
        }
        table(
            out,
            &[
                "Peer",
                "Times|",
                "Failed|",
                "Sent|",
                "Received|",
                "First",
                "Last",
                "Ended",
                "Processes",
            ],
        )?;
        for (talk, contact) in contacts.iter().take(ROWS_MAX) {
            let (first, last) = contact.seen.unwrap_or_default();
            let port = talk
                .port
                .map_or_else(String::new, |port| format!(" port {port}"));
            let way = if talk.inbound { "from" } else { "to" };
            let how = format!("{way}, {}{port}", transport(Protocol(talk.protocol)));
            let domains = contact.domains.list();
            writeln!(
                out,
                "<tr><td class=\"w\"><code>{}</code><br><small>{}{}</small></td><td class=\"n\">{}</td>\
                 <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"t\">{}</td>\
                 <td class=\"t\">{}</td><td>{}</td><td class=\"w\">{}</td></tr>",
                Html(talk.peer),
                Html(how),
                if domains.is_empty() {
                    String::new()
                } else {
                    format!("<br>{}", Html(domains))
                },
                contact.count,
                contact.failed,
                Html(self.bytes(contact.sent)),
                Html(self.bytes(contact.received)),
                self.moment(first),
                self.moment(last),
                Html(contact.states.list()),
                Html(contact.processes.list())
            )?;
        }
        let omitted = contacts.len().saturating_sub(ROWS_MAX) as u64;
        end_table(out, omitted + self.totals.contacts.omitted, "contacts")
    }

    pub(super) fn write_names(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "names", "Names that were asked for")?;
        let names = self.totals.names.sorted(|name| name.count);
        if names.is_empty() {
            return writeln!(out, "<p>None that was seen.</p>");
        }
        table(
            out,
            &[
                "Name",
                "Type",
                "Times|",
                "First",
                "Outcome",
                "Addresses",
                "Processes",
            ],
        )?;
        for ((name, kind), asked) in names.iter().take(ROWS_MAX) {
            let asked: &sums::Name = asked;
            writeln!(
                out,
                "<tr><td class=\"w\"><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td class=\"t\">{}</td>\
                 <td>{}</td><td><code>{}</code></td><td>{}</td></tr>",
                Html(name),
                Html(kind),
                asked.count,
                self.moment(asked.first.unwrap_or_default()),
                Html(asked.outcomes.list()),
                Html(asked.addresses.list()),
                Html(asked.processes.list())
            )?;
        }
        let omitted = names.len().saturating_sub(ROWS_MAX) as u64;
        end_table(out, omitted + self.totals.names.omitted, "names")
    }

    /// Sockets by which others get in, or that see or forge traffic.
    pub(super) fn write_sockets(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "sockets", "Listening and raw sockets")?;
        let sockets = self.lines.iter();
        let sockets: Vec<_> = sockets
            .filter(|(_, line)| ["listen", "raw"].contains(&line.sort))
            .collect();
        if sockets.is_empty() {
            return writeln!(out, "<p>None.</p>");
        }
        table(out, &["Time", "Process", "What", "More"])?;
        for (at, line) in sockets.iter().take(ROWS_MAX) {
            writeln!(
                out,
                "<tr><td class=\"t\">{}</td><td class=\"p\">{}</td><td>{}</td><td>{}</td></tr>",
                self.moment(*at),
                Html(&line.who),
                Html(&line.what),
                Html(&line.more)
            )?;
        }
        end_table(
            out,
            sockets.len().saturating_sub(ROWS_MAX) as u64,
            "sockets",
        )
    }

    pub(super) fn write_timeline(&self, out: &mut impl Write) -> io::Result<()> {
        section(out, "timeline", "Timeline")?;
        writeln!(
            out,
            "<p class=\"soft\">Each thing stands at the time when it began. Bytes are payload, as this host sent and \
             received them; a connection within this host has two sockets here, and two lines.</p>"
        )?;
        table(
            out,
            &[
                "Time",
                "Process",
                "Kind",
                "What",
                "Sent|",
                "Received|",
                "Known by",
            ],
        )?;
        let mut day = String::new();
        for (at, line) in &self.lines {
            let time = self.time(*at);
            let (date, clock) = time.split_once(' ').unwrap_or((&time, ""));
            if day != date {
                day = date.to_owned();
                let day = Html(&day);
                writeln!(out, "<tr class=\"day\"><th colspan=\"7\">{day}</th></tr>")?;
            }
            self.write_line(out, clock, line)?;
        }
        end_table(out, 0, "")?;
        if self.omitted > 0 {
            writeln!(
                out,
                "<p class=\"notes\">{} more events are not in this timeline, which has room for {}: those that ended \
                 last. The evidence has all of them, and the numbers above count them.</p>",
                self.omitted,
                super::super::LINES_MAX
            )?;
        }
        Ok(())
    }

    fn write_line(&self, out: &mut impl Write, clock: &str, line: &Line) -> io::Result<()> {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(String::new, |it| self.bytes(it));
        let (sent, received) = (line.carried.map(|it| it.0), line.carried.map(|it| it.1));
        write!(
            out,
            "<tr><td class=\"t\">{}</td><td class=\"p\">{}</td><td class=\"s {sort}\">{sort}</td><td class=\"w\">{}",
            Html(clock),
            Html(&line.who),
            Html(&line.what),
            sort = line.sort
        )?;
        if !line.more.is_empty() {
            write!(out, "<br><small>{}</small>", Html(&line.more))?;
        }
        writeln!(
            out,
            "</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            Html(bytes(sent)),
            Html(bytes(received)),
            names::provenance(line.known)
        )
    }

    pub(super) fn bytes(&self, bytes: u64) -> String {
        self.cells
            .first()
            .map_or_else(|| bytes.to_string(), |cells| cells.bytes(bytes))
    }

    /// A time by the clock of whoever makes the report.
    pub(super) fn time(&self, unix: i64) -> String {
        match self.cells.first() {
            Some(cells) => cells.unix_time(unix),
            None => Timestamp::from_nanosecond(unix.into())
                .map_or_else(|_| "?".to_owned(), |it| it.to_string()),
        }
    }

    /// The same in two short lines, as HTML.
    fn moment(&self, unix: i64) -> String {
        let time = self.time(unix);
        match time.split_once(' ') {
            Some((date, clock)) => format!("{}<br>{}", Html(clock), Html(date)),
            None => Html(time).to_string(),
        }
    }

    /// The name of the zone, and how far it is ahead of UTC when the report is made.
    pub(super) fn zone(&self) -> String {
        let made = Timestamp::from_nanosecond(self.heading.made.into()).unwrap_or_default();
        let zone = TimeZone::system();
        let offset = zone.to_offset(made);
        let name = zone.iana_name().unwrap_or("of this host").to_owned();
        format!("{name}, UTC{offset}")
    }
}
