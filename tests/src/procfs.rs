//! Processes as /proc shows them: the truth that the tracer's lineage is compared with.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Version and patch level of the running kernel.
///
/// # Panics
/// If it has none.
pub fn kernel() -> (u32, u32) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
    let mut next = || numbers.next()?.parse().ok();
    next().zip(next()).expect("a release begins with numbers")
}

/// A living process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// PID.
    pub pid: u32,
    /// `comm`.
    pub name: String,
    /// The parent's PID; 0 for PID 1 and 2.
    pub parent: u32,
    /// The executed file, without the mark of a deleted one and as `memfd:NAME` if it is in
    /// memory; empty for a kernel thread.
    pub executable: String,
}

impl Process {
    /// Reads `/proc/PID`; `None` if there is no such process (any more).
    pub fn read(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let name = stat[stat.find('(')? + 1..stat.rfind(')')?].to_owned();
        let parent = field(&stat, 4)?.parse().ok()?;
        let executable = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let executable = plain_executable(&executable.to_string_lossy()).to_owned();
        Some(Process {
            pid,
            name,
            parent,
            executable,
        })
    }

    /// The process, its parent, and so on up to the first.
    ///
    /// # Panics
    /// If one of them ends meanwhile.
    pub fn chain(pid: u32) -> Vec<Process> {
        let first = Process::read(pid).expect("the process lives");
        std::iter::successors(Some(first), |process| {
            (process.parent != 0).then(|| Process::read(process.parent).expect("ancestors live"))
        })
        .collect()
    }
}

/// What `/proc/PID/exe` says, as the tracer is to write it.
fn plain_executable(link: &str) -> &str {
    let path = link.strip_suffix(" (deleted)").unwrap_or(link);
    path.strip_prefix('/')
        .filter(|path| path.starts_with("memfd:"))
        .unwrap_or(path)
}

/// The children of a process.
pub fn children(parent: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc is mounted");
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Process::read)
        .filter(|process| process.parent == parent)
        .collect()
}

/// The arguments of a living process, as it has them now.
pub fn arguments(pid: u32) -> Vec<String> {
    let text = fs::read(format!("/proc/{pid}/cmdline")).expect("the process lives");
    let text = text.strip_suffix(b"\0").unwrap_or(&text);
    text.split(|&byte| byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The path of an executable file as the kernel knows it.
pub fn real_path(path: &str) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a living process waits in `accept`.
pub fn waits_in_accept(pid: u32) -> bool {
    let syscall = fs::read_to_string(format!("/proc/{pid}/syscall")).expect("the process lives");
    let number = syscall.split(' ').next().and_then(|word| word.parse().ok());
    number.is_some_and(|number| [libc::SYS_accept, libc::SYS_accept4].contains(&number))
}

/// When a living process began, to the tick of 10 ms that /proc gives.
pub fn started(pid: u32) -> Timestamp {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let ticks: i64 = field(&stat, 22)
        .and_then(|word| word.parse().ok())
        .expect("field 22 is the start time");
    let now = clock_gettime(ClockId::Boottime);
    let age = SignedDuration::new(
        now.tv_sec,
        i32::try_from(now.tv_nsec).expect("less than a second"),
    ) - SignedDuration::from_millis(ticks * 10);
    Timestamp::now() - age
}

/// A field of `/proc/PID/stat`, counted from 1 as proc(5) does, after the name.
fn field(stat: &str, number: usize) -> Option<&str> {
    stat[stat.rfind(')')? + 2..].split(' ').nth(number - 3)
}

/// The counter of this network namespace that `/proc/net/snmp` or `netstat` has under this name; 0 if none has.
pub fn counter(name: &str) -> u64 {
    let read = |name| fs::read_to_string(name).expect("/proc is mounted");
    let text = read("/proc/net/snmp") + &read("/proc/net/netstat");
    let lines: Vec<&str> = text.lines().collect();
    let (tables, _) = lines.as_chunks::<2>();
    let mut columns = tables
        .iter()
        .flat_map(|[names, values]| names.split(' ').zip(values.split(' ')));
    let value = columns.find(|(known, _)| *known == name);
    value.map_or(0, |(_, value)| value.parse().expect("a number"))
}

/// A TCP socket over IPv4 of this network namespace, as `/proc/net/tcp` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Whether this end is a loopback address.
    pub is_loopback: bool,
    /// Address of this end, if it is an IPv4 socket.
    pub local_ipv4: Option<Ipv4Addr>,
    /// Port of this end.
    pub local: u16,
    /// Port of the other end.
    pub remote: u16,
    /// include/net/tcp_states.h
    pub state: u8,
    /// Bytes received and not read; for a listener, connections that wait to be accepted.
    pub waiting: u32,
}

impl TcpSocket {
    /// `ESTABLISHED`.
    pub const ESTABLISHED: u8 = 1;
    /// `TIME_WAIT`.
    pub const TIME_WAIT: u8 = 6;
    /// `CLOSE`.
    pub const CLOSE: u8 = 7;
    /// `LISTEN`.
    pub const LISTEN: u8 = 10;

    /// All of them.
    pub fn all() -> Vec<TcpSocket> {
        let mut text = fs::read_to_string("/proc/net/tcp").expect("/proc is mounted");
        // Missing where the kernel has no IPv6.
        text += &fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
        text.lines().filter_map(Self::parse).collect()
    }

    /// Whether it is a connection that has not reached its end.
    pub fn is_open(&self) -> bool {
        ![Self::TIME_WAIT, Self::CLOSE, Self::LISTEN].contains(&self.state)
    }

    /// Whether nothing but segments under way keep it from its end.
    pub fn is_ending(&self) -> bool {
        // FIN_WAIT1, LAST_ACK, CLOSING
        [4, 9, 11].contains(&self.state)
    }

    fn parse(line: &str) -> Option<TcpSocket> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let port = |field: &str| u16::from_str_radix(field.rsplit(':').next()?, 16).ok();
        // Words of four bytes, each as this machine has it: the last of 127.0.0.1 stands first.
        let (address, _) = fields.get(1)?.split_once(':')?;
        Some(TcpSocket {
            is_loopback: address.ends_with("7F") || address.ends_with("000000000000000001000000"),
            local_ipv4: u32::from_str_radix(address, 16)
                .ok()
                .map(|word| Ipv4Addr::from(word.to_ne_bytes())),
            local: port(fields.get(1)?)?,
            remote: port(fields.get(2)?)?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            waiting: u32::from_str_radix(fields.get(4)?.rsplit(':').next()?, 16).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_of_a_process_ends_at_the_first() {
        let chain = Process::chain(std::process::id());
        assert_eq!(chain[0].pid, std::process::id());
        assert_eq!(chain.last().map(|process| process.parent), Some(0));
    }

    #[test]
    fn a_line_of_the_socket_table_is_read() {
        let mapped = "0: 0000000000000000FFFF00000100007F:1F90 0000000000000000FFFF00000100007F:9C40 \
                      09 00000000:00000003 01:00000019 00000000 0 0 0";
        let socket = TcpSocket::parse(mapped).expect("it is a socket");
        assert_eq!((socket.local, socket.remote), (8080, 40000));
        assert_eq!((socket.is_loopback, socket.waiting), (true, 3));
        assert!(socket.is_ending());
        let heading = "sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt";
        assert!(TcpSocket::parse(heading).is_none());
    }

    #[test]
    fn names_with_parentheses_and_spaces_do_not_shift_the_fields() {
        let stat = "7 (a) b)) S 3 7 7";
        assert_eq!(field(stat, 3), Some("S"));
        assert_eq!(field(stat, 4), Some("3"));
    }

    #[test]
    fn only_a_file_in_memory_loses_its_slash() {
        assert_eq!(
            plain_executable("/memfd:payload (deleted)"),
            "memfd:payload"
        );
        assert_eq!(plain_executable("/usr/bin/x (deleted)"), "/usr/bin/x");
    }

    #[test]
    fn this_process_began_in_the_last_hour() {
        let age = Timestamp::now().duration_since(started(std::process::id()));
        assert!(
            age > SignedDuration::ZERO && age < SignedDuration::from_hours(1),
            "{age:?}"
        );
    }
}
