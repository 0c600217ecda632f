//! What is looked for: options of `run` and `replay`, and the commands `detect` and `config`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What is looked for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Detections")]
pub struct DetectArgs {
    /// Which configuration to read; what is wrong in it is told, and nothing begins [default: /etc/tracer/tracer.toml,
    /// if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Make no detections, whatever the configuration says
    #[arg(long)]
    pub no_detect: bool,
}

/// What `detect` does.
#[derive(Debug, Subcommand)]
pub enum DetectCommand {
    /// List the rules
    List,
    /// Say what a rule means, how it decides, and what it is set to
    Explain {
        /// Which, by its ID
        #[arg(value_name = "RULE")]
        rule: String,
        /// Which configuration to read [default: /etc/tracer/tracer.toml, if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

/// What `config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether a configuration is right, and if not, where it is wrong
    Check {
        /// Which [default: /etc/tracer/tracer.toml]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}
