//! Arguments that make no sense: status 2, before anything is touched.

use tests::facts;
use tests::suite::Fact;

use crate::failing::{expect_failure, run, tracer};

pub(crate) fn facts() -> Vec<Fact> {
    facts![
        an_unknown_flag_is_named,
        an_unknown_command_is_named,
        a_bad_metrics_address_is_named,
        a_bad_hook_mode_is_named_with_the_good_ones,
    ]
}

fn an_unknown_flag_is_named() {
    expect_failure(&mut run(&["--no-such-flag"]), 2, &["--no-such-flag"]);
}

fn an_unknown_command_is_named() {
    expect_failure(&mut tracer(&["no-such-command"]), 2, &["no-such-command"]);
}

fn a_bad_metrics_address_is_named() {
    for address in ["nowhere", "127.0.0.1", "127.0.0.1:65536", "256.0.0.1:80"] {
        expect_failure(
            &mut tracer(&["run", "--metrics-listen", address]),
            2,
            &["--metrics-listen", address],
        );
    }
}

fn a_bad_hook_mode_is_named_with_the_good_ones() {
    let words = ["uprobe", "fentry", "kprobe", "tracepoint"];
    expect_failure(&mut run(&["--hook-mode", "uprobe"]), 2, &words);
}
