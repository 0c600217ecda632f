//! Packages of several Debian suites at once, without touching the machine's own: an apt
//! configuration of our own in the cache, with the mirrors that the machine's apt uses.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};

use super::{apt, tools};
use crate::{command, paths};

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.pgp",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
];

/// Suites in the main archive and in the security archive that have the kernels of the matrix.
const MAIN: [&str; 4] = ["bullseye", "bookworm", "trixie", "sid"];
const SECURITY: [&str; 2] = ["bullseye-security", "bookworm-security"];

/// Unpacks a package into a directory, without installing it.
pub(super) fn unpack(package: &Path, into: &Path) -> Result<()> {
    command::run(Command::new("dpkg-deb").arg("-x").arg(package).arg(into))
}

/// Unpacks packages of one suite with all that they depend on, without installing them: each package's name
/// and version. libc alone is the machine's.
pub(super) fn unpack_with_dependencies(
    packages: &[&str],
    suite: &str,
    into: &Path,
) -> Result<Vec<[String; 2]>> {
    let downloads = tools::partial("packages")?;
    Archive::open()?.download_with_dependencies(packages, suite, &downloads)?;
    let mut unpacked = Vec::new();
    for package in packages_in(&downloads)? {
        let described = describe(&package)?;
        if described[0] != "libc6" {
            unpack(&package, into)?;
            unpacked.push(described);
        }
    }
    tools::remove(&downloads)?;
    Ok(unpacked)
}

/// An apt of our own.
pub(super) struct Archive {
    directory: PathBuf,
}

impl Archive {
    /// Writes the configuration and downloads the lists of packages, once in this process.
    pub(super) fn open() -> Result<&'static Self> {
        static OPEN: OnceLock<Archive> = OnceLock::new();
        if let Some(archive) = OPEN.get() {
            return Ok(archive);
        }
        let archive = Self::update()?;
        Ok(OPEN.get_or_init(|| archive))
    }

    fn update() -> Result<Self> {
        let directory = paths::cache()?.join("apt");
        for part in ["lists/partial", "archives/partial", "none"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("creating {}", part.display()))?;
        }
        let archive = Self { directory };
        archive.write("status", "")?;
        archive.write("sources.list", &sources()?)?;
        command::run(archive.command("apt-get").arg("update"))?;
        Ok(archive)
    }

    /// The names of all packages that begin with `prefix`.
    pub(super) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = command::text(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The version that [`Archive::unpack`] takes.
    pub(super) fn version(&self, package: &str) -> Result<String> {
        let mut show = self.command("apt-cache");
        let shown = command::text(show.args(["show", "--no-all-versions", package]))?;
        let version = shown
            .lines()
            .find_map(|line| line.strip_prefix("Version: "));
        Ok(version
            .with_context(|| format!("{package} has no version"))?
            .to_owned())
    }

    /// Downloads a package and unpacks its files into `directory`; none of its scripts runs.
    pub(super) fn unpack(&self, package: &str, directory: &Path) -> Result<()> {
        let download = directory.join(format!(".{package}"));
        fs::create_dir_all(&download)
            .with_context(|| format!("creating {}", download.display()))?;
        let mut get = self.command("apt-get");
        command::run(get.args(["download", package]).current_dir(&download))?;
        let file = only_package_in(&download)?;
        command::run(Command::new("dpkg-deb").arg("-x").arg(file).arg(directory))?;
        fs::remove_dir_all(&download).with_context(|| format!("removing {}", download.display()))
    }

    /// Downloads packages of one suite, and all that they depend on, into `directory`.
    fn download_with_dependencies(
        &self,
        packages: &[&str],
        suite: &str,
        directory: &Path,
    ) -> Result<()> {
        let partial = directory.join("partial");
        fs::create_dir_all(&partial).with_context(|| format!("creating {}", partial.display()))?;
        let mut get = self.command("apt-get");
        get.args(["install", "--download-only", "--yes"])
            .args(["--no-install-recommends", "--target-release", suite])
            .args(["-o", "Debug::NoLocking=true"])
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}", directory.display()));
        command::run(get.args(packages))
    }

    fn write(&self, name: &str, contents: &str) -> Result<()> {
        let file = self.directory.join(name);
        fs::write(&file, contents).with_context(|| format!("writing {}", file.display()))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let own =
            |option: &str, path: &str| format!("{option}={}", self.directory.join(path).display());
        command.arg("--quiet");
        for option in [
            own("Dir::State", ""),
            own("Dir::State::lists", "lists"),
            own("Dir::State::status", "status"),
            own("Dir::Cache", ""),
            // Some images switch these off, and every command would parse all lists anew.
            own("Dir::Cache::pkgcache", "packages.bin"),
            own("Dir::Cache::srcpkgcache", "source-packages.bin"),
            "Acquire::GzipIndexes=false".to_owned(),
            own("Dir::Etc::sourcelist", "sources.list"),
            own("Dir::Etc::sourceparts", "none"),
            own("Dir::Etc::preferencesparts", "none"),
            own("Dir::Etc::preferences", "none"),
            // The cache may lie in a home directory that apt's own user cannot enter.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// Removes the lists of packages: some hundred megabytes that only the next new kernel would need.
pub(super) fn remove_lists() -> Result<()> {
    tools::remove(&paths::cache()?.join("apt"))
}

/// The lines of our `sources.list`.
fn sources() -> Result<String> {
    let keyring = KEYRINGS.iter().find(|keyring| Path::new(keyring).exists());
    let keyring = keyring.context("no keyring of Debian's: install debian-archive-keyring")?;
    let mirrors = mirrors()?;
    let main = MAIN.iter().map(|suite| (&mirrors.main, suite));
    let security = mirrors
        .security
        .iter()
        .flat_map(|uri| SECURITY.map(|suite| (uri, suite)));
    let mut lines = String::new();
    for (uri, suite) in main.map(|(uri, suite)| (uri, *suite)).chain(security) {
        let options = format!("arch=amd64 target=Packages signed-by={keyring}");
        lines += &format!("deb [{options}] {uri} {suite} main\n");
    }
    Ok(lines)
}

struct Mirrors {
    main: String,
    security: Option<String>,
}

/// Debian's archives as the machine's apt knows them, or as `TRACER_DEBIAN_MIRROR` says.
fn mirrors() -> Result<Mirrors> {
    if let Ok(main) = env::var("TRACER_DEBIAN_MIRROR") {
        return Ok(Mirrors {
            main,
            security: None,
        });
    }
    if !apt::is_here() {
        bail!("kernels come from Debian's packages, and there is no apt-get here");
    }
    let find = || -> Result<Option<Mirrors>> {
        let format = ["--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"];
        let targets = command::text(Command::new("apt-get").arg("indextargets").args(format))?;
        let labelled = |label: &str| {
            let of_label = |line: &str| {
                line.strip_prefix(label)?
                    .strip_prefix(' ')
                    .map(str::to_owned)
            };
            targets.lines().find_map(of_label)
        };
        let security = labelled("Debian-Security");
        Ok(labelled("Debian").map(|main| Mirrors { main, security }))
    };
    if let Some(mirrors) = find()? {
        return Ok(mirrors);
    }
    // A fresh image has sources but no lists yet, and the labels stand in the lists.
    apt::update()?;
    find()?.context(
        "this machine's apt names no mirror of Debian, where the kernels come from: set \
         TRACER_DEBIAN_MIRROR to the URI of one",
    )
}

/// The one `.deb` in `directory`.
pub(super) fn only_package_in(directory: &Path) -> Result<PathBuf> {
    let mut packages = packages_in(directory)?;
    ensure!(
        packages.len() == 1,
        "{} packages in {}",
        packages.len(),
        directory.display()
    );
    packages.pop().context("no package")
}

fn packages_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory);
    let entries = entries.with_context(|| format!("reading {}", directory.display()))?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(files
        .filter(|file| file.extension().is_some_and(|extension| extension == "deb"))
        .collect())
}

/// A package's name and version.
fn describe(package: &Path) -> Result<[String; 2]> {
    let mut show = Command::new("dpkg-deb");
    show.args(["--show", "--showformat", "${Package} ${Version}"]);
    let shown = command::text(show.arg(package))?;
    let (name, version) = shown
        .split_once(' ')
        .with_context(|| format!("{} has no version", package.display()))?;
    Ok([name, version].map(str::to_owned))
}
