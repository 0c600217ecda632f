//! Who did what, as the processes of a mix write it down: sixteen thousand connections a second leave no
//! time for text.
//!
//! Each thread has a file of its own, with one record of eight bytes for each of its ends.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

/// Which end of a connection a process had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It connected.
    Initiator,
    /// It accepted.
    Acceptor,
}

/// Marks an acceptor's record; PIDs are below 2²².
const ACCEPTOR: u32 = 1 << 31;

/// A file of the truth.
#[derive(Debug)]
pub(super) struct Writer(BufWriter<File>);

impl Writer {
    /// A new file in `directory`, for this thread.
    pub(super) fn create(directory: &str) -> Result<Writer> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(directory).join(format!("{}-{number}", std::process::id()));
        let file = File::create_new(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Writer(BufWriter::new(file)))
    }

    /// This process had this end of connection `index`.
    pub(super) fn write(&mut self, index: u32, end: End) -> Result<()> {
        let mark = match end {
            End::Initiator => 0,
            End::Acceptor => ACCEPTOR,
        };
        self.0.write_all(&index.to_le_bytes())?;
        self.0
            .write_all(&(std::process::id() | mark).to_le_bytes())?;
        Ok(())
    }

    /// There is nothing more to write.
    pub(super) fn finish(mut self) -> Result<()> {
        Ok(self.0.flush()?)
    }
}

/// Reads every file in `directory`: number, end and PID.
pub fn read(directory: &Path, mut each: impl FnMut(u32, End, u32)) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let bytes = fs::read(entry?.path())?;
        let (records, rest) = bytes.as_chunks::<8>();
        ensure!(rest.is_empty(), "a record is cut");
        for record in records {
            let [index, who] = [0, 4].map(|from| {
                u32::from_le_bytes([
                    record[from],
                    record[from + 1],
                    record[from + 2],
                    record[from + 3],
                ])
            });
            let end = if who & ACCEPTOR == 0 {
                End::Initiator
            } else {
                End::Acceptor
            };
            each(index, end, who & !ACCEPTOR);
        }
    }
    Ok(())
}
