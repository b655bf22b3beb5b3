//! The model that a name means which is not written as the catalogue writes it.

use super::name_rules::ALIASES;
use super::spelling::{Spelling, is_active, is_size};
use super::{ModelEntry, ModelSummary, find_known, letters_and_digits, models, nearest};
use crate::units::{Code, Error};

/// Choices that are listed at most.
const MAX_CHOICES: usize = 8;

/// A model that was found by its name, however that is written.
#[derive(Debug, Clone)]
pub struct NamedEntry {
    /// The model.
    pub entry: ModelEntry,
    /// How the name says that weights are stored: a name of `--weights-dtype`, or a method such as `awq`.
    pub weights: Option<String>,
    /// Whether the name differs from the model's in more than case and separators.
    pub is_other_name: bool,
}

/// A name of a row, taken apart.
struct Candidate<'a> {
    row: &'a ModelSummary,
    spelling: Spelling,
    loose: Words,
}

/// The words of a name, and its sizes, which may stand anywhere.
#[derive(PartialEq, Eq)]
struct Words {
    plain: Vec<String>,
    sizes: Vec<String>,
    joined: String,
}

impl Words {
    fn new(tokens: Vec<String>) -> Self {
        let joined = tokens.concat();
        let (sizes, plain) = tokens.into_iter().partition(|word| is_size(word));
        Self { plain, sizes, joined }
    }

    fn total_sizes(&self) -> impl Iterator<Item = &String> {
        self.sizes.iter().filter(|size| !is_active(size))
    }

    fn has_sizes_of(&self, typed: &Self) -> bool {
        typed.sizes.iter().all(|size| self.sizes.contains(size))
    }

    /// Equal but for the active parameters or experts that one of them leaves out.
    fn is_equal_in_total(&self, typed: &Self) -> bool {
        self.plain.concat() == typed.plain.concat()
            && self.total_sizes().eq(typed.total_sizes())
            && self.has_sizes_of(typed)
            && !self.sizes.is_empty()
    }

    /// What follows `typed` in it, where it begins so.
    fn rest(&self, typed: &Self) -> Option<&[String]> {
        self.plain.strip_prefix(typed.plain.as_slice()).filter(|_| self.has_sizes_of(typed) && !typed.plain.is_empty())
    }

    fn contains(&self, typed: &Self) -> bool {
        typed.plain.len() > 1
            && self.has_sizes_of(typed)
            && self.plain.windows(typed.plain.len()).any(|window| window == typed.plain)
    }

    /// Whether all words of `typed` are in it.
    fn has_words_of(&self, typed: &Self) -> bool {
        typed.plain.len() > 1 && self.has_sizes_of(typed) && typed.plain.iter().all(|word| self.plain.contains(word))
    }
}

fn is_version(word: &String) -> bool {
    word == "v" || word.bytes().all(|byte| byte.is_ascii_digit())
}

/// The model that a name means: of the exact name, or else of one that is read tolerantly.
///
/// # Errors
/// [`Code::UnknownModel`] with the models that it could mean, or with the nearest names.
pub fn find_named(name: &str, overlay: &[ModelEntry]) -> Result<NamedEntry, Error> {
    if let Some(entry) = find_known(name, overlay) {
        return Ok(NamedEntry { entry, weights: None, is_other_name: false });
    }
    let typed = Spelling::parse(name);
    let rows: Vec<ModelSummary> = models(overlay).collect();
    // The catalogue has no revisions: a name with one is a Hugging Face id, or unknown.
    let is_readable = !typed.tokens.is_empty() && !name.contains('@');
    let meant = if is_readable { meant(&typed, &rows) } else { Vec::new() };
    match meant.as_slice() {
        [] => Err(unknown(name, overlay)),
        [row] => {
            let known = row.names.last().and_then(|name| find_known(name, overlay));
            let entry = known.ok_or_else(|| unknown(name, overlay))?;
            let plain = letters_and_digits(name);
            let is_other_name = row.names.iter().all(|own| letters_and_digits(own) != plain);
            Ok(NamedEntry { entry, weights: typed.weights, is_other_name })
        }
        rows => Err(ambiguous(name, rows)),
    }
}

/// The models that a spelling may mean, in the order of use: one where it is clear.
fn meant<'a>(typed: &Spelling, rows: &'a [ModelSummary]) -> Vec<&'a ModelSummary> {
    let candidates: Vec<Candidate<'_>> = rows.iter().flat_map(candidates_of).collect();
    let loose = Words::new(typed.loose());
    let full = typed.tokens.concat();
    let such = |is_such: &dyn Fn(&Candidate<'a>) -> bool| -> Vec<&Candidate<'a>> {
        candidates.iter().filter(|candidate| is_such(candidate)).collect()
    };
    if let Some(row) = aliased(typed, &loose, rows) {
        return vec![row];
    }
    for equal in [
        such(&|own| own.spelling.tokens.concat() == full),
        such(&|own| own.loose.joined == loose.joined),
        such(&|own| own.loose.plain.concat() == loose.plain.concat() && own.loose.sizes == loose.sizes),
        such(&|own| own.loose.is_equal_in_total(&loose)),
    ] {
        if !equal.is_empty() {
            return preferred(typed, equal);
        }
    }
    let by_id = typed.organisation.is_some();
    let is_published = |own: &Candidate<'_>| !by_id || own.spelling.organisation == typed.organisation;
    let follows = |own: &Candidate<'_>| {
        let is_meant = |rest: &[String]| !by_id || rest.iter().all(is_version);
        own.loose.rest(&loose).is_some_and(is_meant)
    };
    let mut begun = such(&|own| is_published(own) && follows(own));
    if begun.is_empty() && !by_id {
        begun = such(&|own| own.loose.contains(&loose));
    }
    if !begun.is_empty() {
        return preferred(typed, of_most_used(begun));
    }
    let scattered = such(&|own| !by_id && own.loose.has_words_of(&loose));
    // Words in another order are no name: they are listed, and not answered.
    let listed = preferred(typed, of_most_used(scattered));
    if listed.len() > 1 { listed } else { Vec::new() }
}

fn candidates_of(row: &ModelSummary) -> impl Iterator<Item = Candidate<'_>> {
    row.names.iter().map(move |name| {
        let spelling = Spelling::parse(name);
        let loose = Words::new(spelling.loose());
        Candidate { row, spelling, loose }
    })
}

/// The model that a row of the aliases names.
fn aliased<'a>(typed: &Spelling, loose: &Words, rows: &'a [ModelSummary]) -> Option<&'a ModelSummary> {
    let is_such = |alias: &str| {
        let own = Spelling::parse(alias);
        own.is_latest == typed.is_latest && Words::new(own.loose()).joined == loose.joined
    };
    let (_, label, _) = ALIASES.iter().find(|(alias, ..)| typed.organisation.is_none() && is_such(alias))?;
    rows.iter().find(|row| row.label.eq_ignore_ascii_case(label))
}

/// Candidates of the publisher of the most used one: others publish copies.
fn of_most_used<'c, 'a>(candidates: Vec<&'c Candidate<'a>>) -> Vec<&'c Candidate<'a>> {
    let organisation =
        |own: &Candidate<'_>| own.row.label.rsplit_once('/').map(|(organisation, _)| organisation.to_owned());
    let Some(first) = candidates.first().map(|first| organisation(first)) else { return candidates };
    candidates.into_iter().filter(|own| organisation(own) == first).collect()
}

/// One row of each name: of the organisation that was typed, else not quantised, else the most used.
fn preferred<'a>(typed: &Spelling, mut candidates: Vec<&Candidate<'a>>) -> Vec<&'a ModelSummary> {
    candidates.sort_by_cached_key(|own| {
        let organisation = own.row.label.to_lowercase();
        let organisation = organisation.rsplit_once('/').map(|(organisation, _)| organisation);
        let is_quantised = Spelling::parse(&own.row.label).is_quantised();
        (
            is_quantised,
            typed.weights.is_none() && typed.organisation.is_some() && organisation != typed.organisation.as_deref(),
        )
    });
    let mut keys: Vec<String> = Vec::new();
    let mut rows: Vec<&ModelSummary> = Vec::new();
    for own in candidates {
        let key = Words::new(Spelling::parse(&own.row.label).loose()).joined;
        if !keys.contains(&key) && !rows.iter().any(|row| row.label == own.row.label) {
            keys.push(key);
            rows.push(own.row);
        }
    }
    rows
}

fn unknown(name: &str, overlay: &[ModelEntry]) -> Error {
    let names = match nearest(name, overlay).as_slice() {
        [] => String::new(),
        names => format!(", or: {}", names.join(", ")),
    };
    let problem = "is unknown: not a file, not in the catalogue";
    let remedy = format!("try a Hugging Face id such as meta-llama/Llama-3.1-8B{names} (`kvsize models` lists all)");
    Error::new(Code::UnknownModel, "MODEL", name, problem, remedy)
}

fn ambiguous(name: &str, rows: &[&ModelSummary]) -> Error {
    let listed: Vec<&str> = rows.iter().take(MAX_CHOICES).map(|row| row.label.as_str()).collect();
    let more = match rows.len().saturating_sub(MAX_CHOICES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let problem = format!("may mean {} models", rows.len());
    Error::new(Code::UnknownModel, "MODEL", name, problem, format!("name one of {}{more}", listed.join(", ")))
}
