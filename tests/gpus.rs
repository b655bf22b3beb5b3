//! Accelerators, their prices, and how both are typed.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Run, kvsize};

fn json_of(run: Run) -> Value {
    serde_json::from_str(&run.data()).unwrap()
}

fn items(pattern: &str) -> Vec<Value> {
    let listing = json_of(Run::new(["gpus", pattern, "--json"]));
    assert_eq!(listing["schema"], "kvsize.gpus/1");
    listing["items"].as_array().unwrap().clone()
}

/// A file of our own under the temporary directory.
fn scratch(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("kvsize-{}-{name}", std::process::id()));
    fs::write(&path, text).unwrap();
    path
}

fn with_file(arguments: &str, option: &str, path: &Path) -> Run {
    Run::new(arguments.split_whitespace().chain([option, path.to_str().unwrap()]))
}

fn refused(arguments: &str, message: &str) {
    kvsize(arguments).stderr(&format!("error: {message}\n")).status(2);
}

#[test]
fn they_are_listed() {
    insta::assert_snapshot!("all", kvsize("gpus").text());
    insta::assert_snapshot!("one", kvsize("gpus h100-sxm").text());
    insta::assert_snapshot!("apple", kvsize("gpus apple-m3-max").text());
    insta::assert_snapshot!("apple_with_a_size", kvsize("gpus apple-m3-max-64gb").text());
    insta::assert_snapshot!("json", kvsize("gpus mi300x --json").text());
    insta::assert_snapshot!("jsonl", kvsize("gpus jetson -f jsonl").text());
    insta::assert_snapshot!("csv", kvsize("gpus rtx-50 -f csv").text());
    insta::assert_snapshot!("markdown", kvsize("gpus mi3 -f markdown").text());
    kvsize("gpus v100 -f plain").stdout("v100-pcie-16gb\nv100-sxm2-32gb\n").status(0);
    kvsize("gpus nosuch -f plain")
        .stderr("note: nothing is named like nosuch: a pattern is a part of a name, in any case\n")
        .status(0);
}

#[test]
fn the_list_fits_a_terminal() {
    for pattern in ["", "nvidia", "h200-sxm", "apple-m3-max", "rtx-pro-6000"] {
        let text = Run::new(["gpus", pattern]).output();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}

/// hardware 1.1: what is sold, what a driver reports and what an engine is told are three figures.
#[test]
fn totals_are_kept_apart_and_each_has_a_source() {
    let h100 = &items("NVIDIA H100 80GB HBM3")[0];
    assert_eq!(h100["name"], "h100-sxm");
    assert_eq!((&h100["marketed"]["value"], &h100["marketed"]["bytes"]), (&"80 GB".into(), &80_000_000_000_u64.into()));
    assert_eq!(h100["driver"]["bytes"], 81_559_u64 << 20);
    assert_eq!(h100["visible"]["value"], "79.19 GiB");
    assert_eq!(h100["engine_total"]["known"], "catalogue");
    let h200 = &items("h200-sxm")[0];
    assert_eq!(h200.get("visible"), None);
    assert_eq!(h200["engine_total"]["bytes"], (143_771_u64 - 468) << 20);
    assert_eq!(h200["engine_total"]["known"], "estimated");
    // AMD's gigabytes are binary; without a driver's figure the total for an engine is estimated of them.
    assert_eq!(items("mi300x")[0]["marketed"]["bytes"], 192_u64 << 30);
    assert_eq!(items("mi325x")[0]["engine_total"]["bytes"], (256_u64 << 30) * 982 / 1000);
    assert_eq!(items("mi325x")[0]["engine_total"]["known"], "estimated");
    assert_eq!(items("apple-m4-max")[0].get("engine_total"), None);
    // Of 150, none of a figure that nobody published.
    let all = items("");
    assert_eq!(all.len(), 150);
    for item in &all {
        for figure in
            ["compute_capability", "marketed", "driver", "visible", "bandwidth_mb_s", "bf16_gflops", "fp8_gflops"]
        {
            let source = item.get(figure).map(|figure| figure["source"].as_str().unwrap());
            assert!(source.is_none_or(|source| !source.is_empty() && !source.contains("memory")), "{item}");
            assert!(figure == "driver" || source.is_none_or(|source| !source.contains("unverified")), "{item}");
        }
    }
}

#[test]
fn a_name_is_one_device_or_the_devices_it_may_be_are_named() {
    refused(
        "estimate llama-3.1-8b -e vllm --gpu a100",
        "--gpu: a100 names several devices; name one of a100-pcie-40gb, a100-sxm4-40gb, a100-pcie-80gb, a100-sxm4-80gb",
    );
    refused(
        "levers article --gpu 8xfoo",
        "--gpu: foo is not a device known here; `kvsize gpus` lists all; --gpu-memory BYTES is for any other",
    );
    let gpu = |name: &str| json_of(Run::new(["levers", "article", "-q", "--json", "--gpu", name]))["gpu"].clone();
    for (typed, name, per_node) in [
        ("8xh100", "h100-sxm", 8),
        ("4xNVIDIA A100-SXM4-80GB", "a100-sxm4-80gb", 4),
        ("rtx4090", "rtx-4090", 1),
        ("2xTesla T4", "t4", 2),
    ] {
        let found = gpu(typed);
        assert_eq!((&found["name"], &found["per_node"]), (&name.into(), &per_node.into()), "{typed}");
    }
}

#[test]
fn counts_and_names_that_are_none_are_refused() {
    for gpu in ["0xh100", "xh100", "-1xh100", "1.5xh100", "99999999999999999999xh100"] {
        refused(
            &format!("levers article --gpu {gpu}"),
            &format!("--gpu: {gpu} has no usable number of GPUs; give 1 to 65536, as 8xh100"),
        );
    }
    refused(
        "levers article --gpu 8x",
        "--gpu: 8x names no GPU; name one, as h100 or 8xh100 (`kvsize gpus` lists them)",
    );
    refused(
        "estimate llama-3.1-8b -s 8k -e vllm --gpu 8xh100",
        "--gpu: 8xh100 is a number of GPUs, and defaults depend on the kind alone; give h100-sxm; --tp, --pp and --dp say how many there are",
    );
    Run::new(["levers", "article", "--gpu", ""])
        .stderr("error: --gpu: an empty name names no GPU; name one, as h100 or 8xh100 (`kvsize gpus` lists them)\n")
        .status(2);
}

#[test]
fn memory_can_be_given() {
    let gpu = |arguments: &str| json_of(kvsize(&format!("levers article -q --json {arguments}")))["gpu"].clone();
    assert_eq!(gpu("--gpu-memory 80GiB")["name"], "gpu-80gib");
    assert_eq!(gpu("--gpu-memory 80GiB")["memory_mib"], 81_920);
    assert_eq!(gpu("--gpu 8xh100 --gpu-memory 70GiB")["memory_mib"], 71_680);
    // Of Apple's chips it is what the machine is sold with, of which the GPU gets a part.
    assert_eq!(gpu("--gpu apple-m3-max --gpu-memory 64GiB")["memory_mib"], 49_152);
    assert_eq!(gpu("--gpu apple-m3-max-64gb")["memory_mib"], 49_152);
    refused(
        "levers article --gpu apple-m3-max",
        "--gpu: apple-m3-max has a memory that is not known here; give it with --gpu-memory",
    );
    for (typed, problem) in [("0", "is not a positive"), ("-1GiB", "is not a"), ("80", "")] {
        if !problem.is_empty() {
            refused(
                &format!("levers article --gpu-memory {typed}"),
                &format!(
                    "--gpu-memory: {typed} {problem} number of bytes; give bytes, or a number with kB, MB, GB, TB (powers of \
                     1000) or KiB, MiB, GiB, TiB"
                ),
            );
        }
    }
}

#[test]
fn prices_are_given_with_a_unit() {
    let document = |price: &str| json_of(kvsize(&format!("levers article -q --json --gpu 8xh100 --price {price}")));
    let given = document("2.49/gpu-h");
    assert_eq!(given["gpu"]["price"], json!({"cents_per_gpu_hour": 249, "source": "--price"}));
    assert_eq!(given["strategies"][0]["cents_per_hour"], 17 * 249);
    assert_eq!(document("19.92/node-h")["gpu"]["price"], given["gpu"]["price"]);
    assert_eq!(document("$2.49/gpu-hour")["gpu"]["price"], given["gpu"]["price"]);
    // Finer than a cent.
    assert_eq!(document("2.495/gpu-h")["gpu"]["price"]["cents_per_gpu_hour"], 249.5);
    assert_eq!(document("2.495/gpu-h")["strategies"][0]["cents_per_hour"], 4_241.5);
    let text = kvsize("levers article --gpu gb300 --price 2.5/gpu-h").data();
    assert!(text.contains("price: US$ 2.50 per GPU-hour (--price)"), "{text}");
    let unit = "give US dollars a GPU-hour, as 2.49/gpu-h, or an hour of a whole node, as 19.92/node-h";
    for price in ["2.49", "2.49/h", "$2.49", "2.49/day"] {
        refused(
            &format!("levers article --price {price}"),
            &format!("--price: {price} does not say an hour of what it pays for; {unit}"),
        );
    }
    let dollars = "give US dollars above 0 with at most 6 decimals, as 2.49/gpu-h";
    for (price, problem) in [
        ("0/gpu-h", "is not a positive number of dollars"),
        ("-1/gpu-h", "is not a number of dollars"),
        ("NaN/gpu-h", "is not a number of dollars"),
        ("inf/node-h", "is not a number of dollars"),
        ("/gpu-h", "is not a number of dollars"),
        ("2.4900001/gpu-h", "is finer than a millionth of a dollar"),
    ] {
        refused(&format!("levers article --price {price}"), &format!("--price: {price} {problem}; {dollars}"));
    }
    refused(
        "levers article --gpu h100 --price 10/node-h",
        "--price: 10.00/node-h is of a node of an unknown number of GPUs; give their number, as --gpu 8xh100, or a price in \
         /gpu-h",
    );
    refused(
        "levers article --gpu 3xh100 --price 10/node-h",
        "--price: 10.00/node-h does not divide by 3 GPUs to a millionth of a dollar; give a price in /gpu-h",
    );
    refused("levers article --price 1/gpu-h --prices x", "--price: --prices is given as well; give one of the two");
}

#[test]
fn prices_of_one_s_own_shadow_the_snapshot() {
    let path = scratch(
        "prices.json",
        r#"[{"device": "NVIDIA H100 80GB HBM3", "usd_per_gpu_hour": "1.999999", "as_of": "2026-11-01", "kind": "spot", "provider": "Ours"}]"#,
    );
    let price = |arguments: &str| {
        json_of(with_file(&format!("levers article -q --json {arguments}"), "--prices", &path))["gpu"]["price"].clone()
    };
    assert_eq!(
        price("--gpu 8xh100"),
        json!({"cents_per_gpu_hour": 199.9999, "as_of": "2026-11-01", "kind": "spot", "provider": "Ours", "source": "--prices"})
    );
    assert_eq!(price("--gpu 8xh200")["cents_per_gpu_hour"], 429);
    assert_eq!(price("--gpu gb300"), Value::Null);
    fs::remove_file(path).unwrap();
    for (name, text, message) in [
        ("p1.json", "[", "the text is not JSON: EOF while parsing a list at line 1 column 1"),
        (
            "p3.json",
            r#"[{"device": "l4", "usd_per_gpu_hour": "1", "as_of": "2026-02-30"}]"#,
            "[0].as_of: \"2026-02-30\" is not a date, as 2026-08-19",
        ),
        (
            "p4.json",
            r#"[{"device": "l4", "usd_per_gpu_hour": "1.5/h"}]"#,
            "[0].usd_per_gpu_hour: \"1.5/h\" is wrong: 1.5/h is not a number of dollars",
        ),
    ] {
        let path = scratch(name, text);
        with_file("levers article", "--prices", &path)
            .stderr(&format!(
                "error: --prices: {}: {message}; write [{{\"device\": \"h100-sxm\", \"usd_per_gpu_hour\": \"2.49\", \"as_of\": \
                 \"2026-08-19\", \"kind\": \"on demand\"}}]\n",
                path.display()
            ))
            .status(2);
        fs::remove_file(path).unwrap();
    }
    let path = scratch("p2.json", r#"[{"device": "h1000", "usd_per_gpu_hour": "1"}]"#);
    with_file("levers article", "--prices", &path)
        .stderr(&format!(
            "error: --prices: {}: [0].device: h1000 is not a device known here; nearest names: h100-sxm, h100-pcie, h100-nvl; \
             `kvsize gpus` lists all\n",
            path.display()
        ))
        .status(2);
    fs::remove_file(path).unwrap();
}

#[test]
fn accelerators_of_one_s_own_shadow_the_catalogue() {
    let path = scratch(
        "accelerators.json",
        r#"[{"names": ["H100"], "driver": {"value": "70000 MiB", "source": "ours"}, "compute_capability": {"value": [9, 0], "source": "ours"}},
            {"names": ["NPU 3000"], "vendor": "Ours", "marketed": {"value": "48 GB", "source": "its box"}}]"#,
    );
    let own = |arguments: &str| with_file(arguments, "--accelerators", &path);
    let listing = json_of(own("gpus --json"));
    assert_eq!(listing["items"].as_array().unwrap().len(), 152);
    assert_eq!(json_of(own("gpus npu --json"))["items"][0]["name"], "npu-3000");
    assert_eq!(json_of(own("levers article -q --json --gpu 8xh100"))["gpu"]["memory_mib"], 70_000);
    assert_eq!(json_of(own("estimate llama-3.1-8b -q --json -e vllm --gpu h100"))["schema"], "kvsize.estimate/1");
    let by_environment = kvsize("gpus npu -f plain").env("KVSIZE_ACCELERATORS", &path);
    by_environment.stdout("npu-3000\n").status(0);
    fs::remove_file(&path).unwrap();
    let path = scratch("a1.json", r#"[{"names": ["a"]}, {"names": ["b"], "driver": {"value": 80, "source": "x"}}]"#);
    with_file("gpus", "--accelerators", &path)
        .stderr(&format!(
            "error: --accelerators: {}: [1].driver: {{\"source\":\"x\",\"value\":80}} is wrong: invalid type: integer `80`, \
             expected a string; write [{{\"names\": [\"mine\"], \"driver\": {{\"value\": \"81559 MiB\", \"source\": \
             \"nvidia-smi\"}}}}]\n",
            path.display()
        ))
        .status(2);
    fs::remove_file(&path).unwrap();
}

/// What is assumed of a device is said, where an engine's defaults rest on it.
#[test]
fn what_is_not_known_of_a_device_is_said() {
    let text = kvsize("estimate llama-3.1-8b -s 8k -e vllm --gpu mi300x").text();
    assert!(
        text.contains("note: mi300x: its compute capability is not known; engines' defaults are those of 9.0\n"),
        "{text}"
    );
    assert!(!kvsize("estimate llama-3.1-8b -s 8k --gpu mi300x").text().contains("capability"));
}

/// Memory for the cache alone is not all that a card has.
#[test]
fn the_size_of_a_card_is_met_with_a_hint() {
    for memory in ["80GB", "80GiB", "81559MiB", "79.19GiB", "141GB", "24GB"] {
        let text = kvsize(&format!("llama-3.1-8b -s 8k -e vllm --memory {memory}")).text();
        assert!(text.contains("note: --memory is for the cache alone") && text.contains("--gpu-memory"), "{text}");
        let explained = kvsize(&format!("explain llama-3.1-8b -s 8k -e vllm --memory {memory}")).text();
        assert!(explained.contains("--gpu-memory"), "{explained}");
    }
    for memory in ["50GB", "63.47GiB"] {
        let text = kvsize(&format!("llama-3.1-8b -s 8k -e vllm --memory {memory}")).text();
        assert!(!text.contains("--gpu-memory"), "{text}");
    }
}

#[cfg(unix)]
mod local {
    use std::os::unix::fs::PermissionsExt;

    use super::{Run, Value, fs, json_of};

    /// A run with a directory as the whole PATH, in which `nvidia-smi` is the script.
    fn with(script: Option<&str>, name: &str, arguments: &str) -> Run {
        let directory = std::env::temp_dir().join(format!("kvsize-{}-smi-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        if let Some(script) = script {
            let path = directory.join("nvidia-smi");
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Run::new(arguments.split_whitespace()).env("PATH", &directory)
    }

    fn gpu(name: &str, script: &str, arguments: &str) -> Value {
        json_of(with(Some(script), name, &format!("levers article -q --json {arguments}")))["gpu"].clone()
    }

    const ASKED: &str = "test \"$*\" = '--query-gpu=name,memory.total --format=csv,noheader,nounits' || exit 9";

    #[test]
    fn equal_cards_are_counted_and_measured() {
        let two = format!("{ASKED}\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'NVIDIA H100 80GB HBM3, 81559'");
        let found = gpu("two", &two, "--gpu local");
        assert_eq!(
            (&found["name"], &found["per_node"], &found["memory_mib"]),
            (&"h100-sxm".into(), &2.into(), &81_559.into())
        );
        assert_eq!(gpu("two", &two, "--gpu 1xLocal")["per_node"], 1);
        // A card that is not known here has what its driver says.
        let unknown = gpu("own", "echo 'NVIDIA X1 Ultra, 12345'", "--gpu local");
        assert_eq!((&unknown["name"], &unknown["memory_mib"]), (&"x1-ultra".into(), &12_345.into()));
        // Memory that the machine shares is not told by the driver.
        assert_eq!(gpu("shared", "echo 'NVIDIA GB10, [N/A]'", "--gpu local")["name"], "gb10-dgx-spark");
        let estimate = with(Some(&two), "two", "estimate llama-3.1-8b -s 8k -e vllm --gpu local --json -q");
        assert_eq!(json_of(estimate)["schema"], "kvsize.estimate/1");
    }

    #[test]
    fn what_nvidia_smi_does_not_tell_is_said() {
        let remedy = "name the GPU, as --gpu 8xh100, or its memory with --gpu-memory";
        for (name, script, gpu, problem) in [
            ("none", None, "local", "asks nvidia-smi, which is not found here"),
            (
                "fails",
                Some("echo 'No devices were found'; exit 6"),
                "local",
                "asks nvidia-smi, which fails (exit status: 6): No devices were found",
            ),
            ("empty", Some("true"), "local", "asks nvidia-smi, which finds no GPU"),
            (
                "odd",
                Some("echo 'NVIDIA H100, lots'"),
                "local",
                "asks nvidia-smi, which answers \"NVIDIA H100, lots\": no name and MiB",
            ),
            ("na", Some("echo 'NVIDIA X2, [N/A]'"), "local", "is NVIDIA X2, whose memory nvidia-smi does not report"),
            (
                "mixed",
                Some("echo 'NVIDIA L4, 23034'; echo 'Tesla T4, 15360'; echo 'NVIDIA L4, 23034'"),
                "local",
                "is not one kind of GPU: nvidia-smi finds 2x NVIDIA L4 (23034 MiB), 1x Tesla T4 (15360 MiB)",
            ),
            ("few", Some("echo 'NVIDIA L4, 23034'"), "2xlocal", "is more than the 1 that nvidia-smi finds"),
        ] {
            with(script, name, &format!("levers article --gpu {gpu}"))
                .stderr(&format!("error: --gpu: {gpu} {problem}; {remedy}\n"))
                .status(2);
        }
    }

    #[test]
    fn it_is_not_waited_for_without_end() {
        with(Some("while :; do :; done"), "hangs", "levers article --gpu local")
            .stderr(
                "error: --gpu: local asks nvidia-smi, which does not answer in 5 seconds; name the GPU, as --gpu 8xh100, or its \
                 memory with --gpu-memory\n",
            )
            .status(2);
    }
}
