//! A stacked bar in letters: what takes a memory, each part as wide as its bytes.

use crate::units::Exact;

/// A part of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Its letter.
    pub(super) letter: char,
    /// Its bytes; a part without any is left out.
    pub(super) bytes: u64,
}

/// Cells of a bar, the mark of the limit not counted.
const CELLS: u64 = 46;

/// The letter of what is past the limit.
const PAST: char = '!';

/// The bar with a mark where `limit` bytes end; past it every letter is `!`. A part within the limit has at least one cell.
pub(super) fn bar(parts: &[Part], limit: u64) -> String {
    let sum = parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.bytes));
    bar_of(parts, limit, sum.max(limit))
}

/// The same where the whole width is as many bytes as `all`.
pub(super) fn bar_of(parts: &[Part], limit: u64, all: u64) -> String {
    let all = all.max(1);
    let cell = |bytes: u64| (Exact::from(bytes) * CELLS / all).get().unwrap_or(CELLS);
    let mark = cell(limit);
    let (mut letters, mut end) = (String::new(), 0u64);
    for part in parts.iter().filter(|part| part.bytes > 0) {
        end = end.saturating_add(part.bytes);
        let at = u64::try_from(letters.len()).unwrap_or(u64::MAX);
        let cells = cell(end).max(at.saturating_add(1)).saturating_sub(at);
        letters.extend((0..cells).map(|_| part.letter));
    }
    let (within, past): (Vec<_>, Vec<_>) = (0..).zip(letters.chars()).partition(|(index, _)| *index < mark);
    let within: String = within.into_iter().map(|(_, letter): (u64, char)| letter).collect();
    let space = usize::try_from(mark).unwrap_or_default();
    format!("{within:space$}|{}", past.iter().map(|_| PAST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_as_wide_as_their_bytes_and_none_vanishes() {
        let part = |letter, bytes| Part { letter, bytes };
        let bar = bar(&[part('W', 30), part('o', 1), part('K', 15)], 46);
        assert_eq!(bar, format!("{}o{}|", "W".repeat(30), "K".repeat(15)));
        let bar = super::bar(&[part('W', 1_000_000), part('o', 1), part('K', 1_000_000)], 1_500_000);
        assert_eq!(bar, format!("{}o{}|{}", "W".repeat(22), "K".repeat(11), "!".repeat(12)));
    }

    #[test]
    fn what_is_past_the_limit_is_marked_whatever_it_is() {
        let part = |letter, bytes| Part { letter, bytes };
        assert_eq!(bar(&[part('W', 92)], 46), format!("{}|{}", "W".repeat(23), "!".repeat(23)));
        assert_eq!(bar(&[], 10), format!("{:46}|", ""));
        assert_eq!(bar(&[], 0), "|");
        assert!(bar(&[part('W', u64::MAX), part('K', u64::MAX)], 1).starts_with("|!"));
    }
}
