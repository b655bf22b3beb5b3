//! `--kv-cache-dtype`: vLLM's names, and what `auto` comes to (`config/cache.py`, `utils/torch_utils.py`).

use std::sync::LazyLock;

use super::release::Rule;
use crate::model::{KvCacheScheme, Quantization};
use crate::units::{self, ElementFormat, Error, Exact, KvDtype, KvFormat};

/// A format of the cache.
pub(super) struct Row {
    /// Our name, which is vLLM's but for `fp16` and `bf16`.
    name: &'static str,
    /// What is stored; `None` for the model's own format.
    format: Option<KvFormat>,
    /// Bytes of a whole latent, where it is a layout of its own for them.
    pub(super) packed_latent: Option<u64>,
    /// The versions that take it.
    pub(super) rule: Rule,
}

impl Row {
    fn new(name: &'static str, rule: Rule) -> Self {
        let entry = units::FORMATS.iter().find(|entry| entry.name == name);
        let packed_latent = entry.and_then(|entry| entry.packed).map(|(bytes, _)| bytes);
        Self { name, format: name.parse().ok(), packed_latent, rule }
    }
}

/// Declares the formats, a row each.
macro_rules! formats {
    ($($dtype:ident $name:literal $rule:ident;)*) => {
        /// What a cache is stored in.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum CacheDtype {
            /// `auto`: the model's own 16-bit format.
            Model,
            $($dtype,)*
        }

        /// Every format, in the order of [`CacheDtype`].
        static FORMATS: LazyLock<Vec<Row>> =
            LazyLock::new(|| vec![Row::new("auto", Rule::ALWAYS), $(Row::new($name, Rule::$rule),)*]);

        const DTYPES: &[CacheDtype] = &[$(CacheDtype::$dtype,)*];

        /// The names of [`DTYPES`].
        pub(super) const NAMES: &[&str] = &[$($name,)*];
    };
}

formats! {
    Fp16 "fp16" ALWAYS;
    Bf16 "bf16" ALWAYS;
    Fp8 "fp8" ALWAYS;
    Fp8E4m3 "fp8_e4m3" ALWAYS;
    Fp8E5m2 "fp8_e5m2" ALWAYS;
    Fp8DsMla "fp8_ds_mla" ALWAYS;
    Nvfp4DsMla "nvfp4_ds_mla" FORMATS_PAST_FP8;
    TurboquantK8v4 "turboquant_k8v4" FORMATS_PAST_FP8;
    Turboquant4BitNc "turboquant_4bit_nc" FORMATS_PAST_FP8;
    TurboquantK3v4Nc "turboquant_k3v4_nc" FORMATS_PAST_FP8;
    Turboquant3BitNc "turboquant_3bit_nc" FORMATS_PAST_FP8;
    Int4PerTokenHead "int4_per_token_head" FORMATS_PAST_FP8;
    Int8PerTokenHead "int8_per_token_head" FORMATS_PAST_FP8;
    Fp8PerTokenHead "fp8_per_token_head" FORMATS_PAST_FP8;
    Nvfp4 "nvfp4" FORMATS_PAST_FP8;
    Nvfp4FourOverSix "nvfp4_4over6" FORMATS_PAST_FP8;
}

impl CacheDtype {
    /// The format asked for, if it is one of vLLM's.
    pub(super) fn asked(kv_dtype: KvDtype) -> Option<Self> {
        match kv_dtype {
            KvDtype::Auto => Some(Self::Model),
            KvDtype::Given(format) => {
                let name = format.name()?;
                DTYPES.iter().copied().find(|dtype| dtype.row().name == name)
            }
        }
    }

    pub(super) fn row(self) -> &'static Row {
        &FORMATS[self as usize]
    }

    /// What is stored, on a model in `model`.
    pub(super) fn format(self, model: ElementFormat) -> KvFormat {
        self.row().format.unwrap_or(model.into())
    }

    /// Whether it is smaller than 16 bits (`is_quantized_kv_cache`).
    pub(super) fn is_quantized(self) -> bool {
        !matches!(self, Self::Model | Self::Fp16 | Self::Bf16)
    }

    /// Whether it is an 8-bit float with one scale for the whole cache.
    pub(super) fn is_fp8(self) -> bool {
        matches!(self, Self::Fp8 | Self::Fp8E4m3 | Self::Fp8E5m2)
    }

    /// Whether it is one of the `TurboQuant` pairs.
    pub(super) fn is_turboquant(self) -> bool {
        matches!(self, Self::TurboquantK8v4 | Self::Turboquant4BitNc | Self::TurboquantK3v4Nc | Self::Turboquant3BitNc)
    }

    /// Bytes of one head's K and V of one token, scales included: each vector rounded up to whole bytes, and a
    /// `TurboQuant` slot to an even number of them.
    pub(super) fn content(self, k_dim: u64, v_dim: u64, model: ElementFormat) -> Result<u64, Error> {
        let format = self.format(model);
        let bytes = |format: ElementFormat, dim: u64| {
            // No vector, no scale.
            let bits = if dim == 0 { Some(0) } else { format.bits_of_vectors(1, u128::from(dim)) };
            bits.map(|bits| Exact::from(bits).div_ceil(8u64)).ok_or_else(Error::too_large)
        };
        let content = bytes(format.k, k_dim)? + bytes(format.v, v_dim)?;
        if self.is_turboquant() { content.round_up_to(2u64) } else { content }.get()
    }
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
            (Some(KvCacheScheme { num_bits, kind: Some(kind), dynamic, .. }), _) if kind == "float" => {
                match (num_bits, dynamic) {
                    (Some(8), Some(false)) => CacheDtype::Fp8E4m3,
                    (Some(4), _) => CacheDtype::Nvfp4,
                    _ => CacheDtype::Model,
                }
            }
            (None, Some(algorithm)) if algorithm.eq_ignore_ascii_case("fp8") => CacheDtype::Fp8E4m3,
            (None, Some(algorithm)) if algorithm.eq_ignore_ascii_case("nvfp4") => CacheDtype::Nvfp4,
            _ => CacheDtype::Model,
        };
    }
    let compressed_tensors = matches!(method, "compressed-tensors" | "compressed_tensors");
    if compressed_tensors && quantization.kv_cache_scheme.is_some() { CacheDtype::Fp8 } else { CacheDtype::Model }
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
            assert_eq!(dtype.content(128, 128, ElementFormat::BF16), Ok(bytes), "{name}");
        }
        assert_eq!(CacheDtype::Model.content(128, 64, ElementFormat::BF16), Ok(384));
        assert_eq!(CacheDtype::asked("q8_0".parse().unwrap()), None);
        assert_eq!(CacheDtype::asked(ElementFormat::bitwidth(8).into()), None);
    }

    /// Each name is a format's, and none the model's 16 bits.
    #[test]
    fn every_name_is_a_format() {
        for name in NAMES {
            let asked = CacheDtype::asked(name.parse().unwrap()).unwrap();
            assert_eq!(asked.row().name, *name);
            assert_eq!(asked.format(ElementFormat::FP32).name(), Some(*name));
        }
        assert_eq!(CacheDtype::Fp8DsMla.row().packed_latent, Some(656));
        assert_eq!(CacheDtype::Nvfp4DsMla.row().packed_latent, Some(352));
    }
}
