//! Where the running kernel keeps what the kernel programs read.
//!
//! The daemon resolves every offset from the kernel's BTF and writes one [`Layout`] into the frozen
//! read-only data of the programs. The verifier then treats each as a constant, so that a load at
//! such an offset keeps its type and stays a plain load.

/// Defines [`Layout`]: one offset per member, and the table by which the daemon fills it.
macro_rules! layout {
    ($($field:ident: $structure:literal $member:literal,)*) => {
        /// Byte offsets of members in the running kernel.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Layout {
            $(
                #[doc = concat!("`", $structure, "::", $member, "`")]
                pub $field: u32,
            )*
        }

        impl Layout {
            /// Not yet resolved.
            pub const ZERO: Self = Self { $($field: 0,)* };

            /// Every member, in declaration order: structure, path of the member within it.
            pub const MEMBERS: &'static [(&'static str, &'static str)] =
                &[$(($structure, $member),)*];

            /// The offsets of [`Self::MEMBERS`], in the same order.
            pub fn from_offsets(mut offset: impl FnMut(&str, &str) -> u32) -> Self {
                Self { $($field: offset($structure, $member),)* }
            }
        }
    };
}

layout! {
    task_pid: "task_struct" "pid",
    task_tgid: "task_struct" "tgid",
    task_flags: "task_struct" "flags",
    task_comm: "task_struct" "comm",
    task_group_leader: "task_struct" "group_leader",
    task_start_boottime: "task_struct" "start_boottime",
    task_real_parent: "task_struct" "real_parent",
    task_cred: "task_struct" "cred",
    task_mm: "task_struct" "mm",
    task_fs: "task_struct" "fs",
    task_files: "task_struct" "files",
    task_signal: "task_struct" "signal",
    task_exit_code: "task_struct" "exit_code",
    task_thread_pid: "task_struct" "thread_pid",
    task_cgroups: "task_struct" "cgroups",
    task_nsproxy: "task_struct" "nsproxy",
    nsproxy_net: "nsproxy" "net_ns",
    pid_level: "pid" "level",
    pid_numbers: "pid" "numbers",
    css_set_dfl_cgrp: "css_set" "dfl_cgrp",
    css_cgroup: "cgroup_subsys_state" "cgroup",
    cgroup_kn: "cgroup" "kn",
    cgroup_level: "cgroup" "level",
    cgroup_root: "cgroup" "root",
    cgroup_root_hierarchy_id: "cgroup_root" "hierarchy_id",
    kernfs_node_id: "kernfs_node" "id",
    signal_flags: "signal_struct" "flags",
    signal_live: "signal_struct" "live",
    signal_group_exit_code: "signal_struct" "group_exit_code",
    signal_tty: "signal_struct" "tty",
    tty_driver: "tty_struct" "driver",
    tty_index: "tty_struct" "index",
    tty_driver_major: "tty_driver" "major",
    tty_driver_minor_start: "tty_driver" "minor_start",
    cred_uid: "cred" "uid",
    cred_gid: "cred" "gid",
    cred_euid: "cred" "euid",
    cred_egid: "cred" "egid",
    cred_user_ns: "cred" "user_ns",
    cred_cap_permitted: "cred" "cap_permitted",
    cred_cap_ambient: "cred" "cap_ambient",
    user_namespace_level: "user_namespace" "level",
    mm_arg_start: "mm_struct" "arg_start",
    mm_arg_end: "mm_struct" "arg_end",
    mm_exe_file: "mm_struct" "exe_file",
    fs_pwd: "fs_struct" "pwd",
    fs_root_dentry: "fs_struct" "root.dentry",
    files_fdt: "files_struct" "fdt",
    fdtable_fd: "fdtable" "fd",
    fdtable_max_fds: "fdtable" "max_fds",
    file_path: "file" "f_path",
    file_inode: "file" "f_inode",
    file_private_data: "file" "private_data",
    path_mnt: "path" "mnt",
    path_dentry: "path" "dentry",
    dentry_parent: "dentry" "d_parent",
    dentry_name: "dentry" "d_name.name",
    dentry_hash_pprev: "dentry" "d_hash.pprev",
    vfsmount_root: "vfsmount" "mnt_root",
    mount_mnt: "mount" "mnt",
    mount_parent: "mount" "mnt_parent",
    mount_mountpoint: "mount" "mnt_mountpoint",
    mount_ns: "mount" "mnt_ns",
    inode_ino: "inode" "i_ino",
    inode_mode: "inode" "i_mode",
    inode_size: "inode" "i_size",
    inode_links: "inode" "i_nlink",
    inode_owner: "inode" "i_uid",
    inode_group: "inode" "i_gid",
    inode_sb: "inode" "i_sb",
    super_block_dev: "super_block" "s_dev",
    super_block_magic: "super_block" "s_magic",
    binprm_filename: "linux_binprm" "filename",
    binprm_interp: "linux_binprm" "interp",
    socket_file: "socket" "file",
    socket_sk: "socket" "sk",
    sock_family: "sock" "__sk_common.skc_family",
    sock_state: "sock" "__sk_common.skc_state",
    sock_num: "sock" "__sk_common.skc_num",
    sock_dport: "sock" "__sk_common.skc_dport",
    sock_rcv_saddr: "sock" "__sk_common.skc_rcv_saddr",
    sock_daddr: "sock" "__sk_common.skc_daddr",
    sock_v6_rcv_saddr: "sock" "__sk_common.skc_v6_rcv_saddr",
    sock_v6_daddr: "sock" "__sk_common.skc_v6_daddr",
    sock_net: "sock" "__sk_common.skc_net.net",
    sock_flags: "sock" "__sk_common.skc_flags",
    sock_protocol: "sock" "sk_protocol",
    sock_type: "sock" "sk_type",
    sock_err: "sock" "sk_err",
    sock_socket: "sock" "sk_socket",
    net_inum: "net" "ns.inum",
    skb_sk: "sk_buff" "sk",
    skb_len: "sk_buff" "len",
    skb_data_len: "sk_buff" "data_len",
    skb_network_header: "sk_buff" "network_header",
    skb_transport_header: "sk_buff" "transport_header",
    skb_end: "sk_buff" "end",
    skb_head: "sk_buff" "head",
    skb_data: "sk_buff" "data",
    skb_protocol: "sk_buff" "protocol",
    skb_users: "sk_buff" "users",
    shinfo_gso_size: "skb_shared_info" "gso_size",
    inet_sport: "inet_sock" "inet_sport",
    inet_cork_length: "inet_sock" "cork.base.length",
    inet_cork_source6: "inet_sock" "cork.fl.u.ip6.saddr",
    inet_cork_destination6: "inet_sock" "cork.fl.u.ip6.daddr",
    flow4_source: "flowi4" "saddr",
    flow4_destination: "flowi4" "daddr",
    tcp_write_seq: "tcp_sock" "write_seq",
    tcp_bytes_sent: "tcp_sock" "bytes_sent",
    tcp_bytes_retrans: "tcp_sock" "bytes_retrans",
    tcp_bytes_received: "tcp_sock" "bytes_received",
    tcp_srtt_us: "tcp_sock" "srtt_us",
    tcp_total_retrans: "tcp_sock" "total_retrans",
}

/// [`Settings::backups`] where one task can preempt another in a tracepoint, from 7.0 on.
pub const BACKUPS_IF_PREEMPTED: u32 = 2;

/// Which hook a backup belongs to, where their runs are counted.
pub mod backed_up {
    /// A socket changes its state.
    pub const STATE: u32 = 0;
    /// A process begins.
    pub const FORK: u32 = 1;
    /// A process ends.
    pub const EXIT: u32 = 2;
    /// A process becomes another program.
    pub const EXEC: u32 = 3;
    /// How many there are.
    pub const HOOKS: u32 = 4;
}

/// What differs between kernels and modes without being an offset.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// 1 if tracing programs may call `bpf_get_current_task_btf` (5.11), so that the current task
    /// is read by plain loads; 0 if only `bpf_get_current_task` exists.
    pub task_btf: u32,
    /// The same for cgroup programs: [`CGROUP_TASK_IDS`], [`CGROUP_TASK_POINTER`] or
    /// [`CGROUP_TASK_BTF`].
    pub cgroup_task: u32,
    /// Byte of `signal_struct` that holds the bit field `is_child_subreaper`.
    pub subreaper_byte: u32,
    /// The bit within that byte.
    pub subreaper_mask: u32,
    /// How many backups stand behind each program that has any: the last one's rank.
    pub backups: u32,
    /// Offset of `task_struct.loginuid`; 0 if the kernel has no audit.
    pub task_loginuid: u32,
    /// Offset of `task_struct.sessionid`; 0 if the kernel has no audit.
    pub task_sessionid: u32,
    /// Where a controller is in a cgroup hierarchy of version 1: offset in `css_set` of the pointer to its
    /// state. That hierarchy then counts for a process that is not in the root of it; otherwise, and
    /// where this is 0, version 2 does.
    pub cgroup_v1_css: u32,
    /// `cgroup_root.hierarchy_id` of that hierarchy; 0 if there is none.
    pub cgroup_v1_hierarchy: u32,
    /// Byte of `sock` that holds the bit field `sk_kern_sock`.
    pub kernel_socket_byte: u32,
    /// The bit within that byte; 0 if the kernel has no MPTCP.
    pub kernel_socket_mask: u32,
    /// Byte of `inet_sock` that says whether the process writes IP headers (`IP_HDRINCL`).
    pub own_header_byte: u32,
    /// The bit within that byte.
    pub own_header_mask: u32,
    /// Where MPTCP keeps what is read of it; zeros if the kernel has no MPTCP.
    pub mptcp: MptcpLayout,
    /// Offset in `inode` of the seconds of its change time, which has had several names.
    pub inode_changed_s: u32,
    /// Offset in `inode` of the nanoseconds within that second.
    pub inode_changed_ns: u32,
    /// Size of `inode`. In overlay file systems the pointer to the dentry in the upper layer follows it.
    pub inode_end: u32,
    /// Byte of `linux_binprm` that holds the bit field `secureexec`.
    pub secureexec_byte: u32,
    /// The bit within that byte.
    pub secureexec_mask: u32,
    /// Where a system call's parts of memory are told; zeros if that is not known.
    pub iter: IterLayout,
    /// Where pages lie, and which of them a packet has; zeros if that is not known.
    pub pages: PagesLayout,
}

/// Where the kernel has its pages, and where it says which of them a packet has.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagesLayout {
    /// Where the first page of memory lies, in halves, the lower one first: an address, which need not be one of
    /// memory that there is.
    pub memory: [u32; 2],
    /// Where the first page's `struct page` lies, likewise; both 0 if nothing is known of all this.
    pub pages: [u32; 2],
    /// Size of `struct page`.
    pub page: u32,
    /// How many bits of an address are within a page.
    pub shift: u32,
    /// `skb_shared_info.nr_frags`.
    pub count: u32,
    /// `skb_shared_info.frags`, of which each begins with its page, and has its length and its offset in it behind
    /// that, 32 bits each.
    pub frags: u32,
}

/// Where a kernel keeps what is read of `struct iov_iter`. Not in [`Layout`], since its members have had
/// several names.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IterLayout {
    /// `msghdr.msg_iter`.
    pub message: u32,
    /// Its byte that holds the kind.
    pub kind: u32,
    /// Bits of that byte that are of the kind; 0 if nothing is known of all this.
    pub kind_mask: u32,
    /// `iov_offset`: what is done with of the first part.
    pub done: u32,
    /// `iov`, `__iov`: the first part that is not done with.
    pub parts: u32,
    /// `ubuf`: the only part.
    pub only: u32,
    /// The kind of those with parts.
    pub of_parts: u32,
    /// The kind of those with one part; [`u32::MAX`] if there is none.
    pub of_only: u32,
}

/// Where a kernel keeps what is read of Multipath TCP. Not in [`Layout`], since kernels may lack it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MptcpLayout {
    /// `mptcp_sock.first`, the first subflow.
    pub first: u32,
    /// `mptcp_sock.conn_list`, the list of all subflows.
    pub subflows: u32,
    /// Byte of `tcp_sock` that holds `is_mptcp`.
    pub subflow_byte: u32,
    /// The bit within that byte; 0 if the kernel has no MPTCP.
    pub subflow_mask: u32,
    /// `inet_connection_sock.icsk_ulp_data`, which points to the subflow's context.
    pub context: u32,
    /// `mptcp_subflow_context.node`, its place in the list.
    pub node: u32,
    /// `mptcp_subflow_context.tcp_sock`.
    pub tcp: u32,
    /// `mptcp_subflow_context.conn`, the upper socket.
    pub upper: u32,
    /// The word of `mptcp_subflow_context` that holds its bit fields.
    pub bits: u32,
    /// `mp_capable` in that word: the peer of a first subflow speaks MPTCP.
    pub capable: u32,
    /// `request_join` and `mp_join` in that word: a further subflow.
    pub further: u32,
}

/// [`Settings::cgroup_task`]: nothing but the IDs.
pub const CGROUP_TASK_IDS: u32 = 0;
/// [`Settings::cgroup_task`]: `bpf_get_current_task`.
pub const CGROUP_TASK_POINTER: u32 = 1;
/// [`Settings::cgroup_task`]: `bpf_get_current_task_btf`.
pub const CGROUP_TASK_BTF: u32 = 2;

impl Settings {
    /// Not yet decided.
    pub const ZERO: Self = Self {
        task_btf: 0,
        cgroup_task: CGROUP_TASK_IDS,
        subreaper_byte: 0,
        subreaper_mask: 0,
        backups: 0,
        task_loginuid: 0,
        task_sessionid: 0,
        cgroup_v1_css: 0,
        cgroup_v1_hierarchy: 0,
        kernel_socket_byte: 0,
        kernel_socket_mask: 0,
        own_header_byte: 0,
        own_header_mask: 0,
        mptcp: MptcpLayout::ZERO,
        inode_changed_s: 0,
        inode_changed_ns: 0,
        inode_end: 0,
        secureexec_byte: 0,
        secureexec_mask: 0,
        iter: IterLayout::ZERO,
        pages: PagesLayout::ZERO,
    };
}

impl PagesLayout {
    /// Not known.
    pub const ZERO: Self = Self {
        memory: [0; 2],
        pages: [0; 2],
        page: 0,
        shift: 0,
        count: 0,
        frags: 0,
    };
}

impl IterLayout {
    /// Not known.
    pub const ZERO: Self = Self {
        message: 0,
        kind: 0,
        kind_mask: 0,
        done: 0,
        parts: 0,
        only: 0,
        of_parts: 0,
        of_only: 0,
    };
}

impl MptcpLayout {
    /// None.
    pub const ZERO: Self = Self {
        first: 0,
        subflows: 0,
        subflow_byte: 0,
        subflow_mask: 0,
        context: 0,
        node: 0,
        tcp: 0,
        upper: 0,
        bits: 0,
        capable: 0,
        further: 0,
    };
}

#[cfg(feature = "user")]
mod user {
    use super::{Layout, Settings};

    // SAFETY: nothing but integers, without padding.
    unsafe impl aya::Pod for Layout {}
    // SAFETY: nothing but integers, without padding.
    unsafe impl aya::Pod for Settings {}
}
