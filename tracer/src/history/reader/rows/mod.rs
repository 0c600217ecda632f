//! Rows of a file of the history as the items that they were made of.
//!
//! In: one open file and a window. Out: items, each kind in order of time.

mod connections;
mod contacts;
mod detections;
mod lookups;
mod others;
mod processes;

use std::ops::ControlFlow;

use rusqlite::{Result, Row, Rows};

use crate::history::item::Item;

pub(super) use self::connections::{ended, ended_in, ended_of, open, open_of, scan, scan_ended};
pub use self::contacts::Contact;
pub(super) use self::contacts::{Referred, contacts};
pub(super) use self::detections::detections;
pub(super) use self::lookups::lookups;
pub(super) use self::others::{flows, listeners, losses, raw_sockets};
pub(super) use self::processes::{exits, processes};

/// What items are handed to; it says whether it wants more.
pub(super) type Visit<'a> = dyn FnMut(Item) -> ControlFlow<()> + 'a;

/// From when until when, in a file's times; both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) since: i64,
    pub(super) until: i64,
}

impl Span {
    /// A condition by which an index serves: of a file whose times begin after the span, only those connections
    /// count that are older than that.
    pub(super) fn older(self, table: &str) -> String {
        if self.until < 0 {
            format!("{table}age > {table}ended AND")
        } else {
            String::new()
        }
    }
}

/// Hands on what becomes of each row, as long as somebody wants it.
fn each(
    mut rows: Rows<'_>,
    visit: &mut Visit<'_>,
    mut item: impl FnMut(&Row<'_>) -> Result<Option<Item>>,
) -> Result<ControlFlow<()>> {
    while let Some(row) = rows.next()? {
        if let Some(item) = item(row)?
            && visit(item).is_break()
        {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
