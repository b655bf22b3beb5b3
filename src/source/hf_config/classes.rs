//! What the tensors of each class are, for the classes that are known one by one.
//!
//! Read from the `nn.Linear`, `nn.Embedding`, `nn.Parameter` and norms of transformers 5.23, `models/NAME/modeling_NAME.py`. The
//! totals of each class meet published ones: the tests of `parameters` list them.

/// A class and what its tensors are.
pub(super) struct Class {
    pub(super) names: &'static [&'static str],
    pub(super) attention: Attention,
    /// Norms of a layer, of the model's width.
    pub(super) norms: u64,
    /// Biases of the dense feed-forward.
    pub(super) mlp_bias: Flag,
    pub(super) experts: Option<Mixture>,
    /// The width of its dense feed-forward.
    pub(super) dense_width: &'static str,
    /// `tie_word_embeddings` where the file does not say.
    pub(super) tied: bool,
    /// Vectors of a norm: its weight, and its bias if it has one (`nn.LayerNorm`).
    pub(super) norm_vectors: u64,
    pub(super) mlp: Mlp,
    /// What layers have in place of attention that have a state.
    pub(super) mixer: Mixer,
    pub(super) blocks: Blocks,
    /// Single numbers of a layer.
    pub(super) scalars: u64,
    /// Positions that are learnt: their key, and how many there are beside.
    pub(super) positions: Option<(&'static str, u64)>,
    pub(super) ends: Ends,
    /// Keys whose other values change tensors in ways that are not known here: with these, and whether they may be missing.
    pub(super) fixed: &'static [(&'static str, &'static str, bool)],
    /// Whether its files hold a layer that predicts further tokens, of which the configuration tells nothing.
    pub(super) untold: bool,
}

/// What embedding and head have beside their matrices.
#[derive(PartialEq, Eq)]
pub(super) enum Ends {
    Plain,
    /// A norm of the embedding.
    EmbeddingNorm,
    /// A bias of the head.
    HeadBias,
}

/// A dense feed-forward.
pub(super) enum Mlp {
    /// Gate, up and down.
    Gated,
    /// The same, of two thirds of the width, rounded up to a multiple (LFM2's `block_auto_adjust_ff_dim`).
    Adjusted,
    /// Up and down.
    Plain,
    /// Up and down, four times as wide as the model where its key does not say.
    Fourfold,
}

/// The mechanism of a recurrent layer.
pub(super) enum Mixer {
    None,
    /// Gated delta rule (Qwen3-Next).
    Delta,
    Mamba2(&'static Mamba2),
    /// A gated convolution (LFM2).
    Convolution,
    /// Lightning attention (`MiniMax`).
    Lightning,
}

/// The keys of Mamba 2.
pub(super) struct Mamba2 {
    pub(super) heads: &'static str,
    pub(super) head_dim: &'static str,
    pub(super) state: &'static str,
    pub(super) groups: &'static str,
    pub(super) kernel: &'static str,
    pub(super) conv_bias: Flag,
    pub(super) bias: Flag,
}

/// What a layer consists of.
#[derive(PartialEq, Eq)]
pub(super) enum Blocks {
    /// A mixer and a feed-forward.
    Both,
    /// One of them (Nemotron-H).
    One,
}

impl Class {
    /// Whether a name in `architectures` is that of its language model: `Qwen3MoeForCausalLM` is of `qwen3_moe`.
    pub(super) fn is_named(&self, architecture: &str) -> bool {
        let Some(name) = architecture.strip_suffix("ForCausalLM") else { return false };
        let plain = |name: &str| name.trim_end_matches("_text").replace('_', "");
        self.names.iter().any(|known| plain(known) == name.to_lowercase())
    }
}

pub(super) enum Attention {
    /// Heads: q, k, v and o.
    Heads { qkv_bias: Flag, o_bias: Flag, norm: HeadNorm, sinks: bool },
    /// The same, with a gate of its output as wide as q.
    Gated { norm: HeadNorm },
    /// Layers with a window have other heads than those without, whose k may be their v (Gemma 4).
    Alternating,
    /// A latent (MLA; `DeepSeek`).
    Latent,
    /// The same, with an indexer that chooses tokens (DSA).
    Indexed,
}

/// Norms of q and k.
pub(super) enum HeadNorm {
    None,
    /// One of the width of a head.
    Head,
    /// The same, where this key says so.
    HeadIf(&'static str),
    /// One of the width of all heads.
    All,
    /// The same, where this key says so.
    AllIf(&'static str),
}

pub(super) enum Flag {
    Never,
    Always,
    /// As this key says, and this where it does not.
    Key(&'static str, bool),
}

/// Experts in place of the dense feed-forward.
pub(super) struct Mixture {
    pub(super) all: &'static str,
    pub(super) width: &'static str,
    pub(super) shared: Shared,
    pub(super) layers: SparseLayers,
    pub(super) router: Router,
    /// Whether the dense feed-forward stays beside them.
    pub(super) beside: bool,
    /// Further norms of a layer with experts.
    pub(super) norms: u64,
    /// The key of the width that experts work in, if it is another than the model's.
    pub(super) latent: Option<&'static str>,
}

pub(super) enum Router {
    Plain,
    /// A bias for each expert that the router chooses by (`e_score_correction_bias`).
    Corrected,
    /// Biases of experts and router, as gpt-oss has them.
    Biased,
    /// Scales: one for each number of its input, and one for each expert (Gemma 4).
    Scaled,
}

pub(super) enum Shared {
    None,
    /// So many times as wide as an expert.
    Experts(&'static str),
    /// As wide as this key says, with a gate.
    Gated(&'static str),
    /// One, as wide as an expert.
    One,
    /// So many, as wide as this key says.
    Wide(&'static str, &'static str),
}

pub(super) enum SparseLayers {
    All,
    /// From this one on.
    From(&'static str),
    /// Every so many-th, as this key says (Llama 4).
    Interleaved(&'static str),
    /// Those of this kind of block (Nemotron-H).
    Blocks,
    /// Every `decoder_sparse_step`-th, but for `mlp_only_layers` (Qwen).
    Stepped,
}

const PLAIN: Class = Class {
    names: &[],
    attention: Attention::Heads { qkv_bias: Flag::Never, o_bias: Flag::Never, norm: HeadNorm::None, sinks: false },
    norms: 2,
    mlp_bias: Flag::Never,
    experts: None,
    dense_width: "intermediate_size",
    tied: false,
    norm_vectors: 1,
    mlp: Mlp::Gated,
    mixer: Mixer::None,
    blocks: Blocks::Both,
    scalars: 0,
    positions: None,
    ends: Ends::Plain,
    fixed: &[],
    untold: false,
};

/// Biases of all four projections.
const BIASED: Attention =
    Attention::Heads { qkv_bias: Flag::Always, o_bias: Flag::Always, norm: HeadNorm::None, sinks: false };

const BAMBA: Mamba2 = Mamba2 {
    heads: "mamba_n_heads",
    head_dim: "mamba_d_head",
    state: "mamba_d_state",
    groups: "mamba_n_groups",
    kernel: "mamba_d_conv",
    conv_bias: Flag::Key("mamba_conv_bias", true),
    bias: Flag::Key("mamba_proj_bias", false),
};

const NEMOTRON: Mamba2 = Mamba2 {
    heads: "mamba_num_heads",
    head_dim: "mamba_head_dim",
    state: "ssm_state_size",
    groups: "n_groups",
    kernel: "conv_kernel",
    conv_bias: Flag::Key("use_conv_bias", true),
    bias: Flag::Key("use_bias", false),
};

/// Biases of all four projections, as `attention_bias` says.
const fn biased(norm: HeadNorm) -> Attention {
    Attention::Heads {
        qkv_bias: Flag::Key("attention_bias", false),
        o_bias: Flag::Key("attention_bias", false),
        norm,
        sinks: false,
    }
}

const MIXTURE: Mixture = Mixture {
    all: "num_experts",
    width: "moe_intermediate_size",
    shared: Shared::None,
    layers: SparseLayers::All,
    router: Router::Plain,
    beside: false,
    norms: 0,
    latent: None,
};

/// The experts of DeepSeek-V3, which others took over: dense layers first, shared experts, a correction of the router.
const DEEPSEEK_MIXTURE: Mixture = Mixture {
    all: "n_routed_experts",
    shared: Shared::Experts("n_shared_experts"),
    layers: SparseLayers::From("first_k_dense_replace"),
    router: Router::Corrected,
    ..MIXTURE
};

pub(super) const CLASSES: &[Class] = &[
    Class {
        names: &["llama", "granite"],
        attention: biased(HeadNorm::None),
        mlp_bias: Flag::Key("mlp_bias", false),
        ..PLAIN
    },
    Class { names: &["mistral", "phi3", "ministral3"], ..PLAIN },
    Class {
        names: &["qwen2", "qwen2_5_vl"],
        attention: Attention::Heads { qkv_bias: Flag::Always, o_bias: Flag::Never, norm: HeadNorm::None, sinks: false },
        ..PLAIN
    },
    Class { names: &["qwen3", "qwen3_vl_text"], attention: biased(HeadNorm::Head), ..PLAIN },
    Class { names: &["olmo2", "olmo3"], attention: biased(HeadNorm::All), ..PLAIN },
    Class { names: &["gemma"], attention: biased(HeadNorm::None), tied: true, ..PLAIN },
    Class { names: &["gemma2"], attention: biased(HeadNorm::None), norms: 4, tied: true, ..PLAIN },
    Class { names: &["gemma3_text"], attention: biased(HeadNorm::Head), norms: 4, tied: true, ..PLAIN },
    Class {
        names: &["mixtral", "granitemoe"],
        experts: Some(Mixture { all: "num_local_experts", width: "intermediate_size", ..MIXTURE }),
        ..PLAIN
    },
    Class {
        names: &["qwen2_moe"],
        attention: Attention::Heads {
            qkv_bias: Flag::Key("qkv_bias", true),
            o_bias: Flag::Never,
            norm: HeadNorm::None,
            sinks: false,
        },
        experts: Some(Mixture {
            shared: Shared::Gated("shared_expert_intermediate_size"),
            layers: SparseLayers::Stepped,
            ..MIXTURE
        }),
        ..PLAIN
    },
    Class {
        names: &["qwen3_moe", "qwen3_vl_moe_text"],
        attention: biased(HeadNorm::Head),
        experts: Some(Mixture { layers: SparseLayers::Stepped, ..MIXTURE }),
        ..PLAIN
    },
    Class {
        names: &["olmoe"],
        attention: biased(HeadNorm::All),
        experts: Some(Mixture { width: "intermediate_size", ..MIXTURE }),
        ..PLAIN
    },
    Class {
        names: &["deepseek_v2"],
        attention: Attention::Latent,
        experts: Some(Mixture {
            all: "n_routed_experts",
            shared: Shared::Experts("n_shared_experts"),
            layers: SparseLayers::From("first_k_dense_replace"),
            ..MIXTURE
        }),
        ..PLAIN
    },
    // Kimi K2 is of the class of DeepSeek-V3 (its own modeling_deepseek.py).
    Class {
        names: &["deepseek_v3", "kimi_k2"],
        attention: Attention::Latent,
        experts: Some(DEEPSEEK_MIXTURE),
        ..PLAIN
    },
    // Norms of q and k have no parameters.
    Class {
        names: &["llama4_text"],
        attention: biased(HeadNorm::None),
        experts: Some(Mixture {
            all: "num_local_experts",
            width: "intermediate_size",
            shared: Shared::One,
            layers: SparseLayers::Interleaved("interleave_moe_layer_step"),
            ..MIXTURE
        }),
        dense_width: "intermediate_size_mlp",
        ..PLAIN
    },
    Class {
        names: &["glm4_moe"],
        attention: Attention::Heads {
            qkv_bias: Flag::Key("attention_bias", false),
            o_bias: Flag::Never,
            norm: HeadNorm::HeadIf("use_qk_norm"),
            sinks: false,
        },
        experts: Some(DEEPSEEK_MIXTURE),
        ..PLAIN
    },
    Class {
        names: &["minimax_m2"],
        attention: Attention::Heads { qkv_bias: Flag::Never, o_bias: Flag::Never, norm: HeadNorm::All, sinks: false },
        experts: Some(Mixture {
            all: "num_local_experts",
            width: "intermediate_size",
            router: Router::Corrected,
            ..MIXTURE
        }),
        ..PLAIN
    },
    Class {
        names: &["gpt_oss"],
        attention: Attention::Heads {
            qkv_bias: Flag::Key("attention_bias", true),
            o_bias: Flag::Key("attention_bias", true),
            norm: HeadNorm::None,
            sinks: true,
        },
        experts: Some(Mixture {
            all: "num_local_experts",
            width: "intermediate_size",
            router: Router::Biased,
            ..MIXTURE
        }),
        ..PLAIN
    },
    Class { names: &["cohere"], attention: biased(HeadNorm::AllIf("use_qk_norm")), norms: 1, tied: true, ..PLAIN },
    Class { names: &["cohere2"], attention: biased(HeadNorm::None), norms: 1, tied: true, ..PLAIN },
    Class {
        names: &["exaone4"],
        attention: Attention::Heads { qkv_bias: Flag::Never, o_bias: Flag::Never, norm: HeadNorm::Head, sinks: false },
        ..PLAIN
    },
    Class {
        names: &["glm4"],
        attention: Attention::Heads {
            qkv_bias: Flag::Key("attention_bias", false),
            o_bias: Flag::Never,
            norm: HeadNorm::None,
            sinks: false,
        },
        norms: 4,
        ..PLAIN
    },
    // Two numbers of xIELU in each layer.
    Class {
        names: &["apertus"],
        attention: biased(HeadNorm::Head),
        mlp: Mlp::Plain,
        scalars: 2,
        fixed: &[("hidden_act", "\"xielu\"", true), ("mlp_bias", "false", true)],
        ..PLAIN
    },
    Class {
        names: &["qwen3_next"],
        attention: Attention::Gated { norm: HeadNorm::Head },
        mixer: Mixer::Delta,
        experts: Some(Mixture {
            shared: Shared::Gated("shared_expert_intermediate_size"),
            layers: SparseLayers::Stepped,
            ..MIXTURE
        }),
        fixed: &[("attention_bias", "false", true)],
        untold: true,
        ..PLAIN
    },
    Class {
        names: &["qwen3_5_text"],
        attention: Attention::Gated { norm: HeadNorm::Head },
        mixer: Mixer::Delta,
        fixed: &[("attention_bias", "false", true), ("attn_output_gate", "true", true)],
        ..PLAIN
    },
    Class {
        names: &["qwen3_5_moe_text"],
        attention: Attention::Gated { norm: HeadNorm::Head },
        mixer: Mixer::Delta,
        experts: Some(Mixture { shared: Shared::Gated("shared_expert_intermediate_size"), ..MIXTURE }),
        fixed: &[("attention_bias", "false", true), ("attn_output_gate", "true", true)],
        ..PLAIN
    },
    // Its layers have a number that scales their output.
    Class {
        names: &["gemma4_text"],
        attention: Attention::Alternating,
        norms: 4,
        tied: true,
        experts: Some(Mixture { beside: true, norms: 3, router: Router::Scaled, ..MIXTURE }),
        scalars: 1,
        fixed: &[
            ("attention_bias", "false", true),
            ("hidden_size_per_layer_input", "0", false),
            ("num_kv_shared_layers", "0", false),
            ("use_double_wide_mlp", "false", true),
        ],
        ..PLAIN
    },
    Class {
        names: &["deepseek_v32", "glm_moe_dsa"],
        attention: Attention::Indexed,
        experts: Some(DEEPSEEK_MIXTURE),
        ..PLAIN
    },
    Class {
        names: &["afmoe"],
        attention: Attention::Gated { norm: HeadNorm::Head },
        norms: 4,
        experts: Some(Mixture {
            shared: Shared::Experts("num_shared_experts"),
            layers: SparseLayers::From("num_dense_layers"),
            router: Router::Corrected,
            ..MIXTURE
        }),
        fixed: &[("attention_bias", "false", true)],
        ..PLAIN
    },
    Class {
        names: &["minimax"],
        mixer: Mixer::Lightning,
        experts: Some(Mixture { all: "num_local_experts", width: "intermediate_size", ..MIXTURE }),
        ..PLAIN
    },
    Class {
        names: &["granitemoehybrid"],
        attention: biased(HeadNorm::None),
        mixer: Mixer::Mamba2(&BAMBA),
        experts: Some(Mixture { all: "num_local_experts", width: "intermediate_size", beside: true, ..MIXTURE }),
        dense_width: "shared_intermediate_size",
        ..PLAIN
    },
    Class {
        names: &["nemotron_h"],
        norms: 1,
        mlp: Mlp::Plain,
        mixer: Mixer::Mamba2(&NEMOTRON),
        blocks: Blocks::One,
        experts: Some(Mixture {
            all: "n_routed_experts",
            shared: Shared::Wide("n_shared_experts", "moe_shared_expert_intermediate_size"),
            layers: SparseLayers::Blocks,
            router: Router::Corrected,
            latent: Some("moe_latent_size"),
            ..MIXTURE
        }),
        fixed: &[("attention_bias", "false", true), ("mlp_bias", "false", true)],
        ..PLAIN
    },
    Class {
        names: &["lfm2"],
        attention: Attention::Heads { qkv_bias: Flag::Never, o_bias: Flag::Never, norm: HeadNorm::Head, sinks: false },
        mlp: Mlp::Adjusted,
        mixer: Mixer::Convolution,
        tied: true,
        fixed: &[("conv_bias", "false", true), ("block_ffn_dim_multiplier", "1.0", true)],
        ..PLAIN
    },
    Class {
        names: &["lfm2_moe"],
        attention: Attention::Heads { qkv_bias: Flag::Never, o_bias: Flag::Never, norm: HeadNorm::Head, sinks: false },
        mixer: Mixer::Convolution,
        tied: true,
        experts: Some(Mixture { layers: SparseLayers::From("num_dense_layers"), router: Router::Corrected, ..MIXTURE }),
        fixed: &[("conv_bias", "false", true), ("use_expert_bias", "true", true)],
        ..PLAIN
    },
    Class {
        names: &["starcoder2"],
        attention: Attention::Heads {
            qkv_bias: Flag::Key("use_bias", true),
            o_bias: Flag::Key("use_bias", true),
            norm: HeadNorm::None,
            sinks: false,
        },
        norm_vectors: 2,
        mlp: Mlp::Plain,
        mlp_bias: Flag::Key("use_bias", true),
        tied: true,
        ..PLAIN
    },
    Class {
        names: &["phi"],
        attention: BIASED,
        norms: 1,
        norm_vectors: 2,
        mlp: Mlp::Plain,
        mlp_bias: Flag::Always,
        ends: Ends::HeadBias,
        fixed: &[("qk_layernorm", "false", true), ("tie_word_embeddings", "false", true)],
        ..PLAIN
    },
    // Two positions are left free.
    Class {
        names: &["opt"],
        attention: BIASED,
        norm_vectors: 2,
        mlp: Mlp::Plain,
        mlp_bias: Flag::Always,
        dense_width: "ffn_dim",
        positions: Some(("max_position_embeddings", 2)),
        tied: true,
        fixed: &[("do_layer_norm_before", "true", true), ("_remove_final_layer_norm", "false", true)],
        ..PLAIN
    },
    Class {
        names: &["gpt2"],
        attention: BIASED,
        norm_vectors: 2,
        mlp: Mlp::Fourfold,
        mlp_bias: Flag::Always,
        dense_width: "n_inner",
        positions: Some(("n_positions", 0)),
        tied: true,
        fixed: &[("add_cross_attention", "false", true)],
        ..PLAIN
    },
    Class {
        names: &["bloom"],
        attention: BIASED,
        norm_vectors: 2,
        mlp: Mlp::Fourfold,
        mlp_bias: Flag::Always,
        dense_width: "n_inner",
        ends: Ends::EmbeddingNorm,
        tied: true,
        ..PLAIN
    },
    Class {
        names: &["mpt"],
        mlp: Mlp::Fourfold,
        tied: true,
        fixed: &[("expansion_ratio", "4", true), ("no_bias", "true", true)],
        ..PLAIN
    },
    // Only the decoder of Falcon 40B and later: the older one has other norms.
    Class {
        names: &["falcon"],
        norm_vectors: 2,
        mlp: Mlp::Fourfold,
        dense_width: "ffn_hidden_size",
        tied: true,
        fixed: &[
            ("new_decoder_architecture", "true", false),
            ("bias", "false", true),
            ("num_ln_in_parallel_attn", "2", true),
        ],
        ..PLAIN
    },
];
