//! Defaults by version and device class: one table.

use crate::engine::Device;

/// What differs between the versions whose rules are known.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a rule that one version has and another has not")]
pub(super) struct Release {
    /// The version, as it is typed.
    pub(super) version: &'static str,
    /// The version whose sources were read.
    pub(super) read: &'static str,
    /// Whether every batch in flight is reserved for (`max_in_flight_tokens`), or one (`max_num_batched_tokens`).
    pub(super) reserves_all_in_flight: bool,
    /// Whether the token count is printed as concurrency × length, or as blocks per group × block size.
    pub(super) tokens_by_concurrency: bool,
    /// Whether start-up checks keep the null block back.
    pub(super) keeps_null_block: bool,
    /// Whether layers can export a state from inside a prefill, for which a request holds one block more.
    pub(super) exports_states: bool,
    /// Whether the formats, backends and compressed attention of the newest version exist.
    pub(super) is_newest: bool,
    /// Whether hybrids cache prefixes unless told otherwise, and so hold the states of a block's start and end.
    pub(super) hybrids_cache_prefixes: bool,
    /// The default of `gpu_memory_utilization` (`config/cache.py`).
    pub(super) gpu_memory_utilization: &'static str,
    /// Where that was read, for the reader.
    pub(super) read_in_cache_config: &'static str,
    /// Whether its estimate for CUDA graphs comes out of the pool (`envs.py`, `VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS`): from
    /// 0.21 on.
    pub(super) charges_graphs: bool,
    /// Batched tokens and sequences by memory, largest class first.
    pub(super) classes: &'static [Class],
}

/// A class of devices (`engine/arg_utils.py`, `get_batch_defaults`).
#[derive(Debug)]
pub(super) struct Class {
    /// The least memory, in GiB.
    memory_gib: u64,
    /// Whether the A100 is in it, too.
    with_a100: bool,
    /// `max_num_batched_tokens` of the API server.
    pub(super) server_tokens: u64,
    /// `max_num_batched_tokens` of an offline `LLM`.
    pub(super) offline_tokens: u64,
    /// `max_num_seqs`
    pub(super) sequences: u64,
}

const SMALL: Class =
    Class { memory_gib: 0, with_a100: true, server_tokens: 2_048, offline_tokens: 8_192, sequences: 256 };
const MEDIUM: Class =
    Class { memory_gib: 70, with_a100: false, server_tokens: 8_192, offline_tokens: 16_384, sequences: 1_024 };
const LARGE: Class =
    Class { memory_gib: 160, with_a100: true, server_tokens: 16_384, offline_tokens: 16_384, sequences: 1_024 };

/// The newest version, the default.
static NEWEST: Release = Release {
    version: "0.33",
    read: "0.33.0",
    reserves_all_in_flight: true,
    tokens_by_concurrency: true,
    keeps_null_block: true,
    exports_states: true,
    is_newest: true,
    hybrids_cache_prefixes: true,
    gpu_memory_utilization: "0.92",
    read_in_cache_config: "vllm 0.33.0, config/cache.py",
    charges_graphs: true,
    classes: &[LARGE, MEDIUM, SMALL],
};

/// The one that most public start-up logs are of.
static OLDER: Release = Release {
    version: "0.19",
    read: "0.19.0",
    reserves_all_in_flight: false,
    tokens_by_concurrency: false,
    keeps_null_block: false,
    exports_states: false,
    is_newest: false,
    hybrids_cache_prefixes: false,
    gpu_memory_utilization: "0.9",
    read_in_cache_config: "vllm 0.19.0, config/cache.py",
    charges_graphs: false,
    classes: &[MEDIUM, SMALL],
};

impl Release {
    /// The release of a version.
    pub(super) fn of(version: &str) -> &'static Self {
        if version == OLDER.version { &OLDER } else { &NEWEST }
    }

    /// The class of a device.
    pub(super) fn class(&self, device: &Device) -> &'static Class {
        let memory_gib = device.memory_mib / 1_024;
        let a100 = device.id.starts_with("a100");
        // GB10 has the memory of a large device, not its speed.
        let gb10 = device.compute_capability == (12, 1);
        let fits = |class: &&Class| {
            memory_gib >= class.memory_gib && (class.with_a100 || !a100) && (class.memory_gib != 70 || !gb10)
        };
        self.classes.iter().find(fits).unwrap_or(&SMALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_that_vllm_has() {
        let device = |id: &str, memory_mib| Device { id: id.into(), memory_mib, ..Device::default() };
        let newest = Release::of("0.33");
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
        assert_eq!(Release::of("0.19").class(&device("b200-sxm", 183_359)).server_tokens, 8_192);
    }
}
