//! The names of the models, put together when the crate is compiled: a look-up searches these and not the whole catalogue,
//! which is ten times as long.
#![allow(long_running_const_eval, reason = "a walk through the catalogue, once a compilation")]
#![expect(
    clippy::arithmetic_side_effects,
    clippy::large_stack_arrays,
    reason = "all of it runs in the compiler, where what overflows is an error"
)]

use memchr::{memchr_iter, memmem};

use super::models::MODELS;

/// What each line begins with; its names follow, up to the first bracket.
const OPENING: &str = r#"{"names":["#;

const SIZE: Size = size();
static NAMES: Names = names();

struct Size {
    lines: usize,
    names: usize,
}

/// The names of each line, a line each, and where that line starts.
struct Names {
    text: [u8; SIZE.names],
    starts: [usize; SIZE.lines],
}

/// The line of the catalogue that has a name, or seems to: names are searched as they are written.
pub(super) fn line(name: &str) -> Option<&'static str> {
    let index = memmem::find(&NAMES.text, format!("\"{name}\"").as_bytes())?;
    let line = memchr_iter(b'\n', NAMES.text.get(..index)?).count();
    MODELS.get(*NAMES.starts.get(line)?..)?.lines().next()
}

const fn size() -> Size {
    let mut size = Size { lines: 0, names: 0 };
    let mut start = 0;
    while start < MODELS.len() {
        let names = start + OPENING.len();
        size.names += find(b']', names) + 1 - names;
        size.lines += 1;
        start = find(b'\n', names) + 1;
    }
    size
}

const fn names() -> Names {
    let mut all = Names { text: [b'\n'; SIZE.names], starts: [0; SIZE.lines] };
    let (mut start, mut line, mut end) = (0, 0, 0);
    while line < SIZE.lines {
        all.starts[line] = start;
        let mut at = start + OPENING.len();
        while MODELS.as_bytes()[at] != b']' {
            all.text[end] = MODELS.as_bytes()[at];
            at += 1;
            end += 1;
        }
        end += 1;
        line += 1;
        start = find(b'\n', at) + 1;
    }
    all
}

/// The first of these bytes from `at` on.
const fn find(byte: u8, mut at: usize) -> usize {
    while MODELS.as_bytes()[at] != byte {
        at += 1;
    }
    at
}
