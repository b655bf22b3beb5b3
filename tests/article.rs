use crate::harness::kvsize;

/// What the article's script prints, as the article shows it.
const SCRIPT_OUTPUT: &str = "\
KV-Cache Memory Estimates for Llama 4-Scout-17B (FP16):
       1,000 tokens →   0.123 GB
      10,000 tokens →   1.229 GB
   1,000,000 tokens → 122.880 GB
  10,000,000 tokens → 1228.800 GB

KV-Cache Memory Estimates for Llama 4-Scout-17B (FP8):
       1,000 tokens →   0.061 GB
      10,000 tokens →   0.614 GB
   1,000,000 tokens →  61.440 GB
  10,000,000 tokens → 614.400 GB
";

#[test]
fn plain_is_the_script_s_output_and_nothing_else() {
    kvsize("article -f plain").stdout(SCRIPT_OUTPUT).status(0);
}

#[test]
fn the_same_numbers_come_from_the_same_dimensions() {
    kvsize("--layers 48 --hidden-size 5120 --kv-heads 8 --name Llama/4-Scout-17B -f plain --quiet")
        .stdout(&SCRIPT_OUTPUT.replace("Llama 4-Scout", "Llama/4-Scout"))
        .status(0);
    insta::assert_snapshot!(kvsize("--layers 48 --hidden-size 5120 --kv-heads 8").text());
}

#[test]
fn the_article_stands_beside_the_real_model() {
    insta::assert_snapshot!(kvsize("article").text());
    insta::assert_snapshot!("article_markdown", kvsize("article -f markdown").text());
    insta::assert_snapshot!("article_csv", kvsize("article -f csv").text());
}

#[test]
fn as_json_it_is_both_models() {
    let document: serde_json::Value = serde_json::from_str(&kvsize("article --json").output()).unwrap();
    assert_eq!(document["schema"], "kvsize.article/1");
    let models: Vec<&str> =
        document["models"].as_array().unwrap().iter().map(|model| model["name"].as_str().unwrap()).collect();
    assert_eq!(models, ["Llama 4-Scout-17B", "meta-llama/Llama-4-Scout-17B-16E-Instruct"]);
    let bytes = |model: &str| {
        let rows = document["estimates"].as_array().unwrap().iter().filter(|row| row["model"] == model);
        rows.map(|row| row["bytes"].as_u64().unwrap()).collect::<Vec<_>>()[6]
    };
    assert_eq!([bytes(models[0]), bytes(models[1])], [1_228_800_000_000, 492_727_959_552]);
}
