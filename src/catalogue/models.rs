//! Models by name. A catalogue entry holds the cache keys of the model's published `config.json`, unchanged, and is
//! read as that file would be; or a base, another entry, and the keys that differ; or, for a model that is only described,
//! its dimensions.
//!
//! The lines are in the order of use: the most used models are found first and listed first.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{model_names, most_alike};
use crate::units::{Code, Error};

pub(super) const MODELS: &str = include_str!("models.jsonl");

/// A model of the catalogue.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct ModelEntry {
    /// Names it is found under, in lower case; the first is the shortest.
    pub names: Vec<String>,
    /// The name to print: its hub id, where it has one.
    pub label: String,
    /// The label of the entry that it is a quantized, renamed or tuned copy of.
    pub base: Option<String>,
    /// What it is.
    pub facts: ModelFacts,
    /// What the `hf_quant_config.json` next to its `config.json` declares, as far as caches go.
    pub hf_quant_config: Option<Value>,
    /// Parameters, where a public file states them.
    pub parameters: Option<u64>,
    /// Bytes of the published weights, where a public file states them.
    pub weight_bytes: Option<u64>,
    /// Where the facts come from.
    pub source: String,
    /// When they were taken from there.
    pub date: String,
}

/// A model as it is listed: an entry without its facts, which are skipped and not parsed.
#[derive(Debug, Clone, Deserialize)]
pub struct ModelSummary {
    /// As of [`ModelEntry`].
    pub names: Vec<String>,
    /// As of [`ModelEntry`].
    pub label: String,
    /// As of [`ModelEntry`].
    pub base: Option<String>,
    /// As of [`ModelEntry`].
    pub parameters: Option<u64>,
    /// As of [`ModelEntry`].
    pub weight_bytes: Option<u64>,
    /// As of [`ModelEntry`].
    #[serde(default)]
    pub source: String,
    /// As of [`ModelEntry`].
    #[serde(default)]
    pub date: String,
}

/// The facts of an entry.
#[derive(Debug, Clone)]
pub enum ModelFacts {
    /// The cache keys of its `config.json`.
    Config(Value),
    /// Its dimensions, where no `config.json` exists.
    Spec(crate::model::ModelSpec),
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    names: Vec<String>,
    label: String,
    base: Option<String>,
    /// Of an entry with a base, the keys that differ: a JSON Merge Patch (RFC 7396), in which null takes a key away.
    config: Option<Value>,
    spec: Option<crate::model::ModelSpec>,
    hf_quant_config: Option<Value>,
    parameters: Option<u64>,
    weight_bytes: Option<u64>,
    #[serde(default)]
    source: String,
    #[serde(default)]
    date: String,
}

impl TryFrom<Written> for ModelEntry {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let Written { names, label, base, config, spec, hf_quant_config, parameters, weight_bytes, source, date } =
            written;
        let facts = match (&base, config, spec) {
            (None, Some(config), None) => ModelFacts::Config(config),
            (None, None, Some(spec)) => ModelFacts::Spec(spec),
            (Some(base), patch, None) => ModelFacts::Config(patched(base, patch)?),
            _ => return Err("an entry has a config, a spec or a base"),
        };
        Ok(Self { names, label, base, facts, hf_quant_config, parameters, weight_bytes, source, date })
    }
}

impl From<&ModelEntry> for ModelSummary {
    fn from(entry: &ModelEntry) -> Self {
        Self {
            names: entry.names.clone(),
            label: entry.label.clone(),
            base: entry.base.clone(),
            parameters: entry.parameters,
            weight_bytes: entry.weight_bytes,
            source: entry.source.clone(),
            date: entry.date.clone(),
        }
    }
}

/// The configuration of the catalogue's entry of this label, changed by `patch`.
fn patched(base: &str, patch: Option<Value>) -> Result<Value, &'static str> {
    let name = base.to_lowercase();
    let of_base = row::<Written>(&name).filter(|entry| entry.base.is_none() && entry.names.contains(&name));
    let mut config = of_base
        .and_then(|entry| entry.config)
        .ok_or("its base is not a model of the catalogue with a configuration")?;
    if let Some(patch) = patch {
        merge(&mut config, patch);
    }
    Ok(config)
}

/// The line that has the name, which is all that is parsed.
fn row<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_str(model_names::line(name)?).ok()
}

/// Applies a JSON Merge Patch.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(&key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// The models of a user's own file: a JSON list of entries like the catalogue's, `source` and `date` left out at will.
///
/// # Errors
/// [`Code::Catalogue`] with line and column.
pub fn parse_overlay(text: &str) -> Result<Vec<ModelEntry>, Error> {
    let mut entries: Vec<ModelEntry> = serde_json::from_str(text).map_err(|error| {
        let problem = format!("is not a list of models: {error}");
        let remedy = r#"write [{"names": ["mine"], "label": "Mine", "config": {…}}]"#;
        Error::new(Code::Catalogue, "--catalogue", "the file", problem, remedy)
    })?;
    for name in entries.iter_mut().flat_map(|entry| &mut entry.names) {
        *name = name.to_lowercase();
    }
    Ok(entries)
}

/// The model of that name or alias, in any case. The `overlay`, a user's own models, shadows the catalogue.
///
/// # Errors
/// [`Code::UnknownModel`] with the nearest names.
pub fn find(name: &str, overlay: &[ModelEntry]) -> Result<ModelEntry, Error> {
    find_known(name, overlay).ok_or_else(|| {
        let names = match nearest(name, overlay).as_slice() {
            [] => String::new(),
            names => format!(", or: {}", names.join(", ")),
        };
        let problem = "is unknown: not a file, not in the catalogue";
        let remedy =
            format!("try a Hugging Face id such as meta-llama/Llama-3.1-8B{names} (`kvsize models` lists all)");
        Error::new(Code::UnknownModel, "MODEL", name, problem, remedy)
    })
}

/// As [`find`], with `None` on a miss: no suggestions are computed.
pub fn find_known(name: &str, overlay: &[ModelEntry]) -> Option<ModelEntry> {
    let lower = name.to_lowercase();
    let own = overlay.iter().find(|entry| entry.names.contains(&lower)).cloned();
    own.or_else(|| row(&lower).filter(|entry: &ModelEntry| entry.names.contains(&lower)))
}

/// All models: the overlay's, then the catalogue's that it does not shadow, the most used first.
pub fn models(overlay: &[ModelEntry]) -> impl Iterator<Item = ModelSummary> {
    let shadowed =
        |entry: &ModelSummary| overlay.iter().any(|own| own.names.iter().any(|name| entry.names.first() == Some(name)));
    // A test holds that every line is an entry.
    let listed = MODELS.lines().filter_map(|line| serde_json::from_str(line).ok());
    overlay.iter().map(ModelSummary::from).chain(listed.filter(move |entry| !shadowed(entry)))
}

/// Up to three names that could have been meant: those that contain the name, then those spelled like it.
pub(crate) fn nearest(name: &str, overlay: &[ModelEntry]) -> Vec<String> {
    const ALIKE: f64 = 0.75;
    let name = name.to_lowercase();
    if name.is_empty() {
        return Vec::new();
    }
    most_alike(models(overlay).map(|entry| entry.names), ALIKE, |candidate| {
        if candidate.contains(&name) { 1.0 } else { strsim::jaro_winkler(candidate, &name) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_an_entry_with_names_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for line in MODELS.lines() {
            let entry: ModelEntry = serde_json::from_str(line).unwrap();
            assert!(!entry.source.is_empty() && !entry.date.is_empty(), "{line}");
            for name in &entry.names {
                assert_eq!(*name, name.to_lowercase());
                assert!(seen.insert(name.clone()), "{name} twice");
                assert_eq!(find(name, &[]).unwrap().label, entry.label);
            }
        }
    }

    #[test]
    fn names_are_found_in_any_case_and_near_misses_are_named() {
        assert_eq!(find("META-LLAMA/Llama-3.1-8B", &[]).unwrap().names[0], "llama-3.1-8b");
        assert_eq!(find("lama-3.1-8b", &[]).unwrap_err().code, Code::UnknownModel);
        assert_eq!(nearest("lama-3.1-8b", &[])[0], "llama-3.1-8b");
        assert_eq!(nearest("SCOUT", &[]), ["llama-4-scout"]);
        assert!(nearest("%%%", &[]).is_empty());
    }

    #[test]
    fn a_user_s_own_file_shadows_the_catalogue() {
        let text =
            r#"[{"names": ["Llama-3.1-8B"], "label": "Mine", "spec": {"layers": 1, "kv_heads": 1, "head_dim": 1}}]"#;
        let overlay = parse_overlay(text).unwrap();
        assert_eq!(find("llama-3.1-8b", &overlay).unwrap().label, "Mine");
        assert_eq!(models(&overlay).count(), models(&[]).count());
        let text = r#"[{"names": ["mine"], "label": "Mine", "base": "openai/gpt-oss-20b",
                        "config": {"num_hidden_layers": 1, "rope_scaling": {"factor": 2, "type": null}, "vocab_size": null,
                                   "quantization_config": {"quant_method": "awq"}}}]"#;
        let mine = find("mine", &parse_overlay(text).unwrap()).unwrap();
        let base = find("openai/gpt-oss-20b", &[]).unwrap();
        let (ModelFacts::Config(config), ModelFacts::Config(of_base)) = (mine.facts, base.facts) else { panic!() };
        assert_eq!(
            (&config["num_hidden_layers"], &config["quantization_config"]["quant_method"]),
            (&1.into(), &"awq".into())
        );
        assert_eq!((config.get("vocab_size"), config["rope_scaling"].get("type")), (None, None));
        assert!(of_base.get("vocab_size").is_some());
        assert_eq!(
            (&config["hidden_size"], mine.base.as_deref()),
            (&of_base["hidden_size"], Some("openai/gpt-oss-20b"))
        );
        for text in [
            r#"[{"names": ["x"], "label": "x", "base": "no/such"}]"#,
            r#"[{"names": ["x"], "label": "x", "base": "unsloth/gpt-oss-20b-BF16"}]"#,
            r#"[{"names": ["x"], "label": "x", "base": "openai/gpt-oss-20b", "spec": {"layers": 1}}]"#,
        ] {
            assert_eq!(parse_overlay(text).unwrap_err().code, Code::Catalogue, "{text}");
        }
        for text in ["", "{}", "[{}]", r#"[{"names": ["x"], "label": "x"}]"#, r#"[{"names": 1}]"#] {
            assert_eq!(parse_overlay(text).unwrap_err().code, Code::Catalogue, "{text}");
        }
    }
}
