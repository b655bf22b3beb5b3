//! Against what libllama really allocated (`golden/README.md`), integer for integer.

use std::fs;
use std::io::Cursor;

use kvsize::catalogue;
use kvsize::engine::{Details, Engine, SettingValue};
use kvsize::estimate::{Workload, estimate};
use kvsize::model::Model;
use kvsize::source::{gguf, resolve};
use kvsize::units::{ByteUnit, Bytes, ElementFormat, KvDtype, KvFormat, Tokens};
use serde_json::{Value, json};

use crate::gguf_file::Writer;
use crate::harness::{golden, kvsize};

fn golden_data(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(golden(path)).unwrap()).unwrap()
}

/// The model of a case: its metadata, written as a GGUF header and read as one.
fn model(case: &Value) -> Model {
    let bytes = Writer::with(case["arch"].as_str().unwrap(), &case["metadata"]).bytes();
    let len = bytes.len() as u64;
    let header = gguf::read(Cursor::new(bytes), len).unwrap();
    gguf::model(&header, case["model"].as_str().unwrap(), "test.gguf").unwrap()
}

fn format(name: &Value) -> ElementFormat {
    name.as_str().unwrap().parse().unwrap()
}

/// The engine with the settings of a request, and the workload.
fn request(request: &Value) -> (Engine, Workload) {
    let mut engine: Engine = "llama.cpp".parse().unwrap();
    let count = |key: &str| request[key].as_u64();
    for (name, key) in [
        ("ctx-size", "n_ctx"),
        ("parallel", "n_seq_max"),
        ("batch-size", "n_batch"),
        ("ubatch-size", "n_ubatch"),
        ("rs-seq", "n_rs_seq"),
    ] {
        if let Some(count) = count(key) {
            engine.settings.set(name, SettingValue::Count(count));
        }
    }
    for (name, key) in [("kv-unified", "kv_unified"), ("swa-full", "swa_full")] {
        engine.settings.set(name, SettingValue::Switch(request[key].as_bool().unwrap()));
    }
    let flash_attention = if count("flash_attn") == Some(1) { "on" } else { "off" };
    engine.settings.set("flash-attn", SettingValue::Choice(flash_attention));
    let (n_ctx, n_seq_max) = (count("n_ctx").unwrap(), count("n_seq_max").unwrap());
    let kv_dtype = KvDtype::Given(KvFormat::new(format(&request["type_k"]), format(&request["type_v"])));
    (engine, Workload { kv_dtype, ..Workload::of(Tokens(n_ctx.div_ceil(n_seq_max)), n_seq_max) })
}

fn for_each_run(mut check: impl FnMut(&Value, &Model, &Value, &Value)) {
    for case in golden_data("llamacpp.json")["cases"].as_array().unwrap() {
        let model = model(case);
        for run in case["runs"].as_array().unwrap() {
            check(&case["model"], &model, &run["request"], &run["expect"]);
        }
    }
}

/// Why something is refused, in libllama's words or in ours.
fn reason(words: &str) -> &'static str {
    const REASONS: &[(&str, &str, &str)] = &[
        ("flash attention", "quantized V cache requires flash_attn", "as V needs flash attention"),
        ("formats", "does not support different K", "are two formats"),
        ("head of K", "does not divide n_embd_head_k", "elements of K"),
        ("head of V", "does not divide n_embd_head_v", "elements of V"),
    ];
    let known = REASONS.iter().find(|(_, theirs, ours)| words.contains(theirs) || words.contains(ours));
    known.unwrap_or_else(|| panic!("{words}")).0
}

#[test]
fn llama_cpp_equals_what_libllama_allocated() {
    let (mut compared, mut refused) = (0, 0);
    let mut failures = Vec::new();
    for_each_run(|name, model, asked, expected| {
        let (engine, workload) = request(asked);
        let answer = engine.answer(model, &workload);
        let found = match &answer {
            Err(error) => json!(reason(&error.to_string())),
            Ok(answer) => {
                let Some(Details::LlamaCpp(facts)) = &answer.details else { panic!("{name}") };
                let (n_ctx, n_ctx_seq, parts) = (facts.n_ctx, facts.n_ctx_seq, &facts.parts);
                json!({"bytes": answer.estimate.bytes.0, "n_ctx": n_ctx, "n_ctx_seq": n_ctx_seq, "parts": parts})
            }
        };
        let expected = match expected["refused"].as_str() {
            Some(words) => {
                refused += 1;
                json!(reason(words))
            }
            None => expected.clone(),
        };
        if found != expected {
            failures.push(format!("{name} {asked}\n  {found} != {expected} {:?}", answer.err().map(|e| e.to_string())));
        }
        compared += 1;
    });
    assert!(failures.is_empty(), "{} of {compared}\n{}", failures.len(), failures[..failures.len().min(12)].join("\n"));
    assert_eq!((compared, refused), (1573, 41));
}

#[test]
fn the_gaps_add_up_to_the_difference_from_the_ideal() {
    let mut compared = 0;
    for_each_run(|name, model, asked, _| {
        let (engine, workload) = request(asked);
        let Ok(answer) = engine.answer(model, &workload) else { return };
        let ideal = estimate(model, &workload).unwrap();
        let difference = i128::from(answer.estimate.bytes.0) - i128::from(ideal.bytes.0);
        let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
        assert_eq!(gaps, difference, "{name} {asked} {:?}", answer.gaps);
        let groups: u64 = answer.estimate.layer_groups.iter().map(|group| group.bytes.0).sum();
        assert_eq!(groups, answer.estimate.bytes.0, "{name} {asked}");
        compared += 1;
    });
    assert_eq!(compared, 1573 - 41);
}

/// A model of these keys, under the prefix of its architecture.
fn written(architecture: &str, keys: &Value) -> Model {
    let prefixed = |(key, value): (&String, &Value)| (format!("{architecture}.{key}"), value.clone());
    let keys: serde_json::Map<String, Value> = keys.as_object().unwrap().iter().map(prefixed).collect();
    let bytes = Writer::with(architecture, &Value::Object(keys)).bytes();
    let len = bytes.len() as u64;
    gguf::model(&gguf::read(Cursor::new(bytes), len).unwrap(), "m", "m.gguf").unwrap()
}

fn with(settings: &[(&'static str, u64)]) -> Engine {
    let mut engine: Engine = "llama.cpp".parse().unwrap();
    for (name, value) in settings {
        let setting = engine.setting(name).unwrap();
        let text = if matches!(setting.kind, kvsize::engine::ValueKind::Switch { .. }) {
            (*value == 1).to_string()
        } else {
            value.to_string()
        };
        engine.settings.set(name, setting.read(&text).unwrap());
    }
    engine
}

/// The parts of an answer, as cells and bytes.
fn parts(engine: &Engine, model: &Model, workload: &Workload) -> Vec<(&'static str, u64, u64)> {
    let answer = engine.answer(model, workload).unwrap();
    let Some(Details::LlamaCpp(facts)) = answer.details else { panic!() };
    facts.parts.iter().map(|(name, part)| (*name, part.cells, part.buffer_bytes)).collect()
}

/// Architectures that no measured case has, by the rules of their files in llama.cpp, worked out by hand.
#[test]
fn rules_of_architectures_that_were_not_measured() {
    let plain = json!({"block_count": 8, "embedding_length": 512, "context_length": 4096, "attention.head_count": 4,
        "attention.head_count_kv": 2, "attention.sliding_window": 256});
    let row = 2 * 128 * 2 * 2; // 2 KV heads x 128, K and V, f16
    let workload = Workload::of(Tokens(8192), 1);
    let with_keys = |more: Value| {
        let mut keys = plain.clone();
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        keys
    };
    let engine = with(&[]);
    let layers = |architecture: &str, more: Value| {
        let found = parts(&engine, &written(architecture, &with_keys(more)), &workload);
        let of = |name: &str, cells: u64| {
            let part = found.iter().find(|(part, ..)| *part == name);
            part.map_or(0, |(_, has, bytes)| {
                assert_eq!(*has, cells, "{architecture} {found:?}");
                bytes / (row * cells)
            })
        };
        let plain = found.iter().any(|(part, ..)| *part == "kv");
        (if plain { of("kv", 8192) } else { of("kv.full", 8192) }, of("kv.swa", 768))
    };
    // (full, sliding) layers of 8: patterns of the architecture, of the file, and none.
    for (architecture, more, expected) in [
        ("cohere2moe", json!({}), (2, 6)),
        ("muse-glimmer", json!({}), (2, 6)),
        ("plamo3", json!({}), (1, 7)),
        ("afmoe", json!({}), (2, 6)),
        ("olmo2", json!({}), (2, 6)),
        ("olmo2", json!({"attention.sliding_window": 0}), (8, 0)),
        ("laguna", json!({}), (2, 6)),
        ("mellum", json!({"attention.sliding_window_pattern": 2}), (4, 4)),
        (
            "exaone-moe",
            json!({"attention.sliding_window_pattern": [true, false, false, false, false, false, false, false]}),
            (7, 1),
        ),
        ("exaone4", json!({}), (8, 0)),
        ("gemma2", json!({}), (4, 4)),
        ("step35", json!({"attention.sliding_window_pattern": [true, true]}), (6, 2)),
        ("maple", json!({"attention.sliding_window_pattern": [false, true]}), (7, 1)),
        ("granite_swa", json!({"attention.sliding_window_pattern": [true]}), (7, 1)),
        ("qwen2", json!({}), (8, 0)),
        ("phi3", json!({}), (8, 0)),
        ("llama", json!({}), (8, 0)),
        ("nanbeige", json!({"num_loops": 3}), (24, 0)),
        ("glm4moe", json!({"nextn_predict_layers": 2}), (6, 0)),
        ("minimax-01", json!({"residual_scale": 1.0}), (1, 0)),
        ("qwen3", json!({"nextn_predict_layers": 8}), (8, 0)),
    ] {
        assert_eq!(layers(architecture, more.clone()), expected, "{architecture} {more}");
    }
    // The window of one model is of one size: 4,096 + 512 cells.
    assert_eq!(
        parts(&engine, &written("smallthinker", &plain), &workload),
        [("kv.full", 8192, 2 * row * 8192), ("kv.swa", 4608, 6 * row * 4608)]
    );
    let mut large = plain.clone();
    large["block_count"] = json!(64);
    large.as_object_mut().unwrap().remove("attention.sliding_window");
    assert_eq!(
        parts(&engine, &written("exaone4", &large), &workload),
        [("kv.full", 8192, 16 * row * 8192), ("kv.swa", 4608, 48 * row * 4608)]
    );
    // One more layer with one head.
    assert_eq!(
        parts(&engine, &written("graniteswitch", &plain), &workload),
        [("kv", 8192, (8 * row + row / 2) * 8192)]
    );
    // Short convolutions where there are no KV heads; the others slide.
    let heads = json!([0, 2, 0, 2, 0, 2, 0, 2]);
    let lfm2 = written("lfm2", &with_keys(json!({"attention.head_count_kv": heads, "shortconv.l_cache": 3})));
    assert_eq!(
        parts(&engine, &lfm2, &workload),
        [("kv.full", 8192, 0), ("kv.swa", 768, 4 * row * 768), ("recurrent", 1, 4 * 512 * 2 * 4)]
    );
    // RWKV-6: two shifts of the width, and a matrix for each head.
    let rwkv = json!({"block_count": 3, "embedding_length": 512, "wkv.head_size": 64});
    let state = 3 * (2 * 512 + 512 * 64) * 4;
    assert_eq!(parts(&engine, &written("rwkv6", &rwkv), &workload), [("recurrent", 1, state)]);
    let once = json!({"block_count": 3, "embedding_length": 512, "wkv.head_size": 64, "token_shift_count": 1});
    assert_eq!(parts(&engine, &written("arwkv7", &once), &workload), [("recurrent", 1, state - 3 * 512 * 4)]);
}

#[test]
fn rules_of_latents_and_indices_that_were_not_measured() {
    let workload = Workload::of(Tokens(1024), 1);
    let engine = with(&[]);
    let mla = |architecture: &str, layers: u64, more: Value| {
        let mut keys = json!({"block_count": layers, "embedding_length": 512, "attention.head_count": 4,
            "attention.head_count_kv": 1, "attention.key_length": 576, "attention.value_length": 512,
            "attention.key_length_mla": 192, "attention.value_length_mla": 128, "attention.kv_lora_rank": 512,
            "attention.indexer.key_length": 128, "attention.indexer.top_k": 2048, "context_length": 131_072});
        keys.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let model = written(architecture, &keys);
        let parts = parts(&engine, &model, &workload);
        parts.iter().map(|(name, cells, bytes)| (*name, bytes / (cells * 2))).collect::<Vec<_>>()
    };
    // Elements for each token: 576 a latent, 128 an index key.
    assert_eq!(mla("glm-dsa", 78, json!({})), [("kv.indexer", 78 * 128), ("kv.mla", 78 * 576)]);
    // From a million tokens on, two layers and one in four have an index of their own.
    let long = json!({"context_length": 1_048_576});
    assert_eq!(mla("glm-dsa", 79, long), [("kv.indexer", (2 + 19) * 128), ("kv.mla", 79 * 576)]);
    let listed =
        json!({"context_length": 1_048_576, "attention.indexer.types": [1, 0, 0, 1], "nextn_predict_layers": 1});
    assert_eq!(mla("glm-dsa", 5, listed), [("kv.indexer", 2 * 128), ("kv.mla", 4 * 576)]);
    assert_eq!(mla("hy_v4", 4, json!({"attention.indexer.top_k": 0})), [("kv", 4 * 576)]);
    let listed = json!({"attention.indexer.types": [true, false, true, false]});
    assert_eq!(mla("hy_v4", 4, listed), [("kv.indexer", 2 * 128), ("kv.mla", 4 * 576)]);
    // Two widths of latents, the smaller of which slides.
    let sliding = json!({"attention.key_length_swa": 320, "attention.value_length_swa": 256, "attention.sliding_window": 256,
        "attention.sliding_window_pattern": [true, true, false, false], "attention.indexer.types": [0, 0, 1, 1]});
    assert_eq!(mla("dots3note", 4, sliding), [("kv.indexer", 2 * 128), ("kv.mla", 2 * 576), ("kv.swa", 2 * 320)]);
    // KDA where there are no KV heads; three index keys a token, raw, gate and pooled.
    let kda = json!({"attention.head_count_kv": [0, 0, 0, 1], "kda.head_dim": 32, "ssm.conv_kernel": 4});
    assert_eq!(
        mla("glm5-next", 4, kda),
        [("kv", 576), ("kv.indexer", 3 * 128), ("recurrent", 3 * (3 * 3 * 4 * 32 + 4 * 32 * 32) * 4 / 2)]
    );
    // A file from before the keys of MLA keeps full heads.
    let old = json!({"attention.key_length_mla": 0, "attention.head_count_kv": 4, "attention.value_length": 128,
        "attention.key_length": 192});
    assert_eq!(mla("deepseek2", 4, old), [("kv", 4 * 4 * (192 + 128))]);
    // The architecture that has no such keys keeps them, too.
    let minicpm = json!({"attention.head_count_kv": 4, "attention.key_length": 96, "attention.value_length": 64});
    assert_eq!(mla("minicpm3", 4, minicpm), [("kv", 4 * 4 * (96 + 64))]);
    // QSA: two index keys a token where blocks are pooled, and the n-grams of one layer.
    let delta = json!({"attention.key_length": 64, "attention.value_length": 64, "full_attention_interval": 2,
        "ssm.conv_kernel": 4, "ssm.inner_size": 256, "ssm.state_size": 64, "ssm.group_count": 2, "ssm.time_step_rank": 4,
        "attention.compress_ratios": [0, 16, 0, 16], "hyper_connection.count": 2, "ple.layers": [0], "ple.ngram_size": 3,
        "ple.conv_kernel": 4});
    let state = 2 * (3 * (256 + 2 * 2 * 64) + 64 * 256) + 3 * 3 * 2 * 512;
    assert_eq!(
        mla("qwen4exp", 4, delta),
        [("kv", 2 * 2 * 64), ("kv.indexer", 2 * 2 * 128), ("recurrent", state * 4 / 2)]
    );
}

#[test]
fn layers_of_deepseek_v4_that_predict_further_tokens_count_only_with_their_tensor() {
    let keys = json!({"deepseek4.block_count": 4, "deepseek4.embedding_length": 64, "deepseek4.attention.head_count": 2,
        "deepseek4.attention.head_count_kv": 1, "deepseek4.attention.key_length": 32, "deepseek4.attention.value_length": 32,
        "deepseek4.nextn_predict_layers": 1, "deepseek4.attention.sliding_window": 128,
        "deepseek4.attention.indexer.key_length": 32, "deepseek4.attention.compress_ratios": [0, 4, 128, 4]});
    let model = |tensor: bool| {
        let mut writer = Writer::with("deepseek4", &keys);
        if tensor {
            writer.tensor("blk.3.nextn.eh_proj.weight", &[64, 64], 0);
        }
        let bytes = writer.bytes();
        let len = bytes.len() as u64;
        gguf::model(&gguf::read(Cursor::new(bytes), len).unwrap(), "m", "m.gguf").unwrap()
    };
    let workload = Workload::of(Tokens(1024), 1);
    let (without, with_them) = (model(false), model(true));
    assert_eq!((without.num_hidden_layers, with_them.num_hidden_layers), (4, 3));
    let (a, b) = (parts(&with(&[]), &without, &workload), parts(&with(&[]), &with_them, &workload));
    // The window and the compressed entries of the fourth layer are there in any case, its compressor's states are not.
    let states = |name: &str| name.starts_with("state.");
    assert_eq!(
        a.iter().filter(|(name, ..)| !states(name)).collect::<Vec<_>>(),
        b.iter().filter(|(name, ..)| !states(name)).collect::<Vec<_>>()
    );
    let rows = |parts: &[(&str, u64, u64)], name: &str| parts.iter().find(|(part, ..)| *part == name).unwrap().2;
    assert_eq!((rows(&a, "state.csa"), rows(&b, "state.csa")), (2 * 8 * 64 * 4 * 2, 8 * 64 * 4 * 2));
    let answer = with(&[]).answer(&with_them, &workload).unwrap();
    let ideal = estimate(&with_them, &workload).unwrap();
    let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
    assert_eq!(gaps, i128::from(answer.estimate.bytes.0) - i128::from(ideal.bytes.0));
    assert!(answer.gaps.iter().any(|gap| gap.kind == "nextn_layers"), "{:?}", answer.gaps);
}

/// Models that stand both in the golden data and in the catalogue, or in a published configuration, under these names.
const BOTH: &[(&str, &str)] = &[
    ("llama-3.1-8b", "llama-3.1-8b"),
    ("llama-3.1-70b", "llama-3.1-70b"),
    ("llama-2-7b", "llama-2-7b"),
    ("llama-4-scout", "llama-4-scout"),
    ("gemma-2-9b", "google--gemma-2-9b.json"),
    ("gemma-3-27b", "gemma-3-27b"),
    ("gpt-oss-20b", "gpt-oss-20b"),
    ("deepseek-v3", "deepseek-v3"),
    ("deepseek-v3.2", "deepseek-v3.2"),
    ("qwen2.5-7b", "qwen2.5-7b"),
    ("qwen3-0.6b", "qwen3-0.6b"),
    ("qwen3-8b", "qwen3-8b"),
    ("qwen3-30b-a3b", "qwen3-30b-a3b"),
    ("command-r-35b-v01", "c4ai-command-r-v01"),
    ("command-r7b", "c4ai-command-r7b-12-2024"),
    ("minimax-m2", "minimax-m2.5"),
    ("glm-4.5-air", "glm-4.5-air"),
    ("chatglm4-9b", "glm-4-9b"),
    ("mimo-v2-flash", "mimo-v2-flash"),
    ("mamba-2.8b", "mamba-2.8b"),
    ("nemotron-h-8b", "nemotron-h-8b-reasoning-128k"),
    ("qwen3-next-80b-a3b", "qwen3-next-80b-a3b-thinking"),
    ("qwen3.5-27b", "qwen3.5-27b"),
    ("synthetic-deepseek4", "deepseek-v4-flash"),
    ("synthetic-minimax-m3", "minimax-m3-nvfp4"),
];

#[test]
fn a_configuration_gives_the_bytes_of_the_file_that_is_made_of_it() {
    let mut compared = 0;
    for case in golden_data("llamacpp.json")["cases"].as_array().unwrap() {
        let Some((_, name)) = BOTH.iter().find(|(model, _)| case["model"] == *model) else { continue };
        let argument = if name.contains("--") { format!("configs/{name}") } else { (*name).to_owned() };
        let path = golden(&argument);
        let argument = if path.exists() { path.to_str().unwrap().to_owned() } else { argument };
        let model = resolve(&argument).unwrap();
        for run in case["runs"].as_array().unwrap() {
            let (engine, workload) = request(&run["request"]);
            let bytes = engine.answer(&model, &workload).ok().map(|answer| answer.estimate.bytes.0);
            assert_eq!(bytes, run["expect"]["bytes"].as_u64(), "{name} {}", run["request"]);
            compared += 1;
        }
    }
    assert_eq!(compared, 904);
}

/// Cache lines of real servers whose dimensions are known and whose MiB are exact.
#[test]
fn servers_printed_these_sizes() {
    let mut compared = 0;
    for case in golden_data("server-logs/llamacpp.json")["cases"].as_array().unwrap() {
        let count = |key: &str| case[key].as_u64();
        let (Some(cells), Some(layers), Some(k), Some(v), Some(total)) = (
            count("cells"),
            count("layers"),
            count("k_width_per_token_layer"),
            count("v_width_per_token_layer"),
            case["total_mib"].as_f64(),
        ) else {
            continue;
        };
        let streams = count("streams").unwrap_or(1);
        let keys = json!({"block_count": layers, "embedding_length": 4096, "attention.head_count": 1,
            "attention.key_length": k, "attention.value_length": v.max(1), "attention.kv_lora_rank": k,
            "attention.key_length_mla": u64::from(v == 0), "attention.value_length_mla": u64::from(v == 0)});
        let model = written("deepseek2", &keys);
        let kv_dtype = KvDtype::Given(KvFormat::new(format(&case["type_k"]), format(&case["type_v"])));
        let engine = with(&[]);
        let workload = Workload { kv_dtype, ..Workload::of(Tokens(cells), streams) };
        let bytes = engine.answer(&model, &workload).unwrap().estimate.bytes.0;
        assert_eq!(Bytes(bytes).in_unit(ByteUnit::Mebibytes), format!("{total:.3}"), "{}", case["id"]);
        compared += 1;
    }
    assert_eq!(compared, 15);
}

#[test]
fn what_is_on_the_gpu_is_told_from_what_is_on_the_host() {
    let model = written("llama", &json!({"block_count": 4, "embedding_length": 256, "attention.head_count": 2}));
    let workload = Workload::of(Tokens(256), 1);
    let layer = 2 * 256 * 2 * 256;
    // The output counts as a layer, and is the first to go.
    for (settings, gpu) in [
        (vec![], 4),
        (vec![("n-gpu-layers", 99)], 4),
        (vec![("n-gpu-layers", 5)], 4),
        (vec![("n-gpu-layers", 4)], 3),
        (vec![("n-gpu-layers", 1)], 0),
        (vec![("n-gpu-layers", 0)], 0),
        (vec![("kv-offload", 0)], 0),
        (vec![("kv-offload", 0), ("n-gpu-layers", 5)], 0),
    ] {
        let answer = with(&settings).answer(&model, &workload).unwrap();
        let Some(Details::LlamaCpp(facts)) = answer.details else { panic!() };
        assert_eq!((facts.gpu_bytes, facts.host_bytes), (gpu * layer, (4 - gpu) * layer), "{settings:?}");
        assert_eq!(
            (answer.estimate.bytes_per_gpu.0, answer.estimate.bytes.0),
            (gpu * layer, 4 * layer),
            "{settings:?}"
        );
    }
}

#[test]
fn memory_holds_the_longest_context_that_is_no_longer_than_the_one_asked_for() {
    let model = resolve("gpt-oss-20b").unwrap();
    let engine = with(&[]);
    let of = |seq_len: u64, memory: u64| {
        let workload = Workload { memory: Some(Bytes(memory)), ..Workload::of(Tokens(seq_len), 3) };
        let answer = engine.answer(&model, &workload).unwrap();
        (answer.estimate.bytes.0, answer.capacity.unwrap())
    };
    let (bytes, capacity) = of(10_000, u64::MAX);
    assert!(capacity.fits);
    assert_eq!((capacity.max_seq_len, capacity.tokens), (10_000, Some(3 * 10_240)));
    assert_eq!(of(10_000, bytes).1.max_seq_len, 10_000);
    let (_, less) = of(10_000, bytes - 1);
    assert_eq!((less.fits, less.tokens, less.max_concurrency), (false, None, None));
    // One token more than the longest takes more than the memory.
    assert!(of(less.max_seq_len, bytes - 1).1.fits && !of(less.max_seq_len + 1, bytes - 1).1.fits);
    assert_eq!(of(10_000, 1).1.max_seq_len, 0);
}

#[test]
fn what_llama_cpp_refuses_is_refused_with_the_reason() {
    let refusal = |name: &str, settings: &[(&'static str, u64)], change: &dyn Fn(Workload) -> Workload| {
        let model = resolve(name).unwrap();
        let answer = with(settings).answer(&model, &change(Workload::of(Tokens(8192), 1)));
        answer.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let layout = |tp, pp| {
        move |workload: Workload| Workload {
            layout: kvsize::estimate::Layout { tp, pp, ..workload.layout },
            ..workload
        }
    };
    let formats = |k: &'static str, v: &'static str| {
        move |workload| Workload {
            kv_dtype: KvDtype::Given(KvFormat::new(k.parse().unwrap(), v.parse().unwrap())),
            ..workload
        }
    };
    let same = |workload| workload;
    for (message, expected) in [
        (
            refusal("llama-3.1-8b", &[], &layout(2, 1)),
            "--tp: 2 is not how it divides a model: it splits by layers, over the devices it finds (llama.cpp); leave it out; \
             --n-gpu-layers (Ollama: --num-gpu) tells what is on the GPU",
        ),
        (
            refusal("llama-3.1-8b", &[], &formats("fp8", "fp8")),
            "--kv-dtype: fp8 is not a format of its cache (llama.cpp); use f16, bf16, f32, q8_0, q5_1, q5_0, q4_1, q4_0 or iq4_nl",
        ),
        (
            refusal("deepseek-v3", &[], &formats("q8_0", "f16")),
            "--kv-dtype: q8_0 and fp16 are two formats, and this model's V is a part of K (llama.cpp); use one for both",
        ),
        (
            refusal("phi-2", &[], &formats("q8_0", "f16")),
            "--kv-dtype: q8_0 packs blocks of 32, which do not divide heads of 80 elements of K (llama.cpp); use f16, bf16 or \
             f32",
        ),
        (
            refusal("llama-3.1-8b", &[("parallel", 257)], &same),
            "--parallel: 257 is more sequences than a context may have (256) (llama.cpp); ask for fewer",
        ),
        (
            refusal("llama-3.1-8b", &[("ctx-size", 1 << 31)], &same),
            "--ctx-size: 2147483648 is past the largest context, 2147483647 tokens over all sequences (llama.cpp); ask for \
             fewer tokens or sequences",
        ),
        (
            refusal("flan-t5", &[("parallel", 2)], &same),
            "--parallel: 2 streams stop an encoder-decoder model (llama.cpp); add --kv-unified",
        ),
        (
            refusal("minicpm3-4b", &[], &same),
            "MODEL: openbmb/MiniCPM3-4B is kept as full heads, whose sizes are not in what was read (llama.cpp); give its \
             GGUF file",
        ),
    ] {
        assert_eq!(message, expected);
    }
    let mut engine = with(&[]);
    engine.settings.set("flash-attn", SettingValue::Choice("off"));
    let model = resolve("llama-3.1-8b").unwrap();
    let quantised = formats("q8_0", "q8_0")(Workload::of(Tokens(8192), 1));
    assert_eq!(
        engine.answer(&model, &quantised).unwrap_err().to_string(),
        "--kv-dtype: q8_0 as V needs flash attention (--flash-attn), which is off (llama.cpp); switch it on, or use f16 for V"
    );
    // K alone may be quantised without it, and Grok runs without it in any case.
    assert!(engine.answer(&model, &formats("q8_0", "f16")(Workload::of(Tokens(8192), 1))).is_ok());
    let grok = written("grok", &json!({"block_count": 1, "embedding_length": 128, "attention.head_count": 1}));
    assert!(with(&[]).answer(&grok, &quantised).is_err());
}

/// A longer context, more sequences or a wider format never take less.
#[test]
fn more_never_takes_less() {
    for name in ["gpt-oss-20b", "deepseek-v4-flash", "qwen3-next-80b-a3b-thinking", "deepseek-v3.2", "llama-4-scout"] {
        let model = resolve(name).unwrap();
        for unified in [0, 1] {
            let engine = with(&[("kv-unified", unified)]);
            let bytes = |seq_len, batch| {
                let answer = engine.answer(&model, &Workload::of(Tokens(seq_len), batch)).unwrap();
                assert!(
                    answer.estimate.bytes.0
                        >= estimate(
                            &model,
                            &Workload { kv_dtype: ElementFormat::FP16.into(), ..Workload::of(Tokens(seq_len), batch) }
                        )
                        .unwrap()
                        .bytes
                        .0
                );
                answer.estimate.bytes.0
            };
            for batch in 1..6 {
                for seq_len in (1..40_000).step_by(977) {
                    assert!(bytes(seq_len, batch) <= bytes(seq_len + 100, batch), "{name} {seq_len} {batch}");
                    assert!(bytes(seq_len, batch) <= bytes(seq_len, batch + 1), "{name} {seq_len} {batch}");
                }
            }
        }
    }
}

#[test]
fn ollama_is_llama_cpp_under_its_own_names() {
    let model = resolve("gemma-3-27b").unwrap();
    let mut ollama: Engine = "ollama".parse().unwrap();
    let set = |engine: &mut Engine, name: &'static str, text: &str| {
        let value = engine.setting(name).unwrap().read(text).unwrap();
        engine.settings.set(name, value);
    };
    for (name, text) in [("num-ctx", "4096"), ("num-parallel", "4"), ("kv-cache-type", "q8_0")] {
        set(&mut ollama, name, text);
    }
    let workload = Workload::of(Tokens(4096), 4);
    let answer = ollama.answer(&model, &workload).unwrap();
    let llama_cpp = with(&[("ctx-size", 4 * 4096), ("parallel", 4), ("batch-size", 512), ("ubatch-size", 512)]);
    let q8_0 = Workload { kv_dtype: "q8_0".parse().unwrap(), ..workload };
    let same = llama_cpp.answer(&model, &q8_0).unwrap();
    assert_eq!(answer.estimate, same.estimate);
    let Some(Details::Ollama(facts)) = answer.details else { panic!() };
    assert_eq!((facts.n_ctx, facts.n_ctx_seq, facts.n_seq_max), (16_384, 4096, 4));
    let asked = |kv_dtype: &str| ollama.answer(&model, &Workload { kv_dtype: kv_dtype.parse().unwrap(), ..workload });
    assert!(asked("q8_0").is_ok());
    assert_eq!(
        asked("q4_0").unwrap_err().to_string(),
        "--kv-dtype: q4_0 is not the q8_0 of --kv-cache-type (ollama); leave one of them out"
    );
    set(&mut ollama, "flash-attention", "false");
    assert!(ollama.answer(&model, &workload).is_err());
}

#[test]
fn the_program_reads_a_file_and_tells_what_is_allocated() {
    let run = |arguments: &str| {
        let output =
            kvsize(&format!("{} {arguments} --json -q", golden("gguf/gpt-oss-20b.hdr.gguf").display())).output();
        serde_json::from_str::<Value>(&output).unwrap()
    };
    // Measured: 131,072 cells, and 768 of the window in each of 4 streams.
    let document = run("-e llama.cpp --ctx-size 524288 --parallel 4");
    assert_eq!(document["models"][0]["source"], "gguf");
    let [row] = document["estimates"].as_array().unwrap().as_slice() else { panic!("{document}") };
    assert_eq!((&row["seq_len"], &row["batch"]), (&json!(131_072), &json!(4)));
    assert_eq!(
        row["llama_cpp"]["parts"]["kv.swa"],
        json!({"cells": 768, "streams": 4, "buffer_bytes": 12 * 2048 * 768 * 4})
    );
    assert_eq!(row["bytes"], json!(12 * 2048 * (131_072 + 768) * 4u64));
    assert_eq!(run("-e llama.cpp -s 131072 -b 4")["estimates"], document["estimates"]);
    let quantised = run(
        "-e llama.cpp --ctx-size 8192 --cache-type-k q8_0 --cache-type-v q4_0 --swa-full --kv-unified --parallel 2",
    );
    assert_eq!(quantised["estimates"][0]["bytes"], json!(24 * 8192 * (512 / 32 * (34 + 18))));
    assert_eq!(run("-e ollama --num-ctx 8192")["estimates"][0]["ollama"]["n_ctx"], json!(8192));

    let path = golden("gguf/gpt-oss-20b.hdr.gguf");
    kvsize(&format!("{} -e llama.cpp -s 8192 --ctx-size 8192", path.display()))
        .stderr("error: --seq-len: 8192 is given together with --ctx-size, which fixes it; leave one of them out\n")
        .status(2);
    kvsize(&format!("{} -e llama.cpp -b 2 --parallel 2", path.display()))
        .stderr("error: --batch: 2 is given together with --parallel, which fixes it; leave one of them out\n")
        .status(2);
    kvsize(&format!("{} -e transformers --batch-size 2", path.display()))
        .stderr(
            "error: --batch-size: applies to llama.cpp, not to transformers; the number of sequences is --batch; \
             n_batch needs --engine llama.cpp\n",
        )
        .status(2);
}

#[test]
fn every_model_of_the_catalogue_is_answered_or_refused_with_a_reason() {
    let mut refused = Vec::new();
    for entry in catalogue::models(&[]) {
        let model = resolve(&entry.names[0]).unwrap();
        let workload = Workload { encoder_len: Some(Tokens(100)), ..Workload::of(Tokens(10_000), 1) };
        let answer = match with(&[]).answer(&model, &workload) {
            Ok(answer) => answer,
            Err(error) => {
                assert!(error.to_string().contains("(llama.cpp); "), "{error}");
                refused.push(entry.names[0].clone());
                continue;
            }
        };
        let f16 = Workload { kv_dtype: ElementFormat::FP16.into(), ..workload };
        let ideal = estimate(&model, &f16).unwrap();
        let gaps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
        assert_eq!(gaps, i128::from(answer.estimate.bytes.0) - i128::from(ideal.bytes.0), "{}", model.name);
        // What is taken for granted of the architecture is said.
        assert!(!answer.assumptions.is_empty() || !answer.warnings.is_empty(), "{}", model.name);
    }
    assert_eq!(refused, ["minicpm3-4b", "rwkv-4-7b-pile"]);
}

/// The samples that are cases, too, through the program: one run of each kind of request, and one that is refused.
#[test]
fn the_program_equals_what_libllama_allocated_for_each_sample() {
    let (mut compared, mut refused) = (0, 0);
    for case in golden_data("llamacpp.json")["cases"].as_array().unwrap() {
        let path = golden(&format!("gguf/{}.hdr.gguf", case["model"].as_str().unwrap()));
        if !path.exists() {
            continue;
        }
        let runs = case["runs"].as_array().unwrap();
        let wanted: [&dyn Fn(&&Value) -> bool; 5] = [
            &|run| run["request"]["kv_unified"] == true,
            &|run| run["request"]["swa_full"] == true,
            &|run| run["request"]["flash_attn"] == 0 && run["expect"]["refused"].is_null(),
            &|run| run["request"]["n_ubatch"] != 512 && run["request"]["type_k"] != "f16",
            &|run| !run["expect"]["refused"].is_null(),
        ];
        for run in wanted.iter().filter_map(|wanted| runs.iter().find(wanted)) {
            let request = &run["request"];
            let text = |key: &str| request[key].as_str().map_or_else(|| request[key].to_string(), ToOwned::to_owned);
            let mut arguments = format!(
                "{} -e llama.cpp --ctx-size {} --parallel {} --batch-size {} --ubatch-size {} --cache-type-k {} \
                 --cache-type-v {} --flash-attn {} --json -q",
                path.display(),
                text("n_ctx"),
                text("n_seq_max"),
                text("n_batch"),
                text("n_ubatch"),
                text("type_k"),
                text("type_v"),
                if request["flash_attn"] == 1 { "on" } else { "off" },
            );
            for (key, flag) in [("kv_unified", " --kv-unified"), ("swa_full", " --swa-full")] {
                if request[key] == true {
                    arguments += flag;
                }
            }
            let expected = &run["expect"];
            if expected["refused"].is_null() {
                let document: Value = serde_json::from_str(&kvsize(&arguments).output()).unwrap();
                let [row] = document["estimates"].as_array().unwrap().as_slice() else { panic!("{document}") };
                let facts = &row["llama_cpp"];
                assert_eq!(
                    (&row["bytes"], &facts["n_ctx"], &facts["n_ctx_seq"], &facts["parts"]),
                    (&expected["bytes"], &expected["n_ctx"], &expected["n_ctx_seq"], &expected["parts"]),
                    "{arguments}"
                );
                compared += 1;
            } else {
                let text = kvsize(&arguments).text();
                assert!(text.contains("\"code\":\"refused\"") && text.ends_with("--- status 2\n"), "{text}");
                refused += 1;
            }
        }
    }
    assert_eq!((compared, refused), (61, 11));
}
