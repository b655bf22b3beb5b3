//! What the program does is said by its first word, or by what is asked of it: old words, no word, another program's command.

use crate::harness::kvsize;

/// The same answer under an old name, with a note on the new one, which `-q` drops.
#[test]
fn old_names_answer_with_a_note() {
    for (old, new) in [
        ("sweep llama-3.1-8b -s 1k..4k*2 -f csv", "estimate llama-3.1-8b -s 1k..4k*2 -f csv"),
        ("strategies llama-3.1-8b -s 8k -f csv", "levers llama-3.1-8b -s 8k -f csv"),
        ("schema estimate", "generate schema estimate"),
        ("man fit", "generate man fit"),
        ("completions bash", "generate completions bash"),
    ] {
        let answer = kvsize(new).text();
        let verb = |line: &str, words: usize| line.split(' ').take(words).collect::<Vec<_>>().join(" ");
        let words = if new.starts_with("generate") { 2 } else { 1 };
        let note = format!("note: kvsize {} is kvsize {} now\n", verb(old, 1), verb(new, words));
        let said = kvsize(old).text();
        assert!(said.contains(&note), "{old}: {said}");
        assert_eq!(said.replacen(&note, "", 1), answer, "{old}");
    }
    for old in ["sweep llama-3.1-8b -s 1k..4k*2 -f csv -q", "strategies llama-3.1-8b -s 8k -f csv -q"] {
        kvsize(old).output();
    }
}

/// GPUs without a verb are a question of hardware, unless the memory of the cache is given.
#[test]
fn gpus_without_a_verb_ask_what_fits() {
    let arguments = "llama-3.1-8b --gpu h100 -s 32K";
    assert_eq!(kvsize(arguments).text(), kvsize(&format!("fit {arguments}")).text());
    let arguments = "llama-3.1-8b --gpu h100 -e vllm -s 32K --memory 8GiB";
    assert_eq!(kvsize(arguments).text(), kvsize(&format!("estimate {arguments}")).text());
}

/// A command to start a server is asked about as it stands.
#[test]
fn the_command_of_another_program_is_read() {
    for (asked, meant) in [
        (
            "fit --gpu 2xh100 -- vllm serve meta-llama/Meta-Llama-3.1-8B --tensor-parallel-size 2 --max-model-len 32768 \
             --kv-cache-dtype fp8 --gpu-memory-utilization 0.8",
            "fit meta-llama/Meta-Llama-3.1-8B -e vllm --gpu 2xh100 --tp 2 -s 32768 -d fp8 --utilization 0.8",
        ),
        (
            "fit --gpu h100 -- python -m sglang.launch_server --model-path meta-llama/Meta-Llama-3.1-8B --context-length 8192",
            "fit meta-llama/Meta-Llama-3.1-8B -e sglang --gpu h100 -s 8192",
        ),
    ] {
        let rows = |line: &str| {
            let document: serde_json::Value =
                serde_json::from_str(&kvsize(&line.replacen("fit ", "fit --json -q ", 1)).output()).unwrap();
            document["fits"].clone()
        };
        assert_eq!(rows(asked), rows(meant), "{asked}");
    }
}

/// Lists of hardware's questions are all combined: a row each, in this order.
#[test]
fn fit_takes_lists() {
    let text = kvsize("fit llama-3.1-8b qwen3-8b --gpu 4xh100 -e vllm -s 8K,32K -b 1,8 --tp 2,4 --json -q").output();
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let rows: Vec<_> = document["fits"].as_array().unwrap().iter().collect();
    let number = |row: &serde_json::Value, key: &str| row[key].as_u64().unwrap();
    let found: Vec<_> = rows
        .iter()
        .map(|row| (row["model"].as_str().unwrap(), number(row, "tp"), number(row, "seq_len"), number(row, "batch")))
        .collect();
    let mut expected = Vec::new();
    for model in ["meta-llama/Meta-Llama-3.1-8B", "Qwen/Qwen3-8B"] {
        for tp in [2, 4] {
            for seq_len in [8_192, 32_768] {
                expected.extend([1, 8].map(|batch| (model, tp, seq_len, batch)));
            }
        }
    }
    assert_eq!(found, expected);
    // Each is the answer to its own question.
    for row in rows {
        let [tp, seq_len, batch] = ["tp", "seq_len", "batch"].map(|key| number(row, key));
        let model = row["model"].as_str().unwrap();
        let line = format!("fit {model} --gpu 4xh100 -e vllm -s {seq_len} -b {batch} --tp {tp} --json -q");
        let alone: serde_json::Value = serde_json::from_str(&kvsize(&line).output()).unwrap();
        assert_eq!(alone["fits"][0], *row, "{line}");
    }
}
