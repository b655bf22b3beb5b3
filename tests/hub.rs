//! Ids of the hub over HTTP, from a server on the loopback address that behaves, and from some that do not.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gguf_file::Writer;
use crate::harness::{Run, figures, kvsize};
use crate::http_server::{Answer, Server};
use crate::hub_cache::Scratch;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG: &str = r#"{"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 8,
    "num_key_value_heads": 8, "torch_dtype": "bfloat16", "max_position_embeddings": 1000}"#;
const CONFIG_PATH: &str = "/org/name/resolve/main/config.json";
const LISTING_PATH: &str = "/api/models/org/name/revision/main";

/// A run that has this server for the hub.
fn ask(server: &Server, arguments: &str) -> Run {
    kvsize(arguments).env("HF_ENDPOINT", format!("http://{}", server.host()))
}

fn refused(server: &Server, message: &str) {
    let message = message.replace("HOST", &server.host());
    ask(server, "org/name").stderr(&format!("error: org/name: {message}\n")).status(2);
}

fn json_of(run: Run) -> Value {
    serde_json::from_str(&run.output()).unwrap()
}

fn listing(names: &[&str]) -> Answer {
    let siblings: Vec<_> = names.iter().map(|name| json!({"rfilename": name})).collect();
    Answer::file(json!({"id": "org/name", "siblings": siblings}).to_string())
}

/// A header with a tokenizer of so many texts, and 64 MiB of weights behind it; and the length of the header.
fn gguf(texts: usize) -> (Vec<u8>, usize) {
    let metadata = json!({
        "llama.block_count": 4, "llama.context_length": 1000, "llama.embedding_length": 64,
        "llama.attention.head_count": 8, "llama.attention.head_count_kv": 8,
    });
    let mut writer = Writer::with("llama", &metadata);
    if texts > 0 {
        writer.key("tokenizer.ggml.tokens", &(0..texts).map(|text| json!(format!("token {text}"))).collect());
    }
    let mut bytes = writer.tensor("blk.0.attn_k.weight", &[64, 64], 0).bytes();
    let len = bytes.len();
    bytes.resize(len + (64 << 20), 0);
    (bytes, len)
}

#[test]
fn an_id_is_answered_from_its_configuration_alone() {
    let pinned = "/org/name/resolve/0123456789abcdef0123456789abcdef01234567/hf_quant_config.json";
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(CONFIG).header("X-Repo-Commit", COMMIT))]);
    let document = json_of(ask(&server, "org/name --json -s 1k"));
    let by_text = json_of(kvsize("- --json -s 1k").stdin(CONFIG));
    assert_eq!(figures(&document), figures(&by_text));
    assert_eq!(document["models"][0]["name"], "org/name");
    // For JSON the weights are looked for, too. Further files are asked for at the commit that the first was from.
    let weights =
        ["model.safetensors", "model.safetensors.index.json"].map(|file| pinned.replace("hf_quant_config.json", file));
    assert_eq!(server.paths(), [CONFIG_PATH, &weights[0], &weights[1], pinned]);
    let before = server.requests().len();
    ask(&server, "org/name -s 1k -f csv").data();
    assert_eq!(server.paths()[before..], [CONFIG_PATH, pinned]);
    assert!(server.requests().iter().all(|request| request.authorization.is_none()));
}

#[test]
fn an_id_is_read_as_the_directory_of_its_files() {
    let quantization =
        r#"{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}"#;
    let directory = Scratch::new("directory");
    directory.write("config.json", CONFIG).write("hf_quant_config.json", quantization);
    let server = Server::of(vec![
        ("/org/name/resolve/refs%2Fpr%2F1/config.json", Answer::file(CONFIG)),
        ("/org/name/resolve/refs%2Fpr%2F1/hf_quant_config.json", Answer::file(quantization)),
    ]);
    let arguments = "--json -s 1k -e vllm";
    let by_path: Value =
        serde_json::from_str(&kvsize(&format!("{} {arguments}", directory.0.display())).data()).unwrap();
    let by_id: Value = serde_json::from_str(&ask(&server, &format!("org/name@refs/pr/1 {arguments}")).data()).unwrap();
    assert_eq!(figures(&by_id), figures(&by_path));
    assert_eq!(by_id["estimates"][0]["kv_dtype_resolved"], "fp8_e4m3");
    // Where the configuration declares it itself, the file beside it is not asked for.
    let declares = CONFIG.replacen('{', r#"{"quantization_config": {"quant_method": "fp8"}, "#, 1);
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(declares))]);
    ask(&server, "explain org/name -s 1k").data();
    assert_eq!(server.paths(), [CONFIG_PATH]);
}

#[test]
fn the_header_of_a_gguf_file_is_received_and_little_more() {
    // 4 MB are 64, 128, 256 and 512 KiB, and three times 1 MiB.
    for (texts, requests) in [(0, 1), (200_000, 7)] {
        let (bytes, header) = gguf(texts);
        let file = Arc::new(bytes);
        let server = Server::of(vec![
            (LISTING_PATH, listing(&["README.md", "mmproj-F16.gguf", "x.gguf"])),
            ("/org/name/resolve/main/x.gguf", Answer::shared(&file)),
        ]);
        let document = json_of(ask(&server, "org/name --json -s 1k"));
        assert_eq!(
            (&document["models"][0]["source"], &document["estimates"][0]["bytes"]),
            (&json!("gguf"), &json!(1_024_000))
        );
        assert!(server.sent() < header + (1 << 20) + 1024, "{} bytes of {header}", server.sent());
        let ranges: Vec<_> = server.requests().iter().filter_map(|request| request.range).collect();
        assert_eq!((ranges.len(), ranges[0]), (requests, (0, 65_535)));
        // No byte comes twice.
        assert!(ranges.windows(2).all(|pair| pair[1].0 > pair[0].1), "{ranges:?}");
    }
}

#[test]
fn a_server_that_sends_all_of_a_file_is_left_after_the_header() {
    let file = Arc::new(gguf(100_000).0);
    let server = Server::of(vec![
        (LISTING_PATH, listing(&["x.gguf"])),
        ("/org/name/resolve/main/x.gguf", Answer::shared(&file).ignoring_ranges()),
    ]);
    let document = json_of(ask(&server, "org/name --json -s 1k"));
    assert_eq!(document["estimates"][0]["bytes"], 1_024_000);
    // What the sockets held on the way is lost.
    assert!(server.sent() < 32 << 20, "{}", server.sent());
    let server = Server::of(vec![
        (LISTING_PATH, listing(&["x.gguf"])),
        ("/org/name/resolve/main/x.gguf", Answer::shared(&file).ignoring_ranges().without_length()),
    ]);
    refused(&server, "HOST does not say how long the file is; check HF_ENDPOINT, or give a config.json");
}

#[test]
fn one_of_several_gguf_files_is_named() {
    let (file, _) = gguf(0);
    let file = Arc::new(file);
    let names = ["x-Q4_K_M.gguf", "x-Q8_0.gguf", "big/x-BF16-00001-of-00002.gguf", "big/x-BF16-00002-of-00002.gguf"];
    let server = Server::of(vec![
        (LISTING_PATH, listing(&names)),
        ("/org/name/resolve/main/x-Q4_K_M.gguf", Answer::shared(&file)),
        ("/org/name/resolve/main/big/x-BF16-00001-of-00002.gguf", Answer::shared(&file)),
    ]);
    for id in ["org/name:Q4_K_M", "org/name:x-Q4_K_M.gguf", "org/name:BF16", &format!("org/name@main:{}", names[3])] {
        assert_eq!(json_of(ask(&server, &format!("{id} --json -s 1k")))["estimates"][0]["bytes"], 1_024_000, "{id}");
    }
    let all = "big/x-BF16-00001-of-00002.gguf, x-Q4_K_M.gguf, x-Q8_0.gguf";
    refused(&server, &format!("3 GGUF files are there; say which after a colon, org/name:FILE: {all}"));
    ask(&server, "org/name:Q2_K")
        .stderr(&format!("error: org/name:Q2_K: Q2_K is not a GGUF file there; there are {all}\n"))
        .status(2);
    let server = Server::of(vec![(LISTING_PATH, listing(&["README.md"]))]);
    refused(
        &server,
        "the repository has no config.json and no GGUF file at HOST; name the repository of a language model",
    );
    ask(&server, "org/name:x.gguf")
        .stderr("error: org/name:x.gguf: x.gguf is not a GGUF file there; it has none: leave the file out\n")
        .status(2);
}

#[test]
fn the_token_goes_to_the_endpoint_and_nowhere_else() {
    let (file, _) = gguf(50_000);
    let file = Arc::new(file);
    let other = {
        let file = Arc::clone(&file);
        Server::start(move |request| match request.path.as_str() {
            "/config.json?signed=1" => Answer::file(CONFIG),
            "/x.gguf" => Answer::shared(&file),
            _ => Answer::status(404),
        })
    };
    // Another port, and the same machine under another name.
    for host in ["127.0.0.1", "localhost"] {
        let elsewhere = format!("http://{host}:{}", other.port());
        let config = Answer::redirect(format!("{elsewhere}/config.json?signed=1"));
        let server = Server::of(vec![
            (CONFIG_PATH, Answer::redirect("/moved/config.json").header("X-Repo-Commit", COMMIT)),
            ("/moved/config.json", config),
        ]);
        let before = other.requests().len();
        let run = ask(&server, "org/name --json -s 1k").env("HF_TOKEN", "hf_secret");
        assert_eq!(json_of(run)["estimates"][0]["bytes"], 1_024_000);
        // The redirect within the endpoint, and the file beside it, get the token.
        assert_eq!(server.paths()[..2], [CONFIG_PATH, "/moved/config.json"]);
        assert_eq!(server.requests().len(), 5);
        assert!(server.requests().iter().all(|request| request.authorization.as_deref() == Some("Bearer hf_secret")));
        let there = other.requests().split_off(before);
        assert_eq!(there.iter().map(|request| &*request.path).collect::<Vec<_>>(), ["/config.json?signed=1"]);
        assert!(there.iter().all(|request| request.authorization.is_none()), "{there:?}");
    }
    // Ranges after the first go straight to where the file is, without it.
    let before = other.requests().len();
    let server = Server::of(vec![
        (LISTING_PATH, listing(&["x.gguf"])),
        ("/org/name/resolve/main/x.gguf", Answer::redirect(format!("http://{}/x.gguf", other.host()))),
    ]);
    json_of(ask(&server, "org/name --json -s 1k").env("HF_TOKEN", "hf_secret"));
    assert_eq!(server.paths(), [CONFIG_PATH, LISTING_PATH, "/org/name/resolve/main/x.gguf"]);
    let there = other.requests().split_off(before);
    assert!(there.len() > 2 && there.iter().all(|request| request.authorization.is_none()), "{there:?}");
}

#[test]
fn a_redirect_that_leads_nowhere_ends() {
    let check = "check HF_ENDPOINT";
    for (answer, message) in [
        (Answer::redirect(CONFIG_PATH), "too often"),
        (Answer::status(302), "to nowhere"),
        (Answer::redirect("file:///etc/passwd"), "to something that is not the URL of a server"),
        (Answer::redirect("ftp://host/x"), "to something that is not the URL of a server"),
        (Answer::redirect("http://user:password@host/x"), "to something that is not the URL of a server"),
    ] {
        let server = Server::of(vec![(CONFIG_PATH, answer)]);
        refused(&server, &format!("HOST redirects {message}; {check}"));
        assert!(server.requests().len() <= 6);
    }
}

#[test]
fn the_token_is_where_the_hub_s_own_programs_have_it() {
    let home = Scratch::new("token");
    home.write("token", "hf_of_the_home\n").write("other", "hf_of_the_path");
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(CONFIG))]);
    let (other, switch) = (home.0.join("other"), "HF_HUB_DISABLE_IMPLICIT_TOKEN");
    let asked = || ask(&server, "org/name --json").env("HF_HOME", &home.0);
    for (run, token) in [
        (asked(), Some("Bearer hf_of_the_home")),
        (asked().env("HF_TOKEN_PATH", &other), Some("Bearer hf_of_the_path")),
        (asked().env("HF_TOKEN_PATH", &other).env("HF_TOKEN", " hf_given "), Some("Bearer hf_given")),
        (asked().env("HUGGING_FACE_HUB_TOKEN", "hf_old"), Some("Bearer hf_old")),
        (asked().env("HF_TOKEN", "hf_given").env(switch, "1"), None),
        (asked().env("HF_TOKEN_PATH", home.0.join("none")), None),
    ] {
        run.output();
        assert_eq!(server.requests().last().unwrap().authorization.as_deref(), token);
    }
    let before = server.requests().len();
    ask(&server, "org/name")
        .env("HF_TOKEN", "hf_a b")
        .stderr("error: HF_TOKEN: the token has characters that no token has; set it to the token alone\n")
        .status(2);
    assert_eq!(server.requests().len(), before);
    // Nothing is written to the cache.
    let mut names: Vec<_> = fs::read_dir(&home.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["other", "token"]);
}

#[test]
fn each_refusal_has_its_own_words_and_remedy() {
    let here = "and it is not a file, not in the catalogue, not in the cache";
    let spelling = "check the spelling; if it is private, set HF_TOKEN to a token that may read it";
    let private = format!("HOST (401) has no such public repository, {here}; {spelling}");
    let gated = "gives it only to those who accepted its licence; accept it at http://HOST/org/name";
    let again = "try again, or give a config.json";
    for (status, code, token, message) in [
        (401, "RepoNotFound", false, private.clone()),
        (401, "", false, private),
        (404, "RepoNotFound", false, format!("HOST (404) has no such repository, {here}; check the spelling")),
        (
            404,
            "RepoNotFound",
            true,
            format!("HOST (404) has no such repository, or the token may not see it, {here}; check the spelling"),
        ),
        (401, "GatedRepo", false, format!("HOST (401) {gated} and set HF_TOKEN, or give a config.json")),
        (403, "GatedRepo", true, format!("HOST (403) {gated} with the account of the token, or give a config.json")),
        (
            401,
            "",
            true,
            "HOST (401) does not know the token; set HF_TOKEN to a valid one, or leave it out for public models".into(),
        ),
        (403, "", false, "HOST (403) does not let it be read; set HF_TOKEN to a token that may read it".into()),
        (403, "", true, "HOST (403) does not let it be read; use a token that may read it".into()),
        (
            404,
            "RevisionNotFound",
            false,
            "main is not a revision of it at HOST; name a branch, a tag or a whole commit, or leave it out".into(),
        ),
        (418, "", false, format!("HOST (418) gives no file; {again}")),
    ] {
        let server =
            Server::start(
                move |_| if code.is_empty() { Answer::status(status) } else { Answer::refusal(status, code) },
            );
        let run = ask(&server, "org/name");
        let run = if token { run.env("HF_TOKEN", "hf_secret") } else { run };
        run.stderr(&format!("error: org/name: {}\n", message.replace("HOST", &server.host()))).status(2);
        assert_eq!(server.requests().len(), 1, "{status} {code}");
    }
    // A mirror that does not say what is missing is asked for a list.
    let server = Server::start(|_| Answer::status(404));
    refused(&server, &format!("HOST (404) has no such repository, {here}; check the spelling"));
    assert_eq!(server.paths(), [CONFIG_PATH, LISTING_PATH]);
    let text = ask(&server, "org/name --json").text();
    assert!(text.contains(r#""code":"hub_missing","field":"org/name""#), "{text}");
    let text = ask(&server, "meta-llama/Llama-3.1-9B").text();
    assert!(text.contains("nearest names: ") && text.contains("llama-3.1-8b"), "{text}");
}

#[test]
fn too_many_requests_are_not_repeated() {
    for (answer, token, remedy) in [
        (Answer::status(429).header("Retry-After", "30"), "", "try again in 30 s, or set HF_TOKEN"),
        (Answer::status(429).header("Retry-After", "30"), "hf_secret", "try again in 30 s"),
        (Answer::status(429).header("Retry-After", "soon"), "", "try again later, or set HF_TOKEN"),
        (Answer::status(429), "hf_secret", "try again later"),
    ] {
        let server = Server::start(move |_| answer.clone());
        ask(&server, "org/name")
            .env("HF_TOKEN", token)
            .stderr(&format!("error: org/name: {} (429) had too many requests; {remedy}\n", server.host()))
            .status(2);
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_broken_hub_is_asked_three_times() {
    let server = Server::start(|_| Answer::status(500));
    refused(&server, "HOST (500) is broken, asked 3 times; try again, or give a config.json");
    assert_eq!(server.requests().len(), 3);
    let count = AtomicUsize::new(0);
    let server = Server::start(move |request| match (request.path.as_str(), count.fetch_add(1, Ordering::SeqCst)) {
        (_, 0) => Answer::status(503),
        (CONFIG_PATH, _) => Answer::file(CONFIG),
        _ => Answer::refusal(404, "EntryNotFound"),
    });
    assert_eq!(json_of(ask(&server, "org/name --json -s 1k"))["estimates"][0]["bytes"], 1_024_000);
}

#[test]
fn what_ends_too_early_is_asked_for_again_and_then_refused() {
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(CONFIG).promising(10_000))]);
    refused(&server, "config.json ends too early at HOST; try again, or give a config.json");
    assert_eq!(server.requests().len(), 3);
    let file = Arc::new(gguf(0).0);
    let server = Server::of(vec![
        (LISTING_PATH, listing(&["x.gguf"])),
        ("/org/name/resolve/main/x.gguf", Answer::shared(&file).promising(100_000)),
    ]);
    refused(&server, "x.gguf ends too early at HOST; try again, or give a config.json");
    let part = gguf(0).0[..50].to_vec();
    let server = Server::of(vec![
        (LISTING_PATH, listing(&["x.gguf"])),
        ("/org/name/resolve/main/x.gguf", Answer::file(part.clone()).ignoring_ranges().promising(100_000)),
    ]);
    refused(&server, "x.gguf ends too early at HOST; try again, or give a config.json");
    // A file that is short where it lies is not the hub's fault.
    let server =
        Server::of(vec![(LISTING_PATH, listing(&["x.gguf"])), ("/org/name/resolve/main/x.gguf", Answer::file(part))]);
    ask(&server, "org/name")
        .stderr("error: org/name:x.gguf: 6 keys is more than the rest of the file holds (at byte 24 of 50); the file is damaged: download it again\n")
        .status(2);
}

#[test]
fn silence_ends_in_time() {
    let remedy = "try again, or set HF_HUB_DOWNLOAD_TIMEOUT to more seconds";
    let slow = Server::of(vec![(CONFIG_PATH, Answer::file(&CONFIG[..20]).then_silence())]);
    // One that takes the connection and never says a word.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    for host in [slow.host(), mute.local_addr().unwrap().to_string()] {
        let start = Instant::now();
        kvsize("org/name")
            .env("HF_ENDPOINT", format!("http://{host}"))
            .env("HF_HUB_DOWNLOAD_TIMEOUT", "1")
            .stderr(&format!("error: org/name: {host} does not answer in time; {remedy}\n"))
            .status(2);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}

#[test]
fn a_hub_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = kvsize("org/name").env("HF_ENDPOINT", format!("http://{free}")).text();
    assert!(text.starts_with(&format!("--- stderr\nerror: org/name: {free} can't be reached (")), "{text}");
    assert!(text.ends_with("check the network and HF_ENDPOINT, or give a config.json\n--- status 2\n"), "{text}");
    for endpoint in ["huggingface.co", "ftp://huggingface.co", "https://", "https://a:b@huggingface.co", "https://x/?y"]
    {
        let shown = if endpoint.contains('@') { "…@huggingface.co" } else { endpoint.trim_end_matches('/') };
        kvsize("org/name")
            .env("HF_ENDPOINT", endpoint)
            .stderr(&format!(
                "error: HF_ENDPOINT: {shown} is not the URL of a server; write https://, the host, and no name or password\n"
            ))
            .status(2);
    }
}

#[test]
fn what_is_no_tls_or_has_no_certificates_is_refused() {
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(CONFIG))]);
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = plain.local_addr().unwrap();
    thread::spawn(move || {
        for stream in plain.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    let text = kvsize("org/name").env("HF_ENDPOINT", format!("https://{host}")).text();
    let message = format!("--- stderr\nerror: org/name: {host} is not trusted (");
    assert!(text.starts_with(&message) && text.ends_with("or give a config.json\n--- status 2\n"), "{text}");
    let scratch = Scratch::new("certificates");
    scratch.write("empty.pem", "");
    for path in [scratch.0.join("empty.pem"), scratch.0.join("none.pem"), scratch.0.clone()] {
        ask(&server, "org/name")
            .env("SSL_CERT_FILE", &path)
            .stderr(&format!(
                "error: {}: the file has no certificates; set SSL_CERT_FILE to a file with some (PEM), or leave it out\n",
                path.display()
            ))
            .status(2);
    }
}

#[test]
fn answers_that_are_none_are_refused() {
    let remedy = "check HF_ENDPOINT, or give a config.json";
    let file = Arc::new(gguf(0).0);
    let with = |listing: Answer, gguf: Answer| {
        Server::of(vec![(LISTING_PATH, listing), ("/org/name/resolve/main/x.gguf", gguf)])
    };
    let partial = |range: &str| Answer::shared(&file).ignoring_ranges().header("Content-Range", range);
    for range in ["bytes 1-65536/99999999", "bytes 0-65536/99999999", "bytes 0-9/5", "bytes */9", "lies"] {
        let server = with(listing(&["x.gguf"]), partial(range).with_status(206));
        refused(&server, &format!("HOST sends another part of the file than was asked for; {remedy}"));
    }
    let server = with(listing(&["x.gguf"]), Answer::shared(&file).ignoring_ranges().with_status(206));
    refused(&server, &format!("HOST sends another part of the file than was asked for; {remedy}"));
    for text in ["", "[]", "{}", r#"{"siblings": [{}]}"#, "<html>"] {
        let server = with(Answer::file(text), Answer::status(404));
        refused(&server, &format!("HOST gives no list of the files of the repository; {remedy}"));
    }
    // A page in place of the file.
    let server = Server::of(vec![(CONFIG_PATH, Answer::file("<html>"))]);
    ask(&server, "org/name")
        .stderr("error: org/name/config.json: the text is not JSON: expected value at line 1 column 1; give a config.json as it is published\n")
        .status(2);
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(vec![0xff; 9]))]);
    ask(&server, "org/name")
        .stderr("error: org/name/config.json: the content is not UTF-8 text; give a config.json\n")
        .status(2);
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(vec![b' '; 40 << 20]).without_length())]);
    ask(&server, "org/name")
        .stderr(
            "error: org/name/config.json: the text is more than the 4,194,304 bytes that are read; give \
             the config.json, not the weights\n",
        )
        .status(2);
    // A text that ends with its connection is one all the same.
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(CONFIG).without_length())]);
    ask(&server, "org/name --json").output();
}

#[test]
fn nothing_else_is_ever_asked_for_and_offline_is_kept() {
    let server = Server::of(vec![(CONFIG_PATH, Answer::file(CONFIG))]);
    for arguments in [
        "llama-3.1-8b -s 1",
        "meta-llama/Llama-3.1-8B -s 1",
        "--layers 1 --kv-heads 1 --head-dim 8 -s 1",
        "meta-llama--Llama-3.1-8B.json -s 1",
        "models",
        "nosuchname",
        "org--name",
        "./org/name",
        "../org/name",
        "/org/name",
        "org/name/",
        "org/name.json",
        "org/name.gguf",
        "org/name.safetensors",
        "a/b/c",
        "org/name --offline",
        "explain org/name --offline",
    ] {
        ask(&server, arguments).text();
        assert!(server.requests().is_empty(), "{arguments}: {:?}", server.paths());
    }
    for name in ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        let text = ask(&server, "org/name").env(name, "1").text();
        assert!(text.contains(name) && text.ends_with("--- status 2\n") && server.requests().is_empty(), "{text}");
    }
    ask(&server, "org/name --json").env("HF_HUB_OFFLINE", "0").output();
    // A draft model may be an id too; what is cached is not asked for.
    let before = server.requests().len();
    let cache = Scratch::new("first");
    cache
        .write("models--org--name/refs/main", COMMIT)
        .write(&format!("models--org--name/snapshots/{COMMIT}/config.json"), CONFIG);
    ask(&server, "org/name --json").env("HF_HUB_CACHE", &cache.0).output();
    assert_eq!(server.requests().len(), before);
    ask(&server, "llama-3.1-8b --json -s 1 --speculative-method draft --draft org/name").data();
    assert_eq!(server.requests().len(), before + 2);
    // A snapshot that is not whole is no answer; the hub is.
    cache
        .write(&format!("models--org--part/snapshots/{COMMIT}/tokenizer.json"), "{}")
        .write("models--org--part/refs/main", COMMIT);
    let server = Server::of(vec![("/org/part/resolve/main/config.json", Answer::file(CONFIG))]);
    ask(&server, "org/part -f csv -s 1k").env("HF_HUB_CACHE", &cache.0).data();
    assert_eq!(server.requests().len(), 2);
}

/// A safetensors file of one tensor of `elements` bf16 elements, and its data.
fn safetensors(name: &str, elements: usize) -> Vec<u8> {
    let header = json!({name: {"dtype": "BF16", "shape": [elements], "data_offsets": [0, 2 * elements]}}).to_string();
    let mut bytes = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + 2 * elements, 0);
    bytes
}

/// Headers of one file or a few, by ranges; of many files the index alone; of a GGUF file what its header tells.
#[test]
fn weights_are_told_of_headers_or_of_the_index() {
    const INDEX: &str = "/org/name/resolve/main/model.safetensors.index.json";
    let weights = |server: &Server| {
        let document = json_of(ask(server, "weights org/name --json"));
        let weights = &document["items"][0];
        (weights["bytes"].as_u64(), weights["parameters"].as_u64(), weights["origin"].as_str().map(ToOwned::to_owned))
    };
    let elements = 8 << 20;
    let config = || (CONFIG_PATH, Answer::file(CONFIG));
    let one = Server::of(vec![
        config(),
        ("/org/name/resolve/main/model.safetensors", Answer::file(safetensors("a", elements))),
    ]);
    assert_eq!(weights(&one), (Some(2 * elements as u64), Some(elements as u64), Some("headers".into())));
    assert!(one.sent() < 1 << 20, "{}", one.sent());
    let document = json_of(ask(&one, "org/name --json -s 1"));
    assert_eq!(document["models"][0]["weights"]["bytes"].as_u64(), Some(2 * elements as u64));

    let index = |count: usize| {
        let map: serde_json::Map<_, _> =
            (1..=count).map(|part| (format!("t{part}"), json!(format!("part-{part}.safetensors")))).collect();
        Answer::file(json!({"metadata": {"total_size": 777}, "weight_map": map}).to_string())
    };
    let few = Server::of(vec![
        config(),
        (INDEX, index(2)),
        ("/org/name/resolve/main/part-1.safetensors", Answer::file(safetensors("t1", 100))),
        ("/org/name/resolve/main/part-2.safetensors", Answer::file(safetensors("t2", 50))),
    ]);
    assert_eq!(weights(&few), (Some(300), Some(150), Some("headers".into())));
    let many = Server::of(vec![config(), (INDEX, index(9))]);
    assert_eq!(weights(&many), (Some(777), None, Some("index".into())));
    assert!(many.paths().iter().all(|path| !path.contains("part-")), "{:?}", many.paths());

    let (file, _) = gguf(0);
    let repository = Server::of(vec![
        (LISTING_PATH, listing(&["name-Q8_0.gguf"])),
        ("/org/name/resolve/main/name-Q8_0.gguf", Answer::file(file)),
    ]);
    assert_eq!(weights(&repository).2, Some("headers".into()));
    let split = Server::of(vec![
        (LISTING_PATH, listing(&["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"])),
        ("/org/name/resolve/main/x-00001-of-00002.gguf", Answer::file(gguf(0).0)),
        ("/org/name/resolve/main/x-00002-of-00002.gguf", Answer::file(gguf(0).0)),
    ]);
    assert_eq!(weights(&split).0, weights(&repository).0.map(|bytes| 2 * bytes));
    // A shard that is not there leaves the total; a name that leads elsewhere is never asked for.
    let partly = Server::of(vec![config(), (INDEX, index(2))]);
    assert_eq!(weights(&partly), (Some(777), None, Some("index".into())));
    let outside = json!({"weight_map": {"a": "../../../secret/x/resolve/main/model.safetensors"}}).to_string();
    let leading = Server::of(vec![config(), (INDEX, Answer::file(outside))]);
    let text = ask(&leading, "weights org/name").text();
    assert!(text.contains("is not a file next to the index") && text.ends_with("--- status 2\n"), "{text}");
    assert!(leading.paths().iter().all(|path| !path.contains("secret")), "{:?}", leading.paths());
    // A header that lies is an error of the file.
    let mut lying = u64::MAX.to_le_bytes().to_vec();
    lying.resize(1000, 0);
    let broken = Server::of(vec![config(), ("/org/name/resolve/main/model.safetensors", Answer::file(lying))]);
    let text = ask(&broken, "weights org/name").text();
    assert!(text.contains("org/name/model.safetensors") && text.ends_with("--- status 2\n"), "{text}");
    // Weights are not looked for offline either.
    let text = ask(&one, "weights org/other --offline").text();
    assert!(text.contains("--offline") && text.ends_with("--- status 2\n"), "{text}");
}
