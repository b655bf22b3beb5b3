//! Pictures for reports, as SVG: stacked bars of GPUs, and bytes over context. Light and dark, no script, with a title and a
//! description for readers that do not see.
//!
//! Written here and not by a library: `plotters` brings fonts or a bitmap back end and 30 crates, `charming` a JavaScript
//! engine; both draw axes we do not need, and neither adapts to a dark page.
#![allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "positions on a picture: every figure that is printed is computed from the exact integer"
)]

use std::fmt::Write;

use super::clean;
use crate::units::{ByteUnit, fixed_point, group_thousands};

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Picture {
    /// A stacked bar for each GPU.
    Bars(Vec<Bar>),
    /// Bytes over context length, a line for each series.
    Lines {
        /// The lines.
        series: Vec<Series>,
        /// The memory that they are held against.
        limit: Option<u64>,
    },
}

/// A stacked bar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    /// What it is of.
    pub label: String,
    /// The answer in a sentence.
    pub answer: String,
    /// Its parts: the name of their style, and their bytes.
    pub parts: Vec<(&'static str, u64)>,
    /// Where the memory that may be used ends.
    pub limit: u64,
}

/// A line: bytes at context lengths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// Tokens, and bytes.
    pub points: Vec<(u64, u64)>,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 16.0;

/// Styles of both themes. The parts of a bar differ in lightness as well as in hue.
const STYLE: &str = "text{font:14px system-ui,sans-serif;fill:#1f2328}.small{font-size:12px;fill:#59636e}\
.weights,.s0{fill:#0969da;stroke:#0969da}.overhead,.s1{fill:#bf8700;stroke:#bf8700}.cache,.s2{fill:#1a7f37;stroke:#1a7f37}\
.free{fill:#d1d9e0;stroke:#d1d9e0}.missing,.s3{fill:#cf222e;stroke:#cf222e}.s4{fill:#8250df;stroke:#8250df}\
.line{fill:none;stroke-width:2}.axis{stroke:#59636e;stroke-width:1}.limit{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:6 4}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}.free{fill:#3d444d;stroke:#3d444d}\
.weights,.s0{fill:#4493f8;stroke:#4493f8}.cache,.s2{fill:#3fb950;stroke:#3fb950}.overhead,.s1{fill:#d29922;stroke:#d29922}\
.missing,.s3{fill:#f85149;stroke:#f85149}.limit{stroke:#f85149}.axis{stroke:#9198a1}}";

/// The picture as a document.
pub(super) fn render(picture: &Picture, unit: ByteUnit) -> String {
    let (title, description, height, body) = match picture {
        Picture::Bars(bars) => of_bars(bars, unit),
        Picture::Lines { series, limit } => of_lines(series, *limit, unit),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-labelledby=\"t d\">\n<title id=\"t\">{}</title>\n<desc id=\"d\">{}</desc>\n<style>{STYLE}</style>\n{body}</svg>\n",
        escaped(&title),
        escaped(&description)
    )
}

/// Text between tags.
fn escaped(text: &str) -> String {
    clean(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `33.3 GiB`
fn amount(bytes: u64, unit: ByteUnit) -> String {
    format!("{} {}", fixed_point(bytes.into(), unit.bytes().into(), 1), unit.name())
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn of_bars(bars: &[Bar], unit: ByteUnit) -> (String, String, f64, String) {
    const BAR: f64 = 78.0;
    let room = WIDTH - 2.0 * LEFT;
    let mut body = String::new();
    let end = |bar: &Bar| bar.parts.iter().fold(0u64, |sum, (_, bytes)| sum.saturating_add(*bytes)).max(bar.limit);
    let widest = bars.iter().map(end).max().unwrap_or(1);
    for (index, bar) in bars.iter().enumerate() {
        let top = 24.0 + BAR * index as f64;
        let _ = writeln!(body, "<text x=\"{LEFT}\" y=\"{top}\">{}</text>", escaped(&bar.label));
        let mut x = LEFT;
        for (name, bytes) in bar.parts.iter().filter(|(_, bytes)| *bytes > 0) {
            let width = room * share(*bytes, widest);
            let _ = writeln!(
                body,
                "<rect class=\"{name}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"18\"><title>{name} {}</title></rect>",
                top + 8.0,
                amount(*bytes, unit)
            );
            x += width;
        }
        let limit = LEFT + room * share(bar.limit, widest);
        let (from, to) = (top + 4.0, top + 30.0);
        let _ = writeln!(
            body,
            "<line class=\"limit\" x1=\"{limit:.1}\" y1=\"{from:.1}\" x2=\"{limit:.1}\" y2=\"{to:.1}\"/>"
        );
        let parts: Vec<String> =
            bar.parts.iter().map(|(name, bytes)| format!("{name} {}", amount(*bytes, unit))).collect();
        let legend = format!("{}, usable {}", parts.join(", "), amount(bar.limit, unit));
        let _ =
            writeln!(body, "<text class=\"small\" x=\"{LEFT}\" y=\"{:.1}\">{}</text>", top + 44.0, escaped(&legend));
    }
    let answers: Vec<String> = bars.iter().map(|bar| format!("{}: {}", bar.label, bar.answer)).collect();
    ("Memory of each GPU".into(), answers.join("; "), 24.0 + BAR * bars.len() as f64, body)
}

/// A plot of bytes over tokens, from 0 to the most of each.
struct Plot {
    tokens: u64,
    bytes: u64,
    unit: ByteUnit,
}

impl Plot {
    const TOP: f64 = 24.0;
    const HEIGHT: f64 = 300.0;
    const BOTTOM: f64 = Self::TOP + Self::HEIGHT;
    const LEFT: f64 = 90.0;
    const RIGHT: f64 = WIDTH - LEFT;

    fn x(&self, tokens: u64) -> f64 {
        Self::LEFT + (Self::RIGHT - Self::LEFT) * share(tokens, self.tokens)
    }

    fn y(&self, bytes: u64) -> f64 {
        Self::BOTTOM - Self::HEIGHT * share(bytes, self.bytes)
    }

    /// A line from one side to the other, or from the top to the bottom.
    fn line(class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) -> String {
        format!("<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>\n")
    }

    fn text(anchor: &str, [x, y]: [f64; 2], text: &str) -> String {
        let text = escaped(text);
        format!("<text class=\"small\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>\n")
    }

    /// The axes, with a number at each quarter.
    fn axes(&self) -> String {
        let corner = [Self::LEFT, Self::BOTTOM];
        let mut body = Self::line("axis", corner, [Self::RIGHT, Self::BOTTOM]);
        body += &Self::line("axis", corner, [Self::LEFT, Self::TOP]);
        for quarter in 1..=4u64 {
            let part = |whole: u64| whole.div_euclid(4).saturating_mul(quarter);
            let (tokens, bytes) = (part(self.tokens), part(self.bytes));
            let anchor = if quarter == 4 { "end" } else { "middle" };
            body += &Self::text(anchor, [self.x(tokens), Self::BOTTOM + 18.0], &group_thousands(tokens));
            body += &Self::text("end", [Self::LEFT - 8.0, self.y(bytes) + 4.0], &amount(bytes, self.unit));
        }
        body
    }

    /// A line of data, and its name under the plot.
    fn series(&self, index: usize, Series { name, points }: &Series) -> String {
        let class = index % 5;
        let point = |(tokens, bytes): &(u64, u64)| format!("{:.1},{:.1}", self.x(*tokens), self.y(*bytes));
        let path: Vec<String> = points.iter().map(point).collect();
        let y = Self::legend(index);
        let (x, mark) = (Self::LEFT, y - 6.0);
        let mut body =
            format!("<polyline class=\"line s{class}\" style=\"fill:none\" points=\"{}\"/>\n", path.join(" "));
        let _ = writeln!(body, "<rect class=\"s{class}\" x=\"{x}\" y=\"{mark:.1}\" width=\"14\" height=\"4\"/>");
        body + &Self::text("start", [x + 22.0, y], name)
    }

    /// Where the name of a series stands.
    fn legend(index: usize) -> f64 {
        Self::BOTTOM + 40.0 + 20.0 * index as f64
    }

    /// The memory that all is held against.
    fn limit(&self, limit: u64) -> String {
        let y = self.y(limit);
        let words = format!("memory {}", amount(limit, self.unit));
        Self::line("limit", [Self::LEFT, y], [Self::RIGHT, y]) + &Self::text("end", [Self::RIGHT, y - 6.0], &words)
    }
}

fn of_lines(series: &[Series], limit: Option<u64>, unit: ByteUnit) -> (String, String, f64, String) {
    let points = || series.iter().flat_map(|series| &series.points);
    let tokens = points().map(|(tokens, _)| *tokens).max().unwrap_or(1);
    let bytes = points().map(|(_, bytes)| *bytes).chain(limit).max().unwrap_or(1);
    let plot = Plot { tokens, bytes, unit };
    let mut body = plot.axes();
    body.extend(series.iter().enumerate().map(|(index, series)| plot.series(index, series)));
    body.extend(limit.map(|limit| plot.limit(limit)));
    let last = |series: &Series| {
        let (tokens, bytes) = series.points.last().copied().unwrap_or_default();
        format!("{}: {} at {} tokens", series.name, amount(bytes, unit), group_thousands(tokens))
    };
    let description = series.iter().map(last).collect::<Vec<_>>().join("; ");
    ("KV cache over context length".into(), description, Plot::legend(series.len()), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str) -> Picture {
        let parts = vec![("weights", 30 << 30), ("cache", 10 << 30), ("missing", 5 << 30)];
        Picture::Bars(vec![Bar { label: label.into(), answer: "NO".into(), parts, limit: 40 << 30 }])
    }

    /// Each tag that is opened is closed, and what came from outside cannot open one.
    #[test]
    fn pictures_are_well_formed_whatever_they_are_of() {
        let lines = |points: Vec<(u64, u64)>| Picture::Lines {
            series: vec![Series { name: "<b>&\"\u{1b}".into(), points }],
            limit: Some(u64::MAX),
        };
        let pictures =
            [bar("<script>&"), Picture::Bars(Vec::new()), lines(vec![(1, 1), (u64::MAX, u64::MAX)]), lines(vec![])];
        for picture in pictures {
            let svg = render(&picture, ByteUnit::Gibibytes);
            let count = |text: &str| svg.matches(text).count();
            for tag in ["svg", "title", "desc", "text", "style"] {
                assert_eq!(count(&format!("<{tag}")), count(&format!("</{tag}>")), "{tag}: {svg}");
            }
            assert!(
                !svg.contains("<script") && !svg.contains("<b>") && !svg.contains('\u{1b}') && !svg.contains("NaN"),
                "{svg}"
            );
        }
    }

    #[test]
    fn bars_are_as_wide_as_their_bytes() {
        let svg = render(&bar("x"), ByteUnit::Gibibytes);
        // 728 pixels are the 45 GiB of all parts.
        for width in ["485.3", "161.8", "80.9"] {
            assert!(svg.contains(&format!("width=\"{width}\"")), "{width}: {svg}");
        }
        assert!(svg.contains("weights 30.0 GiB, cache 10.0 GiB, missing 5.0 GiB, usable 40.0 GiB"), "{svg}");
    }
}
