use crate::harness::kvsize;

#[test]
fn every_byte_is_accounted_for() {
    for (name, arguments) in [
        ("chunks", "explain llama-4-scout -s 10m"),
        ("latents_and_index", "explain deepseek-ai--DeepSeek-V3.2.json -s 128K"),
        ("compressed", "explain deepseek-v4-flash -s 1M -b 2"),
        ("recurrent", "explain nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json -s 8192 -d fp8"),
        ("markdown", "explain gemma-3-27b -s 128K -f markdown"),
    ] {
        insta::assert_snapshot!(name, kvsize(arguments).text());
    }
}

#[test]
fn an_engine_s_bytes_are_led_to_from_the_live_ones() {
    for (name, arguments) in [
        ("blocks", "gpt-oss-20b -s 1001 -d fp8 -e tensorrt-llm --tokens-per-block 64 --tp 4"),
        ("states", "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json -s 8192 -e transformers"),
        ("capacity", "llama-3.1-8b -e tensorrt-llm --memory 20GiB -b 2"),
    ] {
        insta::assert_snapshot!(format!("engine_{name}"), kvsize(&format!("explain {arguments} -q")).text());
    }
}

/// The same figures as the estimate's, and steps that add up.
#[test]
fn an_engine_s_figures_are_those_of_its_estimate() {
    for arguments in [
        "gpt-oss-20b -s 1001 -d fp8 -e tensorrt-llm --tokens-per-block 64 --tp 4 --memory 20GiB",
        "llama-3.1-8b -s 1001 -e tensorrt-llm --pp 2 --memory 20GiB",
        "deepseek-v4-flash -s 1001 -b 3 -d bf16 -e transformers",
        "llama-3.1-8b -s 1001 -d bf16",
    ] {
        let json = |text: String| serde_json::from_str::<serde_json::Value>(&text).unwrap();
        let explained = json(kvsize(&format!("explain {arguments} --json -q")).output());
        let estimated = json(kvsize(&format!("{arguments} --json -q")).output());
        let row = &estimated["estimates"][0];
        assert_eq!((&explained["engine"], &explained["engine_bytes"]), (&row["engine"], &row["bytes"]), "{arguments}");
        assert_eq!(explained["engine_bytes_per_gpu"], row["bytes_per_gpu"]);
        for key in ["gaps", "tensorrt_llm", "transformers", "capacity"] {
            assert_eq!(explained.get(key), row.get(key), "{arguments}: {key}");
        }
        let gaps =
            explained["gaps"].as_array().map_or(0, |gaps| gaps.iter().map(|gap| gap["bytes"].as_i64().unwrap()).sum());
        let bytes = |key: &str| explained[key].as_i64().unwrap();
        assert_eq!(bytes("bytes") + gaps, bytes("engine_bytes"), "{arguments}");
    }
}

#[test]
fn no_line_is_wider_than_a_terminal() {
    for arguments in [
        "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json --tp 16",
        "gpt-oss-20b -e tensorrt-llm --memory 20GiB",
        "deepseek-v4-flash -e transformers",
        "llama-4-scout -e tensorrt-llm --max-attention-window 8192 --sink-token-length 4 --tokens-per-block 64",
    ] {
        let text = kvsize(&format!("explain {arguments} -q")).output();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{arguments}: {line}");
        }
    }
}

#[test]
fn one_estimate_is_explained() {
    for (arguments, field) in [
        ("-s 1k,2k", "--seq-len"),
        ("-b 1,2", "--batch"),
        ("-d bf16,fp8", "--kv-dtype or --bitwidth"),
        ("--bitwidth 3,4", "--kv-dtype or --bitwidth"),
        ("-e ideal,transformers", "--engine"),
    ] {
        kvsize(&format!("explain llama-3.1-8b {arguments}"))
            .stderr(&format!("error: {field}: 2 values are more than one estimate takes; give one\n"))
            .status(2);
    }
    kvsize("explain llama-3.1-8b --tokens-per-block 64")
        .stderr(
            "error: --tokens-per-block: applies to tensorrt-llm, not to ideal; add --engine tensorrt-llm, or \
             leave it out\n",
        )
        .status(2);
}

/// The formulas are not only for show: worked out, each gives its group's bytes.
#[test]
fn the_numbers_put_in_give_the_bytes() {
    for model in [
        "llama-4-scout",
        "deepseek-v3.2",
        "gemma-3-27b",
        "qwen3.5-27b",
        "gpt-oss-20b",
        "falcon-mamba-7b",
        "deepseek-v4-flash",
        "llama-4-scout --shared-prefix 50k --pp 4 -d int8_per_token_head",
        "llama-3.1-8b --shared-prefix 99k --tp 32 --dcp 4",
        "deepseek-v3.2 --tp 8 --dcp 8 --speculative-method mtp",
        "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json --tp 16",
        "gpt-oss-20b --shared-prefix 99950 --bitwidth 3",
        "gemma-3-27b --k-dtype fp8 --v-dtype bf16",
        "gemma-3-27b -d turboquant_4bit_nc",
        "deepseek-v3.2 -d int8_per_token_head",
    ] {
        let text = kvsize(&format!("explain {model} -s 100003 -b 3 --json -q")).output();
        let explained: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut total = 0;
        for group in explained["layer_groups"].as_array().unwrap() {
            let numbers = group["numbers"].as_str().unwrap();
            let bytes = group["bytes"].as_u64().unwrap();
            assert_eq!(value(numbers), bytes, "{model}: {numbers}");
            total += bytes;
        }
        assert_eq!(explained["bytes"], total, "{model}");
    }
}

/// The value of `a x (b + min(c, d)) x e/f`, exactly.
fn value(text: &str) -> u64 {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let mut rest = text.as_str();
    let (numerator, denominator) = sum(&mut rest);
    assert!(rest.is_empty() && numerator % denominator == 0, "{text}");
    u64::try_from(numerator / denominator).unwrap()
}

type Fraction = (u128, u128);

fn sum(rest: &mut &str) -> Fraction {
    let (mut numerator, mut denominator) = product(rest);
    while let Some(after) = rest.strip_prefix(['+', '-']) {
        let minus = rest.starts_with('-');
        *rest = after;
        let (n, d) = product(rest);
        let (a, b) = (numerator * d, n * denominator);
        numerator = if minus { a - b } else { a + b };
        denominator *= d;
    }
    (numerator, denominator)
}

fn product(rest: &mut &str) -> Fraction {
    let (mut numerator, mut denominator) = factor(rest);
    while let Some(after) = rest.strip_prefix(['x', '/']) {
        let divided = rest.starts_with('/');
        *rest = after;
        let (n, d) = factor(rest);
        let (n, d) = if divided { (d, n) } else { (n, d) };
        numerator *= n;
        denominator *= d;
    }
    (numerator, denominator)
}

fn factor(rest: &mut &str) -> Fraction {
    for (name, is_min) in [("min(", true), ("ceil(", false), ("(", false)] {
        let Some(after) = rest.strip_prefix(name) else { continue };
        *rest = after;
        let first = sum(rest);
        let result = if is_min {
            *rest = rest.strip_prefix(',').unwrap();
            let second = sum(rest);
            (first.0.min(second.0), 1)
        } else if name == "ceil(" {
            (first.0.div_ceil(first.1), 1)
        } else {
            first
        };
        *rest = rest.strip_prefix(')').unwrap();
        return result;
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    (digits.parse().unwrap(), 1)
}
