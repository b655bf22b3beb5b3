#![allow(clippy::needless_pass_by_value, reason = "json!(…) at every call reads better than &json!(…)")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::KeyValue;

fn read(config: Value) -> Result<Model, ConfigError> {
    model(config, "test".into())
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
    assert!(matches!(model.assumptions[..], [Assumption::MultiHead { heads: 8, .. }]));
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
        assert!(matches!(model.assumptions[..], [Assumption::WindowOff { .. }]), "{model_type}");
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
    let broken = json!({"thinker_config": {"text_config": small("llama", json!({"num_hidden_layers": "4"}))}});
    assert_eq!(
        read(broken).unwrap_err().to_string(),
        "thinker_config.text_config.num_hidden_layers: \"4\" is not a whole number; write a whole number"
    );
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
    assert!(matches!(&model.warnings[..], [Warning::UnknownModelType { model_type }] if model_type == "unheard_of"));
    let model = read(small("llama", json!({"model_type": null}))).unwrap();
    assert_eq!(model.warnings, [Warning::NoModelType]);
}

#[test]
fn a_longer_list_is_cut_and_said_a_shorter_one_refused() {
    let types = |count| json!({"layer_types": vec!["full_attention"; count]});
    let model = read(small("llama", types(5))).unwrap();
    assert!(matches!(model.assumptions[..], [Assumption::LongList { found: 5, layers: 4, .. }]));
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
