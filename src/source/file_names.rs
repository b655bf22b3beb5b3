//! What the names of files say: their kind, the other parts of a split file, and the model in them.

use std::fs;
use std::path::{Component, Path};

/// Parts of a split file at most.
pub(super) const MAX_PARTS: usize = 10_000;

/// Whether `argument` can only have been meant as a path.
pub(super) fn looks_like_a_path(argument: &str) -> bool {
    Path::new(argument).is_absolute()
        || argument.starts_with("./")
        || argument.starts_with("../")
        || argument.ends_with('/')
        || ["json", "gguf", "safetensors"].iter().any(|kind| has_extension(argument, kind))
}

pub(super) fn has_extension(name: &str, kind: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind))
}

/// Whether a name is of a file next to or below the index that has it.
pub(super) fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A part of a split file: `NAME-00002-of-00003.EXTENSION`.
pub(super) struct Part<'a> {
    name: &'a str,
    count: &'a str,
    extension: &'a str,
}

impl<'a> Part<'a> {
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (stem, extension) = name.rsplit_once('.')?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (name, part) = rest.rsplit_once('-')?;
        let five_digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        (five_digits(part) && five_digits(count)).then_some(Self { name, count, extension })
    }

    fn named(&self, part: usize) -> String {
        let Self { name, count, extension } = self;
        format!("{name}-{part:05}-of-{count}.{extension}")
    }

    /// The first part, which has the keys.
    pub(super) fn first(&self) -> String {
        self.named(1)
    }

    /// All parts, from 2 to [`MAX_PARTS`] of them.
    pub(super) fn all(&self) -> Option<Vec<String>> {
        let last = self.count.parse().ok().filter(|last| (2..=MAX_PARTS).contains(last))?;
        Some((1..=last).map(|part| self.named(part)).collect())
    }
}

/// The file that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one.
    One(String),
    /// It could be any of these.
    Several(Vec<String>),
    /// None is; these are there.
    None(Vec<String>),
}

/// The GGUF file among `files` that `wanted` names: by its path, or by a tag that stands in no other's name. Without
/// `wanted`, the only one; the parts of a split file are one.
pub(super) fn choose(files: &[String], wanted: Option<&str>) -> Choice {
    let is_there = |name: &str| files.iter().any(|file| file == name);
    let mut all: Vec<&String> = files.iter().filter(|name| is_language_model(name, is_there)).collect();
    all.sort();
    let owned = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
    let meant: Vec<&String> = match wanted {
        None => all.clone(),
        Some(wanted) => {
            let first = Part::parse(wanted).map(|part| part.first()).filter(|first| is_there(first));
            let path = first.as_deref().unwrap_or(wanted);
            match files.iter().find(|name| *name == path && has_extension(name, "gguf")) {
                Some(name) => vec![name],
                None => all.iter().copied().filter(|name| has_tag(name, wanted)).collect(),
            }
        }
    };
    match meant.as_slice() {
        [] => Choice::None(owned(all)),
        [one] => Choice::One((*one).clone()),
        _ => Choice::Several(owned(meant)),
    }
}

/// Whether a file is by its name the GGUF file of a language model, or the first part of one.
fn is_language_model(name: &str, is_there: impl Fn(&str) -> bool) -> bool {
    // The projector of images lies next to the model under its own name.
    let projector = name.rsplit('/').next().is_some_and(|name| name.contains("mmproj"));
    let later = Part::parse(name).map(|part| part.first()).is_some_and(|first| first != name && is_there(&first));
    has_extension(name, "gguf") && !projector && !later
}

/// Whether `tag` stands in `name` as a word, in any case: `Q4_K` does not in `…-Q4_K_M.gguf`.
fn has_tag(name: &str, tag: &str) -> bool {
    let (name, tag) = (name.to_lowercase(), tag.to_lowercase());
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    name.match_indices(&tag).any(|(start, found)| {
        let before = name.get(..start).and_then(|text| text.chars().next_back());
        let after = name.get(start..).and_then(|text| text.get(found.len()..)).and_then(|text| text.chars().next());
        !before.is_some_and(part_of_word) && !after.is_some_and(part_of_word)
    })
}

/// A name for the model of a file: its directory's for a `config.json`, else its own. `org--name` is `org/name`, and a
/// snapshot in the hub's cache (`models--org--name/snapshots/…`) is what it is a snapshot of.
pub(super) fn model_name(path: &Path) -> String {
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let name = match path.file_stem().map(text) {
        Some(stem) if stem == "config" => {
            let full = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
            let cached =
                full.ancestors().filter_map(Path::file_name).map(text).find(|name| name.starts_with("models--"));
            match cached {
                Some(cached) => cached.trim_start_matches("models--").to_owned(),
                None => full.parent().and_then(Path::file_name).map_or(stem, text),
            }
        }
        Some(stem) => stem,
        None => path.display().to_string(),
    };
    name.replacen("--", "/", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_meant_by_its_path_or_by_a_tag_of_its_own() {
        let files = [
            "README.md",
            "mmproj-F16.gguf",
            "x-Q4_K_M.gguf",
            "x-Q4_K_S.gguf",
            "big/x-BF16-00001-of-00002.gguf",
            "big/x-BF16-00002-of-00002.gguf",
        ]
        .map(ToOwned::to_owned);
        let one = |name: &str| Choice::One(name.into());
        assert_eq!(choose(&files, Some("x-Q4_K_M.gguf")), one("x-Q4_K_M.gguf"));
        assert_eq!(choose(&files, Some("q4_k_s")), one("x-Q4_K_S.gguf"));
        assert_eq!(choose(&files, Some("BF16")), one("big/x-BF16-00001-of-00002.gguf"));
        assert_eq!(choose(&files, Some("big/x-BF16-00002-of-00002.gguf")), one("big/x-BF16-00001-of-00002.gguf"));
        assert_eq!(choose(&files, Some("mmproj-F16.gguf")), one("mmproj-F16.gguf"));
        let all = ["big/x-BF16-00001-of-00002.gguf", "x-Q4_K_M.gguf", "x-Q4_K_S.gguf"].map(ToOwned::to_owned).to_vec();
        assert_eq!(choose(&files, None), Choice::Several(all.clone()));
        assert_eq!(choose(&files, Some("x")), Choice::Several(all.clone()));
        for wanted in ["Q4_K", "README.md", "Q8_0", "x-q4_k_m"] {
            let choice = choose(&files, Some(wanted));
            assert_eq!(choice, if wanted == "x-q4_k_m" { one("x-Q4_K_M.gguf") } else { Choice::None(all.clone()) });
        }
        assert_eq!(choose(&files[..3], None), one("x-Q4_K_M.gguf"));
        assert_eq!(choose(&files[..2], None), Choice::None(Vec::new()));
    }

    #[test]
    fn names_come_from_paths() {
        assert_eq!(model_name(Path::new("x/meta-llama--Llama-3.1-8B.json")), "meta-llama/Llama-3.1-8B");
        let cached = "hub/models--google--gemma-3-4b-it/snapshots/0123/config.json";
        assert_eq!(model_name(Path::new(cached)), "google/gemma-3-4b-it");
        for (text, is_path) in
            [("./x", true), ("x.json", true), ("/x", true), ("x/", true), ("org/name", false), ("x", false)]
        {
            assert_eq!(looks_like_a_path(text), is_path, "{text}");
        }
    }
}
