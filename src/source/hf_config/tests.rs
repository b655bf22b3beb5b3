#![allow(clippy::needless_pass_by_value, reason = "json!(…) at every call reads better than &json!(…)")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::{KeyValue, LayerCache};

fn read(config: Value) -> Result<Model, Error> {
    model(&config, "test".into())
}

/// Runs of `(layers, cache)`.
fn groups(config: Value) -> Vec<(usize, LayerCache)> {
    read(config).unwrap().layer_groups.into_iter().map(|group| (group.layers.len(), group.cache)).collect()
}

fn heads(num_key_value_heads: u64, head_dim: u64) -> KeyValue {
    KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim: head_dim }
}

fn full(key_value: KeyValue) -> LayerCache {
    LayerCache::FullAttention { key_value }
}

fn sliding(key_value: KeyValue, window: u64) -> LayerCache {
    LayerCache::SlidingWindow { key_value, window: Tokens(window), transformers_window: Some(Tokens(window)) }
}

/// A small model of `model_type`, with `keys` over its own.
fn small(model_type: &str, keys: Value) -> Value {
    let mut config = json!({"model_type": model_type, "num_hidden_layers": 4, "hidden_size": 64,
        "num_attention_heads": 8, "num_key_value_heads": 2, "torch_dtype": "bfloat16"});
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    config
}

#[test]
fn head_dim_falls_through_when_null_or_zero() {
    for head_dim in [json!(null), json!(0)] {
        assert_eq!(groups(small("llama", json!({"head_dim": head_dim}))), [(4, full(heads(2, 8)))]);
    }
    assert_eq!(groups(small("llama", json!({"head_dim": 16}))), [(4, full(heads(2, 16)))]);
    // A class default stands in for a missing key, not for a null.
    assert_eq!(groups(small("qwen3", json!({}))), [(4, full(heads(2, 128)))]);
    assert_eq!(groups(small("qwen3", json!({"head_dim": null}))), [(4, full(heads(2, 8)))]);
}

#[test]
fn no_kv_heads_is_multi_head() {
    let model = read(small("llama", json!({"num_key_value_heads": null}))).unwrap();
    assert_eq!(model.layer_groups[0].cache, full(heads(8, 8)));
    assert_eq!(model.assumptions, ["no KV heads given: 8, as many as num_attention_heads (MHA)"]);
}

#[test]
fn layer_types_are_authoritative() {
    let types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"];
    for model_type in ["llama", "gemma3_text", "unheard_of"] {
        let config = small(model_type, json!({"layer_types": types, "sliding_window": 32, "head_dim": 8}));
        assert_eq!(groups(config), [(2, full(heads(2, 8))), (2, sliding(heads(2, 8), 32))], "{model_type}");
    }
}

#[test]
fn rules_deal_the_layers_where_no_list_does() {
    let key_value = heads(2, 8);
    let window = |window: u64| json!({"sliding_window": window, "head_dim": 8, "num_hidden_layers": 12});
    assert_eq!(groups(small("mistral", window(32))), [(12, sliding(key_value, 32))]);
    assert_eq!(groups(small("phi3", window(32))), [(12, sliding(key_value, 32))]);
    assert_eq!(groups(small("gemma2", window(32))), [(6, full(key_value)), (6, sliding(key_value, 32))]);
    assert_eq!(groups(small("gpt_oss", window(32))), [(6, full(key_value)), (6, sliding(key_value, 32))]);
    assert_eq!(groups(small("gemma3_text", window(32))), [(2, full(key_value)), (10, sliding(key_value, 32))]);
    let mut pattern = window(32);
    pattern["sliding_window_pattern"] = json!(4);
    assert_eq!(groups(small("gemma3_text", pattern)), [(3, full(key_value)), (9, sliding(key_value, 32))]);
    // The first of two Gemma 2 layers slides, the first five of six Gemma 3 layers.
    assert_eq!(read(small("gemma2", window(32))).unwrap().layer_groups[0].layers, [1, 3, 5, 7, 9, 11]);
    assert_eq!(read(small("gemma3_text", window(32))).unwrap().layer_groups[0].layers, [5, 11]);
}

#[test]
fn a_window_that_is_off_is_not_used() {
    let key_value = heads(2, 8);
    let keys = |use_it: bool| json!({"sliding_window": 32, "use_sliding_window": use_it, "max_window_layers": 3, "head_dim": 8});
    for model_type in ["qwen2", "qwen3", "qwen3_moe", "qwen2_moe", "unheard_of"] {
        let model = read(small(model_type, keys(false))).unwrap();
        assert_eq!(model.layer_groups[0].cache, full(key_value), "{model_type}");
        assert_eq!(model.assumptions, ["sliding_window is not used: use_sliding_window is false"], "{model_type}");
    }
    assert_eq!(groups(small("qwen2", keys(true))), [(3, full(key_value)), (1, sliding(key_value, 32))]);
    assert_eq!(groups(small("qwen3", keys(true))), [(3, full(key_value)), (1, sliding(key_value, 32))]);
    assert_eq!(groups(small("qwen3_moe", keys(true))), [(4, sliding(key_value, 32))]);
    // Every other of the first three layers.
    assert_eq!(read(small("qwen2_moe", keys(true))).unwrap().layer_groups[1].layers, [0, 2]);
    // From layer 0 on is all of them, and none below layer 0.
    let from_zero = json!({"sliding_window": 32, "use_sliding_window": true, "max_window_layers": 0, "head_dim": 8});
    assert_eq!(groups(small("qwen2", from_zero.clone())), [(4, sliding(key_value, 32))]);
    assert_eq!(groups(small("qwen2_moe", from_zero)), [(4, full(key_value))]);
    // Both directions share the window.
    let both =
        json!({"sliding_window": 512, "use_bidirectional_attention": true, "head_dim": 8, "sliding_window_pattern": 2});
    assert_eq!(groups(small("gemma3_text", both))[1], (2, sliding(key_value, 257)));
    // Null and zero are off everywhere.
    for off in [json!(null), json!(0)] {
        assert_eq!(groups(small("mistral", json!({"sliding_window": off, "head_dim": 8}))), [(4, full(key_value))]);
    }
}

#[test]
fn llama_4_layers_are_chunked_unless_listed_otherwise() {
    let key_value = heads(2, 8);
    let chunked = |chunk| LayerCache::ChunkedLocal { key_value, chunk: Tokens(chunk) };
    let text = |keys| json!({"model_type": "llama4", "text_config": small("llama4_text", keys)});
    assert_eq!(groups(text(json!({"head_dim": 8}))), [(1, full(key_value)), (3, chunked(8192))]);
    assert_eq!(
        groups(text(json!({"head_dim": 8, "attention_chunk_size": 16, "no_rope_layer_interval": 2}))),
        [(2, full(key_value)), (2, chunked(16))]
    );
    // The list is inverted: 1 has RoPE and is local. An empty one is no list.
    let listed = read(text(json!({"head_dim": 8, "no_rope_layers": [0, 1, 1, 0]}))).unwrap();
    assert_eq!(listed.layer_groups[0].layers, [0, 3]);
    assert_eq!(groups(text(json!({"head_dim": 8, "no_rope_layers": []}))).len(), 2);
    assert_eq!(listed.model_type.as_deref(), Some("llama4"));
    // A chunk that is switched off leaves every token.
    assert_eq!(groups(text(json!({"head_dim": 8, "attention_chunk_size": null}))), [(4, full(key_value))]);
}

#[test]
fn wrapped_text_models_are_found_and_named_in_paths() {
    let inner = small("llama", json!({}));
    for wrapped in [
        json!({"model_type": "x", "text_config": inner}),
        json!({"language_config": inner}),
        json!({"llm_config": inner}),
        json!({"thinker_config": {"text_config": inner}}),
    ] {
        assert_eq!(groups(wrapped), [(4, full(heads(2, 8)))]);
    }
    // A wrapper of another name is taken where there is one such part, and said.
    let wrapped = read(json!({"model_type": "x", "brain": inner, "vision_config": inner})).unwrap();
    assert_eq!(wrapped.layer_groups[0].cache, full(heads(2, 8)));
    assert_eq!(wrapped.assumptions, ["the text model is taken to be brain, the one part with layers"]);
    assert!(read(json!({"brain": inner, "heart": inner})).is_err());
    let broken = json!({"thinker_config": {"text_config": small("llama", json!({"num_hidden_layers": "4"}))}});
    assert_eq!(
        read(broken).unwrap_err().to_string(),
        "thinker_config.text_config.num_hidden_layers: \"4\" is not a whole number; write a whole number"
    );
}

/// The kinds and layer counts of a configuration.
fn kinds(config: Value) -> Vec<(&'static str, usize)> {
    read(config).unwrap().layer_groups.iter().map(|group| (group.cache.kind(), group.layers.len())).collect()
}

#[test]
fn latents_stand_in_for_heads_and_may_have_an_index() {
    let latent = |keys: Value| {
        let mut all = json!({"kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128});
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        small("deepseek_v3", all)
    };
    let cache = LayerCache::Latent { kv_lora_rank: 512, qk_rope_head_dim: 64 };
    assert_eq!(groups(latent(json!({}))), [(4, cache)]);
    // The rotary width is the file's own key, whatever attribute maps make of it.
    assert_eq!(groups(latent(json!({"head_dim": 192})))[0].1, cache);
    let index = json!({"index_head_dim": 128, "index_topk": 2048});
    assert_eq!(kinds(latent(index)), [("latent_attention", 4), ("indexer", 4)]);
    for shared in [
        json!({"index_head_dim": 128, "index_topk": 2048, "indexer_types": ["full", "shared", "shared", "full"]}),
        json!({"index_head_dim": 128, "index_topk": 2048, "index_topk_pattern": "FSSF"}),
        // Layers 0 and 1 are before the offset, layer 3 is two past it.
        json!({"index_head_dim": 128, "index_topk": 2048, "index_topk_freq": 2, "index_skip_topk_offset": 2, "num_hidden_layers": 3}),
    ] {
        assert_eq!(kinds(latent(shared))[1], ("indexer", 2));
    }
    // A rank that is off leaves plain heads.
    assert_eq!(kinds(latent(json!({"kv_lora_rank": null, "head_dim": 8}))), [("full_attention", 4)]);
}

#[test]
fn layers_may_differ_by_kind_and_one_by_one() {
    let differing = |keys| groups(small("unheard_of", keys));
    let key_value =
        |num_key_value_heads, head_dim, v_head_dim| KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim };
    // MiMo-V2: its attention_chunk_size is spurious, and transformers' window is one more than the file's.
    let mimo = json!({"hybrid_layer_pattern": [0, 1, 1, 0], "head_dim": 192, "v_head_dim": 128, "num_key_value_heads": 4,
        "swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128, "sliding_window": 128,
        "sliding_window_size": 128, "attention_chunk_size": 128});
    let window = LayerCache::SlidingWindow {
        key_value: key_value(8, 192, 128),
        window: Tokens(128),
        transformers_window: Some(Tokens(129)),
    };
    assert_eq!(differing(mimo), [(2, full(key_value(4, 192, 128))), (2, window)]);
    // Nemotron-NAS: blocks without attention, and groups of query heads.
    let block = |attention| json!({"attention": attention});
    let nas = json!({"head_dim": 8, "num_key_value_heads": null, "block_configs": [
        block(json!({"n_heads_in_group": 4, "no_op": false})), block(json!({"n_heads_in_group": null, "no_op": true})),
        block(json!({"replace_with_linear": true})), block(json!({"n_heads_in_group": 8}))]});
    assert_eq!(differing(nas), [(1, full(key_value(2, 8, 8))), (1, full(key_value(1, 8, 8))), (2, LayerCache::None)]);
    // OpenELM: KV heads by layer.
    let listed = json!({"num_kv_heads": [1, 2, 2, 4], "head_dim": 8});
    assert_eq!(
        differing(listed),
        [(1, full(key_value(1, 8, 8))), (2, full(key_value(2, 8, 8))), (1, full(key_value(4, 8, 8)))]
    );
    // Overrides by index, leading zeros and all.
    let overridden = json!({"head_dim": 8, "per_layer_config": {"03": {"head_dim": 16, "num_key_value_heads": 1}}});
    assert_eq!(differing(overridden), [(3, full(key_value(2, 8, 8))), (1, full(key_value(1, 16, 16)))]);
    // Step's other setting is that of its sliding layers.
    let step = json!({"head_dim": 8, "sliding_window": 4, "num_attention_groups": 2, "num_key_value_heads": null,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "attention_other_setting": {"num_attention_heads": 12, "num_attention_groups": 4}});
    assert_eq!(differing(step), [(1, full(key_value(2, 8, 8))), (3, sliding(key_value(4, 8, 8), 4))]);
}

#[test]
fn gemma_4_s_global_layers_have_heads_of_their_own_and_keep_both_k_and_v() {
    let gemma = |keys: Value| {
        let mut all = json!({"head_dim": 8, "sliding_window": 4, "num_hidden_layers": 7});
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        groups(small("gemma4_text", all))
    };
    let wide = |heads| full(heads);
    // The last layer is full whatever the pattern says; 512 is the class's own.
    assert_eq!(gemma(json!({})), [(2, wide(heads(2, 512))), (5, sliding(heads(2, 8), 4))]);
    let global = json!({"global_head_dim": 16, "num_global_key_value_heads": 1});
    assert_eq!(gemma(global.clone())[0].1, full(heads(2, 16)));
    // One projection for K and V saves weights, not cache.
    let mut shared = global;
    shared["attention_k_eq_v"] = json!(true);
    assert_eq!(gemma(shared)[0].1, full(heads(1, 16)));
    // The last layers read the cache of earlier ones.
    assert_eq!(gemma(json!({"num_kv_shared_layers": 3})), [(4, sliding(heads(2, 8), 4)), (3, LayerCache::Shared)]);
}

#[test]
fn recurrent_layers_keep_a_state_by_the_keys_of_their_mechanism() {
    use crate::model::Mechanism;
    let linear = |keys: Value| {
        let mut all = json!({"layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"], "head_dim": 8});
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let model = read(small("unheard_of", all)).unwrap();
        let LayerCache::Recurrent(state) = model.layer_groups[1].cache else { panic!("{model:?}") };
        let elements = state.memory.map_or(0, |memory| memory.heads * memory.elements_per_head);
        let format = state.memory.map(|memory| memory.format.to_string());
        let channels = state.convolution.map_or(0, |c| c.channels + c.groups * c.channels_per_group);
        (state.mechanism, channels, state.convolution.map_or(0, |c| c.kernel), elements, format.unwrap_or_default())
    };
    let bf16 = || "bf16".to_owned();
    for (keys, expected) in [
        (
            json!({"linear_num_key_heads": 2, "linear_key_head_dim": 4, "linear_num_value_heads": 4, "linear_value_head_dim": 8,
                "linear_conv_kernel_dim": 4, "mamba_ssm_dtype": "float32"}),
            (Mechanism::GatedDeltaNet, 2 * 8 + 32, 4, 4 * 8 * 4, "fp32".to_owned()),
        ),
        (
            json!({"linear_num_heads": 4, "linear_head_dim": 8, "linear_conv_kernel_dim": 4}),
            (Mechanism::Kda, 3 * 32, 4, 4 * 64, bf16()),
        ),
        (
            json!({"mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 16, "n_groups": 2, "conv_kernel": 4}),
            (Mechanism::Mamba2, 32 + 2 * 2 * 16, 4, 4 * 8 * 16, bf16()),
        ),
        (
            json!({"mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2}),
            (Mechanism::Mamba1, 128, 4, 128 * 16, bf16()),
        ),
        // Where a pure Mamba names its width, expand may lie (Falcon-Mamba).
        (
            json!({"state_size": 16, "conv_kernel": 4, "expand": 16, "intermediate_size": 128}),
            (Mechanism::Mamba1, 128, 4, 128 * 16, bf16()),
        ),
        (json!({"conv_L_cache": 3}), (Mechanism::ShortConvolution, 64, 3, 0, String::new())),
        (json!({"lru_width": 32, "conv1d_width": 4}), (Mechanism::RgLru, 32, 4, 32, bf16())),
        (json!({"attn_type_list": [0, 0, 0, 1]}), (Mechanism::Lightning, 0, 0, 8 * 64, bf16())),
    ] {
        assert_eq!(linear(keys), expected);
    }
    let without_keys = read(small("unheard_of", json!({"layer_types": vec!["linear_attention"; 4]}))).unwrap_err();
    assert_eq!((without_keys.code, without_keys.field.as_str()), (Code::Missing, "layer_types"));
}

#[test]
fn hybrids_say_their_layers_in_many_ways() {
    let state = json!({"conv_L_cache": 3, "head_dim": 8});
    let with = |key: &str, value: Value| {
        let mut keys = state.clone();
        keys[key] = value;
        kinds(small("unheard_of", keys))
    };
    let one_of_four = [("full_attention", 1), ("recurrent_state", 3)];
    assert_eq!(with("full_attn_idxs", json!([2])), one_of_four);
    assert_eq!(with("attn_layer_indices", json!([0])), one_of_four);
    assert_eq!(with("attn_layer_period", json!(4)), one_of_four);
    assert_eq!(with("layers_block_type", json!(["mamba", "mamba", "attention", "mamba"])), one_of_four);
    assert_eq!(
        with("hybrid_override_pattern", json!("M-*E")),
        [("full_attention", 1), ("recurrent_state", 1), ("none", 2)]
    );
    assert_eq!(
        with("layer_types", json!(["hybrid", "conv", "conv", "moe"])),
        [("full_attention", 1), ("recurrent_state", 3), ("none", 1)]
    );
    let kimi = json!({"linear_attn_config": {"num_heads": 4, "head_dim": 8, "short_conv_kernel_size": 4,
        "kda_layers": [1, 2, 3], "full_attn_layers": [4]}, "head_dim": 8});
    let model = read(small("kimi_linear", kimi)).unwrap();
    // Counted from 1.
    assert_eq!(model.layer_groups[0].layers, [3]);
}

#[test]
fn encoders_and_images_are_attended_to_across() {
    let t5 = json!({"is_encoder_decoder": true, "num_layers": 6, "num_decoder_layers": 2, "d_kv": 8, "num_heads": 4,
        "d_model": 32, "num_hidden_layers": null, "hidden_size": null, "num_attention_heads": null, "num_key_value_heads": null});
    assert_eq!(kinds(small("t5", t5)), [("full_attention", 2), ("cross_attention", 2)]);
    let vision = json!({"model_type": "mllama", "text_config": small("mllama_text_model", json!({"cross_attention_layers": [1]})),
        "vision_config": {"image_size": 560, "patch_size": 14, "max_num_tiles": 4}});
    let cross = groups(vision)[1].1;
    assert_eq!(
        cross,
        LayerCache::CrossAttention { key_value: heads(2, 8), encoder_tokens: Some(Tokens(6404)), optional: true }
    );
}

#[test]
fn compressed_layers_have_a_window_their_entries_and_an_index() {
    let v4 = json!({"compress_ratios": [0, 4, 128, 4, 0], "head_dim": 512, "sliding_window": 128, "index_head_dim": 128,
        "index_topk": 512, "num_key_value_heads": 1, "num_nextn_predict_layers": 1});
    let model = read(small("deepseek_v4", v4)).unwrap();
    let found: Vec<_> = model.layer_groups.iter().map(|group| (group.cache.kind(), group.layers.clone())).collect();
    assert_eq!(
        found,
        [
            ("sliding_attention", vec![0, 1, 2, 3]),
            ("compressed_attention", vec![1, 3]),
            ("compressed_attention", vec![2]),
            ("indexer", vec![1, 3]),
        ]
    );
    // 8 rows of 2 x 512, and as many scores; 8 of 2 x 128 for the index.
    let LayerCache::Compressed { state_elements, .. } = model.layer_groups[1].cache else { panic!() };
    assert_eq!(state_elements, 8 * 2 * 1024 + 8 * 2 * 256);
    assert_eq!((model.mtp_groups[0].cache.kind(), model.mtp_groups[0].layers.clone()), ("sliding_attention", vec![4]));
}

/// As vLLM 0.33 builds them (`models/qwen3_next_mtp.py`, `qwen3_5_mtp.py`, `exaone_moe_mtp.py`, `longcat_flash_mtp.py`).
#[test]
fn layers_that_draft_are_built_where_the_file_counts_none() {
    let drafting = |model_type, config| {
        let groups = read(small(model_type, config)).unwrap().mtp_groups;
        groups.iter().map(|group| (group.cache.kind(), group.layers.len())).collect::<Vec<_>>()
    };
    let linear = json!({"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 64,
        "linear_value_head_dim": 64, "linear_conv_kernel_dim": 4});
    assert_eq!(drafting("qwen3_next", linear), [("full_attention", 1)]);
    assert_eq!(drafting("exaone_moe", json!({"sliding_window": 64})), [("sliding_attention", 1)]);
    assert_eq!(drafting("exaone_moe", json!({"num_nextn_predict_layers": 0})), []);
    assert_eq!(drafting("qwen3_moe", json!({})), []);
}

#[test]
fn what_a_mechanism_is_taken_to_have_is_said() {
    let said = |config: Value, text: &str| read(config).unwrap().assumptions.iter().any(|said| said.starts_with(text));
    let one_group = "n_groups is not in the config: 1, ";
    let mamba = |groups: Value| {
        json!({"model_type": "unheard_of", "num_hidden_layers": 1, "layer_types": ["mamba"], "hidden_size": 64,
               "mamba_num_heads": 8, "mamba_head_dim": 16, "ssm_state_size": 16, "conv_kernel": 4, "n_groups": groups})
    };
    assert!(said(mamba(Value::Null), one_group));
    assert!(!said(mamba(json!(2)), one_group));
    let compressed = |rates: Value| {
        json!({"model_type": "unheard_of", "num_hidden_layers": 2, "head_dim": 64, "sliding_window": 8,
               "layer_types": ["compressed_sparse_attention", "sliding_attention"], "compress_rates": rates})
    };
    let ratio = "compress_rates.compressed_sparse_attention is not in the config: 4, ";
    assert!(said(compressed(Value::Null), ratio));
    assert!(!said(compressed(json!({"compressed_sparse_attention": 4})), ratio));
}

#[test]
fn a_flag_of_the_class_is_said() {
    let said = |keys: Value| {
        let config = json!({"model_type": "gpt_bigcode", "n_layer": 2, "n_embd": 64, "n_head": 8});
        let mut config = config.as_object().unwrap().clone();
        config.extend(keys.as_object().unwrap().clone());
        let model = read(Value::Object(config)).unwrap();
        let multi_query = |text: &String| text.starts_with("multi_query is not in the config: true, the default of ");
        (model.assumptions.iter().any(multi_query), model.layer_groups[0].cache)
    };
    assert_eq!(said(json!({})), (true, full(heads(1, 8))));
    assert_eq!(said(json!({"multi_query": true})), (false, full(heads(1, 8))));
    assert_eq!(said(json!({"multi_query": false})), (false, full(heads(8, 8))));
}

#[test]
fn layers_may_share_a_cache() {
    let shared = |keys| kinds(small("unheard_of", keys));
    let cla = |on| json!({"head_dim": 8, "use_cla": on, "cla_share_factor": 2});
    assert_eq!(shared(cla(true)), [("full_attention", 2), ("shared", 2)]);
    // A factor beside a switch that is off (Hunyuan-7B).
    assert_eq!(shared(cla(false)), [("full_attention", 4)]);
    let too_many = read(small("unheard_of", json!({"num_kv_shared_layers": 5}))).unwrap_err();
    assert_eq!((too_many.code, too_many.found.as_deref()), (Code::TooManyShared, Some("5")));
}

#[test]
fn the_second_half_may_read_one_cache() {
    let keys = json!({"num_hidden_layers": 8, "mb_per_layer": 2, "sliding_window": 4, "head_dim": 8, "mamba_d_state": 16,
        "mamba_d_conv": 4, "mamba_expand": 2});
    let model = read(small("phi4flash", keys)).unwrap();
    let found: Vec<_> = model.layer_groups.iter().map(|group| (group.cache.kind(), group.layers.clone())).collect();
    assert_eq!(
        found,
        [
            ("full_attention", vec![5]),
            ("sliding_attention", vec![1, 3]),
            ("recurrent_state", vec![0, 2, 4]),
            ("shared", vec![6, 7]),
        ]
    );
}

#[test]
fn classes_say_what_files_leave_out() {
    let cycle =
        json!({"num_hidden_layers": 7, "lru_width": 64, "conv1d_width": 4, "head_dim": 8, "attention_window_size": 16});
    let griffin = read(small("recurrent_gemma", cycle)).unwrap();
    assert_eq!(griffin.layer_groups[0].layers, [2, 5]);
    assert_eq!(griffin.layer_groups[1].layers, [0, 1, 3, 4, 6]);
    let minimax = read(small("minimax", json!({"head_dim": 8}))).unwrap();
    assert_eq!(minimax.layer_groups[0].layers, [0, 2]);
    // A flag that is on unless the file says otherwise.
    assert_eq!(groups(small("falcon", json!({"head_dim": 8}))), [(4, full(heads(1, 8)))]);
    assert_eq!(groups(small("falcon", json!({"head_dim": 8, "multi_query": false}))), [(4, full(heads(2, 8)))]);
    let t5 = json!({"num_decoder_layers": 2, "d_kv": 8});
    assert_eq!(kinds(small("t5", t5)), [("full_attention", 2), ("cross_attention", 2)]);
    // Where the class has a list of its own that is not known here, the file must have one.
    assert_eq!(read(small("zamba2", json!({}))).unwrap_err().to_string(), "layer_types: missing; add it");
    // The architecture names the type where the file does not.
    let mut longcat = small("llama", json!({"num_layers": 4, "kv_lora_rank": 512, "qk_rope_head_dim": 64}));
    longcat["model_type"] = json!(null);
    longcat["num_hidden_layers"] = json!(null);
    longcat["architectures"] = json!(["LongcatFlashForCausalLM"]);
    assert_eq!(kinds(longcat), [("latent_attention", 8)]);
}

#[test]
fn transformers_repeats_the_heads_of_some() {
    let falcon = json!({"head_dim": 8, "new_decoder_architecture": true, "num_kv_heads": 2});
    let model = read(small("falcon", falcon)).unwrap();
    assert_eq!((model.layer_groups[0].cache, model.checkpoint.transformers_kv_heads), (full(heads(2, 8)), Some(8)));
    assert_eq!(read(small("llama", json!({}))).unwrap().checkpoint.transformers_kv_heads, None);
}

#[test]
fn a_window_bounds_whatever_the_layers_keep() {
    let key_value = heads(2, 8);
    let window = json!({"head_dim": 8, "sliding_window": 16});
    // transformers sets any key of a file, and slides if there is a window.
    assert_eq!(groups(small("llama", window)), [(4, sliding(key_value, 16))]);
    let chunk = LayerCache::ChunkedLocal { key_value, chunk: Tokens(16) };
    assert_eq!(groups(small("llama", json!({"head_dim": 8, "attention_chunk_size": 16}))), [(4, chunk)]);
    let latent = json!({"kv_lora_rank": 512, "qk_rope_head_dim": 64, "sliding_window": 16,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]});
    assert_eq!(
        groups(small("deepseek_v3", latent)),
        [
            (2, LayerCache::Latent { kv_lora_rank: 512, qk_rope_head_dim: 64 }),
            (2, sliding(KeyValue::Vector { elements: 576 }, 16)),
        ]
    );
}

#[test]
fn layers_that_are_not_there_are_refused() {
    let conv = |keys: Value| {
        let mut all = json!({"conv_L_cache": 3, "head_dim": 8});
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        read(small("unheard_of", all)).unwrap_err().to_string()
    };
    assert!(conv(json!({"full_attn_idxs": [4]})).starts_with("full_attn_idxs: 4 is not the number of a layer"));
    assert!(
        conv(json!({"attn_layer_period": 4, "attn_layer_offset": 4}))
            .starts_with("attn_layer_offset: 4 is not less than")
    );
    assert!(
        conv(json!({"per_layer_config": {"4": {}}})).starts_with("per_layer_config.4: {} overrides what is not read")
    );
    assert!(
        conv(json!({"per_layer_config": {"1": {"sliding_window": 4}}}))
            .starts_with("per_layer_config.1.sliding_window: 4")
    );
    let kimi = |kda: Value| {
        let linear = json!({"num_heads": 4, "head_dim": 8, "short_conv_kernel_size": 4, "kda_layers": kda, "full_attn_layers": [4]});
        read(small("kimi_linear", json!({"linear_attn_config": linear, "head_dim": 8})))
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(kimi(json!([1, 2, 3])), Ok(()));
    for unclear in [json!([1, 2]), json!([1, 2, 3, 4])] {
        assert!(kimi(unclear).unwrap_err().starts_with("linear_attn_config.kda_layers: layer"));
    }
    assert!(kimi(json!([0, 1, 2, 3])).unwrap_err().contains("0 is not the number of a layer"));
    assert_eq!(
        read(small("nemotron_h", json!({"hybrid_override_pattern": "----"}))).unwrap_err().to_string(),
        "model_type: nemotron_h has no KV cache: none of its layers attends or remembers; give the config.json of a model that generates text"
    );
}

#[test]
fn every_number_is_a_fact_with_its_key() {
    let model = read(small("gemma2", json!({"num_key_value_heads": 4}))).unwrap();
    let fact = |key: &str| {
        model.facts.iter().find(|fact| fact.key == key).map(|fact| (fact.value.as_str(), fact.from.as_str()))
    };
    assert_eq!(fact("num_key_value_heads"), Some(("4", "config")));
    let default = "default: transformers 5.23.0, models/gemma2/configuration_gemma2.py";
    assert_eq!(fact("head_dim"), Some(("256", default)));
    assert_eq!(fact("sliding_window"), Some(("4096", default)));
}

#[test]
fn the_checkpoint_s_format_is_read_from_either_key_and_place() {
    for (config, format) in [
        (json!({"torch_dtype": "float16"}), ElementFormat::FP16),
        (json!({"torch_dtype": null, "dtype": "float16"}), ElementFormat::FP16),
        (json!({"torch_dtype": "torch.bfloat16"}), ElementFormat::BF16),
        (json!({"torch_dtype": "float32"}), ElementFormat::BF16),
        (json!({"torch_dtype": null}), ElementFormat::BF16),
    ] {
        assert_eq!(read(small("llama", config)).unwrap().dtype, format);
    }
    let wrapped = json!({"torch_dtype": "float16", "text_config": small("llama", json!({"torch_dtype": null}))});
    assert_eq!(read(wrapped).unwrap().dtype, ElementFormat::FP16);
}

#[test]
fn unknown_types_are_read_with_a_warning() {
    let model = read(small("unheard_of", json!({}))).unwrap();
    assert_eq!(model.warnings, [crate::model::unknown_model_type("unheard_of")]);
    let model = read(small("llama", json!({"model_type": null}))).unwrap();
    assert_eq!(model.warnings, ["the config names no model_type: read by its keys as plain attention"]);
}

#[test]
fn a_longer_list_is_cut_and_said_a_shorter_one_refused() {
    let types = |count| json!({"layer_types": vec!["full_attention"; count]});
    let model = read(small("llama", types(5))).unwrap();
    assert_eq!(model.assumptions, ["layer_types has 5 entries for 4 layers: the first 4 are read"]);
    assert_eq!(
        read(small("llama", types(3))).unwrap_err().to_string(),
        "layer_types: 3 entries do not cover the 4 layers; give one entry a layer"
    );
}

#[test]
fn what_is_wrong_is_named_by_its_key() {
    for (config, message) in [
        (json!([]), "[] is not an object of keys; give a config.json"),
        (json!({}), "num_hidden_layers: missing; add it"),
        (json!({"text_config": 3}), "text_config: 3 is not an object; write an object"),
        (small("llama", json!({"num_hidden_layers": null})), "num_hidden_layers: missing; add it"),
        (
            small("llama", json!({"num_hidden_layers": -1})),
            "num_hidden_layers: -1 is not a positive count; write 1 or more",
        ),
        (
            small("llama", json!({"num_hidden_layers": 0})),
            "num_hidden_layers: 0 is not a positive count; write 1 or more",
        ),
        (
            small("llama", json!({"num_hidden_layers": 4.5})),
            "num_hidden_layers: 4.5 is not a whole number; write a whole number",
        ),
        (
            small("llama", json!({"num_hidden_layers": 1_000_000})),
            "num_hidden_layers: 1000000 is more layers than any model has; give at most 65536",
        ),
        (
            small("llama", json!({"num_key_value_heads": 3})),
            "num_key_value_heads: 3 does not divide num_attention_heads 8; give KV heads that do; each serves an equal group of query heads",
        ),
        (
            small("llama", json!({"num_key_value_heads": [1, 2]})),
            "num_key_value_heads: 2 entries do not cover the 4 layers; give one entry a layer",
        ),
        (
            small("llama", json!({"hidden_size": null})),
            "head_dim: missing; add head_dim, or hidden_size and num_attention_heads",
        ),
        (
            small("llama", json!({"num_attention_heads": null})),
            "num_attention_heads: missing; add head_dim, or hidden_size and num_attention_heads",
        ),
        (
            small("llama", json!({"hidden_size": 7})),
            "hidden_size: 7 is less than num_attention_heads 8; add head_dim, or hidden_size and num_attention_heads",
        ),
        (
            small("llama", json!({"layer_types": ["full_attention", "full_attention", "wavelet", "full_attention"]})),
            "layer_types[2]: wavelet is a layer type that is not known here; known are full_attention, sliding_attention, chunked_attention, linear_attention and their older names",
        ),
        (
            small("llama", json!({"layer_types": vec!["sliding_attention"; 4]})),
            "sliding_window: missing although layers are sliding_attention; give sliding_window, and do not switch it off: without it their cache has no size",
        ),
        (
            small(
                "qwen2",
                json!({"layer_types": vec!["sliding_attention"; 4], "use_sliding_window": false, "sliding_window": 9}),
            ),
            "use_sliding_window: false although layers are sliding_attention; give sliding_window, and do not switch it off: without it their cache has no size",
        ),
        (
            small("unheard_of", json!({"architectures": ["XForMaskedLM"]})),
            "model_type: XForMaskedLM has no KV cache: it is an encoder, which reads its whole input at once; give the config.json of a model that generates text",
        ),
        (
            small("gemma3_text", json!({"sliding_window_pattern": 0})),
            "sliding_window_pattern: 0 is not a positive count; write 1 or more",
        ),
        (
            small("nemotron_h", json!({"hybrid_override_pattern": "M*X-"})),
            "hybrid_override_pattern: X is a layer type that is not known here; known are full_attention, sliding_attention, chunked_attention, linear_attention and their older names",
        ),
        (
            small("qwen2", json!({"use_sliding_window": 1})),
            "use_sliding_window: 1 is not true or false; write true or false",
        ),
    ] {
        assert_eq!(read(config).unwrap_err().to_string(), message);
    }
}

#[test]
fn broken_json_is_told_with_line_and_column() {
    assert_eq!(
        parse("{\n  \"a\": Nan\n}").unwrap_err().to_string(),
        "the text is not JSON: expected value at line 2 column 8; give a config.json as it is published"
    );
}

#[test]
fn python_s_numbers_are_read_as_texts_and_are_no_counts() {
    let text = small("llama", json!({"time_step_limit": [0, "LIMIT"], "note": "NaN, Infinity"})).to_string();
    let published = text.replace("\"LIMIT\"", "-Infinity");
    assert_eq!(parse(&published).unwrap()["note"], "NaN, Infinity");
    assert!(parse(&published).and_then(read).is_ok());
    let wrong = text.replace("\"num_hidden_layers\":4", "\"num_hidden_layers\":NaN");
    assert_eq!(
        parse(&wrong).and_then(read).unwrap_err().to_string(),
        "num_hidden_layers: \"NaN\" is not a whole number; write a whole number"
    );
}

proptest! {
    #[test]
    fn mutated_configs_are_read_or_refused(position in 0usize..700, byte in any::<u8>()) {
        let mut text = small("gemma3_text", json!({"sliding_window": 32, "layer_types": null})).to_string().into_bytes();
        let position = position % text.len();
        text[position] = byte;
        if let Ok(text) = String::from_utf8(text) {
            let _ = parse(&text).and_then(read);
        }
    }

    #[test]
    fn any_value_under_any_key_is_read_or_refused(
        key in prop::sample::select(vec![
            "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim",
            "sliding_window", "layer_types", "max_position_embeddings", "torch_dtype", "model_type", "text_config",
            "sliding_window_pattern", "no_rope_layers", "attention_chunk_size", "use_sliding_window",
        ]),
        model_type in prop::sample::select(vec!["llama", "gemma3", "llama4", "qwen2", "unheard_of"]),
        value in prop::sample::select(vec![
            json!(null), json!(true), json!(0), json!(-1), json!(1), json!(7), json!(1e300), json!(u64::MAX), json!("x"),
            json!([]), json!([1]), json!([null, "x"]), json!({}), json!({"model_type": "llama"}),
        ]),
    ) {
        let _ = read(small(model_type, json!({key: value})));
    }
}
