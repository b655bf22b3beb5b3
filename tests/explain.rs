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

/// The formulas are not only for show: worked out, each gives its group's bytes.
#[test]
fn the_numbers_put_in_give_the_bytes() {
    for model in ["llama-4-scout", "deepseek-v3.2", "gemma-3-27b", "qwen3.5-27b", "gpt-oss-20b", "falcon-mamba-7b"] {
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
