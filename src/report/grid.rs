//! What people see of an answer, before it is a table of some format.

use super::text::folded;

/// Blocks of text and tables, in order.
pub type Page = Vec<Block>;

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading.
    Title(String),
    /// Lines of text.
    Text(Vec<String>),
    /// A table.
    Grid(Grid),
}

impl Block {
    /// Lines of text, no wider than a terminal.
    pub(super) fn folded(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::Text(lines.into_iter().flat_map(folded).collect())
    }
}

/// A table of cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grid {
    /// Names of the columns, units included, and how their cells line up.
    pub columns: Vec<(String, Align)>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

impl Grid {
    /// Characters of its longest line, as a table prints it: a blank on each side of a cell, and one between and around.
    pub(super) fn width(&self) -> usize {
        let widest = |index: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let header = self.columns.get(index).map(|(name, _)| name);
            cells.chain(header).map(|cell| cell.chars().count()).max().unwrap_or_default().saturating_add(3)
        };
        (0..self.columns.len()).map(widest).fold(1, usize::saturating_add)
    }
}

/// How the cells of a column line up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}
