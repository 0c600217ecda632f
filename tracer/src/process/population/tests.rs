//! Families of a few processes.

use super::*;
use crate::process::image::Relation;

fn child(tgid: u32, start_ns: u64, parent: Option<&Arc<Image>>) -> Arc<Image> {
    let parent = parent.map_or(Parent::Root, |parent| {
        Parent::Known(Relation::Birth, Arc::clone(parent))
    });
    Arc::new(Image {
        key: ProcessKey { tgid, start_ns },
        parent,
        ..Image::sample(tgid, b"x")
    })
}

fn population(residents: &[(&Arc<Image>, Option<u64>)]) -> Population {
    let resident = |&(image, exited_at): &(&Arc<Image>, Option<u64>)| Resident {
        image: Arc::clone(image),
        exited_at: exited_at.map(BootTime),
    };
    Population {
        residents: residents.iter().map(resident).collect(),
        has_evicted: false,
    }
}

fn pids<'a>(members: impl IntoIterator<Item = &'a Member>) -> Vec<u32> {
    let members = members.into_iter();
    members.map(|member| member.image.key.tgid).collect()
}

#[test]
fn who_is_forgotten_stays_as_long_as_a_living_one_descends_from_it() {
    let init = child(1, 1, None);
    let forgotten = child(2, 2, Some(&init));
    let [elder, younger] = [child(9, 3, Some(&forgotten)), child(4, 4, Some(&forgotten))];
    let childless = child(5, 5, Some(&init));
    let family = Family::of(
        population(&[
            (&younger, None),
            (&init, None),
            (&elder, None),
            (&childless, Some(6)),
        ]),
        [],
    );
    assert_eq!(pids(family.children(init.key)), [2]);
    assert_eq!(pids(family.children(forgotten.key)), [9, 4]);
    let found = family.find(Wanted::Pid(2)).unwrap();
    assert_eq!(found.life, Life::Exited(None));
    let found = family.find(Wanted::Pid(4)).unwrap();
    assert_eq!(pids(family.ancestors(found)), [2, 1]);
}

#[test]
fn who_has_ended_and_left_nothing_has_ended_unless_it_owns_a_socket() {
    let init = child(1, 1, None);
    let ended = child(5, 5, Some(&init));
    let all = || population(&[(&init, None), (&ended, Some(6))]);
    let missing = Family::of(all(), []).find(Wanted::Pid(5)).err();
    assert_eq!(missing, Some(Missing::Ended(5)));
    let family = Family::of(all(), [ended.key]);
    let life = family.find(Wanted::Pid(5)).unwrap().life;
    assert_eq!(life, Life::Exited(Some(BootTime(6))));
}

#[test]
fn a_pid_means_its_latest_process_and_an_identity_that_one_alone() {
    let first = child(7, 10, None);
    let second = child(7, 20, None);
    let heir = child(8, 11, Some(&first));
    let all = population(&[(&second, None), (&heir, None)]);
    let family = Family::of(all, []);
    let start = |wanted| family.find(wanted).map(|it| it.image.key.start_ns);
    let process = |tgid, start_ns| Wanted::Process {
        tgid,
        start_ns,
        rounded: false,
    };
    assert_eq!(start(Wanted::Pid(7)), Ok(20));
    assert_eq!(start(process(7, 10)), Ok(10));
    assert_eq!(start(process(7, 15)), Err(Missing::Ended(7)));
    assert_eq!(start(Wanted::Pid(6)), Err(Missing::Unknown(6)));
}

#[test]
fn a_start_in_ticks_means_the_process_that_began_in_that_tick() {
    let exact = child(7, 3 * TICK_NS + 5, None);
    let family = Family::of(population(&[(&exact, None)]), []);
    let found = |start_ns| {
        let rounded = true;
        family.find(Wanted::Process {
            tgid: 7,
            start_ns,
            rounded,
        })
    };
    assert!(found(3 * TICK_NS).is_ok());
    assert!(found(2 * TICK_NS).is_err());
}

#[test]
fn a_circle_of_parents_ends() {
    let old = child(1, 1, None);
    let other = child(2, 2, Some(&old));
    let circle = child(1, 1, Some(&other));
    let family = Family::of(population(&[(&circle, None), (&other, None)]), []);
    let found = family.find(Wanted::Pid(1)).unwrap();
    assert_eq!(pids(family.ancestors(found)), [2]);
}

#[test]
fn who_is_not_in_a_table_that_was_full_may_be_alive() {
    let evicted = child(1, 1, None);
    let heir = child(2, 2, Some(&evicted));
    let family = Family::of(
        Population {
            has_evicted: true,
            ..population(&[(&heir, None)])
        },
        [],
    );
    let life = family.find(Wanted::Pid(1)).unwrap().life;
    assert_eq!(life, Life::Unknown);
}
