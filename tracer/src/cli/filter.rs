//! Options on which events are shown.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;
use regex_lite::Regex;

use crate::filter::{Family, Filter};
use crate::output::action::{Action, ActionSet};

/// Which events are shown.
#[derive(Args, Debug)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Only this process
    #[arg(short = 'p', long = "pid", value_name = "PID", value_delimiter = ',')]
    pub pids: Vec<u32>,
    /// Only this process and its descendants
    #[arg(long = "tree", value_name = "PID", value_delimiter = ',')]
    pub trees: Vec<u32>,
    /// Only processes whose name matches this regular expression
    #[arg(long, value_name = "RE", value_parser = parse_regex)]
    pub comm: Option<Regex>,
    /// Only processes in a container whose ID begins like this
    #[arg(long = "container", value_name = "ID", value_delimiter = ',')]
    pub containers: Vec<String>,
    /// Only connections with this port at either end
    #[arg(long = "port", value_name = "N", value_delimiter = ',')]
    pub ports: Vec<u16>,
    /// Only connections whose other end is in this network, e.g. 10.0.0.0/8 or ::1
    #[arg(long = "peer", value_name = "CIDR", value_delimiter = ',', value_parser = parse_network)]
    pub peers: Vec<IpNet>,
    /// Only IPv4
    #[arg(short = '4', conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Only IPv6
    #[arg(short = '6')]
    pub ipv6: bool,
    /// Only events of these kinds [default: all but process_fork]
    #[arg(short = 'e', long = "events", value_name = "ACTIONS", value_delimiter = ',', value_parser = action())]
    pub actions: Vec<Action>,
    /// Also show what the tracer itself does
    #[arg(long)]
    pub include_self: bool,
}

impl FilterArgs {
    /// The filter, which hides nothing yet.
    pub fn resolve(&self) -> Filter {
        Filter {
            pids: self.pids.clone(),
            trees: self.trees.clone(),
            name: self.comm.clone(),
            containers: self.containers.clone(),
            ports: self.ports.clone(),
            peers: self.peers.clone(),
            family: match (self.ipv4, self.ipv6) {
                (true, _) => Some(Family::Ipv4),
                (_, true) => Some(Family::Ipv6),
                _ => None,
            },
            actions: match self.actions.as_slice() {
                [] => ActionSet::default(),
                actions => actions
                    .iter()
                    .copied()
                    .fold(ActionSet::NONE, ActionSet::with),
            },
            hidden: None,
            only_tree: None,
        }
    }
}

fn action() -> impl TypedValueParser<Value = Action> {
    PossibleValuesParser::new(Action::ALL.map(Action::name))
        .try_map(|name| Action::from_name(&name).ok_or("no such action"))
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}

/// A network, or an address, which is a network of one.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let address = || {
        text.parse()
            .map(|address: std::net::IpAddr| IpNet::from(address))
    };
    text.parse()
        .or_else(|_| address())
        .map_err(|_| "not a network such as 10.0.0.0/8 or fd00::/8, nor an address".to_owned())
}
