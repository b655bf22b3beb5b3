//! Lines of words: folded to a terminal, hung under a head, in pairs.

use crate::units::{ByteUnit, Bytes, fixed_point};

/// The width of a terminal that tables are made for.
pub(super) const COLUMNS: usize = 80;

/// `text` in lines of at most `columns` characters, broken at spaces; its indent is kept.
pub fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let indent = text.len().saturating_sub(text.trim_start().len());
    let mut lines: Vec<String> = Vec::new();
    for word in text.trim_start().split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count().saturating_add(word.chars().count()) < columns => {
                line.push(' ');
                line.push_str(word);
            }
            // What goes on stands two further in than what it goes on from.
            Some(_) => lines.push(format!("{:1$}{word}", "", indent.saturating_add(2))),
            None => lines.push(format!("{:indent$}{word}", "")),
        }
    }
    lines
}

/// `text` in lines no wider than a terminal.
pub(super) fn folded(text: impl AsRef<str>) -> Vec<String> {
    wrapped(text.as_ref(), COLUMNS)
}

/// `2.416 GB`
pub(super) fn in_unit(bytes: u64, unit: ByteUnit) -> String {
    format!("{} {}", Bytes(bytes).in_unit(unit), unit.name())
}

/// A fraction as a decimal, with no more places than it has, nor than `most`.
pub(super) fn decimal(numerator: impl Into<u128>, denominator: u64, most: u32) -> String {
    let text = fixed_point(numerator.into(), denominator.into(), most);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `text` after `head`, in lines no wider than a terminal; what goes on stands under its start.
pub(super) fn hanging(head: &str, text: &str) -> Vec<String> {
    let hang = head.chars().count();
    let folded = wrapped(text.trim_start(), COLUMNS.saturating_sub(hang));
    let line = |(index, line): (usize, String)| match index {
        0 => format!("{head}{line}"),
        _ => format!("{:hang$}{}", "", line.trim_start()),
    };
    folded.into_iter().enumerate().map(line).collect()
}

/// Names and values, the values under one another.
pub(super) fn pairs(indent: usize, pairs: &[(String, String)]) -> Vec<String> {
    let widest = pairs.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let line = |(name, value): &(String, String)| hanging(&format!("{:indent$}{name:widest$}   ", ""), value);
    pairs.iter().flat_map(line).collect()
}

/// `0-2, 4, 6-8`
pub(super) fn ranges(numbers: impl IntoIterator<Item = u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.saturating_add(1) == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(first, last): &(u32, u32)| {
        if first == last { first.to_string() } else { format!("{first}-{last}") }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_numbers_are_ranges() {
        assert_eq!(ranges([0, 1, 2, 4, 6, 7]), "0-2, 4, 6-7");
        assert_eq!(ranges([]), "");
    }
}
