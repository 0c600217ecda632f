//! `cargo xtask image`: an image for containers that holds the program, its licences and nothing else.
//!
//! In: this workspace. Out: an archive as the OCI image specification describes it, which Podman, containerd, skopeo
//! and others load. It is written here rather than by another tool, so that the same sources give the same digest
//! wherever and whenever it is made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Contents, create, epoch, host, write};
use crate::{command, paths, setup};

/// What the image is called.
const NAME: &str = "localhost/tracer";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Install nothing; say what is missing and what to type
    #[arg(long)]
    no_setup: bool,
}

pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::ensure(setup::Scope::Build, !options.no_setup)?;
    let contents = Contents::prepare()?;
    let image = build(&contents)?;
    println!("{}  {}", image.digest, image.path.display());
    Ok(ExitCode::SUCCESS)
}

/// An image in a file.
pub(crate) struct Image {
    pub(crate) path: PathBuf,
    /// That of its manifest, by which registries know it.
    pub(crate) digest: String,
}

/// Writes the archive.
pub(crate) fn build(contents: &Contents) -> Result<Image> {
    let place = contents.directory.join("image");
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
    }
    let layout = Layout::create(place.join("layout"))?;
    let epoch = epoch()?;
    let layer = layout.add(&layer(contents, &place, &epoch)?)?;
    let labels = labels(contents);
    let platform = platform()?;
    let configuration = json!({
        "architecture": platform.1,
        "os": "linux",
        "created": created(&epoch)?,
        "config": {
            "Entrypoint": ["/usr/bin/tracer"],
            "Cmd": ["run"],
            "Env": ["PATH=/usr/bin"],
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
        "history": [{"created": created(&epoch)?, "created_by": "cargo xtask image"}],
    });
    let configuration = layout.add(configuration.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": configuration.describe("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.describe("application/vnd.oci.image.layer.v1.tar")],
        "annotations": labels,
    });
    let manifest = layout.add(manifest.to_string().as_bytes())?;
    let mut described = manifest.describe(MANIFEST);
    described["platform"] = json!({"os": "linux", "architecture": platform.1});
    let name = format!("{NAME}:{}", contents.version);
    described["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    layout.finish(&described)?;
    let path = contents.directory.join(format!(
        "tracer-{}-{}.oci.tar",
        contents.version, platform.1
    ));
    pack(&layout.directory, &path, &epoch)?;
    Ok(Image {
        path,
        digest: manifest.digest,
    })
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// The root directory of the image as a tar file.
fn layer(contents: &Contents, place: &Path, epoch: &str) -> Result<Vec<u8>> {
    let root = place.join("root");
    let [bin, doc] = ["usr/bin", "usr/share/doc/tracer"].map(|name| root.join(name));
    create(&bin)?;
    create(&doc)?;
    let copy = |from: &Path, to: PathBuf| {
        fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))
    };
    copy(&contents.directory.join("tracer"), bin.join("tracer"))?;
    copy(&contents.directory.join("LICENSES"), doc.join("LICENSES"))?;
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&paths::repository().join(name), doc.join(name))?;
    }
    let file = place.join("layer.tar");
    pack(&root, &file, epoch)?;
    fs::read(&file).with_context(|| file.display().to_string())
}

/// Packs a directory so that only names, contents and whether a file can be executed count.
fn pack(directory: &Path, into: &Path, epoch: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--format=ustar",
        "--sort=name",
        "--numeric-owner",
    ]);
    tar.args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX"]);
    tar.arg(format!("--mtime=@{epoch}")).arg("--file").arg(into);
    tar.arg("--directory").arg(directory);
    let mut names: Vec<_> = fs::read_dir(directory)?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    command::run(tar.args(names))
}

/// What the image says of itself, by the names that the specification has for it.
fn labels(contents: &Contents) -> BTreeMap<String, String> {
    let label = |name: &str, value: &str| {
        let name = format!("org.opencontainers.image.{name}");
        (name, value.to_owned())
    };
    BTreeMap::from([
        label("title", "tracer"),
        label(
            "description",
            "Attributes every network connection on a Linux host to a process lineage",
        ),
        label("licenses", "MIT OR Apache-2.0"),
        label("version", &contents.version),
    ])
}

/// What this machine is called by Rust and by the specification.
fn platform() -> Result<(String, &'static str)> {
    let host = host()?;
    let architecture = match host.split('-').next() {
        Some("x86_64") => "amd64",
        Some("aarch64") => "arm64",
        _ => bail!("no image for {host}"),
    };
    Ok((host, architecture))
}

/// The time of the last commit as RFC 3339.
fn created(epoch: &str) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "+%Y-%m-%dT%H:%M:%SZ"]);
    let told = command::text(date.arg(format!("--date=@{epoch}")))?;
    Ok(told.trim().to_owned())
}

/// A directory as the specification has it: files by their digests, and an index.
struct Layout {
    directory: PathBuf,
    blobs: PathBuf,
}

/// A file in it.
struct Blob {
    /// `sha256:` and hexadecimal digits.
    digest: String,
    /// In bytes.
    size: usize,
}

impl Blob {
    fn describe(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": self.digest, "size": self.size})
    }
}

impl Layout {
    fn create(directory: PathBuf) -> Result<Self> {
        let blobs = directory.join("blobs/sha256");
        create(&blobs)?;
        Ok(Self { directory, blobs })
    }

    fn add(&self, contents: &[u8]) -> Result<Blob> {
        let unnamed = self.blobs.join("unnamed");
        write(&unnamed, contents)?;
        let said = command::text(Command::new("sha256sum").arg(&unnamed))?;
        let digest = said.split(' ').next().context("no digest")?;
        fs::rename(&unnamed, self.blobs.join(digest)).context("naming a file by its digest")?;
        Ok(Blob {
            digest: format!("sha256:{digest}"),
            size: contents.len(),
        })
    }

    fn finish(&self, manifest: &Value) -> Result<()> {
        let layout = json!({"imageLayoutVersion": "1.0.0"});
        write(
            &self.directory.join("oci-layout"),
            layout.to_string().as_bytes(),
        )?;
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [manifest],
        });
        write(
            &self.directory.join("index.json"),
            index.to_string().as_bytes(),
        )
    }
}
