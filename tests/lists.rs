use kvsize::engine::{Engine, PROFILES};
use kvsize::estimate::Workload;
use kvsize::model::ModelSpec;
use kvsize::source::resolve;
use kvsize::units::{FORMATS, KvDtype, PAIRS, Tokens};

use crate::harness::{golden, kvsize};

#[test]
fn models_and_formats_are_listed() {
    insta::assert_snapshot!("models", kvsize("models").text());
    insta::assert_snapshot!("formats", kvsize("formats").text());
}

#[test]
fn a_pattern_narrows_them_down() {
    kvsize("models QWEN3-VL-3 -f plain")
        .stdout("qwen3-vl-32b\nqwen3-vl-30b-a3b\nqwen3-vl-30b-a3b-thinking\nqwen3-vl-32b-thinking\n")
        .status(0);
    kvsize("formats e5m2 -f csv")
        .stdout(
            "Format,Bits an element,What it is,Aliases,Engines,Source\nfp8_e5m2,8,\"float, 5 bits of \
             exponent\",e5m2,vllm sglang,OCP 8-bit floating point specification 1.0\n",
        )
        .status(0);
}

#[test]
fn formats_fit_a_terminal_and_tell_who_takes_them() {
    let text = kvsize("formats").output();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let listing: serde_json::Value = serde_json::from_str(&kvsize("formats --json").output()).unwrap();
    let items = listing["items"].as_array().unwrap();
    for (name, bits, engines) in [
        ("fp16", 16.0, &["vllm", "llama.cpp", "ollama", "sglang", "transformers", "tensorrt-llm"][..]),
        ("q5_1", 6.0, &["llama.cpp"]),
        ("int8_per_token_head", 8.25, &["vllm"]),
        ("turboquant_4bit_nc", 4.1875, &["vllm"]),
        ("mxfp8", 8.25, &["sglang"]),
        ("int4", 4.0, &[]),
    ] {
        let item = items.iter().find(|item| item["name"] == name).unwrap();
        assert_eq!((&item["bits_per_element"], &item["engines"]), (&bits.into(), &engines.into()), "{name}");
    }
}

/// What `kvsize formats` says an engine takes is what it takes: any other is refused for itself, and none of them is.
#[test]
fn engines_take_the_formats_that_are_listed_as_theirs() {
    let spec = ModelSpec { layers: Some(2), kv_heads: Some(8), head_dim: Some(128), ..ModelSpec::default() };
    let llama = resolve(golden("configs/meta-llama--Meta-Llama-3.1-70B.json").to_str().unwrap());
    // In fp16 and in bf16: SGLang keeps only a model that is in fp16 in fp16.
    let models = [spec.model().unwrap(), llama.unwrap()];
    for profile in PROFILES.iter().filter(|profile| !profile.formats.is_empty()) {
        let formats = FORMATS.iter().map(|entry| (entry.name, entry.format().into()));
        for (name, format) in formats.chain(PAIRS.iter().map(|pair| (pair.name, pair.format()))) {
            let workload = Workload { kv_dtype: KvDtype::Given(format), ..Workload::of(Tokens(1024), 1) };
            let unknown = models.iter().all(|model| {
                let said = Engine::new(profile).answer(model, &workload).map_err(|refusal| refusal.to_string());
                let unknown = ["is not a format", "is not one of its formats"];
                said.is_err_and(|text| unknown.iter().any(|words| text.contains(words)))
            });
            assert_ne!(profile.takes(name), unknown, "{} {name}", profile.name);
        }
    }
    let known =
        |name: &&str| FORMATS.iter().any(|entry| entry.name == *name) || PAIRS.iter().any(|pair| pair.name == *name);
    assert!(PROFILES.iter().flat_map(|profile| profile.formats).all(known));
}

#[test]
fn a_pattern_that_matches_nothing_is_said() {
    kvsize("models nosuch -f plain")
        .stderr("note: nothing is named like nosuch: a pattern is a part of a name, in any case\n")
        .status(0);
}

#[test]
fn programs_get_objects() {
    let listing: serde_json::Value = serde_json::from_str(&kvsize("models llama-4-scout --json").output()).unwrap();
    assert_eq!(listing["schema"], "kvsize.models/1");
    assert_eq!(listing["items"][0]["name"], "llama-4-scout");
}

/// Every engine, from its own profile: versions, what it was replayed against and each of its defaults.
#[test]
fn engines_are_listed_with_their_defaults() {
    let text = kvsize("engines").output();
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for profile in PROFILES {
        let says = |words: &str| flat.contains(&words.split_whitespace().collect::<Vec<_>>().join(" "));
        assert!(says(profile.name) && says(profile.about) && says(profile.replayed), "{}", profile.name);
        assert!(says(&profile.versions.join(", ")), "{}", profile.name);
        for (name, value) in profile.defaults {
            assert!(says(&format!("{name} {value}")), "{}: {name}", profile.name);
        }
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let names: String = PROFILES.iter().map(|profile| format!("{}\n", profile.name)).collect();
    kvsize("engines -f plain").stdout(&names).status(0);
    insta::assert_snapshot!("engines", kvsize("engines transformers").text());
}

#[test]
fn engines_are_objects_with_their_settings() {
    let listing: serde_json::Value = serde_json::from_str(&kvsize("engines tensorrt --json").output()).unwrap();
    assert_eq!(listing["schema"], "kvsize.engines/1");
    let engine = &listing["items"][0];
    assert_eq!(engine["defaults"][0], serde_json::json!({"name": "tokens-per-block", "value": "32"}));
    assert_eq!(engine["settings"][0]["value"], "count");
    kvsize("engines nosuch -f plain")
        .stderr("note: nothing is named like nosuch: a pattern is a part of a name, in any case\n")
        .status(0);
}
