use proptest::prelude::*;

use super::*;
use crate::model::{KeyValue, ModelSpec};
use crate::units::Code;

fn model(layers: u64, kv_heads: u64, sliding_window: Option<u64>) -> Model {
    let spec = ModelSpec {
        layers: Some(layers),
        kv_heads: Some(kv_heads),
        head_dim: Some(64),
        sliding_window,
        ..ModelSpec::default()
    };
    spec.model().unwrap()
}

fn question(
    model: &Model,
    seq_len: u64,
    batch: u64,
    (memory, per_node): (Bytes, u64),
    weights: Option<Bytes>,
) -> Question<'_> {
    Question {
        model,
        workload: Workload { kv_dtype: model.dtype.into(), ..Workload::of(Tokens(seq_len), batch) },
        streaming: Streaming { sinks: 4, window: Tokens(4096) },
        retrieval: Passages { count: 20, length: Tokens(512) },
        shared_prefix: None,
        usable: usable(memory),
        per_node,
        weights,
    }
}

#[test]
fn streaming_bounds_what_is_longer_and_leaves_the_rest() {
    let levers = Levers { streaming: Some(Streaming { sinks: 4, window: Tokens(100) }), ..Levers::default() };
    let key_value = KeyValue::Heads { num_key_value_heads: 2, head_dim: 64, v_head_dim: 64 };
    let windowed = |window: u64| LayerCache::SlidingWindow {
        key_value,
        window: Tokens(window),
        transformers_window: Some(Tokens(window)),
    };
    let streamed = |model: &Model| levers.applied(model, Tokens(1000)).map(|model| model.layer_groups[0].cache);
    assert_eq!(streamed(&model(2, 2, None)), Ok(windowed(104)));
    assert_eq!(streamed(&model(2, 2, Some(500))), Ok(windowed(104)));
    assert_eq!(streamed(&model(2, 2, Some(104))).unwrap_err().code, Code::Streaming);
    assert_eq!(levers.applied(&model(2, 2, None), Tokens(3)).unwrap_err().code, Code::Sinks);
}

#[test]
fn an_uneven_pipeline_says_so() {
    let model = model(61, 8, None);
    let rows = strategies(&question(&model, 100_000, 1, (Bytes(81_559 << 20), 4), None)).unwrap();
    let pipeline = rows.iter().find(|row| row.kind == "pipeline_parallel").unwrap().outcome.clone().unwrap();
    assert_eq!(pipeline.note.as_deref(), Some("uneven stages: 1 of 16 layers, 3 of 15"));
    assert!(rows.iter().all(|row| !row.cost.is_empty()), "each kind has its line of costs");
    assert_eq!(u128::from(pipeline.bytes_per_gpu.0) * 61, u128::from(pipeline.bytes.0) * 16);
}

proptest! {
    /// Nothing panics; a usable row that is laid out to fit does; no format takes more than the baseline.
    #[test]
    fn rows_hold_together(
        layers in 1u64..70,
        kv_heads in 1u64..40,
        window in prop::option::of(1u64..10_000),
        seq_len in prop::sample::select(vec![1u64, 3, 4_100, 100_000, 10_000_000, u64::MAX]),
        batch in 1u64..4,
        memory_mib in prop::sample::select(vec![0u64, 1, 24_564, 81_559, u64::MAX]),
        per_node in prop::sample::select(vec![1u64, 3, 8, u64::MAX]),
        weights in prop::sample::select(vec![None, Some(34_000_000_000u64), Some(u64::MAX)]),
    ) {
        let model = model(layers, kv_heads, window);
        let question = question(&model, seq_len, batch, (Bytes(memory_mib << 20), per_node), weights.map(Bytes));
        let Ok(rows) = strategies(&question) else { return Ok(()) };
        let Ok(baseline) = &rows[0].outcome else { return Ok(()) };
        for row in &rows {
            let speed = Speed { bandwidth_gb_s: Some(3350), bf16_gflops: Some(989_000), ..Speed::default() };
            let floors = floors(&question, row, &speed);
            let Ok(outcome) = &row.outcome else {
                prop_assert_eq!(floors, None);
                continue;
            };
            prop_assert_eq!(floors.is_none(), outcome.fits == Some(false));
            prop_assert!(outcome.gpus >= 1);
            prop_assert!(!row.kind.ends_with("laid_out") || outcome.fits != Some(false), "{}", row.name);
            if ["fp8", "4_bit", "2_bit", "streaming", "retrieval", "shared_prefix", "offload"].contains(&row.kind) {
                prop_assert!(outcome.bytes <= baseline.bytes && outcome.gpus <= baseline.gpus, "{}", row.name);
            }
            if ["windows_kept", "tensor_parallel_copies"].contains(&row.kind) {
                prop_assert!(outcome.bytes >= baseline.bytes, "{}", row.name);
            }
        }
    }
}
