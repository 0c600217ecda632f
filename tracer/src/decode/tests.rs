//! Tests of the decoder: what it takes, and what it refuses.

use std::net::IpAddr;

use proptest::prelude::*;

use super::exec::privileges;
use super::*;
use crate::event::Stream;
use crate::event::{
    FileId, FileStatus, FileVersion, Privileges, Protocol, RawFamily, RawSocket, RawType,
};

/// Writes records as the kernel programs lay them out: fields in order, without gaps.
#[derive(Clone, Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn record(kind: u16, flags: u16) -> Self {
        Bytes::default().u16(kind).u16(flags).u32(0).u64(1_000)
    }
    fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }
    fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }
    fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend(value);
        self
    }
    fn padded(self, value: &[u8]) -> Self {
        let padding = vec![0; 16 - value.len()];
        self.bytes(value).bytes(&padding)
    }
    fn task(self, flags: u32) -> Self {
        self.u32(4312)
            .u32(4313)
            .u64(77)
            .u32(1000)
            .u32(flags)
            .padded(b"curl\0junk")
            .u64(55)
            .u32(4210)
            .u32(0)
    }
    fn cgroup(self, node: u64) -> Self {
        self.u64(node).u32(4).u32(0)
    }
    fn membership(self, flags: u32) -> Self {
        self.cgroup(4711)
            .u64(0xfeed)
            .u32(1000)
            .u32(u32::MAX)
            .u32(136 << 20 | 3)
            .u32(7)
            .u32(flags)
            .u32(0)
    }
    fn flow_key(self) -> Self {
        self.u64(0xbeef).bytes(&[0; 16]).u16(53).u16(17).u32(1)
    }
    fn path(self, value: &[u8]) -> Self {
        let padding = vec![b'x'; record::CGROUP_PATH_MAX - value.len()];
        self.bytes(value).bytes(&padding)
    }
    fn ipv4(self, local: [u8; 4], remote: [u8; 4]) -> Self {
        self.ends(2).padded(&local).padded(&remote)
    }
    fn ipv6(self, local: &str, remote: &str) -> Self {
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        self.ends(10).bytes(&octets(local)).bytes(&octets(remote))
    }
    fn ends(self, family: u16) -> Self {
        self.u16(family)
            .u16(40_000)
            .u16(443)
            .u8(1)
            .u8(0)
            .u32(4_026_531_840)
            .u32(0)
    }
    fn close(kind_flags: u8, old_state: u8) -> Self {
        Bytes::record(kind::CLOSE, 0)
            .u64(0xbeef)
            .ipv4([127, 0, 0, 1], [127, 0, 0, 2])
            .u64(110)
            .u64(10)
            .u64(51)
            .u32(807)
            .u32(3)
            .u32(0)
            .u8(old_state)
            .u8(kind_flags)
            .u16(0)
    }
    fn file(self, mode: u32) -> Self {
        self.u64(12)
            .u64(4096)
            .u64(1_700_000_000)
            .u32(5)
            .u32(8 << 20 | 1)
            .u32(mode)
            .u32(2)
            .u32(1000)
            .u32(100)
    }
    fn exec(path: &[u8], cwd: &[u8], script: &[u8], args: &[u8], flags: u32) -> Self {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap();
        Bytes::record(kind::EXEC, 0)
            .task(0)
            .membership(0)
            .file(0o100_755)
            .u64(7)
            .u64(0xbeef)
            .u16(length(path))
            .u16(length(cwd))
            .u16(length(script))
            .u16(length(args))
            .u32(flags)
            .u32(3349 << 16 | u32::from(443_u16.to_be()))
            .bytes(path)
            .bytes(cwd)
            .bytes(script)
            .bytes(args)
    }
    fn event(&self) -> EventKind<'_> {
        decode(&self.0).unwrap().kind
    }
}

fn socket_record(kind: u16, flags: u16, errno: u32) -> Bytes {
    Bytes::record(kind, flags)
        .u64(0xbeef)
        .task(0)
        .ipv4([127, 0, 0, 1], [127, 0, 0, 2])
        .u32(errno)
        .u32(0)
}

/// One well-formed record of each kind.
fn every_kind() -> Vec<Bytes> {
    vec![
        Bytes::record(kind::FORK, 0)
            .task(0)
            .u32(5000)
            .u32(0)
            .u64(99)
            .membership(0),
        Bytes::exec(b"curl\0bin\0usr\0", b"root\0", b"", b"curl\0-s\0", 0),
        Bytes::record(kind::EXIT, 0).task(0).u32(256).u32(0),
        socket_record(kind::CONNECT, 0, 0),
        socket_record(kind::ATTEMPT, 0, 0),
        socket_record(kind::CONNECT_ERROR, 0, 101),
        socket_record(kind::ACCEPT, 0, 0),
        socket_record(kind::LISTEN, 0, 0),
        Bytes::record(kind::ESTABLISHED, 1)
            .u64(0xbeef)
            .ipv4([1, 2, 3, 4], [5, 6, 7, 8]),
        Bytes::close(0, 5),
        Bytes::record(kind::RESET_SENT, 0).u64(0xbeef),
        Bytes::record(kind::CGROUP_MKDIR, 0)
            .cgroup(4711)
            .path(b"/system.slice\0junk"),
        Bytes::record(kind::CGROUP_RMDIR, 0).cgroup(4711),
        Bytes::record(kind::CGROUP_ATTACH, 0)
            .cgroup(4711)
            .u64(99)
            .u32(5000)
            .u32(0)
            .path(b"\0junk"),
        Bytes::record(kind::SUBFLOW, 1)
            .u64(0xbeef)
            .u64(0xcafe)
            .ipv4([1, 2, 3, 4], [5, 6, 7, 8]),
        Bytes::record(kind::FLOW, 0)
            .flow_key()
            .task(0)
            .ipv4([1, 2, 3, 4], [5, 6, 7, 8])
            .u64(100)
            .u32(1)
            .u32(0),
        Bytes::record(kind::DATAGRAM_OWNER, 0).u64(0xbeef).task(0),
        Bytes::record(kind::DATAGRAM_CLOSE, 0).u64(0xbeef),
        Bytes::record(kind::DNS, 0)
            .u64(0xbeef)
            .task(0)
            .ipv4([1, 2, 3, 4], [5, 6, 7, 8])
            .u32(3)
            .u32(3)
            .u32(0)
            .u32(0)
            .bytes(b"dns"),
        socket_created(17, 2, 0x0806),
        Bytes::record(kind::CLIENT_HELLO, 0)
            .u64(0xbeef)
            .ipv4([1, 2, 3, 4], [5, 6, 7, 8])
            .u32(5)
            .u32(0)
            .bytes(b"hello"),
    ]
}

fn socket_created(family: u16, socket_type: u16, protocol: u32) -> Bytes {
    Bytes::record(kind::SOCKET_CREATED, 0)
        .u64(0xbeef)
        .task(0)
        .u32(4_026_531_840)
        .u16(family)
        .u16(socket_type)
        .u32(protocol)
        .u32(0)
}

#[test]
fn each_kind_decodes_and_only_at_its_exact_length() {
    let records = every_kind();
    assert_eq!(records.len(), kind::COUNT - 1);
    for record in records {
        assert_eq!(decode(&record.0).unwrap().time, BootTime(1_000));
        for length in 0..record.0.len() {
            decode(&record.0[..length]).expect_err("a truncated record");
        }
        let begins = |kind: u16| record.0.starts_with(&kind.to_ne_bytes());
        if !begins(kind::DNS) && !begins(kind::CLIENT_HELLO) {
            decode(&record.clone().u8(0).0).expect_err("a byte too many");
        }
    }
}

#[test]
fn unknown_kind_is_an_error_that_names_it() {
    for kind in [0, kind::COUNT as u16, u16::MAX] {
        let error = decode(&Bytes::record(kind, 0).0).unwrap_err();
        assert_eq!(error, DecodeError::UnknownKind { kind });
        assert!(error.to_string().contains(&kind.to_string()));
    }
}

#[test]
fn task_has_name_up_to_the_nul() {
    let record = socket_record(kind::CONNECT, 0, 0);
    let EventKind::Connect(moment) = record.event() else {
        panic!()
    };
    assert_eq!(
        moment.task,
        Task {
            tgid: 4312,
            tid: 4313,
            start_ns: Some(77),
            euid: Some(1000),
            kernel_thread: false,
            parent: Some(ProcessKey {
                tgid: 4210,
                start_ns: 55,
            }),
            name: Name(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
        }
    );
    assert_eq!(moment.socket, SocketId(0xbeef));
    assert_eq!(moment.state, TcpState::Established);
    assert_eq!(moment.endpoints.local, "127.0.0.1:40000".parse().unwrap());
    assert_eq!(moment.endpoints.remote, "127.0.0.2:443".parse().unwrap());
    assert_eq!(moment.endpoints.netns, 4_026_531_840);
    assert!(!moment.endpoints.ipv6_socket);
}

#[test]
fn name_ends_at_its_first_nul_wherever_it_is() {
    for end in 0..=16 {
        for rest in [[1; 16], [0x80; 16], [0xff; 16], *b"a\0b\x01c\0\0defghijkl"] {
            let mut comm = [b'x'; 16];
            comm[end..].copy_from_slice(&rest[end..]);
            if end < 16 {
                comm[end] = 0;
            }
            let expected: Vec<u8> = vec![b'x'; end];
            assert_eq!(name(comm).as_bytes(), expected);
            assert!(name(comm).0[end..].iter().all(|&byte| byte == 0));
        }
    }
}

#[test]
fn inaccessible_task_has_neither_start_nor_user() {
    let flags = record::TASK_IDS_ONLY | record::TASK_KERNEL_THREAD;
    let record = Bytes::record(kind::EXIT, 0).task(flags).u32(9).u32(0);
    let EventKind::Exit { task, status } = record.event() else {
        panic!()
    };
    assert_eq!(
        (task.start_ns, task.euid, task.kernel_thread),
        (None, None, true)
    );
    assert_eq!(status, 9);
}

#[test]
fn fork_names_both_processes() {
    let record = &every_kind()[0];
    let EventKind::Fork {
        parent,
        child,
        membership,
    } = record.event()
    else {
        panic!()
    };
    assert_eq!(
        membership,
        Membership {
            cgroup: Some(CGROUP),
            session: Session {
                login_uid: Some(1000),
                id: None,
                tty: Some(Tty(136 << 20 | 3)),
            },
            namespace_pid: Some(7),
            root: Some(RootId(0xfeed)),
            in_user_namespace: false,
        }
    );
    assert_eq!(parent.tgid, 4312);
    assert_eq!(
        child,
        ProcessKey {
            tgid: 5000,
            start_ns: 99
        }
    );
}

const CGROUP: CgroupId = CgroupId {
    hierarchy: 4,
    node: 4711,
};

#[test]
fn another_user_namespace_is_told() {
    let record = Bytes::record(kind::FORK, 0)
        .task(0)
        .u32(5000)
        .u32(0)
        .u64(99);
    let record = record.membership(record::MEMBERSHIP_USER_NAMESPACE);
    let EventKind::Fork { membership, .. } = record.event() else {
        panic!()
    };
    assert!(membership.in_user_namespace);
}

#[test]
fn the_path_of_a_cgroup_ends_at_its_nul() {
    let mkdir = |path: &[u8]| Bytes::record(kind::CGROUP_MKDIR, 0).cgroup(4711).path(path);
    let record = mkdir(b"/system.slice\0junk");
    let expected = EventKind::CgroupMkdir {
        cgroup: CGROUP,
        path: b"/system.slice",
    };
    assert_eq!(record.event(), expected);
    let cut = [&[b'/'; record::CGROUP_PATH_MAX - 1][..], b"\0"].concat();
    for wrong in [&b"\0"[..], b"relative\0", b"/without end", &cut] {
        decode(&mkdir(wrong).0).expect_err("no whole path");
    }
}

#[test]
fn an_attach_may_lack_the_path() {
    let attach = |path: &[u8]| {
        Bytes::record(kind::CGROUP_ATTACH, 0)
            .cgroup(4711)
            .u64(99)
            .u32(5000)
            .u32(0)
            .path(path)
    };
    for (told, expected) in [(&b"\0"[..], None), (b"/a\0", Some(&b"/a"[..]))] {
        let record = attach(told);
        let EventKind::CgroupAttach {
            process,
            cgroup,
            path,
        } = record.event()
        else {
            panic!()
        };
        assert_eq!((process.tgid, process.start_ns), (5000, 99));
        assert_eq!((cgroup, path), (CGROUP, expected));
    }
}

#[test]
fn streams_are_pipes_or_sockets_as_they_are_marked() {
    use record::{EXEC_STREAM_PIPE as PIPE, EXEC_STREAM_SOCKET as SOCKET};
    let socket = |id| Stream::Socket(SocketId(id), [3349, 443]);
    for (flags, expected) in [
        (0, [Stream::Other; 2]),
        (PIPE, [Stream::Pipe(7), Stream::Other]),
        (PIPE | SOCKET << 1, [Stream::Pipe(7), socket(0xbeef)]),
        (SOCKET | PIPE << 1, [socket(7), Stream::Pipe(0xbeef)]),
    ] {
        let record = Bytes::exec(b"sh\0", b"", b"", b"", flags);
        let EventKind::Exec(exec) = record.event() else {
            panic!()
        };
        assert_eq!(exec.streams, expected);
    }
}

#[test]
fn exec_strings_are_split_by_their_lengths() {
    let flags = record::EXEC_ARGS_TRUNCATED | record::EXEC_DELETED;
    let (path, cwd, script) = (b"dash\0bin\0usr\0", b"root\0", b"./job\0");
    let record = Bytes::exec(path, cwd, script, b"/bin/sh\0./job\0", flags);
    let EventKind::Exec(exec) = record.event() else {
        panic!()
    };
    assert_eq!((exec.path, exec.cwd), (&path[..], &cwd[..]));
    assert_eq!(exec.script, b"./job");
    assert_eq!(exec.args, b"/bin/sh\0./job\0");
    let version = FileVersion {
        id: FileId {
            device: 8 << 20 | 1,
            inode: 12,
        },
        size: 4096,
        changed_ns: 1_700_000_000_000_000_005,
    };
    let file = FileStatus {
        version,
        mode: 0o100_755,
        links: 2,
        owner: 1000,
        group: 100,
    };
    assert_eq!(exec.file, file);
    assert!(exec.args_truncated && exec.deleted);
    assert!(!exec.path_truncated && !exec.cwd_truncated && !exec.args_unreadable && !exec.memfd);
}

#[test]
fn what_follows_the_strings_of_an_exec_is_ignored_only_if_it_means_nothing() {
    let exec = |flags| Bytes::exec(b"sh\0bin\0", b"", b"", b"sh\0", flags).u64(0xdead);
    let roomy = exec(record::EXEC_UNUSED_ROOM);
    let EventKind::Exec(told) = roomy.event() else {
        panic!()
    };
    assert_eq!(told.args, b"sh\0");
    assert!(decode(&exec(0).0).is_err());
}

#[test]
fn privileges_come_from_the_file_only_if_the_kernel_says_that_they_came() {
    use record::{
        EXEC_AS_GROUP as GROUP, EXEC_AS_OWNER as OWNER, EXEC_CAPABILITIES, EXEC_SECURE as SECURE,
    };
    let within = |in_user_namespace, mode, flags| {
        let file = FileStatus {
            mode,
            ..FileStatus::default()
        };
        let membership = Membership {
            in_user_namespace,
            ..Membership::default()
        };
        let Privileges {
            setuid,
            setgid,
            capabilities,
        } = privileges(&file, &membership, flags);
        (setuid, setgid, capabilities)
    };
    let of = |mode, flags| within(false, mode, flags);
    assert_eq!(of(0o104_755, SECURE | OWNER), (true, false, false));
    assert_eq!(of(0o102_755, SECURE | GROUP), (false, true, false));
    let capabilities = SECURE | EXEC_CAPABILITIES;
    assert_eq!(of(0o100_755, capabilities), (false, false, true));
    assert_eq!(within(true, 0o100_755, capabilities), (false, false, false));
    // Root runs a set-user-ID program of root's, or its users differed before, or a security module
    // thinks that it should be careful.
    for (mode, flags) in [
        (0o104_755, 0),
        (0o104_755, SECURE),
        (0o100_755, SECURE | OWNER),
    ] {
        assert_eq!(of(mode, flags), (false, false, false));
    }
    // Without the permission to execute it, the bit means another thing.
    assert_eq!(of(0o102_745, SECURE | GROUP), (false, false, false));
}

fn ends_of_ipv6_socket(local: &str, remote: &str) -> Endpoints {
    let record = Bytes::record(kind::ESTABLISHED, 0)
        .u64(1)
        .ipv6(local, remote);
    let EventKind::Established {
        endpoints,
        inbound: false,
        ..
    } = record.event()
    else {
        panic!()
    };
    endpoints
}

#[test]
fn ipv4_mapped_addresses_become_ipv4() {
    let ends = ends_of_ipv6_socket("::ffff:10.0.0.1", "::ffff:10.0.0.2");
    assert_eq!(ends.local.ip(), "10.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(ends.remote.ip(), "10.0.0.2".parse::<IpAddr>().unwrap());
    assert!(ends.ipv6_socket && ends.is_ipv4());
}

#[test]
fn unset_end_takes_the_family_of_the_other() {
    let any = "0.0.0.0".parse::<IpAddr>().unwrap();
    assert_eq!(ends_of_ipv6_socket("::", "::ffff:10.0.0.2").local.ip(), any);
    assert_eq!(
        ends_of_ipv6_socket("::ffff:10.0.0.1", "::").remote.ip(),
        any
    );
    assert!(ends_of_ipv6_socket("::", "fe80::1").local.is_ipv6());
    assert!(ends_of_ipv6_socket("::", "::").local.is_ipv6());
}

#[test]
fn totals_are_payload_only() {
    let record = Bytes::close(record::CLOSE_FIN_RECEIVED, 5);
    let EventKind::Close(close) = record.event() else {
        panic!()
    };
    assert_eq!(close.old_state, TcpState::FinWait2);
    assert_eq!(close.errno, None);
    assert!(close.fin_received);
    assert!(!close.held);
    let totals = Totals {
        sent: 100,
        received: 50,
        rtt_us: Some(100),
        retransmits: 3,
    };
    assert_eq!(close.totals, Some(totals));
}

#[test]
fn a_socket_that_someone_has_is_held() {
    let record = Bytes::close(record::CLOSE_HELD, 1);
    let EventKind::Close(close) = record.event() else {
        panic!()
    };
    assert!(close.held);
}

#[test]
fn unreadable_totals_are_absent() {
    let record = Bytes::close(record::CLOSE_NO_TOTALS, 5);
    let EventKind::Close(close) = record.event() else {
        panic!()
    };
    assert_eq!(close.totals, None);
}

#[test]
fn accept_says_how_it_was_seen() {
    let seen = |flags| match socket_record(kind::ACCEPT, flags, 0).event() {
        EventKind::Accept(_, seen) => seen,
        other => panic!("{other:?}"),
    };
    assert_eq!(seen(0), AcceptSeen::AtAccept);
    assert_eq!(seen(record::ACCEPT_BY_DESCRIPTOR), AcceptSeen::ByDescriptor);
    assert_eq!(seen(record::ACCEPT_BY_PEER_NAME), AcceptSeen::ByPeerName);
}

#[test]
fn meaningless_values_are_errors() {
    let bad = [
        socket_record(kind::ACCEPT, 3, 0),
        socket_record(kind::CONNECT_ERROR, 0, 0),
        Bytes::close(0, 0),
        Bytes::close(0, 14),
        Bytes::record(kind::ESTABLISHED, 0)
            .u64(1)
            .ends(1)
            .bytes(&[0; 32]),
    ];
    for record in bad {
        assert!(matches!(decode(&record.0), Err(DecodeError::Value { .. })));
    }
}

proptest! {
    #[test]
    fn any_bytes_give_an_event_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode(&bytes);
    }

    /// As above, but with a kind and a length that get past the first checks.
    #[test]
    fn any_content_gives_an_event_or_an_error(
        index in 0..kind::COUNT - 1,
        noise in prop::collection::vec(any::<u8>(), 2048),
    ) {
        let mut bytes = every_kind().swap_remove(index).0;
        let end = bytes.len();
        bytes[2..].copy_from_slice(&noise[2..end]);
        let _ = decode(&bytes);
    }
}

#[test]
fn a_subflow_says_whose_it_is_and_what() {
    for (flags, further, inbound) in [(0, false, false), (1, true, false), (2, false, true)] {
        let record = Bytes::record(kind::SUBFLOW, flags)
            .u64(0xbeef)
            .u64(0xcafe)
            .ipv4([127, 0, 0, 1], [127, 0, 0, 2]);
        let EventKind::Subflow(subflow) = record.event() else {
            panic!("not a subflow")
        };
        assert_eq!(subflow.socket, SocketId(0xbeef));
        assert_eq!(subflow.upper, SocketId(0xcafe));
        assert_eq!(subflow.endpoints.local, ([127, 0, 0, 1], 40_000).into());
        assert_eq!((subflow.further, subflow.inbound), (further, inbound));
    }
}

#[test]
fn a_raw_socket_says_what_it_can_see() {
    use RawFamily::{Ipv4, Ipv6, Packet};
    for (family, socket_type, expected) in [
        (2, 3, (Ipv4, RawType::Raw)),
        (10, 3, (Ipv6, RawType::Raw)),
        (17, 3, (Packet, RawType::Raw)),
        (17, 2, (Packet, RawType::Datagram)),
        (17, 10, (Packet, RawType::Packet)),
    ] {
        let record = socket_created(family, socket_type, 0x0806);
        let EventKind::SocketCreated(socket) = record.event() else {
            panic!("not a socket")
        };
        let (family, socket_type) = expected;
        assert_eq!(
            socket,
            RawSocket {
                socket: Some(SocketId(0xbeef)),
                task: socket.task,
                netns: 4_026_531_840,
                family,
                socket_type,
                protocol: 0x0806,
            }
        );
        assert_eq!(socket.task.tgid, 4312);
    }
}

#[test]
fn a_socket_that_sees_nothing_of_others_is_no_raw_one() {
    for (family, socket_type) in [(2, 2), (2, 10), (10, 1), (1, 3), (17, 1), (17, 0)] {
        let error = decode(&socket_created(family, socket_type, 0).0).unwrap_err();
        let is_value = matches!(error, DecodeError::Value { .. });
        assert!(is_value, "{family} {socket_type}: {error}");
    }
}

#[test]
fn a_flow_over_ipv4_is_told_so_whatever_its_socket_is() {
    let record = Bytes::record(kind::FLOW, record::FLOW_RECEIVED | record::FLOW_NO_TASK)
        .flow_key()
        .task(0)
        .ipv6("::ffff:10.0.0.1", "::ffff:10.0.0.2")
        .u64(100)
        .u32(3)
        .u32(0);
    let EventKind::Flow(flow) = record.event() else {
        panic!("it is a flow")
    };
    assert_eq!(flow.protocol, Protocol::UDP);
    assert_eq!(flow.endpoints.remote.ip(), Ipv4Addr::new(10, 0, 0, 2));
    assert!(!flow.endpoints.ipv6_socket && flow.received);
    assert_eq!((flow.task, flow.bytes, flow.packets), (None, 100, 3));
}
