//! Ids of the hub in its local cache: found as its own programs find them, without the network.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::gguf_file::Writer;
use crate::harness::{Run, kvsize};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";
const LLAMA: &str = r#"{"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 8,
    "num_key_value_heads": 8, "torch_dtype": "bfloat16", "max_position_embeddings": 1000}"#;

/// A directory of our own, gone in the end.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kvsize-{}-hub-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cached(cache: &Path, arguments: &str) -> Run {
    kvsize(&format!("{arguments} --offline")).env("HF_HUB_CACHE", cache)
}

fn layers(run: Run) -> u64 {
    let document: Value = serde_json::from_str(&run.output()).unwrap();
    document["models"][0]["layer_groups"][0]["layers"].as_u64().unwrap()
}

/// A configuration with so many layers.
fn config(layers: u64) -> String {
    let mut config: Value = serde_json::from_str(LLAMA).unwrap();
    config["num_hidden_layers"] = json!(layers);
    config.to_string()
}

#[test]
fn a_revision_leads_to_a_snapshot() {
    let cache = Scratch::new("revisions");
    cache
        .write("models--org--name/refs/main", format!("{COMMIT}\n"))
        .write("models--org--name/refs/refs/pr/1", OTHER)
        .write(&format!("models--org--name/snapshots/{COMMIT}/config.json"), config(1))
        .write(&format!("models--org--name/snapshots/{OTHER}/config.json"), config(2));
    for (id, expected) in [
        ("org/name", 1),
        ("org/name@main", 1),
        ("org/name@refs/pr/1", 2),
        (&format!("org/name@{COMMIT}"), 1),
        (&format!("org/name@{OTHER}"), 2),
    ] {
        assert_eq!(layers(cached(&cache.0, &format!("{id} --json -s 1"))), expected, "{id}");
    }
    let document: Value = serde_json::from_str(&cached(&cache.0, "org/name --json").output()).unwrap();
    assert_eq!(document["models"][0]["name"], "org/name");
    assert_eq!(document["models"][0]["source"], "config");
}

#[test]
fn the_cache_is_where_the_hub_s_own_programs_have_it() {
    let scratch = Scratch::new("variables");
    for (index, directory) in
        ["a", "b", "home/hub", "xdg/huggingface/hub", "user/.cache/huggingface/hub"].iter().enumerate()
    {
        let layers = u64::try_from(index).unwrap() + 1;
        scratch
            .write(&format!("{directory}/models--org--name/refs/main"), COMMIT)
            .write(&format!("{directory}/models--org--name/snapshots/{COMMIT}/config.json"), config(layers));
    }
    let order = [
        ("HF_HUB_CACHE", "a"),
        ("HUGGINGFACE_HUB_CACHE", "b"),
        ("HF_HOME", "home"),
        ("XDG_CACHE_HOME", "xdg"),
        ("HOME", "user"),
    ];
    for first in 0..order.len() {
        let run = kvsize("org/name --offline --json -s 1").without_env("HF_HOME");
        let run = order[first..].iter().fold(run, |run, (name, path)| run.env(name, scratch.0.join(path)));
        // A variable that is set to nothing is as good as none.
        let run = order[..first].iter().fold(run, |run, (name, _)| run.env(name, ""));
        assert_eq!(layers(run), u64::try_from(first).unwrap() + 1, "{}", order[first].0);
    }
    let home = kvsize("org/name --offline --json -s 1").env("HOME", scratch.0.join("user"));
    assert_eq!(layers(home.env("HF_HOME", "~/.cache/huggingface")), 5);
}

#[test]
fn a_snapshot_is_read_as_any_directory() {
    let cache = Scratch::new("snapshot");
    let snapshot = |file: &str| format!("models--org--name/snapshots/{COMMIT}/{file}");
    cache.write("models--org--name/refs/main", COMMIT).write(&snapshot("config.json"), LLAMA);
    cache.write(
        &snapshot("hf_quant_config.json"),
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}"#,
    );
    let arguments = "--json -s 1k -e vllm";
    let path = cache.0.join(snapshot(""));
    let by_path = kvsize(&format!("{} {arguments}", path.display())).data();
    assert_eq!(cached(&cache.0, &format!("org/name {arguments}")).data(), by_path);
    assert!(by_path.contains(r#""kv_dtype_resolved": "fp8_e4m3""#), "{by_path}");
}

#[test]
fn a_gguf_file_is_named_after_a_colon() {
    let cache = Scratch::new("gguf");
    let header = |blocks: u32| {
        let metadata = json!({
            "llama.block_count": blocks, "llama.context_length": 1000, "llama.embedding_length": 64,
            "llama.attention.head_count": 8, "llama.attention.head_count_kv": 8,
        });
        Writer::with("llama", &metadata).bytes()
    };
    let snapshot = |file: &str| format!("models--org--name-GGUF/snapshots/{COMMIT}/{file}");
    cache
        .write("models--org--name-GGUF/refs/main", COMMIT)
        .write(&snapshot("name-Q4_K_M.gguf"), header(1))
        .write(&snapshot("mmproj-F16.gguf"), header(9));
    let asked = |id: &str| layers(cached(&cache.0, &format!("{id} --json -s 1")));
    assert_eq!(asked("org/name-GGUF"), 1);
    cache
        .write(&snapshot("name-Q8_0.gguf"), header(2))
        .write(&snapshot("BF16/name-BF16-00001-of-00002.gguf"), header(3))
        .write(&snapshot("BF16/name-BF16-00002-of-00002.gguf"), header(3));
    assert_eq!(asked("org/name-GGUF:Q4_K_M"), 1);
    assert_eq!(asked("org/name-GGUF:name-Q8_0.gguf"), 2);
    assert_eq!(asked("org/name-GGUF:bf16"), 3);
    assert_eq!(asked("org/name-GGUF@main:BF16/name-BF16-00002-of-00002.gguf"), 3);
    cached(&cache.0, "org/name-GGUF")
        .stderr(&format!(
            "error: {}: 2 GGUF files are there; name one of them: name-Q4_K_M.gguf, name-Q8_0.gguf\n",
            cache.0.join(snapshot("")).display().to_string().trim_end_matches('/')
        ))
        .status(2);
    let path = cache.0.join(snapshot(""));
    cached(&cache.0, "org/name-GGUF:Q2_K")
        .stderr(&format!(
            "error: org/name-GGUF:Q2_K: {} in the cache does not have that file, or several like it, and --offline is set; leave --offline out, or fetch the model's files into the cache first\n",
            path.display().to_string().trim_end_matches('/')
        ))
        .status(2);
}

/// What is said of an id that is not cached, when `by` forbids to ask.
fn offline(id: &str, miss: &str, by: &str) -> String {
    format!(
        "error: {id}: {miss}, and {by} is set; leave {by} out, or fetch the model's files into the \
         cache first\n"
    )
}

#[test]
fn what_is_not_cached_is_said_with_what_was_tried() {
    let cache = Scratch::new("offline");
    cache
        .write("models--org--name/refs/main", COMMIT)
        .write("models--org--empty/refs/main", COMMIT)
        .write(&format!("models--org--empty/snapshots/{COMMIT}/tokenizer.json"), "{}")
        .write("models--org--evil/refs/main", "../../../models--org--name")
        .write("models--org--long/refs/main", COMMIT.repeat(100))
        .write("models--org--directory/refs/main/x", COMMIT);
    let shown = cache.0.display();
    let other = format!("the cache {shown} has other revisions of it only");
    for (id, miss) in [
        ("org/zzz", &format!("not a file, not in the catalogue, not in the cache {shown}")),
        ("org/name", &other),
        ("org/name@v2", &other),
        ("org/evil", &other),
        ("org/long", &other),
        ("org/directory", &other),
        (&format!("org/name@{OTHER}"), &other),
        (
            "org/empty",
            &format!("{shown}/models--org--empty/snapshots/{COMMIT} in the cache has no config.json and no GGUF file"),
        ),
    ] {
        cached(&cache.0, id).stderr(&offline(id, miss, "--offline")).status(2);
    }
    let run = kvsize("org/zzz").env("HF_HUB_CACHE", &cache.0).env("HF_HUB_OFFLINE", "1");
    run.stderr(&offline(
        "org/zzz",
        &format!("not a file, not in the catalogue, not in the cache {shown}"),
        "HF_HUB_OFFLINE",
    ))
    .status(2);
    let run = kvsize("org/zzz --json").env("HF_HUB_CACHE", &cache.0).env("TRANSFORMERS_OFFLINE", "yes").text();
    assert!(run.contains(r#""code":"offline","field":"org/zzz""#) && run.contains("TRANSFORMERS_OFFLINE"), "{run}");
    // Names that could have been meant are offered.
    let text = cached(&cache.0, "meta-llama/Llama-3.1-9B").text();
    assert!(text.contains("nearest names: ") && text.contains("llama-3.1-8b"), "{text}");
}

#[test]
#[cfg(unix)]
fn links_are_followed_and_loops_end() {
    use std::os::unix::fs::symlink;
    let cache = Scratch::new("links");
    let repository = |name: &str| cache.0.join(format!("models--org--{name}"));
    let snapshot = |name: &str| repository(name).join("snapshots").join(COMMIT);
    cache.write("models--org--real/refs/main", COMMIT).write("models--org--real/blobs/abc", config(3));
    fs::create_dir_all(snapshot("real")).unwrap();
    symlink("../../blobs/abc", snapshot("real").join("config.json")).unwrap();
    let document: Value = serde_json::from_str(&cached(&cache.0, "org/real --json -s 1").output()).unwrap();
    assert_eq!(
        (&document["models"][0]["name"], &document["models"][0]["layer_groups"][0]["layers"]),
        (&json!("org/real"), &json!(3))
    );

    for (name, target) in [("loop", "config.json"), ("gone", "../../blobs/gone")] {
        cache.write(&format!("models--org--{name}/refs/main"), COMMIT);
        fs::create_dir_all(snapshot(name)).unwrap();
        let link = snapshot(name).join("config.json");
        symlink(target, &link).unwrap();
        let id = format!("org/{name}");
        let miss = format!("the link {} in the cache leads nowhere", link.display());
        cached(&cache.0, &id).stderr(&offline(&id, &miss, "--offline")).status(2);
    }
    let other = format!("the cache {} has other revisions of it only", cache.0.display());
    cache.write(&format!("models--org--reference/snapshots/{COMMIT}/config.json"), LLAMA);
    fs::create_dir_all(repository("reference").join("refs")).unwrap();
    symlink("main", repository("reference").join("refs/main")).unwrap();
    cached(&cache.0, "org/reference").stderr(&offline("org/reference", &other, "--offline")).status(2);

    cache.write("models--org--snapshot/refs/main", COMMIT).write("models--org--snapshot/snapshots/x", "");
    symlink(COMMIT, snapshot("snapshot")).unwrap();
    cached(&cache.0, "org/snapshot").stderr(&offline("org/snapshot", &other, "--offline")).status(2);

    // A directory that leads back to its own snapshot holds no file again and again.
    cache.write("models--org--round/refs/main", COMMIT);
    fs::create_dir_all(snapshot("round")).unwrap();
    symlink(".", snapshot("round").join("again")).unwrap();
    let miss = format!("{} in the cache has no config.json and no GGUF file", snapshot("round").display());
    cached(&cache.0, "org/round").stderr(&offline("org/round", &miss, "--offline")).status(2);
}

#[test]
fn the_catalogue_stands_before_the_cache_but_knows_no_revisions() {
    let cache = Scratch::new("catalogue");
    cache
        .write("models--meta-llama--Llama-3.1-8B/refs/main", COMMIT)
        .write(&format!("models--meta-llama--Llama-3.1-8B/snapshots/{COMMIT}/config.json"), config(7));
    assert_eq!(layers(cached(&cache.0, "meta-llama/Llama-3.1-8B --json -s 1")), 32);
    assert_eq!(layers(cached(&cache.0, "meta-llama/Llama-3.1-8B@main --json -s 1")), 7);
    cached(&cache.0, "llama-3.1-8b@main")
        .stderr(
            "error: MODEL: llama-3.1-8b@main is unknown: not a file, not in the catalogue; try a Hugging Face id such as meta-llama/Llama-3.1-8B, or: llama-3.1-8b, \
             llama-3-8b, llama-3.1-70b (`kvsize models` lists all)\n",
        )
        .status(2);
}

#[test]
#[cfg(not(feature = "hub"))]
fn without_a_client_only_the_cache_is_looked_into() {
    kvsize("org/zzz")
        .stderr(
            "error: org/zzz: not a file, not in the catalogue, not in the cache /nonexistent/hub, and this program was built without \
             the feature hub; build it with that feature, or fetch the model's files into the cache\n",
        )
        .status(2);
}
