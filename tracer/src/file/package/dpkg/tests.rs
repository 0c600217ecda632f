//! A database of dpkg, written by hand: what it says of a file.

use std::fs;
use std::path::Path;

use super::super::super::digest::Reader;
use super::super::super::root::tests::{content, root_at};
use super::*;

const CONTENT: &[u8] = b"abc";
const SUM: &str = "900150983cd24fb0d6963f7d28e17f72";

/// A root with a merged `/usr`, where `tool` has `/usr/bin/tool` and others, `diverting` has diverted
/// `/usr/bin/diverted`, and `broken` is half installed.
fn fixture(root: &Path) {
    for directory in [
        "usr/bin",
        "etc",
        "var/lib/dpkg/info",
        "var/lib/dpkg/updates",
    ] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    std::os::unix::fs::symlink("usr/bin", root.join("bin")).unwrap();
    for program in [
        "tool",
        "diverted",
        "diverted.real",
        "local",
        "broken",
        "conf",
    ] {
        fs::write(root.join("usr/bin").join(program), CONTENT).unwrap();
    }
    let dpkg = root.join("var/lib/dpkg");
    for (name, text) in [
        (
            "info/tool:amd64.list",
            "/.\n/bin\n/bin/tool\n/usr/bin/diverted\n/usr/bin/conf\n".to_owned(),
        ),
        (
            "info/tool:amd64.md5sums",
            format!("{SUM}  bin/tool\n{}  usr/bin/diverted\n", "0".repeat(32)),
        ),
        ("info/diverting.list", "/usr/bin/diverted\n".to_owned()),
        ("info/broken.list", "/usr/bin/broken\n".to_owned()),
        (
            "diversions",
            "/usr/bin/diverted\n/usr/bin/diverted.real\ndiverting\n".to_owned(),
        ),
        ("status", status()),
    ] {
        fs::write(dpkg.join(name), text).unwrap();
    }
}

fn status() -> String {
    let paragraph = |name: &str, state: &str, architecture: &str, rest: &str| {
        format!(
            "Package: {name}\nStatus: install ok {state}\nArchitecture: {architecture}\n\
             Version: 1:2.3-4\n{rest}Description: of {name}\n more\n\n"
        )
    };
    let conffiles = format!("Conffiles:\n /etc/other 0 obsolete\n /usr/bin/conf {SUM}\n");
    [
        paragraph("tool", "installed", "i386", ""),
        paragraph("tool", "installed", "amd64", &conffiles),
        paragraph("diverting", "installed", "all", ""),
        paragraph("broken", "half-installed", "all", ""),
    ]
    .concat()
}

fn ask(dpkg: &mut Dpkg, root: &Path, path: &str) -> Answer {
    ask_within(Budget::default(), dpkg, root, path)
}

fn ask_within(budget: Budget, dpkg: &mut Dpkg, root: &Path, path: &str) -> Answer {
    let root = root_at(root);
    let stat = root.stat(path.as_bytes()).unwrap();
    let content = content(&root, path.as_bytes());
    let size = content.len() as u64;
    dpkg.ask(&Question {
        root: &root,
        path: path.as_bytes(),
        stat: &stat,
        digests: Reader::new(u64::MAX).digests(&*content, size).unwrap(),
        budget,
    })
}

/// Name, version, architecture and whether the file is intact, of each package that has it; `None` if
/// the database does not tell.
fn owners(root: &Path, path: &str) -> Option<Vec<(String, Option<bool>)>> {
    owners_by(&mut Dpkg::default(), root, path)
}

fn owners_by(dpkg: &mut Dpkg, root: &Path, path: &str) -> Option<Vec<(String, Option<bool>)>> {
    let text = |bytes: &bytes::Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    match ask(dpkg, root, path) {
        Answer::Owners(owners) => {
            let owners = owners.iter().map(|package| {
                let words = [&package.name, &package.version, &package.architecture];
                (words.map(text).join(" "), package.intact)
            });
            Some(owners.collect())
        }
        Answer::NoDatabase | Answer::Unreadable => None,
    }
}

fn one(package: &str, intact: Option<bool>) -> Option<Vec<(String, Option<bool>)>> {
    Some(vec![(package.to_owned(), intact)])
}

#[test]
fn a_file_of_a_merged_directory_has_the_package_that_lists_it_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    let tool = one("tool 1:2.3-4 amd64", Some(true));
    assert_eq!(owners(directory.path(), "/usr/bin/tool"), tool);
}

#[test]
fn what_no_package_lists_has_none() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    assert_eq!(owners(directory.path(), "/usr/bin/local"), Some(vec![]));
}

#[test]
fn a_changed_file_is_not_intact() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    fs::write(directory.path().join("usr/bin/tool"), "other").unwrap();
    let tool = one("tool 1:2.3-4 amd64", Some(false));
    assert_eq!(owners(directory.path(), "/usr/bin/tool"), tool);
}

#[test]
fn a_diverted_file_is_where_it_was_diverted_to() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    let diverting = one("diverting 1:2.3-4 all", None);
    assert_eq!(owners(directory.path(), "/usr/bin/diverted"), diverting);
    let diverted = one("tool 1:2.3-4 amd64", Some(false));
    assert_eq!(owners(directory.path(), "/usr/bin/diverted.real"), diverted);
}

#[test]
fn a_conffile_has_its_digest_in_the_status() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    let tool = one("tool 1:2.3-4 amd64", Some(true));
    assert_eq!(owners(directory.path(), "/usr/bin/conf"), tool);
}

#[test]
fn a_half_installed_package_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    assert_eq!(owners(directory.path(), "/usr/bin/broken"), None);
}

#[test]
fn while_dpkg_works_it_says_nothing() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    fs::write(directory.path().join("var/lib/dpkg/updates/0001"), "").unwrap();
    assert_eq!(owners(directory.path(), "/usr/bin/local"), None);
}

#[test]
fn a_database_without_a_status_is_none() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    fs::remove_file(directory.path().join("var/lib/dpkg/status")).unwrap();
    let answer = ask(&mut Dpkg::default(), directory.path(), "/usr/bin/tool");
    assert!(matches!(answer, Answer::NoDatabase));
}

#[test]
fn a_database_that_has_changed_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    let mut dpkg = Dpkg::default();
    assert_eq!(
        owners_by(&mut dpkg, directory.path(), "/usr/bin/local"),
        Some(vec![])
    );
    let list = directory.path().join("var/lib/dpkg/info/diverting.list");
    fs::write(
        list.with_extension("new"),
        "/usr/bin/diverted\n/usr/bin/local\n",
    )
    .unwrap();
    fs::rename(list.with_extension("new"), list).unwrap();
    let diverting = one("diverting 1:2.3-4 all", None);
    assert_eq!(
        owners_by(&mut dpkg, directory.path(), "/usr/bin/local"),
        diverting
    );
    assert_eq!(dpkg.databases.len(), 1);
}

#[test]
fn few_databases_are_remembered() {
    let mut dpkg = Dpkg::default();
    let roots: Vec<_> = (0..ROOTS + 2)
        .map(|_| tempfile::tempdir().unwrap())
        .collect();
    for root in &roots {
        fixture(root.path());
        assert!(owners_by(&mut dpkg, root.path(), "/usr/bin/tool").is_some());
    }
    assert_eq!(dpkg.databases.len(), ROOTS);
}

#[test]
fn a_database_that_costs_too_much_is_unknown_and_not_read_again_before_it_changes() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    let mut dpkg = Dpkg::default();
    let path = "/usr/bin/local";
    let answer = ask_within(Budget::new(100, 100), &mut dpkg, directory.path(), path);
    assert!(matches!(answer, Answer::Unreadable));
    assert_eq!(owners_by(&mut dpkg, directory.path(), path), None);
    let status = directory.path().join("var/lib/dpkg/status");
    fs::remove_file(&status).unwrap();
    fs::write(&status, format!("{}\n", self::status())).unwrap();
    assert_eq!(owners_by(&mut dpkg, directory.path(), path), Some(vec![]));
}

#[test]
fn a_file_whose_name_is_listed_too_often_is_unknown_not_unpackaged() {
    let directory = tempfile::tempdir().unwrap();
    fixture(directory.path());
    let list = directory.path().join("var/lib/dpkg/info/tool:amd64.list");
    fs::write(list, "/etc/local\n".repeat(5)).unwrap();
    for (lookups, is_known) in [(4, false), (5, true)] {
        let budget = Budget::new(1 << 20, lookups);
        let mut dpkg = Dpkg::default();
        let answer = ask_within(budget, &mut dpkg, directory.path(), "/usr/bin/local");
        assert_eq!(matches!(answer, Answer::Owners(_)), is_known, "{lookups}");
    }
}
