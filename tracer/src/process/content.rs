//! What is known of one content of an executed file. Everyone who runs it shares it.
//!
//! In: the version that the kernel told, and facts, once somebody has examined the file. Out: the facts,
//! to outputs. The state itself never reads them, so that what it concludes does not depend on them.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::event::{FileVersion, ProcessKey};
use crate::passwd::Names;

/// How often an examination may fail before nobody asks for another, but for one at each exec.
const ATTEMPTS: u8 = 8;

/// One content of one file.
#[derive(Debug)]
pub struct Content {
    version: FileVersion,
    facts: OnceLock<Facts>,
    /// Somebody has been asked to examine it.
    requested: AtomicBool,
    failures: AtomicU8,
    /// Who executed it when it was so young that another content could have the same version.
    young_executor: OnceLock<ProcessKey>,
    /// That happened twice.
    ambiguous: AtomicBool,
}

/// What an examination has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// SHA-256 of the content; `None` if it is too large to be read.
    pub sha256: Option<[u8; 32]>,
    /// The GNU build ID; `None` if there is none.
    pub build_id: Option<Box<[u8]>>,
    /// Where it comes from.
    pub origin: Origin,
    /// The users of the root in which it was run, unless that is the host's or not known.
    pub users: Option<Arc<Names>>,
}

/// Where a file comes from, by the package databases of the root in which it was run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Not known: no database, an unknown kind of database, or not readable.
    #[default]
    Unknown,
    /// No package has it.
    Unpackaged,
    /// This package has it.
    Package(Box<Package>),
}

/// A package that is installed. Its strings are as the database has them: bytes of any value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Of which system.
    pub kind: PackageKind,
    /// Its name.
    pub name: Bytes,
    /// Its version: of an RPM `[EPOCH:]VERSION-RELEASE`.
    pub version: Bytes,
    /// For which architecture.
    pub architecture: Bytes,
    /// Whether the file is as the package brought it; `None` if the database does not tell.
    pub intact: Option<bool>,
}

/// A system of packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageKind {
    /// Of dpkg.
    Deb,
    /// Of rpm.
    Rpm,
}

impl Content {
    /// A content of which nothing is known yet.
    pub fn new(version: FileVersion) -> Self {
        Self {
            version,
            facts: OnceLock::new(),
            requested: AtomicBool::new(false),
            failures: AtomicU8::new(0),
            young_executor: OnceLock::new(),
            ambiguous: AtomicBool::new(false),
        }
    }

    /// Which content it is.
    pub fn version(&self) -> &FileVersion {
        &self.version
    }

    /// What is known of it by now.
    pub fn facts(&self) -> Option<&Facts> {
        let facts = self.facts.get()?;
        (!self.ambiguous.load(Ordering::Relaxed)).then_some(facts)
    }

    /// It is executed so soon after it was changed that a further change would have had the same time. One
    /// such exec is of one content; two may be of two, of which then nothing is known.
    pub fn executed_young(&self, executor: ProcessKey) {
        if self.young_executor.set(executor).is_err() {
            self.ambiguous.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was executed young, however much later somebody asks for it.
    pub fn was_executed_young(&self) -> bool {
        self.young_executor.get().is_some()
    }

    /// Whether a process can show what it is: of one that was executed young, whoever executed it later may
    /// run another.
    pub fn is_shown_by(&self, process: ProcessKey) -> bool {
        self.young_executor
            .get()
            .is_none_or(|executor| *executor == process)
    }

    /// It is executed again: if nobody asks for it any more, one more attempt is worth while.
    pub fn executed(&self) {
        let refilled = self.failures.compare_exchange(
            ATTEMPTS,
            ATTEMPTS - 1,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        if refilled.is_ok() {
            self.withdraw();
        }
    }

    /// Whether an examination has still to be asked for.
    pub fn is_wanted(&self) -> bool {
        !self.requested.load(Ordering::Relaxed)
    }

    /// Whether the caller is to ask for an examination: true for one caller only.
    pub fn request(&self) -> bool {
        !self.requested.swap(true, Ordering::Relaxed)
    }

    /// Nobody examines it after all: it may be asked for again.
    pub fn withdraw(&self) {
        self.requested.store(false, Ordering::Relaxed);
    }

    /// It could not be examined, this time. It may be asked for again, some times.
    pub fn fail(&self) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < ATTEMPTS {
            self.withdraw();
        }
    }

    /// It has been examined. What was found first stays.
    pub fn learn(&self, facts: Facts) {
        let _ = self.facts.set(facts);
    }
}

impl Facts {
    /// Whether no package has it.
    pub fn is_unpackaged(&self) -> bool {
        self.origin == Origin::Unpackaged
    }

    /// Whether a package brought it so, as far as its database tells.
    pub fn is_packaged(&self) -> bool {
        matches!(&self.origin, Origin::Package(package) if package.intact != Some(false))
    }

    /// Whether it differs from what its package brought.
    pub fn is_altered(&self) -> bool {
        matches!(&self.origin, Origin::Package(package) if package.intact == Some(false))
    }
}

/// A version is one content.
impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
    }
}

impl Eq for Content {}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ProcessKey = ProcessKey {
        tgid: 1,
        start_ns: 1,
    };
    const SECOND: ProcessKey = ProcessKey {
        tgid: 2,
        start_ns: 2,
    };

    #[test]
    fn it_is_asked_for_once_and_again_only_after_it_was_withdrawn() {
        let content = Content::new(FileVersion::default());
        assert!(content.is_wanted() && content.request());
        assert!(!content.is_wanted() && !content.request());
        content.withdraw();
        assert!(content.is_wanted() && content.request());
    }

    #[test]
    fn two_execs_within_the_time_that_a_change_can_hide_in_are_of_unknown_contents() {
        let content = Content::new(FileVersion::default());
        content.learn(Facts::default());
        content.executed_young(FIRST);
        assert!(content.facts().is_some());
        content.executed_young(SECOND);
        assert!(content.facts().is_none());
    }

    #[test]
    fn a_content_that_was_executed_young_is_shown_by_its_executor_alone() {
        let content = Content::new(FileVersion::default());
        assert!(content.is_shown_by(FIRST) && content.is_shown_by(SECOND));
        content.executed_young(FIRST);
        assert!(content.was_executed_young());
        assert!(content.is_shown_by(FIRST) && !content.is_shown_by(SECOND));
    }

    #[test]
    fn what_cannot_be_examined_is_not_asked_for_for_ever() {
        let content = Content::new(FileVersion::default());
        for _ in 0..ATTEMPTS {
            assert!(content.request());
            content.executed();
            content.fail();
        }
        assert!(!content.request());
        for _ in 0..2 {
            content.executed();
            content.executed();
            assert!(content.request(), "a new exec is worth an attempt");
            assert!(!content.request());
            content.fail();
            assert!(!content.request(), "one, not more");
        }
    }
}
