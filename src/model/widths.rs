//! The widths of a model that decide how much memory one step through it takes, and what it keeps in addition to its weights.

use super::json_object::json_object;

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
