//! `tracer completions SHELL`: a script that completes our arguments.

use crate::cli::{self, Cli};
use crate::failure::Failure;

pub(super) fn completions(shell: &str) -> Result<Vec<u8>, Failure> {
    let Some(shell) = cli::shell(shell) else {
        return Err(Failure::usage(format_args!(
            "no completions for the shell {shell:?}"
        )));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::definition(), "tracer", &mut script);
    Ok(script)
}
