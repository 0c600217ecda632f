//! The family of a process, and what each of its members is connected to, now.
//!
//! In: everyone who is known, and what processes hold. Out: a picture for people or a JSON object.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::clock::{self, WallOffset};
use crate::event::{ProcessKey, TcpState, Transport};
use crate::host::Host;
use crate::kernel::netns;
use crate::listing::{self, Holdings};
use crate::output::Context;
use crate::output::json::Json;
use crate::output::names::HookNames;
use crate::output::socket::Socket;
use crate::output::tree::{self, Look, Node, Tree};
use crate::output::users::Users;
use crate::process::population::{Family, Member, Missing, Population, Wanted};

/// Most generations of descendants that are shown: each is two levels of JSON, and many readers take no more
/// than 128.
pub const GENERATIONS_MAX: u32 = 60;

/// Whose family somebody wants to see, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Whose.
    pub wanted: Wanted,
    /// How many generations of descendants, at most [`GENERATIONS_MAX`].
    pub generations: u32,
    /// Whether connections and listeners are wanted.
    pub connections: bool,
    /// How the picture is to look; `None` for a JSON object.
    pub look: Option<Look>,
    /// Network namespace of who asks; 0 if unknown.
    pub netns: u32,
}

impl Query {
    /// The protocols whose sockets are needed.
    pub fn transports(&self) -> &'static [Transport] {
        if self.connections {
            &[Transport::Tcp, Transport::Udp]
        } else {
            &[]
        }
    }
}

/// What was asked for, as it is printed.
pub fn answer(
    query: &Query,
    population: Population,
    holdings: &Holdings,
) -> Result<Vec<u8>, Missing> {
    let now = clock::boot_time();
    let mut sockets = by_process(listing::held(query.netns, holdings, now));
    let owners: Vec<ProcessKey> = sockets.keys().copied().collect();
    let family = Family::of(population, owners);
    let tree = tree(query, &family, &mut sockets)?;
    Ok(match &query.look {
        Some(look) => tree::draw(&tree, *look, now, Users::of_host()).into_bytes(),
        None => {
            let mut out = Vec::new();
            json().tree(&tree, now, &mut out);
            out
        }
    })
}

type Sockets = HashMap<ProcessKey, Vec<Socket>>;

/// Each socket below its owner; where nobody knows who that is, below everyone who holds it.
fn by_process(mut sockets: Vec<Socket>) -> Sockets {
    // A TCP socket in CLOSE is neither connected nor about to be.
    sockets.retain(|it| it.transport == Transport::Udp || it.state != TcpState::Close);
    sockets.sort_by_key(|it| {
        let ends = (it.endpoints.local, it.endpoints.remote);
        (!it.is_listening(), it.transport, it.endpoints.netns, ends)
    });
    let mut by_process = Sockets::default();
    for socket in sockets {
        let whose: Vec<ProcessKey> = match &socket.owner {
            Some(owner) => vec![owner.key],
            None => socket.holders.iter().map(|holder| holder.key).collect(),
        };
        for key in whose {
            by_process.entry(key).or_default().push(socket.clone());
        }
    }
    by_process
}

fn tree(query: &Query, family: &Family, sockets: &mut Sockets) -> Result<Tree, Missing> {
    let subject = family.find(query.wanted)?;
    let lone = |member: &Member, sockets: &mut Sockets| Node {
        sockets: sockets.remove(&member.image.key).unwrap_or_default(),
        member: member.clone(),
        children: Vec::new(),
        omitted: 0,
    };
    let ancestors = family.ancestors(subject).into_iter();
    let ancestors = ancestors.map(|member| lone(member, sockets)).collect();
    let mut subject = lone(subject, sockets);
    let key = subject.member.image.key;
    add_descendants(
        &mut subject,
        query.generations.min(GENERATIONS_MAX),
        &mut |parent| family.children(parent).filter(|it| it.image.key != key),
        &mut |member| lone(member, sockets),
    );
    Ok(Tree { ancestors, subject })
}

/// Recurses at most `generations` deep.
fn add_descendants<'a, C: Iterator<Item = &'a Member>>(
    node: &mut Node,
    generations: u32,
    children: &mut impl FnMut(ProcessKey) -> C,
    lone: &mut impl FnMut(&Member) -> Node,
) {
    let key = node.member.image.key;
    if generations == 0 {
        node.omitted = count_descendants(key, children);
        return;
    }
    node.children = children(key).map(&mut *lone).collect();
    for child in &mut node.children {
        add_descendants(child, generations - 1, children, lone);
    }
}

fn count_descendants<'a, C: Iterator<Item = &'a Member>>(
    of: ProcessKey,
    children: &mut impl FnMut(ProcessKey) -> C,
) -> usize {
    let mut count = 0;
    let mut left = vec![of];
    while let Some(key) = left.pop() {
        for child in children(key) {
            count += 1;
            left.push(child.image.key);
        }
    }
    count
}

fn json() -> Json {
    Json::new(Context {
        host: Host::read(),
        offset: WallOffset::measure(),
        hooks: HookNames::default(),
        users: Users::of_host(),
        netns: netns::Names::of_host(),
    })
}
