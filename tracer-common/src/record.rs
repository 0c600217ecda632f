//! Records: what a kernel program writes into the ring buffer.
//!
//! Each record begins with a [`Header`], whose `kind` says which structure it is. Records have a
//! fixed size, except [`Exec`], which is followed by its strings.

/// What happened; the value of [`Header::kind`].
pub mod kind {
    /// [`Fork`](super::Fork): a process begins.
    pub const FORK: u16 = 1;
    /// [`Exec`](super::Exec): a process becomes another program.
    pub const EXEC: u16 = 2;
    /// [`Exit`](super::Exit): the last thread of a process ends.
    pub const EXIT: u16 = 3;
    /// [`Socket`](super::Socket): an outbound connection begins; the peer is known, the local
    /// port perhaps not yet.
    pub const CONNECT: u16 = 4;
    /// [`Socket`](super::Socket): a process asked for a connection, which may fail before it
    /// begins (tracepoint mode only).
    pub const ATTEMPT: u16 = 5;
    /// [`Socket`](super::Socket): an attempt failed with an errno before or while it began.
    pub const CONNECT_ERROR: u16 = 6;
    /// [`Socket`](super::Socket): a process took a connection from a listener's queue.
    pub const ACCEPT: u16 = 7;
    /// [`Socket`](super::Socket): a socket begins to listen.
    pub const LISTEN: u16 = 8;
    /// [`Established`](super::Established): the handshake is complete.
    pub const ESTABLISHED: u16 = 9;
    /// [`Close`](super::Close): a TCP socket reaches the state CLOSE, from whatever state.
    pub const CLOSE: u16 = 10;
    /// [`Reset`](super::Reset): this host sent a reset for a socket.
    pub const RESET_SENT: u16 = 11;

    /// [`CgroupMkdir`](super::CgroupMkdir): a cgroup is made.
    pub const CGROUP_MKDIR: u16 = 12;
    /// [`CgroupRmdir`](super::CgroupRmdir): a cgroup is removed.
    pub const CGROUP_RMDIR: u16 = 13;
    /// [`CgroupAttach`](super::CgroupAttach): a process is moved to another cgroup.
    pub const CGROUP_ATTACH: u16 = 14;
    /// [`Subflow`](super::Subflow): a path of a Multipath TCP connection is established.
    pub const SUBFLOW: u16 = 15;

    /// [`Flow`](super::Flow): the first datagram between a socket and a peer.
    pub const FLOW: u16 = 16;
    /// [`DatagramOwner`](super::DatagramOwner): a process sends or receives with a datagram socket for the
    /// first time (tracepoint mode only).
    pub const DATAGRAM_OWNER: u16 = 17;
    /// [`DatagramClose`](super::DatagramClose): a datagram socket is closed.
    pub const DATAGRAM_CLOSE: u16 = 18;
    /// [`Dns`](super::Dns): something was sent to port 53, or came from there.
    pub const DNS: u16 = 19;
    /// [`SocketCreated`](super::SocketCreated): a process opened a raw or a packet socket.
    pub const SOCKET_CREATED: u16 = 20;
    /// [`ClientHello`](super::ClientHello): the first bytes sent on a connection begin a TLS handshake.
    pub const CLIENT_HELLO: u16 = 21;

    /// One more than the highest kind: the length of the table of loss counters.
    pub const COUNT: usize = 22;
}

/// The first bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u16,
    /// Bits whose meaning depends on the kind.
    pub flags: u16,
    /// Always zero.
    pub padding: u32,
    /// `CLOCK_BOOTTIME`, in nanoseconds, when the record was made.
    pub time_ns: u64,
}

/// [`Task::flags`]: the task is a kernel thread.
pub const TASK_KERNEL_THREAD: u32 = 1;
/// [`Task::flags`]: the kernel gave no access to the task; only the IDs and `comm` (of the thread)
/// are filled in, `start_ns` is zero.
pub const TASK_IDS_ONLY: u32 = 2;

/// The task that was current, in process context, when a record was made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Thread group: the PID that users see, in the initial PID namespace.
    pub tgid: u32,
    /// Thread.
    pub tid: u32,
    /// `start_boottime` of the thread group's leader, in nanoseconds.
    pub start_ns: u64,
    /// Effective user ID, in the initial user namespace.
    pub euid: u32,
    /// [`TASK_KERNEL_THREAD`], [`TASK_IDS_ONLY`].
    pub flags: u32,
    /// `comm` of the thread group's leader, NUL-terminated.
    pub comm: [u8; 16],
    /// `start_boottime` of its present parent, in nanoseconds.
    pub parent_start_ns: u64,
    /// Thread group of its present parent, in the initial PID namespace; 0 if it has none or it could not
    /// be read.
    pub parent_tgid: u32,
    /// Always zero.
    pub padding: u32,
}

/// A cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupId {
    /// `kernfs_node.id`: unique in its hierarchy, and the inode number of its directory. 0 if it could
    /// not be read.
    pub node: u64,
    /// `cgroup_root.hierarchy_id`, as in `/proc/PID/cgroup`: 0 is version 2.
    pub hierarchy: u32,
    /// Always zero.
    pub padding: u32,
}

/// [`Membership::login_uid`], [`Membership::session_id`]: there is none.
pub const UNSET: u32 = u32::MAX;

/// [`Membership::flags`]: the user namespace is not the initial one.
pub const MEMBERSHIP_USER_NAMESPACE: u32 = 1;

/// What a process belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Membership {
    /// Its cgroup in the hierarchy that counts (see [`Settings`](crate::layout::Settings)).
    pub cgroup: CgroupId,
    /// Address of its root directory's `struct dentry`; 0 if it could not be read.
    pub root: u64,
    /// User ID at login, in the initial user namespace, or [`UNSET`].
    pub login_uid: u32,
    /// The audit session, or [`UNSET`].
    pub session_id: u32,
    /// Device number of its controlling terminal: major << 20 | minor; 0 without one.
    pub tty: u32,
    /// PID in its own PID namespace; 0 if that is the initial one.
    pub namespace_pid: u32,
    /// [`MEMBERSHIP_USER_NAMESPACE`].
    pub flags: u32,
    /// Always zero.
    pub padding: u32,
}

/// Both ends of a socket, as the socket sees them.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Endpoints {
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// 0 while unbound.
    pub local_port: u16,
    /// 0 without a peer.
    pub remote_port: u16,
    /// `sk_state` at this moment (`TCP_ESTABLISHED` is 1, `TCP_CLOSE` 7).
    pub state: u8,
    /// Always zero.
    pub padding: u8,
    /// Inode number of the network namespace; 0 if it could not be read.
    pub netns: u32,
    /// Always zero.
    pub padding2: u32,
    /// In network byte order; an IPv4 address fills the first four bytes.
    pub local: [u8; 16],
    /// As `local`.
    pub remote: [u8; 16],
}

/// [`Header::flags`] of an [`kind::ACCEPT`]: seen at the exit of the system call, through the new
/// descriptor, rather than at the kernel's own accept.
pub const ACCEPT_BY_DESCRIPTOR: u16 = 1;
/// [`Header::flags`] of an [`kind::ACCEPT`]: seen when the peer's address was asked for.
pub const ACCEPT_BY_PEER_NAME: u16 = 2;

/// A moment in process context at which a socket gets, or already has, an owner.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// Kind [`kind::CONNECT`], [`kind::ATTEMPT`], [`kind::CONNECT_ERROR`], [`kind::ACCEPT`] or
    /// [`kind::LISTEN`].
    pub header: Header,
    /// Address of the kernel's `struct sock`; identifies the socket until it reaches CLOSE.
    pub socket: u64,
    /// Who did it.
    pub task: Task,
    /// Between which ends.
    pub endpoints: Endpoints,
    /// For [`kind::CONNECT_ERROR`] the positive errno, otherwise 0.
    pub errno: u32,
    /// Always zero.
    pub padding: u32,
}

/// [`Header::flags`] of an [`Established`]: the socket was in SYN_RECV, so the peer began.
pub const ESTABLISHED_INBOUND: u16 = 1;

/// A handshake is complete. Mostly in softirq: nothing is said about a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Established {
    /// Kind [`kind::ESTABLISHED`].
    pub header: Header,
    /// As [`Socket::socket`].
    pub socket: u64,
    /// Now complete.
    pub endpoints: Endpoints,
}

/// [`Header::flags`] of a [`Subflow`]: it joined a connection that was there.
pub const SUBFLOW_FURTHER: u16 = 1;
/// [`Header::flags`] of a [`Subflow`]: the socket was in SYN_RECV, so the peer began.
pub const SUBFLOW_INBOUND: u16 = 2;

/// The handshake of a Multipath TCP subflow is complete, instead of [`Established`]. Nothing is said
/// about a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Subflow {
    /// Kind [`kind::SUBFLOW`].
    pub header: Header,
    /// As [`Socket::socket`].
    pub socket: u64,
    /// Address of the upper socket, the `struct mptcp_sock`: the same for all subflows of a connection.
    pub upper: u64,
    /// Now complete.
    pub endpoints: Endpoints,
}

/// [`Close::flags`]: the peer's FIN was received (and is counted in `bytes_received`).
pub const CLOSE_FIN_RECEIVED: u8 = 1;
/// [`Close::flags`]: the totals could not be read and are zero.
pub const CLOSE_NO_TOTALS: u8 = 2;
/// [`Close::flags`]: the socket has a descriptor, or had one until just now. One that waits to be
/// accepted never had any; one that was closed in order has lost it.
pub const CLOSE_HELD: u8 = 4;
/// [`Close::flags`]: the socket is a subflow that joined, or was to join, a Multipath TCP connection.
pub const CLOSE_FURTHER: u8 = 8;

/// A TCP socket reached CLOSE. Mostly in softirq: nothing is said about a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// Kind [`kind::CLOSE`].
    pub header: Header,
    /// As [`Socket::socket`]; the address may be used again from now on.
    pub socket: u64,
    /// As they were; addresses that the kernel has already cleared are zero.
    pub endpoints: Endpoints,
    /// `tcp_sock.bytes_sent`: payload sent, retransmissions included.
    pub bytes_sent: u64,
    /// `tcp_sock.bytes_retrans`: payload sent again.
    pub bytes_retransmitted: u64,
    /// `tcp_sock.bytes_received`: payload received, plus one for a FIN.
    pub bytes_received: u64,
    /// `tcp_sock.srtt_us`: smoothed round-trip time in eighths of a microsecond.
    pub srtt_eighth_us: u32,
    /// `tcp_sock.total_retrans`: segments sent again.
    pub retransmits: u32,
    /// `sk_err`: the positive errno that ends the connection, or 0.
    pub errno: u32,
    /// The state that the socket leaves, e.g. 5 for FIN_WAIT2.
    pub old_state: u8,
    /// [`CLOSE_FIN_RECEIVED`], [`CLOSE_NO_TOTALS`], [`CLOSE_HELD`], [`CLOSE_FURTHER`].
    pub flags: u8,
    /// Always zero.
    pub padding: u16,
}

/// This host sent a reset for a socket, which may have reached CLOSE just before.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Reset {
    /// Kind [`kind::RESET_SENT`].
    pub header: Header,
    /// As [`Socket::socket`].
    pub socket: u64,
}

/// A process begins. Its image is the one of its parent until it calls exec.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Fork {
    /// Kind [`kind::FORK`].
    pub header: Header,
    /// The process that called fork: the birth parent.
    pub parent: Task,
    /// The new process's thread group.
    pub child_tgid: u32,
    /// Always zero.
    pub padding: u32,
    /// `start_boottime` of the new process, in nanoseconds.
    pub child_start_ns: u64,
    /// What the new process belongs to.
    pub membership: Membership,
}

/// [`Exec::flags`]: the path is cut at its beginning (the directories nearest to the root).
pub const EXEC_PATH_TRUNCATED: u32 = 1;
/// [`Exec::flags`]: the arguments are cut at their end.
pub const EXEC_ARGS_TRUNCATED: u32 = 2;
/// [`Exec::flags`]: the working directory is cut at its beginning.
pub const EXEC_CWD_TRUNCATED: u32 = 4;
/// [`Exec::flags`]: the file lies in a mount internal to the kernel; its name is that of a memfd.
pub const EXEC_MEMFD: u32 = 8;
/// [`Exec::flags`]: the file's name is gone from its directory.
pub const EXEC_DELETED: u32 = 16;
/// [`Exec::flags`]: the arguments could not be read.
pub const EXEC_ARGS_UNREADABLE: u32 = 32;
/// [`Exec::flags`]: the file is in the upper layer of an overlay file system: it was made or changed
/// there, and is not the one of the lower layers.
pub const EXEC_UPPER_LAYER: u32 = 64;
/// [`Exec::flags`]: `linux_binprm.secureexec`, which the program sees as `AT_SECURE`: it has privileges
/// that whoever called exec did not choose.
pub const EXEC_SECURE: u32 = 128;
/// [`Exec::flags`]: the effective user is the file's owner, and the real one another.
pub const EXEC_AS_OWNER: u32 = 256;
/// [`Exec::flags`]: the effective group is the file's group, and the real one another.
pub const EXEC_AS_GROUP: u32 = 512;
/// [`Exec::flags`]: the script's path is cut at its end.
pub const EXEC_SCRIPT_TRUNCATED: u32 = 1024;
/// [`Exec::flags`]: the record is longer than its strings; what follows them means nothing.
pub const EXEC_UNUSED_ROOM: u32 = 2048;
/// [`Exec::flags`]: neither user is root, and there are permitted capabilities that are not ambient: only
/// the file can have given them.
pub const EXEC_CAPABILITIES: u32 = 4096;
/// Standard input is a pipe; standard output is, one bit further.
pub const EXEC_STREAM_PIPE: u32 = 8192;
/// Standard input is a socket; standard output is, one bit further.
pub const EXEC_STREAM_SOCKET: u32 = 32_768;

/// Longest path in an [`Exec`], in bytes, without its separators at either end.
pub const EXEC_PATH_MAX: usize = 4096;
/// Longest path of a script in an [`Exec`], in bytes, with the NUL that ends it.
pub const EXEC_SCRIPT_MAX: usize = 4096;
/// Longest argument block in an [`Exec`], in bytes.
pub const EXEC_ARGS_MAX: usize = 32_768;

/// The file that is executed; for a script its interpreter. All as the inode has it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// `i_ino`
    pub inode: u64,
    /// `i_size`, in bytes.
    pub size: u64,
    /// The seconds of its change time, since 1970.
    pub changed_s: u64,
    /// The nanoseconds within that second.
    pub changed_ns: u32,
    /// `s_dev` of its file system: major << 20 | minor.
    pub device: u32,
    /// `i_mode`
    pub mode: u32,
    /// `i_nlink`: how many names it has.
    pub links: u32,
    /// `i_uid`, in the initial user namespace.
    pub owner: u32,
    /// `i_gid`, in the initial user namespace.
    pub group: u32,
}

/// A process became another program. Four strings follow, without gaps: the executed file's path
/// (`path_len` bytes), the working directory (`cwd_len`), the script (`script_len`) and the arguments
/// (`args_len`).
///
/// A path is a sequence of components from the file up to the root, each ended by a NUL:
/// `/usr/bin/curl` is `curl\0bin\0usr\0`. The script is what exec was called with where the kernel runs
/// an interpreter for it, ended by a NUL; otherwise it is empty. The arguments are as in
/// `/proc/PID/cmdline`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exec {
    /// Kind [`kind::EXEC`].
    pub header: Header,
    /// The process, already with its new `comm` and credentials.
    pub task: Task,
    /// What it belongs to.
    pub membership: Membership,
    /// What it runs.
    pub file: File,
    /// Standard input: of a pipe its inode number, of a socket its address in the kernel, else 0.
    pub input: u64,
    /// Standard output, likewise.
    pub output: u64,
    /// Length of the path, in bytes.
    pub path_len: u16,
    /// Length of the working directory, in bytes.
    pub cwd_len: u16,
    /// Length of the script's path, in bytes.
    pub script_len: u16,
    /// Length of the argument block, in bytes.
    pub args_len: u16,
    /// The `EXEC_*` bits.
    pub flags: u32,
    /// Both ports of the socket that is a stream: the peer's, in network byte order, and its own << 16. The input's, if
    /// both streams are sockets.
    pub stream_ports: u32,
}

/// The last thread of a process ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// Kind [`kind::EXIT`].
    pub header: Header,
    /// The process; `tid` is the thread that ended last.
    pub task: Task,
    /// As `wait` would tell: exit code << 8 | signal.
    pub status: u32,
    /// Always zero.
    pub padding: u32,
}

/// Longest path of a cgroup, in bytes, with the NUL that ends it: `TRACE_CGROUP_PATH_LEN`,
/// kernel/cgroup/cgroup-internal.h. The kernel cuts a longer one.
pub const CGROUP_PATH_MAX: usize = 1024;

/// A cgroup was made, in a hierarchy that counts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupMkdir {
    /// Kind [`kind::CGROUP_MKDIR`].
    pub header: Header,
    /// The new cgroup.
    pub cgroup: CgroupId,
    /// From the root of its hierarchy, NUL-terminated; what follows the NUL means nothing.
    pub path: [u8; CGROUP_PATH_MAX],
}

/// A cgroup was removed; its ID is not used again.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupRmdir {
    /// Kind [`kind::CGROUP_RMDIR`].
    pub header: Header,
    /// Which one.
    pub cgroup: CgroupId,
}

/// A process was moved to another cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CgroupAttach {
    /// Kind [`kind::CGROUP_ATTACH`].
    pub header: Header,
    /// Where the process is now, in the hierarchy that counts.
    pub cgroup: CgroupId,
    /// `start_boottime` of the process, in nanoseconds.
    pub start_ns: u64,
    /// Its thread group.
    pub tgid: u32,
    /// Always zero.
    pub padding: u32,
    /// As [`CgroupMkdir::path`]; empty if the move was in another hierarchy.
    pub path: [u8; CGROUP_PATH_MAX],
}

/// A datagram socket and one of its peers: the key of the map `FLOWS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Address of the kernel's `struct sock`.
    pub socket: u64,
    /// In network byte order, IPv4 as IPv4-mapped.
    pub peer: [u64; 2],
    /// 0 for a protocol without ports.
    pub peer_port: u16,
    /// `sk_protocol`, e.g. `IPPROTO_UDP` (17).
    pub protocol: u16,
    /// Tells sockets apart that had the same address one after the other.
    pub generation: u32,
}

/// What a flow has carried so far: the value in the map `FLOWS`. The payload is that of the
/// transport protocol; of a protocol without ports, all that follows the IP header.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowTotals {
    /// Datagrams that this socket handed to IP.
    pub sent_packets: u64,
    /// Their payload.
    pub sent_bytes: u64,
    /// Datagrams that came.
    pub received_packets: u64,
    /// Their payload.
    pub received_bytes: u64,
    /// `CLOCK_BOOTTIME`, in nanoseconds, of the last one.
    pub last_ns: u64,
}

/// [`Header::flags`] of a [`Flow`] or a [`Dns`]: the datagram came, rather than being sent.
pub const FLOW_RECEIVED: u16 = 1;
/// [`Header::flags`] of a [`Flow`] or a [`Dns`]: seen where no process is known; the task is zero.
pub const FLOW_NO_TASK: u16 = 2;

/// [`Header::flags`] of a [`Flow`]: the process wrote the first packet's IP header itself.
pub const FLOW_OWN_HEADER: u16 = 8;

/// The first datagram between a socket and a peer.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Kind [`kind::FLOW`].
    pub header: Header,
    /// Where its totals are found.
    pub key: FlowKey,
    /// Who sent or received it.
    pub task: Task,
    /// As the datagram has them, rather than the socket; the state means nothing.
    pub endpoints: Endpoints,
    /// Its payload, in bytes.
    pub bytes: u64,
    /// How many datagrams it is on the wire: segmentation may cut it, and has put together what came.
    pub packets: u32,
    /// Always zero.
    pub padding: u32,
}

/// [`Header::flags`] of a [`DatagramOwner`]: it connected the socket, and will probably use it.
pub const OWNER_BY_CONNECT: u16 = 1;

/// A process sends or receives with a datagram socket for the first time.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DatagramOwner {
    /// Kind [`kind::DATAGRAM_OWNER`].
    pub header: Header,
    /// As [`FlowKey::socket`].
    pub socket: u64,
    /// Who.
    pub task: Task,
}

/// A datagram socket is closed. Its address may be used again from now on, with another generation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct DatagramClose {
    /// Kind [`kind::DATAGRAM_CLOSE`].
    pub header: Header,
    /// As [`FlowKey::socket`].
    pub socket: u64,
}

/// [`Header::flags`] of a [`Dns`]: part of a stream, rather than a datagram.
pub const DNS_STREAM: u16 = 4;

/// Longest payload in a [`Dns`], in bytes.
pub const DNS_MAX: usize = 4096;

/// Something was sent to port 53, or came from there. What was sent follows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Dns {
    /// Kind [`kind::DNS`].
    pub header: Header,
    /// As [`FlowKey::socket`], or [`Socket::socket`].
    pub socket: u64,
    /// Who sent or received it.
    pub task: Task,
    /// As [`Flow::endpoints`].
    pub endpoints: Endpoints,
    /// Length of what follows, in bytes.
    pub length: u32,
    /// Length of what was sent, in bytes: more where the end is cut.
    pub sent_length: u32,
    /// With [`DNS_STREAM`]: TCP's number of the first byte; 0 where it is not known.
    pub sequence: u32,
    /// Always zero.
    pub padding: u32,
}

/// A process opened a raw or a packet socket: it can see or forge traffic.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SocketCreated {
    /// Kind [`kind::SOCKET_CREATED`].
    pub header: Header,
    /// Address of the kernel's `struct sock`; 0 if it could not be read.
    pub socket: u64,
    /// Who.
    pub task: Task,
    /// Inode number of the network namespace; 0 if it could not be read.
    pub netns: u32,
    /// `AF_INET` (2), `AF_INET6` (10) or `AF_PACKET` (17).
    pub family: u16,
    /// `SOCK_DGRAM` (2), `SOCK_RAW` (3) or `SOCK_PACKET` (10).
    pub socket_type: u16,
    /// As passed to `socket`: a protocol of IP, or for `AF_PACKET` an EtherType in host byte order (0: none yet).
    pub protocol: u32,
    /// Always zero.
    pub padding: u32,
}

/// Longest beginning of a TLS record in a [`ClientHello`], in bytes. A ClientHello with a key share that is
/// proof against quantum computers has some 1,800.
pub const CLIENT_HELLO_MAX: usize = 2048;

/// The first bytes sent on a TCP connection are a TLS record with a ClientHello. Its beginning follows, and
/// nothing of what was sent behind it. Nothing is said about a process: whoever owns the connection is known.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ClientHello {
    /// Kind [`kind::CLIENT_HELLO`].
    pub header: Header,
    /// As [`Socket::socket`].
    pub socket: u64,
    /// As [`Flow::endpoints`], or the socket's.
    pub endpoints: Endpoints,
    /// Length of what follows, in bytes.
    pub length: u32,
    /// Always zero.
    pub padding: u32,
}

const _: () = {
    assert!(size_of::<ClientHello>() == 80);
    assert!(size_of::<FlowKey>() == 32);
    assert!(size_of::<FlowTotals>() == 40);
    assert!(size_of::<Flow>() == 168);
    assert!(size_of::<DatagramOwner>() == 80);
    assert!(size_of::<DatagramClose>() == 24);
    assert!(size_of::<Dns>() == 144);
    assert!(size_of::<SocketCreated>() == 96);
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<CgroupId>() == 16);
    assert!(size_of::<Membership>() == 48);
    assert!(size_of::<CgroupMkdir>() == 1056);
    assert!(size_of::<CgroupRmdir>() == 32);
    assert!(size_of::<CgroupAttach>() == 1072);
    assert!(size_of::<Task>() == 56);
    assert!(size_of::<Endpoints>() == 48);
    assert!(size_of::<Socket>() == 136);
    assert!(size_of::<Established>() == 72);
    assert!(size_of::<Subflow>() == 80);
    assert!(size_of::<Close>() == 112);
    assert!(size_of::<Reset>() == 24);
    assert!(size_of::<Fork>() == 136);
    assert!(size_of::<File>() == 48);
    assert!(size_of::<Exec>() == 200);
    assert!(size_of::<Exit>() == 80);
};
