//! Rounds of one workload: some to warm up, then those that count.

use std::time::Duration;

use anyhow::Result;

use crate::workload::Workload;

/// Rounds that count.
const ROUNDS: usize = 3;

/// Two rounds agree if they differ by no more than this part of them.
const AGREEMENT: f64 = 0.002;

/// Caches and free lists fill in the beginning; after this many instructions they have.
const WARM_UP: Duration = Duration::from_nanos(600_000_000);

/// Instructions for one operation, a number for each round that counts. Warm-up ends as soon as two rounds
/// in a row agree.
pub(crate) fn measure(
    workload: &mut Workload,
    mut round: impl FnMut(&mut Workload) -> Result<Duration>,
) -> Result<Vec<f64>> {
    let mut round = |workload: &mut Workload| {
        workload.rest();
        let took = round(workload)?;
        Ok::<_, anyhow::Error>((workload.share(took), took))
    };
    let (mut last, mut spent) = (f64::INFINITY, Duration::ZERO);
    loop {
        let (cost, took) = round(workload)?;
        spent += took;
        if (cost - last).abs() <= cost * AGREEMENT || spent >= WARM_UP {
            break;
        }
        last = cost;
    }
    (0..ROUNDS).map(|_| Ok(round(workload)?.0)).collect()
}
