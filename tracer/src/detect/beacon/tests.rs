//! Contacts as timers and as people make them.

use std::sync::Arc;

use super::*;
use crate::detect::names::Said;
use crate::history::samples;

const SECOND: u64 = 1_000_000_000;

fn open(
    beacons: &mut Beacons,
    process: &Arc<Image>,
    connection: &Connection,
    findings: &mut Vec<Finding>,
) {
    let fact = Fact::ConnectionOpened {
        connection,
        process: Some(process),
        connect_duration_ns: None,
    };
    let scene = Scene {
        time: connection.opened_at.unwrap(),
        fact: &fact,
        said: Said::default(),
    };
    beacons.observe(&scene, findings);
}

/// The contacts of a program that is started anew each time, and what is found.
fn found(times: impl IntoIterator<Item = u64>, remote: &str) -> Vec<(u64, Finding)> {
    let mut beacons = Beacons::new(&settings::Beacon::default());
    let mut all = Vec::new();
    for (index, time) in times.into_iter().enumerate() {
        let parent = samples::image(1, b"init", b"init\0", None);
        let pid = 1000 + u32::try_from(index).unwrap();
        let image = samples::image(pid, b"sensor", b"sensor\0--once\0", Some(&parent));
        let connection = samples::connection(&image, time, remote);
        let mut findings = Vec::new();
        open(&mut beacons, &image, &connection, &mut findings);
        all.extend(
            findings
                .into_iter()
                .map(|finding| (index as u64 + 1, finding)),
        );
    }
    all
}

#[test]
fn the_eighth_contact_tells_although_the_pid_is_another_each_time() {
    let times = (0..8).map(|contact| (1 + contact * 60) * SECOND);
    let found = found(times, "10.0.0.9:445");
    let [(contact, finding)] = &found[..] else {
        panic!("{} findings", found.len());
    };
    assert_eq!(*contact, 8);
    assert_eq!(
        finding.detection.explanation,
        "sensor contacted 10.0.0.9, port 445, 8 times, every 1 min 0 s; deviation 0 % in the median, \
         0 % of the contacts missing; score 1.00"
    );
    assert_eq!(finding.detection.evidence_total, 8);
    assert_eq!(finding.detection.evidence.len(), 7);
}

#[test]
fn contacts_within_this_host_and_those_of_a_busy_program_are_not_counted() {
    let minutes = || (0..50).map(|contact| (1 + contact * 60) * SECOND);
    assert!(found(minutes(), "127.0.0.1:445").is_empty());
    // The address that the samples have themselves.
    assert!(found(minutes(), "10.0.0.1:445").is_empty());
    let busy = (0..50).map(|contact| SECOND + contact * SECOND / 10);
    assert!(found(busy, "10.0.0.9:445").is_empty());
}

#[test]
fn a_pair_in_a_crowd_of_others_is_found() {
    let mut beacons = Beacons::new(&settings::Beacon::default());
    let image = samples::image(7, b"sensor", b"sensor\0", None);
    let mut findings = Vec::new();
    let mut contact = |time: u64, remote: String| {
        let connection = samples::connection(&image, time, &remote);
        open(&mut beacons, &image, &connection, &mut findings);
    };
    for minute in 0..8u64 {
        let now = (1 + minute * 60) * SECOND;
        contact(now, "10.9.9.9:443".to_owned());
        for other in 0..5_000u64 {
            let [_, _, high, low] = u32::try_from(other + minute * 5_000).unwrap().to_be_bytes();
            contact(now + other, format!("172.16.{high}.{low}:443"));
        }
    }
    assert_eq!(findings.len(), 1);
}

/// Numbers that are always the same.
struct Chance(u64);

impl Chance {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((value ^ (value >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Contacts of a timer, in nanoseconds.
    fn timer(&mut self, period: f64, jitter: f64, missing: f64) -> Vec<u64> {
        let mut now = 1.0;
        let mut times = Vec::new();
        while times.len() < CONTACTS {
            now += period * (1.0 + jitter * (2.0 * self.next() - 1.0));
            if self.next() >= missing {
                times.push((now * 1e9) as u64);
            }
        }
        times
    }

    /// Contacts of what is no timer: at random, in bursts, with pauses of any length.
    fn other(&mut self, kind: usize, period: f64) -> Vec<u64> {
        let mut now = 1.0;
        let mut next = || {
            now += match kind {
                0 => -period * (1.0 - self.next()).ln(),
                1 if self.next() < 0.7 => 0.2 + 5.0 * self.next(),
                1 => period * (1.0 + 30.0 * self.next()),
                2 => 2.0 * period * self.next(),
                _ => period * (3.0 * (self.next() + self.next() + self.next() - 1.5)).exp(),
            };
            (now * 1e9) as u64
        };
        (0..CONTACTS).map(|_| next()).collect()
    }
}

/// How many contacts each has.
const CONTACTS: usize = 60;

fn is_told(times: Vec<u64>) -> bool {
    !found(times, "10.0.0.9:445").is_empty()
}

/// Prints the whole curve with `--nocapture`, for BENCHMARKS.md.
#[test]
fn timers_are_told_from_chance() {
    const EACH: usize = 100;
    const PERIODS: [f64; 4] = [10.0, 60.0, 3600.0, 86_400.0];
    let mut chance = Chance(1);
    let mut told_wrongly = 0;
    for kind in 0..4 {
        let told = (0..EACH).filter(|index| {
            let times = chance.other(kind, PERIODS[index % PERIODS.len()]);
            is_told(times)
        });
        told_wrongly += told.count();
    }
    let mut worst = 1.0f64;
    println!("jitter, missing: told");
    for jitter in [0.0, 0.1, 0.2, 0.3, 0.4] {
        for missing in [0.0, 0.1, 0.2, 0.3] {
            let told = (0..EACH).filter(|index| {
                let period = PERIODS[index % PERIODS.len()];
                is_told(chance.timer(period, jitter, missing))
            });
            let recall = told.count() as f64 / EACH as f64;
            println!("{jitter:.1} {missing:.1}: {recall:.2}");
            if jitter <= 0.2 && missing <= 0.1 {
                worst = worst.min(recall);
            }
        }
    }
    let false_share = told_wrongly as f64 / (4 * EACH) as f64;
    let precision = worst / (worst + false_share);
    println!("of others told: {false_share:.3}; precision {precision:.3}");
    assert!(worst >= 0.95, "recall {worst}");
    assert!(precision >= 0.95, "precision {precision}");
}
