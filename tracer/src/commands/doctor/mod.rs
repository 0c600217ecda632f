//! `tracer doctor`: what this kernel offers, which hook serves each moment, what is lost, and what to
//! do about it.
//!
//! In: the options that `run` would get. Out: a report for people or for programs, and status 3
//! unless `run` would work.

mod advice;
mod check;
#[cfg(test)]
mod fixture;
mod report;
mod text;

use self::check::Check;
use self::report::Report;
use crate::cli::ReportFormat;
use crate::commands::print;
use crate::config::Surroundings;
use crate::failure::Failure;
use crate::kernel::facts::Facts;
use crate::kernel::loader::Options;
use crate::kernel::{privileges, survey};

/// Looks at everything, and goes on where `run` would give up.
pub(super) fn doctor(
    options: &Options,
    format: ReportFormat,
    surroundings: Surroundings,
) -> Result<(), Failure> {
    let kernel = Facts::read();
    let privileges = privileges::needed();
    let survey = survey::survey(options);
    // What refuses the object as a whole would only do so again.
    let check = survey.is_ok().then(|| Check::run(options));
    let report = Report::new(options, kernel, privileges, survey, check);
    match format {
        ReportFormat::Text => {
            let color = surroundings.stdout_is_terminal && !surroundings.no_color;
            print(&text::render(&report, color))?;
        }
        ReportFormat::Json => {
            let json = serde_json::to_string(&report).map_err(Failure::failed)?;
            print((json + "\n").as_bytes())?;
        }
    }
    if report.would_run {
        return Ok(());
    }
    let first = report.problems.iter().find(|problem| problem.essential);
    let first = first.map_or("the reason is in the report", |problem| &problem.problem);
    Err(Failure::unsupported(format_args!(
        "would not run here: {first}"
    )))
}
