//! Exit 2, nothing on stdout, one line that names the flag or key, what was found and what to do.

use std::fs;
use std::path::PathBuf;

use kvsize::engine::PROFILES;
use kvsize::units::{FORMATS, PAIRS};
use serde_json::Value;

use crate::harness::{Run, kvsize};

const LLAMA: &str = r#"{"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 8}"#;

fn refused(arguments: &str, message: &str) {
    kvsize(arguments).stderr(&format!("error: {message}\n")).status(2);
}

fn config_refused(text: &str, message: &str) {
    kvsize("-").stdin(text).stderr(&format!("error: standard input: {message}\n")).status(2);
}

/// Every engine with its versions, as a message lists them.
fn engines() -> String {
    PROFILES.iter().map(|profile| profile.name).collect::<Vec<_>>().join(", ")
}

/// Every format, as a message lists them.
fn formats() -> String {
    let names = FORMATS.iter().map(|entry| entry.name).chain(PAIRS.iter().map(|pair| pair.name));
    names.collect::<Vec<_>>().join(", ")
}

/// A path of our own under the temporary directory.
fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("kvsize-{}-{name}", std::process::id()))
}

#[test]
fn counts_are_positive_whole_numbers() {
    for flag in [
        "--layers",
        "--hidden-size",
        "--kv-heads",
        "--heads",
        "--head-dim",
        "--v-head-dim",
        "--batch",
        "--tp",
        "--pp",
        "--dp",
        "--dcp",
        "--num-speculative-tokens",
        "--bitwidth",
    ] {
        let remedy = "give a whole number of 1 or more";
        refused(&format!("{flag} 0"), &format!("{flag}: 0 is not a positive count; {remedy}"));
        for text in ["-1", "-1k", "--x", "NaN", "1e3", "1k", "x", "+1", "0x10"] {
            refused(&format!("{flag} {text}"), &format!("{flag}: {text} is not a count; {remedy}"));
        }
        refused(&format!("{flag} 1.5"), &format!("{flag}: 1.5 is not a whole count; {remedy}"));
        refused(
            &format!("{flag}=18446744073709551616"),
            &format!("{flag}: 18446744073709551616 is past 2^64 - 1; give a smaller number"),
        );
    }
}

#[test]
fn tokens_have_known_suffixes() {
    let remedy = "give a whole number, or one with k, m, g (powers of 1000) or K, M, G (powers of 1024)";
    for (text, problem) in [
        ("0", "is not a positive number of tokens"),
        ("-5", "is not a number of tokens"),
        ("-5k", "is not a number of tokens"),
        ("-0.5k", "is not a number of tokens"),
        ("NaN", "is not a number of tokens"),
        ("1e3", "is a number of tokens with an unknown suffix"),
        ("128Ki", "is a number of tokens with an unknown suffix"),
        ("0.5", "is not a whole number of tokens"),
    ] {
        refused(&format!("llama-3.1-8b -s {text}"), &format!("--seq-len: {text} {problem}; {remedy}"));
        refused(&format!("--sliding-window {text}"), &format!("--sliding-window: {text} {problem}; {remedy}"));
    }
    refused(
        "llama-3.1-8b -s 1k,1.5K",
        "--seq-len: 1.5K puts a fraction before a power of 1024; use k, m, g for a fraction, or write the number out",
    );
    refused("llama-3.1-8b -s 99999999999g", "--seq-len: 99999999999g is past 2^64 - 1; give a smaller number");
}

#[test]
fn dimensions_must_be_there_and_divide() {
    let even = "give KV heads that do; each serves an equal group of query heads";
    let width = "give --head-dim, or --hidden-size with --heads";
    refused(
        "--layers 2 --hidden-size 64 --heads 8 --kv-heads 3",
        &format!("--kv-heads: 3 does not divide --heads 8; {even}"),
    );
    refused("--layers 2 --kv-heads 8", &format!("--heads: missing; {width}"));
    refused("--layers 2 --heads 8", &format!("--head-dim: missing; {width}"));
    refused("--kv-heads 2 --head-dim 8", "--layers: missing; give the number of layers, or name a MODEL");
    refused(
        "--layers 65537 --kv-heads 2 --head-dim 8",
        "--layers: 65537 is more layers than any model has; give at most 65536",
    );
    refused(
        "-s 8k",
        "MODEL: missing; name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads",
    );
    refused(
        "llama-3.1-8b --layers 3",
        "MODEL: llama-3.1-8b can't be used with the flags of a model; name a model or give its dimensions",
    );
}

#[test]
fn products_past_the_limit_are_errors_and_never_wrap() {
    let message = "--seq-len, --batch, --layers, --head-dim or --bitwidth: their product is past 2^64 - 1 bytes; give smaller numbers";
    refused("--layers 48 --kv-heads 8 --head-dim 128 -s 18446744073709551615", message);
    refused("--layers 65536 --hidden-size 18446744073709551615 --kv-heads 1 -s 4000000000g -b 4000000000", message);
    refused("llama-3.1-8b -s 1k -b 18446744073709551615 --bitwidth 18446744073709551615", message);
    refused(
        "llama-3.1-8b -s 1 --tp 8 --pp 32 --dp 18446744073709551615",
        "--dp: 18446744073709551615 times --tp and --pp is past 2^64 - 1 devices; give smaller numbers",
    );
}

#[test]
fn layouts_must_fit_the_model() {
    refused(
        "llama-3.1-8b --tp 3",
        "--tp: 3 neither divides the 8 KV heads nor is a multiple of them; use one that does, as engines ask",
    );
    refused(
        "llama-3.1-8b --pp 33",
        "--pp: 33 is more pipeline stages than the 32 layers; use one stage for each layer at most",
    );
    refused(
        "--layers 2 --hidden-size 5120 --kv-heads 6 --tp 2",
        "--tp: 2 can't divide the article's shortcut: its width is no multiple of the 6 KV heads; give --heads or --head-dim",
    );
}

#[test]
fn ranks_that_share_tokens_must_hold_the_same_heads() {
    refused(
        "deepseek-v3 --tp 8 --dcp 3",
        "--dcp: 3 does not divide the 8 tensor parallel ranks, which share the tokens; use a divisor of --tp",
    );
    let raise = "raise --tp to --dcp times the KV heads, or leave it out";
    refused(
        "llama-3.1-8b --tp 8 --dcp 2",
        &format!("--dcp: 2 is more than the one rank that holds each of the 8 KV heads at --tp 8; {raise}"),
    );
    refused(
        "llama-3.1-8b --tp 32 --dcp 8",
        &format!("--dcp: 8 is more than the 4 ranks that hold each of the 8 KV heads at --tp 32; {raise}"),
    );
    refused(
        "llama-3.1-8b --dcp 2",
        "--dcp: 2 does not divide the 1 tensor parallel ranks, which share the tokens; use a divisor of --tp",
    );
    refused(
        "llama-3.1-8b -e transformers --dcp 2",
        "--dcp: 2 divides a model that transformers keeps whole here (transformers); leave it out, or name another engine",
    );
}

#[test]
fn a_prefix_in_common_is_a_part_of_the_sequence() {
    refused(
        "llama-3.1-8b -s 1k,8k --shared-prefix 2K",
        "--shared-prefix: 2,048 is more than the 1,000 tokens of a sequence; give at most --seq-len",
    );
    for text in ["0", "-1", "1e3", "x"] {
        let problem = if text == "0" { "positive number" } else { "number" };
        let suffix = if text == "1e3" { " with an unknown suffix" } else { "" };
        refused(
            &format!("llama-3.1-8b --shared-prefix {text}"),
            &format!(
                "--shared-prefix: {text} is {} {problem} of tokens{suffix}; give a whole number, or one with k, m, g \
                 (powers of 1000) or K, M, G (powers of 1024)",
                if text == "1e3" { "a" } else { "not a" }
            ),
        );
    }
    refused(
        "llama-3.1-8b -s 8k --shared-prefix 1k -e transformers",
        "--shared-prefix: 1000 is not shared: each row of a batch has its own entries \
         (transformers); leave it out, or name another engine",
    );
}

#[test]
fn a_setting_belongs_to_its_engine() {
    let of = |name: &str| format!("add --engine {name}, or leave it out");
    for (setting, owner, engine) in [
        ("--cache static", "transformers", "ideal"),
        ("--tokens-per-block 64", "tensorrt-llm", "ideal"),
        ("--tokens-per-block 64", "tensorrt-llm", "transformers"),
        ("--enable-attention-dp", "tensorrt-llm", "transformers"),
        ("--no-enable-attention-dp", "tensorrt-llm", "transformers"),
        ("--cache static", "transformers", "tensorrt-llm"),
    ] {
        let name = setting.split(' ').next().unwrap().replace("--no-", "--");
        refused(
            &format!("llama-3.1-8b {setting} -e {engine}"),
            &format!("{name}: applies to {owner}, not to {engine}; {}", of(owner)),
        );
    }
    // Each engine of a list takes what is its own.
    assert!(
        kvsize("llama-3.1-8b -s 1k -e transformers,tensorrt-llm --cache static --tokens-per-block 64")
            .text()
            .ends_with("status 0\n")
    );
    for text in ["0", "-1", "x", "1.5"] {
        refused(
            &format!("llama-3.1-8b -e tensorrt-llm --tokens-per-block {text}"),
            &format!("--tokens-per-block: {text} is not a value of this setting; give a whole number of 1 or more"),
        );
    }
}

#[test]
fn options_and_their_values_are_known() {
    refused("--frmat json", "--frmat is not an option here; did you mean --format?");
    refused("--no-such-thing", "--no-such-thing is not an option here; `kvsize --help` tells how");
    refused(
        "llama-3.1-8b -s 1k,",
        "--seq-len: an empty text is not a number of tokens; give a whole number, or one with k, m, g (powers of 1000) or K, M, G (powers of 1024)",
    );
    refused("llama-3.1-8b --sort name --sort given", "--sort: is given twice; give it once");
    refused("llama-3.1-8b -f csv -f plain", "--format: is given twice; give it once");
    refused("-s 1k models", "models: --seq-len stands before it; put the command first, and what it takes after it");
    refused("article extra", "extra is not an option here; `kvsize --help` tells how");
    refused(
        "llama-3.1-8b -f xml",
        "--format: xml is not one of its values; use one of table, plain, json, jsonl, csv, markdown, svg",
    );
    refused("llama-3.1-8b -e vlm", &format!("--engine: vlm is not a known engine; use one of {}", engines()));
    refused(
        "llama-3.1-8b -e transformers@4",
        "--engine: transformers@4 is not a known version of transformers; use transformers@5.23",
    );
    refused(
        "llama-3.1-8b -e vllm@0.34",
        "--engine: vllm@0.34 is not a known version of vllm; use one of vllm@0.33, vllm@0.19",
    );
    refused("llama-3.1-8b -e ollama@1", "--engine: ollama@1 names a version, and ollama has none here; use ollama");
    refused("llama-3.1-8b --kv-heads", "--kv-heads: has no value; give it one");
    refused("llama-3.1-8b -d fp8 --bitwidth 4", "--kv-dtype: --bitwidth is given as well; give one of the two");
    refused(
        "llama-3.1-8b -d fp9",
        &format!("--kv-dtype: fp9 is not a known element format; use one of {}, or --bitwidth N", formats()),
    );
    refused(
        "llama-3.1-8b --unit Gb",
        "--unit: Gb is not a unit of bytes; use one of B, kB, KiB, MB, MiB, GB, GiB, TB, TiB or auto",
    );
}

#[test]
fn unknown_names_offer_the_nearest() {
    refused(
        "lama-3.1-8b",
        "MODEL: lama-3.1-8b is unknown: not a file, not in the catalogue; try a Hugging Face id such as meta-llama/Llama-3.1-8B, or: llama-3.1-8b, \
         hermes-3-llama-3.1-8b, unsloth/meta-llama-3.1-8b-instruct (`kvsize models` lists all)",
    );
    refused(
        "%%%",
        "MODEL: %%% is unknown: not a file, not in the catalogue; try a Hugging Face id such as meta-llama/Llama-3.1-8B (`kvsize models` lists all)",
    );
}

#[test]
fn files_that_are_none_are_refused_before_reading() {
    refused(
        "./no.json",
        "./no.json: no such file; give a config.json, a GGUF file, a directory with one, or a catalogue name",
    );
    refused("/dev/null", "/dev/null: not a regular file; give a file, or pipe the text in and use - as MODEL");

    let directory = scratch("empty");
    fs::create_dir_all(&directory).unwrap();
    let path = directory.display();
    refused(
        &path.to_string(),
        &format!(
            "{path}: the directory has no config.json and no GGUF file; give the directory of a model, or the file itself"
        ),
    );

    let huge = directory.join("config.json");
    fs::File::create(&huge).unwrap().set_len(2 << 30).unwrap();
    refused(
        &path.to_string(),
        &format!(
            "{}: 2,147,483,648 bytes is more than the 4,194,304 bytes that are read; give the \
             config.json, not the weights",
            huge.display()
        ),
    );
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn configs_are_refused_with_the_path_of_the_key() {
    config_refused(
        "",
        "the text is not JSON: EOF while parsing a value at line 1 column 0; give a config.json as it is published",
    );
    config_refused(
        "{\n \"num_hidden_layers\": 4,\n}",
        "the text is not JSON: trailing comma at line 3 column 1; give a config.json as it is published",
    );
    config_refused("[1]", "[1] is not an object of keys; give a config.json");
    config_refused("{}", "num_hidden_layers: missing; add it");
    let number = "is not a whole number; write a whole number";
    for (value, message) in [
        ("\"4\"", format!("\"4\" {number}")),
        ("4.0", format!("4.0 {number}")),
        ("NaN", format!("\"NaN\" {number}")),
        ("1e3", format!("1000.0 {number}")),
        ("true", format!("true {number}")),
        ("-4", "-4 is not a positive count; write 1 or more".into()),
        ("0", "0 is not a positive count; write 1 or more".into()),
        ("18446744073709551616", format!("1.8446744073709552e+19 {number}")),
    ] {
        let text = LLAMA.replace("\"num_hidden_layers\": 4", &format!("\"num_hidden_layers\": {value}"));
        config_refused(&text, &format!("num_hidden_layers: {message}"));
        config_refused(&format!("{{\"text_config\": {text}}}"), &format!("text_config.num_hidden_layers: {message}"));
    }
    config_refused(
        &LLAMA.replace('}', ", \"num_key_value_heads\": 3}"),
        "num_key_value_heads: 3 does not divide num_attention_heads 8; give KV heads that do; each serves an equal group \
         of query heads",
    );
    config_refused(
        &LLAMA.replace("\"hidden_size\": 64, ", ""),
        "head_dim: missing; add head_dim, or hidden_size and num_attention_heads",
    );
    kvsize("-")
        .stdin(vec![0xff, 0xfe])
        .stderr("error: standard input: the content is not UTF-8 text; give a config.json\n")
        .status(2);
    // Deep nesting is refused by the parser, not by the stack.
    config_refused(
        &"[".repeat(100_000),
        "the text is not JSON: recursion limit exceeded at line 1 column 128; give a config.json as it is published",
    );
}

#[test]
fn under_json_the_error_is_an_object_on_stderr() {
    for arguments in [
        "--layers 0 --json",
        "--layers 0 -f json",
        "--layers 0 --format=jsonl",
        "--layers 0 -fjson",
        "--layers 0 -qf json",
        "--layers 0 -f=json",
    ] {
        let text = kvsize(arguments).text();
        let line = text.strip_prefix("--- stderr\n").unwrap().strip_suffix("\n--- status 2\n").unwrap();
        let document: Value = serde_json::from_str(line).unwrap();
        assert_eq!(document["schema"], "kvsize.error/1");
        assert_eq!(
            document["error"],
            serde_json::json!({
                "code": "zero", "field": "--layers", "found": "0", "remedy": "give a whole number of 1 or more",
                "message": "--layers: 0 is not a positive count; give a whole number of 1 or more"
            })
        );
    }
    // What comes after -- is another program's command, and no option of ours.
    refused(
        "--layers 0 -- --json",
        "--: --json does not start a server that is known here; paste a command of vllm serve, python -m \
         sglang.launch_server, llama-server, ollama run",
    );
}

#[test]
fn what_the_engine_refuses_is_refused_with_its_reason() {
    refused(
        "llama-3.1-8b -e transformers --tp 2",
        "--tp: 2 divides a model that transformers keeps whole here (transformers); leave it out, or name another engine",
    );
    refused(
        "llama-3.1-8b -e transformers -d fp8",
        "--kv-dtype: fp8 is not a format of its plain caches (transformers); use bf16, fp16 or fp32, \
         or --cache quantized",
    );
    refused(
        "deepseek-ai--DeepSeek-V4-Flash.json -e transformers --cache static",
        "--cache: static is not supported for compressed attention (transformers); use dynamic",
    );
    refused(
        "class-default--t5.json -s 100",
        "--encoder-len: missing, although the model has cross-attention and its config names no maximum; give the tokens \
         that the encoder makes",
    );
}

#[test]
fn models_without_a_cache_are_refused_with_the_reason() {
    config_refused(
        r#"{"model_type": "bert", "num_hidden_layers": 12}"#,
        "model_type: bert has no KV cache: it is an encoder, which reads its whole input at once; give the config.json of \
         a model that generates text",
    );
    config_refused(
        r#"{"_class_name": "UNet2DConditionModel"}"#,
        "model_type: UNet2DConditionModel has no KV cache: it is a part of a diffusion pipeline; give the config.json of a \
         model that generates text",
    );
}

#[test]
fn a_message_is_one_line_whatever_it_quotes() {
    Run::new(["a\nb\x1b[31m"])
        .stderr(
            "error: MODEL: a b [31m is unknown: not a file, not in the catalogue; try a Hugging Face id such as meta-llama/Llama-3.1-8B (`kvsize models` lists all)\n",
        )
        .status(2);
}
