//! Which of a repository's files is the GGUF file that is meant.

use std::path::Path;

use crate::source::file::{first_part, is_language_model};

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
/// `wanted`, the only one.
pub(super) fn choose(files: &[String], wanted: Option<&str>) -> Choice {
    let is_there = |path: &Path| files.iter().any(|name| Path::new(name) == path);
    let mut all: Vec<&String> = files.iter().filter(|name| is_language_model(Path::new(name), is_there)).collect();
    all.sort();
    let owned = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
    let meant: Vec<&String> = match wanted {
        None => all.clone(),
        Some(wanted) => {
            // Of a split file the first part has the keys.
            let first = first_part(Path::new(wanted));
            let path = first.as_deref().filter(|first| is_there(first)).unwrap_or(Path::new(wanted));
            match files.iter().find(|name| Path::new(name) == path && name.to_lowercase().ends_with(".gguf")) {
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
}
