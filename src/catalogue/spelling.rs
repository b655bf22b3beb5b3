//! A model's name, however it is written: what in it is the name, and what says how the weights are stored.

use super::name_rules::{Meaning, OPTIONAL, PUBLISHERS, SHORT, SUFFIXES};
use crate::model::FileType;

/// Where ids are looked up, before the id.
const SITES: [&str; 6] = [
    "https://huggingface.co/",
    "huggingface.co/",
    "https://ollama.com/library/",
    "ollama.com/library/",
    "hf.co/",
    "ollama run ",
];

/// Words of one suffix at most.
const MAX_SUFFIX: usize = 4;

/// A name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spelling {
    /// What stands before the last `/`.
    pub(super) organisation: Option<String>,
    /// How the weights are stored, as `--weights-dtype` takes it, or the method.
    pub(crate) weights: Option<String>,
    /// Whether it asks for the default of its family.
    pub(super) is_latest: bool,
    /// The words of the name, sizes among them, without the publisher's.
    pub(super) tokens: Vec<String>,
}

impl Spelling {
    /// A name in any case and with any separators.
    pub(crate) fn parse(text: &str) -> Self {
        let lower = text.trim().to_lowercase();
        let site = SITES.iter().find_map(|site| lower.strip_prefix(site));
        let text = site.unwrap_or(&lower).trim_matches('/');
        // A file of a directory: what is before the name is no organisation.
        let (organisation, name) = match (text.rsplit_once('/'), text.strip_suffix(".gguf")) {
            (_, Some(file)) => (None, without_part(file.rsplit('/').next().unwrap_or(file))),
            (Some((organisation, name)), None) => (Some(organisation.to_owned()), name),
            (None, None) => (None, text),
        };
        let mut pieces = pieces(name);
        let is_latest = pieces.last().is_some_and(|piece| piece == "latest");
        let weights = take_suffixes(&mut pieces);
        Self { organisation, weights, is_latest, tokens: tokens(&pieces) }
    }

    /// The words without those that may be left out.
    pub(super) fn loose(&self) -> Vec<String> {
        let loose: Vec<String> =
            self.tokens.iter().filter(|word| !OPTIONAL.contains(&word.as_str())).cloned().collect();
        if loose.is_empty() { self.tokens.clone() } else { loose }
    }

    /// Whether it names weights of fewer than 16 bits.
    pub(super) fn is_quantised(&self) -> bool {
        self.weights.as_deref().is_some_and(|weights| !matches!(weights, "bf16" | "fp16" | "f16" | "f32" | "qat"))
    }
}

/// The name of a split file without the numbers of its part.
fn without_part(name: &str) -> &str {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let rest = name.rsplit_once("-of-").filter(|(_, count)| is_number(count));
    rest.and_then(|(rest, _)| rest.rsplit_once('-')).filter(|(_, part)| is_number(part)).map_or(name, |(name, _)| name)
}

/// What is between separators; a dot is one, except in a size such as `1.5b`.
fn pieces(name: &str) -> Vec<String> {
    let whole = name.split(|c: char| !c.is_alphanumeric() && c != '.').filter(|piece| !piece.is_empty());
    let parts = whole.flat_map(|piece| if is_size(piece) { vec![piece] } else { piece.split('.').collect() });
    parts.filter(|piece| !piece.is_empty()).map(ToOwned::to_owned).collect()
}

/// Whether a word is a number of parameters or experts: `8b`, `1.5b`, `a3b`, `e2b`, `8x7b`, `270m`, `16e`.
pub(super) fn is_size(word: &str) -> bool {
    let Some(number) = word.strip_suffix(['b', 'm', 't', 'e']) else { return false };
    let number = number.strip_prefix(['a', 'e']).unwrap_or(number);
    let mut factors = number.split('x');
    let is_number = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    factors.all(is_number)
}

/// Whether a size is of what a token uses, or of the experts: names may leave it out.
pub(super) fn is_active(word: &str) -> bool {
    is_size(word) && (word.starts_with('a') || word.ends_with('e'))
}

/// Takes the suffixes off that say how weights are stored: what they say, the innermost first.
fn take_suffixes(pieces: &mut Vec<String>) -> Option<String> {
    let (mut weights, mut file) = (None, None);
    while let Some((length, meaning)) = last_suffix(pieces) {
        pieces.truncate(pieces.len().saturating_sub(length));
        match meaning {
            Stored::Nothing => {}
            Stored::Weights(name) => weights = Some(name),
            // The type of a file tells more than that it is one.
            Stored::File(name) => file = file.filter(|known| known != "gguf" && known != "qat").or(Some(name)),
        }
    }
    weights.or(file)
}

enum Stored {
    Nothing,
    Weights(String),
    File(String),
}

/// The longest suffix of a name that has more than it, and its length.
fn last_suffix(pieces: &[String]) -> Option<(usize, Stored)> {
    let longest = pieces.len().saturating_sub(1).min(MAX_SUFFIX);
    (1..=longest).rev().find_map(|length| {
        let suffix = pieces.get(pieces.len().saturating_sub(length)..)?.join("_");
        let row = SUFFIXES.iter().find(|row| row.suffix == suffix).map(|row| match row.meaning {
            Meaning::Ignored => Stored::Nothing,
            Meaning::Weights(name) => Stored::Weights(name.to_owned()),
            Meaning::File(name) => Stored::File(name.to_owned()),
        });
        let of_file = || FileType::find(&suffix).map(|_| Stored::Weights(suffix.clone()));
        Some((length, row.or_else(of_file)?))
    })
}

/// The words of the pieces, letters and digits apart, and no publisher before them.
fn tokens(pieces: &[String]) -> Vec<String> {
    let mut tokens: Vec<String> = pieces.iter().flat_map(|piece| words(piece)).collect();
    if let [first, _, ..] = tokens.as_slice()
        && PUBLISHERS.contains(&first.as_str())
    {
        tokens.remove(0);
    }
    if let Some(first) = tokens.first_mut()
        && let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == first.as_str())
    {
        *first = (*long).to_owned();
    }
    tokens
}

fn words(piece: &str) -> Vec<String> {
    if is_size(piece) {
        return vec![piece.to_owned()];
    }
    let mut words: Vec<String> = Vec::new();
    for c in piece.chars() {
        match words.last_mut() {
            Some(word) if word.ends_with(|last: char| last.is_ascii_digit() == c.is_ascii_digit()) => word.push(c),
            _ => words.push(c.to_string()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_apart() {
        for (text, organisation, tokens, weights) in [
            ("llama3.2:3b", None, "llama 3 2 3b", None),
            ("Llama-3.2-3B", None, "llama 3 2 3b", None),
            ("llama 3.2 3b", None, "llama 3 2 3b", None),
            (
                "https://huggingface.co/unsloth/Qwen3-30B-A3B-GGUF:Q4_K_M",
                Some("unsloth"),
                "qwen 3 30b a3b",
                Some("q4_k_m"),
            ),
            ("gemma3:27b-it-qat", None, "gemma 3 27b it", Some("qat")),
            ("Mixtral_8x7B.v0.1-GPTQ-Int4", None, "mixtral 8x7b v 0 1", Some("gptq")),
            ("mlx-community/gpt-oss-20b-MXFP4-Q8", Some("mlx-community"), "gpt oss 20b", Some("mxfp4")),
            ("RedHatAI/Qwen2.5-1.5B-quantized.w8a8", Some("redhatai"), "qwen 2 5 1.5b", Some("int8")),
            ("models/Qwen3-8B-Q4_K_M-00001-of-00002.gguf", None, "qwen 3 8b", Some("q4_k_m")),
            ("dsv4-flash", None, "deepseekv 4 flash", None),
            ("awq", None, "awq", None),
            ("", None, "", None),
        ] {
            let spelling = Spelling::parse(text);
            assert_eq!(spelling.organisation.as_deref(), organisation, "{text}");
            assert_eq!(spelling.tokens.join(" "), tokens, "{text}");
            assert_eq!(spelling.weights.as_deref(), weights, "{text}");
        }
    }
}
