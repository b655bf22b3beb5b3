//! The attention backend: which one runs, what it takes, and the page that it wants. DeepSeek sparse attention has further
//! ones for prefill and decode, which decide how fp8 latents are kept.

use serde::Deserialize;

use super::arguments::{Generation, Resolver};
use super::classes::Trait;
use super::format::Format;
use super::layers::{SLIDING, has, has_uneven_heads};
use super::state::Strategy;
use crate::units::{Error, named};

named! {
    /// Kernels of attention.
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum Backend {
        Triton = "triton", TorchNative = "torch_native", FlexAttention = "flex_attention", Dsa = "dsa", Dsv4 = "dsv4",
        Fa3 = "fa3", Fa4 = "fa4", Flashinfer = "flashinfer", Flashmla = "flashmla", TrtllmMla = "trtllm_mla",
        CutedslMla = "cutedsl_mla", TrtllmMha = "trtllm_mha", HpcOps = "hpc_ops",
    }
}

named! {
    /// Kernels of sparse attention.
    #[derive(Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub(super) enum DsaBackend {
        FlashmlaSparse = "flashmla_sparse", FlashmlaSparseQ8 = "flashmla_sparse_q8", FlashmlaKv = "flashmla_kv",
        FlashmlaAuto = "flashmla_auto", FlashinferSparseMla = "flashinfer_sparse_mla",
        TritonSparseMla = "triton_sparse_mla", Fa3 = "fa3", Tilelang = "tilelang", Trtllm = "trtllm",
    }
}

/// A backend that a class has by default, on some GPUs and under a condition.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendRule {
    on: Option<Generation>,
    #[serde(rename = "if")]
    when: Option<Condition>,
    #[serde(rename = "use")]
    backend: Backend,
}

/// What a rule depends on in addition to the GPU.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    /// The format is `fp8_e4m3`.
    #[serde(rename = "fp8_e4m3")]
    Fp8E4m3,
    /// Tokens are drafted.
    Speculative,
    /// At most one branch is drafted.
    SingleBranch,
    /// Recurrent layers have states.
    States,
    /// States are kept so that attention may have pages, and `trtllm_mha` is the usual backend.
    PagedStates,
    /// Some layers slide.
    Sliding,
}

/// A backend, and whether the user, the class or other settings set it: the device's own is decided later, and gives way.
#[derive(Debug, Clone, Copy)]
struct Chosen {
    backend: Backend,
    set: bool,
}

/// How attention is computed, and in what the cache is kept for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attention {
    pub(super) backend: Backend,
    pub(super) format: Format,
    /// Tokens of a page.
    pub(super) page: u64,
    /// How nvfp4 is kept.
    pub(super) nvfp4: Nvfp4Scales,
}

/// How the scales of nvfp4 are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nvfp4Scales {
    /// The cache is unpacked to fp8 for prefill, which takes scales in linear order and a workspace.
    pub(super) unpacked: bool,
    /// Scales are kept as the decode kernel of SM100 reads them.
    pub(super) native: bool,
}

const FIELD: &str = "--attention-backend";
const OTHER: &str = "use another backend";
const DSA_FIELDS: &str = "--dsa-prefill-backend and --dsa-decode-backend";

/// The GPUs that a backend runs on, where those are not all.
const GPUS: &[(Backend, &[Generation], &str)] = &[
    (Backend::TrtllmMla, &[Generation::Blackwell], "is only supported on Blackwell GPUs (SM100/SM12x)"),
    (Backend::CutedslMla, &[Generation::Sm100], "is only supported on Blackwell GPUs (SM100)"),
    (Backend::TrtllmMha, TRTLLM_MHA, "requires Hopper (SM90), Blackwell (SM100) or SM120 GPUs"),
];

const TRTLLM_MHA: &[Generation] = &[Generation::Hopper, Generation::Sm100, Generation::Sm120];

impl Resolver<'_> {
    /// The backend, the format and the page, in the order in which SGLang settles them (`arg_groups/pipeline.py`).
    pub(super) fn attention(&mut self, requested: Option<Format>) -> Result<Attention, Error> {
        let format = self.format_of_class(requested)?;
        let chosen = self.backend(format)?;
        let unpacked = self.unpacks_nvfp4(format, chosen)?;
        let backend = chosen.backend;
        let backend = if format == Some(Format::Nvfp4) && !unpacked { Backend::TrtllmMha } else { backend };
        let page = self.page(backend, format);
        self.check_backend(backend, format)?;
        let backend =
            if backend == Backend::Fa3 && format == Some(Format::Fp8E5m2) { Backend::Triton } else { backend };
        let page = self.page_of_fa4(backend).unwrap_or(page);
        if !unpacked {
            self.check_fp4(format, backend)?;
        }
        let nvfp4 = Nvfp4Scales { unpacked, native: self.gpu_is(Generation::Sm100) };
        Ok(Attention { backend, format: self.stored_format(format), page, nvfp4 })
    }

    /// The attention backend that is given, or that the class or the device has by default (`arg_groups/model_overrides/`,
    /// `model_override_base.py`, `get_default_attn_backend`).
    fn backend(&self, format: Option<Format>) -> Result<Chosen, Error> {
        let class = &self.class;
        if let Some(given) = self.choice("attention-backend", Backend::named) {
            let taken = class.backends.is_empty() || class.backends.contains(&given);
            let reason = format_args!("is not taken by {}", class.name);
            self.engine.require(taken, FIELD, given.name(), reason, "leave it out")?;
            return Ok(Chosen { backend: given, set: true });
        }
        if self.indexed {
            return Ok(Chosen { backend: Backend::Dsa, set: true });
        }
        let usual = self.usual_backend();
        let applies = |condition| self.holds(condition, format, usual);
        let is_on = |rule: &BackendRule| rule.on.is_none_or(|generation| self.gpu_is(generation));
        let rule = class.default_backend.iter().find(|rule| is_on(rule) && rule.when.is_none_or(applies));
        let of_device = Chosen { backend: usual, set: usual != self.backend_of_device() };
        Ok(rule.map_or(of_device, |rule| Chosen { backend: rule.backend, set: true }))
    }

    fn holds(&self, condition: Condition, format: Option<Format>, usual: Backend) -> bool {
        let speculative = self.algorithm.is_some();
        match condition {
            Condition::Fp8E4m3 => format == Some(Format::Fp8E4m3),
            Condition::Speculative => speculative,
            Condition::SingleBranch => self.branches().is_none_or(|branches| branches == 1),
            Condition::States => self.has_states,
            Condition::PagedStates => {
                let strategy = self.choice("mamba-radix-cache-strategy", Strategy::named);
                let snapshots = strategy.is_some_and(Strategy::takes_snapshots);
                usual == Backend::TrtllmMha && (snapshots || !self.radix() || speculative)
            }
            Condition::Sliding => has(self.model, SLIDING),
        }
    }

    fn branches(&self) -> Option<u64> {
        self.count("speculative-eagle-topk")
    }

    /// The backend of a model without a rule of its class.
    fn usual_backend(&self) -> Backend {
        let branches = self.branches();
        let whole_pages = |branches| branches == 1 && self.count("page-size").is_none_or(|page| page == 1);
        let chain = branches.is_none_or(whole_pages);
        let sm100 = self.gpu_is(Generation::Sm100);
        if self.latent
            || (self.gpu_is(Generation::Hopper) && chain)
            || (sm100 && chain && (self.algorithm.is_none() || branches.is_some()))
        {
            self.backend_of_device()
        } else if self.class.is(Trait::Sinks) {
            Backend::Triton
        } else {
            Backend::Flashinfer
        }
    }

    /// The backend of a model without a rule of its class, whatever is drafted.
    fn backend_of_device(&self) -> Backend {
        let (hopper, sm100) = (self.gpu_is(Generation::Hopper), self.gpu_is(Generation::Sm100));
        match self.latent {
            _ if hopper => Backend::Fa3,
            true if sm100 => Backend::Flashinfer,
            true => Backend::Triton,
            false if sm100 && has_uneven_heads(self.model) => Backend::Fa4,
            false if sm100 => Backend::TrtllmMha,
            false => Backend::Flashinfer,
        }
    }

    /// Whether nvfp4 is unpacked to fp8 for prefill (`arg_groups/kv_cache_hook.py`,
    /// `handle_nvfp4_prefill_kv_dequant_dtype`).
    fn unpacks_nvfp4(&self, format: Option<Format>, chosen: Chosen) -> Result<bool, Error> {
        let Chosen { backend, set } = chosen;
        if format != Some(Format::Nvfp4) {
            return Ok(false);
        }
        let sm100 = self.gpu_is(Generation::Sm100);
        let remedy = "name one with --gpu, or use fp4_mx_block16";
        let takes = sm100 || self.gpu_is(Generation::Sm120);
        self.engine.require(takes, "--kv-dtype", "nvfp4", "requires Blackwell SM100 or SM120", remedy)?;
        if backend == Backend::Flashinfer && set {
            return Ok(true);
        }
        let name = backend.name();
        let reason =
            format!("supports an fp8_e4m3 workspace or native nvfp4 for prefill, but backend {name} provides neither");
        let remedy = "use another format or --attention-backend";
        self.engine.require(backend == Backend::TrtllmMha || !set, "--kv-dtype", "nvfp4", reason, remedy)?;
        Ok(!sm100)
    }

    /// The page that the class and the backend want (`arg_groups/overrides.py`, `_mla_backend_page_constraints`).
    fn page(&self, backend: Backend, format: Option<Format>) -> u64 {
        if self.class.is(Trait::Compressed) {
            return 256;
        }
        if self.indexed {
            return 64;
        }
        let of_index = self.class.is(Trait::HeadIndex)
            && match backend {
                Backend::Fa3 => self.gpu_is(Generation::Hopper),
                Backend::Fa4 | Backend::TrtllmMha => self.gpu_is(Generation::Sm100),
                _ => false,
            };
        let page = self.count("page-size").unwrap_or(if of_index { 128 } else { 1 });
        let taken: &[u64] = match backend {
            Backend::Flashmla | Backend::HpcOps => &[64],
            Backend::TrtllmMla | Backend::CutedslMla => &[32, 64],
            Backend::TrtllmMha => &[16, 32, 64, 128],
            _ if format == Some(Format::Nvfp4) => &[16, 32, 64, 128],
            _ => return page,
        };
        if taken.contains(&page) { page } else { 64 }
    }

    /// The page of FA4's kernel, where it runs on SM100 (`_fa4_page_constraint`).
    fn page_of_fa4(&self, backend: Backend) -> Option<u64> {
        let chain = self.branches().unwrap_or_default() <= 1;
        let constrained = backend == Backend::Fa4 && !self.latent && self.gpu_is(Generation::Sm100) && chain;
        constrained.then(|| self.class.fa4_page.unwrap_or(128))
    }

    /// Refuses what the backend does not take (`arg_groups/attention_hook.py`, `overrides.py`).
    fn check_backend(&self, backend: Backend, format: Option<Format>) -> Result<(), Error> {
        let engine = self.engine;
        for (of, generations, reason) in GPUS {
            let runs = *of != backend || generations.iter().any(|&generation| self.gpu_is(generation));
            engine.require(runs, FIELD, backend.name(), reason, OTHER)?;
        }
        let taken = backend != Backend::TrtllmMla
            || matches!(format, None | Some(Format::Fp8E4m3 | Format::Fp16 | Format::Bf16));
        let reason = "only supports a cache in fp8_e4m3, bf16 or auto";
        engine.require(taken, FIELD, backend.name(), reason, "use one of these")?;
        let refused = self.class.refused_backends.contains(&backend);
        let reason = format_args!("is not supported by {}", self.class.name);
        engine.require(!refused, FIELD, backend.name(), reason, OTHER)?;
        let runs = format != Some(Format::Mxfp8) || self.gpu_is(Generation::Blackwell);
        let remedy = "name one with --gpu, or use fp8_e4m3";
        engine.require(runs, "--kv-dtype", "mxfp8", "requires an SM100+ (Blackwell) GPU", remedy)
    }

    /// Refuses backends that do not read 4 bits (`arg_groups/kv_cache_hook.py`, `handle_kv4_compatibility`).
    fn check_fp4(&self, format: Option<Format>, backend: Backend) -> Result<(), Error> {
        let Some(format @ (Format::Nvfp4 | Format::Fp4MxBlock16)) = format else { return Ok(()) };
        let unified = self.is_on("enable-unified-memory");
        let reason = "does not yet support --enable-unified-memory";
        self.engine.require(!unified, "--kv-dtype", format.name(), reason, "leave that out")?;
        let (kind, taken): (_, &[Backend]) = if self.latent {
            ("MLA", &[Backend::Flashinfer, Backend::TrtllmMla])
        } else {
            ("MHA", &[Backend::Triton, Backend::TorchNative, Backend::FlexAttention, Backend::TrtllmMha])
        };
        let (names, found) =
            (taken.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", "), backend.name());
        let reason = format_args!("of {kind} expects attention_backend to be one of {names}, but got {found}");
        let remedy = "name one with --attention-backend";
        self.engine.require(taken.contains(&backend), "--kv-dtype", format.name(), reason, remedy)
    }

    /// Bytes of an element of MiniMax-M3's index; `None` for other models (`get_minimax_sparse_index_dtype`).
    pub(super) fn head_index_element(&self, attention: Attention) -> Option<u64> {
        let fp8_kernels = self.gpu_is(Generation::Hopper)
            || (self.gpu_is(Generation::Sm100) && attention.backend == Backend::TrtllmMha);
        let is_fp8 = attention.format == Format::Fp8E4m3 && fp8_kernels;
        self.class.is(Trait::HeadIndex).then_some(if is_fp8 { 1 } else { 2 })
    }

    /// Whether fp8 latents are kept without scales (`calculate_mla_kv_cache_dim`).
    pub(super) fn keeps_raw_latents(&self, format: Format) -> Result<bool, Error> {
        let given = ["dsa-prefill-backend", "dsa-decode-backend"].map(|name| self.choice(name, DsaBackend::named));
        if !self.indexed {
            for (field, given) in ["--dsa-prefill-backend", "--dsa-decode-backend"].into_iter().zip(given) {
                let found = given.map_or("", DsaBackend::name);
                let reason = "is for models of DeepSeek sparse attention";
                self.engine.require(given.is_none(), field, found, reason, "leave it out")?;
            }
            return Ok(false);
        }
        let [default_prefill, default_decode] = self.default_dsa_backends(format);
        let [prefill, decode] = [given[0].unwrap_or(default_prefill), given[1].unwrap_or(default_decode)];
        let (raw, of_tilelang) = ([prefill, decode].contains(&DsaBackend::Trtllm), DsaBackend::Tilelang);
        let mixed = (prefill == of_tilelang) != (decode == of_tilelang);
        let found = format_args!("{} and {}", prefill.name(), decode.name());
        let reason = "mix the raw layout of tilelang with the scaled one";
        let taken = format != Format::Fp8E4m3 || !mixed;
        self.engine.require(taken, DSA_FIELDS, found, reason, "use tilelang for both")?;
        Ok(raw || (prefill, decode) == (of_tilelang, of_tilelang))
    }

    /// The default backends, of prefill and of decode (`arg_groups/overrides.py`, `_dsa_split_backend_resolution`).
    fn default_dsa_backends(&self, format: Format) -> [DsaBackend; 2] {
        let both = |backend| [backend, backend];
        let blackwell = self.gpu_is(Generation::SinceBlackwell);
        let of_sm120 = self.class.dsa_sm120_backend.filter(|_| self.gpu_is(Generation::Sm120));
        match (self.class.dsa_backend, format == Format::Fp8E4m3) {
            (Some(backend), _) => both(backend),
            (None, true) if blackwell => both(of_sm120.unwrap_or(DsaBackend::Trtllm)),
            (None, true) => both(DsaBackend::FlashmlaKv),
            (None, false) if blackwell => [DsaBackend::FlashmlaSparse, DsaBackend::Trtllm],
            (None, false) => [DsaBackend::FlashmlaSparse, DsaBackend::Fa3],
        }
    }
}
