//! Tests of the page: nothing in it can act, whatever names come from outside.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::{Evidence, Heading, LINES_MAX, Report};
use crate::event::BootTime;
use crate::history::window::Window;
use crate::history::{Item, What, samples};
use crate::observation::{Loss, LossUnit};
use crate::process::image::Image;

const HOSTILE: &str =
    "<img src=x onerror=alert(1)>\u{1b}[31m\u{202e}\"'&</style><script>alert(2)</script>";

fn report() -> Report {
    let heading = Heading {
        subject: HOSTILE.to_owned(),
        window: Window::ALL,
        made: samples::OFFSET,
        notes: vec![HOSTILE.to_owned()],
    };
    Report::new(heading, vec![samples::about()], &TimeZone::UTC)
}

fn page(mut report: Report) -> String {
    let evidence = Evidence {
        name: "events.ndjson".to_owned(),
        sha256: "00ff".to_owned(),
    };
    let mut page = Vec::new();
    report.write(&mut page, &evidence).unwrap();
    String::from_utf8(page).unwrap()
}

fn hostile() -> Arc<Image> {
    let init = samples::image(1, b"<b>init", b"init\0", None);
    let arguments = [HOSTILE.as_bytes(), b"\0\xff\0http://192.0.2.7/\0"].concat();
    samples::image(7, b"<img src=x>\x1b[1m", &arguments, Some(&init))
}

fn told() -> String {
    let mut report = report();
    let image = hostile();
    report.add(0, &samples::item(&image, 1000, What::Executed));
    let connection = samples::connection(&image, 2000, "192.0.2.7:445");
    let connection = samples::named(connection, HOSTILE);
    report.add(0, &samples::ended(&image, 3000, connection));
    let lost = Item {
        time: BootTime(4000),
        process: None,
        what: What::Lost(Loss {
            stage: "ring",
            kind: "<b>record",
            unit: LossUnit::Record,
            count: 41,
        }),
        over: None,
        beyond: None,
    };
    report.add(0, &lost);
    report.add(0, &samples::item(&image, 5000, What::Exited { status: 9 }));
    page(report)
}

#[test]
fn hostile_names_are_harmless() {
    let page = told();
    assert!(!page.contains("<script"), "{page}");
    assert!(!page.contains("<img"), "{page}");
    assert!(!page.contains("<b>init") && !page.contains("<b>record"));
    assert_eq!(page.matches("</style>").count(), 1);
    assert!(!page.chars().any(|it| it.is_control() && it != '\n'));
    assert!(!page.contains('\u{202e}'));
    assert!(page.contains(r"&lt;img src=x onerror=alert(1)&gt;\u{1b}[31m\u{202e}&quot;&#39;&amp;"));
    assert!(page.contains(r"\xff"), "a byte that is no text is shown");
}

#[test]
fn nothing_is_loaded_from_anywhere() {
    let page = told();
    for loads in [
        "src=", "@import", "url(", "<link", "<iframe", "<object", "<form",
    ] {
        let found: Vec<_> = page.match_indices(loads).collect();
        // Text may say anything, as long as no quote follows that could be an attribute's.
        let is_text = |(at, _): &(usize, &str)| page[..*at].ends_with("&lt;img ");
        assert!(found.iter().all(is_text), "{loads}");
    }
    let mut links = page.match_indices("href=\"");
    assert!(links.all(|(at, _)| page[at + "href=\"".len()..].starts_with('#')));
    assert!(page.contains("default-src 'none'"));
    assert!(!page.contains(" style=\""), "the policy refuses it");
}

#[test]
fn the_page_tells_what_happened_and_what_was_lost() {
    let page = told();
    for expected in [
        "connects to 192.0.2.7:445",
        "closed in order (SF)",
        "41 records",
        "killed by SIGKILL",
        "(host 192.0.2.7 and tcp port 445)",
        "ip daddr 192.0.2.7 tcp dport 445 counter reject",
        "events.ndjson, 4 events",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
}

#[test]
fn what_there_is_no_room_for_is_told() {
    let mut report = report();
    let image = hostile();
    for number in 0..LINES_MAX as u64 + 3 {
        let connection = samples::connection(&image, number, "192.0.2.7:445");
        report.add(0, &samples::ended(&image, number + 1, connection));
    }
    let page = page(report);
    assert!(page.contains("3 more events are not in this timeline"));
    assert!(page.contains("<b>20003</b>"));
}

#[test]
fn without_events_there_is_nothing_to_tell() {
    let mut empty = report();
    assert!(empty.is_empty());
    empty.add(0, &samples::item(&hostile(), 1, What::Executed));
    assert!(!empty.is_empty());
}
