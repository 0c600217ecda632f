//! Answers other commands.
//!
//! In: clients of a Unix socket. Out: what each of them asked for. The state belongs to one task, which is
//! asked for what it alone knows; everything else, and waiting for a slow client, is done elsewhere.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::net as std_net;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Gid, Mode, chmod, chown, fchmod};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::{Answer, Question, Request, VERSION};
use crate::event::Transport;
use crate::listing::{self, Holdings, Query};
use crate::process::population::{Missing, Population};
use crate::tree;

/// Clients that are served at a time; others wait.
const CLIENTS: usize = 8;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Longest question, in bytes.
const QUESTION_MAX: u64 = 4096;

/// How long a client may take to ask, and to take its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Read and written by its owner and its group.
const SOCKET_MODE: Mode = Mode::from_raw_mode(0o660);

/// Why nobody can ask.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot listen at {path} for other commands: {source}; choose another path by --socket, or `off`"
)]
pub struct BindError {
    path: PathBuf,
    source: io::Error,
}

/// A socket that exists and does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: std_net::UnixListener,
    path: Removed,
}

/// Removes the file in the end.
#[derive(Debug)]
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // Whoever finds it without a listener removes it, too.
        let _ = fs::remove_file(&self.0);
    }
}

/// What only the task that owns the state can tell.
#[derive(Debug)]
pub struct Ask {
    /// Which sockets: of which protocols.
    pub transports: Vec<Transport>,
    /// Whether everyone who is known is wanted, too.
    pub processes: bool,
    /// Whom to tell.
    pub reply: oneshot::Sender<io::Result<Told>>,
}

/// What it tells.
#[derive(Debug)]
pub struct Told {
    /// Who has the sockets open, and who opened them.
    pub holdings: Holdings,
    /// Everyone who is known; empty unless wanted.
    pub population: Population,
}

/// Why there is no answer.
#[derive(Debug)]
struct Refusal {
    reason: String,
    /// What was asked about is not there.
    missing: bool,
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        let missing = false;
        Self { reason, missing }
    }
}

impl From<Missing> for Refusal {
    fn from(missing: Missing) -> Self {
        Self {
            reason: missing.to_string(),
            missing: true,
        }
    }
}

/// A server that answers until it is dropped.
#[derive(Debug)]
pub struct Server {
    questions: mpsc::Receiver<Ask>,
    task: JoinHandle<()>,
    _path: Removed,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bound {
    /// Listens at `path`, for the owner and for `group`. A file that a daemon left behind is replaced.
    pub fn bind(path: &Path, group: Option<u32>) -> Result<Self, BindError> {
        let error = |source| BindError {
            path: path.to_owned(),
            source,
        };
        let listener = bound(path, group).map_err(error)?;
        Ok(Self {
            listener,
            path: Removed(path.to_owned()),
        })
    }

    /// Answers from now on. Needs a tokio runtime.
    pub fn serve(self) -> Result<Server, BindError> {
        let Self { listener, path } = self;
        let listener = UnixListener::from_std(listener).map_err(|source| BindError {
            path: path.0.clone(),
            source,
        })?;
        let (asks, questions) = mpsc::channel(CLIENTS);
        Ok(Server {
            questions,
            task: tokio::spawn(accept(listener, asks)),
            _path: path,
        })
    }
}

impl Server {
    /// The next question to the state. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Ask> {
        self.questions.recv().await
    }
}

fn bound(path: &Path, group: Option<u32>) -> io::Result<std_net::UnixListener> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // The file is made with the socket's own mode: it is never open to more than these.
    fchmod(&socket, SOCKET_MODE)?;
    let address = SocketAddrUnix::new(path)?;
    if let Err(errno) = bind(&socket, &address) {
        let error = io::Error::from(errno);
        if error.kind() != ErrorKind::AddrInUse {
            return Err(error);
        }
        match std_net::UnixStream::connect(path) {
            Err(refusal) if refusal.kind() == ErrorKind::ConnectionRefused => {}
            _ => return Err(io::Error::new(error.kind(), "another tracer listens there")),
        }
        fs::remove_file(path)?;
        bind(&socket, &address)?;
    }
    if let Some(group) = group {
        chown(path, None, Some(Gid::from_raw(group)))?;
    }
    chmod(path, SOCKET_MODE)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

async fn accept(listener: UnixListener, asks: mpsc::Sender<Ask>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others may be closed meanwhile.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let asks = asks.clone();
        tokio::spawn(async move {
            // A client that goes away has lost interest.
            let _ = serve(stream, &asks).await;
            drop(place);
        });
    }
}

async fn serve(mut stream: UnixStream, asks: &mpsc::Sender<Ask>) -> io::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut line = Vec::new();
    let mut reading = BufReader::new(reading).take(QUESTION_MAX);
    timeout(PATIENCE, reading.read_until(b'\n', &mut line)).await??;
    let (refusal, text) = match reply(&line, asks).await {
        Ok(text) => (None, text),
        Err(refusal) => (Some(refusal), Vec::new()),
    };
    let mut head = serde_json::to_vec(&Answer {
        version: VERSION,
        bytes: text.len(),
        missing: refusal.as_ref().is_some_and(|refusal| refusal.missing),
        error: refusal.map(|refusal| refusal.reason),
    })?;
    head.push(b'\n');
    writing.write_all(&head).await?;
    // A slow client costs memory, so each part has its time.
    for part in text.chunks(1 << 16) {
        timeout(PATIENCE, writing.write_all(part)).await??;
    }
    Ok(())
}

async fn reply(line: &[u8], asks: &mpsc::Sender<Ask>) -> Result<Vec<u8>, Refusal> {
    let question: Question =
        serde_json::from_slice(line).map_err(|error| format!("not a question: {error}"))?;
    if question.version != VERSION {
        let theirs = question.version;
        return Err(Refusal::from(format!(
            "version {theirs} of the protocol is not spoken here, but {VERSION}"
        )));
    }
    match question.request {
        Request::Sockets(query) => sockets(query, asks).await,
        Request::Tree(query) => family(query, asks).await,
    }
}

async fn sockets(query: Query, asks: &mpsc::Sender<Ask>) -> Result<Vec<u8>, Refusal> {
    let (query, listed) = elsewhere(move || {
        let listed = listing::listed(&query);
        (query, listed)
    })
    .await?;
    let told = told(query.transports().collect(), false, asks).await?;
    elsewhere(move || listing::answer(&query, &listed, &told.holdings)).await
}

async fn family(query: tree::Query, asks: &mpsc::Sender<Ask>) -> Result<Vec<u8>, Refusal> {
    let Told {
        holdings,
        population,
    } = told(query.transports().to_vec(), true, asks).await?;
    let answer = elsewhere(move || tree::answer(&query, population, &holdings)).await?;
    Ok(answer?)
}

/// Asks the task that owns the state.
async fn told(
    transports: Vec<Transport>,
    processes: bool,
    asks: &mpsc::Sender<Ask>,
) -> Result<Told, Refusal> {
    let (reply, replied) = oneshot::channel();
    let ask = Ask {
        transports,
        processes,
        reply,
    };
    asks.send(ask).await.map_err(|_| ended())?;
    let told = replied.await.map_err(|_| ended())?;
    Ok(told.map_err(|error| format!("the kernel's sockets cannot be read: {error}"))?)
}

/// Does what takes time on a thread of its own.
async fn elsewhere<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    Ok(spawn_blocking(work).await.map_err(|_| ended())?)
}

fn ended() -> String {
    "tracer is about to end".to_owned()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::local::client::{AskError, ask};
    use crate::process::population::Wanted;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(future)
    }

    fn path(name: &str) -> PathBuf {
        let directory = format!("tracer-local-{}", std::process::id());
        std::env::temp_dir().join(directory).join(name)
    }

    fn question() -> Request {
        let json = true;
        Request::Sockets(Query {
            json,
            ..Query::default()
        })
    }

    #[test]
    fn a_question_reaches_the_state_and_its_refusal_the_client() {
        let path = path("asked");
        block_on(async {
            let mut server = Bound::bind(&path, None).unwrap().serve().unwrap();
            let asking = {
                let path = path.clone();
                spawn_blocking(move || ask(&path, question()))
            };
            let asked = server.next().await.unwrap();
            assert_eq!(asked.transports, [Transport::Tcp, Transport::Udp]);
            asked.reply.send(Err(io::Error::other("blind"))).unwrap();
            let error = asking.await.unwrap().unwrap_err().to_string();
            assert!(error.ends_with("cannot be read: blind"), "{error}");
        });
        assert!(!path.exists());
    }

    #[test]
    fn a_process_that_nobody_knows_is_told_apart_from_a_failure() {
        let path = path("family");
        block_on(async {
            let mut server = Bound::bind(&path, None).unwrap().serve().unwrap();
            let query = tree::Query {
                wanted: Wanted::Pid(4711),
                generations: 0,
                connections: false,
                look: None,
                netns: 0,
            };
            let asking = {
                let path = path.clone();
                spawn_blocking(move || ask(&path, Request::Tree(query)))
            };
            let asked = server.next().await.unwrap();
            assert!(asked.processes && asked.transports.is_empty());
            asked
                .reply
                .send(Ok(Told {
                    holdings: Holdings::default(),
                    population: Population::default(),
                }))
                .unwrap();
            let error = asking.await.unwrap().unwrap_err();
            assert!(matches!(error, AskError::Missing(_)), "{error}");
        });
    }

    #[test]
    fn two_do_not_listen_at_one_path_and_what_was_left_behind_is_replaced() {
        let path = path("taken");
        let bound = Bound::bind(&path, None).unwrap();
        let error = Bound::bind(&path, None).unwrap_err().to_string();
        assert!(error.contains("another tracer"), "{error}");
        // As if it had been killed: the file stays.
        let Bound {
            listener,
            path: removed,
        } = bound;
        drop(listener);
        std::mem::forget(removed);
        assert!(path.exists());
        drop(Bound::bind(&path, None).unwrap());
    }

    #[test]
    fn nobody_answers_where_nobody_listens() {
        let path = path("nobody");
        assert!(matches!(ask(&path, question()), Err(AskError::Nobody(_))));
    }

    #[test]
    fn what_is_no_question_is_refused_with_a_reason() {
        let path = path("nonsense");
        block_on(async {
            let _server = Bound::bind(&path, None).unwrap().serve().unwrap();
            let client = thread::spawn({
                let path = path.clone();
                move || {
                    let mut stream = std_net::UnixStream::connect(path).unwrap();
                    io::Write::write_all(&mut stream, b"{\"version\":1,\"request\":\"tea\"}\n")
                        .unwrap();
                    io::read_to_string(stream).unwrap()
                }
            });
            let answer = spawn_blocking(|| client.join().unwrap()).await.unwrap();
            assert!(answer.contains("unknown variant `tea`"), "{answer}");
        });
    }
}
