//! The levers of the article's "making it fit".

use serde_json::Value;

use crate::harness::{Run, kvsize};

fn json_of(arguments: &str) -> Value {
    serde_json::from_str(&kvsize(&format!("levers {arguments} --json -q")).output()).unwrap()
}

fn rows(document: &Value) -> &[Value] {
    document["strategies"].as_array().unwrap()
}

fn row<'a>(document: &'a Value, kind: &str) -> &'a Value {
    rows(document).iter().find(|row| row["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// FP8 halves 1228.8 GB; four nodes of eight H100 by its words, 18 GPUs and three nodes by its own rule.
#[test]
fn the_article_s_statements() {
    let document = json_of("article -s 10m --gpu 8xh100");
    assert_eq!(row(&document, "baseline")["bytes"], 1_228_800_000_000_u64);
    assert_eq!(row(&document, "fp8")["bytes"], 614_400_000_000_u64);
    assert_eq!(row(&document, "4_bit")["bytes"], 307_200_000_000_u64);
    assert_eq!(row(&document, "2_bit")["bytes"], 153_600_000_000_u64);
    assert_eq!((&document["article"]["gpus"], &document["article"]["named"]), (&18.into(), &true.into()));
    // (1,228,800,000,000 + 34,000,000,000) / (0.9 x 81,559 MiB) = 16.4
    assert_eq!((&row(&document, "baseline")["gpus"], &row(&document, "baseline")["nodes"]), (&17.into(), &3.into()));
    let h200 = json_of("article -s 10m --gpu 8xh200");
    assert_eq!((&h200["article"]["gpus"], &h200["article"]["named"]), (&10.into(), &false.into()));
    assert_eq!(json_of("article -s 1m")["article"]["named"], false);
    let flat = kvsize("levers article").data().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("the article says: at least 4 nodes of 8 H100 (32 GPUs, about US$ 115 an hour in April 2025)")
    );
    assert!(flat.contains("(0.9 x 80 GB as sold): 18 GPUs, 3 nodes of 8"), "{flat}");
}

/// The real model needs less than the article says, since chunks are honoured, and more where they are not.
#[test]
fn what_the_real_scout_needs_and_why_it_differs() {
    let document = json_of("llama-4-scout -s 10m");
    assert_eq!(row(&document, "baseline")["bytes"], 492_727_959_552_u64);
    assert_eq!(row(&document, "windows_kept")["bytes"], 1_966_080_000_000_u64);
    let article = &document["article"];
    assert_eq!((&article["bytes"], &article["gpus"]), (&1_228_800_000_000_u64.into(), &18.into()));
    // hardware: 10 H100 with chunks honoured, 31 without, each with 218 GB of weights.
    assert_eq!((&article["real"][0]["gpus"], &article["real"][1]["gpus"]), (&10.into(), &31.into()));
    assert_eq!(json_of("meta-llama--Llama-4-Scout-17B-16E-Instruct.json -s 10m")["article"]["real"], article["real"]);
    assert_eq!(json_of("llama-3.1-8b -s 128K").get("article"), None);
}

/// Every row of every kind of model: its command prints its bytes.
#[test]
fn every_row_is_repeated_by_its_command() {
    let mut met = std::collections::BTreeSet::new();
    for arguments in [
        "article -s 10m",
        "llama-4-scout -s 1m -b 3 --gpu 4xh200",
        "deepseek-v3 -s 128K -b 2",
        "deepseek-ai--DeepSeek-V4-Flash.json -s 100k",
        "google--gemma-3-27b-it.json -s 128K --sinks 8 --window 512 --retrieve 4x1k",
        "class-default--kimi_linear.json -s 1m",
        "class-default--t5.json -s 20k --encoder-len 100",
    ] {
        for row in rows(&json_of(arguments)) {
            assert_eq!(row["usable"] == true, row.get("bytes").is_some() && row.get("reason").is_none());
            let Some(command) = row["command"].as_str() else { continue };
            met.insert(row["kind"].as_str().unwrap().to_owned());
            let words = command.split(' ').skip(1).chain(["--json", "-q"]);
            let answer: Value = serde_json::from_str(&Run::new(words).output()).unwrap();
            let estimates = answer["estimates"].as_array().unwrap();
            assert_eq!(estimates.len(), 1, "{command}");
            assert_eq!(estimates[0]["bytes"], row["bytes"], "{command}");
            if let Some(each) = row.get("bytes_per_gpu") {
                assert_eq!(&estimates[0]["bytes_per_gpu"], each, "{command}");
            }
        }
    }
    assert_eq!(met.len(), 16, "{met:?}");
}

#[test]
fn they_are_shown() {
    insta::assert_snapshot!("article", kvsize("levers article -s 10m --gpu 8xh100").text());
    insta::assert_snapshot!("scout", kvsize("levers llama-4-scout").text());
    insta::assert_snapshot!("latents", kvsize("levers deepseek-v3 -s 128K -b 4 --gpu gb300 --unit GiB").text());
    insta::assert_snapshot!("states", kvsize("levers class-default--mamba2.json -s 1k").text());
    insta::assert_snapshot!("markdown", kvsize("levers qwen3-32b -s 32K -f markdown").text());
    insta::assert_snapshot!("csv", kvsize("levers qwen3-32b -s 32K -f csv").text());
    insta::assert_snapshot!("plain", kvsize("levers qwen3-32b -s 32K -f plain").text());
}

#[test]
fn the_page_fits_a_terminal() {
    for arguments in [
        "article",
        "llama-4-scout -b 1000",
        "llama-4-scout -b 10000",
        "deepseek-v3 -s 128K -b 4",
        "gemma-3-27b --gpu rtx-4090",
    ] {
        let text = kvsize(&format!("levers {arguments}")).data();
        let long = text.lines().find(|line| line.chars().count() > 80 && !line.starts_with("  $ "));
        assert_eq!(long, None, "{arguments}");
    }
}

/// Without a price there is none, never zero.
#[test]
fn money_is_dated_or_absent() {
    let priced = json_of("article");
    assert_eq!(priced["gpu"]["price"]["as_of"], "2026-08-19");
    assert_eq!(row(&priced, "baseline")["cents_per_hour"], 17 * 390);
    // What does not fit costs nothing that can be told.
    assert_eq!(row(&priced, "tensor_parallel")["fits"], false);
    assert_eq!(row(&priced, "tensor_parallel").get("cents_per_hour"), None);
    let unpriced = json_of("article --gpu 8xgb300");
    assert_eq!(unpriced["gpu"].get("price"), None);
    assert!(rows(&unpriced).iter().all(|row| row.get("cents_per_hour").is_none()));
    assert!(!kvsize("levers article --gpu gb300").data().contains("US$/h"));
}

/// Weights are counted where they are known or given.
#[test]
fn weights_take_room_as_well() {
    let gpus = |arguments: &str| row(&json_of(arguments), "baseline")["gpus"].as_u64();
    assert_eq!(gpus("llama-4-scout"), Some(10));
    assert_eq!(gpus("llama-4-scout --weights 0"), Some(7));
}

/// Floors are bytes and operations over figures that have a source.
#[test]
fn floors_are_what_the_hardware_s_figures_leave() {
    let document = json_of("llama-3.1-8b -s 131072 --floors --gpu h100");
    let floors = &row(&document, "baseline")["floors"];
    // 17,179,869,184 B / 3,350 GB/s
    assert_eq!(floors["cache_read_ns"], 17_179_869_184_u64 / 3_350);
    // 8,030,261,248 parameters without the 128,256 x 4,096 of the input embedding, and without those of the output.
    let (all, embedding) = (8_030_261_248_u64, 128_256 * 4_096);
    assert_eq!(floors["weights_read_ns"], (all - embedding) * 2 / 3_350);
    assert_eq!(floors["prefill_linear_ns"], (all - 2 * embedding) * 2 * 131_072 / 989_000);
    // 32 layers x 32 heads x 256 elements x 2 operations x 131,072 x 131,073 / 2 pairs
    assert_eq!(floors["prefill_attention_ns"], 32 * 32 * 256 * (131_072_u64 * 131_073) / 989_000);
    assert_eq!(document["floors"]["bandwidth_gb_s"], 3_350);

    // 10,000,000 tokens: 1.23e19 operations of attention with chunks honoured.
    let scout = json_of("llama-4-scout -s 10m --floors");
    let attention = row(&scout, "baseline")["floors"]["prefill_attention_ns"].as_u64().unwrap();
    assert_eq!(attention * 10 * 989_000 / 10_u64.pow(17), 123);
    assert_eq!(row(&scout, "baseline")["floors"].get("weights_read_ns"), None);

    // Layers that pick what they read have no floor of the whole cache; memory alone knows no H20.
    assert_eq!(
        row(&json_of("deepseek-ai--DeepSeek-V3.2.json -s 8k --floors"), "baseline")["floors"].get("cache_read_ns"),
        None
    );
    assert_eq!(json_of("llama-3.1-8b -s 8k --gpu h20 --floors")["floors"], serde_json::json!({}));
    assert_eq!(row(&json_of("llama-3.1-8b -s 8k"), "baseline").get("floors"), None);
    // What does not fit is not timed.
    assert_eq!(row(&json_of("article --floors"), "tensor_parallel").get("floors"), None);
    insta::assert_snapshot!("floors", kvsize("levers llama-3.1-8b -s 128K --floors").text());
}

#[test]
fn levers_are_options_of_the_estimate() {
    let bytes = |arguments: &str| -> Value {
        let document: Value = serde_json::from_str(&kvsize(&format!("{arguments} --json -q")).output()).unwrap();
        document["estimates"][0]["bytes"].clone()
    };
    // 48 layers x (4 + 4,096) entries x 8 heads x 256 elements x 2 bytes.
    assert_eq!(bytes("llama-4-scout -s 1m -d bf16 --sinks 4 --window 4096"), 48 * 4_100 * 8 * 256 * 2);
    // A chunk that is shorter stays.
    assert_eq!(
        bytes("llama-4-scout -s 1m -d bf16 --sinks 4 --window 100000"),
        (12 * 100_004_u64 + 36 * 8_192) * 8 * 256 * 2
    );
    assert_eq!(bytes("llama-4-scout -s 1m -d bf16 --windows kept"), 48 * 1_000_000_u64 * 8 * 256 * 2);
    assert_eq!(bytes("llama-4-scout -s 1m --windows honoured"), bytes("llama-4-scout -s 1m"));
    assert_eq!(bytes("llama-4-scout --retrieve 20x512"), bytes("llama-4-scout -s 10240"));
    assert_eq!(bytes("llama-4-scout --retrieve 20x512 -e vllm"), bytes("llama-4-scout -s 10240 -e vllm"));
    let explained = kvsize("explain llama-3.1-8b -s 1m --sinks 4 --window 4096").text();
    assert!(explained.contains("StreamingLLM: a layer keeps the first 4 tokens and the last 4,096"), "{explained}");
}

#[test]
fn what_can_t_be_asked_is_refused() {
    let refused = |arguments: &str, message: &str| {
        kvsize(arguments).stderr(&format!("error: {message}\n")).status(2);
    };
    refused(
        "llama-4-scout -s 1m,1k --sinks 1001 --window 4",
        "--sinks: 1001 is more than the 1,000 tokens of a sequence; give fewer, 4 as published",
    );
    refused(
        "levers article -s 1k --sinks 2000",
        "--sinks: 2000 is more than the 1,000 tokens of a sequence; give fewer, 4 as published",
    );
    refused("estimate article --sinks 4", "--window: missing; give it as well");
    refused("estimate article --window 4096", "--sinks: missing; give it as well");
    refused("estimate article --retrieve", "--retrieve: has no value; give it one");
    for command in ["estimate ", "levers "] {
        refused(
            &format!("{command}article --retrieve 512"),
            "--retrieve: 512 does not say how many passages of how many tokens; give both, as 20x512",
        );
        refused(
            &format!("{command}article --retrieve 0x512"),
            "--retrieve: 0 is not a positive count; give a whole number of 1 or more",
        );
    }
    refused("estimate article -s 1k --retrieve 20x512", "--seq-len: --retrieve is given as well; give one of the two");
    refused(
        "levers article -s 1k --retrieve 20x512",
        "--retrieve: 20x512 is more than the 1,000 tokens of a sequence; give fewer passages, or a longer --seq-len",
    );
    refused(
        "levers article -s 1k -b 2 --shared-prefix 2k",
        "--shared-prefix: 2,000 is more than the 1,000 tokens of a sequence; give at most --seq-len",
    );
    refused(
        "levers article --gpu 8xh1000",
        "--gpu: h1000 is not a device known here; nearest names: h100-sxm, h100-pcie, h100-nvl; `kvsize gpus` lists all",
    );
    for gpu in ["0xh100", "99999999999999999999xh100"] {
        refused(
            &format!("levers article --gpu {gpu}"),
            &format!("--gpu: {gpu} has no usable number of GPUs; give 1 to 65536, as 8xh100"),
        );
    }
    refused(
        "deepseek-v3 -s 1m --sinks 4 --window 4096",
        "--sinks: 4 is of StreamingLLM, which is published for K and V of heads and not for latent_attention layers; leave \
         --sinks and --window out",
    );
    refused(
        "llama-3.1-8b -s 1m --sinks 4 --window 4096 -e ideal,vllm",
        "--sinks: 4 applies to the ideal estimate; vllm keeps what its own rules say; use -e ideal, or leave it out",
    );
    refused(
        "llama-4-scout --windows kept -e sglang",
        "--windows: kept applies to the ideal estimate; sglang keeps what its own rules say; use -e ideal, or leave it out",
    );
    refused(
        "llama-3.1-8b -s 1m -b 2 --sinks 4 --window 4096 --shared-prefix 1k",
        "--sinks: --shared-prefix is given as well; give one of the two",
    );
    refused(
        "levers nosuch --strict",
        "MODEL: nosuch is unknown: not a file, not in the catalogue; try a Hugging Face id such as meta-llama/Llama-3.1-8B (`kvsize models` lists all)",
    );
    refused(
        "levers llama-3.1-8b -s 10m --strict",
        "--strict: 10,000,000 tokens is past the model's maximum of 131,072 (max_position_embeddings); drop --strict to see \
         the answer all the same",
    );
}
