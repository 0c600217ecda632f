//! Where an export goes: a file that is whole or not there, or stdout.
//!
//! In: a path, and bytes. Out: the bytes under a temporary name, which becomes the path when all are written.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process;

use crate::failure::Failure;

/// What is written to.
pub(super) struct Destination {
    file: File,
    /// What people call it.
    name: String,
    /// What it is called until it is whole, and then.
    names: Option<(PathBuf, PathBuf)>,
}

impl Destination {
    /// Stdout, without a buffer.
    pub(super) fn stdout() -> Result<Self, Failure> {
        let file = io::stdout().as_fd().try_clone_to_owned();
        let file =
            file.map_err(|error| Failure::failed(format_args!("cannot write to stdout: {error}")))?;
        Ok(Self {
            file: file.into(),
            name: "stdout".to_owned(),
            names: None,
        })
    }

    /// A file, which replaces what has its name. What is no regular file, such as a FIFO, is written as it is.
    pub(super) fn file(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let cannot =
            |error: io::Error| Failure::failed(format_args!("cannot write {name}: {error}"));
        // Behind a symbolic link, it is the file that is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let is_special = path.metadata().is_ok_and(|data| !data.is_file());
        let (file, names) = if is_special {
            let file = File::options().write(true).open(&path).map_err(cannot)?;
            (file, None)
        } else {
            let mut partial = path.clone().into_os_string();
            partial.push(format!(".{}.partial", process::id()));
            let partial = PathBuf::from(partial);
            let mut options = File::options();
            // Command lines are not everybody's business.
            options.write(true).create_new(true).mode(0o600);
            (
                options.open(&partial).map_err(cannot)?,
                Some((partial, path)),
            )
        };
        Ok(Self { file, name, names })
    }

    /// What it means that something could not be written to it. A reader of stdout that goes away has read enough.
    pub(super) fn failure(&self, error: &io::Error) -> Result<(), Failure> {
        if self.names.is_none() && error.kind() == ErrorKind::BrokenPipe {
            return Ok(());
        }
        let remedy = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "; make room or write elsewhere",
            _ => "",
        };
        Err(Failure::failed(format_args!(
            "cannot write {}: {error}{remedy}",
            self.name
        )))
    }

    /// All is written: gives it its name.
    pub(super) fn commit(mut self) -> Result<(), Failure> {
        let Some((partial, path)) = &self.names else {
            return Ok(());
        };
        let renamed = self
            .file
            .sync_all()
            .and_then(|()| fs::rename(partial, path));
        match renamed {
            Ok(()) => {
                self.names = None;
                Ok(())
            }
            Err(error) => self.failure(&error),
        }
    }
}

impl Write for Destination {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some((partial, _)) = &self.names {
            // Nothing better can be done about half a file that cannot be deleted.
            let _ = fs::remove_file(partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        fs::write(&path, "before").unwrap();
        let mut destination = Destination::file(&path).unwrap();
        destination.write_all(b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        destination.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn half_a_file_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let mut destination = Destination::file(&directory.path().join("out.csv")).unwrap();
        destination.write_all(b"half").unwrap();
        drop(destination);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_is_told_with_the_name_of_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        let destination = Destination::file(&path).unwrap();
        let full = io::Error::from(ErrorKind::StorageFull);
        let failure = destination.failure(&full).unwrap_err().to_string();
        assert!(failure.contains(&path.display().to_string()), "{failure}");
    }

    #[test]
    fn a_reader_of_stdout_that_goes_away_has_read_enough() {
        let broken = io::Error::from(ErrorKind::BrokenPipe);
        assert!(Destination::stdout().unwrap().failure(&broken).is_ok());
        let special = Destination::file(Path::new("/dev/null")).unwrap();
        special.commit().unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }
}
