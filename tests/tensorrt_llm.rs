//! TensorRT-LLM's rules were read and not run: the figures are those of the reference that was read, and what it does not
//! tell is refused.

use serde_json::{Value, json};

use crate::harness::kvsize;

fn row(arguments: &str) -> Value {
    let text = kvsize(&format!("{arguments} -e tensorrt-llm --json --quiet")).output();
    let document: Value = serde_json::from_str(&text).unwrap();
    document["estimates"][0].clone()
}

#[test]
fn without_layer_types_every_token_is_kept() {
    // 312,500 blocks of 32 tokens, 196,608 bytes a token: 12 full layers and 36 chunked ones.
    let scout = row("llama-4-scout -s 10m -d bf16");
    assert_eq!(scout["bytes"], 1_966_080_000_000_u64);
    assert_eq!(scout["engine"], "tensorrt-llm@00043967");
    assert_eq!(
        scout["tensorrt_llm"],
        json!({
            "version": "00043967", "replayed": false, "tokens_per_block": 32, "attention_dp": false,
            "pools": [{"layers": 48, "blocks_per_request": 312_500, "bytes_per_block": 32 * 196_608}]
        })
    );
    assert_eq!(scout["gaps"].as_array().unwrap().len(), 1);
    assert_eq!(scout["gaps"][0]["bytes"], 36 * 4096 * (10_000_000_u64 - 8192));
}

#[test]
fn windows_named_by_layer_types_have_pools_of_their_own() {
    let row = row("gpt-oss-20b -s 131072 -d fp8 --tokens-per-block 64");
    let block = 12 * 8 * 64 * 2 * 64;
    assert_eq!(
        row["tensorrt_llm"]["pools"],
        json!([
            {"layers": 12, "blocks_per_request": 2048, "bytes_per_block": block},
            {"window": 128, "layers": 12, "blocks_per_request": 2, "bytes_per_block": block}
        ])
    );
    assert_eq!(row["bytes"], 2050 * block);
}

#[test]
fn latents_are_whole_on_every_rank_unless_each_has_requests_of_its_own() {
    let replicated = row("deepseek-v3 -s 32 -b 8 -d bf16 --tp 8");
    assert_eq!(
        (&replicated["bytes"], &replicated["bytes_per_gpu"]),
        (&json!(64 * 32 * 70_272), &json!(8 * 32 * 70_272))
    );
    let own = row("deepseek-v3 -s 32 -b 8 -d bf16 --tp 8 --enable-attention-dp");
    assert_eq!((&own["bytes"], &own["bytes_per_gpu"]), (&json!(8 * 32 * 70_272), &json!(32 * 70_272)));
    assert_eq!(own["gaps"][0]["kind"], "attention_dp");
}

#[test]
fn memory_of_several_pools_has_no_capacity() {
    let text = kvsize("gpt-oss-20b -s 1k -d bf16 --memory 8GiB -e tensorrt-llm --json").text();
    assert!(
        text.contains("warning: tensorrt-llm: no capacity: how the memory is divided over 2 window pools was not read")
    );
    assert!(!text.contains("\"capacity\""));
    let one = row("llama-3.1-8b -s 1k -d nvfp4 --memory 8GiB");
    assert_eq!(
        one["capacity"],
        json!({
            "memory": 8_u64 << 30, "fits": true, "blocks": 7281, "tokens": 7281 * 32, "max_concurrency": 227.0,
            "max_seq_len": 1000
        })
    );
}

#[test]
fn what_was_not_read_is_refused() {
    let refused = |arguments: &str, message: &str| {
        kvsize(&format!("{arguments} -e tensorrt-llm")).stderr(&format!("error: {message}\n")).status(2);
    };
    for (arguments, message) in [
        ("llama-3.1-8b --dcp 2", "--dcp: 2 is a split of tokens whose rule was not read (tensorrt-llm); leave it out"),
        (
            "deepseek-v3 --pp 2",
            "--pp: 2 does not divide the 61 layers, and how it splits them was not read (tensorrt-llm); use one that \
             divides them",
        ),
        (
            "llama-3.1-8b --shared-prefix 100",
            "--shared-prefix: 100 is a sharing of blocks whose rule was not read (tensorrt-llm); leave it out",
        ),
        (
            "deepseek-v3 --speculative-method mtp",
            "--speculative-method: mtp has a cache manager of its own whose rules were not read (tensorrt-llm); leave it \
             out, or name another engine",
        ),
        (
            "llama-3.1-8b -d q8_0",
            "--kv-dtype: q8_0 is not a format of its cache (tensorrt-llm); use bf16, fp16, fp8, int8 or nvfp4",
        ),
        (
            "nvidia--Kimi-K2.6-NVFP4.json -d auto",
            "--kv-dtype: auto on a checkpoint with a KV scheme of its own is a choice whose rule was not read \
             (tensorrt-llm); name the format: fp8, nvfp4 or bf16",
        ),
        (
            "qwen3-next-80b-a3b-thinking",
            "MODEL: Qwen/Qwen3-Next-80B-A3B-Thinking has recurrent states, whose pool's rules were not read (tensorrt-llm); name another engine",
        ),
        (
            "deepseek-v3.2",
            "MODEL: deepseek-ai/DeepSeek-V3.2 has index keys, whose layout was not read (tensorrt-llm); name another engine",
        ),
        (
            "deepseek-v4-flash",
            "MODEL: deepseek-ai/DeepSeek-V4-Flash has compressed entries, whose layout was not read (tensorrt-llm); name another engine",
        ),
        (
            "whisper-large-v3",
            "MODEL: openai/whisper-large-v3 has cross-attention, whose share of the pool was not read (tensorrt-llm); name another engine",
        ),
        (
            "mimo-v2-flash",
            "MODEL: XiaomiMiMo/MiMo-V2-Flash has head dimensions that differ, between K and V or between layers; the rules that were read have one \
             (tensorrt-llm); name another engine",
        ),
        (
            "llama-3.1-8b --tokens-per-block 48",
            "--tokens-per-block: 48 is not a power of two (tensorrt-llm); use 16, 32, 64 or 128",
        ),
        (
            "llama-3.1-8b --sink-token-length 4",
            "--sink-token-length: 4 keeps tokens in addition to a window that is not given (tensorrt-llm); add \
             --max-attention-window",
        ),
    ] {
        refused(arguments, message);
    }
}
