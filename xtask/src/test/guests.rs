//! The real-kernel tests in the VM matrix, some guests at a time.

use std::fs::{self, File};
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::libtest::Tally;
use super::matrix::{self, Cell, Offer};
use super::{Extent, Row, Verdict};
use crate::setup::kernels::Kernel;
use crate::vm;

/// Guests that run side by side: each keeps one processor of ours busy.
const AT_A_TIME: usize = 2;

/// A guest that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Runs the tests in the cells of the matrix that belong to `extent`; a row for each cell.
pub(super) fn run(extent: Extent, filter: Option<&str>) -> Result<Vec<Row>> {
    let programs = vm::test_programs()?;
    let cells = matrix::read()?;
    println!("\nreal-kernel tests in guests, {AT_A_TIME} at a time");
    let rows = Mutex::new(Vec::new());
    let next = Mutex::new(cells.iter().enumerate());
    let work = || -> Result<()> {
        loop {
            let taken = next.lock().expect("no worker panics").next();
            let Some((index, cell)) = taken else {
                return Ok(());
            };
            let row = in_cell(cell, extent, &programs, filter)?;
            println!("{row}");
            rows.lock().expect("no worker panics").push((index, row));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("no worker panics"))
    })?;
    let mut rows = rows.into_inner().expect("no worker panics");
    rows.sort_by_key(|(index, _)| *index);
    Ok(rows.into_iter().map(|(_, row)| row).collect())
}

fn in_cell(
    cell: &Cell,
    extent: Extent,
    programs: &[vm::Program],
    filter: Option<&str>,
) -> Result<Row> {
    let kernel = Kernel::find(cell.label)?;
    let verdict = match &cell.offer {
        Offer::Refused(reason) => Verdict::Refused(reason.clone()),
        Offer::Full if extent == Extent::Ci => Verdict::Left,
        Offer::Always | Offer::ByMode | Offer::Full => {
            let is_part = extent == Extent::Ci && cell.offer == Offer::ByMode;
            Verdict::timed(|| in_guest(&kernel, cell, is_part, programs, filter))?
        }
    };
    let place = format!("{} ({})", cell.label, kernel.version());
    Ok(Row {
        place,
        mode: Some(cell.mode),
        verdict,
    })
}

/// Runs what the mode decides, if that `is_part` of the tests which is wanted, or all.
fn in_guest(
    kernel: &Kernel,
    cell: &Cell,
    is_part: bool,
    programs: &[vm::Program],
    filter: Option<&str>,
) -> Result<Tally> {
    let name = format!("{}-{}", cell.label, cell.mode);
    let mut environment = vm::test_environment();
    environment.push(("TRACER_HOOK_MODE", cell.mode.to_string()));
    environment.push(("TRACER_BY_MODE", u8::from(is_part).to_string()));
    let guest = vm::Guest {
        kernel,
        name: name.clone(),
        programs,
        environment,
        command: [vm::KERNEL_TESTS, "--test-threads=1"]
            .into_iter()
            .chain(filter)
            .map(Into::into)
            .collect(),
        clock: vm::Clock::Host,
        memory: vm::MEMORY,
        deadline: DEADLINE,
    };
    let log = vm::directory()?.join(format!("{name}.log"));
    let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
    let status = guest.run(Stdio::null(), Stdio::from(file));
    let output = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
    let output = String::from_utf8_lossy(&output);
    let success = matches!(status, Ok(0));
    if !success {
        println!(
            "---- {name}: {} ----\n{output}---- end of {name} ----",
            log.display()
        );
    }
    if let Err(error) = status {
        println!("{name}: {error:#}");
    }
    Ok(Tally::read(&output, success).or_nothing_ran(filter))
}
