//! `--kv-cache-dtype`: vLLM's names, and what `auto` comes to (`config/cache.py`, `utils/torch_utils.py`).

use crate::model::{KvCacheScheme, Quantization};
use crate::units::{ElementFormat, KvDtype, KvFormat};

/// The formats taken, by our names, which are vLLM's but for `fp16` and `bf16`.
pub(super) const NAMES: &[&str] = &[
    "fp16",
    "bf16",
    "fp8",
    "fp8_e4m3",
    "fp8_e5m2",
    "fp8_ds_mla",
    "nvfp4_ds_mla",
    "turboquant_k8v4",
    "turboquant_4bit_nc",
    "turboquant_k3v4_nc",
    "turboquant_3bit_nc",
    "int4_per_token_head",
    "int8_per_token_head",
    "fp8_per_token_head",
    "nvfp4",
    "nvfp4_4over6",
];

/// What a cache is stored in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheDtype {
    /// The model's own 16-bit format.
    Model,
    /// A format by its name.
    Named(KvFormat),
}

impl CacheDtype {
    /// The format asked for, if it is one of vLLM's.
    pub(super) fn asked(kv_dtype: KvDtype) -> Option<Self> {
        match kv_dtype {
            KvDtype::Auto => Some(Self::Model),
            KvDtype::Given(format) => NAMES.contains(&format.name()?).then_some(Self::Named(format)),
        }
    }

    /// A format by its name.
    pub(super) fn named(name: &str) -> Self {
        name.parse().map_or(Self::Model, Self::Named)
    }

    /// Its name; `auto` for the model's own.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Model => "auto",
            Self::Named(format) => format.name().unwrap_or("auto"),
        }
    }

    /// What is stored, on a model in `model`.
    pub(super) fn format(self, model: ElementFormat) -> KvFormat {
        match self {
            Self::Model => model.into(),
            Self::Named(format) => format,
        }
    }

    /// Whether it is smaller than 16 bits (`is_quantized_kv_cache`).
    pub(super) fn is_quantized(self) -> bool {
        !matches!(self.name(), "auto" | "fp16" | "bf16")
    }

    /// Whether it is an 8-bit float with one scale for the whole cache.
    pub(super) fn is_fp8(self) -> bool {
        matches!(self.name(), "fp8" | "fp8_e4m3" | "fp8_e5m2")
    }

    /// Whether it is one of the `TurboQuant` pairs.
    pub(super) fn is_turboquant(self) -> bool {
        self.name().starts_with("turboquant_")
    }

    /// Bytes of one head's K and V of one token, scales included: each vector rounded up to whole bytes, and a
    /// `TurboQuant` slot to an even number of them.
    pub(super) fn content(self, k_dim: u64, v_dim: u64, model: ElementFormat) -> Option<u64> {
        let format = self.format(model);
        let bytes = |format: ElementFormat, dim: u64| {
            if dim == 0 {
                return Some(0);
            }
            u64::try_from(format.bits_of_vectors(1, u128::from(dim))?.div_ceil(8)).ok()
        };
        let content = bytes(format.k, k_dim)?.checked_add(bytes(format.v, v_dim)?)?;
        if self.is_turboquant() { content.checked_next_multiple_of(2) } else { Some(content) }
    }
}

/// All names, for a message.
pub(super) fn names() -> String {
    format!("auto, {}", NAMES.join(", "))
}

/// What `auto` comes to: the KV scheme that the checkpoint declares, where it does in a way that vLLM reads
/// (`get_kv_cache_quant_algo_string`; for compressed-tensors `model_executor/layers/attention/attention.py`).
pub(super) fn declared(quantization: Option<&Quantization>) -> CacheDtype {
    let Some(quantization) = quantization else { return CacheDtype::Model };
    // A file beside the configuration counts only when its producer is named.
    let by_modelopt = quantization.producer.as_deref() == Some("modelopt");
    let method = match quantization.quant_method.as_deref() {
        Some(method) => method,
        None if quantization.beside && by_modelopt => "modelopt",
        None => "",
    };
    if method.starts_with("modelopt") {
        return match (&quantization.kv_cache_scheme, quantization.kv_cache_quant_algo.as_deref()) {
            (Some(KvCacheScheme { num_bits: Some(8), kind: Some(kind), dynamic: Some(false), .. }), _)
                if kind == "float" =>
            {
                CacheDtype::named("fp8_e4m3")
            }
            (Some(KvCacheScheme { num_bits: Some(4), kind: Some(kind), .. }), _) if kind == "float" => {
                CacheDtype::named("nvfp4")
            }
            (Some(_), _) | (None, None) => CacheDtype::Model,
            (None, Some(algorithm)) => match algorithm.to_lowercase().as_str() {
                "fp8" => CacheDtype::named("fp8_e4m3"),
                "nvfp4" => CacheDtype::named("nvfp4"),
                _ => CacheDtype::Model,
            },
        };
    }
    let compressed_tensors = matches!(method, "compressed-tensors" | "compressed_tensors");
    if compressed_tensors && quantization.kv_cache_scheme.is_some() {
        return CacheDtype::named("fp8");
    }
    CacheDtype::Model
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of one head of 128 and one token, as vLLM's planner has them.
    #[test]
    fn content_is_that_of_the_planner() {
        for (name, bytes) in [
            ("bf16", 512),
            ("fp8", 256),
            ("fp8_per_token_head", 264),
            ("int8_per_token_head", 264),
            ("int4_per_token_head", 136),
            ("nvfp4", 144),
            ("turboquant_k8v4", 196),
            ("turboquant_4bit_nc", 134),
            ("turboquant_k3v4_nc", 118),
            ("turboquant_3bit_nc", 102),
        ] {
            let dtype = CacheDtype::asked(name.parse().unwrap()).unwrap();
            assert_eq!(dtype.content(128, 128, ElementFormat::BF16), Some(bytes), "{name}");
        }
        assert_eq!(CacheDtype::Model.content(128, 64, ElementFormat::BF16), Some(384));
        assert_eq!(CacheDtype::asked("q8_0".parse().unwrap()), None);
        assert_eq!(CacheDtype::asked(ElementFormat::bitwidth(8).into()), None);
    }

    #[test]
    fn every_name_is_a_format() {
        for name in NAMES {
            assert_eq!(CacheDtype::named(name).name(), *name);
        }
    }
}
