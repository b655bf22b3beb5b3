//! Tables for GitHub and its like. The table crate has no alignment row, and numbers must line up.

use super::grid::{Align, Block, Grid, Page};

pub(super) fn render(page: &Page) -> String {
    let blocks = page.blocks.iter().map(|block| match block {
        Block::Title(title) => format!("**{}**\n", escape(title)),
        Block::Text(lines) => lines.iter().map(|line| format!("{}  \n", escape(line))).collect(),
        Block::Grid(grid) => render_grid(grid),
    });
    blocks.collect::<Vec<_>>().join("\n")
}

fn render_grid(grid: &Grid) -> String {
    let row = |cells: &mut dyn Iterator<Item = String>| {
        cells.fold(String::from("|"), |line, cell| format!("{line} {cell} |")) + "\n"
    };
    let header = row(&mut grid.columns.iter().map(|(name, _)| escape(name)));
    let rule = row(&mut grid.columns.iter().map(|(_, align)| match align {
        Align::Left => ":---".to_owned(),
        Align::Right => "---:".to_owned(),
    }));
    let rows = grid.rows.iter().map(|cells| row(&mut cells.iter().map(|cell| escape(cell))));
    [header, rule].into_iter().chain(rows).collect()
}

/// A pipe would end a cell.
fn escape(text: &str) -> String {
    text.replace('|', "\\|")
}
