//! `kvsize gpus`: what is known of accelerators, each figure with where it was read.

use clap::Args;
use serde::Serialize;

use super::args::GpuListArguments;
use super::lists::{columns, list, matches};
use super::sources::own_accelerators;
use super::{ANSWERED, Answer, Subcommand, typed};
use crate::catalogue::{self, AcceleratorEntry, Figure, Link, Size};
use crate::engine::{Known, Term};
use crate::hardware::{DRIVER_LESS_VISIBLE, Price, exact_size};
use crate::report::{Entry, Format, Grid, Listing};
use crate::request::{accelerator, priced};
use crate::units::{Error, dollars, fixed_point};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "gpus",
    about: "The accelerators: memory, bandwidth, rates and links, each with its source",
    arguments: GpuListArguments::augment_args,
    notes: "",
    examples: &[
        ("All accelerators", "kvsize gpus"),
        ("Every figure of one, with where it was read", "kvsize gpus h100-sxm"),
        ("All figures, as CSV", "kvsize gpus -f csv"),
    ],
    statuses: ANSWERED,
    run: |matches| run(&typed(matches)?),
};

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub(super) struct GpuItem {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    compute_capability: Option<Figure<String>>,
    /// What it is sold with.
    #[serde(skip_serializing_if = "Option::is_none")]
    marketed: Option<SizeItem>,
    /// What its driver reports as total.
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<SizeItem>,
    /// The total that an engine was seen to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    visible: Option<SizeItem>,
    /// What an engine is taken to be told: read, or estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_total: Option<TotalItem>,
    /// Memory bandwidth, in 10⁶ bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    bandwidth_mb_s: Option<Figure<u64>>,
    /// Peak dense rate in bf16, in 10⁹ operations a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    bf16_gflops: Option<Figure<u64>>,
    /// Peak dense rate in fp8, in 10⁹ operations a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    fp8_gflops: Option<Figure<u64>>,
    /// The way to its neighbours.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<Link>,
    /// What it was offered for.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<PriceItem>,
    /// What error correction takes of its memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    ecc: Option<String>,
    /// What else is to be known.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    #[serde(skip)]
    metal: bool,
}

/// A size, as it was written and in bytes.
#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct SizeItem {
    /// As it was written.
    value: String,
    /// In bytes.
    bytes: u64,
    /// Where it was read.
    source: String,
}

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct TotalItem {
    /// In bytes.
    bytes: u64,
    /// How it is known.
    known: Known,
    /// Where it was read, or how it is estimated.
    source: String,
}

#[derive(Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct PriceItem {
    /// US dollars of one GPU in one hour.
    usd_per_gpu_hour: String,
    /// The day of the price.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<String>,
    /// `on demand`, `spot` or `reserved`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Whose offer it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// Where it was read.
    source: String,
}

/// What the GPU gets of Apple's unified memory.
const METAL: &str = "2/3 of up to 36 GiB, 3/4 of more: the default, iogpu.wired_limit_mb raises it";

impl GpuItem {
    fn of(entry: AcceleratorEntry) -> Self {
        let size = |figure: Option<Figure<Size>>| {
            figure.map(|Figure { value, source }| SizeItem { value: value.text, bytes: value.bytes.0, source })
        };
        let total = accelerator(&entry).total();
        let price = priced(entry.id(), Some(&entry), &[]);
        let metal = entry.metal();
        let mut names = entry.names.into_iter();
        Self {
            name: names.next().unwrap_or_default(),
            aliases: names.collect(),
            vendor: entry.vendor,
            class: entry.class,
            compute_capability: entry
                .compute_capability
                .map(|Figure { value: (major, minor), source }| Figure { value: format!("{major}.{minor}"), source }),
            marketed: size(entry.marketed),
            driver: size(entry.driver),
            visible: size(entry.visible),
            engine_total: total.map(|Term { bytes, known, source }| TotalItem { bytes: bytes.0, known, source }),
            bandwidth_mb_s: entry.bandwidth_mb_s,
            bf16_gflops: entry.bf16_gflops,
            fp8_gflops: entry.fp8_gflops,
            link: entry.link,
            price: price.map(|price| {
                let Price { micro_dollars_per_gpu_hour, as_of, kind, provider, source } = price;
                PriceItem { usd_per_gpu_hour: dollars(micro_dollars_per_gpu_hour), as_of, kind, provider, source }
            }),
            ecc: entry.ecc,
            note: entry.note,
            metal,
        }
    }

    fn estimated(&self) -> bool {
        self.engine_total.as_ref().is_some_and(|total| total.known == Known::Estimated)
    }

    fn row(&self) -> Vec<String> {
        let driver = self.driver.as_ref().map(|size| (size.bytes >> 20).to_string());
        let engine = self.engine_total.as_ref().map(|total| {
            let about = if total.known == Known::Estimated { "~" } else { "" };
            format!("{about}{}", fixed_point(total.bytes.into(), 1 << 30, 2))
        });
        let cells = [
            self.marketed.as_ref().map(|size| size.value.clone()),
            driver,
            engine,
            thousandths(self.bandwidth_mb_s.as_ref()),
            thousandths(self.bf16_gflops.as_ref()),
        ];
        let cells = cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".into()));
        [self.name.clone()].into_iter().chain(cells).collect()
    }

    /// Every figure with where it was read.
    fn entry(&self) -> Entry {
        let mut about = vec![("vendor", self.vendor.clone()), ("class", self.class.clone())];
        about.push(("also", self.aliases.join(", ")));
        about.extend(self.compute_capability.as_ref().map(|figure| ("compute capability", figure.value.clone())));
        let size =
            |size: &Option<SizeItem>| size.as_ref().map_or_else(|| "not known".into(), |size| size.value.clone());
        if self.metal && self.marketed.is_none() {
            about.push((
                "sold with",
                format!("several sizes: name it, as {}-64gb, or give --gpu-memory 64GiB", self.name),
            ));
        } else {
            about.push(("sold with", size(&self.marketed)));
        }
        if !self.metal {
            about.push(("driver reports", size(&self.driver)));
        }
        let total = self.engine_total.as_ref().map(|total| {
            let mebibytes = fixed_point(total.bytes.into(), 1 << 30, 2);
            format!("{mebibytes} GiB, {}", total.known.name())
        });
        let unknown = if self.metal { METAL } else { "not known: give --gpu-memory" };
        about.push(("engines see", total.unwrap_or_else(|| unknown.into())));
        let rate = |figure: &Option<Figure<u64>>, unit: &str| {
            thousandths(figure.as_ref()).map(|text| format!("{text} {unit}"))
        };
        about.extend(rate(&self.bandwidth_mb_s, "GB/s").map(|text| ("bandwidth", text)));
        about.extend(rate(&self.bf16_gflops, "TFLOP/s, dense").map(|text| ("bf16", text)));
        about.extend(rate(&self.fp8_gflops, "TFLOP/s, dense").map(|text| ("fp8", text)));
        about.extend(self.link.as_ref().map(|link| {
            let rate = fixed_rate(link.mb_s_one_way);
            ("link", format!("{}, {rate} GB/s one way", link.kind))
        }));
        about.extend(self.price.as_ref().map(|price| {
            let said = [&price.provider, &price.kind].into_iter().flatten().map(String::as_str).collect::<Vec<_>>();
            let as_of = price.as_of.as_ref().map(|as_of| format!(", as of {as_of}")).unwrap_or_default();
            ("price", format!("US$ {} per GPU-hour, {}{as_of}", price.usd_per_gpu_hour, said.join(" ")))
        }));
        about.extend(self.ecc.clone().map(|ecc| ("ECC", ecc)));
        about.extend(self.note.clone().map(|note| ("note", note)));
        let about = about.into_iter().filter(|(_, text)| !text.is_empty());
        Entry {
            name: self.name.clone(),
            about: about.map(|(name, text)| (name.to_owned(), text)).collect(),
            heading: "sources",
            properties: self.sources().into_iter().map(|(name, source)| (name.to_owned(), source)).collect(),
        }
    }

    fn sources(&self) -> Vec<(&'static str, String)> {
        let size = |size: &Option<SizeItem>| size.as_ref().map(|size| size.source.clone());
        let rate = |figure: &Option<Figure<u64>>| figure.as_ref().map(|figure| figure.source.clone());
        let all = [
            ("compute capability", self.compute_capability.as_ref().map(|figure| figure.source.clone())),
            ("sold with", size(&self.marketed)),
            ("driver reports", size(&self.driver)),
            ("engines see", self.engine_total.as_ref().map(|total| total.source.clone())),
            ("bandwidth", rate(&self.bandwidth_mb_s)),
            ("bf16", rate(&self.bf16_gflops)),
            ("fp8", rate(&self.fp8_gflops)),
            ("link", self.link.as_ref().map(|link| link.source.clone())),
            ("price", self.price.as_ref().map(|price| price.source.clone())),
        ];
        all.into_iter().filter_map(|(name, source)| Some((name, source?))).collect()
    }
}

/// `3350`, `153.6`: a figure in thousandths of what is printed, with no more decimals than it has.
fn fixed_rate(thousandths: u64) -> String {
    let text = fixed_point(thousandths.into(), 1_000, 3);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn thousandths(figure: Option<&Figure<u64>>) -> Option<String> {
    figure.map(|figure| fixed_rate(figure.value))
}

fn run(arguments: &GpuListArguments) -> Result<Answer, Error> {
    let overlay = own_accelerators(arguments.accelerators.clone())?;
    let arguments = &arguments.list;
    // A product name, too, finds its device.
    let usual = catalogue::normalised(arguments.pattern.as_deref().unwrap_or_default());
    let by_name = |entry: &AcceleratorEntry| !usual.is_empty() && entry.names.iter().any(|name| name.contains(&usual));
    let mut items: Vec<GpuItem> = catalogue::accelerators(&overlay)
        .filter(|entry| by_name(entry) || matches(arguments, entry.names.iter().chain([&entry.vendor, &entry.class])))
        .map(GpuItem::of)
        .collect();
    if let (true, Some(pattern)) = (items.is_empty(), &arguments.pattern) {
        // A chip with the size of its memory.
        items.extend(catalogue::accelerator(pattern, &overlay).ok().map(GpuItem::of));
    }
    let format = arguments.format.format();
    let grid = if format == Format::Csv { exact(&items) } else { grid(&items) };
    let entries = match items.as_slice() {
        [item] => vec![item.entry()],
        _ => Vec::new(),
    };
    let notes = notes(&items);
    Ok(list(&Listing { schema: "kvsize.gpus/1", items, grid, entries, notes }, arguments))
}

fn grid(items: &[GpuItem]) -> Grid {
    let names = ["GPU", "Sold", "Driver MiB", "Engine GiB", "GB/s", "TFLOP/s"];
    Grid { columns: columns(&names, &[1, 2, 3, 4, 5]), rows: items.iter().map(GpuItem::row).collect() }
}

/// What the columns mean, and what is not as sure as the rest.
fn notes(items: &[GpuItem]) -> Vec<String> {
    if items.is_empty() {
        return Vec::new();
    }
    let named = |which: &dyn Fn(&&GpuItem) -> bool| {
        let names: Vec<&str> = items.iter().filter(which).map(|item| item.name.as_str()).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut notes = vec![
        "Sold: the size it is sold with. Driver: what its driver reports. Engine: what a server is told, of which it takes a share. \
         GB/s: memory bandwidth. TFLOP/s: peak in bf16, dense. -: no source. The sources: `kvsize gpus NAME`."
            .to_owned(),
    ];
    if items.iter().any(|item| item.estimated() && !item.metal) {
        let less = exact_size(DRIVER_LESS_VISIBLE);
        notes.push(format!(
            "~: estimated, the driver's figure less {less}, the median of the cards of which both are known."
        ));
    }
    let unverified = |item: &&GpuItem| item.driver.as_ref().is_some_and(|size| size.source.starts_with("unverified"));
    if let Some(names) = named(&unverified) {
        notes.push(format!("The driver's figure is not confirmed by a source: {names}."));
    }
    if items.iter().any(|item| item.metal) {
        notes.push(format!(
            "Apple's chips are sold with several sizes: name it, as apple-m3-max-64gb, or give --gpu-memory 64GiB. Engines see \
             {METAL}."
        ));
    }
    notes
}

/// Every figure and every source, for a spreadsheet.
fn exact(items: &[GpuItem]) -> Grid {
    let names = [
        "name",
        "vendor",
        "class",
        "compute_capability",
        "marketed_bytes",
        "marketed_source",
        "driver_bytes",
        "driver_source",
        "engine_bytes",
        "engine_known",
        "engine_source",
        "bandwidth_mb_s",
        "bandwidth_source",
        "bf16_gflops",
        "bf16_source",
        "fp8_gflops",
        "fp8_source",
        "link",
        "link_mb_s_one_way",
        "link_source",
        "usd_per_gpu_hour",
        "price_as_of",
        "price_kind",
        "price_provider",
        "price_source",
        "ecc",
        "note",
    ];
    let rows = items.iter().map(|item| {
        let size = |size: &Option<SizeItem>| {
            let (bytes, source) =
                size.as_ref().map(|size| (size.bytes.to_string(), size.source.clone())).unwrap_or_default();
            [bytes, source]
        };
        let rate = |figure: &Option<Figure<u64>>| {
            let figure = figure.as_ref();
            let (value, source) =
                figure.map(|figure| (figure.value.to_string(), figure.source.clone())).unwrap_or_default();
            [value, source]
        };
        let total = item
            .engine_total
            .as_ref()
            .map(|total| [total.bytes.to_string(), total.known.name().to_owned(), total.source.clone()]);
        let link =
            item.link.as_ref().map(|link| [link.kind.clone(), link.mb_s_one_way.to_string(), link.source.clone()]);
        let price = item.price.as_ref().map(|price| {
            let or_none = |text: &Option<String>| text.clone().unwrap_or_default();
            [
                price.usd_per_gpu_hour.clone(),
                or_none(&price.as_of),
                or_none(&price.kind),
                or_none(&price.provider),
                price.source.clone(),
            ]
        });
        let capability = item.compute_capability.as_ref().map(|figure| figure.value.clone()).unwrap_or_default();
        [item.name.clone(), item.vendor.clone(), item.class.clone(), capability]
            .into_iter()
            .chain(size(&item.marketed))
            .chain(size(&item.driver))
            .chain(total.unwrap_or_default())
            .chain(rate(&item.bandwidth_mb_s))
            .chain(rate(&item.bf16_gflops))
            .chain(rate(&item.fp8_gflops))
            .chain(link.unwrap_or_default())
            .chain(price.unwrap_or_default())
            .chain([item.ecc.clone().unwrap_or_default(), item.note.clone().unwrap_or_default()])
            .collect()
    });
    Grid { columns: columns(&names, &[]), rows: rows.collect() }
}
