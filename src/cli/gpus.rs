//! GPUs and their prices as they are typed, resolved to what the core asks about: `--gpu 8xh100,4xl40s --price 2.49/gpu-h`.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::{nvidia_smi, terminal_is_watching};
use crate::catalogue::{self, AcceleratorEntry, Figure, PriceEntry, Size};
use crate::engine::Device;
use crate::hardware::{Accelerator, Known, Price, Rate, Term, day};
use crate::source;
use crate::units::{Bytes, Code, Error, Quantity, parse_count};

// No doc comment: clap would take it for the text of the command. Flatten it last before the output: its heading goes on.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Hardware")]
pub(super) struct GpuArguments {
    /// Kinds of GPU and how many of each, a list (`kvsize gpus`); local: what nvidia-smi finds here
    #[arg(long, value_name = "[Nx]GPU", value_delimiter = ',', allow_hyphen_values = true)]
    pub(super) gpu: Vec<String>,
    #[command(flatten)]
    pub(super) of_gpu: OfGpuArguments,
}

// What is said of GPUs beside their names.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Hardware")]
pub(super) struct OfGpuArguments {
    /// Memory of each GPU that an engine is told of, in place of what is known of --gpu, or of one that is not known; of
    /// Apple's chips what the machine is sold with
    #[arg(long, value_name = "BYTES", value_parser = positive_bytes, allow_hyphen_values = true)]
    pub(super) gpu_memory: Option<Bytes>,
    /// A JSON file of accelerators of your own, which shadow the catalogue's [env: `KVSIZE_ACCELERATORS`]
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) accelerators: Option<PathBuf>,
    /// US dollars: 2.49/gpu-h, or 19.92/node-h for all the GPUs of --gpu [default: a dated snapshot]
    #[arg(long, value_name = "PRICE", value_parser = Rate::from_str, allow_hyphen_values = true, conflicts_with = "prices")]
    pub(super) price: Option<Rate>,
    /// A JSON file of prices of your own, which shadow the snapshot's
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(super) prices: Option<PathBuf>,
}

/// Bytes of which there are some.
pub(super) fn positive_bytes(text: &str) -> Result<Bytes, Error> {
    match text.parse()? {
        Bytes(0) => Err(Quantity::Bytes.zero(text)),
        bytes => Ok(bytes),
    }
}

/// GPUs of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fleet {
    /// How many; none where no number was given.
    pub(super) count: Option<u64>,
    /// Each of them.
    pub(super) accelerator: Accelerator,
    /// What the catalogue, or the user's own file, has of it.
    pub(super) entry: Option<AcceleratorEntry>,
    /// What one costs, if that is known.
    pub(super) price: Option<Price>,
}

impl GpuArguments {
    /// The GPUs that were named, in that order; of none but a size, a GPU of that size; else none.
    pub(super) fn fleets(&self) -> Result<Vec<Fleet>, Error> {
        let known = self.of_gpu.known()?;
        let fleets: Vec<Fleet> = match (self.gpu.as_slice(), self.of_gpu.gpu_memory) {
            ([], Some(memory)) => {
                vec![Fleet { count: None, accelerator: Accelerator::of_size(memory), entry: None, price: None }]
            }
            (names, _) => {
                let mut fleets = Vec::with_capacity(names.len());
                for name in names {
                    let fleet = fleet(name, &known.accelerators)?;
                    // What is named twice is asked once, as in every list.
                    if !fleets.contains(&fleet) {
                        fleets.push(fleet);
                    }
                }
                fleets
            }
        };
        self.of_gpu.completed(fleets, &known)
    }

    /// As [`Self::fleets`]; where none is named, every accelerator whose total is known, as many as it takes.
    pub(super) fn fleets_or_all(&self) -> Result<Vec<Fleet>, Error> {
        if !self.gpu.is_empty() || self.of_gpu.gpu_memory.is_some() {
            return self.fleets();
        }
        let known = self.of_gpu.known()?;
        let all = catalogue::accelerators(&known.accelerators).map(|entry| Fleet {
            count: None,
            accelerator: accelerator(&entry),
            entry: Some(entry),
            price: None,
        });
        let all: Vec<Fleet> = all.filter(|fleet| fleet.accelerator.total().is_some()).collect();
        self.of_gpu.completed(all, &known)
    }
}

/// The user's own accelerators and prices.
struct KnownHere {
    accelerators: Vec<AcceleratorEntry>,
    prices: Vec<PriceEntry>,
}

impl OfGpuArguments {
    /// The GPUs of one name.
    pub(super) fn fleet(&self, name: &str) -> Result<Fleet, Error> {
        let known = self.known()?;
        let fleets = self.completed(vec![fleet(name, &known.accelerators)?], &known)?;
        fleets.into_iter().next().ok_or_else(|| wrong(Code::UnknownGpu, "--gpu", name, "names no GPU", EXAMPLE))
    }

    fn known(&self) -> Result<KnownHere, Error> {
        let accelerators = own_accelerators(self.accelerators.as_deref())?;
        let prices = match &self.prices {
            Some(path) => own_prices(path, &accelerators)?,
            None => Vec::new(),
        };
        Ok(KnownHere { accelerators, prices })
    }

    /// The fleets with the memory and the price that were given, or the price that is known.
    fn completed(&self, fleets: Vec<Fleet>, known: &KnownHere) -> Result<Vec<Fleet>, Error> {
        let several = |option: &str, found: String, remedy: &str| match fleets.as_slice() {
            [] | [_] => Ok(()),
            fleets => {
                let problem = format!("is of one kind of GPU, and {} are asked about", fleets.len());
                Err(wrong(Code::Conflict, option, &found, &problem, remedy))
            }
        };
        if let Some(memory) = self.gpu_memory {
            several("--gpu-memory", crate::hardware::exact_size(memory), "name one --gpu")?;
        }
        if let Some(rate) = self.price {
            several("--price", rate.to_string(), "name one --gpu, or give a file of --prices")?;
        }
        let completed = |fleet: Fleet| {
            let price = match self.price {
                Some(rate) => Some(rate.price(fleet.count)?),
                None => priced(&fleet.accelerator.id, fleet.entry.as_ref(), &known.prices),
            };
            let accelerator = match self.gpu_memory {
                Some(memory) => fleet.accelerator.with_memory(memory),
                None => fleet.accelerator,
            };
            Ok(Fleet { accelerator, price, ..fleet })
        };
        fleets.into_iter().map(completed).collect()
    }
}

const EXAMPLE: &str = "name one, as h100 or 8xh100 (`kvsize gpus` lists them)";

fn wrong(code: Code, field: &str, found: &str, problem: &str, remedy: &str) -> Error {
    Error { code, field: field.into(), found: Some(found.into()), problem: problem.into(), remedy: remedy.into() }
}

/// The user's own accelerators: of the file named by the flag, or else by the environment.
pub(super) fn own_accelerators(flag: Option<&Path>) -> Result<Vec<AcceleratorEntry>, Error> {
    let variable = std::env::var_os("KVSIZE_ACCELERATORS").filter(|path| !path.is_empty()).map(PathBuf::from);
    match flag.map(Path::to_path_buf).or(variable) {
        Some(path) => Ok(source::accelerators(&path)?),
        None => Ok(Vec::new()),
    }
}

/// The user's own prices, each of a device by its own name.
fn own_prices(path: &Path, accelerators: &[AcceleratorEntry]) -> Result<Vec<PriceEntry>, Error> {
    let in_file = |error: Error| error.in_file(path.display().to_string()).in_file("--prices");
    let mut prices = source::prices(path)?;
    for (index, entry) in prices.iter_mut().enumerate() {
        if let Some(as_of) = entry.as_of.as_deref().filter(|as_of| day(as_of).is_none()) {
            return Err(in_file(catalogue::wrong_day(index, as_of)));
        }
        match catalogue::accelerator(&entry.device, accelerators) {
            Ok(known) => known.id().clone_into(&mut entry.device),
            Err(error) => return Err(in_file(catalogue::wrong_device(index, error))),
        }
    }
    Ok(prices)
}

/// The price of a device, if there is one.
pub(super) fn priced(id: &str, entry: Option<&AcceleratorEntry>, own: &[PriceEntry]) -> Option<Price> {
    // A chip that is named with the size of its memory may be priced without it.
    let sized = |name: &str| name.ends_with("gb") && entry.is_some_and(AcceleratorEntry::metal);
    let chip = id.rsplit_once('-').filter(|(_, size)| sized(size)).map(|(chip, _)| chip);
    let price = catalogue::price(id, own).or_else(|| catalogue::price(chip?, own))?;
    Some(Price {
        micro_dollars_per_gpu_hour: price.usd_per_gpu_hour.millionths,
        as_of: price.as_of,
        kind: price.kind.map(|kind| kind.name().to_owned()),
        provider: price.provider,
        source: price.source.unwrap_or_else(|| "--prices".into()),
    })
}

/// How old the prices are, which is told where a person is watching: what is written to files stays the same every day.
pub(super) fn ages<'a>(prices: impl IntoIterator<Item = (&'a str, &'a Price)>) -> Vec<String> {
    if !terminal_is_watching() {
        return Vec::new();
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    prices.into_iter().filter_map(|(name, price)| age(name, price, seconds.div_euclid(86_400))).collect()
}

fn age(name: &str, price: &Price, today: u64) -> Option<String> {
    let days = price.age_in_days(today)?;
    let unit = if days == 1 { "day" } else { "days" };
    Some(format!("the price of {name} is {days} {unit} old, as of {}", price.as_of.as_deref()?))
}

/// The GPUs of `8xh100`, `h100` or `local`.
fn fleet(text: &str, overlay: &[AcceleratorEntry]) -> Result<Fleet, Error> {
    let (count, name) = counted(text)?;
    if name.eq_ignore_ascii_case("local") {
        return local(text, count, overlay);
    }
    let entry = catalogue::accelerator(name, overlay)?;
    Ok(Fleet { count, accelerator: accelerator(&entry), entry: Some(entry), price: None })
}

/// The number before an `x`, if there is one, and the name. Something like a number that is none is an error, and no name.
pub(super) fn counted(text: &str) -> Result<(Option<u64>, &str), Error> {
    if text.contains(',') {
        let remedy = "give one (`kvsize fit` and `kvsize plan` take a list)";
        return Err(wrong(Code::Several, "--gpu", text, "is a list, and this is of one kind", remedy));
    }
    let like_a_number = |count: &str| count.chars().all(|c| c.is_ascii_digit() || ".+-".contains(c));
    let (count, name) = match text.split_once(['x', 'X']) {
        Some((count, name)) if like_a_number(count.trim()) => (Some(count), name),
        _ => (None, text),
    };
    let count = match count.map(parse_count) {
        None => None,
        Some(Ok(count)) => Some(count),
        Some(Err(_)) => {
            let problem = "has no usable number of GPUs before its x";
            return Err(wrong(Code::GpuCount, "--gpu", text, problem, "give 1 or more, as 8xh100"));
        }
    };
    match (name.trim(), count) {
        ("", None) => Err(wrong(Code::UnknownGpu, "--gpu", "an empty name", "names no GPU", EXAMPLE)),
        ("", Some(_)) => Err(wrong(Code::UnknownGpu, "--gpu", text, "names no GPU", EXAMPLE)),
        (name, count) => Ok((count, name)),
    }
}

/// What the core is told of an accelerator.
pub(super) fn accelerator(entry: &AcceleratorEntry) -> Accelerator {
    let term = |figure: &Option<Figure<Size>>| {
        let known = Known::Catalogue;
        figure.as_ref().map(|figure| Term { bytes: figure.value.bytes, known, source: figure.source.clone() })
    };
    Accelerator {
        id: entry.id().to_owned(),
        compute_capability: entry.compute_capability.as_ref().map(|figure| figure.value),
        marketed: term(&entry.marketed),
        driver: term(&entry.driver),
        visible: term(&entry.visible),
        metal: entry.metal(),
    }
}

/// The GPUs of this machine, which must be of one kind.
fn local(text: &str, count: Option<u64>, overlay: &[AcceleratorEntry]) -> Result<Fleet, Error> {
    const ELSE: &str = "name the GPU, as --gpu 8xh100, or its memory with --gpu-memory";
    let refused = |problem: String| wrong(Code::LocalGpu, "--gpu", text, &problem, ELSE);
    let cards = nvidia_smi::cards().map_err(refused)?;
    let mut kinds: Vec<(&nvidia_smi::Card, u64)> = Vec::new();
    for card in &cards {
        match kinds.iter_mut().find(|(kind, _)| *kind == card) {
            Some((_, count)) => *count = count.saturating_add(1),
            None => kinds.push((card, 1)),
        }
    }
    let &[(card, found)] = kinds.as_slice() else {
        let kinds = kinds.iter().map(|(card, count)| format!("{count}x {card}")).collect::<Vec<_>>().join(", ");
        return Err(refused(format!("is not one kind of GPU: nvidia-smi finds {kinds}")));
    };
    if count.is_some_and(|count| count > found) {
        return Err(refused(format!("is more than the {found} that nvidia-smi finds")));
    }
    let entry = catalogue::accelerator(&card.name, overlay).ok();
    let known = entry
        .as_ref()
        .map_or_else(|| Accelerator { id: catalogue::normalised(&card.name), ..Accelerator::default() }, accelerator);
    let Some(mib) = card.memory_mib else {
        // A device that shares the machine's memory has no total of its own.
        if known.total().is_none() {
            return Err(refused(format!("is {card}, whose memory nvidia-smi does not tell")));
        }
        return Ok(Fleet { count: count.or(Some(found)), accelerator: known, entry, price: None });
    };
    let bytes = Bytes(mib.saturating_mul(1 << 20));
    // What engines were told on such a card holds for this one only if the drivers agree.
    let alike = known.driver.as_ref().is_none_or(|driver| driver.bytes == bytes);
    let driver = Some(Term { bytes, known: Known::Measured, source: "nvidia-smi".into() });
    let visible = known.visible.clone().filter(|_| alike);
    let accelerator = Accelerator { driver, visible, ..known };
    Ok(Fleet { count: count.or(Some(found)), accelerator, entry, price: None })
}

/// What an engine's defaults depend on, and what had to be assumed for it.
pub(super) fn engine_device(accelerator: &Accelerator) -> (Device, Option<String>) {
    let Accelerator { id, compute_capability, marketed, driver, .. } = accelerator;
    let usual = Device::default();
    let memory = driver.clone().or_else(|| accelerator.total()).or_else(|| marketed.clone());
    let memory_mib = memory.as_ref().map_or(usual.memory_mib, |memory| memory.bytes.0 >> 20);
    let assumed = match (compute_capability, &memory) {
        (Some(_), Some(_)) => None,
        (None, _) => {
            let (major, minor) = usual.compute_capability;
            Some(format!("{id}: its compute capability is not known; engines' defaults are those of {major}.{minor}"))
        }
        (Some(_), None) => Some(format!("{id}: its memory is not known; engines' defaults are those of {}", usual.id)),
    };
    let compute_capability = compute_capability.unwrap_or(usual.compute_capability);
    (Device { id: id.clone(), compute_capability, memory_mib }, assumed)
}

/// The device that an engine's defaults are told for, by one name, and what had to be assumed for it.
pub(super) fn named_device(name: &str, accelerators: Option<&Path>) -> Result<(Device, Option<String>), Error> {
    let overlay = own_accelerators(accelerators)?;
    if let (Some(_), kind) = counted(name)? {
        let remedy = format!("give {kind}; how many there are is told by --tp, --pp and --dp");
        return Err(wrong(
            Code::GpuCount,
            "--gpu",
            name,
            "is a number of GPUs, and defaults depend on the kind alone",
            &remedy,
        ));
    }
    let accelerator = if name.eq_ignore_ascii_case("local") {
        local(name, None, &overlay)?.accelerator
    } else {
        accelerator(&catalogue::accelerator(name, &overlay)?)
    };
    Ok(engine_device(&accelerator))
}

/// What is said of memory for the cache alone that is what a card has in all.
pub(super) fn memory_of_a_card(memory: Option<Bytes>) -> Option<String> {
    let memory = memory?;
    let is = |size: &Option<Figure<Size>>| size.as_ref().is_some_and(|size| size.value.bytes == memory);
    // "80GiB" is typed for a card that is sold as 80 GB.
    let loosely = |size: &Option<Figure<Size>>| {
        let Some(size) = size else { return false };
        let gigabytes = size.value.bytes.0.checked_div(1_000_000_000).unwrap_or_default();
        size.value.text.ends_with(" GB") && gigabytes.checked_mul(1 << 30) == Some(memory.0)
    };
    let entry = catalogue::accelerators(&[])
        .find(|entry| is(&entry.marketed) || is(&entry.driver) || is(&entry.visible) || loosely(&entry.marketed))?;
    Some(format!(
        "--memory is what the cache alone may take, and {} is all that a card has ({}): `kvsize fit` takes that as --gpu-memory, or \
         as --gpu",
        crate::hardware::exact_size(memory),
        entry.id()
    ))
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;

    #[test]
    fn a_number_and_a_name() {
        for (text, count, name) in [
            ("h100", None, "h100"),
            ("8xh100", Some(8), "h100"),
            ("8XH100", Some(8), "H100"),
            ("rtx-4090", None, "rtx-4090"),
            ("2xrtx-4090", Some(2), "rtx-4090"),
            ("max-1550", None, "max-1550"),
            ("8x h100", Some(8), "h100"),
        ] {
            assert_eq!(counted(text).unwrap(), (count, name), "{text}");
        }
        for text in
            ["0xh100", "xh100", "-1xh100", "1.5xh100", "8x", "x", "", " ", "99999999999999999999xh100", "+8xh100"]
        {
            assert!(counted(text).is_err(), "{text}");
        }
    }

    fn fleets(arguments: &str) -> Result<Vec<Fleet>, String> {
        let command = GpuArguments::augment_args(clap::Command::new("x"));
        let matches =
            command.try_get_matches_from(["x"].into_iter().chain(arguments.split(' ').filter(|word| !word.is_empty())));
        let typed = matches.and_then(|matches| GpuArguments::from_arg_matches(&matches));
        let typed = typed.map_err(|error| crate::cli::usage::failure(&error).to_string())?;
        typed.fleets().map_err(|failure| failure.to_string())
    }

    #[test]
    fn lists_of_gpus_are_resolved_in_order() {
        let name = |fleet: &Fleet| match fleet.count {
            Some(count) => format!("{count}x{}", fleet.accelerator.id),
            None => fleet.accelerator.id.clone(),
        };
        let names = |arguments: &str| -> Vec<String> { fleets(arguments).unwrap().iter().map(name).collect() };
        assert_eq!(names(""), [""; 0]);
        assert_eq!(names("--gpu 8xh100,8xh200 --gpu l4"), ["8xh100-sxm", "8xh200-sxm", "l4"]);
        assert_eq!(names("--gpu h100,H100-SXM,8xh100"), ["h100-sxm", "8xh100-sxm"]);
        assert_eq!(names("--gpu-memory 80GiB"), ["gpu-80gib"]);
        assert_eq!(names("--gpu 2xapple-m3-max --gpu-memory 64GiB"), ["2xapple-m3-max"]);
        for (arguments, message) in [
            (
                "--gpu h100,,l4",
                "--gpu: an empty name names no GPU; name one, as h100 or 8xh100 (`kvsize gpus` lists them)",
            ),
            (
                "--gpu h100,",
                "--gpu: an empty name names no GPU; name one, as h100 or 8xh100 (`kvsize gpus` lists them)",
            ),
            ("--gpu 8xh100,0xl4", "--gpu: 0xl4 has no usable number of GPUs before its x; give 1 or more, as 8xh100"),
            (
                "--gpu h100,l4 --gpu-memory 70GiB",
                "--gpu-memory: 70 GiB is of one kind of GPU, and 2 are asked about; name one --gpu",
            ),
            (
                "--gpu h100,l4 --price 2.49/gpu-h",
                "--price: 2.49/gpu-h is of one kind of GPU, and 2 are asked about; name one --gpu, or give a file of --prices",
            ),
            (
                "--gpu-memory 80GiB --price 9/node-h",
                "--price: 9.00/node-h is of a node of nobody knows how many GPUs; give \
              their number, as --gpu 8xh100, or a price in /gpu-h",
            ),
        ] {
            assert_eq!(fleets(arguments).unwrap_err(), message, "{arguments}");
        }
    }

    #[test]
    fn fleets_have_the_memory_and_the_price_that_are_known_or_given() {
        let one = |arguments: &str| fleets(arguments).unwrap().remove(0);
        let price = |fleet: &Fleet| fleet.price.as_ref().map(|price| price.micro_dollars_per_gpu_hour);
        let h100 = one("--gpu 8xh100");
        assert_eq!((h100.count, price(&h100)), (Some(8), Some(3_900_000)));
        assert_eq!(h100.accelerator.total().unwrap().known, Known::Catalogue);
        let given = one("--gpu 8xh100 --gpu-memory 70GiB --price 20/node-h");
        assert_eq!(price(&given), Some(2_500_000));
        assert_eq!(given.accelerator.total().unwrap(), Term::given(Bytes(70 << 30), "--gpu-memory"));
        // What its driver reports is nothing to go by then.
        assert_eq!(given.accelerator.driver, None);
        let sized = one("--gpu-memory 80GiB");
        assert_eq!(
            (sized.count, price(&sized), sized.accelerator.total().unwrap().bytes),
            (None, None, Bytes(80 << 30))
        );
        // Without a driver's figure nothing is taken for an engine's total.
        assert_eq!(one("--gpu mi325x").accelerator.total(), None);
        assert_eq!(one("--gpu mi325x --gpu-memory 255GiB").accelerator.total().unwrap().known, Known::Given);
        let apple = one("--gpu apple-m3-max-64gb");
        assert_eq!(apple.accelerator.total().unwrap().bytes, Bytes(48 << 30));
        assert_eq!(one("--gpu gh200-480gb").accelerator.driver.unwrap().bytes, Bytes(97_871 << 20));
    }

    #[test]
    fn without_a_name_every_accelerator_that_has_a_total_is_asked_about() {
        let all = GpuArguments::default().fleets_or_all().unwrap();
        let known = catalogue::accelerators(&[]).filter(|entry| accelerator(entry).total().is_some()).count();
        assert_eq!((all.len(), known), (known, 43));
        assert!(all.iter().all(|fleet| fleet.count.is_none()));
        let named = GpuArguments { gpu: vec!["l4".into()], ..GpuArguments::default() };
        assert_eq!(named.fleets_or_all().unwrap(), named.fleets().unwrap());
    }

    #[test]
    fn a_price_of_a_chip_is_one_of_the_chip_with_any_memory() {
        let own = catalogue::parse_prices(r#"[{"device": "apple-m3", "usd_per_gpu_hour": "1"}]"#).unwrap();
        let price = |name: &str| {
            let entry = catalogue::accelerator(name, &[]).unwrap();
            priced(entry.id(), Some(&entry), &own).is_some()
        };
        assert!(price("apple-m3") && price("apple-m3-16gb"));
        assert!(!price("apple-m3-max") && !price("apple-m3-max-64gb"));
    }

    #[test]
    fn what_engines_need_is_known_or_said_to_be_assumed() {
        let of = |name: &str| engine_device(&accelerator(&catalogue::accelerator(name, &[]).unwrap()));
        assert_eq!(of("h100"), (Device::default(), None));
        let (device, assumed) = of("mi300x");
        assert_eq!((device.id.as_str(), device.memory_mib), ("mi300x", 196_592));
        assert_eq!(
            assumed.as_deref(),
            Some("mi300x: its compute capability is not known; engines' defaults are those of 9.0")
        );
        assert_eq!(of("gb10").0.compute_capability, (12, 1));
    }

    /// hardware: the cards of which both are known.
    #[test]
    fn the_difference_that_is_assumed_is_the_median_of_the_data() {
        let difference = |entry: AcceleratorEntry| {
            let (driver, visible) = (entry.driver?.value.bytes, entry.visible?.value.bytes);
            Some(driver.0 - visible.0)
        };
        let mut differences: Vec<u64> = catalogue::accelerators(&[]).filter_map(difference).collect();
        differences.sort_unstable();
        assert_eq!(differences.len(), 11);
        let median = differences[differences.len() / 2];
        let whole_mib = (median + (1 << 19)) >> 20 << 20;
        assert_eq!(Bytes(whole_mib), crate::hardware::DRIVER_LESS_VISIBLE);
    }

    #[test]
    fn the_age_of_a_price_is_in_days() {
        let price =
            Price { as_of: Some("2026-08-19".into()), ..Rate::from_str("1/gpu-h").unwrap().price(None).unwrap() };
        assert_eq!(age("l4", &price, 20_685).as_deref(), Some("the price of l4 is 1 day old, as of 2026-08-19"));
        assert_eq!(age("l4", &Price { as_of: None, ..price }, 20_685), None);
    }
}
