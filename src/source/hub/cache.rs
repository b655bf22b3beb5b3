//! The local cache of the hub, as its own programs lay it out: `models--org--name/refs/REVISION` holds a commit, and
//! `snapshots/COMMIT` the files, which are links to where they really lie. It is read and never written.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::HubSettings;
use super::id::HubId;
use crate::source::file_names::{Choice, choose};

/// The snapshot that has the model, or the file of it that is asked for.
///
/// # Errors
/// Why it is not in the cache, in words.
pub(in crate::source) fn find(settings: &HubSettings, id: &HubId) -> Result<PathBuf, String> {
    let cache = settings.cache.as_ref().ok_or("not a file, not in the catalogue, and there is no local cache")?;
    let repository = cache.join(format!("models--{}", id.repository.replacen('/', "--", 1)));
    if !repository.is_dir() {
        return Err(format!("not a file, not in the catalogue, not in the cache {}", cache.display()));
    }
    let snapshot = commit(&repository, &id.revision).map(|commit| repository.join("snapshots").join(commit));
    let other = || format!("the cache {} has other revisions of it only", cache.display());
    let snapshot = snapshot.filter(|snapshot| snapshot.is_dir()).ok_or_else(other)?;
    if id.file.is_none() {
        let config = snapshot.join("config.json");
        if config.is_file() {
            return Ok(snapshot);
        }
        // Links to links without end, and links to what was removed.
        if config.is_symlink() && fs::metadata(&config).is_err() {
            return Err(format!("the link {} in the cache leads nowhere", config.display()));
        }
    }
    let place = snapshot.display();
    match choose(&gguf_files(&snapshot), id.file.as_deref()) {
        Choice::One(name) => Ok(snapshot.join(name)),
        // The reader of directories lists them.
        Choice::Several(_) if id.file.is_none() => Ok(snapshot),
        Choice::None(_) if id.file.is_none() => {
            Err(format!("{place} in the cache has no config.json and no GGUF file"))
        }
        Choice::Several(_) | Choice::None(_) => {
            Err(format!("{place} in the cache does not have that file, or several like it"))
        }
    }
}

/// The commit of a revision: a full one stands for itself.
fn commit(repository: &Path, revision: &str) -> Option<String> {
    if is_commit(revision) {
        return Some(revision.to_owned());
    }
    let path = repository.join("refs").join(revision);
    if !path.is_file() {
        return None;
    }
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MAX_REFERENCE).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
}

/// More than a commit takes, in whatever hash.
const MAX_REFERENCE: u64 = 256;

/// Whether it is a full hash, which names a snapshot and nothing outside.
fn is_commit(text: &str) -> bool {
    (text.len() == 40 || text.len() == 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The GGUF files of a snapshot, and of the directories in it, by their path within it.
fn gguf_files(snapshot: &Path) -> Vec<String> {
    let names = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten();
        entries.take(MAX_FILES).filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let mut files = Vec::new();
    for path in names(snapshot) {
        if path.is_dir() && !path.is_symlink() {
            files.extend(names(&path));
        } else {
            files.push(path);
        }
    }
    let within = |path: &PathBuf| Some(path.strip_prefix(snapshot).ok()?.to_str()?.to_owned());
    let mut files: Vec<String> = files.iter().filter(|path| path.is_file()).filter_map(within).collect();
    files.sort();
    files
}

/// Files of one directory that are looked at.
const MAX_FILES: usize = 10_000;
