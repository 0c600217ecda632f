//! Where the running kernel keeps what the kernel programs read.
//!
//! The daemon resolves every offset from the kernel's BTF and writes one [`Layout`] into the frozen
//! read-only data of the programs. The verifier then treats each as a constant, so that a load at
//! such an offset keeps its type and stays a plain load.

/// Byte offsets of members, named `struct_member`, and what else differs between kernels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.flags`
    pub task_flags: u32,
    /// `task_struct.comm`
    pub task_comm: u32,
    /// `task_struct.group_leader`
    pub task_group_leader: u32,
    /// `task_struct.start_boottime`
    pub task_start_boottime: u32,
    /// `task_struct.real_parent`
    pub task_real_parent: u32,
    /// `task_struct.cred`
    pub task_cred: u32,
    /// `task_struct.mm`
    pub task_mm: u32,
    /// `task_struct.fs`
    pub task_fs: u32,
    /// `task_struct.files`
    pub task_files: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `signal_struct.group_exit_code`
    pub signal_group_exit_code: u32,
    /// `cred.euid`
    pub cred_euid: u32,
    /// `mm_struct.arg_start`
    pub mm_arg_start: u32,
    /// `mm_struct.arg_end`
    pub mm_arg_end: u32,
    /// `mm_struct.exe_file`
    pub mm_exe_file: u32,
    /// `fs_struct.pwd`
    pub fs_pwd: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.fd`
    pub fdtable_fd: u32,
    /// `fdtable.max_fds`
    pub fdtable_max_fds: u32,
    /// `file.f_path`
    pub file_path: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// `path.mnt`
    pub path_mnt: u32,
    /// `path.dentry`
    pub path_dentry: u32,
    /// `dentry.d_parent`
    pub dentry_parent: u32,
    /// `dentry.d_name.name`
    pub dentry_name: u32,
    /// `dentry.d_hash.pprev`
    pub dentry_hash_pprev: u32,
    /// `vfsmount.mnt_root`
    pub vfsmount_root: u32,
    /// `mount.mnt`
    pub mount_mnt: u32,
    /// `mount.mnt_parent`
    pub mount_parent: u32,
    /// `mount.mnt_mountpoint`
    pub mount_mountpoint: u32,
    /// `mount.mnt_ns`
    pub mount_ns: u32,
    /// `inode.i_ino`
    pub inode_ino: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `inode.i_sb`
    pub inode_sb: u32,
    /// `super_block.s_dev`
    pub super_block_dev: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `sock_common.skc_family`
    pub skc_family: u32,
    /// `sock_common.skc_state`
    pub skc_state: u32,
    /// `sock_common.skc_num`
    pub skc_num: u32,
    /// `sock_common.skc_dport`
    pub skc_dport: u32,
    /// `sock_common.skc_rcv_saddr`
    pub skc_rcv_saddr: u32,
    /// `sock_common.skc_daddr`
    pub skc_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub skc_v6_rcv_saddr: u32,
    /// `sock_common.skc_v6_daddr`
    pub skc_v6_daddr: u32,
    /// `sock_common.skc_net.net`
    pub skc_net: u32,
    /// `sock_common.skc_flags`, as `sock.sk_flags`
    pub skc_flags: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `sock.sk_protocol`
    pub sk_protocol: u32,
    /// Size of `sock.sk_protocol` in bytes, 1 or 2; 0 where it is a bit field (before 5.6).
    pub sk_protocol_size: u32,
    /// `sock.sk_err`
    pub sk_err: u32,
    /// `tcp_sock.bytes_sent`
    pub tcp_bytes_sent: u32,
    /// `tcp_sock.bytes_retrans`
    pub tcp_bytes_retrans: u32,
    /// `tcp_sock.bytes_received`
    pub tcp_bytes_received: u32,
    /// `tcp_sock.srtt_us`
    pub tcp_srtt_us: u32,
    /// `tcp_sock.total_retrans`
    pub tcp_total_retrans: u32,
}

/// What the daemon asks of the kernel programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// 1 if `bpf_get_current_task_btf` exists (5.11), so that the current task can be read by
    /// plain loads.
    pub task_btf: u32,
    /// 1 if `inet_sock_set_state` has to stand in for the hooks on connect and accept.
    pub tracepoint_mode: u32,
}
