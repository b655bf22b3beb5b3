//! What models weigh: from headers, from an index, from the catalogue, from the configuration; and what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use kvsize::source::safetensors::{self, Tensors};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::gguf_file::Writer;
use crate::harness::{golden, kvsize};

/// A directory of its own for a test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kvsize-weights-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Self {
        fs::write(self.0.join(name), bytes).unwrap();
        self
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A safetensors file of these tensors, its data a hole in the file.
fn safetensors(path: &Path, tensors: &[(&str, &str, &[u64], u64)]) {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut position = 0;
    for (name, dtype, shape, size) in tensors {
        let end = position + shape.iter().product::<u64>() * size;
        header.insert((*name).into(), json!({"dtype": dtype, "shape": shape, "data_offsets": [position, end]}));
        position = end;
    }
    let header = Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    fs::write(path, &bytes).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes.len() as u64 + position).unwrap();
}

const CONFIG: &str = r#"{"model_type": "mixtral", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 8,
    "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 1, "torch_dtype": "bfloat16"}"#;

/// A model in three files.
fn model(name: &str) -> Directory {
    let directory = Directory::new(name);
    directory.write("config.json", CONFIG);
    let file = |part: u32| directory.0.join(format!("model-0000{part}-of-00003.safetensors"));
    safetensors(&file(1), &[("model.embed_tokens.weight", "BF16", &[1000, 64], 2)]);
    let experts: Vec<_> = (0..4).map(|index| format!("model.layers.0.experts.{index}.w1.weight")).collect();
    let expert = |index: usize| (experts[index].as_str(), "BF16", &[64u64, 10][..], 2);
    safetensors(&file(2), &[expert(0), expert(1), expert(2), expert(3)]);
    safetensors(&file(3), &[("model.layers.0.gate.weight", "F32", &[4, 64], 4), ("norm", "BF16", &[64], 2)]);
    let names = ["embed", "experts", "gate"].into_iter().enumerate();
    let map: serde_json::Map<String, Value> = names
        .map(|(part, name)| (name.into(), json!(format!("model-0000{}-of-00003.safetensors", part + 1))))
        .collect();
    let index = json!({"metadata": {"total_size": 134_272}, "weight_map": map});
    directory.write("model.safetensors.index.json", index.to_string());
    directory
}

/// The one item of the JSON.
fn item(argument: &str) -> Value {
    let listing: Value = serde_json::from_str(&kvsize(&format!("weights {argument} --json")).output()).unwrap();
    assert_eq!(listing["schema"], "kvsize.weights/1");
    listing["items"][0].clone()
}

fn refused(argument: &str, message: &str) {
    kvsize(&format!("weights {argument}")).stderr(&format!("error: {message}\n")).status(2);
}

#[test]
fn headers_tell_every_byte_by_type() {
    let directory = model("headers");
    for argument in ["", "config.json", "model.safetensors.index.json", "model-00002-of-00003.safetensors"] {
        let item = item(&directory.path(argument));
        let (bf16, f32) = (64_000 + 2560 + 64, 256);
        assert_eq!(item["origin"], "headers", "{argument}");
        assert_eq!(item["bytes"], bf16 * 2 + f32 * 4);
        assert_eq!(item["parameters"], bf16 + f32);
        // Of four experts a token passes through one.
        assert_eq!(item["active_parameters"], bf16 + f32 - 2560 * 3 / 4);
        assert_eq!(
            item["by_dtype"],
            json!([{"dtype": "BF16", "tensors": 6, "parameters": bf16, "bytes": bf16 * 2},
                   {"dtype": "F32", "tensors": 1, "parameters": f32, "bytes": f32 * 4}])
        );
    }
    // The same in the estimate's JSON, and the cache of the configuration beside.
    let path = directory.path("model-00002-of-00003.safetensors");
    let document: Value = serde_json::from_str(&kvsize(&format!("{path} -s 10 -d bf16 --json -q")).data()).unwrap();
    assert_eq!(document["models"][0]["weights"]["bytes"], 134_272);
    assert_eq!(document["estimates"][0]["bytes"], 2 * 2 * 8 * 2 * 10);
    kvsize(&format!("weights {} -f plain -q", directory.path("")))
        .stdout(&format!("134272 {}\n", directory.0.file_name().unwrap().to_str().unwrap()))
        .status(0);
}

#[test]
fn where_files_are_missing_the_index_tells_the_total() {
    let directory = model("index");
    fs::remove_file(directory.path("model-00002-of-00003.safetensors")).unwrap();
    directory.write("model-00003-of-00003.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
    for argument in ["", "model.safetensors.index.json", "model-00001-of-00003.safetensors"] {
        let item = item(&directory.path(argument));
        assert_eq!((&item["origin"], &item["bytes"]), (&json!("index"), &json!(134_272)), "{argument}");
        assert_eq!(item.get("parameters"), None);
        assert_eq!(
            item["notes"][0],
            "2 of the 3 files are missing (model-00002-of-00003.safetensors): the bytes are the total that the index states"
        );
    }
    // Some indices write it with a point; without it nothing is known.
    directory.write(
        "model.safetensors.index.json",
        r#"{"metadata": {"total_size": 7.0}, "weight_map": {"a": "b.safetensors"}}"#,
    );
    assert_eq!(item(&directory.path(""))["bytes"], 7);
    directory.write("model.safetensors.index.json", r#"{"weight_map": {"a": "b.safetensors"}}"#);
    let name = directory.0.file_name().unwrap().to_str().unwrap();
    refused(
        &directory.path(""),
        &format!(
            "{name}: unknown weights: 1 of the 1 files are missing (b.safetensors), and no index states the \
             total; give its safetensors or GGUF files"
        ),
    );
}

#[test]
fn one_file_needs_no_index_and_weights_need_no_config() {
    let directory = Directory::new("one");
    safetensors(&directory.0.join("model.safetensors"), &[("a", "F8_E4M3", &[10, 10], 1), ("b", "F16", &[3], 2)]);
    for argument in ["", "model.safetensors"] {
        assert_eq!(item(&directory.path(argument))["bytes"], 106);
    }
    let path = directory.path("model.safetensors");
    kvsize(&path)
        .stderr(&format!(
            "error: {path}: no config.json next to it; weights alone do not determine the cache; put the model's config.json there \
             (`kvsize weights` needs none)\n"
        ))
        .status(2);
    let dotted = Directory::new("Qwen2.5-7B");
    safetensors(&dotted.0.join("model.safetensors"), &[("a", "F16", &[3], 2)]);
    for argument in ["", "model.safetensors"] {
        let name = item(&dotted.path(argument))["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("kvsize-weights-Qwen2.5-7B-"), "{name}");
    }
    // An adapter beside it is no part of it; two files that say nothing of each other are no set.
    let two = Directory::new("two");
    safetensors(&two.0.join("a.safetensors"), &[("a", "F16", &[3], 2)]);
    safetensors(&two.0.join("adapter_model.safetensors"), &[("a", "F16", &[30], 2)]);
    assert_eq!(item(&two.path(""))["bytes"], 6);
    safetensors(&two.0.join("b.safetensors"), &[("a", "F16", &[3], 2)]);
    let message =
        "the directory has no config.json and no GGUF file; give the directory of a model, or the file itself";
    refused(&two.path(""), &format!("{}: {message}", two.path("")));
}

#[test]
fn a_hundred_files_are_a_model() {
    let directory = Directory::new("hundred");
    for part in 1..=100 {
        let path = directory.0.join(format!("model-{part:05}-of-00100.safetensors"));
        safetensors(&path, &[("a", "BF16", &[1 << 30], 2), ("b", "BF16", &[1], 2)]);
    }
    let item = item(&directory.path(""));
    assert_eq!(item["bytes"], 100 * ((2u64 << 30) + 2));
    assert_eq!(item["by_dtype"][0]["tensors"], 200);
}

#[test]
fn a_split_gguf_weighs_all_its_parts() {
    let directory = Directory::new("gguf");
    let mut first = Writer::with(
        "llama",
        &json!({
            "llama.block_count": 1, "llama.embedding_length": 64, "llama.attention.head_count": 4,
            "llama.expert_count": 8, "llama.expert_used_count": 2, "split.count": 2,
        }),
    );
    let first = first.tensor("blk.0.ffn_up_exps.weight", &[64, 10, 8], 1).bytes();
    let mut later = Writer::new();
    later.key("split.no", &json!(1)).key("split.count", &json!(2));
    let later = later.tensor("output.weight", &[64, 100], 8).tensor("token_embd.weight", &[64, 100], 1).bytes();
    directory.write("m-00001-of-00002.gguf", &first).write("m-00002-of-00002.gguf", &later);
    for argument in ["", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
        let item = item(&directory.path(argument));
        assert_eq!(item["bytes"], 5120 * 2 + 6400 * 34 / 32 + 6400 * 2, "{argument}");
        assert_eq!((&item["parameters"], &item["active_parameters"]), (&json!(17_920), &json!(12_800 + 5120 / 4)));
    }
    fs::remove_file(directory.path("m-00002-of-00002.gguf")).unwrap();
    let name = "m-00001-of-00002";
    let files = "give its safetensors or GGUF files";
    refused(
        &directory.path(""),
        &format!("{name}: unknown weights: m-00002-of-00002.gguf, a part of it, is missing; {files}"),
    );
    directory.write("other.gguf", &first);
    refused(
        &directory.path("other.gguf"),
        &format!(
            "other: unknown weights: it is a part of 2, and its name does not show the names of the others; {files}"
        ),
    );
    // The first part may be the one that is missing.
    directory.write("m-00002-of-00002.gguf", &later);
    fs::remove_file(directory.path("m-00001-of-00002.gguf")).unwrap();
    refused(
        &directory.path("m-00002-of-00002.gguf"),
        &format!("m-00002-of-00002: unknown weights: m-00001-of-00002.gguf, a part of it, is missing; {files}"),
    );
    directory.write("m-00001-of-00002.gguf", &first);
    // A part that is damaged is named.
    directory.write("m-00002-of-00002.gguf", &later[..later.len() - 1]);
    let output = kvsize(&format!("weights {}", directory.path("m-00001-of-00002.gguf"))).text();
    assert!(output.contains("m-00002-of-00002.gguf: the file ends within the description of a tensor"), "{output}");
}

#[test]
fn what_a_config_comes_to_is_what_files_of_the_model_hold() {
    // Headers of GGUF files against the configurations of the same models. Beside the tensors of the checkpoint a file may
    // hold rope factors.
    for (file, config, more) in [
        ("llama-3.1-8b", "meta-llama--Meta-Llama-3.1-8B", 64),
        ("qwen2.5-7b", "Qwen--Qwen2.5-7B-Instruct", 0),
        ("qwen3-30b-a3b", "Qwen--Qwen3-30B-A3B", 0),
        ("gpt-oss-20b", "openai--gpt-oss-20b", 0),
        ("deepseek-v3", "deepseek-ai--DeepSeek-V3", 0),
        ("minimax-m2", "MiniMaxAI--MiniMax-M2.5", 0),
    ] {
        let header = item(&golden(&format!("gguf/{file}.hdr.gguf")).display().to_string());
        let config = item(&format!("{config}.json"));
        assert_eq!((&header["origin"], &config["origin"]), (&json!("headers"), &json!("computed")), "{file}");
        let number = |item: &Value, key: &str| item[key].as_u64();
        assert_eq!(number(&header, "parameters"), number(&config, "parameters").map(|all| all + more), "{file}");
        assert_eq!(number(&header, "active_parameters"), number(&config, "active_parameters"), "{file}");
    }
}

#[test]
fn what_is_known_and_how_is_said() {
    insta::assert_snapshot!("weights", kvsize("weights openai--gpt-oss-20b.json deepseek-ai--DeepSeek-V3.json").text());
    insta::assert_snapshot!("weights_csv", kvsize("weights hunyuan-7b Qwen--Qwen3-30B-A3B.json -f csv").text());
    refused(
        "class-default--stablelm.json",
        "class-default/stablelm: unknown weights: the tensors of model_type \"stablelm\" are not known here one \
         by one; give its safetensors or GGUF files",
    );
    refused("", "MODEL: missing; name one (`kvsize models` lists them), or give its files");
}

#[test]
fn files_that_lie_are_refused_with_their_name() {
    let directory = model("lies");
    let path = directory.path("model-00002-of-00003.safetensors");
    let again = "the file is damaged or not a safetensors file: download it again";
    for (bytes, message) in [
        (&b""[..], "0 bytes are too few for the 8 that hold the length of the header"),
        (
            &[255; 2000],
            "a header of 18,446,744,073,709,551,615 bytes is longer than any is (at most 100,000,000 are read)",
        ),
        (&[9, 0, 0, 0, 0, 0, 0, 0, b'{'], "a header of 9 bytes is more than the file of 9 holds"),
        (
            &[2, 0, 0, 0, 0, 0, 0, 0, b'{', b'}', 0],
            "the data is not covered by the tensors one after another (at byte 0 of 1)",
        ),
    ] {
        fs::write(&path, bytes).unwrap();
        refused(&directory.path(""), &format!("{path}: {message}; {again}"));
    }
    // The cache is answered all the same, and the weights are said to be unread.
    let output = kvsize(&format!("{} -s 1k --json", directory.path(""))).text();
    assert!(output.contains("warning: the weights are not told: ") && output.ends_with("status 0\n"), "{output}");
    // A file cut short in its data.
    let file = fs::OpenOptions::new().write(true).open(directory.path("model-00001-of-00003.safetensors")).unwrap();
    file.set_len(1000).unwrap();
    let output = kvsize(&format!("weights {}", directory.path(""))).text();
    assert!(output.contains("00001-of-00003.safetensors: the data is cut short: "), "{output}");

    let index = directory.path("model.safetensors.index.json");
    for (text, message) in [
        (r#"{"weight_map": {"a": "../b.safetensors"}}"#, "\"../b.safetensors\" is not a file next to the index"),
        (r#"{"weight_map": {"a": "/etc/passwd"}}"#, "\"/etc/passwd\" is not a file next to the index"),
        (
            r#"{"weight_map": [1]}"#,
            "the text is not an index of safetensors files: invalid type: sequence, expected an object that names the file of \
             each tensor at line 1 column 15",
        ),
        ("{}", "the text is not an index of safetensors files: missing field `weight_map` at line 1 column 2"),
    ] {
        fs::write(&index, text).unwrap();
        refused(&index, &format!("{index}: {message}; download the index again"));
    }
    fs::write(&index, format!("{{\"weight_map\": {}", "[".repeat(1_000_000))).unwrap();
    let output = kvsize(&format!("weights {index}")).text();
    assert!(output.contains("is not an index of safetensors files: "), "{output}");
    fs::write(&index, format!("{{\"x\": {}", "[".repeat(1_000_000))).unwrap();
    assert!(kvsize(&format!("weights {index}")).text().ends_with("status 2\n"));
}

#[cfg(unix)]
#[test]
fn pipes_and_links_in_a_circle_are_refused_and_not_waited_for() {
    use std::os::unix::fs::symlink;

    let pipe = |path: &str| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    let regular = "not a regular file; give a file, or pipe the text in and use - as MODEL";
    let directory = model("pipes");
    for name in ["x.gguf", "x.safetensors", "x.json", "x.safetensors.index.json"] {
        let path = directory.path(name);
        pipe(&path);
        refused(&path, &format!("{path}: {regular}"));
    }
    let part = directory.path("model-00002-of-00003.safetensors");
    fs::remove_file(&part).unwrap();
    pipe(&part);
    refused(&directory.path(""), &format!("{part}: {regular}"));
    fs::remove_file(&part).unwrap();
    fs::create_dir(&part).unwrap();
    refused(&directory.path(""), &format!("{part}: {regular}"));
    fs::remove_dir(&part).unwrap();

    let circle = |path: &str| symlink(path, path).unwrap();
    circle(&part);
    let endless = "cannot be read: Too many levels of symbolic links (os error 40); make the file readable";
    refused(&directory.path(""), &format!("{part}: {endless}"));
    for name in ["y.gguf", "y.safetensors", "y.json", "y"] {
        let path = directory.path(name);
        circle(&path);
        refused(&path, &format!("{path}: {endless}"));
        kvsize(&path).stderr(&format!("error: {path}: {endless}\n")).status(2);
    }
    // A directory that leads back into itself is not walked.
    symlink(&directory.0, directory.0.join("again")).unwrap();
    fs::remove_file(&part).unwrap();
    assert_eq!(item(&directory.path("again/again"))["origin"], "index");
}

/// A header that is right, to be changed.
fn header() -> Vec<u8> {
    let header = r#"{"__metadata__":{"format":"pt"},"a.experts.0.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
        "b_blocks":{"dtype":"U8","shape":[4],"data_offsets":[12,16]},"c\u00e4":{"dtype":"F4","shape":[2],"data_offsets":[16,17]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend([0; 17]);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_header_makes_it_panic(
        changes in prop::collection::vec((0usize..320, any::<u8>()), 0..8),
        numbers in prop::option::of((0usize..200, prop::sample::select(vec!["99999999999999999999", "-1", "1e9", "[[[", "\"", "{"]))),
        end in prop::option::of(0usize..400),
        len in prop::option::of(any::<u64>()),
    ) {
        let mut bytes = header();
        for (at, with) in changes {
            let at = at % bytes.len();
            bytes[at] = with;
        }
        if let Some((at, text)) = numbers {
            bytes[8 + at..8 + at + text.len()].copy_from_slice(text.as_bytes());
        }
        bytes.truncate(end.unwrap_or(usize::MAX));
        let len = len.unwrap_or(bytes.len() as u64);
        let mut tensors = Tensors::default();
        if safetensors::read(bytes.as_slice(), len, &mut tensors).is_ok() {
            prop_assert_eq!(tensors.bytes().map(|bytes| bytes <= len), Some(true));
            let _ = tensors.parameters();
        }
    }
}

#[test]
fn a_right_header_is_read() {
    let bytes = header();
    let mut tensors = Tensors::default();
    safetensors::read(bytes.as_slice(), bytes.len() as u64, &mut tensors).unwrap();
    // Bytes of two values each count twice.
    assert_eq!((tensors.bytes(), tensors.parameters(), tensors.routed), (Some(17), Some(6 + 8 + 2), 6));
}

#[test]
fn names_of_the_catalogue_have_weights_where_their_dimensions_are_known() {
    let totals = fs::read_to_string(golden("totals.jsonl")).unwrap();
    for row in totals.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        if let Some(name) = row["catalogue"].as_str() {
            let item = item(name);
            assert_eq!((&item["source"], &item["origin"]), (&json!("catalogue"), &json!("computed")), "{name}");
            assert_eq!((&item["parameters"], &item["bytes"]), (&row["parameters"], &row["bytes"]), "{name}");
        }
    }
    for (name, parameters, bytes) in [
        ("gemma-4-26b-a4b", 25_805_933_872u64, 51_611_872_412u64),
        ("whisper-large-v3", 1_543_490_560, 3_086_981_120),
        // Experts in 4 bits with a byte for 16, all else in 16; two numbers of 4 bytes for each matrix of an expert.
        ("minimax-m2.7-nvfp4", 228_689_764_864, {
            let experts = 62 * 256 * 3 * 3072 * 1536;
            2 * (228_689_764_864 - experts) + experts / 2 + experts / 16 + 62 * 256 * 3 * 8
        }),
    ] {
        let item = item(name);
        assert_eq!(item["origin"], "catalogue", "{name}");
        assert_eq!((&item["parameters"], &item["bytes"]), (&json!(parameters), &json!(bytes)), "{name}");
    }
}
