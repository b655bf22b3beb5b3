//! What differs between versions: a version is a row of [`RELEASES`], a rule a row of [`Rule`], a device class a row of [`CLASSES`].
//!
//! A rule starts at the first version that was read and has it; where two versions that were read lie apart, that is the
//! later one. Sources are files of the wheel of that version.

use memchr::memmem;

use crate::engine::{Device, Engine};
use crate::units::{Code, Error, named};

/// A version of vLLM: major and minor number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(u32, u32);

impl Version {
    const FIRST: Self = Self(0, 0);
    const LAST: Self = Self(u32::MAX, u32::MAX);

    /// `0.33`
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// A rule: the versions that have it, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    since: Version,
    until: Version,
}

impl Rule {
    pub(super) const ALWAYS: Self = Self { since: Version::FIRST, until: Version::LAST };

    const fn since(minor: u32) -> Self {
        Self { since: Version(0, minor), until: Version::LAST }
    }

    const fn until(minor: u32) -> Self {
        Self { since: Version::FIRST, until: Version(0, minor) }
    }

    /// As a row of data has them: `0.14..0.19`, `0.20..`, `..0.19` or `..`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (since, until) = text.split_once("..")?;
        let or = |text: &str, open| if text.is_empty() { Some(open) } else { Version::parse(text) };
        Some(Self { since: or(since, Version::FIRST)?, until: or(until, Version::LAST)? })
    }

    // The rules that some versions have and others have not.
    /// Formats of the cache past 8-bit floats and `fp8_ds_mla` (`config/cache.py`, 0.33.0).
    pub(super) const FORMATS_PAST_FP8: Self = Self::since(33);
    /// DeepSeek-V4's caches as they are computed here (`models/deepseek_v4/`, 0.33.0).
    pub(super) const COMPRESSED_ATTENTION: Self = Self::since(33);
    /// The classes that can't be split into pipeline stages are those of the list (`SupportsPP`, 0.33.0).
    pub(super) const ONE_STAGE_CLASSES: Self = Self::since(33);
    /// The model types with MTP layers are those of the list (`config/speculative.py`, 0.33.0).
    pub(super) const MTP_TYPES: Self = Self::since(33);
    /// The cache of a window has V of its own width (`models/mimo_v2_flash.py`: padded to K's until 0.19).
    pub(super) const WINDOWS_HAVE_V_WIDTH: Self = Self::since(20);
    /// The block of a window is the largest whose page fits in that of full attention (`_largest_kernel_block_within`,
    /// 0.33.0).
    pub(super) const WINDOW_BLOCKS_FIT_PAGES: Self = Self::since(33);
    /// Latents of hybrids are in blocks of 64 tokens (`models/config.py:349`, 0.11.2), and later of 128
    /// (`platforms/interface.py:888`, 0.27.1).
    pub(super) const HYBRID_LATENT_BLOCKS_OF_64: Self = Self::until(19);
    pub(super) const HYBRID_LATENT_BLOCKS_OF_128: Self = Self::since(27);
    /// Hybrids cache prefixes by default, and so hold the states at the start and the end of a block
    /// (`engine/arg_utils.py:2650`, 0.28.0).
    pub(super) const HYBRIDS_CACHE_PREFIXES: Self = Self::since(28);
    /// A request holds one more state, for a checkpoint inside a prefill: of KDA (`models/kimi_k3/nvidia/kda.py:599`,
    /// 0.29.0), Mamba-2 (`layers/mamba/mamba_mixer2.py:1107`, 0.32.0) and gated delta nets, whose blocks are then multiples
    /// of 64 tokens (`gdn/qwen_gdn_linear_attn.py:748`, `platforms/interface.py:1091`, 0.33.0).
    pub(super) const KDA_CHECKPOINTS: Self = Self::since(29);
    pub(super) const MAMBA2_CHECKPOINTS: Self = Self::since(32);
    pub(super) const DELTA_NET_CHECKPOINTS: Self = Self::since(33);
    /// Windows and chunks reserve for every batch in flight (`max_in_flight_tokens`, `v1/kv_cache_interface.py:503`,
    /// 0.26.0), before that for one (`max_num_batched_tokens`).
    pub(super) const EVERY_BATCH_IN_FLIGHT: Self = Self::since(26);
    /// The printed tokens are concurrency × length (`v1/core/kv_cache_utils.py:1706`, 0.20.2), before that blocks per group
    /// × block size.
    pub(super) const TOKENS_BY_CONCURRENCY: Self = Self::since(20);
    /// `gpu_memory_utilization` is 0.92 (`config/cache.py:66`, 0.20.2), before that 0.9.
    pub(super) const LARGER_SHARE: Self = Self::since(20);
    /// The estimate for CUDA graphs comes out of the pool (`envs.py`, `VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`, 0.21).
    pub(super) const GRAPHS_OUT_OF_POOL: Self = Self::since(21);
    /// The start-up check keeps one block back (`v1/core/kv_cache_utils.py:975`, 0.29.0).
    pub(super) const NULL_BLOCK: Self = Self::since(29);
}

/// A version whose rules are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Release {
    /// As it is typed.
    name: &'static str,
    /// The version whose sources were read.
    pub(super) read: &'static str,
    version: Version,
}

/// Every version whose rules are known, the default first.
const RELEASES: &[Release] = &[
    Release { name: "0.33", read: "0.33.0", version: Version(0, 33) },
    Release { name: "0.19", read: "0.19.0", version: Version(0, 19) },
];

/// The names of [`RELEASES`].
pub(super) const VERSIONS: &[&str] = &[RELEASES[0].name, RELEASES[1].name];

const _: () = assert!(VERSIONS.len() == RELEASES.len());

impl Release {
    /// The release that an engine is at.
    pub(super) fn of(engine: &Engine) -> Result<Self, Error> {
        RELEASES.iter().find(|release| release.name == engine.version).copied().ok_or_else(|| {
            let remedy = format!("use one of {}", VERSIONS.join(", "));
            Error::new(Code::UnknownEngine, "--engine", engine.to_string(), "has no rules of this version", remedy)
        })
    }

    pub(super) fn has(self, rule: Rule) -> bool {
        (rule.since..=rule.until).contains(&self.version)
    }

    /// The class of a device.
    pub(super) fn class(self, device: &Device) -> &'static Class {
        let memory_gib = device.memory_mib / 1_024;
        // The A100 and GB10 have the memory of larger devices, not their speed.
        let is_slow = device.id.starts_with("a100") || device.compute_capability == (12, 1);
        let fits =
            |class: &&Class| self.has(class.rule) && memory_gib >= class.memory_gib && (class.with_slow || !is_slow);
        CLASSES.iter().find(fits).unwrap_or(&SMALL)
    }
}

/// Defaults of a class of devices (`engine/arg_utils.py`, `get_batch_defaults`).
pub(super) struct Class {
    rule: Rule,
    /// The least memory, in GiB.
    memory_gib: u64,
    with_slow: bool,
    /// `max_num_batched_tokens` of the API server.
    pub(super) server_tokens: u64,
    /// `max_num_batched_tokens` of an offline `LLM`.
    pub(super) offline_tokens: u64,
    /// `max_num_seqs`
    pub(super) sequences: u64,
}

/// The classes above [`SMALL`], the largest first.
const CLASSES: &[Class] = &[
    Class { rule: Rule::since(28), memory_gib: 160, server_tokens: 16_384, ..MEDIUM },
    Class { with_slow: false, ..MEDIUM },
];

const MEDIUM: Class = Class { memory_gib: 70, server_tokens: 8_192, offline_tokens: 16_384, sequences: 1_024, ..SMALL };

const SMALL: Class = Class {
    rule: Rule::ALWAYS,
    memory_gib: 0,
    with_slow: true,
    server_tokens: 2_048,
    offline_tokens: 8_192,
    sequences: 256,
};

// What vLLM does for single model types: a line each in `models.jsonl`, whose first line says where each key was read.

const MODEL_TYPES: &str = include_str!("models.jsonl");

named! {
    /// A key of the lines.
    pub(super) enum Trait {
        LatentCache = "latent_cache", Mtp = "mtp", NotCovered = "not_covered", Eager = "eager",
        AttentionFree = "attention_free", WindowPastCurrent = "window_past_current", ImagePrefix = "image_prefix",
        KeepsModelFormat = "keeps_model_format", FlashAttention4 = "flash_attention_4", Sinks = "sinks",
        OwnKvHeads = "own_kv_heads", CrossAttention = "cross_attention", NoCheckpoints = "no_checkpoints",
        DeclaredMemory = "declared_memory", MemoryInFp32 = "memory_in_fp32", Sm100Fp8 = "sm100_fp8",
        Sm100Fp8E4m3 = "sm100_fp8_e4m3", Bf16IsAuto = "bf16_is_auto",
    }
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
    pub(super) fn has(self, key: Trait, release: Release) -> bool {
        let mut words = self.0.split('"').skip_while(|word| *word != key.name());
        words.nth(2).and_then(Rule::parse).is_some_and(|rule| release.has(rule))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use std::collections::{BTreeMap, BTreeSet};

    fn release(version: &'static str) -> Result<Release, Error> {
        Release::of(&Engine { version, ..Engine::new(&super::super::PROFILE) })
    }

    #[test]
    fn every_version_has_its_rules_and_an_unknown_one_is_refused() {
        for version in super::super::PROFILE.versions {
            let found = release(version).unwrap();
            assert_eq!((found.name, Some(found.version)), (*version, Version::parse(version)));
            assert!(found.read.starts_with(version));
        }
        for version in ["", "0.34", "0.33.0", "0.20"] {
            let error = release(version).unwrap_err();
            assert_eq!(
                (error.code, error.remedy.as_str()),
                (Code::UnknownEngine, "use one of 0.33, 0.19"),
                "{version}"
            );
        }
    }

    #[test]
    fn a_rule_includes_both_its_ends() {
        let [newest, older] = ["0.33", "0.19"].map(|version| release(version).unwrap());
        for (versions, has) in [
            ("..", (true, true)),
            ("0.33..", (true, false)),
            ("0.20..0.33", (true, false)),
            ("..0.19", (false, true)),
            ("0.14..0.18", (false, false)),
        ] {
            let rule = Rule::parse(versions).unwrap();
            assert_eq!((newest.has(rule), older.has(rule)), has, "{versions}");
        }
        assert_eq!(["", "0.33", "x..", "0.33.0.."].map(Rule::parse), [None; 4]);
    }

    #[test]
    fn classes_are_those_that_vllm_has() {
        let device = |id: &str, memory_mib| Device { id: id.to_owned().into(), memory_mib, ..Device::default() };
        let newest = release("0.33").unwrap();
        for (device, tokens) in [
            (device("h100-sxm", 81_559), 8_192),
            (device("a100-sxm4-80gb", 81_920), 2_048),
            (device("h200-sxm", 143_771), 8_192),
            (device("b200-sxm", 183_359), 16_384),
            (device("rtx-4090", 24_564), 2_048),
        ] {
            assert_eq!(newest.class(&device).server_tokens, tokens, "{}", device.id);
        }
        let gb10 = Device { compute_capability: (12, 1), ..device("gb10", 122_880) };
        assert_eq!(newest.class(&gb10).server_tokens, 2_048);
        assert_eq!(release("0.19").unwrap().class(&device("b200-sxm", 183_359)).server_tokens, 8_192);
    }

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
                assert!(ModelType(text).has(Trait::named(&key).unwrap(), release), "{text}");
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
        for key in Trait::NAMES {
            assert!(sources.contains(&format!("\"{key}\":")), "{key}");
        }
        assert_eq!(ModelType::named("llama"), ModelType(""));
    }
}
