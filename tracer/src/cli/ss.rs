//! Arguments of `ss`.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{MaskArgs, ReportFormat};
use crate::event::TcpState;
use crate::local::{self, Listen};
use crate::output::names;

/// Arguments of `ss`. Letters are those of ss(8), so that what the fingers know works here.
#[derive(Args, Debug)]
pub struct SsArgs {
    /// TCP sockets [default: TCP and UDP]
    #[arg(short, long)]
    pub tcp: bool,
    /// UDP sockets
    #[arg(short, long)]
    pub udp: bool,
    /// Only sockets that listen, and UDP sockets without a peer
    #[arg(short, long)]
    pub listening: bool,
    /// Also what no process has to do with any more or yet: TIME-WAIT and SYN-RECV
    #[arg(short, long)]
    pub all: bool,
    /// Only sockets in these states, e.g. established,time-wait
    #[arg(long, value_name = "STATES", value_delimiter = ',', value_parser = state(), conflicts_with = "listening")]
    pub state: Vec<TcpState>,
    /// Numbers rather than names: always so
    #[arg(short, long)]
    pub numeric: bool,
    /// Processes: always so
    #[arg(short, long)]
    pub processes: bool,
    /// Where the daemon answers, which has seen who opened what; without one, or by `off`, the opener is
    /// concluded from the holders
    #[arg(long, value_name = "PATH", default_value = local::DEFAULT_PATH)]
    pub socket: Listen,
    /// For people or for programs, one object a line
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: ReportFormat,
    /// What not to show of arguments. A daemon has masked them before it is asked.
    #[command(flatten)]
    pub mask: MaskArgs,
}

fn state() -> impl TypedValueParser<Value = TcpState> {
    let named = names::SOCKET_STATES.iter();
    let words: Vec<&str> = named.map(|(_, _, word)| *word).collect();
    PossibleValuesParser::new(words).try_map(|word| {
        let state = names::SOCKET_STATES
            .iter()
            .find(|(_, _, name)| *name == word);
        state.map(|(state, ..)| *state).ok_or("no such state")
    })
}
