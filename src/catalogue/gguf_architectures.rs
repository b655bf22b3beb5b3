//! What llama.cpp knows of each architecture beyond the keys of a file: which layers slide, which are recurrent, what else
//! is kept. Read from the llama.cpp of llama-cpp-sys-2 0.1.161 (ggml 0.26.0); each line names its file there, and
//! the classes of caches are those of `llama_model::create_memory` in `src/llama-model.cpp`.

use serde::Deserialize;

use super::row_naming;
use crate::model::{Gguf, GgufFeature, GgufWindow};
use crate::units::Tokens;

const ARCHITECTURES: &str = include_str!("gguf_architectures.jsonl");

/// An architecture of llama.cpp.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GgufArchitecture {
    /// `general.architecture`
    pub name: String,
    /// The `model_type` of configurations that its converter turns into it. The converter is no part of the copy that was
    /// read: these are what is known of it, and those that are not known are left out.
    pub model_types: Vec<String>,
    /// Why it has no cache, if it has none.
    pub no_cache: Option<String>,
    /// Its windows, if it knows any.
    pub window: Option<WindowRule>,
    /// Which layers are recurrent.
    pub recurrent: Option<RecurrentRule>,
    /// Layers from one full one to the next, where a rule needs it and the file does not say.
    pub interval: Option<u64>,
    /// What a recurrent layer keeps.
    pub state: Option<StateRule>,
    /// The index of sparse attention.
    pub indexer: Option<IndexerRule>,
    /// The layers at the start that have a cache, which the others read, whatever the file says.
    pub layers_with_cache: Option<u32>,
    /// The key of the number of layers at the end that read an earlier one's cache.
    pub shared_key: Option<String>,
    /// The key of the number of times that all layers are run, with a cache each time.
    pub loops_key: Option<String>,
    /// The tensor without which there are no such layers after all.
    pub nextn_tensor: Option<String>,
    /// What else is its own.
    pub features: Vec<GgufFeature>,
    /// What else its files are read by.
    pub reading: Vec<ReadingRule>,
    /// The file of llama.cpp it was read from.
    pub source: String,
}

/// Which layers slide, and by how much.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    /// How `attention.sliding_window` is taken.
    pub key: WindowKey,
    /// Which layers it is of.
    pub layers: WindowLayers,
    /// Every n-th layer is full, where the file has no pattern of its own.
    pub pattern: Option<u64>,
    /// Whether the first of the n is the full one, and not the last.
    #[serde(default)]
    pub dense_first: bool,
    /// The window where the key is missing.
    pub default: Option<u64>,
    /// The window whatever the key says.
    pub fixed: Option<u64>,
    /// Whether it is a chunk.
    #[serde(default)]
    pub chunked: bool,
    /// The number of layers of the one model that has it.
    pub only_layers: Option<u32>,
}

/// How `attention.sliding_window` is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKey {
    /// It must be there.
    Required,
    /// There is a default.
    Optional,
    /// Without it, or with 0, nothing slides.
    OnIfPositive,
    /// Only 0 switches it off.
    OffIfZero,
    /// It is read and has no effect on the cache.
    Ignored,
}

/// Which layers slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowLayers {
    /// Those of `attention.sliding_window_pattern`, a list or a period, or else of the rule's own period.
    Pattern,
    /// Those of that list, which must be there.
    Listed,
    /// All that are not recurrent.
    Attention,
    /// All.
    All,
}

/// Which layers are recurrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecurrentRule {
    /// All, and there is no attention.
    All,
    /// All, in addition to attention.
    Beside,
    /// Those without KV heads.
    NoKvHeads,
    /// Those with neither KV heads nor a feed-forward layer; those with a feed-forward layer have no cache at all.
    NoKvHeadsNorFeedForward,
    /// Those of `attention.recurrent_layers`, or all but each n-th.
    Interval,
}

/// What a recurrent layer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateRule {
    /// `ssm.…`, without groups.
    Mamba1,
    /// `ssm.…`
    Mamba2,
    /// `ssm.…`, the groups being the key heads.
    GatedDeltaNet,
    /// `kda.head_dim`
    Kda,
    /// Heads of attention's own size.
    Lightning,
    /// `shortconv.l_cache`
    ShortConv,
    /// `wkv.head_size`
    Rwkv,
}

/// The index of sparse attention (`attention.indexer.…`).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexerRule {
    /// Which layers have one of their own.
    pub layers: IndexerLayers,
    /// Whether all layers have one where the file lists nothing; none if it must.
    pub unlisted: Option<bool>,
    /// What is listed instead of the default where the context is long.
    pub long_context: Option<LongContextIndexer>,
    /// The key that must be above 0 for there to be one.
    pub only_if: Option<String>,
    /// Keys kept for each token.
    pub slots: Option<u64>,
    /// The list that must have an entry above 0 for there to be more than one.
    pub multi_slot_key: Option<String>,
}

/// The layers that have an index where the context is long: all up to one, and then one in a few.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LongContextIndexer {
    /// The least `context_length`.
    pub from: u64,
    /// The first layer that need not have one.
    pub all_until: u32,
    /// From there on one layer in this many has one.
    pub then_every: u32,
    /// The first layer of those at the end that have none.
    pub before: u32,
}

/// Which layers have an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexerLayers {
    /// All that attend.
    All,
    /// Those of `attention.indexer.types`.
    Listed,
    /// Those after `leading_dense_block_count`.
    AfterDense,
}

/// What the files of only some architectures are read by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadingRule {
    /// Recurrent layers may keep n-grams of the past (`ple.…`).
    NgramState,
    /// Every few tokens are compressed into one entry (DeepSeek-V4).
    Compressed,
    /// A layer with one head is added at the end.
    RouterLayer,
    /// Head sizes are read even where the first layer has no heads.
    OwnHeadDims,
    /// MTP layers are in the cache of the model itself.
    MtpInMainCache,
}

impl GgufArchitecture {
    /// Whether its files are read by this rule.
    pub fn reads(&self, rule: ReadingRule) -> bool {
        self.reading.contains(&rule)
    }

    /// How llama.cpp takes a model of this architecture with so many layers.
    pub fn gguf(&self, layers: u32) -> Gguf {
        let window = match &self.window {
            None => GgufWindow::Unknown,
            Some(rule) if rule.key == WindowKey::Ignored => GgufWindow::Unknown,
            Some(rule) if rule.only_layers.is_some_and(|only| only != layers) => GgufWindow::Unknown,
            Some(rule) => rule.fixed.map_or(GgufWindow::Kept, |fixed| GgufWindow::Fixed(Tokens(fixed))),
        };
        let slots = self.indexer.as_ref().and_then(|rule| rule.slots);
        let (architecture, features) = (self.name.clone(), self.features.clone());
        Gguf { architecture, window, features, index_slots: slots.unwrap_or(1), file: None }
    }
}

/// The architecture of that name.
pub fn gguf_architecture(name: &str) -> Option<GgufArchitecture> {
    row_naming(ARCHITECTURES, name, |entry: &GgufArchitecture| entry.name == name)
}

/// The architecture that a configuration of this `model_type` is converted to.
pub fn gguf_architecture_of(model_type: &str) -> Option<GgufArchitecture> {
    row_naming(ARCHITECTURES, model_type, |entry: &GgufArchitecture| {
        entry.model_types.iter().any(|known| known == model_type)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_an_architecture_of_its_own_with_all_that_its_rules_need() {
        let mut names = std::collections::BTreeSet::new();
        let mut model_types = std::collections::BTreeSet::new();
        for line in ARCHITECTURES.lines() {
            let entry: GgufArchitecture = serde_json::from_str(line).unwrap();
            assert!(names.insert(entry.name.clone()), "{} twice", entry.name);
            assert_eq!(gguf_architecture(&entry.name).unwrap().name, entry.name);
            for model_type in &entry.model_types {
                assert!(model_types.insert(model_type.clone()), "{model_type} twice");
                assert_eq!(gguf_architecture_of(model_type).unwrap().name, entry.name);
            }
            assert!(entry.source.starts_with("src/models/"), "{line}");
            assert_eq!(entry.recurrent.is_some(), entry.state.is_some(), "{line}");
            assert_eq!(entry.recurrent == Some(RecurrentRule::Interval), entry.interval.is_some(), "{line}");
            if let Some(rule) = &entry.window {
                assert_eq!(rule.layers == WindowLayers::Pattern, rule.pattern.is_some(), "{line}");
                assert_eq!(rule.key == WindowKey::Optional, rule.default.is_some(), "{line}");
            }
        }
        assert_eq!(names.len(), 153);
        assert!(gguf_architecture("no_such_architecture").is_none());
        assert!(gguf_architecture_of("no_such_type").is_none());
    }
}
