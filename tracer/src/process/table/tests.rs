//! Tests of the process table: births, execs, reuse of PIDs, ends and limits.

use super::*;
use crate::event::Name;

fn name(text: &str) -> Name {
    let mut name = Name::default();
    name.0[..text.len()].copy_from_slice(text.as_bytes());
    name
}

/// A task of the process that started at ten times its PID.
fn task(tgid: u32, comm: &str) -> Task {
    Task {
        tgid,
        tid: tgid,
        start_ns: Some(u64::from(tgid) * 10),
        euid: Some(0),
        kernel_thread: false,
        parent: None,
        name: name(comm),
    }
}

fn key(tgid: u32) -> ProcessKey {
    ProcessKey {
        tgid,
        start_ns: u64::from(tgid) * 10,
    }
}

fn exec<'a>(tgid: u32, comm: &str, path: &'a [u8]) -> Exec<'a> {
    Exec::of(task(tgid, comm), path)
}

fn existing(tgid: u32, parent: u32, comm: &str) -> ExistingProcess {
    ExistingProcess {
        key: key(tgid),
        key_rounded: false,
        parent: (parent != 0).then(|| key(parent)),
        name: name(comm),
        euid: Some(0),
        kernel_thread: false,
        reaper: false,
        program: Arc::default(),
        membership: Membership::default(),
    }
}

/// A table in which 1 (systemd) has 10 (sshd), and that 20 (bash), when the tracer starts at 500.
fn host() -> ProcessTable {
    let mut table = ProcessTable::new(100);
    let family = [
        existing(20, 10, "bash"),
        existing(10, 1, "sshd"),
        existing(1, 0, "systemd"),
    ];
    table.inventory(BootTime(500), family.into());
    table
}

const T: BootTime = BootTime(1_000);

fn after_grace() -> BootTime {
    BootTime(T.0 + GRACE_NS)
}

impl ProcessTable {
    /// Names from the process to its first ancestor: `<` joins by birth, `<?` at present; what
    /// stands at the end tells why there is no more.
    fn lineage(&mut self, tgid: u32) -> String {
        let handle = self
            .find(tgid, Some(u64::from(tgid) * 10))
            .expect("a known process");
        lineage(&self.processes[handle].image)
    }
}

fn lineage(image: &Image) -> String {
    let part = |image: &Image| {
        let link = match &image.parent {
            Parent::Known(Relation::Birth, _) => "<",
            Parent::Known(Relation::Present, _) => "<?",
            Parent::Root => "",
            Parent::Unknown => "<unknown",
            Parent::Cut => "<cut",
        };
        format!("{}{link}", image.name.as_bytes().escape_ascii())
    };
    image.lineage().map(part).collect()
}

/// Whoever `parent` is forks.
fn fork<'a>(
    table: &'a mut ProcessTable,
    time: BootTime,
    parent: &Task,
    child: ProcessKey,
) -> &'a Arc<Image> {
    let forker = table.seen(time, parent);
    table.fork(time, forker, child, &Membership::default(), None)
}

#[test]
fn child_is_its_parent_until_it_executes_another_program() {
    let mut table = host();
    table.exec(T, &exec(20, "bash", b"bash\0bin\0"), None);
    let child = Arc::clone(fork(&mut table, T, &task(20, "bash"), key(30)));
    assert_eq!(lineage(&child), "bash<bash<sshd<?systemd");
    assert_eq!(child.program.executable, "/bin/bash");
    let Parent::Known(_, parent) = &child.parent else {
        panic!()
    };
    assert!(Arc::ptr_eq(&child.program, &parent.program));

    let image = table.exec(T, &exec(30, "curl", b"curl\0bin\0"), None);
    assert_eq!(lineage(image), "curl<bash<sshd<?systemd");
    assert_eq!(image.program.executable, "/bin/curl");
    assert!(image.lineage_complete());
}

#[test]
fn ancestor_stays_as_it_was_when_it_forked() {
    let mut table = host();
    fork(&mut table, T, &task(20, "bash"), key(30));
    table.exec(T, &exec(20, "zsh", b"zsh\0"), None);
    assert_eq!(table.lineage(30), "bash<bash<sshd<?systemd");
    fork(&mut table, T, &task(20, "zsh"), key(31));
    assert_eq!(table.lineage(31), "zsh<zsh<sshd<?systemd");
}

#[test]
fn exit_of_ancestors_does_not_change_a_lineage() {
    let mut table = host();
    fork(&mut table, T, &task(20, "bash"), key(30));
    fork(&mut table, T, &task(30, "bash"), key(40));
    for (tgid, comm) in [(30, "bash"), (20, "bash"), (10, "sshd")] {
        assert!(table.exit(T, &task(tgid, comm)).is_some());
    }
    table.advance(after_grace());
    assert_eq!(table.len(), 2);
    let image = table.exec(after_grace(), &exec(40, "daemon", b"daemon\0"), None);
    assert_eq!(lineage(image), "daemon<bash<bash<sshd<?systemd");
}

#[test]
fn exited_process_is_found_for_ten_seconds() {
    let mut table = host();
    let last = Arc::clone(table.exit(T, &task(20, "bash")).unwrap());
    table.advance(BootTime(after_grace().0 - 1));
    let id = table.seen(T, &task(20, "bash"));
    assert!(Arc::ptr_eq(table.image(id).unwrap(), &last));
    table.advance(after_grace());
    assert_eq!(table.image(id).map(|image| image.key), None);
}

#[test]
fn exited_process_is_kept_while_held() {
    let mut table = host();
    let id = table.seen(T, &task(20, "bash"));
    table.hold(id);
    table.hold(id);
    table.exit(T, &task(20, "bash"));
    table.advance(after_grace());
    assert_eq!(table.image(id).unwrap().key, key(20));
    table.release(id);
    assert!(table.image(id).is_some());
    table.release(id);
    assert!(table.image(id).is_none());
}

#[test]
fn second_exit_of_a_process_is_none() {
    let mut table = host();
    assert!(table.exit(T, &task(20, "bash")).is_some());
    assert!(table.exit(T, &task(20, "bash")).is_none());
}

#[test]
fn reused_pid_never_inherits_from_its_namesake() {
    let mut table = host();
    let later = Task {
        start_ns: Some(999),
        ..task(20, "evil")
    };
    let old = table.seen(T, &task(20, "bash"));
    let id = table.seen(T, &later);
    let image = table.image(id).unwrap();
    assert_eq!(lineage(image), "evil<unknown");
    assert_eq!(
        image.key,
        ProcessKey {
            tgid: 20,
            start_ns: 999
        }
    );
    assert_eq!(image.program, Arc::default());
    assert!(!image.lineage_complete());
    // The old one must have exited.
    table.advance(after_grace());
    assert!(table.image(old).is_none() && table.image(id).is_some());
}

#[test]
fn unknown_process_has_the_name_of_its_task_and_no_parent() {
    let mut table = host();
    let id = table.seen(T, &task(77, "cron"));
    let image = table.image(id).unwrap();
    assert_eq!(lineage(image), "cron<unknown");
    assert_eq!(
        (image.provenance, image.euid),
        (Provenance::Kernel, Some(0))
    );
}

#[test]
fn first_processes_have_no_parent_even_if_not_listed() {
    let mut table = ProcessTable::new(10);
    for tgid in [1, 2] {
        let id = table.seen(T, &task(tgid, "init"));
        assert!(table.image(id).unwrap().lineage_complete());
    }
}

#[test]
fn change_of_name_or_user_makes_a_new_image() {
    let mut table = host();
    let id = table.seen(T, &task(20, "bash"));
    let before = Arc::clone(table.image(id).unwrap());
    table.seen(T, &task(20, "bash"));
    assert!(Arc::ptr_eq(table.image(id).unwrap(), &before));
    table.seen(
        T,
        &Task {
            euid: Some(33),
            ..task(20, "worker")
        },
    );
    let after = table.image(id).unwrap();
    assert_eq!((after.name, after.euid), (name("worker"), Some(33)));
    assert_eq!((before.name, before.euid), (name("bash"), Some(0)));
    assert!(Arc::ptr_eq(&after.program, &before.program));
}

#[test]
fn task_without_a_start_time_is_the_living_process_of_that_pid() {
    let mut table = host();
    let ids_only = Task {
        start_ns: None,
        euid: None,
        ..task(20, "thread-7")
    };
    let id = table.seen(T, &ids_only);
    assert_eq!(table.image(id).unwrap().name, name("bash"));
    table.exit(T, &task(20, "bash"));
    let other = table.seen(T, &ids_only);
    assert_ne!(other, id);
    assert_eq!(lineage(table.image(other).unwrap()), "thread-7<unknown");
}

#[test]
fn kernel_thread_is_marked() {
    let mut table = host();
    let id = table.seen(
        T,
        &Task {
            kernel_thread: true,
            ..task(77, "kworker/0:1")
        },
    );
    assert!(table.image(id).unwrap().kernel_thread);
}

#[test]
fn fork_seen_after_the_inventory_makes_the_link_one_by_birth() {
    let mut table = host();
    assert_eq!(table.lineage(10), "sshd<?systemd");
    let image = Arc::clone(fork(
        &mut table,
        BootTime(400),
        &task(1, "systemd"),
        key(10),
    ));
    assert_eq!(lineage(&image), "sshd<systemd");
    assert_eq!(image.provenance, Provenance::Kernel);
    assert_eq!(table.len(), 3);
}

#[test]
fn orphan_of_the_inventory_gets_its_dead_parent_back() {
    // 30 forked 40 and exited before the inventory was taken, which finds 40 with PID 1.
    let mut table = ProcessTable::new(100);
    let family = [
        existing(1, 0, "systemd"),
        existing(20, 1, "bash"),
        existing(40, 1, "daemon"),
    ];
    table.inventory(BootTime(500), family.into());
    assert_eq!(table.lineage(40), "daemon<?systemd");
    fork(&mut table, BootTime(401), &task(20, "bash"), key(30));
    fork(&mut table, BootTime(402), &task(30, "bash"), key(40));
    table.exit(BootTime(403), &task(30, "bash"));
    assert_eq!(table.lineage(40), "daemon<bash<bash<?systemd");
}

#[test]
fn program_of_the_inventory_is_not_that_of_an_older_record() {
    let mut table = ProcessTable::new(100);
    let program = Program {
        executable: "/bin/curl".into(),
        ..Program::default()
    };
    let curl = ExistingProcess {
        program: Arc::new(program),
        ..existing(20, 0, "curl")
    };
    table.inventory(BootTime(500), vec![curl]);
    let id = table.seen(BootTime(400), &task(20, "bash"));
    let image = table.image(id).unwrap();
    assert_eq!(
        (image.name, image.program.executable.len()),
        (name("bash"), 0)
    );
    let image = table.exec(BootTime(450), &exec(20, "curl", b"curl\0bin\0"), None);
    assert_eq!(image.program.executable, "/bin/curl");
    // From now on a change of name is no more than that.
    table.seen(BootTime(460), &task(20, "renamed"));
    assert_eq!(table.image(id).unwrap().program.executable, "/bin/curl");
}

#[test]
fn rounded_start_of_the_inventory_matches_the_exact_one() {
    let mut table = ProcessTable::new(100);
    let start_ns = 7 * TICK_NS;
    let rounded = ExistingProcess {
        key: ProcessKey { tgid: 20, start_ns },
        key_rounded: true,
        ..existing(20, 0, "bash")
    };
    table.inventory(BootTime(500), vec![rounded]);
    let exact = |start_ns| Task {
        start_ns: Some(start_ns),
        ..task(20, "bash")
    };
    let id = table.seen(T, &exact(start_ns + TICK_NS - 1));
    let image = table.image(id).unwrap();
    assert!(image.key_rounded && image.key.start_ns == start_ns);
    assert_ne!(table.seen(T, &exact(start_ns + TICK_NS)), id);
}

#[test]
fn long_lineage_is_cut_and_says_so() {
    let mut table = host();
    for tgid in 20..2_000 {
        let comm = if tgid == 20 { "bash" } else { "p" };
        let child = fork(&mut table, T, &task(tgid, comm), key(tgid + 1));
        assert!(child.depth <= lineage::DEPTH_MAX + 1);
        table.seen(T, &task(tgid + 1, "p"));
    }
    let id = table.seen(T, &task(2_000, "p"));
    let image = table.image(id).unwrap();
    let depth = image.lineage().count() - 1;
    assert_eq!(usize::try_from(image.depth).unwrap(), depth);
    assert!(depth >= 127 && !image.lineage_complete());
    assert!(matches!(
        image.lineage().last().unwrap().parent,
        Parent::Cut
    ));
    let keys: Vec<u32> = image
        .lineage()
        .take(50)
        .map(|image| image.key.tgid)
        .collect();
    assert_eq!(keys, (1_951..=2_000).rev().collect::<Vec<_>>());
}

#[test]
fn cut_keeps_what_each_link_is_worth() {
    let mut table = ProcessTable::new(1_000);
    let mut family: Vec<_> = (3..400).map(|tgid| existing(tgid, tgid - 1, "p")).collect();
    family
        .iter_mut()
        .for_each(|process| process.reaper = process.key.tgid % 2 == 1);
    table.inventory(BootTime(500), family);
    let image = Arc::clone(fork(&mut table, T, &task(399, "p"), key(1_000)));
    assert!(image.depth <= lineage::DEPTH_MAX + 1);
    for image in image.lineage().skip(1) {
        if let Parent::Known(relation, parent) = &image.parent {
            let present = parent.key.tgid % 2 == 1;
            assert_eq!(*relation == Relation::Present, present, "{:?}", image.key);
        }
    }
}

#[test]
fn oldest_exited_process_goes_first_then_the_oldest_alive() {
    let mut table = ProcessTable::new(3);
    let [a, b, _] = [30, 40, 50].map(|tgid| table.seen(T, &task(tgid, "p")));
    table.exit(T, &task(40, "p"));
    table.seen(T, &task(60, "p"));
    assert!(table.image(b).is_none() && table.image(a).is_some());
    table.seen(T, &task(70, "p"));
    assert!(table.image(a).is_none());
    assert_eq!((table.len(), table.evictions()), (3, 2));
}

/// A task whose parent is another one.
fn task_of(tgid: u32, comm: &str, parent: u32) -> Task {
    Task {
        parent: Some(key(parent)),
        ..task(tgid, comm)
    }
}

fn present_parent(table: &mut ProcessTable, task: &Task) -> Option<(u32, String)> {
    let id = table.seen(T, task);
    let parent = table.image(id)?.present_parent.as_ref()?;
    let name = parent.name.as_bytes().escape_ascii().to_string();
    Some((parent.key.tgid, name))
}

#[test]
fn an_orphan_keeps_its_lineage_and_tells_its_present_parent() {
    let mut table = host();
    let bash = task_of(20, "bash", 10);
    fork(&mut table, T, &bash, key(30));
    assert_eq!(present_parent(&mut table, &task_of(30, "bash", 20)), None);
    table.exit(T, &bash);
    let orphan = task_of(30, "bash", 1);
    assert_eq!(
        present_parent(&mut table, &orphan),
        Some((1, "systemd".into()))
    );
    assert_eq!(table.lineage(30), "bash<bash<sshd<?systemd");
    // A parent that nobody knows has no name.
    assert_eq!(
        present_parent(&mut table, &task_of(30, "bash", 77)),
        Some((77, String::new()))
    );
}

#[test]
fn a_process_whose_fork_was_lost_is_linked_to_its_present_parent() {
    let mut table = host();
    assert_eq!(present_parent(&mut table, &task_of(30, "curl", 20)), None);
    assert_eq!(table.lineage(30), "curl<?bash<sshd<?systemd");
    table.seen(T, &task_of(40, "curl", 39));
    assert_eq!(table.lineage(40), "curl<unknown");
}

#[test]
fn who_exited_and_owns_nothing_goes_before_who_owns_a_connection() {
    let mut table = ProcessTable::new(3);
    let [owner, other, alive] = [30, 40, 50].map(|tgid| table.seen(T, &task(tgid, "p")));
    table.hold(owner);
    table.exit(T, &task(30, "p"));
    table.exit(T, &task(40, "p"));
    table.seen(T, &task(60, "p"));
    assert!(table.image(owner).is_some() && table.image(other).is_none());
    assert_eq!((table.evictions(), table.take_lost()), (1, 0));
    table.seen(T, &task(70, "p"));
    assert!(table.image(owner).is_none() && table.image(alive).is_some());
    table.seen(T, &task(80, "p"));
    assert!(table.image(alive).is_none());
    assert_eq!((table.evictions(), table.take_lost()), (3, 2));
    assert_eq!(table.take_lost(), 0);
    // Its connection ends.
    table.release(owner);
    assert_eq!(table.len(), 3);
}

#[test]
fn owner_that_made_no_room_goes_with_its_connection() {
    let mut table = ProcessTable::new(2);
    let [owner, _] = [30, 40].map(|tgid| table.seen(T, &task(tgid, "p")));
    table.hold(owner);
    table.exit(T, &task(30, "p"));
    table.exit(T, &task(40, "p"));
    table.seen(T, &task(50, "p"));
    assert!(table.image(owner).is_some());
    table.release(owner);
    assert!(table.image(owner).is_none());
    assert_eq!(table.len(), 1);
}

#[test]
fn eviction_of_an_ancestor_does_not_change_a_lineage() {
    let mut table = ProcessTable::new(4);
    let family = [existing(1, 0, "systemd"), existing(20, 1, "bash")];
    table.inventory(BootTime(500), family.into());
    fork(&mut table, T, &task(20, "bash"), key(30));
    for tgid in 40..43 {
        table.seen(T, &task(tgid, "p"));
    }
    assert!(table.find(1, None).is_none() && table.find(20, None).is_none());
    assert_eq!(table.lineage(30), "bash<bash<?systemd");
    assert_eq!(table.take_lost(), 2);
    // Whoever it forks from now on is of unknown parentage.
    let child = fork(&mut table, T, &task(20, "bash"), key(50));
    assert_eq!(lineage(child), "bash<bash<unknown");
}

#[test]
fn child_seen_before_its_fork_gets_its_parent_then() {
    let mut table = host();
    table.seen(T, &task(30, "bash"));
    assert_eq!(table.lineage(30), "bash<unknown");
    table.exec(T, &exec(30, "curl", b"curl\0bin\0"), None);
    let child = fork(&mut table, T, &task(20, "bash"), key(30));
    assert_eq!(lineage(child), "curl<bash<sshd<?systemd");
    assert_eq!(table.len(), 4);
}

#[test]
fn fork_by_a_process_whose_fork_was_lost_begins_a_line() {
    let mut table = host();
    let child = fork(&mut table, T, &task(77, "lost"), key(78));
    assert_eq!(lineage(child), "lost<lost<unknown");
    assert!(!child.lineage_complete());
}
