//! What vLLM does for single model types: a line each in `models.jsonl`, whose first line says where each key was read.

use memchr::memmem;

use super::release::{Release, Rule};

const MODEL_TYPES: &str = include_str!("models.jsonl");

/// A key of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trait(&'static str);

impl Trait {
    pub(super) const LATENT_CACHE: Self = Self("latent_cache");
    pub(super) const MTP: Self = Self("mtp");
    pub(super) const NOT_COVERED: Self = Self("not_covered");
    pub(super) const EAGER: Self = Self("eager");
    pub(super) const ATTENTION_FREE: Self = Self("attention_free");
    pub(super) const WINDOW_PAST_CURRENT: Self = Self("window_past_current");
    pub(super) const IMAGE_PREFIX: Self = Self("image_prefix");
    pub(super) const KEEPS_MODEL_FORMAT: Self = Self("keeps_model_format");
    pub(super) const FLASH_ATTENTION_4: Self = Self("flash_attention_4");
    pub(super) const SINKS: Self = Self("sinks");
    pub(super) const OWN_KV_HEADS: Self = Self("own_kv_heads");
    pub(super) const CROSS_ATTENTION: Self = Self("cross_attention");
    pub(super) const NO_CHECKPOINTS: Self = Self("no_checkpoints");
    pub(super) const DECLARED_MEMORY: Self = Self("declared_memory");
    pub(super) const MEMORY_IN_FP32: Self = Self("memory_in_fp32");
    pub(super) const SM100_FP8: Self = Self("sm100_fp8");
    pub(super) const SM100_FP8_E4M3: Self = Self("sm100_fp8_e4m3");
    pub(super) const BF16_IS_AUTO: Self = Self("bf16_is_auto");
}

/// The line of a model type; empty for a type that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ModelType(&'static str);

impl ModelType {
    pub(super) fn named(name: &str) -> Self {
        let start = format!("{{\"model_type\":\"{name}\",");
        let line = memmem::find(MODEL_TYPES.as_bytes(), start.as_bytes()).and_then(|at| MODEL_TYPES.get(at..));
        Self(line.and_then(|text| text.lines().next()).unwrap_or_default())
    }

    /// Whether `release` does it for this type.
    pub(super) fn has(self, Trait(key): Trait, release: Release) -> bool {
        let mut words = self.0.split('"').skip_while(|word| *word != key);
        words.nth(2).and_then(Rule::parse).is_some_and(|rule| release.has(rule))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::engine::Engine;

    #[derive(serde::Deserialize)]
    struct Line {
        model_type: String,
        #[serde(flatten)]
        keys: BTreeMap<String, String>,
    }

    #[test]
    fn every_line_is_found_and_every_key_has_a_source() {
        let release = Release::of(&Engine::new(&super::super::PROFILE)).unwrap();
        let (sources, lines) = MODEL_TYPES.split_once('\n').unwrap();
        let sources: serde_json::Value = serde_json::from_str(sources).unwrap();
        let documented: BTreeSet<String> = sources["keys"].as_object().unwrap().keys().cloned().collect();
        let mut used = BTreeSet::new();
        let mut before = String::new();
        for text in lines.lines() {
            let line: Line = serde_json::from_str(text).unwrap();
            assert!(before < line.model_type, "{before} comes before {}", line.model_type);
            assert_eq!(ModelType::named(&line.model_type), ModelType(text));
            for (key, versions) in line.keys {
                assert!(Rule::parse(&versions).is_some(), "{text}");
                assert!(ModelType(text).has(Trait(key.clone().leak()), release), "{text}");
                used.insert(key);
            }
            before = line.model_type;
        }
        assert_eq!(used, documented);
    }

    /// A key that is mistyped in the code is in no line.
    #[test]
    fn every_key_is_in_the_lines() {
        let sources = MODEL_TYPES.lines().next().unwrap();
        for Trait(key) in [
            Trait::LATENT_CACHE,
            Trait::MTP,
            Trait::NOT_COVERED,
            Trait::EAGER,
            Trait::ATTENTION_FREE,
            Trait::WINDOW_PAST_CURRENT,
            Trait::IMAGE_PREFIX,
            Trait::KEEPS_MODEL_FORMAT,
            Trait::FLASH_ATTENTION_4,
            Trait::SINKS,
            Trait::OWN_KV_HEADS,
            Trait::CROSS_ATTENTION,
            Trait::NO_CHECKPOINTS,
            Trait::DECLARED_MEMORY,
            Trait::MEMORY_IN_FP32,
            Trait::SM100_FP8,
            Trait::SM100_FP8_E4M3,
            Trait::BF16_IS_AUTO,
        ] {
            assert!(sources.contains(&format!("\"{key}\":")), "{key}");
        }
        assert_eq!(ModelType::named("llama"), ModelType(""));
    }
}
