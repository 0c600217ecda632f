//! The directory of the history: which files there are, who may write, what has to go.
//!
//! In: a directory and limits. Out: paths of files, oldest first. Each is named by when it was begun, in UTC, so
//! that names are in order of time.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

/// Where the history is, unless told otherwise.
pub const DEFAULT_DIRECTORY: &str = "/var/lib/tracer";

const PREFIX: &str = "history-";
const SUFFIX: &str = ".db";
/// What a file is renamed to that cannot be read.
const SET_ASIDE: &str = "corrupt";

/// Where the history is, and how much of it there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where.
    pub directory: PathBuf,
    /// How large all files together may become, in bytes.
    pub size_limit: u64,
    /// How long they are kept.
    pub age_limit: Duration,
    /// Which group may read them, beside the user; by number.
    pub group: Option<u32>,
}

/// Makes the directory, if there is none, and takes the right to write in it, for as long as the result lives.
pub(super) fn claim(options: &Options) -> io::Result<File> {
    let directory = &options.directory;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    if options.group.is_some() {
        chown(directory, None, options.group)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o750))?;
    }
    let lock = File::create(directory.join("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Makes an empty file that is begun at this time, in nanoseconds since 1970. Where there is one of that time, as in
/// what was recorded by two boots, it is called by the next one.
pub(super) fn begin(directory: &Path, unix_ns: i64) -> io::Result<PathBuf> {
    const ATTEMPTS: i64 = 1000;
    let mut later = 0;
    loop {
        match begin_as(directory, unix_ns.saturating_add(later)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && later < ATTEMPTS => {
                later += 1;
            }
            begun => return begun,
        }
    }
}

fn begin_as(directory: &Path, unix_ns: i64) -> io::Result<PathBuf> {
    let time = Timestamp::from_nanosecond(unix_ns.into()).unwrap_or_default();
    let name = time.strftime("%Y%m%dT%H%M%S%.9fZ");
    let path = directory.join(format!("{PREFIX}{name}{SUFFIX}"));
    let mut options = File::options();
    options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    Ok(path)
}

/// Lets a group read a file and its log.
pub(super) fn share(path: &Path, group: Option<u32>) -> io::Result<()> {
    let mode = if group.is_some() { 0o640 } else { 0o600 };
    for path in with_log(path) {
        if path.exists() {
            chown(&path, None, group)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Every file of the history, the oldest first.
pub fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX)) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether a file was not closed in order.
pub(super) fn has_log(path: &Path) -> bool {
    with_log(path)[1].exists()
}

/// Renames a file that cannot be read, so that nobody stumbles over it again. Returns what it is called now.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension(SET_ASIDE);
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// How large a file is with its log, in bytes.
pub(super) fn size(path: &Path) -> u64 {
    let sizes = with_log(path).map(|path| path.metadata().map_or(0, |data| data.len()));
    sizes.into_iter().sum()
}

/// Deletes the oldest files, as long as all together are too large or they are too old. Never the last one.
pub fn retain(options: &Options, now: SystemTime) -> io::Result<()> {
    let files = files(&options.directory)?;
    let Some((_, old)) = files.split_last() else {
        return Ok(());
    };
    let mut total: u64 = files.iter().map(|path| size(path)).sum();
    for path in old {
        let modified = path.metadata()?.modified()?;
        let age = now.duration_since(modified).unwrap_or_default();
        if total <= options.size_limit && age <= options.age_limit {
            continue;
        }
        total = total.saturating_sub(size(path));
        remove(path)?;
    }
    Ok(())
}

/// Deletes a file and what belongs to it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let [file, log, shared] = with_log(path);
    for path in [log, shared] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::remove_file(file)
}

/// A file, its write-ahead log, and the index of that.
fn with_log(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        name.into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(directory: &Path) -> Options {
        Options {
            directory: directory.to_owned(),
            size_limit: 1000,
            age_limit: Duration::from_secs(3600),
            group: None,
        }
    }

    fn file(directory: &Path, second: i64, size: usize) -> PathBuf {
        let path = begin(directory, second * 1_000_000_000).unwrap();
        fs::write(&path, vec![0; size]).unwrap();
        path
    }

    #[test]
    fn files_are_in_order_of_time_and_nothing_else_counts() {
        let directory = tempfile::tempdir().unwrap();
        let later = file(directory.path(), 1_000_000_000, 1);
        let earlier = file(directory.path(), 999_999_999, 1);
        fs::write(directory.path().join("lock"), "").unwrap();
        fs::write(directory.path().join("history-x.corrupt"), "").unwrap();
        assert_eq!(files(directory.path()).unwrap(), [earlier, later]);
    }

    #[test]
    fn two_files_of_one_time_have_two_names() {
        let directory = tempfile::tempdir().unwrap();
        let paths = [(); 3].map(|()| begin(directory.path(), 1_000).unwrap());
        assert_eq!(files(directory.path()).unwrap(), paths);
    }

    #[test]
    fn the_oldest_go_until_the_rest_is_small_enough() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..4)
            .map(|second| file(directory.path(), second, 400))
            .collect();
        fs::write(format!("{}-wal", paths[0].display()), "log").unwrap();
        retain(&options(directory.path()), SystemTime::now()).unwrap();
        assert_eq!(files(directory.path()).unwrap(), paths[2..]);
        assert!(!has_log(&paths[0]), "its log went with it");
    }

    #[test]
    fn what_is_too_old_goes_but_never_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..3)
            .map(|second| file(directory.path(), second, 1))
            .collect();
        let later = SystemTime::now() + Duration::from_secs(7200);
        retain(&options(directory.path()), later).unwrap();
        assert_eq!(files(directory.path()).unwrap(), paths[2..]);
    }

    #[test]
    fn only_one_may_write() {
        let directory = tempfile::tempdir().unwrap();
        let options = options(&directory.path().join("new"));
        let held = claim(&options).unwrap();
        let error = claim(&options).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        claim(&options).unwrap();
    }
}
