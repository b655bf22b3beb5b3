//! What a `model_type` means beyond the keys of its configuration: the defaults of its configuration class for keys
//! that published files leave out, and which layers are of which kind when no list says so.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::row_naming;

const MODEL_TYPES: &str = include_str!("model_types.jsonl");

/// A `model_type` known here.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelType {
    /// Its names: the text model's, then those of the models that wrap it.
    pub names: Vec<String>,
    /// Values of keys that a file may leave out.
    #[serde(default)]
    pub defaults: Map<String, Value>,
    /// Which layers are of which kind when `layer_types` is not given.
    #[serde(default)]
    pub layers: LayerRule,
    /// Caches of each counted layer, where `num_layers` counts blocks of several (LongCat-Flash: 2).
    pub caches_per_block: Option<u64>,
    /// Whether transformers repeats each KV head for the query heads that share it before it caches them.
    #[serde(default)]
    pub repeats_heads: bool,
    /// Its MTP layers, where they are not one full layer for each that the file counts.
    pub mtp: Option<MtpRule>,
    /// Why a model of this type has no cache, if it has none.
    pub no_cache: Option<String>,
    /// Where this was read.
    pub source: String,
}

/// The MTP layers, as vLLM 0.33 builds them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MtpRule {
    /// How many are built, whatever the file counts.
    pub layers: Option<u64>,
    /// How many are built where the file counts none.
    pub uncounted: Option<u64>,
    /// What they attend with where `mtp_layer_types` is not given; what the model's full layers do, where this is not.
    pub kind: Option<MtpKind>,
}

/// What MTP layers attend with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MtpKind {
    /// The window.
    SlidingAttention,
    /// What the model's layer of the same index attends with, counted from 0.
    SameIndex,
}

/// Which layers are of which kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "rule", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerRule {
    /// Every layer is full, whatever window is named.
    Full,
    /// The file has a list; without one the kinds are unknown.
    Listed,
    /// Kinds that repeat.
    Cycle {
        /// The kinds, as `layer_types` names them.
        kinds: Vec<String>,
    },
    /// Every layer is of one kind.
    All {
        /// The kind, as `layer_types` names it.
        kind: String,
    },
    /// Every layer slides if there is a window, or is chunked if there is a chunk.
    #[default]
    Plain,
    /// Every layer slides if there is a window.
    AllSlide {
        /// The key that switches the window on.
        gate: Option<String>,
    },
    /// Layers from an index on slide if there is a window.
    SlideFrom {
        /// The key of the index.
        from_key: String,
        /// The index where the key is missing.
        from: u64,
        /// The key that switches the window on.
        gate: Option<String>,
    },
    /// The second half reads one cache (YOCO, arXiv:2405.05254; `SambaY`, arXiv:2507.06607): of the first half every n-th
    /// layer is recurrent and the others slide; then come a recurrent layer and the one full layer that all others read.
    Yoco {
        /// The key of n.
        n_key: String,
    },
    /// Every n-th layer (counted from 1) is full, the others are of another kind.
    EveryNthFull(EveryNthFull),
}

/// The rule of models in which every n-th layer is full.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EveryNthFull {
    /// n where no key gives it.
    pub n: u64,
    /// The keys that may give n.
    #[serde(default)]
    pub n_keys: Vec<String>,
    /// A key that may list the layers, 1 for the other kind (Llama 4's `no_rope_layers`: 1 has rotary positions and is local).
    pub list_key: Option<String>,
    /// The other kind.
    pub others: String,
    /// The key of an index from which on all layers are full.
    pub below_key: Option<String>,
    /// That index where the key is missing.
    pub below: Option<u64>,
    /// Whether the last layer is full in any case.
    #[serde(default)]
    pub last_full: bool,
    /// The key that switches the other kind on.
    pub gate: Option<String>,
}

/// The `model_type` of that name.
pub fn model_type(name: &str) -> Option<ModelType> {
    row_naming(MODEL_TYPES, name, |known: &ModelType| known.names.iter().any(|known| known == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_model_type_with_names_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for line in MODEL_TYPES.lines() {
            let entry: ModelType = serde_json::from_str(line).unwrap();
            for name in &entry.names {
                assert!(seen.insert(name.clone()), "{name} twice");
                assert_eq!(model_type(name).unwrap().names, entry.names);
            }
        }
        assert!(model_type("no_such_model").is_none());
    }
}
