//! An engine's own figures as text and tables, whatever they are: the same fields that its JSON has, under the same names and in the same order.

use serde::{Deserialize, Serialize};
use serde_with::{Map, serde_as};

use super::clean;
use super::grid::{Align, Block, Grid};
use super::text::{COLUMNS, hanging, pairs};
use crate::units::{group_thousands, once};

/// A value of JSON whose objects keep their order.
#[serde_as]
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Field {
    None(()),
    Flag(bool),
    Count(u64),
    Negative(i64),
    Decimal(f64),
    Text(String),
    List(Vec<Field>),
    Object(#[serde_as(as = "Map<_, _>")] Vec<(String, Field)>),
}

impl Field {
    /// What a value serialises to.
    fn of(value: &impl Serialize) -> Option<Self> {
        serde_json::from_str(&serde_json::to_string(value).ok()?).ok()
    }

    /// On one line.
    fn text(&self) -> String {
        match self {
            Self::None(()) => "none".into(),
            Self::Flag(flag) => if *flag { "yes" } else { "no" }.into(),
            Self::Count(count) => group_thousands(*count),
            Self::Negative(count) => format!("-{}", group_thousands(count.unsigned_abs())),
            Self::Decimal(decimal) => decimal.to_string(),
            Self::Text(text) => clean(text),
            Self::List(items) if items.is_empty() => "none".into(),
            Self::List(items) => items.iter().map(Self::text).collect::<Vec<_>>().join(", "),
            Self::Object(fields) => {
                fields.iter().map(|(name, field)| format!("{} {}", name, field.text())).collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn is_number(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Negative(_) | Self::Decimal(_))
    }

    /// Whether it has a place of its own: a table, or a part.
    fn is_part(&self) -> bool {
        match self {
            Self::Object(_) => true,
            Self::List(items) => !items.is_empty() && items.iter().all(|item| item.fields().is_some()),
            _ => false,
        }
    }

    fn fields(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }
}

/// The figures of a value that is an object, under `heading`; those of an object with one object in it, as an engine's
/// figures stand under its name, are that one's.
pub(super) fn blocks(heading: &str, value: &impl Serialize) -> Vec<Block> {
    Field::of(value).map_or_else(Vec::new, |field| of_object(heading, field))
}

fn of_object(heading: &str, object: Field) -> Vec<Block> {
    let Field::Object(fields) = object else { return Vec::new() };
    let fields = match fields.as_slice() {
        [(_, Field::Object(inner))] => inner.clone(),
        _ => fields,
    };
    of_fields(heading, &fields)
}

/// Single figures under one another, then a table for each list of objects and a part for each object.
fn of_fields(heading: &str, fields: &[(String, Field)]) -> Vec<Block> {
    let single = fields.iter().filter(|(_, field)| !field.is_part());
    let single: Vec<(String, String)> = single.map(|(name, field)| (name.clone(), field.text())).collect();
    let mut blocks = Vec::new();
    if !single.is_empty() {
        blocks.push(Block::Text([format!("{heading}:")].into_iter().chain(pairs(2, &single)).collect()));
    }
    for (name, field) in fields.iter().filter(|(_, field)| field.is_part()) {
        let heading = format!("{heading}, {name}");
        match field {
            Field::Object(fields) => blocks.extend(of_fields(&heading, fields)),
            Field::List(items) => {
                let rows: Vec<&[(String, Field)]> = items.iter().filter_map(Field::fields).collect();
                blocks.extend(of_list(&heading, &rows));
            }
            _ => {}
        }
    }
    blocks
}

/// A table with a row for each object; where that is too wide, a line for each.
fn of_list(heading: &str, rows: &[&[(String, Field)]]) -> Vec<Block> {
    let names = once(rows.iter().flat_map(|row| row.iter()).map(|(name, _)| name.as_str()));
    let find = |row: &[(String, Field)], name: &str| {
        row.iter().find(|(known, _)| known == name).map(|(_, field)| field.clone())
    };
    let text = |row: &[(String, Field)], name: &str| find(row, name).map(|field| field.text()).unwrap_or_default();
    let is_number = |name: &str| rows.iter().filter_map(|row| find(row, name)).all(|field| field.is_number());
    let align = |name: &str| if is_number(name) { Align::Right } else { Align::Left };
    let grid = Grid {
        columns: names.iter().map(|name| ((*name).to_owned(), align(name))).collect(),
        rows: rows.iter().map(|row| names.iter().map(|name| text(row, name)).collect()).collect(),
    };
    if grid.width() <= COLUMNS {
        return vec![Block::Text(vec![format!("{heading}:")]), Block::Grid(grid)];
    }
    let lines = rows.iter().flat_map(|row| hanging("  ", &Field::Object(row.to_vec()).text()));
    vec![Block::Text([format!("{heading}:")].into_iter().chain(lines).collect())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        let blocks = of_object("engine", serde_json::from_str(json).unwrap());
        crate::report::table::render(&blocks)
    }

    #[test]
    fn figures_of_any_shape_have_a_place() {
        assert_eq!(
            text(
                r#"{"engine": {"version": "1.2", "block_size": 16, "ratio": 0.8, "rest": -1000, "on": true, "off": null,
                "sizes": [1, 2], "none": [], "pool": {"tokens": 5, "state": {"slots": 7}},
                "groups": [{"kind": "full", "layers": 12}, {"kind": "sliding", "layers": 1000, "window": 128}]}}"#
            ),
            "\
engine:
  version      1.2
  block_size   16
  ratio        0.8
  rest         -1,000
  on           yes
  off          none
  sizes        1, 2
  none         none

engine, pool:
  tokens   5

engine, pool, state:
  slots   7

engine, groups:

  kind      layers   window
─────────────────────────────
  full          12
  sliding    1,000      128
"
        );
    }

    #[test]
    fn a_table_that_is_too_wide_is_lines() {
        let long = "x".repeat(45);
        let text = text(&format!(r#"{{"groups": [{{"a": "{long}", "b": "{long}"}}, {{"a": [], "b": 1}}], "c": 2}}"#));
        assert_eq!(text, format!("engine:\n  c   2\n\nengine, groups:\n  a {long}, b\n  {long}\n  a none, b 1\n"));
    }
}
