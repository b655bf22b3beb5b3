//! What people see of an answer, before it is a table of some format.

/// Blocks of text and tables, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// The blocks.
    pub(super) blocks: Vec<Block>,
}

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    /// A heading.
    Title(String),
    /// Lines of text.
    Text(Vec<String>),
    /// A table.
    Grid(Grid),
}

/// A table of cells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grid {
    /// Names of the columns, units included, and how their cells line up.
    pub columns: Vec<(String, Align)>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
}

/// How the cells of a column line up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}
