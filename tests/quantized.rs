//! Quantised caches: against tensors that transformers really made, and to their stated definitions.

use std::fs;

use kvsize::engine::{Answer, Engine, SettingValue};
use kvsize::estimate::{Workload, estimate};
use kvsize::model::{Model, ModelSpec};
use kvsize::units::{Code, ElementFormat, KvDtype, Tokens};
use serde_json::Value;

use crate::harness::{golden, kvsize};

/// One layer of these heads.
fn model(kv_heads: u64, head_dim: u64) -> Model {
    let spec =
        ModelSpec { layers: Some(1), kv_heads: Some(kv_heads), head_dim: Some(head_dim), ..ModelSpec::default() };
    spec.model().unwrap()
}

/// transformers with these settings, each a name and a value as typed.
fn transformers(settings: &[(&'static str, String)]) -> Engine {
    let mut engine: Engine = "transformers".parse().unwrap();
    for (name, text) in settings {
        let value: SettingValue = engine.setting(name).unwrap().read(text).unwrap();
        engine.settings.set(name, value);
    }
    engine
}

/// The steps from the ideal bytes in the stored format add up.
fn assert_steps(model: &Model, workload: &Workload, answer: &Answer) {
    let stored = Workload { kv_dtype: KvDtype::Given(answer.estimate.stored), ..*workload };
    let ideal = estimate(model, &stored).unwrap().bytes.0;
    let steps: i128 = answer.gaps.iter().map(|gap| gap.bytes).sum();
    assert_eq!(i128::from(answer.estimate.bytes.0), i128::from(ideal) + steps, "{workload:?}");
}

#[test]
fn transformers_equals_what_its_quantised_caches_hold() {
    let rows: Value =
        serde_json::from_str(&fs::read_to_string(golden("transformers-quantized.json")).unwrap()).unwrap();
    let (mut compared, mut refused) = (0, 0);
    for row in rows["rows"].as_array().unwrap() {
        let number = |name: &str| row[name].as_u64().unwrap();
        let backend = row["backend"].as_str().unwrap();
        let mut settings = Vec::new();
        if backend == "dynamic" {
            settings.push(("cache", "dynamic".to_owned()));
        } else {
            settings.extend([("cache", "quantized".to_owned()), ("cache-backend", backend.to_owned())]);
            settings.push(("decoded", row["decoded"].to_string()));
        }
        let names = [
            ("nbits", "nbits"),
            ("axis-key", "axis_key"),
            ("axis-value", "axis_value"),
            ("q-group-size", "q_group_size"),
            ("residual-length", "residual_length"),
        ];
        settings.extend(
            names.iter().filter(|(_, key)| row.get(key).is_some()).map(|(name, key)| (*name, row[key].to_string())),
        );
        let model = model(number("kv_heads"), number("head_dim"));
        assert_eq!((number("layers"), row["model_dtype"].as_str()), (1, Some("bfloat16")));
        let workload = Workload {
            kv_dtype: ElementFormat::BF16.into(),
            ..Workload::of(Tokens(number("seq_len")), number("batch"))
        };
        let answer = transformers(&settings).answer(&model, &workload);
        if row.get("error").is_some() {
            assert_eq!(answer.unwrap_err().code, Code::Refused, "{row}");
            refused += 1;
            continue;
        }
        let answer = answer.unwrap_or_else(|error| panic!("{row}: {error}"));
        assert_eq!(answer.estimate.bytes.0, number("bytes"), "{row}");
        assert_steps(&model, &workload, &answer);
        compared += 1;
    }
    assert_eq!((compared, refused), (129, 1));
}

/// What transformers, quanto and hqq refuse is refused, with a remedy.
#[test]
fn what_a_quantised_cache_does_not_take_is_refused() {
    for (arguments, message) in [
        (
            "--cache quantized --q-group-size 48 -s 1000",
            "--q-group-size: 48 does not divide the 1024000 elements that are grouped at 1000 tokens (transformers); use a \
             group size that does",
        ),
        (
            "--cache quantized --axis-key -1 --axis-value -1 -s 1001 -b 3",
            "--q-group-size: 64 does not divide the 24024 elements that are grouped at 1001 tokens (transformers); use a \
             group size that does",
        ),
        (
            "-d hqq_int1 --axis-key 1 --q-group-size 1024 -s 1",
            "--q-group-size: 1024 makes 1 rows at 1 tokens, and hqq packs 8 into one (transformers); use a group size that \
             makes a multiple",
        ),
        (
            "--cache quantized --nbits 8",
            "--nbits: 8 is not a width of the quanto backend (transformers); use 2 or 4, or \
             --cache-backend hqq",
        ),
        ("-d hqq_int4 --nbits 5", "--nbits: 5 is not the bits of hqq_int4 (transformers); leave one of them out"),
        (
            "--cache quantized --cache-backend hqq --nbits 5",
            "--nbits: 5 is not a width of the hqq backend (transformers); use 1, 2, 3, 4 or 8",
        ),
        (
            "-d quanto_int4 --cache-backend hqq",
            "--cache-backend: hqq does not make quanto_int4 (transformers); leave one of them out",
        ),
        (
            "--cache quantized --axis-key 1",
            "--axis-key: 1 is not an axis of the quanto backend (transformers); use 0 or -1",
        ),
        (
            "-d hqq_int4 --axis-value -1",
            "--axis-value: -1 is not an axis of the hqq backend (transformers); use 0 or 1",
        ),
        (
            "--cache quantized --cache-backend fp8 --residual-length 0",
            "--residual-length: 0 is not supported by the fp8 backend, which quantizes per tensor (transformers); leave it \
             out, or use --cache-backend quanto or hqq",
        ),
        (
            "-d hqq_int3 --axis-value 1 --decoded 1",
            "--decoded: 1 can't follow a prompt in 3 bits on axis 1, which hqq does not read back (transformers); use axis \
             0, or leave it out",
        ),
        (
            "--cache quantized --decoded 1024",
            "--decoded: 1024 leaves no prompt of 1024 tokens (transformers); give fewer than the sequence has",
        ),
        (
            "--nbits 4",
            "--nbits: 4 is an argument of its quantized cache (transformers); add --cache quantized, or leave it out",
        ),
        (
            "--cache static -d quanto_int4",
            "--kv-dtype: quanto_int4 is a format of its quantized cache, not of the static one (transformers); leave --cache \
             out, or use --cache quantized",
        ),
        (
            "--cache quantized -d q8_0",
            "--kv-dtype: q8_0 is not a format of the model under its quantized cache (transformers); use fp32, fp16 or bf16 \
             for the model, and --cache-backend and --nbits",
        ),
        (
            "--cache quantized --tp 2",
            "--tp: 2 divides a model that transformers keeps whole here (transformers); leave it out, or name another engine",
        ),
    ] {
        let length = if arguments.contains("-s ") { "" } else { "-s 1024" };
        kvsize(&format!("--layers 1 --kv-heads 8 --head-dim 128 -e transformers {length} {arguments}"))
            .stderr(&format!("error: {message}\n"))
            .status(2);
    }
    for (config, kind) in [
        ("google--gemma-3-1b-it.json", "sliding_attention"),
        ("meta-llama--Llama-4-Scout-17B-16E-Instruct.json", "chunked_attention"),
    ] {
        kvsize(&format!("{config} -e transformers -s 1024 --cache quantized"))
            .stderr(&format!(
                "error: --cache: quantized is not supported for a model with {kind}: every layer must be full attention \
                 (transformers); use dynamic, or another format\n"
            ))
            .status(2);
    }
}

/// Latents, several layers, decoded tokens past many windows, and other formats of the model.
#[test]
fn rules_beyond_what_was_replayed() {
    let answer = |model: &Model, settings: &[(&'static str, &str)], format: &str, seq_len, batch| {
        let settings: Vec<_> = settings.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        let workload = Workload { kv_dtype: format.parse().unwrap(), ..Workload::of(Tokens(seq_len), batch) };
        let answer = transformers(&settings).answer(model, &workload).unwrap();
        assert_steps(model, &workload, &answer);
        answer.estimate.bytes.0
    };
    let heads = model(8, 128);
    // 1,024 of the prompt and 3 x 128 are quantised, 5 are not; of a residual of 0 or 1 none is left.
    let (quantised, plain) = (2048 * (4 * 64 + 32) / 64 / 8, 2048 * 2);
    for (residual, decoded, left) in [("128", "389", 5), ("0", "389", 0), ("1", "389", 0), ("1024", "389", 389)] {
        let settings = [("decoded", decoded), ("residual-length", residual)];
        let seq_len = 1024 + 389;
        let expected = (seq_len - left) * quantised + left * plain;
        assert_eq!(answer(&heads, &settings, "quanto_int4", seq_len, 1), expected, "{residual}");
    }
    // Scales are in the model's format.
    let fp32 = answer(&heads, &[("cache", "quantized")], "fp32", 1024, 1);
    assert_eq!(fp32, 1024 * 2048 * (4 * 64 + 64) / 64 / 8);
    // K of 512 and V of 64, and two scales for each of 61 layers in FP8.
    let latent = kvsize("deepseek-ai--DeepSeek-V3.json -e transformers -s 1000 -d fp8_e4m3 --json").output();
    assert!(latent.contains(&(61 * (1000 * 576 + 8)).to_string()), "{latent}");
}

/// What `auto` comes to where the checkpoint declares a scheme, and that it is said.
#[test]
fn auto_is_what_the_engine_makes_of_the_checkpoint() {
    let fp8 = |engine, declared| format!("{engine}: auto is fp8_e4m3: the checkpoint declares {declared}");
    let algorithm = "kv_cache_quant_algo FP8";
    for (config, engine, kv_dtype, said) in [
        ("nvidia--Qwen3-235B-A22B-NVFP4", "vllm", "fp8_e4m3", fp8("vllm", algorithm)),
        ("nvidia--Qwen3-235B-A22B-NVFP4", "sglang", "fp8_e4m3", fp8("sglang", algorithm)),
        (
            "nvidia--Qwen3-235B-A22B-NVFP4",
            "transformers",
            "bf16",
            format!("transformers: auto is bf16: transformers does not read the {algorithm} of this checkpoint"),
        ),
        (
            "handwritten--Llama-3.1-8B-compressed-tensors-fp8kv.json",
            "vllm",
            "fp8",
            "vllm: auto is fp8: the checkpoint declares kv_cache_scheme of 8-bit float".to_owned(),
        ),
        (
            "nvidia--DeepSeek-V3.2-NVFP4",
            "sglang --gpu h100-sxm --memory 40GiB",
            "bf16",
            "sglang: auto is bf16: SGLang's own choice for this class and device".to_owned(),
        ),
        (
            "nvidia--DeepSeek-V4-Flash-NVFP4.json",
            "vllm",
            "fp8_ds_mla",
            "vllm: auto is fp8_ds_mla: vLLM's own choice for this type of model and device".to_owned(),
        ),
    ] {
        let text = kvsize(&format!("{config} -s 4096 -e {engine} -d auto --json")).data();
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["estimates"][0]["kv_dtype_resolved"], kv_dtype, "{config} {engine}");
        assert!(
            answer["assumptions"].as_array().unwrap().contains(&said.clone().into()),
            "{said}: {}",
            answer["assumptions"]
        );
        // What is asked for by name is no matter of the checkpoint's.
        if kv_dtype == "fp8_ds_mla" {
            continue;
        }
        let text = kvsize(&format!("{config} -s 4096 -e {engine} -d bf16 --json")).data();
        assert!(!text.contains("auto is"), "{text}");
    }
}

proptest::proptest! {
    /// Any numbers are an answer whose steps add up, or an error.
    #[test]
    fn any_quantised_cache_is_an_answer_or_an_error(
        (seq_len, batch, heads, dim) in (1..3000u64, 1..4u64, 1..9u64, 1..200u64),
        (nbits, size, residual, decoded) in (1..9u64, 1..130u64, 0..200u64, 0..3000u64),
        (backend, axis) in (0..2usize, 0..3usize),
    ) {
        let settings = [
            ("cache", "quantized".to_owned()),
            ("cache-backend", ["quanto", "hqq"][backend].to_owned()),
            ("nbits", nbits.to_string()),
            ("q-group-size", size.to_string()),
            ("residual-length", residual.to_string()),
            ("decoded", decoded.to_string()),
            ("axis-key", ["0", "1", "-1"][axis].to_owned()),
        ];
        let (model, workload) = (model(heads, dim), Workload::of(Tokens(seq_len), batch));
        if let Ok(answer) = transformers(&settings).answer(&model, &workload) {
            assert_steps(&model, &workload, &answer);
        }
    }
}

/// KIVI by its definition: of 4,196 tokens 4,196 mod 128 = 100 of K and 128 of V are in 16 bits, the rest in 2 or 4 bits with a
/// scale and a zero of 16 bits for 32.
#[test]
fn kivi_is_as_defined() {
    let heads = model(8, 128);
    for (format, bits, seq_len, of_k, of_v) in [
        ("kivi_int2", 3, 4196, 100, 128),
        ("kivi_int4", 5, 4196, 100, 128),
        ("kivi_int2", 3, 4096, 0, 128),
        ("kivi_int2", 3, 100, 100, 100),
        ("kivi_int2", 3, 128, 0, 128),
    ] {
        let workload = Workload { kv_dtype: format.parse().unwrap(), ..Workload::of(Tokens(seq_len), 3) };
        let answer = Engine::ideal().answer(&heads, &workload).unwrap();
        let quantised = (2 * seq_len - of_k - of_v) * 1024 * bits / 8;
        assert_eq!(answer.estimate.bytes.0, 3 * (quantised + (of_k + of_v) * 1024 * 2), "{format} {seq_len}");
        assert_eq!(answer.estimate.layer_groups[0].bytes, answer.estimate.bytes);
        assert!(answer.assumptions[0].contains("was not replayed"));
        assert_steps(&heads, &workload, &answer);
    }
    let explained = kvsize("explain meta-llama--Meta-Llama-3.1-70B.json -s 4196 -d kivi_int2").data();
    assert!(explained.contains("the newest 100 tokens of K and 128 of V are in bf16"), "{explained}");
    let one = kvsize("meta-llama--Meta-Llama-3.1-70B.json -s 4196 -d kivi_int2 --json").data();
    let spread = kvsize("meta-llama--Meta-Llama-3.1-70B.json -s 4196 -d kivi_int2 --tp 8 --pp 2 --json").data();
    let bytes =
        |text: &str, name: &str| serde_json::from_str::<Value>(text).unwrap()["estimates"][0][name].as_u64().unwrap();
    assert_eq!(bytes(&one, "bytes"), 16 * bytes(&spread, "bytes_per_gpu"));
    for (arguments, message) in [
        (
            "google--gemma-3-1b-it.json -d kivi_int2",
            "--kv-dtype: kivi_int2 is defined for full attention only, and the model has sliding_attention (ideal); use \
             another format",
        ),
        (
            "--layers 1 --kv-heads 8 --head-dim 80 -d kivi_int4",
            "--kv-dtype: kivi_int4 has groups of 32, which do not divide a head dimension of 80 (ideal); use another format",
        ),
        (
            "--layers 1 --kv-heads 8 --head-dim 128 --k-dtype kivi_int4 --v-dtype fp16",
            "--kv-dtype: kivi_int4/fp16 combines a format of KIVI with another, and KIVI is one scheme for K and V (ideal); \
             use it for both",
        ),
        (
            "--layers 1 --kv-heads 8 --head-dim 128 -d kivi_int4 --shared-prefix 10",
            "--shared-prefix: 10 is not covered by the definition of kivi_int4 (ideal); leave it out",
        ),
        (
            "--layers 1 --kv-heads 8 --head-dim 128 -d kivi_int4 -e transformers",
            "--kv-dtype: kivi_int4 is not a format of its plain caches (transformers); use bf16, fp16 or fp32, or --cache \
             quantized",
        ),
    ] {
        kvsize(&format!("{arguments} -s 1000")).stderr(&format!("error: {message}\n")).status(2);
    }
}

#[test]
fn odd_settings_are_said() {
    let flags = "--layers 1 --kv-heads 8 --head-dim 128 -e transformers -d quanto_int4";
    kvsize(&format!("{flags} -s 1024 --residual-length 4096"))
        .stderr(
            "error: --residual-length: 4096 is longer than the sequences (1024): no decoded token would be quantised \
             (transformers); give at most --seq-len, or leave it out\n",
        )
        .status(2);
    kvsize("--layers 1 --kv-heads 1 --head-dim 64 -e transformers -d quanto_int4 -s 1")
        .stderr(
            "error: --q-group-size: 64 makes one group of all, for which quanto keeps other scales (transformers); use a \
             smaller one\n",
        )
        .status(2);
    // A quantised cache is told beside plain ones and beside other engines.
    let text = kvsize(&format!("{flags},fp16 -s 1024 -f csv")).data();
    assert!(text.contains("quanto_int4") && text.contains("fp16"), "{text}");
}
