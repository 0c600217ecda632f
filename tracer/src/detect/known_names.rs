//! Names that are known: of daemons and kernel threads that others pretend to be, of programs that do unusual things
//! for a living.

/// Daemons and tools of a Linux host that a stranger would like to look like. Programs that are not packaged and have such a
/// name, or nearly, are told.
pub(super) const SYSTEM: [&str; 67] = [
    "systemd",
    "systemd-journald",
    "systemd-udevd",
    "systemd-logind",
    "systemd-resolved",
    "systemd-networkd",
    "systemd-timesyncd",
    "systemd-timedated",
    "systemd-hostnamed",
    "systemd-machined",
    "systemd-userdbd",
    "systemd-oomd",
    "systemd-homed",
    "systemd-coredump",
    "dbus-daemon",
    "dbus-broker",
    "NetworkManager",
    "wpa_supplicant",
    "polkitd",
    "accounts-daemon",
    "udisksd",
    "packagekitd",
    "rsyslogd",
    "syslog-ng",
    "auditd",
    "crond",
    "anacron",
    "chronyd",
    "ntpd",
    "sshd",
    "sshd-session",
    "agetty",
    "dhclient",
    "dhcpcd",
    "dnsmasq",
    "avahi-daemon",
    "cupsd",
    "irqbalance",
    "multipathd",
    "lvmetad",
    "rpcbind",
    "containerd",
    "containerd-shim",
    "containerd-shim-runc-v2",
    "dockerd",
    "docker-proxy",
    "kubelet",
    "kube-proxy",
    "snapd",
    "unattended-upgrade",
    "firewalld",
    "postfix",
    "exim4",
    "nginx",
    "apache2",
    "httpd",
    "mysqld",
    "mariadbd",
    "postgres",
    "redis-server",
    "gnome-shell",
    "Xorg",
    "pulseaudio",
    "pipewire",
    "bash",
    "python3",
    "busybox",
];

/// How the names of kernel threads begin.
pub(super) const KERNEL_THREADS: [&str; 18] = [
    "kthreadd",
    "kworker",
    "ksoftirqd",
    "migration",
    "rcu_sched",
    "rcu_preempt",
    "rcu_gp",
    "kswapd",
    "kcompactd",
    "khugepaged",
    "khungtaskd",
    "kdevtmpfs",
    "kauditd",
    "kintegrityd",
    "kblockd",
    "watchdogd",
    "jbd2",
    "scsi_eh",
];

/// Programs that open raw or packet sockets for a living.
pub(super) const RAW_SOCKET_USERS: [&str; 34] = [
    "ping",
    "ping6",
    "fping",
    "arping",
    "traceroute",
    "traceroute6",
    "tracepath",
    "mtr",
    "mtr-packet",
    "tcpdump",
    "dumpcap",
    "tshark",
    "wireshark",
    "nmap",
    "ngrep",
    "dhclient",
    "dhcpcd",
    "udhcpc",
    "dhcpd",
    "dnsmasq",
    "NetworkManager",
    "systemd-networkd",
    "wpa_supplicant",
    "hostapd",
    "avahi-daemon",
    "keepalived",
    "radvd",
    "rdisc6",
    "ndisc6",
    "arpwatch",
    "iptables",
    "xtables-nft-multi",
    "xtables-legacy-multi",
    "conntrackd",
];

/// Servers that have no reason to start a shell or a downloader.
pub(super) const SERVERS: [&str; 36] = [
    "nginx",
    "apache2",
    "httpd",
    "lighttpd",
    "caddy",
    "haproxy",
    "envoy",
    "varnishd",
    "squid",
    "php-fpm",
    "mysqld",
    "mariadbd",
    "postgres",
    "mongod",
    "redis-server",
    "valkey-server",
    "memcached",
    "named",
    "unbound",
    "dnsmasq",
    "vsftpd",
    "proftpd",
    "smbd",
    "nmbd",
    "dovecot",
    "exim4",
    "smtpd",
    "slapd",
    "cupsd",
    "snmpd",
    "tomcat",
    "gunicorn",
    "uwsgi",
    "w3wp",
    "mosquitto",
    "rsync",
];

/// What an intruder starts first.
pub(super) const TOOLS: [&str; 30] = [
    "sh",
    "bash",
    "dash",
    "zsh",
    "ksh",
    "ash",
    "fish",
    "busybox",
    "curl",
    "wget",
    "nc",
    "ncat",
    "netcat",
    "nc.openbsd",
    "nc.traditional",
    "socat",
    "telnet",
    "ssh",
    "scp",
    "tftp",
    "ftp",
    "perl",
    "python",
    "python2",
    "ruby",
    "lua",
    "whoami",
    "base64",
    "xxd",
    "openssl",
];

/// What takes commands from its input.
pub(super) const INTERPRETERS: [&str; 18] = [
    "sh", "bash", "dash", "rbash", "zsh", "ksh", "mksh", "ash", "fish", "tcsh", "csh", "busybox",
    "python", "perl", "ruby", "lua", "php", "node",
];

/// Whether `name` is one of them, but for a version at its end.
pub(super) fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    let version = |byte: &u8| byte.is_ascii_digit() || *byte == b'.';
    let end = name.iter().rposition(|byte| !version(byte));
    let bare = &name[..end.map_or(0, |last| last + 1)];
    let named = |name: &[u8]| names.iter().any(|known| known.as_bytes() == name);
    named(name) || (!bare.is_empty() && named(bare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_at_the_end_is_no_other_name() {
        for name in ["python", "python3.11", "php-fpm8.2", "exim4"] {
            let is_known =
                is_one_of(&TOOLS, name.as_bytes()) || is_one_of(&SERVERS, name.as_bytes());
            assert!(is_known, "{name}");
        }
        for name in ["", "3.11", "pythonic", "bashful"] {
            assert!(!is_one_of(&TOOLS, name.as_bytes()), "{name}");
        }
    }
}
