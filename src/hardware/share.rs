//! Which part of a device's memory an engine takes.

use crate::engine::{Double, Engine};
use crate::units::Bytes;

/// What an engine's fraction is a fraction of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Of the total that it sees; weights and all else come out of it.
    OfTotal,
    /// Of what weights and all else leave free.
    OfFree,
    /// All of it.
    All,
}

/// The part of a device that an engine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Of what.
    pub rule: Rule,
    /// The fraction, as a decimal.
    pub default: &'static str,
    /// Where the default was read.
    pub source: &'static str,
}

/// What an engine takes unless told otherwise.
pub fn share(engine: &Engine) -> Share {
    let share = |rule, default, source| Share { rule, default, source };
    match (engine.profile.name, engine.version) {
        ("vllm", "0.19") => share(Rule::OfTotal, "0.9", "vllm 0.19.0, config/cache.py"),
        ("vllm", _) => share(Rule::OfTotal, "0.92", "vllm 0.33.0, config/cache.py"),
        ("tensorrt-llm", _) => {
            share(Rule::OfFree, "0.9", "free_gpu_memory_fraction of TensorRT-LLM, llmapi/llm_args.py, KvCacheConfig")
        }
        ("sglang", _) => share(Rule::All, "1", "sglang: what its reserve leaves"),
        ("llama.cpp" | "ollama", _) => share(Rule::All, "1", "llama.cpp: what is free but its margin"),
        _ => share(Rule::OfTotal, "0.9", "no server's share: nine tenths, as the article takes"),
    }
}

/// The part of `visible` that an engine takes by its fraction of the total: ⌈visible × fraction⌉ in doubles, as vLLM rounds it
/// (`v1/worker/utils.py`, `request_memory`).
pub fn usable(visible: Bytes, fraction: Double) -> Bytes {
    let product = Double::whole(visible.0).times(fraction);
    let whole = product.truncated();
    Bytes(if product.is_whole() { whole } else { whole.saturating_add(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Double {
        Double::parse(text).unwrap()
    }

    #[test]
    fn a_share_is_rounded_as_the_engine_rounds_it() {
        // In Python: math.ceil(85029158092 * 0.95) and math.ceil(10 * 0.5).
        assert_eq!(usable(Bytes(85_029_158_092), of("0.95")), Bytes(80_777_700_188));
        assert_eq!(usable(Bytes(10), of("0.5")), Bytes(5));
    }
}
