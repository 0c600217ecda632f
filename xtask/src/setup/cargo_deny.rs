//! cargo-deny, which checks the dependencies' licences and sources.

use super::{Item, Scope, tools};
use crate::paths;

const VERSION: &str = "0.20.2";

pub(super) fn item() -> Item {
    Item {
        name: format!("cargo-deny {VERSION}"),
        scope: Scope::Ci,
        find: Box::new(|| Some(paths::program("cargo-deny")?.display().to_string())),
        install: Box::new(|| {
            let place = format!("cargo-deny-{VERSION}");
            // It runs for a second: compiling it fast matters more than how fast it runs.
            let environment = [
                ("CARGO_PROFILE_RELEASE_LTO", "off".to_owned()),
                ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0".to_owned()),
                ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16".to_owned()),
                ("CARGO_PROFILE_RELEASE_DEBUG", "0".to_owned()),
            ];
            let arguments = ["--no-default-features".to_owned()];
            tools::cargo_install("cargo-deny", VERSION, &place, &arguments, &environment)
        }),
        by_hand: Box::new(|| {
            vec![format!(
                "cargo install cargo-deny --locked --version ={VERSION}"
            )]
        }),
    }
}
