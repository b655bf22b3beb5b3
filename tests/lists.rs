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
        .stdout("Format,Bits,Also,What it is\nfp8_e5m2,8.00,e5m2,\"8-bit float, 5 bits of exponent\"\n")
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
