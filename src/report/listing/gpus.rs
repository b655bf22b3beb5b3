//! The accelerators, each figure with where it was read.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Item, Page, entry};
use crate::catalogue::{AcceleratorEntry, Figure, Link, Size};
use crate::engine::{Known, Term};
use crate::hardware::{DRIVER_LESS_VISIBLE, Price, exact_size};
use crate::report::text::decimal;
use crate::report::{Cell, Column, Medium};
use crate::units::{ByteUnit, dollars, fixed_point};

/// An accelerator of a [`Listing`](super::Listing): a row of `kvsize.gpus/1`.
#[skip_serializing_none]
#[derive(Debug, Serialize, JsonSchema)]
pub struct GpuItem {
    /// Its name.
    name: String,
    /// Other names of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    /// Who makes it.
    #[serde(skip_serializing_if = "String::is_empty")]
    vendor: String,
    /// `data-centre`, `workstation`, `consumer` or `unified memory`.
    #[serde(skip_serializing_if = "String::is_empty")]
    class: String,
    /// CUDA's compute capability.
    compute_capability: Option<Figure<String>>,
    /// What it is sold with.
    marketed: Option<SizeItem>,
    /// What its driver reports as total.
    driver: Option<SizeItem>,
    /// The total that an engine was seen to be told.
    visible: Option<SizeItem>,
    /// What an engine is taken to be told: read, or estimated.
    engine_total: Option<Term>,
    /// Memory bandwidth, in 10⁶ bytes a second.
    bandwidth_mb_s: Option<Figure<u64>>,
    /// Peak dense rate in bf16, in 10⁹ operations a second.
    bf16_gflops: Option<Figure<u64>>,
    /// Peak dense rate in fp8, in 10⁹ operations a second.
    fp8_gflops: Option<Figure<u64>>,
    /// The way to its neighbours.
    link: Option<Link>,
    /// What it was offered for.
    price: Option<PriceItem>,
    /// What error correction takes of its memory.
    ecc: Option<String>,
    /// What else is to be known.
    note: Option<String>,
    #[serde(skip)]
    metal: bool,
}

/// A size, as it was written and in bytes.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SizeItem {
    /// As it was written.
    value: String,
    /// In bytes.
    bytes: u64,
    /// Where it was read.
    source: String,
}

impl From<Figure<Size>> for SizeItem {
    fn from(Figure { value, source }: Figure<Size>) -> Self {
        Self { value: value.text, bytes: value.bytes.0, source }
    }
}

/// A price of a [`GpuItem`].
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(transform = with_any_kind)]
pub struct PriceItem {
    /// US dollars of one GPU in one hour.
    usd_per_gpu_hour: String,
    /// The offer.
    #[serde(flatten)]
    offer: Price,
}

/// A user's own accelerators may have offers of other kinds.
fn with_any_kind(schema: &mut schemars::Schema) {
    if let Some(kind) = schema.pointer_mut("/properties/kind").and_then(serde_json::Value::as_object_mut) {
        kind.remove("enum");
    }
}

impl From<Price> for PriceItem {
    fn from(offer: Price) -> Self {
        Self { usd_per_gpu_hour: dollars(offer.micro_dollars_per_gpu_hour), offer }
    }
}

/// What the GPU gets of Apple's unified memory.
const METAL: &str = "2/3 of up to 36 GiB, 3/4 of more: the default, iogpu.wired_limit_mb raises it";

type GpuColumn = Column<'static, GpuItem>;

impl GpuItem {
    /// The row of an entry; `engine_total` is what engines see of its memory.
    pub fn new(entry: AcceleratorEntry, engine_total: Option<Term>, price: Option<Price>) -> Self {
        let metal = entry.metal();
        let capability =
            |Figure { value: (major, minor), source }| Figure { value: format!("{major}.{minor}"), source };
        let mut names = entry.names.into_iter();
        Self {
            name: names.next().unwrap_or_default(),
            aliases: names.collect(),
            vendor: entry.vendor,
            class: entry.class,
            compute_capability: entry.compute_capability.map(capability),
            marketed: entry.marketed.map(Into::into),
            driver: entry.driver.map(Into::into),
            visible: entry.visible.map(Into::into),
            engine_total,
            bandwidth_mb_s: entry.bandwidth_mb_s,
            bf16_gflops: entry.bf16_gflops,
            fp8_gflops: entry.fp8_gflops,
            link: entry.link,
            price: price.map(Into::into),
            ecc: entry.ecc,
            note: entry.note,
            metal,
        }
    }

    /// What there is to say of it, each with where it was read.
    fn facts<'a>(&'a self) -> Vec<Fact<'a>> {
        let size = |name, size: Option<&'a SizeItem>, unknown: String| Fact {
            source: size.map(|size| &size.source),
            ..Fact::new(name, size.map_or(unknown, |size| size.value.clone()))
        };
        let sizes = || format!("several sizes: name it, as {}-64gb, or give --gpu-memory 64GiB", self.name);
        let sold = if self.metal { sizes() } else { "not known".into() };
        let driver = self.driver.as_ref().filter(|_| !self.metal);
        let no_driver = if self.metal { "" } else { "not known" };
        let unknown = if self.metal { METAL } else { "not known: give --gpu-memory" };
        let total = self.engine_total.as_ref();
        let total_text = total.map(|total| format!("{} GiB, {}", gibibytes(total), total.known.name()));
        let link_text = |link: &Link| format!("{}, {} GB/s one way", link.kind, thousandths(link.mb_s_one_way));
        let link = self.link.as_ref().map(|link| (link_text(link), &link.source));
        let (price, capability) = (self.price.as_ref(), self.compute_capability.as_ref());
        vec![
            Fact::new("vendor", self.vendor.clone()),
            Fact::new("class", self.class.clone()),
            Fact::new("also", self.aliases.join(", ")),
            Fact::read("compute capability", capability.map(|figure| (figure.value.clone(), &figure.source))),
            size("sold with", self.marketed.as_ref(), sold),
            size("driver reports", driver, no_driver.into()),
            Fact {
                source: total.map(|total| &total.source),
                ..Fact::new("engines see", total_text.unwrap_or_else(|| unknown.into()))
            },
            Fact::rate("bandwidth", self.bandwidth_mb_s.as_ref(), "GB/s"),
            Fact::rate("bf16", self.bf16_gflops.as_ref(), "TFLOP/s, dense"),
            Fact::rate("fp8", self.fp8_gflops.as_ref(), "TFLOP/s, dense"),
            Fact::read("link", link),
            Fact::read("price", price.map(|price| (price.words(), &price.offer.source))),
            Fact::new("ECC", self.ecc.clone().unwrap_or_default()),
            Fact::new("note", self.note.clone().unwrap_or_default()),
        ]
    }
}

impl PriceItem {
    fn words(&self) -> String {
        let said = [&self.offer.provider, &self.offer.kind];
        let said = said.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ");
        let as_of = self.offer.as_of.as_ref().map(|as_of| format!(", as of {as_of}")).unwrap_or_default();
        format!("US$ {} per GPU-hour, {said}{as_of}", self.usd_per_gpu_hour)
    }
}

/// What is said of an accelerator; what is empty is not.
struct Fact<'a> {
    name: &'static str,
    text: String,
    source: Option<&'a String>,
}

impl<'a> Fact<'a> {
    fn new(name: &'static str, text: String) -> Self {
        Self { name, text, source: None }
    }

    fn read(name: &'static str, read: Option<(String, &'a String)>) -> Self {
        let (text, source) = read.unzip();
        Self { name, text: text.unwrap_or_default(), source }
    }

    fn rate(name: &'static str, figure: Option<&'a Figure<u64>>, unit: &str) -> Self {
        Self::read(name, figure.map(|figure| (format!("{} {unit}", thousandths(figure.value)), &figure.source)))
    }
}

/// `3350`, `153.6`: a figure in thousandths of what is printed, with no more decimals than it has.
fn thousandths(thousandths: u64) -> String {
    decimal(thousandths, 1_000, 3)
}

fn gibibytes(total: &Term) -> String {
    fixed_point(total.bytes.0.into(), 1 << 30, 2)
}

/// A column of a figure, which people read in other words, and one of where it was read.
fn figure(
    [key, source_key]: [&'static str; 2],
    heading: &'static str,
    of: fn(&GpuItem) -> Option<(Cell, &String)>,
) -> [GpuColumn; 2] {
    let shown = move |item: &GpuItem| Cell::or(of(item).map(|(cell, _)| cell), "-");
    let source = move |item: &GpuItem| of(item).map(|(_, source)| source.clone());
    [GpuColumn::right(heading, shown).when(!heading.is_empty()).key(key), GpuColumn::csv(source_key, source)]
}

fn size(size: Option<&SizeItem>, shown: fn(&SizeItem) -> String) -> Option<(Cell, &String)> {
    size.map(|size| (Cell::Both(shown(size), size.bytes.to_string()), &size.source))
}

fn rate(figure: Option<&Figure<u64>>) -> Option<(Cell, &String)> {
    figure.map(|Figure { value, source }| (Cell::Both(thousandths(*value), value.to_string()), source))
}

fn engine_total(total: Option<&Term>) -> Option<(Cell, &String)> {
    let about = |total: &Term| if total.known == Known::Estimated { "~" } else { "" };
    let text = |total: &Term| format!("{}{}", about(total), gibibytes(total));
    total.map(|total| (Cell::Both(text(total), total.bytes.0.to_string()), &total.source))
}

impl Item for GpuItem {
    const SCHEMA: &'static str = "kvsize.gpus/1";

    fn columns(_: Medium) -> Vec<GpuColumn> {
        let price = |of: fn(&PriceItem) -> Option<&String>| move |item: &Self| of(item.price.as_ref()?).cloned();
        let capability = |item: &Self| Some(item.compute_capability.as_ref()?.value.clone());
        let mut columns = vec![
            GpuColumn::left("GPU", |item| item.name.clone()).key("name"),
            GpuColumn::csv("vendor", |item| item.vendor.clone()),
            GpuColumn::csv("class", |item| item.class.clone()),
            GpuColumn::csv("compute_capability", capability),
        ];
        columns.extend(figure(["marketed_bytes", "marketed_source"], "Sold", |item| {
            size(item.marketed.as_ref(), |size| size.value.clone())
        }));
        columns.extend(figure(["driver_bytes", "driver_source"], "Driver MiB", |item| {
            size(item.driver.as_ref(), |size| (size.bytes >> 20).to_string())
        }));
        let total = ["engine_bytes", "engine_source"];
        let [bytes, source] = figure(total, "Engine GiB", |item| engine_total(item.engine_total.as_ref()));
        let known = GpuColumn::csv("engine_known", |item| Some(item.engine_total.as_ref()?.known.name()));
        columns.extend([bytes, known, source]);
        let bandwidth = ["bandwidth_mb_s", "bandwidth_source"];
        columns.extend(figure(bandwidth, "GB/s", |item| rate(item.bandwidth_mb_s.as_ref())));
        columns.extend(figure(["bf16_gflops", "bf16_source"], "TFLOP/s", |item| rate(item.bf16_gflops.as_ref())));
        columns.extend(figure(["fp8_gflops", "fp8_source"], "", |item| rate(item.fp8_gflops.as_ref())));
        columns.extend([
            GpuColumn::csv("link", |item| Some(item.link.as_ref()?.kind.clone())),
            GpuColumn::csv("link_mb_s_one_way", |item| Some(item.link.as_ref()?.mb_s_one_way)),
            GpuColumn::csv("link_source", |item| Some(item.link.as_ref()?.source.clone())),
            GpuColumn::csv("usd_per_gpu_hour", price(|price| Some(&price.usd_per_gpu_hour))),
            GpuColumn::csv("price_as_of", price(|price| price.offer.as_of.as_ref())),
            GpuColumn::csv("price_kind", price(|price| price.offer.kind.as_ref())),
            GpuColumn::csv("price_provider", price(|price| price.offer.provider.as_ref())),
            GpuColumn::csv("price_source", price(|price| Some(&price.offer.source))),
            GpuColumn::csv("ecc", |item| item.ecc.clone()),
            GpuColumn::csv("note", |item| item.note.clone()),
        ]);
        columns
    }

    fn plain(&self) -> String {
        self.name.clone()
    }

    /// Every figure of one with where it was read.
    fn entries(items: &[Self], _: ByteUnit) -> Page {
        let [item] = items else { return Vec::new() };
        let facts = item.facts();
        let sources: Vec<_> =
            facts.iter().filter_map(|fact| Some((fact.name.to_owned(), fact.source?.clone()))).collect();
        entry(&item.name, facts.into_iter().map(|fact| (fact.name, fact.text)), "sources", sources).into()
    }

    /// What the columns mean, and what is not as sure as the rest.
    fn notes(items: &[Self], _: Medium) -> Vec<String> {
        if items.is_empty() {
            return Vec::new();
        }
        let mut notes = vec![
            "Sold: the size it is sold with. Driver: what its driver reports. Engine: what a server is told, of which it takes a share. \
             GB/s: memory bandwidth. TFLOP/s: peak in bf16, dense. -: no source. The sources: `kvsize gpus NAME`."
                .to_owned(),
        ];
        let estimated = |item: &Self| item.engine_total.as_ref().is_some_and(|total| total.known == Known::Estimated);
        if items.iter().any(|item| estimated(item) && !item.metal) {
            let less = exact_size(DRIVER_LESS_VISIBLE);
            notes.push(format!(
                "~: estimated, the driver's figure less {less}, the median of measured cards; without a driver's figure, 98.2 % of the \
                 marketed size, or 3/4 of shared memory."
            ));
        }
        let is_unverified = |size: &SizeItem| size.source.starts_with("unverified");
        let unverified = items.iter().filter(|item| item.driver.as_ref().is_some_and(is_unverified));
        let unverified: Vec<&str> = unverified.map(|item| item.name.as_str()).collect();
        if !unverified.is_empty() {
            notes.push(format!("The driver's figure is not confirmed by a source: {}.", unverified.join(", ")));
        }
        if items.iter().any(|item| item.metal) {
            notes.push(format!(
                "Apple's chips are sold with several sizes: name it, as apple-m3-max-64gb, or give --gpu-memory 64GiB. Engines see \
                 {METAL}."
            ));
        }
        notes
    }
}
