//! Valgrind, whose callgrind counts instructions the same in every run.

use super::{Item, Scope, apt};
use crate::paths;

const NAME: &str = "valgrind";

pub(super) fn item() -> Item {
    Item {
        name: "Valgrind".to_owned(),
        scope: Scope::Bench,
        find: Box::new(|| paths::program(NAME).map(|path| path.display().to_string())),
        install: Box::new(|| apt::install(&[NAME.to_owned()])),
        by_hand: Box::new(|| vec![apt::by_hand(&[NAME.to_owned()])]),
    }
}
