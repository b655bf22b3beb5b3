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

/// A pipe would end a cell, and a name in angle brackets would be taken for a tag.
fn escape(text: &str) -> String {
    let mut parts = text.split('<');
    let mut escaped = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_tag = part.starts_with(|next: char| next.is_ascii_alphabetic() || "/!?".contains(next));
        escaped.push_str(if is_tag { "&lt;" } else { "<" });
        escaped.push_str(part);
    }
    escaped.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_means_something_to_markdown_is_escaped() {
        assert_eq!(super::escape("a|b <b>c</b> <0.001 <"), "a\\|b &lt;b>c&lt;/b> <0.001 <");
    }
}
