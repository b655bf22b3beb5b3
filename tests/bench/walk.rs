//! The floor that reading a header is measured against: a bare walk of a GGUF header that keeps nothing and checks nothing.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a measure, not a program"
)]

use std::fs::File;
use std::io::{BufReader, Read};

struct Walk(BufReader<File>);

impl Walk {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.read_exact(&mut bytes).expect("the header is whole");
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }

    fn skip(&mut self, len: u64) {
        self.0.seek_relative(i64::try_from(len).expect("a length")).expect("the header is whole");
    }

    fn text(&mut self) {
        let len = self.u64();
        self.skip(len);
    }

    fn value(&mut self, kind: u32) {
        match kind {
            8 => self.text(),
            9 => {
                let (kind, count) = (self.u32(), self.u64());
                if kind == 8 {
                    (0..count).for_each(|_| self.text());
                } else {
                    self.skip(count * size(kind));
                }
            }
            kind => self.skip(size(kind)),
        }
    }
}

fn size(kind: u32) -> u64 {
    match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        _ => 8,
    }
}

fn main() {
    let path = std::env::args_os().nth(1).expect("a file");
    let mut walk = Walk(BufReader::with_capacity(64 << 10, File::open(path).expect("the file opens")));
    walk.skip(8);
    let (tensors, keys) = (walk.u64(), walk.u64());
    for _ in 0..keys {
        walk.text();
        let kind = walk.u32();
        walk.value(kind);
    }
    for _ in 0..tensors {
        walk.text();
        let dimensions = walk.u32();
        walk.skip(u64::from(dimensions) * 8 + 12);
    }
    println!("{keys} keys, {tensors} tensors");
}
