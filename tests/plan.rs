//! `kvsize plan`: the smallest layouts that hold a workload.

use serde_json::Value;

use crate::harness::kvsize;

fn json_with(status: i32, arguments: &str) -> Value {
    serde_json::from_str(&kvsize(&format!("plan {arguments} --json -q")).data_with(status)).unwrap()
}

fn layouts(arguments: &str) -> Vec<Value> {
    json_with(0, arguments)["plans"].as_array().unwrap().clone()
}

fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name}: {row}"))
}

/// The options of `fit` for a layout.
fn as_fit(row: &Value) -> String {
    let [gpus, tp, pp, dp] = ["gpus", "tp", "pp", "dp"].map(|name| number(row, name));
    let name = row["gpu"].as_str().unwrap();
    format!("--gpu {gpus}x{name} --tp {tp} --pp {pp} --dp {dp}")
}

/// Each layout holds the workload by `fit`'s own answer, and the next smaller one does not.
#[test]
fn a_layout_fits_and_the_next_smaller_one_does_not() {
    for (model, workload) in [
        ("llama-3.1-70b", "-s 128K -b 1 -e vllm"),
        ("llama-3.1-70b", "-s 32K -b 64 -e vllm"),
        ("llama-4-scout", "-s 10m -b 1"),
        ("deepseek-v3", "-s 128K -b 16 -e sglang"),
        ("llama-3.1-8b", "-s 100K -b 3"),
    ] {
        let found = layouts(&format!("{model} {workload} --gpu h100,h200,l40s"));
        assert!(found.len() >= 3, "{model} {workload}");
        for row in &found {
            let fit = |options: &str, status: i32| -> Value {
                let command = format!("fit {model} {workload} {options} --json -q");
                let text = kvsize(&command).data_with(status);
                serde_json::from_str::<Value>(&text).unwrap()["fits"][0].clone()
            };
            let holding = fit(&as_fit(row), 0);
            assert_eq!(holding["requests"], row["requests"], "{model} {workload}: {row}");
            let Some(smaller) = row.get("smaller") else {
                assert_eq!(row["gpus"], 1, "{row}");
                continue;
            };
            assert!(number(smaller, "gpus") < number(row, "gpus"), "{row}");
            let mut smaller = smaller.clone();
            smaller["gpu"] = row["gpu"].clone();
            let lacking = fit(&as_fit(&smaller), 1);
            if let Some(bytes) = smaller.get("missing_bytes") {
                assert_eq!(&lacking["missing_bytes"], bytes, "{row}: {lacking}");
            } else {
                assert_eq!(lacking["requests"][0]["at_once"], smaller["requests"], "{row}");
            }
        }
    }
}

/// No fewer devices hold it in any layout that `fit` knows.
#[test]
fn nothing_smaller_fits() {
    for (model, workload) in [("llama-3.1-70b", "-s 64K -b 8 -e vllm"), ("llama-3.1-8b", "-s 128K -b 5")] {
        let found = layouts(&format!("{model} {workload} --gpu l40s --any-layout"));
        let fewest = found.iter().map(|row| number(row, "gpus")).min().unwrap();
        for gpus in 1..fewest {
            for tp in (1..=8).filter(|tp| gpus % tp == 0 && 8 % tp == 0) {
                let rest = gpus / tp;
                for pp in (1..=rest).filter(|pp| rest.is_multiple_of(*pp)) {
                    let dp = rest / pp;
                    let options = format!("--gpu {gpus}xl40s --tp {tp} --pp {pp} --dp {dp}");
                    kvsize(&format!("fit {model} {workload} {options} -f plain -q")).data_with(1);
                }
            }
        }
    }
}

/// The cheapest first, and marked; a price that is not known comes last and is no cost.
#[test]
fn rows_are_in_the_order_of_their_cost() {
    let found = layouts("llama-3.1-70b -s 32K -b 8");
    let cost = |row: &Value| row["usd_per_hour"].as_str().map(|dollars| dollars.parse::<f64>().unwrap());
    let costs: Vec<Option<f64>> = found.iter().map(cost).collect();
    let known = costs.iter().take_while(|cost| cost.is_some()).count();
    assert!(known > 5 && known < costs.len() && costs[known..].iter().all(Option::is_none));
    // Prices of half a year before the newest come after the others, in their own order.
    let day = |row: &Value| kvsize::hardware::day(row["price"]["as_of"].as_str().unwrap()).unwrap();
    let newest = found[..known].iter().map(day).max().unwrap();
    let fresh = found[..known].iter().take_while(|row| newest - day(row) <= 180).count();
    assert!(fresh > 2 && found[fresh..known].iter().all(|row| newest - day(row) > 180));
    for costs in [&costs[..fresh], &costs[fresh..known]] {
        assert!(costs.windows(2).all(|pair| pair[0] <= pair[1]));
    }
    assert!(found[0]["cheapest"] == true && found[known]["cheapest"] == false);
    let fewest = found.iter().map(|row| number(row, "gpus")).min().unwrap();
    assert!(found.iter().all(|row| (number(row, "gpus") == fewest) == (row["smallest"] == true)));
}

/// Both one replica over many ranks and replicas of few are told.
#[test]
fn replicas_and_wider_ranks_are_both_offered() {
    let found = layouts("llama-3.1-8b -s 32K -b 64 --gpu h100 --any-layout");
    let replicas: Vec<u64> = found.iter().map(|row| number(row, "dp")).collect();
    assert!(replicas.contains(&1) && replicas.iter().any(|&dp| dp > 1), "{replicas:?}");
    // More at once than one server runs: replicas alone.
    let many = layouts("llama-3.1-8b -s 64 -b 3000 -e vllm --gpu h100");
    assert!(many.iter().all(|row| number(row, "dp") == 3), "{many:?}");
}

/// Sizes that are given are kept; the average is counted beside.
#[test]
fn sizes_that_are_given_are_kept() {
    let sizes = |arguments: &str| -> Vec<[u64; 3]> {
        layouts(arguments).iter().map(|row| ["tp", "pp", "dp"].map(|name| number(row, name))).collect()
    };
    assert_eq!(sizes("llama-3.1-70b -s 8K --gpu h100 --tp 8"), [[8, 1, 1]]);
    assert_eq!(sizes("llama-3.1-8b -s 8K --gpu 8xh100 --dp 4 --pp 2"), [[1, 2, 4]]);
    assert!(sizes("llama-3.1-8b -s 8K -b 9 --gpu h100 --dp 3").iter().all(|[.., dp]| *dp == 3));
    kvsize("plan llama-3.1-70b --gpu h100 --tp 3 -s 8K")
        .stderr("error: --tp: 3 does not divide the 64 query heads; give a divisor of them\n")
        .status(2);
    let row = &layouts("llama-3.1-8b -s 8K --avg-seq-len 1K --gpu h100 -e vllm")[0];
    let fit: Value = serde_json::from_str(
        &kvsize("fit llama-3.1-8b -s 8K --avg-seq-len 1K --gpu 1xh100 -e vllm --json -q").output(),
    )
    .unwrap();
    assert_eq!(fit["fits"][0]["requests"], row["requests"]);
    assert_eq!(fit["fits"][0]["error"], row["error"]);
}

/// A number before the x is the most. What is missing with the most is told.
#[test]
fn what_holds_nowhere_is_no() {
    let document = json_with(1, "llama-3.1-70b -e ideal -s 128K --gpu 1xh100,2xl4 --overhead 0");
    let small = document["too_small"].as_array().unwrap();
    let of = |row: &Value| (row["gpu"].as_str().unwrap().to_owned(), number(row, "max_gpus"));
    assert_eq!(small.iter().map(of).collect::<Vec<_>>(), [("h100-sxm".into(), 1), ("l4".into(), 2)]);
    let usable = 85_029_615_042_u64 * 9 / 10 + 1;
    assert_eq!(number(&small[0]["closest"], "missing_bytes"), 141_107_412_992 - usable + 131_072 * 327_680);
    assert_eq!(document["plans"], Value::Array(vec![]));
    let some = json_with(0, "llama-3.1-70b -s 128K --gpu 1xh100,8xh200");
    assert_eq!((some["plans"].as_array().unwrap().len(), some["too_small"].as_array().unwrap().len()), (1, 1));
    assert_eq!(json_with(1, "llama-3.1-70b -s 128K --gpu l4 --max-gpus 3")["too_small"][0]["max_gpus"], 3);
}

#[test]
fn bad_input() {
    for (arguments, error) in [
        (
            "--layers 2 --kv-heads 2 --head-dim 8 --weights 1GB",
            "--seq-len: missing, and the model has no maximum of its own; give the tokens of a request",
        ),
        ("llama-3.1-8b --max-gpus 0", "--max-gpus: 0 is not a positive count; give a whole number of 1 or more"),
        (
            "bamba-9b-v2 -s 1k",
            "MODEL: ibm-ai-platform/Bamba-9B-v2 has unknown weights; give their bytes with --weights, or the files that hold them",
        ),
        (
            "llama-3.1-8b --gpu a100",
            "--gpu: a100 names several devices; name one of a100-pcie-40gb, a100-sxm4-40gb, a100-pcie-80gb, a100-sxm4-80gb",
        ),
    ] {
        kvsize(&format!("plan {arguments}")).stderr(&format!("error: {error}\n")).status(2);
    }
}

#[test]
fn what_people_see() {
    insta::assert_snapshot!("few", kvsize("plan llama-4-scout -s 10m -e vllm --gpu h100,h200,b200").text());
    insta::assert_snapshot!("all", kvsize("plan llama-3.1-70b -s 128K -b 16").text());
    insta::assert_snapshot!("none", kvsize("plan llama-3.1-70b -s 128K --gpu 1xh100").text());
    insta::assert_snapshot!("csv", kvsize("plan llama-3.1-8b -s 32K -b 64 --gpu h100,l4 -f csv").text());
}
