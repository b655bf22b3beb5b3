//! `kvsize fit`: what hardware holds, and the article's table of it.

use serde_json::Value;

use crate::harness::kvsize;

/// The answer to a question of hardware; about live bytes, where no engine is named.
fn json_with(status: i32, arguments: &str) -> Value {
    let engine = if arguments.contains("-e ") { "" } else { " -e ideal" };
    serde_json::from_str(&kvsize(&format!("fit {arguments}{engine} --json -q")).data_with(status)).unwrap()
}

fn rows(arguments: &str) -> Vec<Value> {
    json_with(0, arguments)["fits"].as_array().unwrap().clone()
}

fn row(arguments: &str) -> Value {
    let rows = rows(arguments);
    let [row] = rows.as_slice() else { panic!("{arguments}: {} rows", rows.len()) };
    row.clone()
}

fn tokens(arguments: &str) -> Vec<u64> {
    rows(arguments).iter().map(|row| row["pool_tokens"].as_u64().unwrap()).collect()
}

const CARDS: &str = "--gpu 8xh100,8xh200,32xh100,32xa100-sxm4-80gb";
const RULE: &str = "--capacity marketed --utilization 0.9 --overhead 0";

/// The article's four rows, exact after its rounding; `hardware.md` 3.1 and 3.3 for the corrected ones.
#[test]
fn the_article_s_table_comes_out_of_fit() {
    let by_rule = tokens(&format!("article {CARDS} {RULE} --weights 34GB"));
    assert_eq!(by_rule, [4_410_807, 7_985_026, 18_473_307, 18_473_307]);
    let rounded = by_rule.into_iter().map(kvsize::strategy::article::rounded).collect::<Vec<_>>();
    assert_eq!(rounded, [4_500_000, 8_000_000, 10_000_000, 10_000_000]);
    for (arguments, expected) in [
        ("article", [2_913_411, 6_487_630, 16_975_911, 16_975_911]),
        ("llama-4-scout --windows kept", [1_820_882, 4_054_768, 10_609_944, 10_609_944]),
        ("llama-4-scout", [7_258_952, 16_194_499, 42_415_202, 42_415_202]),
    ] {
        assert_eq!(tokens(&format!("{arguments} {CARDS} {RULE} --weights 218GB")), expected, "{arguments}");
    }
    // 4.410 million of (0.9 x 640 GB - 34 GB) / 122,880.
    assert_eq!(4_410_807, (576_000_000_000_u64 - 34_000_000_000) / 122_880);
}

/// Each column of `kvsize article` is repeated by the command under it.
#[test]
fn the_article_s_commands_say_what_its_table_says() {
    let page = kvsize("article").data();
    let commands: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("  $ kvsize fit ")).collect();
    assert_eq!(commands.len(), 4, "{page}");
    let grouped = kvsize::units::group_thousands;
    for command in commands {
        for tokens in tokens(command) {
            assert!(page.contains(&grouped(tokens)), "{command}: {tokens}");
        }
    }
    // As JSON the same rows stand under what was asked.
    let document: Value = serde_json::from_str(&kvsize("article --json").output()).unwrap();
    let mut asked: Vec<&str> = Vec::new();
    for row in document["fits"].as_array().unwrap() {
        let of = row["asked"].as_str().unwrap();
        if asked.last() != Some(&of) {
            asked.push(of);
        }
        assert!(page.contains(&grouped(row["pool_tokens"].as_u64().unwrap())), "{row}");
    }
    assert_eq!(asked.len(), 4, "{asked:?}");
}

/// What fits, fits by the engine's own answer for the same memory; one block more does not.
#[test]
fn the_longest_that_fits_is_the_estimate_s_longest() {
    for (arguments, engine) in [
        ("llama-3.1-8b --gpu 1xl4", "vllm"),
        ("llama-3.1-8b --gpu 1xl4 -d fp8", "vllm@0.19"),
        ("llama-3.1-70b --gpu 2xh100", "vllm"),
        ("llama-3.1-8b --gpu 2xt4 --pp 2", "vllm"),
        ("google--gemma-3-27b-it-text.json --gpu 1xh100 --weights 54GB", "vllm"),
        ("openai--gpt-oss-20b.json --gpu 1xrtx-4090 --weights 18GB --overhead 2GB", "vllm@0.19"),
        ("llama-3.1-8b --gpu 1xrtx-a6000 --weights 40GB", "sglang"),
        ("llama-3.1-8b --gpu 1xl4 --overhead 1GiB", "tensorrt-llm"),
        ("llama-3.1-8b --gpu 1xl4 --weights-dtype bf16", "llama.cpp"),
    ] {
        let row = row(&format!("{arguments} -e {engine}"));
        let longest = row["longest_seq_len_at_batch"].as_u64().unwrap();
        let memory = row["memory_bytes"].as_u64().unwrap();
        assert_ne!(row["binding"], "model_max_seq_len", "{arguments}: memory is to bind");
        assert!(longest > 0, "{arguments}");
        let model = arguments.split(' ').next().unwrap();
        let dtype = if arguments.contains("fp8") { " -d fp8" } else { "" };
        let gpu = row["gpu"].as_str().unwrap();
        let (tp, pp) = (&row["tp"], &row["pp"]);
        let estimate = |seq_len: u64| {
            let command = format!(
                "{model} -e {engine}{dtype} --gpu {gpu} --tp {tp} --pp {pp} -s {seq_len} --memory {memory} --json -q"
            );
            let document: Value = serde_json::from_str(&kvsize(&command).output()).unwrap();
            document["estimates"][0].clone()
        };
        let at = estimate(longest);
        let holds = |estimate: &Value, seq_len: u64| {
            estimate["capacity"]["fits"] == true && estimate["capacity"]["max_seq_len"] == seq_len
        };
        assert!(holds(&at, longest), "{arguments} {engine}: {longest} fits: {at}");
        let more = estimate(longest + 1);
        assert!(!holds(&more, longest + 1), "{arguments} {engine}: {longest} is the longest: {more}");
        let requests = &row["requests"][0];
        assert_eq!((requests["seq_len"].as_u64(), requests["room"].as_u64()), (Some(longest), Some(1)), "{arguments}");
        if engine.starts_with("vllm") {
            assert_eq!(row["pool_tokens"], at["capacity"]["tokens"], "{arguments} {engine}");
            assert_eq!(requests["max_concurrency"], at["capacity"]["max_concurrency"], "{arguments} {engine}");
        }
    }
}

/// The same of the live bytes, over stages: a device that is full first has no room for a token more.
#[test]
fn the_live_bytes_fill_the_memory_to_the_last_token() {
    for arguments in [
        "llama-3.1-8b --gpu 1xl4 --weights 16GB",
        "article --gpu 4xh100 --weights 34GB --tp 2",
        "deepseek-v3 --gpu 24xa100-sxm4-40gb",
    ] {
        let row = row(arguments);
        let (longest, memory) =
            (row["longest_seq_len_at_batch"].as_u64().unwrap(), row["memory_bytes"].as_u64().unwrap());
        let model = arguments.split(' ').next().unwrap();
        let bytes = |seq_len: u64| {
            let (dtype, tp, pp) = (row["kv_dtype"].as_str().unwrap(), &row["tp"], &row["pp"]);
            let command = format!("estimate {model} -d {dtype} --tp {tp} --pp {pp} -s {seq_len} --json -q");
            let document: Value = serde_json::from_str(&kvsize(&command).output()).unwrap();
            document["estimates"][0]["bytes_per_gpu"].as_u64().unwrap()
        };
        assert!(bytes(longest) <= memory, "{arguments}");
        let alike = row.get("stages").is_none();
        assert!(!alike || bytes(longest + 1) > memory, "{arguments}: {longest}");
    }
}

/// Layouts: ranks as far as heads and nodes go, stages for the rest, replicas where they are asked for.
#[test]
fn a_layout_is_chosen_or_completed() {
    let layout = |arguments: &str| {
        let row = row(&format!("{arguments} --weights 1GB --overhead 0"));
        let size = |name: &str| row[name].as_u64().unwrap();
        ((size("tp"), size("pp"), size("dp")), row["layout"].as_str().unwrap().to_owned())
    };
    for (arguments, expected) in [
        ("llama-3.1-8b --gpu 1xh100", (1, 1, 1)),
        ("llama-3.1-8b --gpu 8xh100", (8, 1, 1)),
        ("llama-4-scout --gpu 32xh100", (8, 4, 1)),
        // Four KV heads: eight ranks would keep each twice.
        ("Qwen--Qwen3-30B-A3B.json --gpu 8xh100", (4, 2, 1)),
        ("llama-3.1-8b --gpu 6xh100", (2, 3, 1)),
        ("deepseek-v3 --gpu 16xh100", (8, 2, 1)),
        ("llama-3.1-8b --gpu 8xh100 --tp 2", (2, 4, 1)),
        ("llama-3.1-8b --gpu 8xh100 --dp 2", (4, 1, 2)),
        ("llama-3.1-8b --gpu 8xh100 --pp 4", (2, 4, 1)),
        ("llama-3.1-8b --gpu 8xh100 --tp 2 --pp 2", (2, 2, 2)),
        // More stages than layers can't be.
        ("llama-3.1-8b --gpu 512xh100", (8, 1, 64)),
        ("llama-3.1-8b --gpu 4xl4 -e llama.cpp", (1, 4, 1)),
        ("llama-3.1-8b --gpu 4xl4 -e transformers", (1, 1, 4)),
    ] {
        assert_eq!(layout(arguments).0, expected, "{arguments}");
    }
    assert_eq!(layout("llama-3.1-8b --gpu 8xh100").1, "chosen");
    assert_eq!(layout("llama-3.1-8b --gpu 8xh100 --tp 4 --pp 2").1, "given");
}

#[test]
fn what_binds_is_named() {
    let binding = |status: i32, arguments: &str| {
        let document = json_with(status, &format!("{arguments} --overhead 0"));
        document["fits"][0]["binding"].as_str().unwrap().to_owned()
    };
    assert_eq!(binding(0, "llama-3.1-8b --gpu 8xh100"), "model_max_seq_len");
    assert_eq!(binding(0, "llama-3.1-8b --gpu 1xl4"), "memory");
    assert_eq!(binding(0, "llama-3.1-70b --gpu 16xt4 --tp 16"), "kv_heads");
    assert_eq!(binding(1, "llama-3.1-70b --gpu 1xh100"), "weights");
    // The last stage has the head as well as its layers.
    assert_eq!(binding(0, "llama-3.1-70b --gpu 2xh100 --pp 2"), "pipeline_stage");
}

/// `max_num_seqs` where there is room for more; requests at the average are counted beside.
#[test]
fn requests_are_counted_at_both_lengths_and_no_more_than_the_engine_runs() {
    let row = row("llama-3.1-8b --gpu 8xh200 -e vllm -s 32K --avg-seq-len 512 -b 4");
    let [full, average] = [&row["requests"][0], &row["requests"][1]];
    assert_eq!((&full["seq_len"], &average["seq_len"]), (&32768.into(), &512.into()));
    assert!(full.get("bound_by").is_none() && full["room"] == full["at_once"], "{full}");
    assert_eq!((&average["bound_by"], &average["at_once"]), (&"max_num_seqs".into(), &1024.into()));
    assert!(average["room"].as_u64() > Some(1024));
    let page = kvsize("fit llama-3.1-8b --gpu 8xh200 -e vllm -s 32K --avg-seq-len 512").data();
    assert!(page.contains("1,024 requests at once: max_num_seqs"), "{page}");
    let more = self::row("llama-3.1-8b --gpu 8xh200 -e vllm --max-num-seqs 5000 -s 4096");
    assert_eq!(more["requests"][0]["at_once"], more["requests"][0]["room"]);
}

/// Replicas each hold their own.
#[test]
fn replicas_add_up() {
    let one = row("llama-3.1-8b --gpu 1xh100 -e vllm -s 32K");
    let four = row("llama-3.1-8b --gpu 4xh100 --tp 1 --pp 1 -e vllm -s 32K");
    assert_eq!(four["dp"], 4);
    assert_eq!(four["pool_tokens"].as_u64(), one["pool_tokens"].as_u64().map(|tokens| 4 * tokens));
    assert_eq!(four["requests"][0]["room"].as_u64(), one["requests"][0]["room"].as_u64().map(|room| 4 * room));
    assert_eq!(four["longest_seq_len_at_batch"], one["longest_seq_len_at_batch"]);
    // 4 x 14 = 56 requests, 14 in each.
    let room = one["requests"][0]["room"].as_u64().unwrap();
    let all = 4 * room;
    json_with(0, &format!("llama-3.1-8b --gpu 4xh100 --tp 1 --pp 1 -e vllm -s 32K -b {all}"));
    json_with(1, &format!("llama-3.1-8b --gpu 4xh100 --tp 1 --pp 1 -e vllm -s 32K -b {}", all + 1));
}

/// Every term says how it is known; what is given replaces what is known.
#[test]
fn terms_say_how_they_are_known() {
    let terms = |arguments: &str| -> Vec<(String, u64, String)> {
        let row = row(arguments);
        let terms = row["terms"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        terms.map(|term| (text(&term["name"]), term["bytes"].as_u64().unwrap(), text(&term["known"]))).collect()
    };
    let of = |terms: &[(String, u64, String)], name: &str| {
        let (_, bytes, known) = terms.iter().find(|(known, ..)| known == name).unwrap_or_else(|| panic!("no {name}"));
        (*bytes, known.clone())
    };
    let known = terms("llama-3.1-8b --gpu 1xh100 -e vllm");
    assert_eq!(of(&known, "total"), (85_029_615_042, "catalogue".into()));
    assert_eq!(of(&known, "weights"), (16_060_522_496, "estimated".into()));
    assert_eq!(of(&known, "usable").1, "catalogue");
    assert_eq!(of(&known, "step").1, "estimated");
    let given = terms("llama-3.1-8b --gpu 1xh100 -e vllm --gpu-memory-utilization 0.5 --weights 8GB --overhead 1GB");
    assert_eq!(of(&given, "usable"), (42_514_807_521, "given".into()));
    assert_eq!(of(&given, "weights"), (8_000_000_000, "given".into()));
    assert_eq!(of(&given, "overhead"), (1_000_000_000, "given".into()));
    let sized = terms("llama-3.1-8b --gpu-memory 80GiB --weights 16GB");
    assert_eq!(of(&sized, "total"), (80 << 30, "given".into()));
    let driver = terms("llama-3.1-8b --gpu h100 --capacity driver --overhead 0");
    assert_eq!(of(&driver, "total"), (81_559 << 20, "catalogue".into()));
    // No source has an H200's engine total: the driver's, less the median of the cards seen.
    assert_eq!(of(&terms("llama-3.1-8b --gpu h200 --overhead 0"), "total").1, "estimated");
    // The same share under each engine's own name.
    let sglang = |flag: &str| of(&terms(&format!("llama-3.1-8b --gpu h100 -e sglang {flag}")), "usable");
    assert_eq!(sglang("--mem-fraction-static 0.8"), sglang("--utilization 0.8"));
    // Eight bits a parameter of linear layers and a scale for each row; 16 bits for embedding, head and norms.
    let half = terms("llama-3.1-8b --gpu h100 -e vllm --weights-dtype fp8");
    let (rest, rows) = (2 * 128_256 * 4096 + 65 * 4096, 32 * (6144 + 4096 + 28_672 + 4096));
    assert_eq!(of(&half, "weights"), (8_030_261_248 + rest + 4 * rows, "estimated".into()));
}

/// A price has its day on stdout; without one there is no cost.
#[test]
fn costs_follow_from_prices() {
    let priced = row("llama-3.1-8b --gpu 8xh100 -e vllm");
    assert_eq!((&priced["price"]["as_of"], &priced["usd_per_hour"]), (&"2026-08-19".into(), &"31.20".into()));
    let given =
        row("article --gpu 8xh100 --price 3.5/gpu-h --capacity marketed --utilization 0.9 --weights 34GB --overhead 0");
    assert_eq!((&given["usd_per_hour"], given["price"].get("as_of")), (&"28.00".into(), None));
    let each = given["usd_per_million_token_hours"].as_str().unwrap().parse::<f64>().unwrap();
    assert_eq!(each.to_string(), format!("{:.2}", 28_000_000.0 / 4_410_807.0_f64));
    assert_eq!(row("llama-3.1-8b --gpu gb300 --overhead 0").get("usd_per_hour"), None);
    assert!(!kvsize("fit llama-3.1-8b --gpu gb300 --overhead 0").data().contains("US$"));
}

/// The line to paste starts the server that was asked about, in each engine's words.
#[test]
fn the_line_to_paste_is_the_layout_shown() {
    for (arguments, expected) in [
        (
            "llama-3.1-70b --gpu 16xh100 -e vllm -s 128K -d fp8 --utilization 0.95 --max-num-batched-tokens 4096",
            "vllm serve meta-llama/Meta-Llama-3.1-70B --tensor-parallel-size 8 --pipeline-parallel-size 2 --max-model-len \
             131072 --gpu-memory-utilization 0.95 --kv-cache-dtype fp8 --max-num-batched-tokens 4096",
        ),
        (
            "llama-3.1-8b --gpu 4xh100 --tp 2 --pp 1 -e sglang -s 32768 --mem-fraction-static 0.9",
            "python -m sglang.launch_server --model-path meta-llama/Meta-Llama-3.1-8B --tp-size 2 --dp-size 2 \
             --context-length 32768 --mem-fraction-static 0.9",
        ),
        (
            "llama-3.1-8b --gpu 2xl4 -e llama.cpp -s 16K -b 2 -d q8_0",
            "llama-server -m MODEL.gguf --ctx-size 32768 --parallel 2 --cache-type-k q8_0 --cache-type-v q8_0",
        ),
        (
            "llama-3.1-8b --gpu 2xh100 -e tensorrt-llm --overhead 2GB -s 8K",
            "trtllm-serve meta-llama/Meta-Llama-3.1-8B --tp_size 2 --max_seq_len 8192",
        ),
    ] {
        assert_eq!(row(arguments)["command"], expected, "{arguments}");
        let page = kvsize(&format!("fit {arguments}")).data();
        assert!(page.lines().any(|line| line == format!("     $ {expected}")), "{page}");
    }
    assert_eq!(row("llama-3.1-8b --gpu h100").get("command"), None);
    let no = json_with(1, "llama-3.1-70b --gpu 1xh100 -e vllm");
    assert_eq!(no["fits"][0].get("command"), None, "what does not fit is no server");
}

/// An answer of no is an answer: the shortfall, and status 1.
#[test]
fn what_does_not_fit_is_told_with_what_is_missing() {
    let document = json_with(1, "llama-3.1-70b --gpu 1xh100 --utilization 0.9 --overhead 0");
    let row = &document["fits"][0];
    assert_eq!((&row["fits"], &row["longest_seq_len_at_batch"]), (&false.into(), &0.into()));
    let usable = 85_029_615_042_u64 * 9 / 10 + 1;
    // One token of 327,680 bytes does not fit either.
    assert_eq!(row["missing_bytes"], 141_107_412_992 - usable + 327_680);
    assert_eq!(row.get("pool_bytes"), None);
    // The length asked for is short of what it needs beyond the pool.
    let long = json_with(1, "llama-3.1-8b --gpu 1xl4 -s 128K --overhead 0");
    let row = &long["fits"][0];
    let pool = row["pool_bytes"].as_u64().unwrap();
    assert_eq!(row["missing_bytes"], 131_072 * 131_072 - pool);
    assert!(row["longest_seq_len_at_batch"].as_u64() > Some(0));
    // Of several configurations one is enough for no.
    json_with(1, "llama-3.1-70b --gpu 1xh100,8xh100");
}

/// No number stands for what has no end, or for what an engine refuses.
#[test]
fn limits_are_named_and_no_number_stands_for_them() {
    let no = |arguments: &str| json_with(1, arguments)["fits"][0].clone();
    let refused = no("llama-3.1-8b --gpu h100 -e llama.cpp -b 300 -s 1K");
    assert_eq!((&refused["binding"], refused.get("missing_bytes")), (&"refused".into(), None));
    assert!(
        refused["binding_reason"].as_str().unwrap().contains("300 is more sequences than a context may have (256)")
    );
    let overflow = no("llama-3.1-8b --gpu h100 -b 1000000000000 -s 128K");
    assert_eq!((&overflow["binding"], overflow.get("missing_bytes")), (&"refused".into(), None));
    let endless = row("falcon-mamba-7b --gpu h100 --weights 15GB");
    assert_eq!((endless.get("longest_seq_len_at_batch"), endless.get("pool_tokens")), (None, None));
    assert_eq!(endless["binding"], "nothing");
    // What is asked for is short of memory, though one request reaches the model's maximum.
    assert_eq!(no("llama-3.1-8b --gpu h100 -s 128K -b 100")["binding"], "memory");
    assert_eq!(row("llama-3.1-8b --gpu h100 -e sglang --max-total-tokens 20000")["binding"], "engine");
    let sequences = no("llama-3.1-8b --gpu 1xh200 -s 512 -b 1100 -e vllm");
    assert_eq!((&sequences["binding"], sequences.get("missing_bytes")), (&"sequences".into(), None));
}

/// A layout that holds what is asked for is found, where the most usual one does not; the longest is of so many at once.
#[test]
fn a_layout_is_looked_for_that_holds_the_workload() {
    let size = |row: &Value| ["tp", "pp", "dp"].map(|name| row[name].as_u64().unwrap());
    assert_eq!(size(&row("llama-3.1-70b --gpu 2xa100-sxm4-80gb -s 32K -e vllm")), [1, 2, 1]);
    // One server runs 1,024 at once.
    assert_eq!(size(&row("llama-3.1-8b -s 1k -b 1100 -e vllm --gpu 8xh100")), [4, 1, 2]);
    // SGLang's ranks divide KV heads, too.
    assert_eq!(size(&row("phi-4 --gpu 8xh100 -e sglang")), [2, 4, 1]);
    let eight = row("llama-3.1-8b --gpu 1xl4 -b 8");
    assert_eq!(
        (&eight["requests"][0]["room"], &eight["requests"][0]["seq_len"]),
        (&8.into(), &eight["longest_seq_len_at_batch"])
    );
}

/// Of a list what an engine refuses is left out, and said; alone it is an error.
#[test]
fn what_is_refused_in_a_list_is_left_out() {
    let words = |arguments: &str| kvsize(arguments).text();
    let some = words("fit llama-3.1-8b --gpu v100-16gb,h100 -e vllm -d fp8");
    assert!(
        some.contains("warning: left out: v100-pcie-16gb with vllm@0.33: --kv-dtype: fp8 is an FP8 KV cache"),
        "{some}"
    );
    assert!(some.ends_with("--- status 0\n"));
    assert!(words("fit llama-3.1-8b --gpu v100-16gb -e vllm -d fp8").ends_with("--- status 2\n"));
    assert!(words("plan llama-3.1-8b -s 8K -e vllm -d fp8").ends_with("--- status 0\n"));
    let apple = words("fit llama-3.1-8b --gpu m3-max-64gb -e vllm");
    assert!(
        apple.contains("apple-m3-max-64gb needs to be a CUDA GPU with a known compute capability for vllm"),
        "{apple}"
    );
}

/// Weights and cache of a device are of the same layers; llama.cpp keeps the embedding on the host.
#[test]
fn llama_cpp_gives_devices_whole_layers() {
    let row = row("llama-3.1-70b --gpu 2xrtx-4090 -e llama.cpp --weights 40GB -s 8K -b 2");
    // 81 units, the output being one: 41 layers, and 39 with the head.
    assert_eq!(row["terms"][2]["bytes"], 20_500_000_000_u64);
    let one = self::row("llama-3.1-8b --gpu h100 -e llama.cpp --weights-dtype bf16");
    let embedding = 128_256 * 4096 * 2;
    // Norms are F32 in a GGUF file: 65 of 4,096, and the frequencies of the rotation.
    let wider = 65 * 4096 * 2;
    assert_eq!(one["terms"][2]["bytes"].as_u64().unwrap(), 16_060_522_496 + wider - embedding);
}

#[test]
fn lines_to_paste_say_what_servers_take() {
    let command = |arguments: &str| row(arguments)["command"].as_str().map(ToOwned::to_owned);
    let sglang = command("llama-3.1-8b --gpu h100 -e sglang -d fp8 -s 8K").unwrap();
    assert!(sglang.ends_with("--context-length 8192 --kv-cache-dtype fp8_e4m3"), "{sglang}");
    let apart = command("llama-3.1-8b --gpu l4 -e llama.cpp --k-dtype q8_0 --v-dtype fp16 -s 4K").unwrap();
    assert!(apart.ends_with("--cache-type-k q8_0 --cache-type-v f16"), "{apart}");
    let both = command("llama-3.1-8b --gpu l4 -e llama.cpp -d bf16 -s 4K").unwrap();
    assert!(both.ends_with("--cache-type-k bf16 --cache-type-v bf16"), "{both}");
    // A mixture's replicas are servers of their own here.
    let mixture = command("qwen3-30b-a3b --gpu 8xh200 --tp 1 --pp 1 -e vllm -s 8K").unwrap();
    assert!(mixture.ends_with("--max-model-len 8192 # each of 8 replicas"), "{mixture}");
    // What no line tells: weights of another format, whose defaults these are, a length past the maximum, a file of options.
    for arguments in [
        "llama-3.1-70b --gpu 1xh200 -e vllm --weights-dtype fp8 -s 8K",
        "llama-3.1-8b --gpu h100 -e vllm --usage offline",
        "llama-3.1-8b --gpu h100 -e vllm -s 200K",
        "llama-3.1-8b --gpu h100 -e tensorrt-llm --overhead 2GB --tokens-per-block 64",
        "llama-3.1-8b --gpu h100 -e vllm --speculative-method ngram",
    ] {
        assert_eq!(command(arguments), None, "{arguments}");
    }
}

/// The memory that is given is all there is to go by: nothing of the card it stands for.
#[test]
fn given_memory_decides_what_engines_default_to() {
    let pool = |arguments: &str| row(arguments)["pool_bytes"].clone();
    assert_eq!(
        pool("llama-3.1-8b --gpu h100 --gpu-memory 40GiB -e sglang"),
        pool("llama-3.1-8b --gpu-memory 40GiB -e sglang")
    );
}

#[test]
fn bad_input() {
    for (arguments, error) in [
        (
            "llama-3.1-8b",
            "--gpu: missing; name the GPUs, as --gpu 8xh100, or the memory of one, as --gpu-memory 80GiB (`kvsize gpus` \
             lists them)",
        ),
        (
            "llama-3.1-8b --gpu h1000",
            "--gpu: h1000 is not a device known here; nearest names: h100-sxm, h100-pcie, h100-nvl; `kvsize gpus` lists all",
        ),
        ("llama-3.1-8b --gpu 0xh100", "--gpu: 0xh100 has no usable number of GPUs; give 1 to 65536, as 8xh100"),
        (
            "llama-3.1-8b --gpu 8xh100 --tp 4 --pp 4",
            "--tp --pp --dp: tp 4 x pp 4 is not 8 GPUs; give sizes whose product is the number of GPUs, or fewer of \
             them",
        ),
        (
            "llama-3.1-8b --gpu 8xh100 --tp 2 --pp 2 --dp 1",
            "--tp --pp --dp: tp 2 x pp 2 x dp 1 is not 8 GPUs; give sizes whose product is the number of GPUs, or \
             fewer of them",
        ),
        ("llama-3.1-8b --gpu 6xh100 --tp 6", "--tp: 6 does not divide the 32 query heads; give a divisor of them"),
        (
            "llama-3.1-8b --gpu 4xl4 --tp 2 -e llama.cpp",
            "--tp: 2 is not how llama.cpp spreads a model; leave it out: the number of GPUs decides",
        ),
        (
            "llama-3.1-8b --gpu h100 --overhead=-1",
            "--overhead: -1 is not a number of bytes; give bytes, or a number with kB, MB, GB, TB (powers of 1000) or KiB, MiB, \
             GiB, TiB",
        ),
        (
            "llama-3.1-8b --gpu h100 --price 2.49",
            "--price: 2.49 does not say an hour of what it pays for; give US dollars a GPU-hour, as 2.49/gpu-h, or an hour of a \
             whole node, as 19.92/node-h",
        ),
        (
            "llama-3.1-8b --gpu h100 --utilization 1.5",
            "--utilization: 1.5 is not a share of the whole; give a decimal above 0 and at most 1, as 0.9",
        ),
        (
            "llama-3.1-8b --gpu h100 --utilization 0",
            "--utilization: 0 is not a share of the whole; give a decimal above 0 and at most 1, as 0.9",
        ),
        (
            "llama-3.1-8b --gpu h100 -e sglang --mem-fraction-static 0.9 --utilization 0.8",
            "--mem-fraction-static: 0.9 is given together with --utilization, which is the same; leave one of them out",
        ),
        (
            "llama-3.1-8b --gpu h100 -s 1..1m+1000",
            "--seq-len: 1,000 combinations are more than the 256 that hardware is asked about at once; give fewer values",
        ),
        (
            "llama-3.1-8b --gpu h100 -s 8K --shared-prefix 1K",
            "--shared-prefix: 1024 is not counted with hardware; leave it out: each request is counted whole",
        ),
        (
            "llama-3.1-8b --gpu h100 -e llama.cpp --ctx-size 32768",
            "--ctx-size: 32768 is not counted with hardware; give --seq-len and --batch instead",
        ),
        (
            "llama-3.1-8b --gpu h100 -e llama.cpp --n-gpu-layers 20",
            "--n-gpu-layers: 20 is not counted with hardware; leave it out: here all layers are on the GPUs",
        ),
        (
            "llama-3.1-8b --gpu h100 -s 1K --avg-seq-len 2K",
            "--avg-seq-len: 2048 is more than the 1,024 tokens of the longest; give at most --seq-len",
        ),
        (
            "llama-3.1-8b -e ideal --gpu rubin",
            "--gpu: rubin has no visible memory size from any source; give it with --gpu-memory, or another --capacity",
        ),
        (
            "--layers 32 --kv-heads 8 --head-dim 128 --gpu h100",
            "MODEL: model from flags has unknown weights; give their bytes with --weights, or the files that hold \
             them",
        ),
        (
            "llama-3.1-8b --gpu h100 -e tensorrt-llm",
            "--overhead: unknown: no public start-up logs say what it holds beside weights and cache (tensorrt-llm); \
             give it, as --overhead 8GiB",
        ),
        (
            "--gpu h100",
            "MODEL: missing; name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads",
        ),
    ] {
        kvsize(&format!("fit {arguments}")).stderr(&format!("error: {error}\n")).status(2);
    }
}

#[test]
fn what_people_see() {
    insta::assert_snapshot!("one", kvsize("fit llama-3.1-8b --gpu h100 -e vllm -s 32K --avg-seq-len 2K").text());
    insta::assert_snapshot!("verbose", kvsize("fit llama-3.1-8b --gpu h100 -e vllm -s 32K -v").text());
    insta::assert_snapshot!(
        "several",
        kvsize("fit llama-3.1-70b --gpu 2xh100,8xh100,8xh200 -e vllm -s 32K -b 8").text()
    );
    insta::assert_snapshot!("formats", kvsize("fit llama-3.1-8b --gpu l4,t4,rtx-4090 -d bf16,fp8,q4_0").text());
    insta::assert_snapshot!("stages", kvsize("fit deepseek-v3 --gpu 16xh100 -e vllm").text());
    insta::assert_snapshot!("no", kvsize("fit llama-3.1-70b --gpu 1xh100 -f markdown").text());
    insta::assert_snapshot!("csv", kvsize("fit llama-3.1-8b --gpu h100,l4 -f csv").text());
    insta::assert_snapshot!("json", kvsize("fit llama-3.1-8b --gpu 2xl4 -e vllm --json").text());
}
