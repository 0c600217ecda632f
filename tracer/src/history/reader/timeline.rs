//! What happened, of several kinds, in order of time.
//!
//! In: an open history. Out: its items, merged. They are read in slices of time, of which each holds a bounded
//! number of items of a kind, so that a long history needs no more memory than a short one.

use std::ops::{ControlFlow, RangeInclusive};

use super::file::HistoryFile;
use super::glance::{Glance, Glanced};
use super::rows::{self, Referred, Span};
use super::{History, Kind, ReadError, wrong};
use crate::event::BootTime;
use crate::history::item::{Item, What};
use crate::history::window::Window;

/// At most so many items of a kind are in a slice.
const SLICE: i64 = if cfg!(test) { 16 } else { 16_384 };

/// Which column of which table is in order of time, for those kinds of which there may be many.
const CLOCKS: [(Kind, &str, &str); 5] = [
    (Kind::Connections, "connection", "ended"),
    (Kind::Processes, "process", "executed"),
    (Kind::Exits, "process", "exited"),
    (Kind::Flows, "flow", "last"),
    (Kind::Lookups, "lookup", "time"),
];

/// From when until when, in nanoseconds of `CLOCK_BOOTTIME`.
type Slice = RangeInclusive<i64>;

/// What items are handed to, with the number of their file.
type VisitAll<'a> = dyn FnMut(usize, Item) -> ControlFlow<()> + 'a;

impl History {
    /// When what is known begins, in nanoseconds since 1970.
    pub fn begun(&self) -> i64 {
        self.files.first().map_or(i64::MAX, HistoryFile::begun_unix)
    }

    /// When the last connection of each file ended, in nanoseconds since 1970.
    pub fn last_ends(&self) -> Result<Vec<Option<i64>>, ReadError> {
        let last = |file: &HistoryFile| {
            let last: rusqlite::Result<Option<i64>> =
                file.database
                    .query_row("SELECT max(ended) FROM connection", [], |row| row.get(0));
            let last = last.map_err(|source| file.error(source))?;
            Ok(last.map(|last| file.wall_base().saturating_add(last)))
        };
        self.files.iter().map(last).collect()
    }

    /// Since when somebody wrote each run of a daemon, in nanoseconds since 1970, and the number of its first file.
    pub fn runs(&self) -> Vec<(usize, i64)> {
        let mut runs = Vec::new();
        let mut last = None;
        for (index, file) in self.files.iter().enumerate() {
            if last.replace(file.run) != Some(file.run) {
                runs.push((index, file.begun_unix()));
            }
        }
        runs
    }

    /// Hands on items of some kinds in the order in which they happened, by when a connection ended or a flow was
    /// last seen. After those of each run of a daemon comes what was still there: at the end of the window, or of
    /// the run.
    ///
    /// Of connections that have ended, those that a glance finds without interest need not come.
    pub fn visit_in_order(
        &mut self,
        kinds: &[Kind],
        glance: Glance<'_>,
        visit: &mut VisitAll<'_>,
    ) -> Result<(), ReadError> {
        for index in 0..self.files.len() {
            if self.visit_slices(index, kinds, glance, visit)?.is_break() {
                break;
            }
            let standing = self.visit_ended_later(index, kinds, visit)?;
            if standing.is_break() {
                break;
            }
            if self.is_last(index) && self.visit_standing(index, kinds, visit)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn visit_slices(
        &mut self,
        index: usize,
        kinds: &[Kind],
        glance: Glance<'_>,
        visit: &mut VisitAll<'_>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let file = &mut self.files[index];
        let glanced = Glanced::new(glance, index, &file.database, &mut file.referred);
        let mut glanced = glanced.map_err(|source| wrong(&file.path, source))?;
        let span = file.span(self.window);
        let until = file.base.saturating_add(span.until);
        let mut since = file.base.saturating_add(span.since);
        loop {
            let slice = since..=self.slice_end(index, kinds, since, until)?;
            let end = *slice.end();
            for (file, item) in self.items_of(index, kinds, &slice, &mut glanced)? {
                if visit(file, item).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if end >= until {
                return Ok(ControlFlow::Continue(()));
            }
            since = end + 1;
        }
    }

    /// The last nanosecond of a slice.
    fn slice_end(
        &self,
        index: usize,
        kinds: &[Kind],
        since: i64,
        until: i64,
    ) -> Result<i64, ReadError> {
        let file = &self.files[index];
        let mut end = until;
        for (_, table, column) in CLOCKS.iter().filter(|(kind, ..)| kinds.contains(kind)) {
            let next = file.database.prepare_cached(&format!(
                "SELECT min({column}) FROM (SELECT {column} FROM {table} WHERE {column} BETWEEN ?1 AND ?2
                 ORDER BY {column} LIMIT 1 OFFSET {SLICE})"
            ));
            let span = [
                since.saturating_sub(file.base),
                end.saturating_sub(file.base),
            ];
            let next = next.and_then(|mut next| next.query_row(span, |row| row.get(0)));
            let next: Option<i64> = next.map_err(|source| file.error(source))?;
            if let Some(next) = next {
                end = end.min((file.base.saturating_add(next) - 1).max(since));
            }
        }
        Ok(end)
    }

    /// What happened in a slice.
    fn items_of(
        &mut self,
        index: usize,
        kinds: &[Kind],
        slice: &Slice,
        glanced: &mut Glanced<'_>,
    ) -> Result<Vec<(usize, Item)>, ReadError> {
        let mut items = Vec::new();
        for &kind in kinds {
            match kind {
                Kind::Connections => self.ended(index, slice, glanced, &mut items)?,
                Kind::Listeners => self.listened(index, slice, &mut items)?,
                _ => {
                    let window = window_of(&self.files[index], slice);
                    let mut one = |item: Item| {
                        // Of a flow, only the overlap with the slice is sure.
                        if contains(slice, item.time) {
                            items.push((index, item));
                        }
                        ControlFlow::Continue(())
                    };
                    self.visit_file(index, kind, window, &mut one)?.is_break();
                }
            }
        }
        items.sort_by_key(|(_, item)| (item.time, order(item)));
        Ok(items)
    }

    fn ended(
        &mut self,
        index: usize,
        slice: &Slice,
        glanced: &mut Glanced<'_>,
        items: &mut Vec<(usize, Item)>,
    ) -> Result<(), ReadError> {
        let file = &mut self.files[index];
        let [since, until] =
            [slice.start(), slice.end()].map(|time| time.saturating_sub(file.base));
        let (database, referred) = (&file.database, &mut file.referred);
        let mut push = |item| {
            items.push((index, item));
            ControlFlow::Continue(())
        };
        let read = if let Glanced::All = glanced {
            rows::ended_in(database, referred, Span { since, until }, &mut push)
        } else {
            let mut wanted = |referred: &mut Referred, process, contact| {
                glanced.wants(database, referred, process, contact)
            };
            rows::scan_ended(
                database,
                referred,
                Span { since, until },
                &mut wanted,
                &mut push,
            )
        };
        read.map_err(|source| wrong(&file.path, source).into())
    }

    /// Listeners that opened or closed. One that closed in a later file of the run, or never did, stands only there.
    fn listened(
        &mut self,
        index: usize,
        slice: &Slice,
        items: &mut Vec<(usize, Item)>,
    ) -> Result<(), ReadError> {
        let run = self.files[index].run;
        let is_first = index == 0 || self.files[index - 1].run != run;
        let begun = self.files[index]
            .base
            .saturating_add(self.files[index].begun);
        for later in index..self.files.len() {
            if self.files[later].run != run {
                break;
            }
            let window = window_of(&self.files[later], slice);
            let mut one = |item: Item| {
                let is_told = later == index && !is_first && before(item.time, begun);
                if later == index
                    && let Some(closed) = closed(&item)
                    && contains(slice, closed.time)
                {
                    items.push((later, closed));
                }
                if contains(slice, item.time) && !is_told {
                    items.push((later, item));
                }
                ControlFlow::Continue(())
            };
            self.visit_file(later, Kind::Listeners, window, &mut one)?
                .is_break();
        }
        Ok(())
    }

    /// Connections and flows that were there in the window and ended after it.
    fn visit_ended_later(
        &mut self,
        index: usize,
        kinds: &[Kind],
        visit: &mut VisitAll<'_>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let window = self.window;
        if window.until == i64::MAX {
            return Ok(ControlFlow::Continue(()));
        }
        let file = &mut self.files[index];
        let span = file.span(window);
        if kinds.contains(&Kind::Connections) {
            let after = Span {
                since: span.until.saturating_add(1),
                ..span
            };
            let (database, referred) = (&file.database, &mut file.referred);
            let mut one = |item| visit(index, item);
            let visited = rows::ended(database, referred, after, &mut one);
            if visited
                .map_err(|source| wrong(&file.path, source))?
                .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        if !kinds.contains(&Kind::Flows) {
            return Ok(ControlFlow::Continue(()));
        }
        let until = file.base.saturating_add(span.until);
        let mut one = |item: Item| {
            if before(item.time, until.saturating_add(1)) {
                return ControlFlow::Continue(());
            }
            visit(index, item)
        };
        self.visit_file(index, Kind::Flows, window, &mut one)
    }

    /// Connections that were open, and listeners that were older than the window and went on.
    fn visit_standing(
        &mut self,
        index: usize,
        kinds: &[Kind],
        visit: &mut VisitAll<'_>,
    ) -> Result<ControlFlow<()>, ReadError> {
        let window = self.window;
        let file = &mut self.files[index];
        let span = file.span(window);
        if kinds.contains(&Kind::Connections) {
            let (database, referred) = (&file.database, &mut file.referred);
            let mut one = |item| visit(index, item);
            let visited = rows::open(database, referred, span, &mut one);
            if visited
                .map_err(|source| wrong(&file.path, source))?
                .is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        if !kinds.contains(&Kind::Listeners) {
            return Ok(ControlFlow::Continue(()));
        }
        let slice = file.base.saturating_add(span.since)..=file.base.saturating_add(span.until);
        let mut one = |item: Item| {
            let closed = item.over.map(|(closed, _)| closed);
            let is_over = closed.is_some_and(|closed| contains(&slice, closed));
            if is_over || contains(&slice, item.time) {
                return ControlFlow::Continue(());
            }
            visit(index, item)
        };
        self.visit_file(index, Kind::Listeners, window, &mut one)
    }
}

/// The end of a listener, if there is one.
fn closed(item: &Item) -> Option<Item> {
    let (What::ListenOpened(connection), Some((time, _))) = (&item.what, item.over) else {
        return None;
    };
    Some(Item {
        time,
        process: item.process.clone(),
        what: What::ListenClosed(connection.clone()),
        over: None,
        beyond: None,
    })
}

/// Of what happened in the same nanosecond: a process is there before it does something, and until it has; and what a
/// detection rests on is told before it.
fn order(item: &Item) -> u8 {
    match item.what {
        What::Executed => 0,
        What::Detected(_) => 2,
        What::Exited { .. } => 3,
        _ => 1,
    }
}

fn contains(slice: &Slice, time: BootTime) -> bool {
    i64::try_from(time.0).is_ok_and(|time| slice.contains(&time))
}

fn before(time: BootTime, limit: i64) -> bool {
    i64::try_from(time.0).is_ok_and(|time| time < limit)
}

/// A slice by the wall clock of a file.
fn window_of(file: &HistoryFile, slice: &Slice) -> Window {
    let wall = file.wall_base().saturating_sub(file.base);
    Window {
        since: slice.start().saturating_add(wall),
        until: slice.end().saturating_add(wall),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::history::samples;
    use crate::process::image::Image;

    /// Times of what is visited, with the word for what it is.
    fn visited(history: &mut History) -> Vec<(u64, &'static str)> {
        let mut visited = Vec::new();
        let visit = &mut |_, item: Item| {
            let what = match item.what {
                What::Ended(..) => "ended",
                What::Opened(_) => "open",
                What::ListenOpened(_) => "listen",
                What::ListenClosed(_) => "unlisten",
                What::Executed => "exec",
                _ => "other",
            };
            visited.push((item.time.0, what));
            ControlFlow::Continue(())
        };
        history
            .visit_in_order(&Kind::ALL, Glance::All, visit)
            .unwrap();
        visited
    }

    #[test]
    fn everything_comes_once_in_order_of_time_and_then_what_is_still_there() {
        let directory = tempfile::tempdir().unwrap();
        let now = clock::boot_time().0;
        let curl = samples::image(7, b"curl", b"curl\0", None);
        let connection = |opened| samples::connection(&curl, opened, "192.0.2.7:80");
        let mut items = vec![
            samples::item(&curl, now, What::Executed),
            samples::item(&curl, now + 1, What::Opened(connection(now + 1))),
            samples::item(&curl, now + 2, What::ListenOpened(connection(now + 2))),
        ];
        for number in 0..100 {
            let opened = connection(now + 10 + number);
            items.push(samples::ended(&curl, now + 1000 + number, opened));
        }
        items.push(samples::item(
            &curl,
            now + 1050,
            What::ListenClosed(connection(now + 2)),
        ));
        samples::write(directory.path(), items);
        let mut history = History::open(directory.path(), Window::ALL).unwrap();
        let visited = visited(&mut history);
        let (standing, told) = visited.split_last().unwrap();
        assert_eq!(*standing, (now + 1, "open"));
        assert!(told.is_sorted_by_key(|(time, _)| *time), "{told:?}");
        let count = |what| told.iter().filter(|(_, it)| *it == what).count();
        assert_eq!(
            ["exec", "listen", "unlisten", "ended"].map(count),
            [1, 1, 1, 100]
        );
    }

    #[test]
    fn what_ends_after_the_window_comes_last() {
        let directory = tempfile::tempdir().unwrap();
        // Later than the file is begun, as a file is not asked for what ended before.
        let now = clock::boot_time().0 + 10_000_000_000;
        let curl = samples::image(7, b"curl", b"curl\0", None);
        let ended = |opened, ended| {
            let connection = samples::connection(&curl, now + opened, "192.0.2.7:80");
            samples::ended(&curl, now + ended, connection)
        };
        let items = vec![ended(1, 50), ended(2, 20), ended(30, 60)];
        samples::write(directory.path(), items);
        let unix = |time: u64| (now + time).cast_signed() + samples::OFFSET;
        let window = Window {
            since: unix(0),
            until: unix(25),
        };
        let mut history = History::open(directory.path(), window).unwrap();
        let times: Vec<u64> = visited(&mut history).iter().map(|it| it.0 - now).collect();
        assert_eq!(times, [20, 50]);
    }

    #[test]
    fn a_glance_leaves_out_the_connections_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let now = clock::boot_time().0;
        let shell = samples::image(6, b"sh", b"sh\0", None);
        let curl = samples::image(7, b"curl", b"curl\0", Some(&shell));
        let wget = samples::image(8, b"wget", b"wget\0", None);
        let ended = |image, number: u64, remote| {
            let time = now + 10 * number;
            samples::ended(image, time + 1, samples::connection(image, time, remote))
        };
        let items = vec![
            ended(&curl, 1, "192.0.2.1:80"),
            ended(&wget, 2, "192.0.2.1:80"),
            ended(&curl, 3, "192.0.2.2:80"),
            samples::item(&wget, now + 40, What::Executed),
        ];
        samples::write(directory.path(), items);
        let mut history = History::open(directory.path(), Window::ALL).unwrap();
        let mut times = |glance: Glance<'_>| {
            let mut times = Vec::new();
            let visit = &mut |_, item: Item| {
                times.push(item.time.0 - now);
                ControlFlow::Continue(())
            };
            history.visit_in_order(&Kind::ALL, glance, visit).unwrap();
            times
        };
        assert_eq!(times(Glance::All), [11, 21, 31, 40]);
        let descends = |_, image: &Image| image.lineage().any(|image| image.key.tgid == 6);
        assert_eq!(times(Glance::Owner(&descends)), [11, 31, 40]);
        assert_eq!(
            times(Glance::End("192.0.2.1".parse().unwrap())),
            [11, 21, 40]
        );
        assert_eq!(
            times(Glance::End("10.0.0.1".parse().unwrap())),
            [11, 21, 31, 40]
        );
        assert_eq!(times(Glance::End("192.0.2.9".parse().unwrap())), [40]);
    }
}
