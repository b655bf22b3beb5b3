//! What reading headers costs: a GGUF header of 7 MB against a bare walk of it, and a hundred safetensors files.
//!
//! `cargo bench --bench headers`. Nothing here passes or fails: the figures are for people, and for the budgets in the README.
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::arithmetic_side_effects,
    reason = "a benchmark prints ratios of times, and stops when it can't measure"
)]

mod measure;

use std::io::Write;
use std::path::Path;

use measure::{Query, build, peak_kib, statistics, time};

/// Runs of each program, taken in turn so that the machine's moods fall on all alike.
const RUNS: usize = 100;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = build(root, "walk");
    let inputs = target.join("bench-headers");
    let header = gguf(&inputs);
    let shards = safetensors(&inputs);
    let query = |name, program: &str, arguments: &[&str]| Query {
        name,
        program: target.join(program),
        arguments: arguments.iter().map(ToString::to_string).collect(),
        times: Vec::with_capacity(RUNS),
    };
    let mut queries = [
        query("a bare walk", "examples/walk", &[&header]),
        query("kvsize FILE.gguf", "kvsize", &[&header, "-s", "8k"]),
        query("kvsize weights FILE.gguf", "kvsize", &["weights", &header]),
        query("kvsize weights, 100 files", "kvsize", &["weights", &shards]),
    ];
    for _ in 0..RUNS {
        for query in &mut queries {
            query.times.push(time(query));
        }
    }
    let size = std::fs::metadata(&header).expect("the header is there").len();
    println!("a header of {size} bytes; {RUNS} runs each, in turn; wall time of the whole process\n");
    println!("{:<26} {:>9} {:>7} {:>9} {:>7} {:>9}", "query", "min ms", "ratio", "median ms", "ratio", "peak KiB");
    let floor = statistics(&mut queries[0].times);
    for query in &mut queries {
        let (min, median) = statistics(&mut query.times);
        println!(
            "{:<26} {:>9.3} {:>7.3} {:>9.3} {:>7.3} {:>9}",
            query.name,
            min * 1e3,
            min / floor.0,
            median * 1e3,
            median / floor.1,
            peak_kib(query).unwrap_or_else(|| "skipped".into()),
        );
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

/// A header like that of Llama 3: 128,256 tokens, their types, and 280,147 merges.
fn gguf(directory: &Path) -> String {
    const TOKENS: u32 = 128_256;
    const MERGES: u32 = 280_147;
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3u32.to_le_bytes());
    let number = |bytes: &mut Vec<u8>, key: &str, value: u32| {
        text(bytes, key);
        bytes.extend(4u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    };
    let list = |bytes: &mut Vec<u8>, key: &str, kind: u32, count: u32| {
        text(bytes, key);
        bytes.extend(9u32.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(u64::from(count).to_le_bytes());
    };
    let names =
        ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"];
    bytes.extend((32 * names.len() as u64).to_le_bytes());
    bytes.extend(9u64.to_le_bytes());
    text(&mut bytes, "general.architecture");
    bytes.extend(8u32.to_le_bytes());
    text(&mut bytes, "llama");
    for (key, value) in [
        ("block_count", 32),
        ("embedding_length", 4096),
        ("context_length", 131_072),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 8),
    ] {
        number(&mut bytes, &format!("llama.{key}"), value);
    }
    list(&mut bytes, "tokenizer.ggml.tokens", 8, TOKENS);
    (0..TOKENS).for_each(|index| text(&mut bytes, &"token 0123456789"[..=(index as usize % 13)]));
    list(&mut bytes, "tokenizer.ggml.token_type", 5, TOKENS);
    (0..TOKENS).for_each(|_| bytes.extend(1i32.to_le_bytes()));
    list(&mut bytes, "tokenizer.ggml.merges", 8, MERGES);
    (0..MERGES).for_each(|index| text(&mut bytes, &"ab cdefghijklmnop"[..3 + index as usize % 11]));
    for layer in 0..32 {
        for name in names {
            text(&mut bytes, &format!("blk.{layer}.{name}.weight"));
            bytes.extend(2u32.to_le_bytes());
            bytes.extend(4096u64.to_le_bytes());
            bytes.extend(4096u64.to_le_bytes());
            bytes.extend(12u32.to_le_bytes());
            bytes.extend(0u64.to_le_bytes());
        }
    }
    std::fs::create_dir_all(directory).expect("a place for the inputs");
    let path = directory.join("header.gguf");
    std::fs::write(&path, bytes).expect("the header is written");
    path.to_str().expect("the path is text").to_owned()
}

/// A hundred files of a mixture of experts, 900 tensors each, their data a hole.
fn safetensors(directory: &Path) -> String {
    const FILES: u32 = 100;
    const TENSORS: u64 = 900;
    let directory = directory.join("files");
    std::fs::create_dir_all(&directory).expect("a place for the files");
    for file in 1..=FILES {
        let tensors = (0..TENSORS).map(|index| {
            let (begin, end) = (index * 2048 * 2, (index + 1) * 2048 * 2);
            format!(
                "\"model.layers.{file}.mlp.experts.{index}.down_proj.weight\":{{\"dtype\":\"BF16\",\"shape\":[64,32],\
                 \"data_offsets\":[{begin},{end}]}}"
            )
        });
        let header = format!("{{{}}}", tensors.collect::<Vec<_>>().join(","));
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        let path = directory.join(format!("model-{file:05}-of-{FILES:05}.safetensors"));
        let mut out = std::fs::File::create(&path).expect("the file is made");
        out.write_all(&bytes).expect("the header is written");
        out.set_len(bytes.len() as u64 + TENSORS * 2048 * 2).expect("a hole");
    }
    directory.to_str().expect("the path is text").to_owned()
}
