use crate::harness::kvsize;

#[test]
fn every_format() {
    for format in ["table", "plain", "json", "jsonl", "csv", "markdown"] {
        let text = kvsize(&format!("llama-4-scout -s 1k,128K -b 1,8 -f {format}")).text();
        insta::assert_snapshot!(format!("format_{format}"), text);
    }
}

#[test]
fn many_columns_become_rows() {
    insta::assert_snapshot!(kvsize("llama-3.1-8b -s 128K -d bf16,fp8,int8,int4,int2").text());
}

#[test]
fn every_unit() {
    for (unit, amount) in [
        ("B", "7,650,410,496 B"),
        ("kB", "7650410.496 kB"),
        ("MB", "7650.410 MB"),
        ("MiB", "7296.000 MiB"),
        ("GB", "  7.650 GB"),
        ("GiB", "  7.125 GiB"),
        ("TB", "  0.008 TB"),
        ("TiB", "  0.007 TiB"),
        ("auto", "  7.650 GB"),
    ] {
        kvsize(&format!("llama-4-scout -s 128K -d bf16 -f plain --quiet --unit {unit}"))
            .stdout(&format!(
                "KV-Cache Memory Estimates for meta-llama/Llama-4-Scout-17B-16E-Instruct (BF16):\n     131,072 tokens → {amount}\n"
            ))
            .status(0);
    }
}

#[test]
fn help_and_version_are_answers() {
    assert_eq!(kvsize("--version").output(), concat!("kvsize ", env!("CARGO_PKG_VERSION"), "\n"));
    insta::assert_snapshot!("help_short", kvsize("-h").text());
    insta::assert_snapshot!("help_long", kvsize("--help").text());
}
