//! cargo-deb, which makes packages for Debian.

use super::{Item, Scope, tools};
use crate::paths;

const VERSION: &str = "3.8.0";

pub(super) fn item() -> Item {
    Item {
        name: format!("cargo-deb {VERSION}"),
        scope: Scope::Packages,
        find: Box::new(|| Some(paths::program("cargo-deb")?.display().to_string())),
        install: Box::new(|| {
            let place = format!("cargo-deb-{VERSION}");
            let environment = [
                ("CARGO_PROFILE_RELEASE_LTO", "off".to_owned()),
                ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16".to_owned()),
                ("CARGO_PROFILE_RELEASE_DEBUG", "0".to_owned()),
                ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1".to_owned()),
            ];
            let arguments = ["--no-default-features".to_owned()];
            tools::cargo_install("cargo-deb", VERSION, &place, &arguments, &environment)
        }),
        by_hand: Box::new(|| {
            vec![format!(
                "cargo install cargo-deb --locked --version ={VERSION}"
            )]
        }),
    }
}
