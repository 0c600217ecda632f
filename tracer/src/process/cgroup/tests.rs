//! Paths of cgroups as runtimes make them, and what they say.

use super::*;

/// Stands for the ID of a container in the table.
const ID: &str = "3f4b0c1d2e5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
/// Another one.
const OUTER: &str = "aa4b0c1d2e5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1ff";
const UID: &str = "0d4a5b1c-1111-2222-3333-444455556666";

/// Path; container, runtime; pod; unit; slice. `-` is none. In paths `ID`, `OUTER` stand for container IDs, `UID` for
/// a pod's, `U_ID` for that with underscores.
const PATHS: &str = r"
# Docker: version 1, version 2 and systemd, rootless, Amazon ECS
/docker/ID                                                             ID docker - - -
/system.slice/docker-ID.scope                                          ID docker - docker-ID.scope system.slice
/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope   ID docker - user@1000.service user-1000.slice
/ecs/0f9e8d7c6b5a49388271605f4e3d2c1b/ID                               ID - - - -
/ecstasks.slice/ecstasks-0f9e8d7c.slice/docker-ID.scope                ID docker - docker-ID.scope ecstasks-0f9e8d7c.slice
/actions_job/ID                                                        ID - - - -
# A container that runs systemd
/docker/ID/init.scope                                                  ID docker - - -
/system.slice/docker-ID.scope/system.slice/ssh.service                 ID docker - docker-ID.scope system.slice
# Docker in Docker
/docker/OUTER/docker/ID                                                ID docker - - -
# Kubernetes, systemd driver: containerd, CRI-O, Docker, another runtime
/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podU_ID.slice/cri-containerd-ID.scope   ID containerd UID cri-containerd-ID.scope kubepods-burstable-podU_ID.slice
/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podU_ID.slice/crio-ID.scope   ID cri-o UID crio-ID.scope kubepods-besteffort-podU_ID.slice
/kubepods.slice/kubepods-podU_ID.slice/docker-ID.scope                 ID docker UID docker-ID.scope kubepods-podU_ID.slice
/kubepods.slice/kubepods-podU_ID.slice/other-ID.scope                  ID - UID other-ID.scope kubepods-podU_ID.slice
/kubepods.slice/kubepods-podU_ID.slice/crio-ID.scope/container         ID cri-o UID crio-ID.scope kubepods-podU_ID.slice
# A pod of the kubelet's own configuration
/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8f00b204e9800998ecf8427ed41d8cd9.slice/cri-containerd-ID.scope   ID containerd 8f00b204e9800998ecf8427ed41d8cd9 cri-containerd-ID.scope kubepods-burstable-pod8f00b204e9800998ecf8427ed41d8cd9.slice
# Kubernetes, cgroupfs driver
/kubepods/burstable/podUID/ID                                          ID - UID - -
/kubepods/podUID/ID                                                    ID - UID - -
/kubepods/besteffort/podUID/crio-ID                                    ID cri-o UID - -
/kubepods/besteffort/pod8f00b204e9800998ecf8427ed41d8cd9/ID            ID - 8f00b204e9800998ecf8427ed41d8cd9 - -
# Kubernetes, the two drivers mixed
/system.slice/containerd.service/kubepods-besteffort-podU_ID.slice:cri-containerd:ID   ID containerd UID containerd.service system.slice
/kubepods-podU_ID.slice:cri-containerd:ID                              ID containerd UID - -
# kind: the kubelet in a Docker container
/docker/OUTER/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podU_ID.slice/cri-containerd-ID.scope   ID containerd UID - -
/system.slice/docker-OUTER.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podU_ID.slice/cri-containerd-ID.scope   ID containerd UID docker-OUTER.scope system.slice
/docker/OUTER/kubelet/kubepods/besteffort/podUID/ID                    ID - UID - -
# Docker in a pod
/kubepods/burstable/podUID/OUTER/docker/ID                             ID docker UID - -
# containerd without Kubernetes
/default/ID                                                            ID containerd - - -
/k8s.io/ID                                                             ID containerd - - -
/system.slice/nerdctl-ID.scope                                         ID containerd - nerdctl-ID.scope system.slice
# Podman: root, rootless, in a unit, cgroupfs
/machine.slice/libpod-ID.scope                                         ID podman - libpod-ID.scope machine.slice
/machine.slice/libpod-ID.scope/container                               ID podman - libpod-ID.scope machine.slice
/machine.slice/machine-libpod_pod_OUTER.slice/libpod-ID.scope/container   ID podman - libpod-ID.scope machine-libpod_pod_OUTER.slice
/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container   ID podman - user@1000.service user-1000.slice
/system.slice/web.service/libpod-payload-ID                            ID podman - web.service system.slice
/libpod_parent/libpod-ID                                               ID podman - - -
/libpod_parent/OUTER/libpod-ID                                         ID podman - - -
# LXC, Incus, Proxmox
/lxc/web                                                               web lxc - - -
/lxc/101/ns/system.slice/ssh.service                                   101 lxc - - -
/lxc.payload.web                                                       web lxc - - -
/lxc.payload.web/system.slice/docker-ID.scope                          ID docker - - -
/lxc.payload/web/init.scope                                            web lxc - - -
# systemd-nspawn
/machine.slice/systemd-nspawn@web.service/payload                      web systemd-nspawn - systemd-nspawn@web.service machine.slice
/machine.slice/machine-my\x2dweb.scope/payload/system.slice/a.service  my-web systemd-nspawn - machine-my\x2dweb.scope machine.slice

# No containers: units
/                                                                      - - - - -
/init.scope                                                            - - - init.scope -
/system.slice/ssh.service                                              - - - ssh.service system.slice
/system.slice/containerd.service                                       - - - containerd.service system.slice
/system.slice/system-getty.slice/getty@tty1.service                    - - - getty@tty1.service system-getty.slice
/user.slice/user-1000.slice/session-3.scope                            - - - session-3.scope user-1000.slice
/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-1234.scope   - - - user@1000.service user-1000.slice
/system.slice/run-r3f4b0c1d2e5a69788796a5b4c3d2e1f0.scope              - - - run-r3f4b0c1d2e5a69788796a5b4c3d2e1f0.scope system.slice
/_cpu.service                                                          - - - cpu.service -
/kubepods.slice                                                        - - - - kubepods.slice
# What watches a container
/machine.slice/libpod-conmon-ID.scope                                  - - - libpod-conmon-ID.scope machine.slice
/kubepods.slice/kubepods-podU_ID.slice/crio-conmon-ID.scope            - - UID crio-conmon-ID.scope kubepods-podU_ID.slice
/libpod_parent/conmon                                                  - - - - -
/libpod_parent/OUTER                                                   - - - - -
/system.slice/web.service/supervisor                                   - - - web.service system.slice
/lxc.monitor.web                                                       - - - - -
/machine.slice/systemd-nspawn@web.service/supervisor                   - - - systemd-nspawn@web.service machine.slice
# Virtual machines
/machine.slice/machine-qemu\x2d1\x2dweb.scope/libvirt/emulator         - - - machine-qemu\x2d1\x2dweb.scope machine.slice
# Names that look alike
/docker                                                                - - - - -
/docker/buildkit/jq7l1v9nzs3x0h2r5m8k6w4cb                             - - - - -
/docker/3f4b0c1d2e5a                                                   - - - - -
/docker/IDa                                                            - - - - -
/docker/3F4B0C1D2E5A69788796A5B4C3D2E1F00F1E2D3C4B5A69788796A5B4C3D2E1F0   - - - - -
/system.slice/docker-ID.service                                        - - - docker-ID.service system.slice
/system.slice/other-ID.scope                                           - - - other-ID.scope system.slice
/system.slice/cri-containerd-web.scope                                 - - - cri-containerd-web.scope system.slice
/podUID/web                                                            - - - - -
/kubepods/burstable/podother/web                                       - - - - -
/user.slice/user-podU_ID.slice                                         - - - - user-podU_ID.slice
/a/lxc/web                                                             - - - - -
/web/payload                                                           - - - - -
/system.slice/.service                                                 - - - - system.slice
";

#[test]
fn a_path_says_what_its_runtime_put_there() {
    let meant = |word: &str| {
        word.replace("OUTER", OUTER)
            .replace("U_ID", &UID.replace('-', "_"))
            .replace("UID", UID)
            .replace("ID", ID)
    };
    let rows: Vec<Vec<String>> = PATHS
        .lines()
        .filter(|line| line.starts_with('/'))
        .map(|line| line.split_whitespace().map(meant).collect())
        .collect();
    assert!(rows.len() >= 60);
    for row in rows {
        let id = CgroupId {
            hierarchy: 0,
            node: 1,
        };
        let cgroup = Cgroup::new(id, row[0].as_bytes());
        let text = |bytes: Option<&Bytes>| {
            bytes.map_or("-".to_owned(), |bytes| {
                String::from_utf8(bytes.to_vec()).unwrap()
            })
        };
        let container = cgroup.container.as_ref();
        let runtime = container.and_then(|container| container.runtime);
        let said = [
            row[0].clone(),
            text(container.map(|container| &container.id)),
            runtime.unwrap_or("-").to_owned(),
            text(cgroup.pod.as_ref()),
            text(cgroup.unit.as_ref()),
            text(cgroup.slice.as_ref()),
        ];
        assert_eq!(said, row[..]);
    }
}

#[test]
fn a_machine_s_name_is_unescaped() {
    assert_eq!(systemd_unescaped(br"a\x2db\x2Fc"), "a-b/c");
    assert_eq!(systemd_unescaped(br"a\x2"), r"a\x2");
    assert_eq!(systemd_unescaped(br"\xzz\"), r"\xzz\");
}

#[test]
fn any_bytes_are_a_path() {
    for path in [
        &b""[..],
        b"//",
        b"\xff/\xfe.scope",
        b"/:::",
        b"/-.scope",
        b"/.slice",
    ] {
        let cgroup = Cgroup::new(
            CgroupId {
                hierarchy: 0,
                node: 1,
            },
            path,
        );
        assert_eq!((cgroup.container, cgroup.pod), (None, None));
        assert_eq!(cgroup.path, path);
    }
}
