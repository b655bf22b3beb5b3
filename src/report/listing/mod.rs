//! What is known by name: rows for people, objects for programs.

mod engines;
mod formats;
mod gpus;
mod models;
mod weights;

use schemars::JsonSchema;
use serde::Serialize;

pub use self::engines::{DefaultItem, EngineItem, SettingItem};
pub use self::formats::FormatItem;
pub use self::gpus::{GpuItem, PriceItem, SizeItem};
pub use self::models::{InFormat, ModelItem};
pub use self::weights::WeightsItem;
use super::column::{Column, Table, grid};
use super::grid::{Block, Page};
use super::text::pairs;
use super::{Medium, Report, json};
use crate::units::{ByteUnit, Bytes};

/// Things of a kind.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Listing<T> {
    /// Name and version of the shape.
    pub schema: &'static str,
    /// The things.
    pub items: Vec<T>,
}

/// A thing that is listed.
pub trait Item: Serialize + Sized {
    /// Name and version of the shape of a list of them.
    const SCHEMA: &'static str;

    /// The columns of a list.
    fn columns(medium: Medium) -> Vec<Column<'static, Self>>;

    /// The line of a script.
    fn plain(&self) -> String;

    /// What people read in place of a table, where there is more to say of a thing than a row holds.
    fn entries(_: &[Self], _: ByteUnit) -> Page {
        Vec::new()
    }

    /// What is to be said of a table as a whole, under it.
    fn notes(_: &[Self], _: Medium) -> Vec<String> {
        Vec::new()
    }

    /// The largest figure that is printed in a unit.
    fn largest(_: &[Self]) -> Bytes {
        Bytes(0)
    }
}

impl<T: Item> Listing<T> {
    /// The list of `items`.
    pub fn new(items: Vec<T>) -> Self {
        Self { schema: T::SCHEMA, items }
    }
}

impl<T: Item> Report for Listing<T> {
    fn table(&self, _: ByteUnit) -> Table {
        Table::new(&self.items, T::columns(Medium::Markdown))
    }

    fn largest(&self) -> Bytes {
        T::largest(&self.items)
    }

    fn page(&self, unit: ByteUnit, medium: Medium) -> Page {
        let entries = T::entries(&self.items, unit);
        if !entries.is_empty() {
            return entries;
        }
        let notes = T::notes(&self.items, medium);
        let notes = (!notes.is_empty()).then(|| Block::folded(notes));
        let table = Block::Grid(grid(&self.items, T::columns(medium), unit));
        [table].into_iter().chain(notes).collect()
    }

    fn plain(&self, _: ByteUnit) -> Vec<String> {
        self.items.iter().map(T::plain).collect()
    }

    fn json_lines(&self) -> String {
        json::lines(&self.items)
    }
}

/// What is said of a thing, by name, and its properties under a heading; what is empty is left out.
fn entry(
    name: &str,
    about: impl IntoIterator<Item = (&'static str, String)>,
    heading: &str,
    properties: impl IntoIterator<Item = (String, String)>,
) -> [Block; 2] {
    let about = about.into_iter().filter(|(_, text)| !text.is_empty());
    let about: Vec<_> = about.map(|(name, text)| (name.to_owned(), text)).collect();
    let properties: Vec<_> = properties.into_iter().collect();
    let heading = (!properties.is_empty()).then(|| format!("  {heading}:"));
    let lines = pairs(2, &about).into_iter().chain(heading).chain(pairs(4, &properties)).collect();
    [Block::Title(name.to_owned()), Block::Text(lines)]
}
