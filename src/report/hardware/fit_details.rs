//! What a verdict rests on: each term with how it is known, errors, prices and sources.

use super::fit::{FitRow, StageRow, TermRow};
use crate::engine::Known;
use crate::report::column::{Cell, Column, grid};
use crate::report::grid::{Block, Grid};
use crate::report::once;
use crate::report::text::ranges;
use crate::units::ByteUnit;

/// What one verdict rests on.
pub(super) fn details(row: &FitRow, unit: ByteUnit) -> Vec<Block> {
    let alone = [StageRow { terms: row.terms.clone(), pool_bytes: row.pool_bytes }];
    let stages = if row.stages.is_empty() { &alone[..] } else { &row.stages };
    let bytes = |stage: &StageRow| stage.terms.iter().map(|term| (term.name, term.bytes)).collect::<Vec<_>>();
    let (mut blocks, mut from) = (Vec::new(), Vec::new());
    for (index, stage) in stages.iter().enumerate() {
        let alike = |other: &StageRow| bytes(stage) == bytes(other);
        // Stages that are alike are shown once.
        if stages.iter().take(index).any(alike) {
            continue;
        }
        let same = (1..).zip(stages).filter(|(_, other)| alike(other)).map(|(number, _)| number);
        let of_stage = if stages.len() == 1 { String::new() } else { format!(" of stage {}", ranges(same)) };
        blocks.push(Block::Grid(terms(stage, &of_stage, unit)));
        from.extend(sources(stage));
    }
    from.push(format!("bound by: {}", row.binding_reason));
    from.extend(row.error.as_ref().map(super::fit::PoolError::words));
    from.extend(row.cost.as_ref().map(|cost| {
        let each = cost.per_tokens().map(|each| format!("; {each}"));
        format!("cost: US$ {} an hour{}", super::in_dollars(cost.usd_per_hour), each.unwrap_or_default())
    }));
    from.extend(row.cost.as_ref().map(|cost| cost.offer_of(&row.server)));
    blocks.push(Block::folded(once(from)));
    blocks
}

/// The sum on each device of a stage.
fn terms(stage: &StageRow, of_stage: &str, unit: ByteUnit) -> Grid {
    type Line<'a> = (String, Option<u64>, &'a str);
    let sign = |name| if matches!(name, "total" | "usable") { "" } else { "- " };
    let line = |term: &TermRow| (format!("{}{}", sign(term.name), term.name), Some(term.bytes), term.known.name());
    let estimated = stage.terms.iter().any(|term| term.known == Known::Estimated);
    let pool = ("= pool".to_owned(), stage.pool_bytes, if estimated { "estimated" } else { "" });
    let lines: Vec<Line<'_>> = stage.terms.iter().map(line).chain([pool]).collect();
    let columns = [
        Column::left(format!("On each GPU{of_stage}"), |(name, ..): &Line<'_>| name.clone()),
        Column::right(unit.name(), |(_, bytes, _): &Line<'_>| bytes.map_or(Cell::Missing("none"), Cell::Bytes)),
        Column::right("Bytes", |(_, bytes, _): &Line<'_>| Cell::or(*bytes, "-")),
        Column::left("Known", |(.., known): &Line<'_>| *known),
    ];
    grid(&lines, columns, unit)
}

/// Where each term is from.
fn sources(stage: &StageRow) -> Vec<String> {
    stage.terms.iter().map(|term| format!("{}: {}", term.name, term.source)).collect()
}
