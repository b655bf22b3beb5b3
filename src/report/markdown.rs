//! Tables for GitHub and its like. The table crate has no alignment row, and numbers must line up.

use super::grid::{Align, Block, Grid};

pub(super) fn render(page: &[Block]) -> String {
    let blocks = page.iter().map(|block| match block {
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

/// What would end a cell, be a tag, a link or an image, or stress a part of a name.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let next = rest.clone().next();
        match c {
            '<' if next.is_some_and(|next| next.is_ascii_alphabetic() || "/!?".contains(next)) => {
                escaped.push_str("&lt;");
            }
            // Between letters and digits an underline is no stress.
            '_' if next.is_some_and(char::is_alphanumeric) && escaped.ends_with(char::is_alphanumeric) => {
                escaped.push(c);
            }
            '|' | '\\' | '*' | '_' | '[' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_means_something_to_markdown_is_escaped() {
        assert_eq!(super::escape("a|b <b>c</b> <0.001 <"), "a\\|b &lt;b>c&lt;/b> <0.001 <");
        assert_eq!(super::escape("![p](u) *b* `c` \\|"), "!\\[p](u) \\*b\\* `c` \\\\\\|");
        assert_eq!(super::escape("max_num_seqs _a_ a_"), "max_num_seqs \\_a\\_ a\\_");
    }
}
