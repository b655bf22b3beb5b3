use kvsize::engine::PROFILES;

use crate::harness::kvsize;

#[test]
fn models_and_formats_are_listed() {
    insta::assert_snapshot!("models", kvsize("models").text());
    insta::assert_snapshot!("formats", kvsize("formats").text());
}

#[test]
fn a_pattern_narrows_them_down() {
    kvsize("models QWEN3-3 -f plain").stdout("qwen3-30b-a3b\nqwen3-32b\n").status(0);
    kvsize("formats e5m2 -f csv")
        .stdout("Format,Bits,What it is\n\"fp8_e5m2, e5m2\",8.00,\"8-bit float, 5 bits of exponent\"\n")
        .status(0);
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
