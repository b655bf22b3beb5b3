//! The article's numbers next to the real ones.

use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::column::{Cell, Column, Table, grid};
use super::document::{BytesPerTokenValue, Document, EstimateDocument, EstimateRow, NamedEstimate, largest};
use super::estimates::layers_in_words;
use super::figures;
use super::grid::{Block, Grid, Page};
use super::text::folded;
use super::{Estimates, FitDocument, FitRow, Medium, ModelDescription, Report, json, once};
use crate::strategy::article;
use crate::units::{ByteUnit, Bytes, fixed_point};

/// The article's numbers next to the real ones.
#[derive(Debug)]
pub struct Article {
    /// The article's model and the real one, at the same lengths.
    pub documents: [Document; 2],
    /// The real model with every layer keeping every token.
    pub whole: Document,
    /// What the article's hardware holds of its model, of it with all the weights, of `whole`, and of the real model; each
    /// with its command.
    pub hardware: [(String, FitDocument); 4],
}

/// `kvsize.article/1`: the estimates, and what the article's hardware holds.
#[derive(Serialize, JsonSchema)]
pub struct ArticleDocument<'a> {
    /// Name and version of this shape.
    schema: &'static str,
    /// Version of kvsize.
    kvsize: &'static str,
    /// The article's model and the real one.
    models: Vec<&'a ModelDescription>,
    /// Their estimates at the same lengths.
    estimates: Vec<NamedEstimate<'a>>,
    /// What the article's hardware holds.
    fits: Vec<HeldRow<'a>>,
}

/// A row of the article's table of hardware, with the command that repeats it.
#[derive(Serialize, JsonSchema)]
pub struct HeldRow<'a> {
    /// The command.
    asked: &'a str,
    /// What it answers.
    #[serde(flatten)]
    row: &'a FitRow,
}

impl Article {
    fn document(&self) -> ArticleDocument<'_> {
        let EstimateDocument { kvsize, models, estimates, .. } = EstimateDocument::new(&self.documents);
        let held = self
            .hardware
            .iter()
            .flat_map(|(asked, document)| document.fits.iter().map(move |row| HeldRow { asked, row }));
        ArticleDocument { schema: "kvsize.article/1", kvsize, models, estimates, fits: held.collect() }
    }
}

impl Serialize for Article {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.document().serialize(serializer)
    }
}

impl Report for Article {
    fn table(&self, unit: ByteUnit) -> Table {
        figures::table(&figures::given(&self.documents), unit)
    }

    fn largest(&self) -> Bytes {
        largest(&self.documents)
    }

    fn page(&self, unit: ByteUnit, _: Medium) -> Page {
        let [article, real] = &self.documents;
        let sides =
            [("article", article), ("real, if every layer kept all", &self.whole), ("real, windows honoured", real)];
        let described = [("article", article), ("real", real)];
        let described = described.map(|(name, document)| format!("{name}: {}", layers_in_words(&document.model)));
        let blocks = [
            Block::Title(format!("{} and {}", article.model.name, real.model.name)),
            Block::Grid(lengths(&self.documents, unit)),
            Block::Grid(rule_of_thumb(sides, unit)),
            Block::folded(described),
        ];
        blocks.into_iter().chain(hardware(&self.hardware, unit)).collect()
    }

    fn plain(&self, unit: ByteUnit) -> Vec<String> {
        Estimates(&self.documents).plain(unit)
    }

    fn json_lines(&self) -> String {
        let document = self.document();
        json::lines(&document.estimates) + &json::lines(&document.fits)
    }
}

/// The lengths and formats of both, side by side.
fn lengths([article, real]: &[Document; 2], unit: ByteUnit) -> Grid {
    let mut columns = vec![Column::right("Tokens", |seq_len: &u64| *seq_len)];
    for (side, document) in [("article", article), ("real", real)] {
        for format in once(document.estimates.iter().map(EstimateRow::stored)) {
            let bytes = move |seq_len: &u64| {
                let row = document.estimates.iter().find(|row| row.seq_len == *seq_len && row.stored() == format);
                Cell::bytes(row.map(|row| row.bytes))
            };
            columns.push(Column::right(format!("{side} {format} {}", unit.name()), bytes));
        }
    }
    let mut lengths: Vec<u64> = article.estimates.iter().map(|row| row.seq_len).collect();
    lengths.sort_unstable();
    lengths.dedup();
    grid(&lengths, columns, unit)
}

type Slope<'a> = Column<'a, (&'static str, u64)>;

/// The rule of thumb: the slope of the first format at the longest length.
fn rule_of_thumb(sides: [(&'static str, &Document); 3], unit: ByteUnit) -> Grid {
    let slope = |(name, document): (&'static str, &Document)| match document.longest()?.bytes_per_token {
        BytesPerTokenValue::Whole(slope) => Some((name, slope)),
        BytesPerTokenValue::Decimal(_) => None,
    };
    let slopes: Vec<(&'static str, u64)> = sides.into_iter().filter_map(slope).collect();
    let columns = [
        Slope::left("Rule of thumb, 16-bit", |(name, _)| *name),
        Slope::right("B/token", |(_, slope)| *slope),
        Slope::right("tokens per GB", |(_, slope)| {
            fixed_point(1_000_000_000, u128::from(*slope), 0).parse::<u64>().ok()
        }),
    ];
    grid(&slopes, columns, unit)
}

/// A row of the article's table of hardware, and what that holds.
struct Held<'a> {
    said: &'a article::HardwareRow,
    /// Tokens, as [`Article::hardware`].
    tokens: [u64; 4],
}

type HeldColumn<'a> = Column<'a, Held<'a>>;

/// The article's table of hardware, its rule, and the same with real figures.
fn hardware(hardware: &[(String, FitDocument); 4], unit: ByteUnit) -> [Block; 3] {
    let held = article::HARDWARE.iter().enumerate().map(|(index, said)| {
        let row = |document: &FitDocument| document.fits.get(index)?.pool_tokens;
        Held { said, tokens: hardware.each_ref().map(|(_, document)| row(document).unwrap_or_default()) }
    });
    let held: Vec<Held<'_>> = held.collect();
    let gpus = |row: &Held<'_>| format!("{}x{}", row.said.gpus, row.said.device);
    let said = [
        HeldColumn::left("GPUs", gpus),
        HeldColumn::right("GB sold", |row| row.said.marketed_gb),
        HeldColumn::right("article", |row| row.said.tokens),
        HeldColumn::right("US$/h", |row| row.said.dollars_per_hour.to_string()),
        HeldColumn::right("by its rule", |row| row.tokens[0]),
        HeldColumn::right("rounded", |row| article::rounded(row.tokens[0])),
    ];
    let real = [
        HeldColumn::left("Tokens with 218 GB", gpus),
        HeldColumn::right("article's bytes", |row| row.tokens[1]),
        HeldColumn::right("real, all kept", |row| row.tokens[2]),
        HeldColumn::right("real, chunked", |row| row.tokens[3]),
    ];
    let rule = "its rule: (0.9 x GB sold - 34 GB of weights) / bytes of a token in 16 bits, to half a million and no more \
                than ten; the dollars are of April 2025. All 109 billion parameters take 218 GB. Each column again:";
    let commands = hardware.iter().map(|(command, _)| format!("  $ {command}"));
    [
        Block::Grid(grid(&held, said, unit)),
        Block::Grid(grid(&held, real, unit)),
        Block::Text(folded(rule).into_iter().chain(commands).collect()),
    ]
}
