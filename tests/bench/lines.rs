//! The floor that a batch is measured against: each line is parsed by `serde_json` and forgotten, and bytes are printed for it.
//!
//! `lines typed|value FILE BYTES`: into borrowed fields, or into a `serde_json::Value`; `BYTES` for each line, on average.
#![allow(clippy::expect_used, clippy::panic, clippy::arithmetic_side_effects, reason = "a measure, not a program")]

use std::fs::File;
use std::hint::black_box;
use std::io::{Read, Write};

use serde::Deserialize;

#[derive(Deserialize)]
#[expect(dead_code, reason = "what is parsed is forgotten")]
struct Line<'a> {
    id: u64,
    model: &'a str,
    seq_len: u64,
    batch: u64,
    kv_dtype: &'a str,
    engine: Option<&'a str>,
    tp: Option<u64>,
    memory: Option<u64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, how, file, bytes] = arguments.as_slice() else { panic!("lines typed|value FILE BYTES") };
    let bytes: usize = bytes.parse().expect("a number of bytes");
    let typed = how == "typed";
    let mut input = File::open(file).expect("the file opens");
    let mut out = std::io::stdout().lock();
    let (mut buffer, mut filled, mut answers) = (vec![0; 128 << 10], 0, Vec::new());
    loop {
        let count = input.read(&mut buffer[filled..]).expect("the file is read");
        if count == 0 {
            break;
        }
        filled += count;
        let mut start = 0;
        while let Some(end) = memchr::memchr(b'\n', &buffer[start..filled]) {
            let line = &buffer[start..start + end];
            if typed {
                black_box(serde_json::from_slice::<Line>(line).expect("a line"));
            } else {
                black_box(serde_json::from_slice::<serde_json::Value>(line).expect("a line"));
            }
            let printed = answers.len();
            answers.resize(printed + bytes, b'x');
            start += end + 1;
        }
        buffer.copy_within(start..filled, 0);
        filled -= start;
        out.write_all(&answers).expect("the output is written");
        answers.clear();
    }
}
