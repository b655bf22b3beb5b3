//! What engines read of a checkpoint in addition to its layers: llama.cpp's view of it and its widths, too.

use serde::{Deserialize, Serialize};

use super::json_object::json_object;
use crate::units::{ElementFormat, Tokens, named};

json_object! {
    /// What a checkpoint says of itself that an engine acts on.
    pub struct Checkpoint {
        /// The classes that serve it (`architectures`).
        pub architectures: Vec<String>,
        /// `model_type` of the text model, where it is a part of the model.
        pub text_model_type: Option<String>,
        /// The dtype as its configuration names it; `float32` where it names none.
        pub dtype: Option<String>,
        /// Query heads, which tensor parallel ranks divide; the most that any layer has.
        pub num_attention_heads: Option<u64>,
        /// The model's width.
        pub hidden_size: Option<u64>,
        /// KV heads as transformers caches them, where it repeats each for the query heads that share it.
        pub transformers_kv_heads: Option<u64>,
        /// Whether `layer_types` lists which layers slide.
        pub lists_layer_types: bool,
        /// Parameters of the embedding of its vocabulary (`vocab_size` x `hidden_size`); absent where layers have further ones.
        pub embedding_parameters: Option<u64>,
        /// Whether it reads images, sound or video in addition to text.
        pub multimodal: bool,
        /// Whether it reads the tokens of an image in both directions.
        pub reads_images_both_ways: bool,
        /// Whether its attention has learned sinks: parameters, no cache.
        pub attention_sinks: bool,
        /// Elements of K in one head without positions, where K and V are made from a latent.
        pub qk_nope_head_dim: Option<u64>,
        /// Elements of V in one head, where K and V are made from a latent.
        pub v_head_dim: Option<u64>,
        /// The format that the configuration names for recurrent states.
        #[cfg_attr(feature = "cli", schemars(with = "Option<String>"))]
        pub state_format: Option<ElementFormat>,
        /// Whether the gates of its delta attention have a lower bound (`gate_lower_bound`).
        pub bounded_gates: bool,
        /// How its weights, and perhaps its cache, are quantised.
        pub quantization: Option<Quantization>,
        /// MTP layers, under the one name that SGLang reads.
        pub num_nextn_predict_layers: Option<u64>,
        /// The format of a recurrent state, under the one name that SGLang reads.
        pub mamba_ssm_dtype: Option<String>,
        /// Of the layers that read an earlier layer's cache, those that slide; absent where nothing lists them.
        pub shared_sliding_layers: Option<u64>,
        /// The widths that decide how much memory a step takes.
        pub widths: Widths,
        /// How llama.cpp takes a GGUF file; of other models `model_type` decides.
        pub gguf: Option<Gguf>,
    }
}

json_object! {
    /// What a checkpoint declares of its quantisation, as far as caches go (`quantization_config`, or the
    /// `hf_quant_config.json` next to the configuration).
    pub struct Quantization {
        /// Who made it: `modelopt`, `compressed-tensors`, `fp8` …
        pub quant_method: Option<String>,
        /// What it made of the weights: `FP8`, `NVFP4`, `MIXED_PRECISION` …
        pub quant_algo: Option<String>,
        /// `producer.name` of `hf_quant_config.json`.
        pub producer: Option<String>,
        /// Whether it was read from `hf_quant_config.json`.
        #[serde(rename = "hf_quant_config")]
        pub beside: bool,
        /// How K and V are stored (`kv_cache_scheme`), where it is an object.
        pub kv_cache_scheme: Option<KvCacheScheme>,
        /// `kv_cache_scheme` where it is a text, or `kv_cache_quant_algo`: `FP8`, `NVFP4` …
        pub kv_cache_quant_algo: Option<String>,
        /// Whether the text above stands under `kv_cache_scheme`.
        pub algo_is_scheme: bool,
    }
}

impl Quantization {
    /// The KV scheme that is declared, under the key that declares it: `kv_cache_quant_algo FP8`,
    /// `kv_cache_scheme of 8-bit float`.
    pub fn declared_kv(&self) -> Option<String> {
        if let Some(KvCacheScheme { num_bits, kind, .. }) = &self.kv_cache_scheme {
            let bits = num_bits.map_or_else(|| "unknown bits".to_owned(), |bits| format!("{bits}-bit"));
            return Some(format!("kv_cache_scheme of {bits} {}", kind.as_deref().unwrap_or("numbers")));
        }
        let key = if self.algo_is_scheme { "kv_cache_scheme" } else { "kv_cache_quant_algo" };
        self.kv_cache_quant_algo.as_ref().map(|algorithm| format!("{key} {algorithm}"))
    }
}

json_object! {
    /// `kv_cache_scheme` as an object.
    pub struct KvCacheScheme {
        /// Bits of an element.
        pub num_bits: Option<u64>,
        /// `float` or `int`.
        #[serde(rename = "type")]
        pub kind: Option<String>,
        /// Whether scales are computed as tokens come.
        pub dynamic: Option<bool>,
        /// What shares a scale: `tensor`, `token` …
        pub strategy: Option<String>,
        /// Whether there are no zero points.
        pub symmetric: Option<bool>,
    }
}

json_object! {
    /// What drafts tokens for a model.
    pub struct Drafter {
        /// How.
        pub method: DraftMethod,
        /// Tokens drafted at a time.
        pub tokens: u64,
        /// The first of the layers that belong to it: those of the model's groups from here on are its own.
        pub first_layer: u32,
        /// What the draft model's checkpoint says, where it has one of its own.
        pub checkpoint: Option<Checkpoint>,
    }
}

named! {
    /// How tokens are drafted.
    #[derive(Default, Serialize, Deserialize)]
    #[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
    #[serde(rename_all = "snake_case")]
    pub enum DraftMethod {
        /// The model's own layers for it (multi-token prediction).
        #[default]
        Mtp = "mtp",
        /// A smaller model.
        DraftModel = "draft_model",
        /// A head trained for it (EAGLE, arXiv:2401.15077; EAGLE-3, arXiv:2503.01840).
        Eagle = "eagle3",
        /// What the text said before: no layers at all.
        Ngram = "ngram",
    }
}

// How llama.cpp takes a model: what its architecture there decides in addition to the layers.

json_object! {
    /// A model in the eyes of llama.cpp.
    pub struct Gguf {
        /// `general.architecture`, of the file or of the file that the converter would write.
        pub architecture: String,
        /// What becomes of windows and chunks.
        pub window: GgufWindow,
        /// What else only some architectures do.
        pub features: Vec<GgufFeature>,
        /// Keys of an index that are kept for each token.
        pub index_slots: u64,
        /// What a file says; absent for a model that was not read from one.
        pub file: Option<GgufFile>,
    }
}

impl Gguf {
    /// Whether its architecture has this feature.
    pub fn has(&self, feature: GgufFeature) -> bool {
        self.features.contains(&feature)
    }
}

/// What an architecture makes of windows and chunks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GgufWindow {
    /// It keeps them.
    #[default]
    Kept,
    /// It knows none, and keeps every token.
    Unknown,
    /// One size, whatever the model says.
    Fixed(#[cfg_attr(feature = "cli", schemars(with = "u64"))] Tokens),
}

/// What only some architectures do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GgufFeature {
    /// A latent is kept as it is, without V.
    Latent,
    /// An index has V of the width of a head, which nothing reads.
    IndexValues,
    /// States are kept for every token that may be rolled back.
    Rollback,
    /// It runs without flash attention.
    NoFlashAttention,
    /// An encoder's output is not cached, and more than one stream is not supported.
    EncoderDecoder,
}

json_object! {
    /// What a file says that llama.cpp's rules need in addition to the layers.
    pub struct GgufFile {
        /// All layers, MTP layers included: they count when layers are put on a GPU.
        pub block_count: u32,
        /// Whether the cache of the model itself has the MTP layers, too.
        pub keeps_nextn: bool,
        /// The sizes of K and V in a head, each pair once: quantised formats must divide them.
        #[cfg_attr(feature = "cli", schemars(with = "Vec<[u64; 2]>"))]
        pub head_dims: Vec<(u64, u64)>,
        /// The widest V of all layers, those without a cache included.
        pub widest_value: u64,
    }
}

// The widths of a model that decide how much memory one step through it takes, and what it keeps in addition to its weights.

json_object! {
    /// The widths of a text model, as far as its configuration names them.
    pub struct Widths {
        /// Bytes of an element in its 16-bit or 32-bit format.
        pub element_bytes: u64,
        /// Words of its vocabulary.
        pub vocab_size: Option<u64>,
        /// The model's width.
        pub hidden_size: Option<u64>,
        /// The width of its dense feed-forward, where it has one in any layer.
        pub intermediate_size: Option<u64>,
        /// Its experts.
        pub experts: Option<ExpertWidths>,
        /// Its latent (MLA).
        pub latent: Option<LatentWidths>,
        /// Whether its linear layers take 8-bit activations, which are made next to the 16-bit ones.
        pub quantizes_activations: bool,
        /// What it reads images by.
        pub image: Option<Image>,
        /// Bytes of the table of sines and cosines of its positions, where their scaling is known.
        pub rotary_bytes: Option<u64>,
    }
}

json_object! {
    /// Widths of experts.
    #[derive(Copy)]
    pub struct ExpertWidths {
        /// Experts that a token is sent to.
        pub per_token: u64,
        /// The width of one.
        pub intermediate_size: u64,
        /// Whether they are packed in four bits (MXFP4), for which kernels need no workspace of ours.
        pub packed: bool,
    }
}

json_object! {
    /// Widths of a latent.
    #[derive(Copy)]
    pub struct LatentWidths {
        /// Query heads.
        pub num_attention_heads: u64,
        /// Elements of the latent.
        pub kv_lora_rank: u64,
        /// `qk_nope_head_dim` + `v_head_dim`
        pub up_head_dim: u64,
    }
}

json_object! {
    /// What an image is cut into.
    #[derive(Copy)]
    pub struct Image {
        /// Elements of a patch: pixels and their colours.
        pub patch_elements: u64,
        /// Patches that make one token.
        pub patches_per_token: u64,
    }
}
