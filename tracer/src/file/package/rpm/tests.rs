//! Databases of rpm, made by the tests: what they say of a file, and that broken ones say nothing.

use std::fs;
use std::path::Path;

use super::super::super::digest::{Digests, Reader};
use super::super::super::root::tests::root_at;
use super::super::budget::Budget;
use super::super::header::tests::{header, numbers, strings};
use super::*;

const CONTENT: &[u8] = b"a program";

fn digests() -> Digests {
    let read = Reader::new(u64::MAX).digests(CONTENT, CONTENT.len() as u64);
    read.unwrap().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A root that has `/usr/bin/prog` and, by `digest`, a package that has it.
fn fixture(root: &Path, digest: &str, algorithm: u32) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir_all(root.join("usr/lib/sysimage/rpm")).unwrap();
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    fs::write(root.join("usr/bin/prog"), CONTENT).unwrap();
    fs::write(root.join("usr/bin/other"), CONTENT).unwrap();
    let blob = header(&[
        strings(Tag::Name, &["package"]),
        strings(Tag::Version, &["1.2"]),
        strings(Tag::Release, &["3.fc40"]),
        numbers(Tag::Epoch, &[2]),
        strings(Tag::Architecture, &["x86_64"]),
        strings(Tag::FileDigests, &["", digest]),
        numbers(Tag::DirIndexes, &[0, 1]),
        strings(Tag::BaseNames, &["prog", "prog"]),
        strings(Tag::DirNames, &["/usr/share/", "/bin/"]),
        numbers(Tag::FileDigestAlgorithm, &[algorithm]),
    ]);
    let path = root.join("usr/lib/sysimage/rpm/rpmdb.sqlite");
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             CREATE TABLE 'Packages' (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL);
             CREATE TABLE 'Basenames' (key 'TEXT' NOT NULL, hnum INTEGER NOT NULL, idx INTEGER NOT NULL);
             CREATE INDEX 'Basenames_key_idx' ON 'Basenames' (key ASC);
             INSERT INTO Basenames VALUES ('prog', 1, 0), ('prog', 1, 1);",
        )
        .unwrap();
    let insert = "INSERT INTO Packages VALUES (1, ?1)";
    database.execute(insert, [blob]).unwrap();
}

fn ask_for(root: &Path, path: &[u8]) -> Answer {
    let root = root_at(root);
    let stat = root.stat(path).unwrap();
    ask(&Question {
        root: &root,
        path,
        stat: &stat,
        digests: Some(digests()),
        budget: Budget::default(),
    })
}

fn owners_of(root: &Path, path: &[u8]) -> Vec<Package> {
    match ask_for(root, path) {
        Answer::Owners(owners) => owners,
        Answer::NoDatabase => panic!("no database"),
        Answer::Unreadable => panic!("unreadable"),
    }
}

#[test]
fn the_package_is_the_one_that_lists_the_very_file() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path(), &hex(&digests().sha256), SHA256);
    let [package] = &owners_of(directory.path(), b"/usr/bin/prog")[..] else {
        panic!("not one package")
    };
    assert_eq!(package.name, "package");
    assert_eq!(package.version, "2:1.2-3.fc40");
    assert_eq!(package.architecture, "x86_64");
    assert_eq!(
        (package.kind, package.intact),
        (PackageKind::Rpm, Some(true))
    );
    assert_eq!(owners_of(directory.path(), b"/usr/bin/other"), []);
}

#[test]
fn another_digest_is_another_content_and_an_unknown_algorithm_says_nothing() {
    for (digest, algorithm, intact) in [
        (hex(&[0; 32]), SHA256, Some(false)),
        (hex(&digests().md5), MD5, Some(true)),
        (hex(&[0; 64]), 10, None),
        (String::new(), SHA256, None),
    ] {
        let directory = tempfile::tempdir().unwrap();
        fixture(directory.path(), &digest, algorithm);
        let owners = owners_of(directory.path(), b"/usr/bin/prog");
        assert_eq!(owners[0].intact, intact, "{digest} by {algorithm}");
    }
}

#[test]
fn a_database_that_is_just_written_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path(), "", SHA256);
    let log = directory
        .path()
        .join("usr/lib/sysimage/rpm/rpmdb.sqlite-wal");
    fs::write(log, "x").unwrap();
    let answer = ask_for(directory.path(), b"/usr/bin/prog");
    assert!(matches!(answer, Answer::Unreadable));
}

#[test]
fn what_is_no_database_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path(), "", SHA256);
    let path = directory.path().join("usr/lib/sysimage/rpm/rpmdb.sqlite");
    let whole = fs::read(&path).unwrap();
    for length in [0, 10, 100, whole.len() / 2] {
        fs::write(&path, &whole[..length]).unwrap();
        let answer = ask_for(directory.path(), b"/usr/bin/prog");
        assert!(matches!(answer, Answer::Unreadable), "{length}");
    }
}

#[test]
fn old_databases_are_known_as_such() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("var/lib/rpm")).unwrap();
    let root = root_at(directory.path());
    assert!(!is_of_old_kind(&root));
    fs::write(directory.path().join("var/lib/rpm/Packages"), "").unwrap();
    assert!(is_of_old_kind(&root));
}

#[test]
fn a_database_that_computes_for_ever_is_given_up() {
    let mut database = Connection::open_in_memory().unwrap();
    bound(&mut database).unwrap();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT count(*) FROM n";
    assert!(database.query_row(endless, [], |_| Ok(())).is_err());
}
