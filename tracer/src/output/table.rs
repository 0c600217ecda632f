//! Rows of cells: as a table for people, or as comma-separated values.
//!
//! In: titles and rows. Out: lines. A table's columns are as wide as its first rows need; what comes later and is wider
//! is not cut. Cells of a table reach the terminal only as [`text::write_terminal`] leaves them.

use std::io::{self, Write};

use super::text;

/// So many rows decide how wide columns are.
const MEASURED: usize = 500;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In columns.
    Table,
    /// RFC 4180, with a line of titles.
    Csv,
}

/// Writes rows.
pub struct Table<W: Write> {
    form: Form,
    out: W,
    pending: Vec<Vec<String>>,
    widths: Vec<usize>,
    is_measured: bool,
}

impl<W: Write> Table<W> {
    /// Begins with a line of titles.
    pub fn new(form: Form, titles: &[&str], out: W) -> Self {
        let titles = titles.iter().map(|&title| title.to_owned()).collect();
        Self {
            form,
            out,
            pending: vec![titles],
            widths: Vec::new(),
            is_measured: false,
        }
    }

    /// One row, with a cell for each title.
    pub fn push(&mut self, row: Vec<String>) -> io::Result<()> {
        if self.is_measured {
            return self.write(&row);
        }
        self.pending.push(row);
        if self.pending.len() > MEASURED || self.form == Form::Csv {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what waited to be measured.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        if self.form == Form::Table {
            for row in pending.iter_mut().skip(usize::from(!self.is_measured)) {
                row.iter_mut().for_each(|cell| *cell = safe(cell));
            }
            self.measure(&pending);
        }
        self.is_measured = true;
        for row in &pending {
            self.write_safe(row)?;
        }
        self.out.flush()
    }

    fn measure(&mut self, rows: &[Vec<String>]) {
        for row in rows {
            self.widths.resize(row.len().max(self.widths.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }

    fn write(&mut self, row: &[String]) -> io::Result<()> {
        match self.form {
            Form::Csv => self.write_safe(row),
            Form::Table => {
                let row: Vec<String> = row.iter().map(|cell| safe(cell)).collect();
                self.write_safe(&row)
            }
        }
    }

    fn write_safe(&mut self, row: &[String]) -> io::Result<()> {
        match self.form {
            Form::Csv => {
                let mut line = csv::WriterBuilder::new().from_writer(Vec::new());
                line.write_record(row)?;
                let line = line.into_inner().map_err(csv::IntoInnerError::into_error)?;
                self.out.write_all(&line)
            }
            Form::Table => {
                let mut line = String::new();
                for (cell, width) in row.iter().zip(&self.widths) {
                    line.push_str(cell);
                    let missing = width.saturating_sub(cell.chars().count());
                    line.extend(std::iter::repeat_n(' ', missing + 2));
                }
                writeln!(self.out, "{}", line.trim_end())
            }
        }
    }
}

/// As a terminal may have it.
fn safe(cell: &str) -> String {
    let mut safe = Vec::new();
    text::write_terminal(cell.as_bytes(), &mut safe);
    String::from_utf8_lossy(&safe).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(form: Form, rows: &[&[&str]]) -> String {
        let mut out = Vec::new();
        let mut table = Table::new(form, &["Name", "Peer"], &mut out);
        for row in rows {
            let row = row.iter().map(|&cell| cell.to_owned()).collect();
            table.push(row).unwrap();
        }
        table.flush().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let table = written(Form::Table, &[&["a", "x"], &["bcdefg", "y"]]);
        assert_eq!(table, "Name    Peer\na       x\nbcdefg  y\n");
    }

    #[test]
    fn what_could_command_a_terminal_is_shown_instead() {
        let table = written(Form::Table, &[&["\u{1b}[2J", "x"]]);
        assert!(!table.contains('\u{1b}'), "{table:?}");
    }

    #[test]
    fn values_are_quoted_where_they_have_to_be() {
        let table = written(Form::Csv, &[&["a,b", "c\"d"]]);
        assert_eq!(table, "Name,Peer\n\"a,b\",\"c\"\"d\"\n");
    }

    #[test]
    fn rows_behind_the_measured_ones_are_written_at_once() {
        let mut out = Vec::new();
        let mut table = Table::new(Form::Table, &["N"], &mut out);
        for number in 0..MEASURED + 2 {
            table.push(vec![number.to_string()]).unwrap();
        }
        table.flush().unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap().lines().count(),
            MEASURED + 3
        );
    }
}
