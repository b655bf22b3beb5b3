//! Why an engine's bytes are not the live ones: the steps between the two, a line each.

use super::document::{Document, EstimateRow};
use super::once;
use super::text::hanging;
use crate::engine::Gap;
use crate::units::{ByteUnit, Bytes, group_thousands};

/// For each engine that has any, the steps of its first format at the longest length.
pub(super) fn of(document: &Document, unit: ByteUnit) -> Vec<Vec<String>> {
    let engines = once(document.estimates.iter().map(|row| &row.engine));
    let rows = engines.into_iter().filter_map(|engine| document.longest_of(engine));
    rows.filter(|row| !row.gaps.is_empty()).map(|row| of_row(row, unit)).collect()
}

fn of_row(row: &EstimateRow, unit: ByteUnit) -> Vec<String> {
    let batch = if row.batch == 1 { String::new() } else { format!(" x {}", group_thousands(row.batch)) };
    let heading = format!("{} at {} tokens{batch}, {}:", row.engine, group_thousands(row.seq_len), row.stored());
    [heading].into_iter().chain(steps(row.bytes, &row.gaps, unit, &row.engine.to_string())).collect()
}

/// The live bytes, each step and where they lead, in lines that add up as they are printed: what is rounded is each sum, and
/// a step is the difference of two.
pub(super) fn steps(bytes: u64, gaps: &[Gap], unit: ByteUnit, name: &str) -> Vec<String> {
    let all: i128 = gaps.iter().fold(0, |sum, gap| sum.saturating_add(gap.bytes));
    let mut sum = i128::from(bytes).saturating_sub(all);
    let mut lines = vec![(' ', printed(sum, unit), "live bytes (ideal)".to_owned())];
    for gap in gaps {
        let before = in_thousandths(sum, unit);
        sum = sum.saturating_add(gap.bytes);
        let step = in_thousandths(sum, unit).saturating_sub(before);
        let sign = if gap.bytes < 0 { '-' } else { '+' };
        let kind = gap.kind.replace('_', " ");
        let amount = match step {
            0 if unit != ByteUnit::Bytes => "<0.001".to_owned(),
            step => of_thousandths(step.unsigned_abs(), unit),
        };
        lines.push((sign, amount, format!("{kind}: {}", gap.reason)));
    }
    lines.push(('=', printed(sum, unit), name.to_owned()));
    let widest = lines.iter().map(|(_, amount, _)| amount.chars().count()).max().unwrap_or_default();
    let line = |(sign, amount, text): (char, String, String)| {
        hanging(&format!("  {sign} {amount:>widest$} {}  ", unit.name()), &text)
    };
    lines.into_iter().flat_map(line).collect()
}

fn printed(bytes: i128, unit: ByteUnit) -> String {
    of_thousandths(in_thousandths(bytes, unit).unsigned_abs(), unit)
}

/// Thousandths of the unit, rounded half away from zero; whole bytes for `B`.
fn in_thousandths(bytes: i128, unit: ByteUnit) -> i128 {
    if unit == ByteUnit::Bytes {
        return bytes;
    }
    let scaled = bytes.unsigned_abs().saturating_mul(1000);
    let (unit, half) = (u128::from(unit.bytes()), u128::from(unit.bytes() / 2));
    let rounded = scaled.saturating_add(half).checked_div(unit).unwrap_or_default();
    let rounded = i128::try_from(rounded).unwrap_or(i128::MAX);
    if bytes < 0 { rounded.saturating_neg() } else { rounded }
}

fn of_thousandths(amount: u128, unit: ByteUnit) -> String {
    if unit == ByteUnit::Bytes {
        return Bytes(u64::try_from(amount).unwrap_or(u64::MAX)).in_unit(unit);
    }
    crate::units::fixed_point(amount, 1000, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text::COLUMNS;

    fn gap(bytes: i128) -> Gap {
        Gap { kind: "page_padding", bytes, reason: "a reason".into() }
    }

    #[test]
    fn lines_add_up_as_they_are_printed() {
        // 1.0004 + 0.0004 + 0.0004 - 0.5 GB: rounded one by one they would give 0.500.
        let gaps = [gap(400_000), gap(400_000), gap(-500_000_000)];
        assert_eq!(
            steps(501_200_000, &gaps, ByteUnit::Gigabytes, "engine"),
            [
                "     1.000 GB  live bytes (ideal)",
                "  +  0.001 GB  page padding: a reason",
                "  + <0.001 GB  page padding: a reason",
                "  -  0.500 GB  page padding: a reason",
                "  =  0.501 GB  engine",
            ]
        );
        assert_eq!(
            steps(2_000, &[gap(1_500)], ByteUnit::Bytes, "engine"),
            ["      500 B  live bytes (ideal)", "  + 1,500 B  page padding: a reason", "  = 2,000 B  engine"]
        );
    }

    #[test]
    fn a_long_reason_goes_on_under_its_start() {
        let gap = Gap { reason: "a reason of very many words ".repeat(4).trim().into(), ..gap(1) };
        let lines = steps(2, &[gap], ByteUnit::Bytes, "engine");
        assert_eq!(lines[2], format!("{:9}{}", "", lines[2].trim_start()));
        assert!(lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:?}");
    }
}
