//! Look-ups that end in every way.

use tracer::dns::record::{Data, Record};
use tracer::dns::{Answer, Ending, Flags, Lookup, Question};
use tracer::event::{Endpoints, Transport};

/// One answered with an alias and two addresses, one refused to a resolver, one without an answer, and one
/// of which nobody knows.
pub(super) fn all() -> [Lookup; 4] {
    [answered(), refused(), unanswered(), unknown()]
}

fn question(name: &str, kind: u16) -> Question {
    Question {
        name: name.into(),
        kind,
        class: 1,
    }
}

fn record(name: &str, kind: u16, ttl: u32, data: Data) -> Record {
    Record {
        name: name.into(),
        kind,
        ttl,
        data,
    }
}

fn answered() -> Lookup {
    let asked = Flags {
        recursion_desired: true,
        ..Flags::default()
    };
    let target = "edge.example.net";
    let alias = Data::Alias(target.into());
    let address = |text: &str| Data::Address(text.parse().expect("an address"));
    let answer = Answer {
        flags: Flags {
            recursion_available: true,
            ..asked
        },
        records: vec![
            record("Example.org", 5, 300, alias),
            record(target, 1, 20, address("192.0.2.1")),
            record(target, 28, 60, address("::ffff:192.0.2.2")),
            record(target, 28, 60, address("2001:db8::1")),
        ],
        ..Answer::default()
    };
    Lookup {
        endpoints: Endpoints {
            netns: 4_026_531_840,
            local: "127.0.0.1:40001".parse().expect("an address"),
            remote: "127.0.0.53:53".parse().expect("an address"),
            ipv6_socket: false,
        },
        transport: Transport::Udp,
        id: 4660,
        question: question("Example.org", 1),
        asked,
        attempts: 1,
        by_resolver: false,
        ending: Ending::Answered(answer),
    }
}

fn refused() -> Lookup {
    let answer = Answer {
        code: 3,
        flags: Flags {
            authoritative: true,
            authentic_data: true,
            checking_disabled: true,
            ..Flags::default()
        },
        records: vec![record("odd.example", 16, 0, Data::Text("\"a b\"".into()))],
        omitted: 3,
        malformed: true,
        incomplete: false,
    };
    Lookup {
        endpoints: Endpoints {
            local: "[2001:db8::1]:40002".parse().expect("an address"),
            remote: "[2001:db8::53]:53".parse().expect("an address"),
            ipv6_socket: true,
            ..answered().endpoints
        },
        transport: Transport::Tcp,
        question: question(r"\027[31m.a\.b.no-such-name.example", 65_280),
        attempts: 2,
        by_resolver: true,
        ending: Ending::Answered(answer),
        ..answered()
    }
}

fn unanswered() -> Lookup {
    Lookup {
        question: question("a-name-that-is-too-long-for-its-column.example.org", 28),
        attempts: 2,
        ending: Ending::Unanswered,
        ..answered()
    }
}

fn unknown() -> Lookup {
    Lookup {
        question: question(".", 2),
        ending: Ending::Unknown,
        ..answered()
    }
}
