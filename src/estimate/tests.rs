use proptest::prelude::*;

use super::*;
use crate::model::{DraftMethod, LayerCache, Origin};
use crate::units::{Code, Error};

fn model(layer_groups: Vec<LayerGroup>) -> Model {
    let num_hidden_layers = layer_groups.iter().flat_map(|group| &group.layers).max().map_or(0, |last| last + 1);
    Model::new("test".into(), Origin::Flags, ElementFormat::BF16, num_hidden_layers, layer_groups)
}

const KV_8_128: KeyValue = KeyValue::Heads { num_key_value_heads: 8, head_dim: 128, v_head_dim: 128 };

/// Every fourth of 48 layers is full, the others keep a chunk of 8,192.
fn llama_4_scout() -> Model {
    let (full, chunked) = (0..48).partition(|layer| (layer + 1) % 4 == 0);
    model(vec![
        LayerGroup { layers: full, cache: LayerCache::FullAttention { key_value: KV_8_128 } },
        LayerGroup { layers: chunked, cache: LayerCache::ChunkedLocal { key_value: KV_8_128, chunk: Tokens(8192) } },
    ])
}

fn workload(seq_len: u64, batch: u64, format: ElementFormat, layout: Layout) -> Workload {
    Workload { kv_dtype: format.into(), layout, ..Workload::of(Tokens(seq_len), batch) }
}

fn bf16(seq_len: u64) -> Workload {
    workload(seq_len, 1, ElementFormat::BF16, Layout::default())
}

#[test]
fn scout_at_128k_is_the_design_page_s_example() {
    let estimate = estimate(&llama_4_scout(), &bf16(131_072)).unwrap();
    assert_eq!(estimate.bytes, Bytes(7_650_410_496));
    assert_eq!(estimate.bytes_per_gpu, estimate.bytes);
    assert_eq!(estimate.bytes_per_token.whole(), Some(49_152));
    assert_eq!(
        estimate.layer_groups,
        [
            GroupEstimate { kind: "full_attention", layers: 12, entries: Tokens(131_072), bytes: Bytes(6_442_450_944) },
            GroupEstimate {
                kind: "chunked_attention",
                layers: 36,
                entries: Tokens(8_192),
                bytes: Bytes(1_207_959_552)
            },
        ]
    );
}

#[test]
fn the_article_s_shortcut_gives_the_article_s_bytes() {
    let shortcut = |hidden_size, num_key_value_heads| {
        let key_value = KeyValue::ArticleShortcut { hidden_size, num_key_value_heads };
        model(vec![LayerGroup { layers: (0..48).collect(), cache: LayerCache::FullAttention { key_value } }])
    };
    let bytes = |model: &Model, layout| estimate(model, &workload(10_000_000, 1, ElementFormat::FP16, layout));
    assert_eq!(bytes(&shortcut(5120, 8), Layout::default()).unwrap().bytes, Bytes(1_228_800_000_000));
    // 853 elements, as integers divide; not a whole number of heads, so no rank can hold an equal share.
    assert_eq!(bytes(&shortcut(5120, 6), Layout::default()).unwrap().bytes, Bytes(2 * 48 * 10_000_000 * 853 * 2));
    assert_eq!(bytes(&shortcut(5120, 6), Layout { tp: 2, ..Layout::default() }), Err(error::undivided_shortcut(6, 2)));
}

#[test]
fn heads_are_divided_then_replicated() {
    for (tp, per_gpu, total) in [(1, 16, 16), (2, 8, 16), (4, 4, 16), (8, 2, 16), (16, 2, 32), (32, 2, 64)] {
        let llama_8b = model(vec![LayerGroup {
            layers: (0..32).collect(),
            cache: LayerCache::FullAttention { key_value: KV_8_128 },
        }]);
        let layout = Layout { tp, ..Layout::default() };
        let estimate = estimate(&llama_8b, &workload(131_072, 1, ElementFormat::BF16, layout)).unwrap();
        assert_eq!(estimate.bytes_per_gpu, Bytes(per_gpu << 30), "tp {tp}");
        assert_eq!(estimate.bytes, Bytes(total << 30), "tp {tp}");
    }
    for tp in [3, 6, 12] {
        assert_eq!(
            estimate(&llama_4_scout(), &workload(1, 1, ElementFormat::BF16, Layout { tp, ..Layout::default() })),
            Err(error::uneven_heads(8, tp))
        );
    }
}

#[test]
fn the_largest_pipeline_stage_is_what_a_device_holds() {
    // 48 layers over 5 stages: 9, 10, 10, 10, 9; the full layers are 3, 7, 11, …, 47.
    let layout = Layout { pp: 5, ..Layout::default() };
    let estimate = estimate(&llama_4_scout(), &workload(131_072, 1, ElementFormat::BF16, layout)).unwrap();
    let (full, chunked) = (131_072 * 4096, 8_192 * 4096);
    // Stage 1 holds layers 9 to 18 (11 and 15 are full), stage 2 19 to 28 (19, 23, 27), stage 3 29 to 38 (31, 35).
    assert_eq!(estimate.bytes_per_gpu, Bytes(3 * full + 7 * chunked));
    assert_eq!(estimate.bytes, Bytes(12 * full + 36 * chunked));
}

#[test]
fn a_drafter_s_layers_are_on_the_last_stage() {
    let full = LayerGroup { layers: vec![0, 1], cache: LayerCache::FullAttention { key_value: KV_8_128 } };
    let target = model(vec![full.clone()]);
    let draft = model(vec![LayerGroup { layers: vec![0], ..full }]);
    let drafted = target.drafted(DraftMethod::DraftModel, 3, Some(&draft));
    let layout = Layout { pp: 2, ..Layout::default() };
    let estimate = estimate(&drafted, &workload(10, 1, ElementFormat::BF16, layout)).unwrap();
    assert_eq!((estimate.bytes, estimate.bytes_per_gpu), (Bytes(3 * 40_960), Bytes(2 * 40_960)));
}

#[test]
fn odd_widths_round_up_once_per_layer_group() {
    let one_element = KeyValue::Heads { num_key_value_heads: 1, head_dim: 1, v_head_dim: 1 };
    let group = |layers, window| LayerGroup { layers, cache: sliding_of(one_element, window) };
    let model = model(vec![group(vec![0, 1, 2], 1), group(vec![3], 2)]);
    // 3 layers x 1 entry x 2 elements x 3 bits = 18 bits = 3 bytes, and 1 x 2 x 2 x 3 = 12 bits = 2 bytes.
    let estimate = estimate(&model, &workload(5, 1, ElementFormat::bitwidth(3), Layout::default())).unwrap();
    assert_eq!(estimate.bytes, Bytes(5));
    assert_eq!(estimate.bytes_per_token.whole(), Some(0));
}

#[test]
fn k_and_v_may_differ_in_width_and_format() {
    let key_value = KeyValue::Heads { num_key_value_heads: 4, head_dim: 192, v_head_dim: 128 };
    let model = model(vec![LayerGroup { layers: vec![0], cache: LayerCache::FullAttention { key_value } }]);
    let q8_0 = ElementFormat::blocks("q8_0", 34 * 8, 32);
    let workload = Workload { kv_dtype: KvDtype::Given(KvFormat::new(ElementFormat::BF16, q8_0)), ..bf16(10) };
    let estimate = estimate(&model, &workload).unwrap();
    assert_eq!(estimate.bytes, Bytes(10 * (4 * 192 * 2 + 4 * 128 / 32 * 34)));
    assert_eq!(estimate.bytes_per_token.whole(), Some(4 * 192 * 2 + 4 * 128 / 32 * 34));
}

#[test]
fn a_slope_may_be_a_fraction() {
    let key_value = KeyValue::Heads { num_key_value_heads: 1, head_dim: 5, v_head_dim: 5 };
    let model = model(vec![LayerGroup { layers: vec![0], cache: LayerCache::FullAttention { key_value } }]);
    let estimate = estimate(&model, &workload(1, 1, ElementFormat::bitwidth(3), Layout::default())).unwrap();
    assert_eq!(estimate.bytes_per_token, BytesPerToken { numerator: 30, denominator: 8 });
    assert_eq!(estimate.bytes_per_token.whole(), None);
}

#[test]
fn products_past_the_limit_are_errors() {
    let wide = KeyValue::Heads { num_key_value_heads: u64::MAX, head_dim: u64::MAX, v_head_dim: u64::MAX };
    let model_of =
        |key_value| model(vec![LayerGroup { layers: vec![0, 1], cache: LayerCache::FullAttention { key_value } }]);
    assert_eq!(estimate(&model_of(wide), &bf16(u64::MAX)), Err(Error::too_large()));
    let one = KeyValue::Heads { num_key_value_heads: 1, head_dim: 1, v_head_dim: 1 };
    assert_eq!(estimate(&model_of(one), &bf16(u64::MAX)), Err(Error::too_large()));
    // 2 layers x 2 elements x 2 bytes x (2^61 - 1) tokens is just below the limit.
    assert_eq!(estimate(&model_of(one), &bf16((1 << 61) - 1)).unwrap().bytes, Bytes(u64::MAX - 7));
}

fn sliding_of(key_value: KeyValue, window: u64) -> LayerCache {
    LayerCache::SlidingWindow { key_value, window: Tokens(window), transformers_window: None }
}

fn of_one(cache: LayerCache) -> Model {
    model(vec![LayerGroup { layers: vec![0], cache }])
}

#[test]
fn each_kind_keeps_what_it_can_still_attend_to() {
    let entries = |cache, seq_len| estimate(&of_one(cache), &bf16(seq_len)).unwrap().layer_groups[0].entries.0;
    let slope = |cache, seq_len| estimate(&of_one(cache), &bf16(seq_len)).unwrap().bytes_per_token;
    let full = LayerCache::FullAttention { key_value: KV_8_128 };
    let sliding = sliding_of(KV_8_128, 4096);
    let chunked = LayerCache::ChunkedLocal { key_value: KV_8_128, chunk: Tokens(8192) };
    let latent = LayerCache::Latent { kv_lora_rank: 512, qk_rope_head_dim: 64 };
    let index = LayerCache::Indexer { index_head_dim: 128, ratio: 4 };
    for seq_len in [1, 4095, 4096, 8191, 8192, 8193] {
        assert_eq!(entries(full, seq_len), seq_len);
        assert_eq!(entries(sliding, seq_len), seq_len.min(4096));
        assert_eq!(entries(chunked, seq_len), seq_len.min(8192));
        assert_eq!(entries(latent, seq_len), seq_len);
        assert_eq!(entries(index, seq_len), seq_len.div_ceil(4));
        assert_eq!(slope(full, seq_len).whole(), Some(4096));
        assert_eq!(slope(sliding, seq_len).whole(), Some(if seq_len < 4096 { 4096 } else { 0 }));
        assert_eq!(slope(latent, seq_len).whole(), Some(1152));
        assert_eq!(slope(index, seq_len).whole(), Some(64));
    }
    assert_eq!((entries(LayerCache::Shared, 9), entries(LayerCache::None, 9)), (0, 0));
}

#[test]
fn a_latent_is_whole_on_every_rank() {
    let model = of_one(LayerCache::Latent { kv_lora_rank: 512, qk_rope_head_dim: 64 });
    let estimate =
        estimate(&model, &workload(10, 1, ElementFormat::BF16, Layout { tp: 8, ..Layout::default() })).unwrap();
    assert_eq!((estimate.bytes_per_gpu, estimate.bytes), (Bytes(11_520), Bytes(8 * 11_520)));
}

#[test]
fn compressed_layers_add_an_entry_for_every_few_tokens_and_keep_a_state() {
    let model = of_one(LayerCache::Compressed { head_dim: 512, ratio: 128, state_elements: 10 });
    let bytes = |seq_len| estimate(&model, &bf16(seq_len)).unwrap().bytes.0;
    assert_eq!((bytes(1), bytes(128), bytes(129)), (1024 + 40, 1024 + 40, 2048 + 40));
    let slope = estimate(&model, &bf16(1)).unwrap().bytes_per_token;
    assert_eq!(slope.whole(), Some(8));
}

#[test]
fn a_recurrent_state_does_not_grow_and_is_divided_over_ranks() {
    use crate::model::{Convolution, Mechanism, Memory};
    let state = RecurrentState {
        mechanism: Mechanism::Mamba2,
        convolution: Some(Convolution {
            channels: 8192,
            channels_per_group: 256,
            groups: 8,
            kernel: 4,
            format: ElementFormat::BF16,
        }),
        memory: Some(Memory { heads: 128, elements_per_head: 64 * 128, format: ElementFormat::FP32 }),
    };
    let model = of_one(LayerCache::Recurrent(state));
    let at =
        |tp, seq_len| estimate(&model, &workload(seq_len, 1, ElementFormat::FP8, Layout { tp, ..Layout::default() }));
    // nvidia/Nemotron-H-8B: 4,255,744 bytes a layer in vLLM, whatever the cache's own format.
    assert_eq!(at(1, 1).unwrap().bytes, Bytes(4_255_744));
    assert_eq!(at(1, 1_000_000).unwrap(), at(1, 1).unwrap());
    assert_eq!(at(8, 1).unwrap().bytes, Bytes(4_255_744));
    // Sixteen ranks have a group each, twice as many as there are.
    assert_eq!(at(16, 1).unwrap().bytes_per_gpu, Bytes((512 + 256) * 3 * 2 + 8 * 64 * 128 * 4));
    assert_eq!(at(3, 1).unwrap_err().code, Code::UnevenTensorParallel);
}

#[test]
fn cross_attention_keeps_the_encoder_s_tokens() {
    let cross =
        |encoder_tokens| of_one(LayerCache::CrossAttention { key_value: KV_8_128, encoder_tokens, optional: false });
    let of = |model: &Model, encoder_len| estimate(model, &Workload { encoder_len, ..bf16(7) });
    assert_eq!(of(&cross(Some(Tokens(1500))), None).unwrap().bytes, Bytes(1500 * 4096));
    assert_eq!(of(&cross(Some(Tokens(1500))), Some(Tokens(10))).unwrap().bytes, Bytes(10 * 4096));
    assert_eq!(of(&cross(None), None), Err(error::no_encoder_length()));
}

fn with_prefix(prefix: u64, seq_len: u64, batch: u64) -> Workload {
    Workload { shared_prefix: Some(Tokens(prefix)), ..workload(seq_len, batch, ElementFormat::BF16, Layout::default()) }
}

#[test]
fn a_prefix_in_common_is_kept_once_where_it_is_still_kept() {
    let batch = |cache, prefix, seq_len| {
        let Batch { common, own } = shared(&cache, &with_prefix(prefix, seq_len, 5)).unwrap();
        (common, own)
    };
    let full = LayerCache::FullAttention { key_value: KV_8_128 };
    let sliding = sliding_of(KV_8_128, 100);
    let chunked = LayerCache::ChunkedLocal { key_value: KV_8_128, chunk: Tokens(100) };
    let compressed = LayerCache::Compressed { head_dim: 512, ratio: 4, state_elements: 10 };
    assert_eq!((batch(full, 70, 90), batch(full, 90, 90)), ((70, 20), (90, 0)));
    // Of the last 100 tokens those before the prefix ends; none once the window is past it.
    assert_eq!((batch(sliding, 70, 90), batch(sliding, 70, 130)), ((70, 20), (40, 60)));
    assert_eq!((batch(sliding, 70, 170), batch(sliding, 70, 999)), ((0, 100), (0, 100)));
    // Tokens 70 to 99 share a chunk with the prefix; the next chunk has none of it, and takes as much with 44.
    assert_eq!((batch(chunked, 70, 90), batch(chunked, 70, 100)), ((70, 20), (70, 30)));
    assert_eq!(
        (batch(chunked, 70, 144), batch(chunked, 70, 145), batch(chunked, 70, 999)),
        ((0, 44), (0, 45), (0, 100))
    );
    assert_eq!((batch(chunked, 70, 143), batch(chunked, 350, 350)), ((70, 30), (100, 0)));
    // An entry that covers a token past the prefix is each sequence's own.
    assert_eq!((batch(compressed, 70, 90), batch(compressed, 72, 90)), ((17, 6), (18, 5)));
    assert_eq!(shared(&LayerCache::Shared, &with_prefix(1, 2, 3)), None);

    let bytes = |workload: &Workload| estimate(&of_one(full), workload).unwrap();
    assert_eq!(bytes(&with_prefix(70, 90, 5)).bytes, Bytes((70 + 5 * 20) * 4096));
    assert_eq!(bytes(&with_prefix(70, 90, 5)).bytes_per_token.whole(), Some(4096));
    assert_eq!(bytes(&with_prefix(70, 90, 5)).layer_groups[0].entries, Tokens(90));
    assert_eq!(estimate(&of_one(full), &with_prefix(91, 90, 5)), Err(error::prefix_too_long(Tokens(91), Tokens(90))));
}

#[test]
fn ranks_share_the_tokens_of_a_sequence() {
    let at = |cache, tp, dcp, seq_len| {
        let layout = Layout { tp, dcp, ..Layout::default() };
        estimate(&of_one(cache), &workload(seq_len, 1, ElementFormat::BF16, layout))
    };
    let latent = LayerCache::Latent { kv_lora_rank: 512, qk_rope_head_dim: 64 };
    let full = LayerCache::FullAttention { key_value: KV_8_128 };
    // vLLM: DeepSeek V3 at 163,840 tokens, one layer of 61.
    for (dcp, tokens) in [(1, 163_840), (2, 81_920), (8, 20_480)] {
        let estimate = at(latent, 8, dcp, 163_840).unwrap();
        assert_eq!((estimate.bytes_per_gpu, estimate.bytes), (Bytes(tokens * 1152), Bytes(8 * tokens * 1152)));
        assert_eq!(estimate.bytes_per_token.whole(), Some(8 * 1152 / dcp));
    }
    assert_eq!(at(latent, 8, 8, 163_841).unwrap().bytes_per_gpu, Bytes(20_481 * 1152));
    // Each of 8 heads is held by two of 16 ranks, which share its tokens.
    assert_eq!(at(full, 16, 2, 1001).unwrap().bytes_per_gpu, Bytes(501 * 512));
    assert_eq!(at(full, 16, 4, 1), Err(error::too_much_decode_context(4, 16, 8)));
    assert_eq!(at(full, 8, 2, 1), Err(error::too_much_decode_context(2, 8, 8)));
    assert_eq!(at(latent, 8, 3, 1), Err(error::uneven_decode_context(3, 8)));
    // Every rank keeps a window whole.
    let sliding = sliding_of(KV_8_128, 100);
    assert_eq!(at(sliding, 16, 2, 1001), at(sliding, 16, 1, 1001));
}

fn any_model() -> impl Strategy<Value = Model> {
    let group = (1u32..5, 0u8..3, 1u64..5000, 1u64..9, 1u64..200, 1u64..200);
    proptest::collection::vec(group, 1..4).prop_map(|groups| {
        let mut next = 0;
        let layer_groups = groups.into_iter().map(|(layers, kind, bound, heads, k, v)| {
            let key_value = KeyValue::Heads { num_key_value_heads: heads, head_dim: k, v_head_dim: v };
            let cache = match kind {
                0 => LayerCache::FullAttention { key_value },
                1 => sliding_of(key_value, bound),
                _ => LayerCache::ChunkedLocal { key_value, chunk: Tokens(bound) },
            };
            let first = next;
            next += layers;
            LayerGroup { layers: (first..next).collect(), cache }
        });
        model(layer_groups.collect())
    })
}

proptest! {
    #[test]
    fn groups_add_up_and_no_device_holds_more_than_all(model in any_model(), seq_len in 1u64..20_000, batch in 1u64..9) {
        let estimate = estimate(&model, &workload(seq_len, batch, ElementFormat::FP8, Layout::default())).unwrap();
        let sum: u64 = estimate.layer_groups.iter().map(|group| group.bytes.0).sum();
        prop_assert_eq!(estimate.bytes, Bytes(sum));
        prop_assert_eq!(estimate.bytes_per_gpu, estimate.bytes);
    }

    #[test]
    fn more_tokens_never_take_less_and_cost_the_slope(model in any_model(), seq_len in 1u64..20_000) {
        let (now, next) = (estimate(&model, &bf16(seq_len)).unwrap(), estimate(&model, &bf16(seq_len + 1)).unwrap());
        prop_assert_eq!(next.bytes.0 - now.bytes.0, now.bytes_per_token.whole().unwrap());
    }

    #[test]
    fn a_batch_is_so_many_sequences(model in any_model(), seq_len in 1u64..20_000, batch in 1u64..9) {
        let one = estimate(&model, &bf16(seq_len)).unwrap();
        let many = estimate(&model, &workload(seq_len, batch, ElementFormat::BF16, Layout::default())).unwrap();
        prop_assert_eq!(many.bytes, one.bytes.checked_mul(batch).unwrap());
    }

    #[test]
    fn what_is_shared_is_between_one_sequence_and_all(
        model in any_model(), seq_len in 1u64..20_000, batch in 1u64..9, prefix in 1u64..20_000,
    ) {
        let bytes = |workload: &Workload| estimate(&model, workload).unwrap().bytes;
        let prefix = prefix.min(seq_len);
        let shared = bytes(&with_prefix(prefix, seq_len, batch));
        let alone = bytes(&bf16(seq_len));
        prop_assert!(alone <= shared);
        prop_assert!(shared <= alone.checked_mul(batch).unwrap());
        prop_assert_eq!(bytes(&with_prefix(prefix, seq_len, 1)), alone);
        prop_assert!(bytes(&with_prefix(prefix, seq_len + 1, batch)) >= shared);
        prop_assert!(bytes(&with_prefix(prefix.saturating_sub(1).max(1), seq_len, batch)) >= shared);
        // Whole of one and the same.
        prop_assert_eq!(bytes(&with_prefix(seq_len, seq_len, batch)), alone);
    }

    #[test]
    fn stages_of_a_pipeline_add_up(model in any_model(), seq_len in 1u64..20_000, pp in 1u64..5) {
        prop_assume!(pp <= u64::from(model.num_hidden_layers));
        let whole = estimate(&model, &bf16(seq_len)).unwrap();
        let layout = Layout { pp, ..Layout::default() };
        let staged = estimate(&model, &workload(seq_len, 1, ElementFormat::BF16, layout)).unwrap();
        prop_assert_eq!(staged.bytes, whole.bytes);
        prop_assert!(staged.bytes_per_gpu <= whole.bytes);
        prop_assert!(staged.bytes_per_gpu.0 * pp >= whole.bytes.0);
    }

    #[test]
    fn any_numbers_are_an_estimate_or_an_error(
        heads in 1u64.., head_dim in 1u64.., seq_len in 1u64.., batch in 1u64.., bits in 1u64.., tp in 1u64..,
    ) {
        let key_value = KeyValue::Heads { num_key_value_heads: heads, head_dim, v_head_dim: head_dim };
        let model = model(vec![LayerGroup { layers: vec![0], cache: LayerCache::FullAttention { key_value } }]);
        let layout = Layout { tp, ..Layout::default() };
        let _ = estimate(&model, &workload(seq_len, batch, ElementFormat::bitwidth(bits), layout));
    }
}
