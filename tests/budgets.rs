//! `kvsize check --file`: files of budgets, what CI is told of them, and what became of them since a baseline.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Run, golden, kvsize};
use crate::schema::{assert_valid, schema};

/// A directory of its own, which is gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("kvsize-budgets-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(name: &str, budgets: &Value) -> Self {
        let directory = Self::new(name);
        directory.write("b.json", budgets.to_string());
        directory
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), text).unwrap();
    }

    /// A check in it.
    fn check(&self, arguments: &str) -> Run {
        kvsize(&format!("check {arguments}")).at(&self.0)
    }

    /// The document of a check of its file, which is as its schema says.
    fn json(&self, status: i32, arguments: &str) -> Value {
        let text = self.check(&format!("--file b.json --json -q {arguments}")).data_with(status);
        let document = serde_json::from_str(&text).unwrap();
        assert_valid(&schema("checks"), &document, &text);
        document
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn file(budgets: &Value) -> Value {
    json!({"schema": "kvsize.budgets/1", "budgets": budgets})
}

/// A budget of 131,072 bytes a token, with these keys beside.
fn budget(name: &str, more: &Value) -> Value {
    let mut budget = json!({"name": name, "model": "llama-3.1-8b", "engine": "ideal", "seq_len": 1000});
    let object = budget.as_object_mut().unwrap();
    for (key, value) in more.as_object().unwrap() {
        object.insert(key.clone(), value.clone());
    }
    budget
}

const BYTES: u64 = 131_072_000;

#[test]
fn the_starter_is_valid_and_kept() {
    let starter = kvsize("check --init").output();
    assert_valid(&schema("budgets"), &serde_json::from_str(&starter).unwrap(), "the starter");
    let directory = Directory::new("starter");
    let note = "note: b.json is written; `kvsize check --file` checks it\n";
    directory.check("--init b.json").stderr(note).status(0);
    assert_eq!(fs::read_to_string(directory.0.join("b.json")).unwrap(), starter);
    let document = directory.json(0, "");
    assert_eq!((&document["within"], document["checks"].as_array().unwrap().len()), (&2.into(), 2));
    // What is there is not overwritten.
    directory.write("b.json", "mine");
    directory
        .check("--init b.json")
        .stderr("error: --init: b.json: it is there already, and is not overwritten; name another file\n")
        .status(2);
    assert_eq!(fs::read_to_string(directory.0.join("b.json")).unwrap(), "mine");
}

/// The worst counts, and what comes after it is checked all the same.
#[test]
fn all_are_checked_and_the_worst_is_the_exit_status() {
    let within = budget("within", &json!({"max_bytes": BYTES}));
    let over = budget("over", &json!({"max_bytes": BYTES - 1}));
    let unknown = budget("unknown", &json!({"max_bytes": 1, "model": "nosuch"}));
    let verdicts = |document: &Value| -> Vec<String> {
        let rows = document["checks"].as_array().unwrap();
        rows.iter().map(|row| row["verdict"].as_str().unwrap().to_owned()).collect()
    };
    for (name, budgets, status, expected) in [
        ("0", vec![&within], 0, vec!["within"]),
        ("1", vec![&over, &within], 1, vec!["over", "within"]),
        ("2", vec![&unknown, &over, &within], 2, vec!["unknown", "over", "within"]),
        ("3", vec![&within, &unknown], 2, vec!["within", "unknown"]),
    ] {
        let directory = Directory::with(&format!("worst-{name}"), &file(&json!(budgets)));
        let document = directory.json(status, "");
        assert_eq!(verdicts(&document), expected);
        assert_eq!(document["verdict"], ["within", "over", "unknown"][usize::try_from(status).unwrap()]);
        for format in ["table", "plain", "jsonl", "csv", "markdown", "github", "junit"] {
            directory.check(&format!("--file b.json -q -f {format}")).data_with(status);
        }
    }
}

/// Each assertion holds to the unit, and fails past it.
#[test]
fn every_assertion_holds_to_the_unit() {
    let fit = "fit llama-3.1-8b --gpu 1xl40s -e vllm@0.33 -s 8K --json -q";
    let fit: Value = serde_json::from_str(&kvsize(fit).output()).unwrap();
    let at_once = fit["fits"][0]["requests"][0]["at_once"].as_u64().unwrap();
    let eight = "fit llama-3.1-8b --gpu 1xl40s -e vllm@0.33 -s 8K -b 8 --json -q";
    let eight: Value = serde_json::from_str(&kvsize(eight).output()).unwrap();
    let longest = eight["fits"][0]["longest_seq_len_at_batch"].as_u64().unwrap();
    assert!(longest < 131_072);
    let on_gpu = json!({"engine": "vllm@0.33", "seq_len": "8K", "gpu": "1xl40s"});
    let with = |key: &str, value: Value, more: &Value| {
        let mut all = more.clone();
        all[key] = value;
        budget(key, &all)
    };
    let eight = json!({"engine": "vllm@0.33", "seq_len": "8K", "gpu": "1xl40s", "batch": 8});
    let two = json!({"tp": 2});
    for (index, (budget, status)) in [
        (with("max_bytes", BYTES.into(), &json!({})), 0),
        (with("max_bytes", (BYTES - 1).into(), &json!({})), 1),
        (with("max_bytes", "131072kB".into(), &json!({})), 0),
        (with("max_bytes", BYTES.into(), &json!({"margin": "0.0001%"})), 1),
        (with("max_bytes_per_gpu", (BYTES / 2).into(), &two), 0),
        (with("max_bytes_per_gpu", (BYTES / 2 - 1).into(), &two), 1),
        (with("min_context", longest.into(), &eight), 0),
        (with("min_context", (longest + 1).into(), &eight), 1),
        // Memory would hold more, but the model was made for less.
        (with("min_context", 131_072.into(), &on_gpu), 0),
        (with("min_context", 131_073.into(), &on_gpu), 1),
        (with("min_concurrent_requests", at_once.into(), &on_gpu), 0),
        (with("min_concurrent_requests", (at_once + 1).into(), &on_gpu), 1),
        (with("must_fit_on", "1xl40s".into(), &json!({"engine": "vllm@0.33", "seq_len": "8K", "batch": at_once})), 0),
        (
            with(
                "must_fit_on",
                "1xl40s".into(),
                &json!({"engine": "vllm@0.33", "seq_len": "8K", "batch": at_once + 1}),
            ),
            1,
        ),
        (with("must_fit_on", json!(["1xh100", "1xl4"]), &json!({"engine": "vllm@0.33", "seq_len": "64K"})), 1),
        (with("must_fit_on", "1xl4".into(), &json!({"engine": "vllm@0.33", "seq_len": "8K", "weights": "1GB"})), 0),
    ]
    .into_iter()
    .enumerate()
    {
        let whole = file(&json!([budget]));
        assert_valid(&schema("budgets"), &whole, "what is asserted");
        let directory = Directory::with(&format!("unit-{index}"), &whole);
        let text = directory.check("--file b.json -q -f plain").text();
        assert!(text.ends_with(&format!("--- stderr\n--- status {status}\n")), "{index} {budget}: {text}");
    }
}

/// What a file says of a budget is what the command says of the same.
#[test]
fn a_budget_of_a_file_is_that_of_the_command() {
    let with = json!({"engine": "vllm@0.33", "seq_len": "128K", "batch": 3, "tp": 2, "max_bytes": "40GB", "margin": "5%",
        "block_size": 32, "kv_dtype": "fp8"});
    let directory = Directory::with("same", &file(&json!([budget("a", &with)])));
    let row = directory.json(0, "")["checks"][0].clone();
    let one = "check llama-3.1-8b -e vllm@0.33 -s 128K -b 3 --tp 2 --budget 40GB --margin 5% --block-size 32 -d fp8 --json -q";
    let one: Value = serde_json::from_str(&kvsize(one).output()).unwrap();
    for key in ["bytes", "bytes_per_gpu", "limits", "max_seq_len", "engine", "kv_dtype", "seq_len", "batch", "tp"] {
        assert_eq!(row[key], one[key], "{key}");
    }
    let on = json!({"engine": "sglang@0.5.23", "seq_len": "8K", "batch": 2, "gpu": "1xl40s", "must_fit_on": "1xl40s"});
    let directory = Directory::with("same-gpu", &file(&json!([budget("a", &on)])));
    let row = directory.json(0, "")["checks"][0].clone();
    let one = "check llama-3.1-8b -e sglang@0.5.23 -s 8K -b 2 --gpu 1xl40s --json -q";
    let one: Value = serde_json::from_str(&kvsize(one).output()).unwrap();
    for key in ["bytes", "hardware"] {
        assert_eq!(row[key], one[key], "{key}");
    }
}

/// What must fit does so by the answer of `fit`, whatever the engine.
#[test]
fn gpus_hold_what_fit_says() {
    for arguments in [
        "llama-3.1-70b --gpu 4xl40s -e vllm@0.33 -s 128K -b 8",
        "llama-3.1-70b --gpu 8xh100 -e vllm@0.33 -s 128K -b 8 --tp 4",
        "gemma-3-27b --gpu 2xl40s -e sglang@0.5.23 -s 32K -b 16 --mem-fraction-static 0.8",
        "gemma-3-27b --gpu 1xh100 -e transformers -s 32K -b 4",
        "llama-3.1-8b --gpu 1xl4 -e llama.cpp -s 32K -b 4 --weights 5GB",
        "llama-4-scout -e ideal --gpu 4xh100 -s 1m --utilization 0.8",
        "deepseek-v3 --gpu 16xh200 -e vllm@0.33 -s 64K -b 32",
    ] {
        let fit: Value = serde_json::from_str(&kvsize(&format!("fit {arguments} --json -q")).any_data()).unwrap();
        let check: Value = serde_json::from_str(&kvsize(&format!("check {arguments} --json -q")).any_data()).unwrap();
        let (row, held) = (&fit["fits"][0], &check["hardware"][0]);
        assert_eq!((&check["within"], &held["holds"]), (&row["fits"], &row["fits"]), "{arguments}");
        for key in ["gpu", "gpus", "tp", "pp", "dp", "missing_bytes", "longest_seq_len_at_batch"] {
            assert_eq!(held[key], row[key], "{arguments}: {key}");
        }
        assert_eq!(held["binding"]["kind"], row["binding"], "{arguments}");
        let longest = &row["longest_seq_len_at_batch"];
        assert_eq!((&held["at_once"], &check["longest_seq_len"]), (&row["requests"][0]["at_once"], longest));
    }
}

/// A file may come from a pipe.
#[test]
fn a_file_may_be_standard_input() {
    let budgets = file(&json!([budget("a", &json!({"max_bytes": BYTES}))])).to_string();
    kvsize("check --file - -f plain").stdin(budgets).stdout("within: a: 0.000 GB left in all\n").status(0);
}

#[test]
fn the_margin_of_the_file_is_that_of_budgets_that_have_none() {
    let mut whole = file(&json!([
        budget("own", &json!({"max_bytes": BYTES, "margin": "0%"})),
        budget("of the file", &json!({"max_bytes": BYTES})),
    ]));
    whole["margin"] = "10%".into();
    let document = Directory::with("margin", &whole).json(1, "");
    assert_eq!(document["checks"][0]["limits"][0]["allowed"], BYTES);
    assert_eq!(document["checks"][1]["limits"][0]["allowed"], BYTES / 10 * 9);
}

/// Wherever the program runs, paths are looked for beside the file; and names are not files that happen to be there.
#[test]
fn paths_are_relative_to_the_file() {
    let directory = Directory::new("relative");
    let model = fs::read_to_string(golden("configs/Qwen--Qwen3-8B.json")).unwrap();
    fs::create_dir_all(directory.0.join("models")).unwrap();
    directory.write("models/own.json", model);
    directory
        .write("own-catalogue.json", r#"{"models": [{"name": "mine", "layers": 1, "kv_heads": 1, "head_dim": 1}]}"#);
    let own = json!({"max_bytes": "1GB", "model": "models/own.json"});
    directory.write("b.json", file(&json!([budget("a", &own)])).to_string());
    // A directory of the name of a model of the catalogue, where the program runs.
    fs::create_dir_all(directory.0.join("elsewhere/llama-3.1-8b")).unwrap();
    let at = |arguments: &str| kvsize(arguments).at(directory.0.join("elsewhere"));
    at("check --file ../b.json -q -f plain").stdout("within: a: 0.853 GB left in all\n").status(0);
    directory.write("b.json", file(&json!([budget("a", &json!({"max_bytes": BYTES}))])).to_string());
    at("check --file ../b.json -q -f plain").stdout("within: a: 0.000 GB left in all\n").status(0);
    // One beside the file is meant.
    fs::create_dir_all(directory.0.join("llama-3.1-8b")).unwrap();
    let text = at("check --file ../b.json -q -f plain").text();
    assert!(text.contains("could not be told: a: ../llama-3.1-8b: the directory has no config.json"), "{text}");
}

#[test]
fn a_baseline_tells_what_grew() {
    let directory = Directory::with(
        "baseline",
        &file(&json!([
            budget("grows", &json!({"max_bytes": "1TB"})),
            budget("shrinks", &json!({"max_bytes": "1TB"})),
            budget("same", &json!({"max_bytes": "1TB"})),
            budget("gone", &json!({"max_bytes": "1TB"})),
            budget("fails", &json!({"max_bytes": "1TB", "model": "nosuch"})),
        ])),
    );
    let before = directory.check("--file b.json --json -q").data_with(2);
    directory.write("before.json", before);
    let now = file(&json!([
        budget("grows", &json!({"max_bytes": "1TB", "seq_len": 1050})),
        budget("shrinks", &json!({"max_bytes": "1TB", "seq_len": 500})),
        budget("same", &json!({"max_bytes": "1TB"})),
        budget("new", &json!({"max_bytes": "1TB"})),
        budget("fails", &json!({"max_bytes": "1TB"})),
    ]));
    directory.write("b.json", now.to_string());
    let kinds = |document: &Value| -> Vec<String> {
        let rows = document["checks"].as_array().unwrap();
        rows.iter().map(|row| row["change"]["kind"].as_str().unwrap().to_owned()).collect()
    };
    // 5 % and no byte more.
    let document = directory.json(0, "--baseline before.json --max-increase 5%");
    assert_eq!(kinds(&document), ["grown", "shrunk", "same", "new", "unknown"]);
    assert_eq!(document["gone"], json!(["gone"]));
    assert_eq!(document["checks"][0]["change"]["bytes_before"], BYTES);
    let document = directory.json(1, "--baseline before.json --max-increase 4.9999%");
    assert_eq!(document["checks"][0]["change"]["too_much"], true);
    assert_eq!((&document["over"], &document["within"]), (&1.into(), &4.into()));
    directory.json(0, "--baseline before.json");
    let untold = "the baseline has no figure for it, so its growth is unknown";
    assert_eq!(document["checks"][4]["warnings"], json!([untold]));
    // What is gone is a warning, and so a 2 where they are errors: it is counted, and so is what could not be told.
    let document = directory.json(2, "--baseline before.json --strict");
    assert_eq!(
        (&document["verdict"], &document["unknown"], &document["within"]),
        (&"unknown".into(), &2.into(), &4.into())
    );
    insta::assert_snapshot!(
        "baseline",
        directory.check("--file b.json --baseline before.json --max-increase 3%").text()
    );
    insta::assert_snapshot!(
        "baseline_github",
        directory.check("--file b.json --baseline before.json --max-increase 3% -f github --strict -q").text()
    );
}

/// More on each GPU is growth, though there is no more in all.
#[test]
fn growth_on_each_gpu_counts() {
    let directory = Directory::with("per-gpu", &file(&json!([budget("a", &json!({"max_bytes": "1TB", "tp": 4}))])));
    directory.write("before.json", directory.check("--file b.json --json -q").data_with(0));
    directory.write("b.json", file(&json!([budget("a", &json!({"max_bytes": "1TB", "tp": 2}))])).to_string());
    directory
        .check("--file b.json --baseline before.json --max-increase 50% -f plain")
        .stdout("over: a: changed by +0.033 GB (+100%) on each GPU: 0.016 GB more than 50% allow\n")
        .status(1);
}

#[test]
fn strict_makes_every_warning_one_that_could_not_be_told() {
    let past = budget("past", &json!({"max_bytes": "1TB", "seq_len": "1M"}));
    let directory = Directory::with("strict", &file(&json!([past, budget("a", &json!({"max_bytes": "1TB"}))])));
    let warning = "1,048,576 tokens is past the model's maximum of 131,072 (max_position_embeddings)";
    directory
        .check("--file b.json -f github")
        .stdout(&format!(
            "::notice title=past::862.561 GB left in all\n::warning title=past::{warning}\n::notice title=a::999.869 GB left in \
             all\n"
        ))
        .stderr(&format!("warning: past: {warning}\n"))
        .status(0);
    let document = directory.json(2, "--strict");
    assert_eq!(document["checks"][0]["error"]["code"], "strict");
    assert_eq!((&document["unknown"], &document["within"]), (&1.into(), &1.into()));
}

/// A third is rounded as all numbers are, and what is too small to show is not none.
#[test]
fn percentages_are_rounded() {
    let row = |name: &str, bytes: u64| json!({"name": name, "bytes": bytes, "bytes_per_gpu": bytes});
    let before = json!({"schema": "kvsize.checks/1", "checks": [
        row("third", BYTES / 5 * 3), row("hair", BYTES - 1), row("double", BYTES / 2), row("nothing", 0),
    ]});
    let names = ["third", "hair", "double", "nothing"];
    let budgets: Vec<Value> = names.iter().map(|name| budget(name, &json!({"max_bytes": "1TB"}))).collect();
    let directory = Directory::with("percentages", &file(&budgets.into()));
    directory.write("before.json", before.to_string());
    let text = directory.check("--file b.json --baseline before.json -q").data();
    for changed in ["(+66.6667%)", "(+<0.0001%)", "(+100%)", "+0.131 GB\n"] {
        assert!(text.contains(changed), "{changed}: {text}");
    }
}

/// A CI system that reads annotations or XML reads there, too, that nothing could be told.
#[test]
fn what_could_not_be_told_at_all_is_told_to_ci() {
    let directory = Directory::new("nothing");
    for arguments in ["--file nosuch.json", "nosuch --budget 1GB", "llama-3.1-8b"] {
        let github = directory.check(&format!("{arguments} -f github")).data_with(2);
        assert!(github.starts_with("::error title=kvsize check::") && github.lines().count() == 1, "{github}");
        let junit = directory.check(&format!("{arguments} -f junit")).data_with(2);
        assert!(junit.contains("<error type=\"unknown\" message=\"") && junit.contains("errors=\"1\""), "{junit}");
    }
}

/// What stands in the way of a context is said where memory does not.
#[test]
fn what_is_refused_for_another_reason_than_memory_says_so() {
    let many = json!({"engine": "vllm@0.33", "batch": 2000, "min_context": 16, "gpu": "1xh200"});
    let directory = Directory::with("sequences", &file(&json!([budget("many", &many)])));
    let text = directory.check("--file b.json -q -f plain").data_with(1);
    let expected = "over: many: 16 tokens are asserted and do not fit on 1xh200-sxm (tp 1): max_num_seqs";
    assert!(text.starts_with(expected), "{text}");
}

/// Where hardware can't be asked, what the bytes say is still told, and so is what other hardware holds.
#[test]
fn what_can_be_told_is_told_beside_what_can_not() {
    let both = json!({"engine": "vllm@0.33", "max_bytes": 1, "must_fit_on": ["nosuch", "1xh100"]});
    let refused = json!({"engine": "llama.cpp@ggml-0.26", "max_bytes": 1, "must_fit_on": "1xh100", "n_gpu_layers": 4});
    let directory = Directory::with("both", &file(&json!([budget("a", &both), budget("b", &refused)])));
    let document = directory.json(2, "");
    for (index, field) in ["must_fit_on", "n_gpu_layers"].into_iter().enumerate() {
        let row = &document["checks"][index];
        assert_eq!((&row["verdict"], &row["error"]["field"]), (&"unknown".into(), &field.into()));
        assert!(row["limits"][0]["over"].as_u64().unwrap() > 0, "{row}");
    }
    assert_eq!(document["checks"][0]["hardware"][0]["gpu"], "h100-sxm");
}

#[test]
fn what_people_see() {
    let directory = Directory::with(
        "seen",
        &file(&json!([
            budget("chat", &json!({"engine": "vllm@0.33", "seq_len": "32K", "batch": 8, "max_bytes": "40GB"})),
            budget(
                "long, 50%: of <all>",
                &json!({"engine": "vllm@0.33", "seq_len": "128K", "batch": 8, "max_bytes": "100GB",
                "max_bytes_per_gpu": "60GB", "tp": 2})
            ),
            budget(
                "on one L4",
                &json!({"engine": "vllm@0.33", "seq_len": "64K", "must_fit_on": "1xl4",
                "min_context": "128K", "min_concurrent_requests": 8})
            ),
            budget("typo", &json!({"model": "lama-3.1-8b", "max_bytes": "40GB"})),
        ])),
    );
    for format in ["table", "plain", "csv", "markdown", "github", "junit"] {
        let text = directory.check(&format!("--file b.json -f {format}")).text();
        insta::assert_snapshot!(format!("seen_{format}"), text);
    }
    insta::assert_snapshot!("help_short", kvsize("check -h").output());
    insta::assert_snapshot!("on_gpus", kvsize("check llama-3.1-70b -s 128K -b 8 --gpu 8xh100 -e vllm@0.33").text());
    insta::assert_snapshot!("not_on_gpus", kvsize("check llama-3.1-70b -s 128K -b 8 --gpu 4xl40s -e vllm@0.33").text());
    insta::assert_snapshot!("one_junit", kvsize("check llama-3.1-8b -s 128K --budget 1GB -f junit").text());
    let github = "::error title=meta-llama/Meta-Llama-3.1-8B::over by 16.180 GB: the largest context within the budget is 7,629 \
                  tokens\n";
    kvsize("check llama-3.1-8b -s 128K --budget 1GB -f github").stdout(github).status(1);
}

/// A file that is wrong is refused as a whole, with the path of the key and nothing on stdout.
#[test]
fn wrong_budgets() {
    let of = |more: &Value| file(&json!([budget("a", &json!({"max_bytes": 1})), budget("b", more)])).to_string();
    let without = |key: &str| {
        let mut one = budget("b", &json!({"max_bytes": 1}));
        one.as_object_mut().unwrap().remove(key);
        file(&json!([one])).to_string()
    };
    let bytes = "give bytes, or a number with kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB";
    let directory = Directory::new("wrong");
    for (text, error) in [
        (of(&json!({"max_byte": 1})), "budgets[1].max_byte: unknown key; did you mean max_bytes?"),
        (of(&json!({"id": 1})), "budgets[1].id: unknown key; `kvsize generate schema budgets` lists the keys"),
        (of(&json!({"max_bytes": 0})), &format!("budgets[1].max_bytes: 0 is not a positive number of bytes; {bytes}")),
        (of(&json!({"max_bytes": -4})), &format!("budgets[1].max_bytes: -4 is not a number of bytes; {bytes}")),
        (of(&json!({"max_bytes": 1.5})), &format!("budgets[1].max_bytes: 1.5 is not a whole number of bytes; {bytes}")),
        (
            of(&json!({"max_bytes": "4XB"})),
            &format!("budgets[1].max_bytes: 4XB is a number of bytes with an unknown suffix; {bytes}"),
        ),
        (
            of(&json!({"max_bytes": true})),
            "budgets[1].max_bytes: true is not a number; write a number, or a text such as \"128K\" or \"64GiB\"",
        ),
        (
            of(&json!({"max_bytes": 1, "margin": "120%"})),
            "budgets[1].margin: 120% is not a percentage below 100; give one with at most 4 decimals, as 5% or 2.5%",
        ),
        (
            of(&json!({"must_fit_on": "h100", "margin": "5%"})),
            "budgets[1].margin: applies to max_bytes or max_bytes_per_gpu, and neither is given; leave it out",
        ),
        (
            of(&json!({"max_bytes": 1, "seq_len": [1, 2]})),
            "budgets[1].seq_len: lists several values, where one is taken; give one value, and another budget for another",
        ),
        (
            of(&json!({"max_bytes": 1, "kv_dtype": "fp8", "k_dtype": "fp8"})),
            "budgets[1].k_dtype: kv_dtype is given as well; give one of the two",
        ),
        (
            of(&json!({"max_bytes": 1, "engine": "vllm@0.33", "block_size": 0})),
            "budgets[1].block_size: 0 is not a value of this setting; give a whole number of 1 or more",
        ),
        (
            of(&json!({"max_bytes": 1, "engine": "vllm"})),
            "budgets[1].engine: vllm has no version; write vllm@0.33, so that an upgrade of kvsize does not move the budget",
        ),
        (without("engine"), "budgets[0].engine: missing; name it with its version, as vllm@0.33, or ideal"),
        (without("name"), "budgets[0].name: missing; give each budget a name"),
        (
            without("model"),
            "budgets[0].model: missing; name one (`kvsize models` lists them), write it as an object, or give its dimensions",
        ),
        (
            without("max_bytes"),
            "budgets[0]: asserts nothing; give one or more of max_bytes, max_bytes_per_gpu, min_context, \
             min_concurrent_requests and must_fit_on",
        ),
        (
            of(&json!({"min_context": 1})),
            "budgets[1].min_context: applies to hardware, and none is named; name it, as \"gpu\": \"8xh100\"",
        ),
        (
            of(&json!({"max_bytes": 1, "weights": "1GB"})),
            "budgets[1].weights: applies to hardware, of which nothing is asserted; leave it out, or give must_fit_on, min_context \
             or min_concurrent_requests",
        ),
        (
            of(&json!({"max_bytes": 1, "gpu": "8xh100"})),
            "budgets[1].gpu: 8xh100 is a number of GPUs, and max_bytes and max_bytes_per_gpu apply to the layout that is given; give \
             tp, pp or dp, or h100, or another budget for what is asserted of the GPUs",
        ),
        (
            of(&json!({"max_bytes": 1, "accelerators": "own.json"})),
            "budgets[1].accelerators: applies to hardware, and none is named; leave it out, or name a gpu",
        ),
        (
            of(&json!({"must_fit_on": []})),
            "budgets[1].must_fit_on: [] is not a list of texts; write one text or more, each in quotes",
        ),
        (
            of(&json!({"name": "a", "max_bytes": 1})),
            "budgets[1].name: a is the name of budgets[0], too; give each its own name: a baseline is compared by it",
        ),
        (
            of(&json!({"name": "a\nb", "max_bytes": 1})),
            "budgets[1].name: \"a\\nb\" is empty or has control characters; write a name of one line",
        ),
    ] {
        directory.write("b.json", text);
        directory.check("--file b.json").stderr(&format!("error: {error}\n")).status(2);
    }
}

/// What is no file of budgets at all, or says a thing twice.
#[test]
fn wrong_files() {
    let raw = |text: &str| format!(r#"{{"schema": "kvsize.budgets/1", "budgets": [{text}]}}"#);
    let directory = Directory::new("wrong-files");
    for (text, error) in [
        (raw(r#"{"max_bytes": 1, "max_bytes": 2}"#), "budgets[0].max_bytes: is there twice; give it once"),
        (raw(r#"{"seq_len": 1, "context": 2}"#), "budgets[0].context: is there twice; give it once"),
        (raw(r#"{"name": "a", "name": "b"}"#), "budgets[0].name: is there twice; give it once"),
        (
            raw("1"),
            "budgets[0]: 1 is not one JSON object: invalid type: integer `1`, expected an object at column 1; write an object, its \
             keys and texts in double quotes",
        ),
        (raw(""), "budgets: an empty list asserts nothing; write a list of objects, each a budget"),
        (
            r#"{"schema": "kvsize.budgets/1", "budgets": {}}"#.into(),
            "budgets: {} is not a list; write a list of objects, each a budget",
        ),
        (r#"{"schema": "kvsize.budgets/1"}"#.into(), "budgets: missing; write a list of objects, each a budget"),
        (
            r#"{"schema": "kvsize.budgets/2", "budgets": []}"#.into(),
            "schema: kvsize.budgets/2 is not the shape of a file of budgets; write \"schema\": \"kvsize.budgets/1\"",
        ),
        (r#"{"budgets": []}"#.into(), "schema: missing; write \"schema\": \"kvsize.budgets/1\""),
        (r#"{"schema": 1, "schema": 2}"#.into(), "schema: is there twice; give it once"),
        (r#"{"budget": []}"#.into(), "budget: unknown key; did you mean budgets?"),
        (
            "{".into(),
            "b.json: { is not one JSON object: EOF while parsing an object at column 1; write an object, its keys and texts \
             in double quotes",
        ),
    ] {
        directory.write("b.json", text);
        directory.check("--file b.json").stderr(&format!("error: {error}\n")).status(2);
    }
    directory.write("b.json", vec![b' '; (32 << 20) + 1]);
    directory
        .check("--file b.json")
        .stderr(
            "error: --file: b.json: 33,554,433 bytes is more than the 33,554,432 bytes that are read; give a file of budgets (`kvsize check --init` writes one)\n",
        )
        .status(2);
    directory.write("b.json", b"\xff");
    directory
        .check("--file b.json")
        .stderr(
            "error: --file: b.json: the content is not UTF-8 text; give a file of budgets (`kvsize check --init` writes one)\n",
        )
        .status(2);
}

#[test]
fn wrong_options() {
    let directory = Directory::with("options", &file(&json!([budget("a", &json!({"max_bytes": "1GB"}))])));
    let checks = directory.check("--file b.json --json").output();
    directory.write("twice.json", checks.replace("\"checks\": [", "\"checks\": [{\"name\": \"a\"},"));
    directory.write("list.json", "[]");
    directory.write("typed.json", checks.replace("\"bytes\": 131072000", "\"bytes\": \"many\""));
    let give = "give what `kvsize check --file … --json` wrote";
    for (arguments, error) in [
        (
            "--file nosuch.json",
            "--file: nosuch.json: cannot be read: No such file or directory (os error 2); give a file of budgets (`kvsize check --init` writes one)",
        ),
        ("--file .", "--file: .: not a regular file; give a file of budgets (`kvsize check --init` writes one)"),
        ("--file b.json -s 1K", "--file: --seq-len is given as well; write it into the file, as a key of its budgets"),
        (
            "--file b.json llama-3.1-8b",
            "--file: a MODEL is given as well; write it into the file, as a key of its budgets",
        ),
        (
            "--file b.json --block-size 3",
            "--file: --block-size is given as well; write it into the file, as a key of its budgets",
        ),
        ("--init --batch 3", "--init: --batch is given as well; give it alone"),
        ("--file b.json --max-increase 5%", "--baseline: missing; give it as well"),
        ("--baseline b.json", "--file: missing; give it as well"),
        (
            "--file b.json --baseline b.json --max-increase 5",
            "--max-increase: 5 is not a percentage; give one with at most 4 decimals, as 5% or 2.5%",
        ),
        (
            "--file b.json --baseline b.json",
            &format!("--baseline: b.json, kvsize.budgets/1, is not kvsize.checks/1; {give}"),
        ),
        ("--file b.json --baseline twice.json", &format!("--baseline: twice.json has a twice; {give}")),
        ("--file b.json --baseline list.json", &format!("--baseline: list.json is not one JSON object; {give}")),
        ("llama-3.1-8b --budget 1GB --weights 1GB", "--weights: has no effect with --budget; drop one of them"),
        (
            "llama-3.1-8b --gpu h100 --margin 5%",
            "--margin: applies to a budget, and none is given; give --budget, or the share of the memory that is taken, as \
             --utilization 0.85",
        ),
        (
            "llama-3.1-8b --gpu 8xnosuch",
            "--gpu: nosuch is not a device known here; `kvsize gpus` lists all; --gpu-memory BYTES is for any other",
        ),
    ] {
        directory.check(arguments).stderr(&format!("error: {error}\n")).status(2);
    }
    let text = directory.check("--file b.json --baseline typed.json").text();
    assert!(
        text.starts_with("--- stderr\nerror: --baseline: typed.json is no such document: invalid type: string"),
        "{text}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever becomes of a file, there is an answer or one error, and never both nor anything else.
    #[test]
    fn a_mutated_file_is_answered_or_refused(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(), length in any::<prop::sample::Index>(),
    ) {
        let starter = include_bytes!("../src/cli/starter.json");
        let mut text = starter.to_vec();
        *at.get_mut(&mut text) = byte;
        if cut {
            let length = length.index(text.len());
            text.truncate(length);
        }
        let directory = Directory::new(&format!("mutated-{}", at.index(usize::MAX)));
        directory.write("b.json", text);
        let said = directory.check("--file b.json -q -f plain --offline").text();
        let (stdout, rest) = said.split_once("--- stderr\n").unwrap();
        let (stderr, status) = rest.split_once("--- status ").unwrap();
        match status.trim() {
            "0" | "1" => prop_assert!(stdout.lines().count() == 2 && stderr.is_empty(), "{}", said),
            "2" if stdout.is_empty() => prop_assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{}", said),
            "2" => prop_assert!(stdout.lines().count() == 2 && stderr.is_empty(), "{}", said),
            _ => prop_assert!(false, "{}", said),
        }
    }
}
