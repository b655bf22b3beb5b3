//! The format of the cache: what is asked for, what a class or the checkpoint makes of `auto`, and its bytes.

use super::arguments::{Generation, Resolver};
use super::classes::Trait;
use crate::model::Quantization;
use crate::units::{ElementFormat, Error, KvDtype, named};

/// The formats that `--kv-cache-dtype` takes, by our names; `fp16` where the model is in it, and `fp8` as `fp8_e4m3`.
pub(super) const FORMATS: &[&str] =
    &["fp16", "bf16", "fp8", "fp8_e4m3", "fp8_e5m2", "mxfp8", "nvfp4", "fp4_mx_block16"];

named! {
    /// A format of the cache, by its name among [`FORMATS`].
    pub(super) enum Format {
        Fp16 = "fp16",
        Bf16 = "bf16",
        Fp8E4m3 = "fp8_e4m3",
        Fp8E5m2 = "fp8_e5m2",
        Mxfp8 = "mxfp8",
        Nvfp4 = "nvfp4",
        Fp4MxBlock16 = "fp4_mx_block16",
    }
}

impl Format {
    /// The tensor's type, as torch names it.
    pub(super) fn tensor(self) -> &'static str {
        match self {
            Self::Fp16 => "float16",
            Self::Bf16 => "bfloat16",
            Self::Fp8E4m3 | Self::Mxfp8 => "float8_e4m3fn",
            Self::Fp8E5m2 => "float8_e5m2",
            Self::Nvfp4 | Self::Fp4MxBlock16 => "float4_e2m1fn_x2",
        }
    }

    /// Bytes of an element, without scales; two elements of 4 bits are one.
    pub(super) fn element_bytes(self) -> u64 {
        if matches!(self, Self::Fp16 | Self::Bf16) { 2 } else { 1 }
    }
}

impl Resolver<'_> {
    /// The format that is asked for; `None` is `auto`.
    pub(super) fn requested_format(&mut self) -> Result<Option<Format>, Error> {
        let KvDtype::Given(requested) = self.workload.kv_dtype else { return Ok(None) };
        let name = requested.k.name().filter(|_| requested.k == requested.v);
        if name == Some("fp8") {
            self.notes.assume("fp8 is taken as fp8_e4m3");
            return Ok(Some(Format::Fp8E4m3));
        }
        let known = name.and_then(Format::named);
        if known == Some(Format::Fp16) && self.model_format() == Format::Fp16 {
            return Ok(None);
        }
        known.filter(|&format| format != Format::Fp16).map(Some).ok_or_else(|| {
            let remedy = "use auto, bf16, fp8_e4m3, fp8_e5m2, mxfp8, nvfp4 or fp4_mx_block16";
            self.engine.refusal("--kv-dtype", requested, "is not a format of its cache", remedy)
        })
    }

    /// The 16-bit type that the model runs in: float16 where the checkpoint is in float32 or declares nothing, bfloat16 for
    /// such a Gemma (`configs/model_config.py`, `_get_and_verify_dtype`).
    fn model_format(&self) -> Format {
        let checkpoint = &self.model.checkpoint;
        let method = checkpoint.quantization.as_ref().and_then(|declared| declared.quant_method.as_deref());
        if self.class.is(Trait::Mxfp4InBf16) && method == Some("mxfp4") {
            return Format::Bf16;
        }
        let is_gemma = self.model.model_type.as_deref().is_some_and(|name| name.starts_with("gemma"));
        let is_float32 = checkpoint.dtype.as_deref().is_some_and(|dtype| dtype.ends_with("float32"));
        let in_fp16 = self.model.dtype == ElementFormat::FP16 || (is_float32 && !is_gemma);
        if in_fp16 { Format::Fp16 } else { Format::Bf16 }
    }

    /// What a class makes of `auto`, and what it does not take (`arg_groups/overrides.py`, `_dsa_kv_cache_dtype_default`,
    /// `_deepseek_v4_kv_cache_dtype`).
    pub(super) fn format_of_class(&mut self, requested: Option<Format>) -> Result<Option<Format>, Error> {
        let is_compressed = self.class.is(Trait::Compressed);
        if !is_compressed && !self.indexed {
            return Ok(requested);
        }
        if let Some(format) = requested {
            let of_sparse = "is not a format of DeepSeek sparse attention, which takes bf16 or fp8_e4m3";
            let (reason, remedy) = if is_compressed {
                ("is not supported for DeepseekV4ForCausalLM", "use auto or fp8_e4m3")
            } else {
                (of_sparse, "use auto, bf16 or fp8_e4m3")
            };
            let takes = matches!(format, Format::Bf16 | Format::Fp8E4m3);
            self.engine.require(takes, "--kv-dtype", format.name(), reason, remedy)?;
            return Ok(requested);
        }
        let blackwell = self.gpu_is(Generation::SinceBlackwell) && !self.class.is(Trait::DsaAutoBf16);
        let format = if is_compressed || blackwell { Format::Fp8E4m3 } else { Format::Bf16 };
        self.notes.assume(format!("auto is {}: SGLang's own choice for this class and device", format.name()));
        Ok(Some(format))
    }

    /// What is stored: the format asked for or chosen by a class, else fp8 where the checkpoint declares an FP8 cache in a
    /// form that SGLang reads (`mem_cache/kv_cache_dtype.py`; `layers/quantization/`), else the model's type.
    pub(super) fn stored_format(&mut self, requested: Option<Format>) -> Format {
        let of_model = self.model_format();
        let quantization = self.model.checkpoint.quantization.as_ref().filter(|_| requested.is_none());
        let Some(quantization) = quantization else { return requested.unwrap_or(of_model) };
        let follows = declares_fp8(quantization);
        let format = if follows { Format::Fp8E4m3 } else { of_model };
        if let Some(declared) = quantization.declared_kv() {
            let name = format.name();
            self.notes.assume(if follows {
                format!("auto is {name}: the checkpoint declares {declared}")
            } else {
                format!("auto is {name}: SGLang does not read the {declared} of this checkpoint")
            });
        }
        format
    }
}

/// Whether a checkpoint declares an FP8 cache in a form that its parser reads (`layers/quantization/modelopt_quant.py`,
/// `fp8.py`, `compressed_tensors/compressed_tensors.py`; `configs/model_config.py`, `_parse_modelopt_quant_config`).
fn declares_fp8(declared: &Quantization) -> bool {
    let scheme = declared.kv_cache_scheme.as_ref();
    let float8 = scheme.is_some_and(|scheme| scheme.num_bits == Some(8) && scheme.kind.as_deref() == Some("float"));
    let algorithm = declared.kv_cache_quant_algo.as_deref().unwrap_or_default();
    let by_name = !declared.algo_is_scheme && algorithm.eq_ignore_ascii_case("FP8");
    let weights = declared.quant_algo.as_deref().unwrap_or_default();
    if declared.beside {
        return declared.producer.as_deref().is_some_and(|name| name.starts_with("modelopt")) && by_name;
    }
    match declared.quant_method.as_deref() {
        None | Some("modelopt" | "modelopt_fp4" | "modelopt_fp8" | "modelopt_mixed") => {
            let modelopt = weights.contains("FP4") || matches!(weights, "FP8" | "MXFP8" | "MIXED_PRECISION");
            let by_text = weights.contains("FP4")
                && declared.algo_is_scheme
                && ["FP8", "FLOAT8"].contains(&algorithm.trim().to_ascii_uppercase().as_str());
            modelopt && if scheme.is_some() { float8 } else { by_name || by_text }
        }
        Some("fp8" | "mxfp8") => by_name,
        Some("compressed-tensors") => scheme.is_some_and(|scheme| {
            float8
                && scheme.strategy.as_deref() == Some("tensor")
                && scheme.symmetric.unwrap_or(true)
                && !scheme.dynamic.unwrap_or_default()
        }),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KvCacheScheme;

    /// A format that is misspelt here is no format of kvsize.
    #[test]
    fn every_format_is_known() {
        for format in Format::ALL {
            assert_eq!(format.name().parse::<crate::units::KvFormat>().unwrap().name(), Some(format.name()));
            assert!(FORMATS.contains(&format.name()));
        }
    }

    /// What each parser reads, and what it does not.
    #[test]
    fn an_fp8_cache_is_followed_only_in_a_form_that_is_read() {
        let text = |text: &str| Some(text.to_owned());
        let scheme = Some(KvCacheScheme { num_bits: Some(8), kind: text("float"), ..KvCacheScheme::default() });
        let tensor = scheme.clone().map(|scheme| KvCacheScheme { strategy: text("tensor"), ..scheme });
        let of = |method: &str, algorithm: &str| Quantization {
            quant_method: text(method),
            quant_algo: text(algorithm),
            ..Quantization::default()
        };
        let named = |declared: Quantization| Quantization { kv_cache_quant_algo: text("FP8"), ..declared };
        let schemed = |declared: Quantization| Quantization { algo_is_scheme: true, ..named(declared) };
        for (declared, follows) in [
            (Quantization { kv_cache_scheme: scheme.clone(), ..of("modelopt", "NVFP4") }, true),
            (Quantization { kv_cache_scheme: scheme.clone(), ..of("modelopt", "FP8") }, true),
            (named(of("modelopt", "FP8")), true),
            (schemed(of("modelopt", "NVFP4")), true),
            // A text where an object is wanted.
            (schemed(of("modelopt", "FP8")), false),
            (named(of("modelopt", "INT4")), false),
            (named(of("fp8", "")), true),
            (named(of("awq", "")), false),
            (Quantization { kv_cache_scheme: tensor.clone(), ..of("compressed-tensors", "") }, true),
            (Quantization { kv_cache_scheme: scheme, ..of("compressed-tensors", "") }, false),
            (
                Quantization {
                    kv_cache_scheme: tensor.map(|scheme| KvCacheScheme { dynamic: Some(true), ..scheme }),
                    ..of("compressed-tensors", "")
                },
                false,
            ),
            (named(Quantization { beside: true, producer: text("modelopt"), ..Quantization::default() }), true),
            (named(Quantization { beside: true, ..Quantization::default() }), false),
        ] {
            assert_eq!(declares_fp8(&declared), follows, "{declared:?}");
        }
    }
}
