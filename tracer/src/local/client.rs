//! Asks the daemon.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Answer, Question, Request, VERSION};

/// How long the daemon may be silent.
const SILENCE: Duration = Duration::from_secs(30);

/// Longest first line of an answer, in bytes.
const HEAD_MAX: u64 = 4096;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No daemon listens there.
    #[error("no daemon listens at {0}")]
    Nobody(PathBuf),
    /// The daemon's socket is not for everybody.
    #[error(
        "{0} is not open to this user; ask as root or as a member of its group (see `tracer run --socket-group`)"
    )]
    Forbidden(PathBuf),
    /// The conversation broke off.
    #[error("cannot ask the daemon at {path}: {source}")]
    Broken {
        /// Where it listens.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It speaks otherwise.
    #[error(
        "the daemon at {path} speaks version {theirs} of the protocol and this program version {VERSION}; restart it"
    )]
    Version {
        /// Where it listens.
        path: PathBuf,
        /// Its version.
        theirs: u32,
    },
    /// What was asked about is not there.
    #[error("{0}")]
    Missing(String),
    /// It could not do it.
    #[error("the daemon says: {0}")]
    Refused(String),
}

/// The daemon's answer to `request`.
pub fn ask(path: &Path, request: Request) -> Result<Vec<u8>, AskError> {
    let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => AskError::Nobody(path.to_owned()),
        ErrorKind::PermissionDenied => AskError::Forbidden(path.to_owned()),
        _ => broken(path, source),
    })?;
    let (answer, text) = converse(&stream, request).map_err(|source| broken(path, source))?;
    if answer.version != VERSION {
        let (path, theirs) = (path.to_owned(), answer.version);
        return Err(AskError::Version { path, theirs });
    }
    match answer.error {
        Some(error) if answer.missing => Err(AskError::Missing(error)),
        Some(error) => Err(AskError::Refused(error)),
        None => Ok(text),
    }
}

fn converse(mut stream: &UnixStream, request: Request) -> io::Result<(Answer, Vec<u8>)> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let version = VERSION;
    let mut line = serde_json::to_vec(&Question { version, request })?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    (&mut stream).take(HEAD_MAX).read_until(b'\n', &mut head)?;
    let answer: Answer = serde_json::from_slice(&head)?;
    let mut text = Vec::new();
    stream.take(answer.bytes as u64).read_to_end(&mut text)?;
    if text.len() < answer.bytes {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((answer, text))
}

fn broken(path: &Path, source: io::Error) -> AskError {
    AskError::Broken {
        path: path.to_owned(),
        source,
    }
}
