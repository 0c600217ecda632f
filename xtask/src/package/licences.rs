//! The licences of all that is linked into the program: cargo's metadata in, one text out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Each crate with its licence, then the texts, each once, with the crates that bring it.
pub(super) fn text(metadata: &Value) -> Result<String> {
    let linked = linked(metadata)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let mut list = BTreeSet::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages {
        let word = |key: &str| package[key].as_str().unwrap_or_default();
        if !linked.contains(word("id")) || package["source"].is_null() {
            continue;
        }
        let name = format!("{} {}", word("name"), word("version"));
        list.insert(format!("{name}: {}", word("license")));
        for text in texts_of(Path::new(word("manifest_path")))? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    let mut all =
        "tracer is offered under MIT or Apache-2.0. It contains these crates:\n\n".to_owned();
    list.iter().for_each(|line| all += &format!("{line}\n"));
    for (text, names) in texts {
        let names: Vec<_> = names.into_iter().collect();
        write!(
            all,
            "\n{}\n{}:\n\n{text}\n",
            "-".repeat(72),
            names.join(", ")
        )?;
    }
    Ok(all)
}

/// The IDs of the packages that `tracer` depends on at run time.
fn linked(metadata: &Value) -> Result<BTreeSet<&str>> {
    let nodes = metadata["resolve"]["nodes"]
        .as_array()
        .context("no dependencies")?;
    let by_id: BTreeMap<&str, &Value> = nodes
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let root = by_id.keys().find(|id| id.contains("/tracer#"));
    let mut waiting = vec![*root.context("no package tracer")?];
    let mut linked = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !linked.insert(id) {
            continue;
        }
        let dependencies = by_id.get(id).and_then(|node| node["deps"].as_array());
        for dependency in dependencies.into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array();
            let is_normal = |kind: &Value| kind["kind"].is_null();
            if kinds.is_some_and(|kinds| kinds.iter().any(is_normal)) {
                waiting.extend(dependency["pkg"].as_str());
            }
        }
    }
    Ok(linked)
}

/// The licence texts beside a crate's manifest.
fn texts_of(manifest: &Path) -> Result<Vec<String>> {
    let directory = manifest.parent().context("a manifest is in a directory")?;
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_uppercase();
        let is_licence = ["LICENSE", "LICENCE", "COPYING", "NOTICE"]
            .iter()
            .any(|word| name.starts_with(word));
        if is_licence && path.is_file() {
            let text = fs::read(&path).with_context(|| path.display().to_string())?;
            texts.push(String::from_utf8_lossy(&text).trim().to_owned());
        }
    }
    Ok(texts)
}
