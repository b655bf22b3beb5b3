//! Tables for a terminal: as wide as their cells, a line under the header and no other.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::grid::{Align, Block, Grid};

const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

pub(super) fn render(page: &[Block]) -> String {
    let mut text = String::new();
    for block in page {
        if !text.is_empty() {
            text.push('\n');
        }
        match block {
            Block::Title(title) => text.push_str(&line(title)),
            Block::Text(lines) => text.extend(lines.iter().map(|text| line(text))),
            Block::Grid(grid) => text.push_str(&render_grid(grid)),
        }
    }
    text
}

fn line(text: &str) -> String {
    format!("{text}\n")
}

fn render_grid(grid: &Grid) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(grid.columns.iter().map(|(name, _)| name));
    table.add_rows(&grid.rows);
    for (column, (_, align)) in table.column_iter_mut().zip(&grid.columns) {
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.lines().map(|text| line(text.trim_end())).collect()
}
