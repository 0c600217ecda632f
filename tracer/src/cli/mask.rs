//! Options on secrets in arguments.

use clap::Args;

use crate::process::secrets::{Pattern, Secrets};

/// Which secrets are masked.
#[derive(Args, Debug)]
#[command(next_help_heading = "Secrets in arguments")]
pub struct MaskArgs {
    /// Also mask what this matches in the arguments, which it sees joined by spaces; if it has a group, only
    /// what that covers
    #[arg(long = "mask", value_name = "REGEX", allow_hyphen_values = true)]
    pub own: Vec<Pattern>,
    /// Do not mask what looks like a password, a token or a key
    #[arg(long)]
    pub no_mask: bool,
}

impl MaskArgs {
    /// What the state is to mask.
    pub fn resolve(&self) -> Secrets {
        Secrets::new(!self.no_mask, self.own.clone())
    }
}
