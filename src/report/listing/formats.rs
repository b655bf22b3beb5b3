//! The element formats.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::Item;
use crate::engine::{Double, PROFILES, WeightFiles};
use crate::model::{CHECKPOINT_FORMATS, FileType, FormatRow};
use crate::report::text::decimal;
use crate::report::{Column, Medium, once};
use crate::units::{FORMATS, FormatEntry, PAIRS, PairEntry};

/// The head dimension at which a format with scales a vector is summed up.
const HEAD_DIM: u64 = 128;

/// A format of a [`Listing`](super::Listing): a row of `kvsize.formats/1`.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct FormatItem {
    /// Its name.
    name: String,
    /// Other names of it.
    aliases: &'static [&'static str],
    /// What is stored in it: `kv_cache`, `checkpoint` (weights), or `gguf` (a file type of weights).
    #[schemars(extend("enum" = ["kv_cache", "checkpoint", "gguf"]))]
    of: &'static str,
    /// Bits of a block; of weights in a checkpoint those of a large matrix.
    bits_per_block: u64,
    /// Elements of a block.
    elements_per_block: u64,
    /// Of a pair, the mean of K's and V's.
    bits_per_vector: u64,
    /// The window of tokens that stay in full precision, beside all this.
    full_precision_tokens: Option<u64>,
    /// All of them, at a head dimension of 128; of a packed latent those of the latent; of a GGUF file type
    /// those of most tensors.
    bits_per_element: Double,
    /// The engines that take it.
    engines: Vec<&'static str>,
    /// What it is.
    about: &'static str,
    /// Where that was read.
    source: &'static str,
}

impl FormatItem {
    /// All formats of caches, with the pairs of one of K and one of V; then those of weights.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_caches = FORMATS.iter().map(Self::new).chain(PAIRS.iter().map(Self::of_pair));
        of_caches.chain(CHECKPOINT_FORMATS.iter().map(Self::of_weights)).chain(FileType::all().map(Self::of_file))
    }

    /// Its name, and others of it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.aliases.iter().copied().chain([self.name.as_str()])
    }

    /// A format of checkpoints.
    fn of_weights(row: &FormatRow) -> Self {
        Self {
            name: row.name.into(),
            of: "checkpoint",
            aliases: row.aliases,
            bits_per_block: row.ten_thousandths_of_bits(),
            elements_per_block: 10_000,
            bits_per_vector: 0,
            full_precision_tokens: None,
            bits_per_element: Double::ratio(row.ten_thousandths_of_bits(), 10_000),
            engines: row.engines.to_vec(),
            about: row.about,
            source: row.source,
        }
    }

    /// A GGUF file type.
    fn of_file(file_type: FileType) -> Self {
        let block = file_type.main_type().block();
        let loads_gguf = PROFILES.iter().filter(|profile| profile.weight_files == WeightFiles::Gguf);
        Self {
            name: file_type.name().to_ascii_lowercase(),
            of: "gguf",
            aliases: &[],
            bits_per_block: block.bytes.saturating_mul(8),
            elements_per_block: block.elements,
            bits_per_vector: 0,
            full_precision_tokens: None,
            bits_per_element: Double::ratio(block.bytes.saturating_mul(8), block.elements),
            engines: loads_gguf.map(|profile| profile.name).collect(),
            about: "GGUF: most tensors in this",
            source: "llama.cpp v0.5.0, llama-quant.cpp",
        }
    }

    fn new(entry: &FormatEntry) -> Self {
        Self::with(entry, entry.name, entry.about, [entry, entry])
    }

    /// An element of K and one of V, as a block of two.
    fn of_pair(pair: &PairEntry) -> Self {
        let bits = pair.k.format().bits_per_block().saturating_add(pair.v.format().bits_per_block());
        let item = Self::with(&pair.v, pair.name, pair.about, [&pair.k, &pair.v]);
        Self { bits_per_block: bits, elements_per_block: 2, ..item }
    }

    /// `sides` are those of K and of V, whose mean is told.
    fn with(entry: &FormatEntry, name: &'static str, about: &'static str, sides: [&FormatEntry; 2]) -> Self {
        let [k, v] = sides.map(|side| {
            let (format, elements) = (side.format(), side.format().elements_per_block());
            let of_vector = format.bits_per_vector().saturating_mul(elements);
            let bits = format.bits_per_block().saturating_mul(HEAD_DIM).saturating_add(of_vector);
            let of_all = (bits, elements.saturating_mul(HEAD_DIM));
            let (bits, elements) = side.packed.map_or(of_all, |(bytes, elements)| (bytes.saturating_mul(8), elements));
            Double::ratio(bits, elements)
        });
        Self {
            name: name.into(),
            of: "kv_cache",
            aliases: entry.aliases,
            bits_per_block: entry.format().bits_per_block(),
            elements_per_block: entry.format().elements_per_block(),
            bits_per_vector: sides.iter().map(|side| side.format().bits_per_vector()).sum::<u64>().div_euclid(2),
            full_precision_tokens: entry.format().full_precision_tokens(),
            bits_per_element: k.plus(v).over(Double::whole(2)),
            engines: PROFILES.iter().filter(|profile| profile.takes(name)).map(|profile| profile.name).collect(),
            about,
            source: entry.source,
        }
    }

    /// `8.25 = 8 + 32/128`
    fn bits(&self) -> String {
        let all = format!("{:.4}", self.bits_per_element.value());
        let all = all.trim_end_matches('0').trim_end_matches('.');
        if self.bits_per_vector == 0 {
            return all.to_owned();
        }
        let plain = decimal(self.bits_per_block, self.elements_per_block, 1);
        format!("{all} = {plain} + {}/{HEAD_DIM}", self.bits_per_vector)
    }
}

impl Item for FormatItem {
    const SCHEMA: &'static str = "kvsize.formats/1";

    fn columns(medium: Medium) -> Vec<Column<'static, Self>> {
        // A terminal has room for three of them, and the rest under the table.
        let roomy = medium == Medium::Markdown;
        vec![
            Column::left("Format", |item: &Self| item.name.clone()).key("Format"),
            Column::left("Bits an element", |item: &Self| item.bits()).key("Bits an element"),
            Column::left("What it is", |item: &Self| item.about).key("What it is"),
            Column::left("Aliases", |item: &Self| item.aliases.join(" ")).when(roomy).key("Aliases"),
            Column::left("Engines", |item: &Self| item.engines.join(" ")).when(roomy).key("Engines"),
            Column::left("Source", |item: &Self| item.source).when(roomy).key("Source"),
        ]
    }

    fn plain(&self) -> String {
        self.name.clone()
    }

    /// Who takes the formats, other names of theirs, and where they were read.
    fn notes(items: &[Self], medium: Medium) -> Vec<String> {
        if medium != Medium::Terminal {
            return Vec::new();
        }
        let names = |is: &dyn Fn(&Self) -> bool| -> Vec<&str> {
            items.iter().filter(|item| is(item)).map(|item| item.name.as_str()).collect()
        };
        let is_weights = |item: &Self| item.of != "kv_cache";
        let taken = PROFILES
            .iter()
            .map(|profile| (profile.name, names(&|item| !is_weights(item) && profile.takes(&item.name))));
        let loaded = PROFILES.iter().map(|profile| {
            (profile.name, names(&|item| item.of == "checkpoint" && item.engines.contains(&profile.name)))
        });
        let others = once(CHECKPOINT_FORMATS.iter().map(|row| row.others).filter(|others| !others.is_empty()));
        let others = others.into_iter().map(|others| {
            let rows = CHECKPOINT_FORMATS.iter().filter(|row| row.others == others).map(|row| row.name);
            (others, names(&|item| item.of == "checkpoint" && rows.clone().any(|name| name == item.name)))
        });
        let aliases = items.iter().map(|item| (item.name.as_str(), item.aliases.to_vec()));
        let sources = once(items.iter().map(|item| item.source));
        let sources = sources.into_iter().map(|source| (source, names(&|item| item.source == source)));
        let scaled = items.iter().any(|item| item.bits_per_vector > 0);
        let head_dim = format!("  A + B/{HEAD_DIM}: B bits more for each vector, at a head dimension of {HEAD_DIM}.");
        let windows = items.iter().filter_map(|item| {
            let tokens = item.full_precision_tokens?;
            Some(format!("  {}: up to {tokens} tokens of K and of V are in the model's format besides.", item.name))
        });
        let above = scaled.then_some(head_dim).into_iter().chain(windows);
        above
            .chain(section("Taken by (ideal: all but packed latents)", taken))
            .chain(section("Weights loaded by (--weights-dtype)", loaded.chain(others)))
            .chain(section("Read as well", aliases))
            .chain(section("Sources", sources))
            // The table ends with an empty line.
            .skip_while(String::is_empty)
            .collect()
    }
}

/// Names under their heads, under a heading; nothing where there are none.
fn section<'a>(heading: &str, parts: impl Iterator<Item = (&'a str, Vec<&'a str>)>) -> Vec<String> {
    let parts = parts.filter(|(_, names)| !names.is_empty());
    let lines: Vec<String> = parts.map(|(head, names)| format!("    {head}: {}", names.join(", "))).collect();
    if lines.is_empty() {
        return lines;
    }
    [String::new(), format!("  {heading}")].into_iter().chain(lines).collect()
}
