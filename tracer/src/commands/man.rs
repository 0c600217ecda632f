//! `tracer man`: one manual page for all commands, as roff; `tracer man DIR`: a page for each.

use std::io::{self, Write};
use std::path::Path;

use clap_mangen::Man;

use crate::cli::Cli;
use crate::failure::Failure;

pub(super) fn man() -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    render(&mut page)
        .map_err(|error| Failure::failed(format_args!("cannot render the manual: {error}")))?;
    Ok(page)
}

/// Writes `tracer.1` and a page for each command, e.g. `tracer-run.1`, for `man` to find.
pub(super) fn write(directory: &Path) -> Result<(), Failure> {
    clap_mangen::generate_to(Cli::definition(), directory).map_err(|error| {
        Failure::failed(format_args!(
            "cannot write manual pages to {}: {error}",
            directory.display()
        ))
    })
}

/// The page of the program, then a section with the options of each command.
fn render(page: &mut Vec<u8>) -> io::Result<()> {
    let mut definition = Cli::definition();
    definition.build();
    Man::new(definition.clone()).render(page)?;
    for command in definition.get_subcommands() {
        writeln!(
            page,
            ".SH \"COMMAND {}\"",
            command.get_name().to_uppercase()
        )?;
        let man = Man::new(command.clone());
        man.render_synopsis_section(page)?;
        man.render_description_section(page)?;
        man.render_options_section(page)?;
    }
    Ok(())
}
