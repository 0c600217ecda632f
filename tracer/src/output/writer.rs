//! The end of a line's way: a thread that writes chunks to stdout or a file.
//!
//! In: chunks of whole lines. Out: bytes, in order. The state task never waits for it: the queue
//! between the two is bounded, and what does not fit is refused, for the sink to count.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::watch;

/// Bytes that may wait to be written: half a second of the full rate, which is what a busy disk takes
/// time for.
pub(super) const QUEUE_BYTES: usize = 32 << 20;
/// Chunks that may wait to be written. The channel has room for one more, the last.
const QUEUE_CHUNKS: usize = 1024;
/// Written chunks whose memory waits to be used again.
const SPARE_CHUNKS: usize = 16;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, which is made or emptied first.
    File(PathBuf),
    /// A file that outlives runs: it is made or added to, and opened anew when it has been renamed.
    Log(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("stdout"),
            Self::File(path) | Self::Log(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why lines cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The file cannot be opened.
    #[error("cannot open {target} for the output: {source}; choose another --output-file")]
    Open {
        /// Where lines should have gone.
        target: Target,
        /// What the kernel said.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write to {target}: {source}; what was to come is lost")]
    Write {
        /// Where lines should have gone.
        target: Target,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// The reader did not take the rest in time.
    #[error("{target} did not take the last {bytes} bytes in time; they are lost")]
    Stalled {
        /// Where lines should have gone.
        target: Target,
        /// What remained.
        bytes: usize,
    },
}

/// How writing ended: `Ok` if all was written or the reader has gone away.
type Ending = Result<(), Arc<io::Error>>;

/// The sink's end of the queue. Dropping it lets the thread write the rest and end.
#[derive(Debug)]
pub struct Chunks {
    queue: SyncSender<Vec<u8>>,
    spare: Receiver<Vec<u8>>,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    chunks: AtomicUsize,
    bytes: AtomicUsize,
}

impl Chunks {
    /// Whether a chunk of that many bytes would be taken. It remains so until the next is sent.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.waiting.chunks.load(Ordering::Relaxed) < QUEUE_CHUNKS
            && self.waiting.bytes.load(Ordering::Relaxed) + bytes <= QUEUE_BYTES
    }

    /// Hands a chunk on and leaves an empty buffer in its place. Without [`Chunks::has_room`] there
    /// is room for one more chunk only, the last; further ones are dropped. So are all once writing
    /// has ended.
    pub fn send(&self, chunk: &mut Vec<u8>) {
        let bytes = chunk.len();
        let empty = self.spare.try_recv().unwrap_or_default();
        self.waiting.chunks.fetch_add(1, Ordering::Relaxed);
        self.waiting.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self
            .queue
            .try_send(std::mem::replace(chunk, empty))
            .is_err()
        {
            self.waiting.remove(bytes);
        }
    }
}

impl Waiting {
    fn remove(&self, bytes: usize) {
        self.chunks.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A running thread that writes.
#[derive(Debug)]
pub struct Writer {
    target: Target,
    waiting: Arc<Waiting>,
    ending: watch::Receiver<Option<Ending>>,
    ended: Receiver<Ending>,
    reopening: Reopening,
}

/// Asks for the target to be opened anew.
#[derive(Clone, Debug, Default)]
struct Reopening(Arc<AtomicBool>);

impl Reopening {
    fn request(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn take_request(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

impl Writer {
    /// Opens the target and starts the thread.
    pub fn spawn(target: Target) -> Result<(Chunks, Self), WriteError> {
        let file = open(&target).map_err(|source| WriteError::Open {
            target: target.clone(),
            source,
        })?;
        Ok(Self::to(file, target))
    }

    fn to(file: File, target: Target) -> (Chunks, Self) {
        let (queue, chunks) = mpsc::sync_channel(QUEUE_CHUNKS + 1);
        let (spare_sender, spare) = mpsc::sync_channel(SPARE_CHUNKS);
        let (ending_sender, ending) = watch::channel(None);
        let (ended_sender, ended) = mpsc::sync_channel(1);
        let waiting = Arc::new(Waiting::default());
        let counted = waiting.clone();
        let reopening = Reopening::default();
        let mut output = Output {
            file,
            target: target.clone(),
            reopening: reopening.clone(),
        };
        thread::spawn(move || {
            let ending = write_chunks(&mut output, &chunks, &spare_sender, &counted);
            // Whoever is no longer interested has dropped the other end.
            let _ = ending_sender.send(Some(ending.clone()));
            let _ = ended_sender.send(ending);
        });
        let writer = Self {
            target,
            waiting: waiting.clone(),
            ending,
            ended,
            reopening,
        };
        (
            Chunks {
                queue,
                spare,
                waiting,
            },
            writer,
        )
    }

    /// A writer to any file.
    #[cfg(test)]
    pub(super) fn for_test(file: File) -> (Chunks, Self) {
        Self::to(file, Target::Stdout)
    }

    /// What is written to a log from now on goes to whatever file has its name by then, which is made if there is
    /// none. What is being written is finished in the file that had it: no line is lost or cut.
    pub fn reopen(&self) {
        if let Target::Log(_) = self.target {
            self.reopening.request();
        }
    }

    /// Waits until writing has ended although there may be more to write: `Ok` if the reader has
    /// gone away, which ends a run quietly.
    pub async fn ended(&mut self) -> Result<(), WriteError> {
        let ending = self
            .ending
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|it| it.clone());
        match ending {
            Some(Err(source)) => Err(self.error(source)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Waits, at most until `limit` has passed, until all that was sent is written. The
    /// [`Chunks`] must have been dropped.
    pub fn finish(self, limit: Duration) -> Result<(), WriteError> {
        match self.ended.recv_timeout(limit) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(source)) => Err(self.error(source)),
            Err(_) => Err(WriteError::Stalled {
                target: self.target,
                bytes: self.waiting.bytes.load(Ordering::Relaxed),
            }),
        }
    }

    fn error(&self, source: Arc<io::Error>) -> WriteError {
        WriteError::Write {
            target: self.target.clone(),
            source,
        }
    }
}

/// A file of our own, so that no buffer of the standard library stands between.
fn open(target: &Target) -> io::Result<File> {
    match target {
        Target::Stdout => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
        Target::File(path) => File::create(path),
        Target::Log(path) => File::options().append(true).create(true).open(path),
    }
}

/// The file that is written to now.
struct Output {
    file: File,
    target: Target,
    reopening: Reopening,
}

impl Output {
    /// The file to write the next chunk to. If it cannot be opened anew, that is the one which is open: lines in a
    /// renamed file are better than none.
    fn next(&mut self) -> &mut File {
        if self.reopening.take_request() {
            match open(&self.target) {
                Ok(file) => self.file = file,
                Err(error) => {
                    let target = &self.target;
                    let note =
                        format_args!("cannot open {target} anew: {error}; the old file is used");
                    // Where stderr is closed, nobody is there to be told.
                    let _ = writeln!(io::stderr(), "tracer: note: {note}");
                }
            }
        }
        &mut self.file
    }
}

fn write_chunks(
    output: &mut Output,
    chunks: &Receiver<Vec<u8>>,
    spare: &SyncSender<Vec<u8>>,
    waiting: &Waiting,
) -> Ending {
    for mut chunk in chunks {
        match write_all(output.next(), &chunk) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Arc::new(error)),
        }
        waiting.remove(chunk.len());
        chunk.clear();
        // Enough buffers wait to be used again: this one is freed.
        let _ = spare.try_send(chunk);
    }
    Ok(())
}

/// Writes everything, also to a pipe that whoever gave it to us has set to non-blocking.
fn write_all(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&*file, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A writer to a pipe, and the pipe's other end.
    fn to_pipe() -> (Chunks, Writer, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        let (chunks, writer) = Writer::for_test(File::from(OwnedFd::from(writer)));
        (chunks, writer, reader)
    }

    #[test]
    fn chunks_are_written_in_order_and_whole() {
        let (chunks, writer, mut reader) = to_pipe();
        let mut buffer = Vec::new();
        for number in 0..100 {
            buffer.extend_from_slice(format!("{number}\n").as_bytes());
            chunks.send(&mut buffer);
            assert!(buffer.is_empty());
        }
        drop(chunks);
        writer.finish(LIMIT).unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(text, expected);
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error() {
        let (chunks, mut writer, reader) = to_pipe();
        drop(reader);
        chunks.send(&mut b"line\n".to_vec());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(writer.ended()).unwrap();
        writer.finish(LIMIT).unwrap();
    }

    #[test]
    fn a_full_file_is_an_error_that_names_it() {
        let (chunks, mut writer) = Writer::spawn(Target::File("/dev/full".into())).unwrap();
        chunks.send(&mut b"line\n".to_vec());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let error = runtime.block_on(writer.ended()).unwrap_err().to_string();
        assert!(
            error.contains("/dev/full") && error.contains("No space left"),
            "{error}"
        );
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error_that_names_it() {
        let error = Writer::spawn(Target::File("/no/such/file".into()))
            .unwrap_err()
            .to_string();
        assert!(error.contains("/no/such/file"), "{error}");
    }

    #[test]
    fn a_log_is_added_to_and_opened_anew_without_losing_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let [log, rotated] =
            ["events.json", "events.json.1"].map(|name| directory.path().join(name));
        std::fs::write(&log, "0\n").unwrap();
        let (chunks, writer) = Writer::spawn(Target::Log(log.clone())).unwrap();
        chunks.send(&mut b"1\n".to_vec());
        std::fs::rename(&log, &rotated).unwrap();
        chunks.send(&mut b"2\n".to_vec());
        writer.reopen();
        chunks.send(&mut b"3\n".to_vec());
        drop(chunks);
        writer.finish(LIMIT).unwrap();
        let [old, new] = [&rotated, &log].map(|path| std::fs::read_to_string(path).unwrap());
        assert_eq!(old.clone() + &new, "0\n1\n2\n3\n");
        assert!(
            old.starts_with("0\n") && new.ends_with("3\n"),
            "{old:?} {new:?}"
        );
    }

    #[test]
    fn a_log_that_cannot_be_opened_anew_goes_on_under_its_old_name() {
        let directory = tempfile::tempdir().unwrap();
        let [place, moved] = ["place", "moved"].map(|name| directory.path().join(name));
        std::fs::create_dir(&place).unwrap();
        let (chunks, writer) = Writer::spawn(Target::Log(place.join("log"))).unwrap();
        std::fs::rename(&place, &moved).unwrap();
        writer.reopen();
        chunks.send(&mut b"1\n".to_vec());
        drop(chunks);
        writer.finish(LIMIT).unwrap();
        assert_eq!(std::fs::read_to_string(moved.join("log")).unwrap(), "1\n");
    }

    #[test]
    fn the_queue_is_bounded_while_the_reader_is_slow() {
        let (chunks, writer, reader) = to_pipe();
        let mut sent = 0;
        while chunks.has_room(1 << 20) {
            chunks.send(&mut vec![b'x'; 1 << 20]);
            sent += 1;
        }
        let room = QUEUE_BYTES >> 20;
        assert!((room..=room + 1).contains(&sent), "{sent} MiB");
        drop(chunks);
        let error = writer.finish(Duration::from_millis(1)).unwrap_err();
        assert!(
            matches!(error, WriteError::Stalled { bytes, .. } if bytes > QUEUE_BYTES - (1 << 20)),
            "{error}"
        );
        drop(reader);
    }
}
