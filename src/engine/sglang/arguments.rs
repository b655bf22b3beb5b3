//! What SGLang makes of its arguments, the checkpoint and the device before it sizes anything: the attention backend, the
//! format, the page, and who may run at once.

use super::classes::{
    COMPRESSED, DEEPSEEK_FAMILY, GEMMA4, INDEXED, INDEXED_HEADS, LATENT, MIMO_V2, NOT_COVERED, SINKS, StateClass,
    class_of, has_shape, state_class, window_pool,
};
use crate::engine::{Double, Engine};
use crate::estimate::Workload;
use crate::model::{DraftMethod, KeyValue, LayerCache, LayerGroup, Model, Quantization};
use crate::units::{ElementFormat, Error, KvDtype, KvFormat};

/// The formats that `--kv-cache-dtype` takes, by our names; `fp16` where the model is in it, and `fp8` as `fp8_e4m3`.
pub(super) const FORMATS: &[&str] =
    &["fp16", "bf16", "fp8", "fp8_e4m3", "fp8_e5m2", "mxfp8", "nvfp4", "fp4_mx_block16"];

/// A format of the cache, as SGLang knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// 16 bits: `bfloat16` or `float16`.
    Plain(&'static str),
    /// `fp8_e4m3`
    Fp8E4m3,
    /// `fp8_e5m2`
    Fp8E5m2,
    /// `mxfp8`
    Mxfp8,
    /// `nvfp4`
    Nvfp4,
    /// `fp4_mx_block16`
    Fp4MxBlock16,
}

impl Format {
    /// The tensor's type, as torch names it.
    pub(super) fn tensor(self) -> &'static str {
        match self {
            Self::Plain(name) => name,
            Self::Fp8E4m3 | Self::Mxfp8 => "float8_e4m3fn",
            Self::Fp8E5m2 => "float8_e5m2",
            Self::Nvfp4 | Self::Fp4MxBlock16 => "float4_e2m1fn_x2",
        }
    }

    /// Bytes of an element, scales aside; two of 4 bits are one element.
    pub(super) fn element(self) -> u64 {
        if matches!(self, Self::Plain(_)) { 2 } else { 1 }
    }

    /// Whether it has 4 bits.
    pub(super) fn is_fp4(self) -> bool {
        matches!(self, Self::Nvfp4 | Self::Fp4MxBlock16)
    }

    /// Its name among the arguments.
    fn name(self) -> &'static str {
        match self {
            Self::Plain("float16") => "fp16",
            Self::Plain(_) => "bf16",
            Self::Fp8E4m3 => "fp8_e4m3",
            Self::Fp8E5m2 => "fp8_e5m2",
            Self::Mxfp8 => "mxfp8",
            Self::Nvfp4 => "nvfp4",
            Self::Fp4MxBlock16 => "fp4_mx_block16",
        }
    }

    /// The same among the formats of kvsize.
    pub(super) fn stored(self) -> KvFormat {
        self.name().parse().unwrap_or_else(|_| ElementFormat::BF16.into())
    }
}

/// What drafts tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draft {
    /// Layers that the pool reckons with.
    pub(super) layers: u64,
    /// Of them, those that slide.
    pub(super) sliding: u64,
    /// Steps of drafting.
    steps: u64,
    /// Branches of a step.
    topk: u64,
    /// Tokens to verify.
    pub(super) tokens: u64,
}

impl Draft {
    /// Tokens that a decode step may allocate (`mem_cache/allocation_sizing.py`, `get_alloc_len_per_decode`).
    fn allocation(self, page: u64, own_cache: bool) -> u64 {
        let plain = self.steps.saturating_mul(self.topk);
        if page == 1 || self.topk == 1 || !own_cache {
            return plain.max(self.tokens);
        }
        let pages = page.saturating_mul(2).saturating_sub(2).saturating_add(self.steps).checked_div(page);
        pages.unwrap_or_default().saturating_mul(page).saturating_mul(self.topk).max(self.tokens)
    }
}

/// How states are kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct States {
    /// Slots of a running request.
    pub(super) slots_per_request: u64,
    /// Slots in all, where they are given: `max-mamba-cache-size`, or a slot a request without the radix cache.
    pub(super) fixed: Option<u64>,
    /// The share of states to everything else.
    pub(super) ratio: Double,
    /// Bytes of an element of the memory.
    pub(super) memory_format: ElementFormat,
}

/// Everything resolved.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent answer")]
pub(super) struct Arguments {
    /// Where attention is computed.
    pub(super) backend: &'static str,
    /// The format.
    pub(super) format: Format,
    /// Tokens of a page.
    pub(super) page: u64,
    /// Ranks that divide heads.
    pub(super) attention_tp: u64,
    /// Groups of ranks that each serve requests of their own.
    pub(super) attention_dp: u64,
    /// The longest request.
    pub(super) context: u64,
    /// Requests of one group at once, where given or set.
    pub(super) requests: Option<u64>,
    /// Whether prefixes are cached.
    pub(super) radix: bool,
    /// Tokens of a prefill chunk; none where prefill is not chunked.
    pub(super) chunk: Option<u64>,
    /// Chunks in flight.
    chunks: u64,
    /// The share of window tokens to full ones.
    pub(super) window_ratio: Double,
    /// The runner's window, where windowed layers get a pool.
    pub(super) window: Option<u64>,
    /// The most tokens, where given.
    pub(super) max_tokens: Option<u64>,
    /// Whether one buffer holds all pools.
    pub(super) unified: bool,
    /// What drafts.
    pub(super) draft: Option<Draft>,
    /// Whether anything drafts with a cache of its own.
    pub(super) own_draft_cache: bool,
    /// How states are kept, where there are any.
    pub(super) states: Option<States>,
    /// Whether latents are kept.
    pub(super) latent: bool,
    /// Whether latents have an index beside them.
    pub(super) indexed: bool,
    /// Whether fp8 latents of an indexed model are kept without scales.
    pub(super) raw_latents: bool,
    /// Bytes of an element of MiniMax-M3's index; 0 where the model is another.
    pub(super) index_element: u64,
    /// Whether it is `DeepSeek`-V4.
    pub(super) compressed: bool,
    /// Whether nvfp4 is unpacked for prefill, which takes scales in another order and a workspace.
    pub(super) unpacks: bool,
    /// Whether nvfp4's scales are kept as the decode kernel reads them.
    pub(super) native_scales: bool,
    /// What was taken for granted.
    pub(super) assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub(super) warnings: Vec<String>,
}

/// The groups of the model's own layers, without those of a drafter.
pub(super) fn own_groups(model: &Model) -> impl Iterator<Item = (&LayerGroup, usize)> {
    let first = model.drafter.as_ref().map_or(u32::MAX, |drafter| drafter.first_layer);
    let own = move |group: &LayerGroup| group.layers.partition_point(|&layer| layer < first);
    model.layer_groups.iter().map(move |group| (group, own(group))).filter(|(_, layers)| *layers > 0)
}

fn has(model: &Model, wanted: impl Fn(&LayerCache) -> bool) -> bool {
    own_groups(model).any(|(group, _)| wanted(&group.cache))
}

fn slides(cache: &LayerCache) -> bool {
    matches!(cache, LayerCache::SlidingWindow { .. } | LayerCache::ChunkedLocal { .. })
}

/// Of which generation the device is.
#[derive(Debug, Clone, Copy)]
struct Platform {
    major: u32,
}

impl Platform {
    fn hopper(self) -> bool {
        self.major == 9
    }
    fn sm100(self) -> bool {
        self.major == 10
    }
    fn sm120(self) -> bool {
        self.major == 12
    }
    fn blackwell(self) -> bool {
        matches!(self.major, 10..=12)
    }

    /// One of three, as several classes choose.
    fn pick(self, sm100: &'static str, hopper: &'static str, other: &'static str) -> &'static str {
        match self.major {
            10 => sm100,
            9 => hopper,
            _ => other,
        }
    }
}

/// How attention is computed, and on what.
#[derive(Debug, Clone, Copy)]
struct Attention {
    backend: &'static str,
    format: Format,
    page: u64,
    unpacks: bool,
}

/// What is asked, and the model it is asked of.
struct Resolver<'a> {
    model: &'a Model,
    engine: &'a Engine,
    class: &'a str,
    platform: Platform,
    state: Option<StateClass>,
    latent: bool,
    indexed: bool,
    asymmetric: bool,
    assumptions: Vec<String>,
    warnings: Vec<String>,
}

impl Arguments {
    pub(super) fn resolve(model: &Model, workload: &Workload, engine: &Engine) -> Result<Self, Error> {
        let class = class_of(model);
        let latent = has(model, |cache| matches!(cache, LayerCache::Latent { .. }));
        let index = has(model, |cache| matches!(cache, LayerCache::Indexer { ratio: 1, .. }));
        let known = |list: &[&str]| class.is_empty() || list.contains(&class);
        let uneven = |cache: &LayerCache| {
            cache.key_value().and_then(KeyValue::head_dims).is_some_and(|(head_dim, v_head_dim)| head_dim != v_head_dim)
        };
        let mut resolver = Resolver {
            model,
            engine,
            class,
            platform: Platform { major: engine.device.compute_capability.0 },
            state: None,
            latent,
            indexed: latent && index && known(INDEXED),
            asymmetric: has(model, uneven),
            assumptions: Vec::new(),
            warnings: Vec::new(),
        };
        resolver.refuse(workload)?;
        resolver.recurrence()?;
        if latent && !LATENT.contains(&class) {
            let class =
                if class.is_empty() { "a model of no class that SGLang 0.5.23 is known to have" } else { class };
            resolver.warnings.push(format!("{class} is taken to keep its latents, as MLA classes do"));
        }
        resolver.resolve(workload)
    }
}

impl Resolver<'_> {
    fn refusal(
        &self,
        field: &'static str,
        found: impl std::fmt::Display,
        reason: impl Into<String>,
        remedy: &'static str,
    ) -> Error {
        self.engine.refusal(field, found, reason, remedy)
    }

    fn choice(&self, name: &str) -> Option<&'static str> {
        self.engine.settings.choice(name)
    }

    fn count(&self, name: &str) -> Option<u64> {
        self.engine.settings.count(name)
    }

    fn on(&self, name: &str) -> bool {
        self.engine.settings.switch(name).unwrap_or_default()
    }

    /// What these rules do not cover.
    fn refuse(&self, workload: &Workload) -> Result<(), Error> {
        if let Some((class, reason)) = NOT_COVERED.iter().find(|(known, _)| *known == self.class) {
            return Err(self.refusal("MODEL", class, *reason, "use --engine ideal"));
        }
        if has(self.model, |cache| matches!(cache, LayerCache::CrossAttention { optional: false, .. })) {
            let reason = "is an encoder-decoder, whose cache is not modelled";
            return Err(self.refusal("MODEL", &self.model.name, reason, "use --engine ideal"));
        }
        if let Some(context) = self.count("context-length").filter(|&context| context < workload.seq_len.0) {
            let reason = format!("is shorter than the sequences ({})", workload.seq_len);
            return Err(self.refusal("--context-length", context, reason, "give at least --seq-len, or leave it out"));
        }
        if let Some(fraction) = self.engine.settings.ratio("mem-fraction-static") {
            let reason = "is of a device's whole memory, weights included, and --memory is what is left for the cache";
            return Err(self.refusal(
                "--mem-fraction-static",
                fraction.value(),
                reason,
                "leave it out and give --memory",
            ));
        }
        if self.class == COMPRESSED && self.on("disable-hybrid-swa-memory") {
            let reason = "is not modelled for DeepSeek-V4, whose pools need it";
            return Err(self.refusal("--disable-hybrid-swa-memory", "it", reason, "leave it out"));
        }
        if workload.layout.dcp > 1 {
            let reason = "is not modelled: its pools span the tokens of all ranks";
            return Err(self.refusal("--dcp", workload.layout.dcp, reason, "leave it out"));
        }
        Ok(())
    }

    fn recurrence(&mut self) -> Result<(), Error> {
        let mechanism = own_groups(self.model).find_map(|(group, _)| match group.cache {
            LayerCache::Recurrent(state) => Some(state.mechanism),
            _ => None,
        });
        let Some(mechanism) = mechanism else { return Ok(()) };
        self.state = state_class(self.class).filter(|_| has_shape(mechanism));
        if self.state.is_some() {
            return Ok(());
        }
        let class = if self.class.is_empty() { mechanism.name() } else { self.class };
        // A class that SGLang does not know is wrapped as transformers has it, and sized as if each layer attended.
        if has(self.model, |cache| matches!(cache, LayerCache::FullAttention { .. })) {
            self.warnings.push(format!(
                "{class} has recurrent layers that SGLang 0.5.23 keeps no states for: sized as its transformers wrapper \
                 is, every layer as full attention; whether it can be served is not known"
            ));
            return Ok(());
        }
        let reason = "has recurrent layers that SGLang 0.5.23 keeps no states for";
        Err(self.refusal("MODEL", class, reason, "use --engine ideal"))
    }

    fn resolve(mut self, workload: &Workload) -> Result<Arguments, Error> {
        let (ranks, groups) = self.parallel(workload)?;
        let compressed = self.class == COMPRESSED;
        let algorithm = self.algorithm()?;
        let asked = self.asked(workload.kv_dtype)?;
        let slots = self.snapshots(workload)?;
        let attention = self.attention(asked, algorithm.is_some())?;
        let window = self.window();
        let draft = self.draft(algorithm, window.is_some())?;
        let overlap = !(self.on("disable-overlap-schedule")
            || workload.layout.pp > 1
            || slots.is_some_and(|(_, no_buffer)| no_buffer));
        let requests = self.count("max-running-requests").or(match (compressed, algorithm) {
            (true, _) => Some(256),
            (false, Some(_)) => Some(48),
            (false, None) => None,
        });
        let of_group = |total: u64| total.checked_div(groups).unwrap_or_default();
        let requests = requests.map(|requests| of_group(requests).max(1));
        let radix = !self.on("disable-radix-cache");
        let fixed = self.count("max-mamba-cache-size").map(of_group).or(requests.filter(|_| !radix));
        let states = slots.map(|(snapshots, _)| States {
            slots_per_request: match (radix, snapshots) {
                (false, _) => 1,
                (true, 2) if !overlap => 4,
                (true, snapshots) => snapshots.saturating_add(3),
            },
            fixed,
            ratio: self.engine.settings.ratio("mamba-full-memory-ratio").unwrap_or(Double::ratio(9, 10)),
            memory_format: self.memory_format(),
        });
        let chunk = super::chunked_prefill_size(self.engine);
        let unified = self.on("enable-unified-memory");
        if unified && (compressed || (window.is_none() && states.is_none())) {
            let reason = "only supports hybrid Mamba and hybrid sliding-window models, DeepSeek-V4 excluded";
            return Err(self.refusal("--enable-unified-memory", "it", reason, "leave it out"));
        }
        if self.engine.settings.switch("enable-multimodal").is_some() {
            self.assumptions.push("--enable-multimodal does not change what the pools hold".into());
        }
        Ok(Arguments {
            backend: attention.backend,
            format: attention.format,
            page: attention.page,
            attention_tp: ranks,
            attention_dp: groups,
            context: self.count("context-length").unwrap_or(workload.seq_len.0),
            requests,
            radix,
            chunk: Some(of_group(chunk)).filter(|&chunk| chunk > 0),
            chunks: if overlap { 2 } else { 1 },
            window_ratio: self.window_ratio()?,
            window,
            max_tokens: self.count("max-total-tokens"),
            unified,
            draft,
            own_draft_cache: algorithm.is_some_and(|algorithm| algorithm != "NGRAM"),
            states,
            latent: self.latent,
            indexed: self.indexed,
            raw_latents: self.raw_latents(attention.format)?,
            index_element: self.index_element(attention),
            compressed,
            unpacks: attention.unpacks,
            native_scales: self.platform.sm100(),
            assumptions: self.assumptions,
            warnings: self.warnings,
        })
    }

    /// The backend, the format and the page, in the order in which SGLang settles them (`arg_groups/pipeline.py`).
    fn attention(&mut self, asked: Option<Format>, speculative: bool) -> Result<Attention, Error> {
        let given = asked;
        let asked = self.of_class(given)?;
        if let (None, Some(format)) = (given, asked) {
            self.assumptions.push(format!("auto is {}: SGLang's own choice for this class and device", format.name()));
        }
        let backend = self.backend(asked, speculative)?;
        let unpacks = self.nvfp4(asked, backend)?;
        let backend = if asked == Some(Format::Nvfp4) && !unpacks { "trtllm_mha" } else { backend };
        let page = self.page(backend, asked);
        self.backend_takes(backend, asked)?;
        let backend = if backend == "fa3" && asked == Some(Format::Fp8E5m2) { "triton" } else { backend };
        let page = self.page_of_fa4(backend, page);
        self.four_bits(asked, backend, unpacks)?;
        Ok(Attention { backend, format: self.checkpoint(asked), page, unpacks })
    }

    /// Window tokens for each full one.
    fn window_ratio(&self) -> Result<Double, Error> {
        let default = if self.class == COMPRESSED { Double::ratio(1, 10) } else { Double::ratio(8, 10) };
        let ratio = self.engine.settings.ratio("swa-full-tokens-ratio").unwrap_or(default);
        if ratio > Double::whole(1) {
            let remedy = "give a ratio above 0 and up to 1";
            return Err(self.refusal("--swa-full-tokens-ratio", ratio.value(), "is above 1", remedy));
        }
        Ok(ratio)
    }

    /// Whether fp8 latents are kept without scales (`calculate_mla_kv_cache_dim`).
    fn raw_latents(&self, format: Format) -> Result<bool, Error> {
        let backends = self.dsa_backends(format)?;
        Ok(backends.is_some_and(|(prefill, decode)| {
            prefill == "trtllm" || decode == "trtllm" || (prefill == "tilelang" && decode == "tilelang")
        }))
    }

    /// Bytes of an element of MiniMax-M3's index (`get_minimax_sparse_index_dtype`).
    fn index_element(&self, attention: Attention) -> u64 {
        let fp8_kernels = self.platform.sm100() && attention.backend == "trtllm_mha";
        match attention.format {
            _ if !INDEXED_HEADS.contains(&self.class) => 0,
            Format::Fp8E4m3 if self.platform.hopper() || fp8_kernels => 1,
            _ => 2,
        }
    }

    /// Ranks that divide heads, and groups of them that serve requests of their own.
    fn parallel(&self, workload: &Workload) -> Result<(u64, u64), Error> {
        let tp = workload.layout.tp;
        let groups = self.count("dp-size").unwrap_or(1);
        if !self.on("enable-dp-attention") {
            if groups > 1 {
                let reason = "makes replicas unless attention is data parallel";
                return Err(self.refusal("--dp-size", groups, reason, "add --enable-dp-attention, or use --dp"));
            }
            return Ok((tp, 1));
        }
        match tp.checked_div(groups) {
            Some(ranks) if tp.is_multiple_of(groups) => Ok((ranks, groups)),
            _ => Err(self.refusal("--dp-size", groups, format!("does not divide --tp {tp}"), "use one that does")),
        }
    }

    /// How tokens are drafted, `NEXTN` being another name of EAGLE.
    fn algorithm(&mut self) -> Result<Option<&'static str>, Error> {
        let given = self.choice("speculative-algorithm").map(|name| if name == "NEXTN" { "EAGLE" } else { name });
        let of_drafter = self.model.drafter.as_ref().map(|drafter| match drafter.method {
            DraftMethod::Mtp => "EAGLE",
            DraftMethod::Eagle => "EAGLE3",
            DraftMethod::DraftModel => "STANDALONE",
            DraftMethod::Ngram => "NGRAM",
        });
        let algorithm = given.or(of_drafter);
        if self.class == COMPRESSED && !matches!(algorithm, None | Some("EAGLE")) {
            let found = algorithm.unwrap_or_default();
            let reason = "is not supported for DeepseekV4ForCausalLM";
            return Err(self.refusal("--speculative-algorithm", found, reason, "use EAGLE"));
        }
        Ok(algorithm)
    }

    /// The format that was asked for; none is `auto`.
    fn asked(&mut self, kv_dtype: KvDtype) -> Result<Option<Format>, Error> {
        let KvDtype::Given(format) = kv_dtype else { return Ok(None) };
        let of_model = self.model_format();
        let listed = format.k.name().filter(|name| FORMATS.contains(name));
        let known = match (listed, format.k == format.v) {
            (Some("bf16"), true) => Some(Format::Plain("bfloat16")),
            (Some("fp16"), true) if of_model == "float16" => return Ok(None),
            (Some("fp8"), true) => {
                self.assumptions.push("fp8 is taken as fp8_e4m3".into());
                Some(Format::Fp8E4m3)
            }
            (Some("fp8_e4m3"), true) => Some(Format::Fp8E4m3),
            (Some("fp8_e5m2"), true) => Some(Format::Fp8E5m2),
            (Some("mxfp8"), true) => Some(Format::Mxfp8),
            (Some("nvfp4"), true) => Some(Format::Nvfp4),
            (Some("fp4_mx_block16"), true) => Some(Format::Fp4MxBlock16),
            _ => None,
        };
        if known.is_none() {
            let reason = "is not a format of its cache";
            let remedy = "use auto, bf16, fp8_e4m3, fp8_e5m2, mxfp8, nvfp4 or fp4_mx_block16";
            return Err(self.refusal("--kv-dtype", format, reason, remedy));
        }
        Ok(known)
    }

    /// The 16-bit type of the model: a checkpoint of 32 bits is served in float16, Gemma's in bfloat16
    /// (`configs/model_config.py`, `_get_and_verify_dtype`).
    fn model_format(&self) -> &'static str {
        let wide = self.model.checkpoint.dtype.as_deref().is_some_and(|dtype| dtype.ends_with("float32"));
        // Its mxfp4 kernels take bfloat16 (`arg_groups/model_overrides/gpt_oss.py`).
        let quantization = self.model.checkpoint.quantization.as_ref();
        let mxfp4 = quantization.is_some_and(|quantization| quantization.quant_method.as_deref() == Some("mxfp4"));
        if self.class == "GptOssForCausalLM" && mxfp4 {
            return "bfloat16";
        }
        let gemma = self.model.model_type.as_deref().is_some_and(|name| name.starts_with("gemma"));
        if self.model.dtype == ElementFormat::FP16 || (wide && !gemma) { "float16" } else { "bfloat16" }
    }

    /// What a class makes of `auto`, and what it does not take (`arg_groups/overrides.py`, `_dsa_kv_cache_dtype_default`,
    /// `_deepseek_v4_kv_cache_dtype`).
    fn of_class(&self, asked: Option<Format>) -> Result<Option<Format>, Error> {
        let takes = |format: Format| matches!(format, Format::Plain("bfloat16") | Format::Fp8E4m3);
        if self.class == COMPRESSED {
            return match asked {
                None => Ok(Some(Format::Fp8E4m3)),
                Some(format) if takes(format) => Ok(Some(format)),
                Some(format) => {
                    let reason = "is not supported for DeepseekV4ForCausalLM";
                    Err(self.refusal("--kv-dtype", format.name(), reason, "use auto or fp8_e4m3"))
                }
            };
        }
        if !self.indexed {
            return Ok(asked);
        }
        let major = self.platform.major;
        match asked {
            None if major >= 10 && self.class != "HYV4ForCausalLM" => Ok(Some(Format::Fp8E4m3)),
            None => Ok(Some(Format::Plain("bfloat16"))),
            Some(format) if takes(format) => Ok(Some(format)),
            Some(format) => {
                let reason = "is not a format of DeepSeek sparse attention, which takes bf16 or fp8_e4m3";
                Err(self.refusal("--kv-dtype", format.name(), reason, "use auto, bf16 or fp8_e4m3"))
            }
        }
    }

    /// What `auto` comes to where no rule of a class has decided: fp8 where the checkpoint declares an FP8 cache in a form
    /// that SGLang reads (`mem_cache/kv_cache_dtype.py`; `layers/quantization/`), else the model's type.
    fn checkpoint(&mut self, asked: Option<Format>) -> Format {
        let plain = Format::Plain(self.model_format());
        match (asked, &self.model.checkpoint.quantization) {
            (Some(format), _) => format,
            (None, Some(quantization)) => {
                let follows = declares_fp8(quantization);
                let format = if follows { Format::Fp8E4m3 } else { plain };
                if let Some(declared) = quantization.declared_kv() {
                    let name = format.name();
                    self.assumptions.push(if follows {
                        format!("auto is {name}: the checkpoint declares {declared}")
                    } else {
                        format!("auto is {name}: SGLang does not read the {declared} of this checkpoint")
                    });
                }
                format
            }
            (None, None) => plain,
        }
    }

    /// The slots for snapshots of a request, and whether the strategy is the one without them.
    fn snapshots(&self, workload: &Workload) -> Result<Option<(u64, bool)>, Error> {
        const FIELD: &str = "--mamba-radix-cache-strategy";
        let given = self.choice("mamba-radix-cache-strategy").filter(|name| *name != "auto");
        let extra_given = given.filter(|name| name.starts_with("extra_buffer"));
        let radix = !self.on("disable-radix-cache");
        let Some(state) = self.state else {
            return match extra_given {
                Some(name) if radix => Err(self.refusal(FIELD, name, "needs mamba state", "leave it out")),
                _ => Ok(None),
            };
        };
        if !radix {
            return Ok(Some((0, false)));
        }
        if !state.radix {
            return match extra_given {
                Some(name) => Err(self.refusal(FIELD, name, "needs a model that caches states", "leave it out")),
                None => Ok(Some((0, false))),
            };
        }
        let pages = self.count("page-size").unwrap_or(1);
        let overlap = !self.on("disable-overlap-schedule");
        let strategy = match given {
            Some(name) => name,
            None if (overlap || pages > 1) && state.extra_buffer => "extra_buffer",
            None => "no_buffer",
        };
        if strategy == "no_buffer" {
            if pages > 1 {
                return Err(self.refusal("--page-size", pages, "is not taken by no_buffer", "use 1"));
            }
            if given.is_some() && overlap {
                let reason = "does not support overlap scheduling";
                return Err(self.refusal(FIELD, strategy, reason, "add --disable-overlap-schedule"));
            }
            if self.choice("attention-backend") == Some("trtllm_mha") {
                let reason = "is not taken by no_buffer";
                return Err(self.refusal("--attention-backend", "trtllm_mha", reason, "use another"));
            }
            return Ok(Some((0, true)));
        }
        if !state.extra_buffer {
            let reason = format!("is not supported for {}", self.class);
            return Err(self.refusal(FIELD, strategy, reason, "use no_buffer"));
        }
        if strategy == "extra_buffer_lazy" && (!overlap || workload.layout.pp > 1) {
            return Err(self.refusal(FIELD, strategy, "requires the overlap schedule", "use extra_buffer"));
        }
        if 256u64.checked_rem(pages) != Some(0) {
            return Err(self.refusal(
                "--page-size",
                pages,
                "does not divide the 256 tokens between snapshots",
                "use one that does",
            ));
        }
        Ok(Some((if strategy == "extra_buffer_lazy" { 1 } else { 2 }, false)))
    }

    /// The format of the memory of a state (`configs/mamba_utils.py`, `mamba2_state_dtype`).
    fn memory_format(&self) -> ElementFormat {
        let declared = self.model.checkpoint.mamba_ssm_dtype.as_deref();
        let declared = declared.filter(|_| self.state.is_some_and(|state| state.reads_format));
        match self.choice("mamba-ssm-dtype").or(declared) {
            Some("bfloat16") => ElementFormat::BF16,
            Some("float16") => ElementFormat::FP16,
            _ => ElementFormat::FP32,
        }
    }

    /// The attention backend (`arg_groups/model_overrides/`, `model_override_base.py`, `get_default_attn_backend`).
    fn backend(&self, asked: Option<Format>, speculative: bool) -> Result<&'static str, Error> {
        if let Some(given) = self.choice("attention-backend") {
            let taken: Option<&[&str]> = match self.class {
                "Llama4ForConditionalGeneration" | "Llama4ForCausalLM" => Some(&["fa3", "triton", "trtllm_mha"]),
                "GptOssForCausalLM" => Some(&["triton", "trtllm_mha", "fa3", "fa4"]),
                class if GEMMA4.contains(&class) => Some(&["trtllm_mha", "triton", "fa4"]),
                _ => None,
            };
            if taken.is_some_and(|taken| !taken.contains(&given)) {
                let reason = format!("is not taken by {}", self.class);
                return Err(self.refusal("--attention-backend", given, reason, "leave it out"));
            }
            if self.class == COMPRESSED && given != "dsv4" {
                let reason = "is replaced by dsv4 for DeepseekV4ForCausalLM";
                return Err(self.refusal("--attention-backend", given, reason, "leave it out"));
            }
            return Ok(given);
        }
        Ok(self.default_backend(asked, speculative))
    }

    /// The backend that the class has by default, or any.
    fn default_backend(&self, asked: Option<Format>, speculative: bool) -> &'static str {
        let platform = self.platform;
        let topk = self.count("speculative-eagle-topk");
        let chain = topk.is_none_or(|topk| topk == 1 && self.count("page-size").is_none_or(|page| page == 1));
        let sinks = SINKS.contains(&self.class);
        let usual = if self.latent {
            platform.pick("flashinfer", "fa3", "triton")
        } else if platform.hopper() && chain {
            "fa3"
        } else if platform.sm100() && chain && (!speculative || topk.is_some()) {
            if self.asymmetric { "fa4" } else { "trtllm_mha" }
        } else if sinks {
            "triton"
        } else {
            "flashinfer"
        };
        let ampere_on = |other: &'static str| if platform.major >= 8 { "fa3" } else { other };
        match self.class {
            COMPRESSED => "dsv4",
            _ if self.indexed => "dsa",
            class if DEEPSEEK_FAMILY.contains(&class) && platform.sm100() => "trtllm_mla",
            "KimiK3ForConditionalGeneration" if platform.sm100() => "trtllm_mla",
            "Llama4ForConditionalGeneration" | "Llama4ForCausalLM" | "GptOssForCausalLM" => {
                platform.pick("trtllm_mha", "fa3", "triton")
            }
            "DiffusionGemmaForBlockDiffusion" => "triton",
            class if GEMMA4.contains(&class) => platform.pick("trtllm_mha", "triton", "triton"),
            class if MIMO_V2.contains(&class) && platform.sm100() => "fa4",
            "Step3p5ForCausalLM" | "Step3p7ForConditionalGeneration" if platform.blackwell() => "fa4",
            class if INDEXED_HEADS.contains(&class) && platform.sm100() => {
                if asked == Some(Format::Fp8E4m3) {
                    "trtllm_mha"
                } else {
                    "fa4"
                }
            }
            "BeamForCausalLM" if platform.hopper() || platform.sm100() || platform.sm120() => "trtllm_mha",
            "Lfm2ForCausalLM" | "Lfm2MoeForCausalLM" | "GraniteMoeHybridForCausalLM"
                if platform.sm100() && self.state.is_some() =>
            {
                "flashinfer"
            }
            "FalconH1ForCausalLM" | "JetNemotronForCausalLM" | "JetVLMForConditionalGeneration" if platform.sm100() => {
                "triton"
            }
            "NemotronHForCausalLM" | "NemotronHPuzzleForCausalLM" | "NemotronH_Omni_Reasoning_V3"
                if platform.blackwell() && (speculative || platform.sm100()) =>
            {
                if platform.sm100() && topk.is_none_or(|topk| topk == 1) { "trtllm_mha" } else { "triton" }
            }
            "Qwen3NextForCausalLM"
            | "Qwen3_5ForConditionalGeneration"
            | "Qwen3_5MoeForConditionalGeneration"
            | "InternS2PreviewForConditionalGeneration"
            | "InternS2MobiusForConditionalGeneration"
                if platform.sm100() =>
            {
                let extra = self.choice("mamba-radix-cache-strategy").is_some_and(|name| name.starts_with("extra"));
                let pages = extra || self.on("disable-radix-cache") || speculative;
                if usual == "trtllm_mha" && pages { "trtllm_mha" } else { "triton" }
            }
            "Olmo2ForCausalLM" => platform.pick("trtllm_mha", "fa3", ampere_on("triton")),
            "Exaone4ForCausalLM" | "ExaoneMoEForCausalLM" | "ExaoneMoeForCausalLM" if has(self.model, slides) => {
                platform.pick("trtllm_mha", "fa3", ampere_on("triton"))
            }
            _ => usual,
        }
    }

    /// Whether nvfp4 is unpacked to fp8 for prefill (`arg_groups/kv_cache_hook.py`,
    /// `handle_nvfp4_prefill_kv_dequant_dtype`).
    fn nvfp4(&self, asked: Option<Format>, backend: &'static str) -> Result<bool, Error> {
        if asked != Some(Format::Nvfp4) {
            return Ok(false);
        }
        if !self.platform.sm100() && !self.platform.sm120() {
            let reason = "requires Blackwell SM100 or SM120";
            return Err(self.refusal("--kv-dtype", "nvfp4", reason, "name one with --gpu, or use fp4_mx_block16"));
        }
        // What a class or the user has set; the default of all others is decided later, and gives way.
        let of_class = backend != self.usual_backend() || MIMO_V2.contains(&self.class);
        let set = self.choice("attention-backend").is_some() || of_class;
        match backend {
            "flashinfer" if set => Ok(true),
            "trtllm_mha" => Ok(!self.platform.sm100()),
            _ if !set => Ok(!self.platform.sm100()),
            _ => {
                let reason = format!(
                    "supports an fp8_e4m3 workspace or native nvfp4 for prefill, but backend {backend} provides neither"
                );
                Err(self.refusal("--kv-dtype", "nvfp4", reason, "use another format or --attention-backend"))
            }
        }
    }

    /// The backend of a model without rules of its class.
    fn usual_backend(&self) -> &'static str {
        if self.latent {
            self.platform.pick("flashinfer", "fa3", "triton")
        } else {
            self.platform.pick(if self.asymmetric { "fa4" } else { "trtllm_mha" }, "fa3", "flashinfer")
        }
    }

    /// The page that the class and the backend want (`arg_groups/overrides.py`, `_mla_backend_page_constraints`).
    fn page(&self, backend: &str, asked: Option<Format>) -> u64 {
        if self.class == COMPRESSED {
            return 256;
        }
        if self.indexed {
            return 64;
        }
        let given = self.count("page-size");
        let of_class = match self.class {
            class if INDEXED_HEADS.contains(&class) && matches!(backend, "fa3" | "fa4" | "trtllm_mha") => {
                let hopper = self.platform.hopper() && backend == "fa3";
                let blackwell = self.platform.sm100() && backend != "fa3";
                (hopper || blackwell).then_some(128)
            }
            _ => None,
        };
        let page = given.or(of_class).unwrap_or(1);
        match backend {
            "flashmla" | "hpc_ops" => 64,
            "trtllm_mla" | "cutedsl_mla" if ![32, 64].contains(&page) => 64,
            "trtllm_mha" if ![16, 32, 64, 128].contains(&page) => 64,
            _ if asked == Some(Format::Nvfp4) && ![16, 32, 64, 128].contains(&page) => 64,
            _ => page,
        }
    }

    /// FA4's kernel takes pages of 128 (`_fa4_page_constraint`).
    fn page_of_fa4(&self, backend: &str, page: u64) -> u64 {
        let chain = self.count("speculative-eagle-topk").unwrap_or_default() <= 1;
        match backend {
            "fa4" if !self.latent && self.platform.sm100() && chain => {
                if self.class == "DiffusionGemmaForBlockDiffusion" { 1 } else { 128 }
            }
            _ => page,
        }
    }

    /// What the backend needs (`arg_groups/attention_hook.py`, `overrides.py`).
    fn backend_takes(&self, backend: &'static str, asked: Option<Format>) -> Result<(), Error> {
        const FIELD: &str = "--attention-backend";
        let platform = self.platform;
        if backend == "trtllm_mla" {
            if !platform.blackwell() {
                let reason = "is only supported on Blackwell GPUs (SM100/SM12x)";
                return Err(self.refusal(FIELD, backend, reason, "use another backend"));
            }
            if !matches!(asked, None | Some(Format::Fp8E4m3 | Format::Plain(_))) {
                let reason = "only supports a cache in fp8_e4m3, bf16 or auto";
                return Err(self.refusal(FIELD, backend, reason, "use one of these"));
            }
        }
        if backend == "cutedsl_mla" && !platform.sm100() {
            let reason = "is only supported on Blackwell GPUs (SM100)";
            return Err(self.refusal(FIELD, backend, reason, "use another backend"));
        }
        if backend == "trtllm_mha" && !(platform.hopper() || platform.sm100() || platform.sm120()) {
            let reason = "requires Hopper (SM90), Blackwell (SM100) or SM120 GPUs";
            return Err(self.refusal(FIELD, backend, reason, "use another backend"));
        }
        if backend == "triton" && matches!(self.class, "Lfm2ForCausalLM" | "Lfm2MoeForCausalLM") {
            let reason = format!("is not supported by {}", self.class);
            return Err(self.refusal(FIELD, backend, reason, "use another backend"));
        }
        if asked == Some(Format::Mxfp8) && !platform.blackwell() {
            let reason = "requires an SM100+ (Blackwell) GPU";
            return Err(self.refusal("--kv-dtype", "mxfp8", reason, "name one with --gpu, or use fp8_e4m3"));
        }
        Ok(())
    }

    /// Which backends read 4 bits (`arg_groups/kv_cache_hook.py`, `handle_kv4_compatibility`).
    fn four_bits(&self, asked: Option<Format>, backend: &'static str, mixed: bool) -> Result<(), Error> {
        let Some(format) = asked.filter(|format| format.is_fp4()) else { return Ok(()) };
        if mixed {
            return Ok(());
        }
        if self.on("enable-unified-memory") {
            let reason = "does not yet support --enable-unified-memory";
            return Err(self.refusal("--kv-dtype", format.name(), reason, "leave that out"));
        }
        let taken: &[&str] = match (backend, self.latent) {
            (_, true) => &["flashinfer", "trtllm_mla"],
            (_, false) => &["triton", "torch_native", "flex_attention", "trtllm_mha"],
        };
        if !taken.contains(&backend) {
            let kind = if self.latent { "MLA" } else { "MHA" };
            let reason =
                format!("of {kind} expects attention_backend to be one of {}, but got {backend}", taken.join(", "));
            return Err(self.refusal("--kv-dtype", format.name(), reason, "name one with --attention-backend"));
        }
        Ok(())
    }

    /// The backends of sparse attention, for prefill and decode (`arg_groups/overrides.py`,
    /// `_dsa_split_backend_resolution`).
    fn dsa_backends(&self, format: Format) -> Result<Option<(&'static str, &'static str)>, Error> {
        let given = (self.choice("dsa-prefill-backend"), self.choice("dsa-decode-backend"));
        if !self.indexed {
            return match given
                .0
                .map(|name| ("--dsa-prefill-backend", name))
                .or(given.1.map(|name| ("--dsa-decode-backend", name)))
            {
                Some((field, name)) => {
                    Err(self.refusal(field, name, "is for models of DeepSeek sparse attention", "leave it out"))
                }
                None => Ok(None),
            };
        }
        let blackwell = self.platform.major >= 10;
        let (prefill, decode) = if self.class == "HYV4ForCausalLM" {
            ("flashmla_sparse", "flashmla_sparse")
        } else if format == Format::Fp8E4m3 && self.class == "GlmMoeDsaForCausalLM" && self.platform.sm120() {
            ("flashinfer_sparse_mla", "flashinfer_sparse_mla")
        } else if format == Format::Fp8E4m3 {
            if blackwell { ("trtllm", "trtllm") } else { ("flashmla_kv", "flashmla_kv") }
        } else {
            ("flashmla_sparse", if blackwell { "trtllm" } else { "fa3" })
        };
        let (prefill, decode) = (given.0.unwrap_or(prefill), given.1.unwrap_or(decode));
        let mixed = (prefill == "tilelang") != (decode == "tilelang");
        if format == Format::Fp8E4m3 && mixed {
            let found = format!("{prefill} and {decode}");
            let reason = "mix the raw layout of tilelang with the scaled one";
            return Err(self.refusal(
                "--dsa-prefill-backend and --dsa-decode-backend",
                found,
                reason,
                "use tilelang for both",
            ));
        }
        Ok(Some((prefill, decode)))
    }

    /// The runner's window, where windowed layers have a pool.
    fn window(&self) -> Option<u64> {
        let one_less = window_pool(self.class)?;
        let off = self.on("disable-hybrid-swa-memory");
        let bound =
            own_groups(self.model).filter(|(group, _)| slides(&group.cache)).find_map(|(group, _)| group.cache.bound());
        let bound = bound.filter(|_| !off)?;
        Some(bound.0.saturating_sub(u64::from(one_less)))
    }

    /// What drafts (`arg_groups/speculative_hook.py`, `_handle_eagle_family`, `_handle_ngram`;
    /// `model_runner_components/spec_aux_hidden_state.py`).
    fn draft(&mut self, algorithm: Option<&'static str>, window_pool: bool) -> Result<Option<Draft>, Error> {
        let Some(algorithm) = algorithm else { return Ok(None) };
        let steps = self.count("speculative-num-steps");
        let topk = self.count("speculative-eagle-topk");
        let tokens = self.count("speculative-num-draft-tokens");
        if algorithm == "NGRAM" {
            let tokens = tokens.unwrap_or(12);
            let topk = 10;
            let steps = steps.unwrap_or_else(|| tokens.checked_div(topk).unwrap_or_default());
            return Ok(Some(Draft { layers: 0, sliding: 0, steps, topk, tokens }));
        }
        let drafted = self.model.drafter.as_ref().map(|drafter| drafter.tokens);
        let (steps, topk, tokens) = match (steps, topk, tokens) {
            (Some(steps), Some(topk), Some(tokens)) => (steps, topk, tokens),
            (Some(steps), Some(1), None) => (steps, 1, steps.saturating_add(1)),
            (None, None, None) => match drafted {
                Some(drafted) => (drafted, 1, drafted.saturating_add(1)),
                None if self.class == "LlamaForCausalLM" && algorithm != "STANDALONE" => (5, 4, 8),
                None => (3, 1, 4),
            },
            _ => {
                let reason = "is set without all three of steps, topk and draft tokens";
                let remedy =
                    "give --speculative-num-steps, --speculative-eagle-topk and --speculative-num-draft-tokens";
                return Err(self.refusal("--speculative-algorithm", algorithm, reason, remedy));
            }
        };
        let tokens = if topk == 1 { steps.saturating_add(1) } else { tokens };
        let of_drafter =
            self.model.drafter.as_ref().filter(|drafter| drafter.method != DraftMethod::Mtp).map(|drafter| {
                let own = |group: &LayerGroup| {
                    group.layers.iter().filter(|&&layer| layer >= drafter.first_layer).max().copied()
                };
                let last = self.model.layer_groups.iter().filter_map(own).max();
                u64::from(last.map_or(0, |last| last.saturating_sub(drafter.first_layer).saturating_add(1)))
            });
        let declared = self.model.checkpoint.num_nextn_predict_layers;
        let layers = of_drafter.or(declared).unwrap_or_default();
        if layers == 0 && self.class != COMPRESSED {
            self.assumptions.push(
                "nothing says how many layers draft (no draft model, no num_nextn_predict_layers): none is priced"
                    .into(),
            );
        }
        let sliding = if window_pool && of_drafter.is_none() { layers } else { 0 };
        Ok(Some(Draft { layers, sliding, steps, topk, tokens }))
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

/// Tokens of a prefill chunk on a device of so much memory (`arg_groups/memory_hook.py`, `handle_gpu_memory_settings`).
pub(super) fn chunk_of(memory_mib: u64) -> u64 {
    match memory_mib.checked_div(1024).unwrap_or_default() {
        0..20 => 2_048,
        20..60 => 4_096,
        60..160 => 8_192,
        _ => 16_384,
    }
}

impl Arguments {
    /// Window tokens that are live at most with so many requests, in whole pages
    /// (`model_executor/pool_configurator.py`, `compute_swa_request_cap`); none where the pool is sized by ratio.
    pub(super) fn window_cap(&self) -> Option<u64> {
        /// Tokens after which the window's tail is given back (`environ.py`, `SGLANG_SWA_EVICTION_INTERVAL`).
        const EVICTION_INTERVAL: u64 = 128;
        let (Some(window), Some(requests), Some(chunk)) = (self.window, self.requests, self.chunk) else { return None };
        if self.radix || self.compressed {
            return None;
        }
        let drafted = self.draft.map_or(1, |draft| draft.tokens);
        let trailing = window.saturating_add(EVICTION_INTERVAL.saturating_mul(drafted)).saturating_add(self.page);
        let decode = match self.draft {
            None => self.page,
            // Twice with overlap; without, what one step takes, in whole pages.
            Some(draft) if self.chunks == 2 => draft.allocation(self.page, self.own_draft_cache).saturating_mul(2),
            Some(draft) => {
                let branch =
                    if self.page > 1 && draft.topk > 1 { draft.steps.saturating_add(self.page) } else { draft.steps };
                let up = |tokens: u64| up_to(tokens, self.page);
                up(branch).saturating_mul(draft.topk).max(up(draft.tokens))
            }
        };
        let live = trailing.saturating_add(decode).saturating_mul(requests);
        let chunks = chunk.saturating_mul(self.chunks).saturating_add(self.page);
        Some(up_to(live.saturating_add(chunks), self.page))
    }

    /// Columns of the request table beyond the context (`mem_cache/allocation_sizing.py`,
    /// `get_req_to_token_extra_context_len`).
    pub(super) fn table_extra(&self) -> u64 {
        let Some(draft) = self.draft else { return 4 };
        let plain = draft.tokens.saturating_add(4);
        if self.page == 1 {
            return plain;
        }
        let reserve = draft.allocation(self.page, self.own_draft_cache).saturating_mul(2);
        plain.max(reserve.saturating_add(self.page).saturating_sub(1))
    }
}

/// `tokens` in whole pages, rounded up.
pub(super) fn up_to(tokens: u64, page: u64) -> u64 {
    tokens.div_ceil(page.max(1)).saturating_mul(page.max(1))
}

/// `tokens` in whole pages, rounded down.
pub(super) fn down_to(tokens: u64, page: u64) -> u64 {
    tokens.saturating_sub(tokens.checked_rem(page.max(1)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::KvCacheScheme;

    #[test]
    fn pages_are_whole() {
        assert_eq!((up_to(0, 64), up_to(1, 64), up_to(64, 64), up_to(65, 64)), (0, 64, 64, 128));
        assert_eq!((down_to(0, 64), down_to(63, 64), down_to(64, 64), down_to(127, 64)), (0, 0, 64, 64));
    }

    #[test]
    fn chunks_follow_the_device_s_memory() {
        let sizes = [15_360, 23_028, 40_960, 81_559, 143_771, 183_359].map(chunk_of);
        assert_eq!(sizes, [2_048, 4_096, 4_096, 8_192, 8_192, 16_384]);
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
