//! DeepSeek sparse attention: the backends of prefill and decode, which decide how fp8 latents are kept.

use super::format::Format;
use super::resolver::{Generation, Resolver};
use super::words::words;
use crate::units::Error;

words! {
    /// Kernels of sparse attention.
    DsaBackend {
        FlashmlaSparse = "flashmla_sparse", FlashmlaSparseQ8 = "flashmla_sparse_q8", FlashmlaKv = "flashmla_kv",
        FlashmlaAuto = "flashmla_auto", FlashinferSparseMla = "flashinfer_sparse_mla",
        TritonSparseMla = "triton_sparse_mla", Fa3 = "fa3", Tilelang = "tilelang", Trtllm = "trtllm",
    }
}

/// The kernels of both phases.
struct DsaBackends {
    prefill: DsaBackend,
    decode: DsaBackend,
}

impl Resolver<'_> {
    /// Whether fp8 latents are kept without scales (`calculate_mla_kv_cache_dim`).
    pub(super) fn keeps_raw_latents(&self, format: Format) -> Result<bool, Error> {
        let (prefill, decode) = (self.choice("dsa-prefill-backend"), self.choice("dsa-decode-backend"));
        if !self.indexed {
            for (field, given) in [("--dsa-prefill-backend", prefill), ("--dsa-decode-backend", decode)] {
                if let Some(given) = given.map(|given: DsaBackend| given.to_string()) {
                    return self.refuse(field, &given, "is for models of DeepSeek sparse attention", "leave it out");
                }
            }
            return Ok(false);
        }
        let default = self.default_dsa_backends(format);
        let (prefill, decode) = (prefill.unwrap_or(default.prefill), decode.unwrap_or(default.decode));
        let (raw, of_tilelang) = ([prefill, decode].contains(&DsaBackend::Trtllm), DsaBackend::Tilelang);
        let mixed = (prefill == of_tilelang) != (decode == of_tilelang);
        self.engine.require(
            format != Format::Fp8E4m3 || !mixed,
            "--dsa-prefill-backend and --dsa-decode-backend",
            format_args!("{prefill} and {decode}"),
            "mix the raw layout of tilelang with the scaled one",
            "use tilelang for both",
        )?;
        Ok(raw || (prefill, decode) == (of_tilelang, of_tilelang))
    }

    /// The default backends (`arg_groups/overrides.py`, `_dsa_split_backend_resolution`).
    fn default_dsa_backends(&self, format: Format) -> DsaBackends {
        let both = |backend| DsaBackends { prefill: backend, decode: backend };
        let blackwell = self.gpu_is(Generation::SinceBlackwell);
        let of_sm120 = self.class.dsa_sm120_backend.filter(|_| self.gpu_is(Generation::Sm120));
        match (self.class.dsa_backend, format == Format::Fp8E4m3) {
            (Some(backend), _) => both(backend),
            (None, true) if blackwell => both(of_sm120.unwrap_or(DsaBackend::Trtllm)),
            (None, true) => both(DsaBackend::FlashmlaKv),
            (None, false) => DsaBackends {
                prefill: DsaBackend::FlashmlaSparse,
                decode: if blackwell { DsaBackend::Trtllm } else { DsaBackend::Fa3 },
            },
        }
    }
}
