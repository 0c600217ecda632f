//! Arguments of `tree`.

use std::str::FromStr;

use clap::Args;

use super::{MaskArgs, ReportFormat};
use crate::identity::{BootId, Subject, decode};
use crate::local::{self, Listen};
use crate::process::population::Wanted;
use crate::tree::GENERATIONS_MAX;

/// Arguments of `tree`.
#[derive(Args, Debug)]
pub struct TreeArgs {
    /// A PID, or the `entity_id` of an event, which means that very process and nobody else with its PID
    #[arg(value_name = "PID|ENTITY_ID", allow_hyphen_values = true)]
    pub process: NamedProcess,
    /// Draw it anew every second, until it and all its descendants have ended
    #[arg(short, long)]
    pub follow: bool,
    /// How many generations of descendants to show, at most 60
    #[arg(short, long, value_name = "N", default_value_t = GENERATIONS_MAX, hide_default_value = true)]
    pub depth: u32,
    /// Processes alone
    #[arg(long)]
    pub no_connections: bool,
    /// Draw with ASCII characters, as is done where the locale is not UTF-8
    #[arg(long)]
    pub ascii: bool,
    /// Where the daemon answers, which has seen who forked whom; without one, or by `off`, only what is there
    /// now is shown
    #[arg(long, value_name = "PATH", default_value = local::DEFAULT_PATH)]
    pub socket: Listen,
    /// For people or for programs
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
    /// What not to show of arguments. A daemon has masked them before it is asked.
    #[command(flatten)]
    pub mask: MaskArgs,
}

/// A process as a user names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedProcess {
    /// Which.
    pub wanted: Wanted,
    /// In which boot, where that was said.
    pub boot: Option<BootId>,
}

impl FromStr for NamedProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let pid = text.parse().map_err(|_| "no PID is that large")?;
            return Ok(Self {
                wanted: Wanted::Pid(pid),
                boot: None,
            });
        }
        let decoded =
            decode(text).map_err(|error| format!("neither a PID nor an entity id: {error}"))?;
        let Subject::Process { key, rounded } = decoded.subject else {
            return Err("that is a connection, not a process".to_owned());
        };
        Ok(Self {
            wanted: Wanted::Process {
                tgid: key.tgid,
                start_ns: key.start_ns,
                rounded,
            },
            boot: Some(decoded.boot),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ProcessKey;
    use crate::identity::Identities;

    #[test]
    fn a_process_is_named_by_its_pid_or_its_identity() {
        let named: NamedProcess = "4312".parse().unwrap();
        assert_eq!((named.wanted, named.boot), (Wanted::Pid(4312), None));
        let boot = BootId([7; 16]);
        let (tgid, start_ns) = (4312, 99);
        let id = Identities::new(boot).process(ProcessKey { tgid, start_ns }, false);
        let named: NamedProcess = id.as_str().parse().unwrap();
        let rounded = false;
        let wanted = Wanted::Process {
            tgid,
            start_ns,
            rounded,
        };
        assert_eq!((named.wanted, named.boot), (wanted, Some(boot)));
    }

    #[test]
    fn what_names_no_process_is_refused() {
        for text in ["", "-1", "bash", "99999999999"] {
            assert!(text.parse::<NamedProcess>().is_err(), "{text}");
        }
    }
}
