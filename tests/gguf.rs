//! The header of a GGUF file: what is read of it, what is not, and what is refused.

use std::cell::Cell;
use std::fs;
use std::io::{Cursor, Read, Result as IoResult, Seek, SeekFrom};

use kvsize::engine::Engine;
use kvsize::estimate::{Workload, estimate};
use kvsize::source::gguf::{self, Header};
use kvsize::units::{Bytes, Error, Tokens};
use proptest::prelude::*;
use serde_json::json;

use crate::gguf_file::Writer;
use crate::harness::{golden, kvsize};

fn read(bytes: &[u8]) -> Result<Header, Error> {
    gguf::read(Cursor::new(bytes), bytes.len() as u64)
}

/// A plain model of two layers.
fn small() -> Writer {
    Writer::with(
        "llama",
        &json!({
            "llama.block_count": 2, "llama.embedding_length": 256, "llama.context_length": 4096,
            "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        }),
    )
}

/// What reading `bytes` as a model says is wrong.
fn refusal(bytes: &[u8]) -> String {
    let header = read(bytes);
    header.and_then(|header| gguf::model(&header, "m", "m.gguf")).unwrap_err().to_string()
}

#[test]
fn keys_and_tensors_are_read_and_the_tokenizer_is_stepped_over() {
    let mut writer = small();
    writer
        .key("general.name", &json!("A small model"))
        .key("tokenizer.ggml.tokens", &json!(["a", "b", "<end>"]))
        .key("tokenizer.ggml.scores", &json!([0.5, 1.5]))
        .key("llama.rope.freq_base", &json!(10000.5))
        .tensor("token_embd.weight", &[256, 1000], 12)
        .tensor("output_norm.weight", &[256], 0)
        .tensor("blk.0.attn_q.weight", &[256, 256], 12)
        .tensor("blk.0.new.weight", &[256, 2], 99);
    let bytes = writer.bytes();
    let header = read(&bytes).unwrap();
    assert_eq!((header.version, header.len), (3, bytes.len() as u64));
    assert!(!header.metadata.keys().any(|key| key.starts_with("tokenizer.")));
    let tensors = &header.tensors;
    assert_eq!((tensors.count, tensors.parameters), (4, 256_000 + 256 + 65_536 + 512));
    let types: Vec<_> = tensors.types.iter().map(|share| (share.dtype.as_str(), share.tensors, share.bytes)).collect();
    // 144 bytes for 256 elements of q4_K; nothing is known of type 99.
    let q4_k = 144 * (256_000 + 65_536) / 256;
    assert_eq!(
        types,
        [("q4_K", Some(2), Some(Bytes(q4_k))), ("f32", Some(1), Some(Bytes(1024))), ("type 99", Some(1), None)]
    );
    assert_eq!(tensors.bytes(), None);
    let model = gguf::model(&header, "m", "m.gguf").unwrap();
    assert_eq!(model.name, "A small model");
    assert_eq!(estimate(&model, &Workload::of(Tokens(10), 1)).unwrap().bytes.0, 2 * 2 * (64 + 64) * 2 * 10);
    assert_eq!(model.facts[0].key, "llama.block_count");
    assert_eq!((model.facts[0].value.as_str(), model.facts[0].from.as_str()), ("2", "m.gguf"));

    // Version 2 is laid out alike.
    let mut older = bytes.clone();
    older[4] = 2;
    assert_eq!(read(&older).unwrap().metadata, header.metadata);
}

#[test]
fn the_samples_hold_what_their_tensors_say() {
    // Tensors and parameters as the models are published; of Llama, 64 rope factors beside them.
    for (name, count, parameters) in [
        ("llama-3.1-8b", 292, 8_030_261_248 + 64),
        ("qwen2.5-7b", 339, 7_615_616_512),
        ("gpt-oss-20b", 459, 20_914_757_184),
        ("qwen3-30b-a3b", 579, 30_532_122_624u64),
    ] {
        let bytes = fs::read(golden(&format!("gguf/{name}.hdr.gguf"))).unwrap();
        let header = read(&bytes).unwrap();
        assert_eq!((header.tensors.count, header.tensors.parameters), (count, parameters), "{name}");
        let shares = header.tensors.types.iter().map(|share| match share.dtype.as_str() {
            "f32" => 4 * share.parameters,
            "q4_K" => 144 * share.parameters / 256,
            "q8_0" => 34 * share.parameters / 32,
            other => panic!("{name} {other:?}"),
        });
        assert_eq!(header.tensors.bytes(), Some(shares.sum()), "{name}");
        // What follows is padding up to the alignment.
        assert!(header.len <= bytes.len() as u64 && header.len + 32 > bytes.len() as u64, "{name}");
    }
}

/// A file that counts what is read of it.
struct Counted<'a> {
    inner: Cursor<Vec<u8>>,
    read: &'a Cell<usize>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get() + read);
        Ok(read)
    }
}

impl Seek for Counted<'_> {
    fn seek(&mut self, position: SeekFrom) -> IoResult<u64> {
        self.inner.seek(position)
    }
}

#[test]
fn at_most_one_buffer_past_the_header_is_read_and_long_lists_are_not() {
    const BUFFER: usize = 64 << 10;
    let read_of = |mut bytes: Vec<u8>| {
        let header = bytes.len();
        bytes.resize(header + (8 << 20), 0);
        let count = Cell::new(0);
        let len = bytes.len() as u64;
        gguf::read(Counted { inner: Cursor::new(bytes), read: &count }, len).unwrap();
        (header, count.get())
    };
    let texts: Vec<_> = (0..50_000).map(|index| json!(format!("token {index}"))).collect();
    let mut writer = small();
    let (header, read) = read_of(writer.key("tokenizer.ggml.tokens", &texts.into()).bytes());
    assert!(header > 10 * BUFFER && read <= header + BUFFER, "{read} of {header}");

    let numbers: Vec<_> = (0..1_000_000).map(|index| json!(index)).collect();
    let mut writer = small();
    let (header, read) = read_of(writer.key("tokenizer.ggml.token_type", &numbers.into()).bytes());
    assert!(header > 60 * BUFFER && read <= 3 * BUFFER, "{read} of {header}");
}

#[test]
fn what_is_no_gguf_is_refused_with_what_to_do() {
    let bytes = small().bytes();
    let changed = |at: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        refusal(&bytes)
    };
    assert_eq!(refusal(b""), "the file does not begin with GGUF; give a GGUF file");
    assert_eq!(changed(0, b"GGML"), "the file does not begin with GGUF; give a GGUF file");
    for version in [0u32, 1, 4, u32::MAX] {
        assert_eq!(
            changed(4, &version.to_le_bytes()),
            format!(
                "version: {version} is not a version of GGUF that is read here; read are 2 and 3; convert the model again"
            )
        );
    }
    assert_eq!(
        changed(4, &3u32.to_be_bytes()),
        "version: the file is big-endian; give a little-endian one, as llama.cpp's converter writes without --bigendian"
    );
    let len = bytes.len();
    for count in [1 << 63, u64::MAX, 1 << 20] {
        for (at, what) in [(8, "tensors"), (16, "keys")] {
            let message = changed(at, &count.to_le_bytes());
            assert!(message.contains(&format!(" {what} is more than the rest of the file holds")), "{message}");
            assert!(message.ends_with(&format!("of {len}); the file is damaged: download it again")), "{message}");
        }
    }
    for end in 0..len {
        refusal(&bytes[..end]);
    }
    // One key more than there is.
    let keys = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) + 1;
    let mut longer = bytes.clone();
    longer[16..24].copy_from_slice(&keys.to_le_bytes());
    assert_eq!(
        refusal(&longer),
        format!("the file ends within bytes of a key (at byte {len} of {len}); the file is damaged: download it again")
    );
}

#[test]
fn values_that_can_t_be_are_refused() {
    let with = |key: &str, kind: u32, value: &[u8]| refusal(&small().raw(key, kind, value).bytes());
    let damaged = "the file is damaged: download it again";
    assert_eq!(with("x.y", 13, &[0; 8]), format!("x.y: type 13 is not a type of GGUF values; {damaged}"));
    assert_eq!(with("x.y", u32::MAX, &[0; 8]), format!("x.y: type 4294967295 is not a type of GGUF values; {damaged}"));
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()[..], &[0; 64]].concat();
    assert_eq!(with("x.y", 9, &list(9, 1)), format!("x.y: a list is a list of lists; {damaged}"));
    assert_eq!(with("x.y", 9, &list(77, 1)), format!("x.y: type 77 is not a type of GGUF values; {damaged}"));
    // A text of 4 GB, a list of 2^63 texts and one of as many numbers, in a file of some hundred bytes.
    for (kind, value) in [(8, (4u64 << 30).to_le_bytes().to_vec()), (9, list(8, 1 << 63)), (9, list(12, 1 << 61))] {
        for key in ["x.y", "tokenizer.ggml.tokens"] {
            let message = with(key, kind, &value);
            assert!(message.contains("is more than the rest of the file holds"), "{message}");
        }
    }
    assert_eq!(
        refusal(&small().key("llama.block_count", &json!(3)).bytes()),
        format!("llama.block_count: the key is there twice; {damaged}")
    );
    let mut much = small();
    (0..2000).for_each(|index| {
        much.key(&format!("llama.key{index}"), &json!("x".repeat(1000)));
    });
    assert_eq!(refusal(&much.bytes()), format!("the metadata is more than any model has; {damaged}"));

    // Offsets past the data that all tensors come to, and past any number.
    let offset = |offset: u64| {
        let mut bytes = small().tensor("t", &[32], 0).bytes();
        let at = bytes.len() - 8;
        bytes[at..].copy_from_slice(&offset.to_le_bytes());
        bytes
    };
    for far in [1, 32, 1 << 40] {
        assert_eq!(
            refusal(&offset(far)),
            format!("t: the tensor lies past the end of the data of all tensors; {damaged}")
        );
    }
    assert_eq!(refusal(&offset(u64::MAX)), format!("t: the tensor lies past 2^64 - 1 bytes; {damaged}"));
    // One that is there but for its data: the header tells all the same.
    let mut bytes = offset(0);
    let header = bytes.len().next_multiple_of(32);
    assert_eq!(read(&bytes).unwrap().missing, (header + 128 - bytes.len()) as u64);
    bytes.resize(header + 128, 0);
    assert_eq!(read(&bytes).unwrap().missing, 0);

    let tensor = |dimensions: &[u64], kind| refusal(&small().tensor("t", dimensions, kind).bytes());
    assert_eq!(tensor(&[1; 5], 0), format!("t: the tensor has 5 dimensions, and ggml no more than 4; {damaged}"));
    let large = format!("t: the tensor has more than 2^64 - 1 elements or bytes; {damaged}");
    assert_eq!(tensor(&[1 << 62, 4], 0), large);
    assert_eq!(tensor(&[1 << 63], 0), large);
    assert_eq!(
        tensor(&[33], 8),
        format!("t: the tensor has rows of 33 elements, which blocks of q8_0 do not divide; {damaged}")
    );
}

#[test]
fn models_that_can_t_be_are_refused_with_the_key() {
    let model =
        |architecture: &str, metadata: serde_json::Value| refusal(&Writer::with(architecture, &metadata).bytes());
    let again = "convert the model again";
    assert!(refusal(&Writer::new().bytes()).starts_with("general.architecture: missing; "));
    assert_eq!(
        refusal(&Writer::new().key("split.no", &json!(1)).key("split.count", &json!(3)).bytes()),
        "split.no: part 2 of 3 has no keys; give the first part, whose name ends in -00001-of-…"
    );
    assert!(model("llama", json!({})).starts_with("llama.block_count: missing; "));
    let headless = json!({"llama.block_count": 2, "llama.embedding_length": 64});
    assert!(model("llama", headless).starts_with("llama.attention.head_count: missing; "));
    let base = |more: serde_json::Value| {
        let mut all = json!({"llama.block_count": 4, "llama.embedding_length": 64, "llama.attention.head_count": 2});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        model("llama", all)
    };
    for (key, value, problem) in [
        ("block_count", json!(0), "0 is not a positive count"),
        ("block_count", json!("four"), "four is not a whole number"),
        ("nextn_predict_layers", json!(5), "5 is not a part of the layers"),
        ("attention.head_count_kv", json!([1, 1]), "2 entries is not one entry for each of the 4 layers"),
        ("attention.head_count_kv", json!(1.5), "1.5 is not a list of whole numbers"),
        ("attention.key_length", json!([8]), "1 entries is not a whole number"),
    ] {
        assert_eq!(base(json!({format!("llama.{key}"): value})), format!("llama.{key}: {problem}; {again}"));
    }
    assert_eq!(
        base(json!({"llama.block_count": 70_000})),
        "llama.block_count: 70000 is more layers than any model has; give at most 65536"
    );
    assert_eq!(
        model("bert", json!({})),
        "general.architecture: bert has no KV cache: it is an encoder, which reads its whole input at once; give the GGUF of \
         a model that generates text"
    );
    assert!(
        model(
            "gemma2",
            json!({"gemma2.block_count": 2, "gemma2.embedding_length": 4, "gemma2.attention.head_count": 1,
        "gemma2.attention.sliding_window": 0})
        )
        .starts_with("gemma2.attention.sliding_window: 0 is not a positive count")
    );
    assert_eq!(
        model("newer", json!({"newer.block_count": 2, "newer.embedding_length": 4, "newer.ssm.inner_size": 4})),
        "general.architecture: newer is not an architecture known here, and newer.ssm.inner_size says that it is not plain \
         attention; give the config.json of the model it was made from"
    );
    // One with plain attention is read, and said to be unknown.
    let plain = json!({"newer.block_count": 2, "newer.embedding_length": 4, "newer.attention.head_count": 1});
    let header = read(&Writer::with("newer", &plain).bytes()).unwrap();
    assert_eq!(gguf::model(&header, "m", "m.gguf").unwrap().warnings.len(), 1);
}

/// Reads whatever `bytes` are, and goes on as far as it can.
fn try_all(bytes: &[u8]) {
    let Ok(header) = read(bytes) else { return };
    let Ok(model) = gguf::model(&header, "m", "m.gguf") else { return };
    let _ = estimate(&model, &Workload::of(Tokens(100_000), 3));
    for engine in ["llama.cpp", "ollama"] {
        let _ = engine.parse::<Engine>().unwrap().answer(&model, &Workload::of(Tokens(100_000), 3));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_header_makes_it_panic(
        sample in prop::sample::select(vec!["lfm2-1.2b", "command-r7b", "nemotron-h-8b", "gpt-oss-20b"]),
        changes in prop::collection::vec((0usize..4000, any::<u8>()), 1..8),
        large in prop::option::of((0usize..2000, prop::sample::select(vec![0u64, 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX]))),
        end in prop::option::of(0usize..20_000),
    ) {
        let mut bytes = fs::read(golden(&format!("gguf/{sample}.hdr.gguf"))).unwrap();
        for (at, with) in changes {
            bytes[at] = with;
        }
        if let Some((at, with)) = large {
            bytes[at..at + 8].copy_from_slice(&with.to_le_bytes());
        }
        bytes.truncate(end.unwrap_or(usize::MAX));
        try_all(&bytes);
    }

    #[test]
    fn no_numbers_make_it_panic(
        architecture in prop::sample::select(vec![
            "llama", "llama4", "gemma3", "gemma3n", "gemma4", "deepseek2", "deepseek4", "glm-dsa", "minimax-m3", "jamba",
            "nemotron_h", "qwen35", "qwen4exp", "kimi-linear", "minimax-01", "rwkv7", "lfm2", "nanbeige", "graniteswitch",
        ]),
        numbers in prop::collection::vec(prop::sample::select(vec![0u32, 1, 2, 3, 4, 8, 64, 4096, 65_536, u32::MAX]), 24),
    ) {
        let mut writer = Writer::with(architecture, &json!({}));
        let keys = [
            "block_count", "embedding_length", "context_length", "attention.head_count", "attention.head_count_kv",
            "attention.key_length", "attention.value_length", "attention.kv_lora_rank", "attention.key_length_mla",
            "attention.value_length_mla", "attention.sliding_window", "attention.indexer.key_length", "nextn_predict_layers",
            "ssm.conv_kernel", "ssm.inner_size", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank", "kda.head_dim",
            "wkv.head_size", "shortconv.l_cache", "feed_forward_length", "full_attention_interval", "num_loops",
        ];
        for (key, number) in keys.into_iter().zip(&numbers) {
            // Few layers, or reading them all takes its time.
            let number = if key == "block_count" { number % 70 } else { *number };
            writer.key(&format!("{architecture}.{key}"), &json!(number));
        }
        let ratios: Vec<_> = numbers.iter().cycle().take(70).map(|number| json!(number % 130)).collect();
        writer.key(&format!("{architecture}.attention.compress_ratios"), &ratios.clone().into());
        writer.key(&format!("{architecture}.attention.sliding_window_pattern"), &ratios.into());
        try_all(&writer.bytes());
    }
}

/// A directory of its own for a test, and the files in it.
fn directory(name: &str, files: &[(&str, &[u8])]) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("kvsize-gguf-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    for (name, bytes) in files {
        fs::write(directory.join(name), bytes).unwrap();
    }
    directory
}

#[test]
fn a_file_a_directory_and_a_part_of_a_split_file_are_a_model() {
    let first = small().bytes();
    let later = Writer::new().key("split.no", &json!(1)).key("split.count", &json!(2)).bytes();
    let directory = directory(
        "split",
        &[
            ("m-00001-of-00002.gguf", &first),
            ("m-00002-of-00002.gguf", &later),
            ("mmproj-m.gguf", &first),
            ("notes.txt", b"no model"),
        ],
    );
    let path = directory.display();
    for argument in [
        format!("{path}"),
        format!("{path}/m-00001-of-00002.gguf"),
        format!("{path}/m-00002-of-00002.gguf"),
        golden("gguf/llama-3.1-8b.hdr.gguf").display().to_string(),
    ] {
        let output = kvsize(&format!("{argument} -s 1k -d f16 -f plain -q")).output();
        assert!(output.starts_with("KV-Cache Memory Estimates for "), "{output}");
    }
    // Without a name that says so; and what is told of a part whose first one is not there.
    fs::write(directory.join("blob"), &first).unwrap();
    let output = kvsize(&format!("{path}/blob -s 1k -d f16 --json -q")).output();
    assert!(output.contains("\"source\": \"gguf\"") && output.contains("\"name\": \"blob\""), "{output}");
    fs::remove_file(directory.join("m-00001-of-00002.gguf")).unwrap();
    kvsize(&format!("{path}/m-00002-of-00002.gguf"))
        .stderr(&format!(
            "error: {path}/m-00002-of-00002.gguf: split.no: part 2 of 2 has no keys; give the first part, whose name ends \
             in -00001-of-…\n"
        ))
        .status(2);
    fs::write(directory.join("a.gguf"), &first).unwrap();
    fs::write(directory.join("b.gguf"), &first).unwrap();
    kvsize(&format!("{path}"))
        .stderr(&format!(
            "error: {path}: 3 GGUF files are there; name one of them: a.gguf, b.gguf, m-00002-of-00002.gguf\n"
        ))
        .status(2);
    kvsize("-")
        .stdin(first)
        .stderr("error: standard input: a GGUF file, whose header is read from a file only; give its path\n")
        .status(2);
    fs::remove_dir_all(&directory).unwrap();
}
