//! GPUs as they are named: `8xh100`, `4xl40s`, `local`, a size of memory; and what they cost.

use std::path::Path;

use super::{Ask, Card, Sources};
use crate::catalogue::{self, AcceleratorEntry, Figure, PriceEntry, Size};
use crate::engine::{Device, Known, Term};
use crate::hardware::{Accelerator, Price, day, exact_size};
use crate::units::{Bytes, Code, Error, Exact, once, parse_count};

/// GPUs of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    /// How many; `None` where no number was given.
    pub count: Option<u64>,
    /// Each of them.
    pub accelerator: Accelerator,
    /// What the catalogue, or the user's own file, has of it.
    pub entry: Option<AcceleratorEntry>,
    /// What one costs, if that is known.
    pub price: Option<Price>,
}

const EXAMPLE: &str = "name one, as h100 or 8xh100 (`kvsize gpus` lists them)";

impl Ask<'_> {
    /// The GPUs that were named, in that order; without a name but with a size of memory, a GPU of that size; else none.
    ///
    /// # Errors
    /// A GPU that is not known, or a size or a price for several kinds.
    pub fn fleets(&self, sources: &dyn Sources) -> Result<Vec<Fleet>, Error> {
        let own = sources.accelerators(self.accelerators.as_deref())?;
        if let ([], Some(memory)) = (self.gpu.as_slice(), self.gpu_memory) {
            let accelerator = Accelerator::of_size(memory);
            return self.completed(vec![Fleet { count: None, accelerator, entry: None, price: None }], &own, sources);
        }
        self.named_fleets(self.gpu.iter().map(AsRef::as_ref), sources)
    }

    /// As [`Self::fleets`]; where none is named, every accelerator whose total is known, any number of them.
    ///
    /// # Errors
    /// As [`Self::fleets`].
    pub fn fleets_or_all(&self, sources: &dyn Sources) -> Result<Vec<Fleet>, Error> {
        if !self.gpu.is_empty() || self.gpu_memory.is_some() {
            return self.fleets(sources);
        }
        let own = sources.accelerators(self.accelerators.as_deref())?;
        let all = catalogue::accelerators(&own).map(|entry| Fleet::new(None, entry));
        self.completed(
            all.filter(|fleet| fleet.accelerator.driver.is_some() || fleet.accelerator.visible.is_some()).collect(),
            &own,
            sources,
        )
    }

    /// The GPUs of these names, each kind once.
    ///
    /// # Errors
    /// As [`Self::fleets`].
    pub fn named_fleets<'n>(
        &self,
        names: impl Iterator<Item = &'n str>,
        sources: &dyn Sources,
    ) -> Result<Vec<Fleet>, Error> {
        let own = sources.accelerators(self.accelerators.as_deref())?;
        let fleets = names.map(|name| fleet(name, &own, sources)).collect::<Result<Vec<_>, _>>()?;
        self.completed(once(fleets), &own, sources)
    }

    /// The number of GPUs, of `--gpu` or of `--num-gpus`.
    fn count(&self, of_name: Option<u64>) -> Result<Option<u64>, Error> {
        match (of_name, self.num_gpus) {
            (Some(named), Some(given)) if named != given => {
                let problem = format!("is not the {named} of --gpu");
                Err(Error::new(
                    Code::Conflict,
                    "--num-gpus",
                    given.to_string(),
                    problem,
                    "give one of the two, as --gpu 4xh100",
                ))
            }
            (named, given) => Ok(named.or(given)),
        }
    }

    /// The fleets with the memory and the price that were given, or the price that is known.
    fn completed(
        &self,
        fleets: Vec<Fleet>,
        accelerators: &[AcceleratorEntry],
        sources: &dyn Sources,
    ) -> Result<Vec<Fleet>, Error> {
        let one_kind = |option: &str, found: String, remedy: &str| match fleets.len() {
            0 | 1 => Ok(()),
            kinds => {
                let problem = format!("applies to one GPU type, but --gpu lists {kinds}");
                Err(Error::new(Code::Conflict, option, found, problem, remedy))
            }
        };
        if let Some(memory) = self.gpu_memory {
            one_kind("--gpu-memory", exact_size(memory), "name one --gpu")?;
        }
        if let Some(rate) = self.price {
            one_kind("--price", rate.to_string(), "name one --gpu, or give a file of --prices")?;
        }
        if let (Some(_), Some(_)) = (self.price, &self.prices) {
            return Err(Error::new(Code::Conflict, "--price", "--prices", "is given as well", "give one of the two"));
        }
        let own = match &self.prices {
            Some(file) => own_prices(file, sources.prices(file)?, accelerators)?,
            None => Vec::new(),
        };
        let completed = |fleet: Fleet| {
            let price = match self.price {
                Some(rate) => Some(rate.price(fleet.count)?),
                None => priced(&fleet.accelerator.id, fleet.entry.as_ref(), &own),
            };
            let accelerator = match self.gpu_memory {
                Some(memory) => fleet.accelerator.with_memory(memory),
                None => fleet.accelerator,
            };
            Ok(Fleet { accelerator, price, count: self.count(fleet.count)?, ..fleet })
        };
        fleets.into_iter().map(completed).collect()
    }

    /// The one GPU that may be named where one is asked about.
    ///
    /// # Errors
    /// More than one.
    pub fn one_gpu(&self) -> Result<Option<&str>, Error> {
        match self.gpu.as_slice() {
            [] => Ok(None),
            [name] => Ok(Some(name)),
            names => {
                let remedy = "give one (`kvsize fit` and `kvsize plan` take a list)";
                let problem = "lists several GPUs, and this takes one";
                Err(Error::new(Code::Several, "--gpu", names.join(","), problem, remedy))
            }
        }
    }

    /// The device whose defaults an engine has, and what had to be assumed for it; `None` where none is named.
    pub(super) fn device(&self, sources: &dyn Sources) -> Result<Option<(Device, Option<String>)>, Error> {
        let Some(name) = self.one_gpu()? else { return Ok(None) };
        let own = sources.accelerators(self.accelerators.as_deref())?;
        let fleet = fleet(name, &own, sources)?;
        if fleet.count.is_some() && !name.eq_ignore_ascii_case("local") {
            let kind = &fleet.accelerator.id;
            let problem = "is a number of GPUs, and defaults depend on the kind alone";
            let remedy = format!("give {kind}; --tp, --pp and --dp say how many there are");
            return Err(Error::new(Code::GpuCount, "--gpu", name, problem, remedy));
        }
        Ok(Some(engine_device(&fleet.accelerator)))
    }
}

impl Fleet {
    /// The engine that such GPUs are usually run with.
    pub fn usual_engine(&self) -> &str {
        let Some(entry) = &self.entry else { return "vllm" };
        match (entry.class.as_str(), entry.vendor.as_str()) {
            // The DGX Spark runs what data centres run.
            _ if entry.id() == "gb10-dgx-spark" => "vllm",
            ("consumer" | "unified memory", _) | ("workstation", "AMD" | "Intel") => "llama.cpp",
            _ => "vllm",
        }
    }

    fn new(count: Option<u64>, entry: AcceleratorEntry) -> Self {
        Self { count, accelerator: accelerator(&entry), entry: Some(entry), price: None }
    }
}

/// The prices of a file, each of a device by its own name.
fn own_prices(
    file: &Path,
    mut prices: Vec<PriceEntry>,
    accelerators: &[AcceleratorEntry],
) -> Result<Vec<PriceEntry>, Error> {
    let in_file = |error: Error| error.in_file(file.display().to_string()).in_file("--prices");
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
pub fn priced(id: &str, entry: Option<&AcceleratorEntry>, own: &[PriceEntry]) -> Option<Price> {
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

/// The GPUs of `8xh100`, `h100x8`, `4090:2`, `dual rtx 5090`, `p5.48xlarge` or `local`.
fn fleet(text: &str, own: &[AcceleratorEntry], sources: &dyn Sources) -> Result<Fleet, Error> {
    let spelled = text.replace('×', "x").replace(['(', ')'], " ");
    let spelled = spelled.trim();
    if spelled.is_empty() {
        return Err(Error::new(Code::UnknownGpu, "--gpu", "an empty name", "names no GPU", EXAMPLE));
    }
    let is_local = |name: &str| name.eq_ignore_ascii_case("local");
    if is_local(spelled) {
        return local(text, None, own, sources);
    }
    if let Some(fleet) = whole(spelled, own) {
        return Ok(fleet);
    }
    for (count, name) in counts(spelled) {
        if is_local(name) {
            return local(text, Some(usable_count(text, count)?), own, sources);
        }
        if let Some(fleet) = whole(name, own) {
            let count = usable_count(text, count)?;
            let all = (Exact::from(count) * fleet.count.unwrap_or(1)).get()?;
            return Ok(Fleet { count: Some(all), ..fleet });
        }
    }
    // The error of the name alone, where there seems to be a count.
    let found = counts(spelled).find(|(count, _)| usable_count(text, count).is_ok()).map(|(_, name)| name);
    if found.is_none()
        && counts(spelled).next().is_some()
        && spelled.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c))
    {
        counts(spelled).try_for_each(|(count, _)| usable_count(text, count).map(|_| ()))?;
    }
    match found {
        Some("") => Err(Error::new(Code::UnknownGpu, "--gpu", text, "names no GPU", EXAMPLE)),
        found => Err(catalogue::accelerator(found.unwrap_or(spelled), own).err().unwrap_or_else(Error::too_large)),
    }
}

/// The GPUs of a name without a count: a device, or an instance or a system that has several.
fn whole(name: &str, own: &[AcceleratorEntry]) -> Option<Fleet> {
    if let Some(entry) = catalogue::find_accelerator(name, own) {
        return Some(Fleet::new(None, entry));
    }
    let instance = catalogue::instance(name)?;
    Some(Fleet::new(Some(instance.count), catalogue::find_accelerator(&instance.gpu, own)?))
}

/// The count that a text has, and the name without it; `None` where it has none. Devices of a user's own are taken for what
/// follows a number.
pub fn counted(text: &str) -> Option<(u64, &str)> {
    if let Some(fleet) = whole(text, &[]) {
        return fleet.count.map(|count| (count, text));
    }
    let usable = || counts(text).filter_map(|(count, name)| Some((usable_count(text, count).ok()?, name)));
    usable().find(|(_, name)| whole(name, &[]).is_some()).or_else(|| usable().next())
}

/// Words that are counts.
const WORDS: [(&str, &str); 4] = [("single ", "1"), ("dual ", "2"), ("quad ", "4"), ("octo ", "8")];

/// The ways to take a count off a name: before it (`2x`, `2 x`, `2 `, `dual `) or behind it (`x2`, `:2`).
fn counts(spelled: &str) -> impl Iterator<Item = (&str, &str)> {
    let like_a_number = |text: &str| text.chars().all(|c| c.is_ascii_digit() || ".+-".contains(c));
    let before = spelled.split_once(['x', 'X', '*']).filter(|(count, _)| like_a_number(count.trim()));
    // A card's number has more digits: "4060 Ti" is none of 4,060.
    let apart = spelled.split_once(' ').filter(|(count, _)| (1..=2).contains(&count.len()) && like_a_number(count));
    let behind = spelled.rsplit_once(['x', 'X', ':', '*']).filter(|(_, count)| like_a_number(count.trim()));
    let behind = behind.filter(|(_, count)| !count.trim().is_empty()).map(|(name, count)| (count, name));
    let word = WORDS.iter().find_map(|(word, count)| {
        let (start, name) = spelled.split_at_checked(word.len())?;
        start.eq_ignore_ascii_case(word).then_some((*count, name))
    });
    [before, behind, apart, word].into_iter().flatten().map(|(count, name)| (count.trim(), name.trim()))
}

/// The most GPUs of a question: more are a slip of the keyboard.
const MOST_GPUS: u64 = 65_536;

fn usable_count(text: &str, count: &str) -> Result<u64, Error> {
    let problem = "has no usable number of GPUs";
    let remedy = || format!("give 1 to {MOST_GPUS}, as 8xh100");
    let count = parse_count(count).ok().filter(|&count| count <= MOST_GPUS);
    count.ok_or_else(|| Error::new(Code::GpuCount, "--gpu", text, problem, remedy()))
}

/// What the catalogue has of an accelerator, as the core counts with it.
pub fn accelerator(entry: &AcceleratorEntry) -> Accelerator {
    let term = |figure: &Option<Figure<Size>>| {
        let known = Known::Catalogue;
        figure.as_ref().map(|figure| Term { bytes: figure.value.bytes, known, source: figure.source.clone() })
    };
    Accelerator {
        id: entry.id().to_owned(),
        compute_capability: entry.compute_capability.as_ref().map(|figure| figure.value),
        marketed: term(&entry.marketed),
        driver: term(&entry.driver),
        visible: term(&entry.visible).or_else(|| shared(entry)),
        metal: entry.metal(),
        sizes_gib: entry
            .sizes_gib
            .as_ref()
            .filter(|_| entry.marketed.is_none())
            .map(|sizes| sizes.value.clone())
            .unwrap_or_default(),
    }
}

/// What a machine that shares its memory, and is not Apple's, leaves the GPU: three quarters of it, an estimate.
fn shared(entry: &AcceleratorEntry) -> Option<Term> {
    let size = entry.marketed.as_ref().filter(|_| entry.class == "unified memory" && !entry.metal())?;
    // "128 GB" of such a machine are 128 GiB.
    let bytes = Exact::from(size.value.whole_units()?) * (1u64 << 30) * 3u64 / 4u64;
    let source = format!("3/4 of {} of shared memory, which the system's settings can change", size.value.text);
    Some(Term { bytes: bytes.bytes().ok()?, known: Known::Estimated, source })
}

/// The GPUs of this machine, which must be of one kind.
fn local(text: &str, count: Option<u64>, own: &[AcceleratorEntry], sources: &dyn Sources) -> Result<Fleet, Error> {
    const ELSE: &str = "name the GPU, as --gpu 8xh100, or its memory with --gpu-memory";
    let refused = |problem: String| Error::new(Code::LocalGpu, "--gpu", text, problem, ELSE);
    let cards = sources.cards().map_err(refused)?;
    let mut kinds: Vec<(&Card, u64)> = Vec::new();
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
    let entry = catalogue::accelerator(&card.name, own).ok();
    let unlisted = || Accelerator { id: catalogue::normalised(&card.name), ..Accelerator::default() };
    let known = entry.as_ref().map_or_else(unlisted, accelerator);
    let Some(mib) = card.memory_mib else {
        // A device that shares the machine's memory has no total of its own.
        if known.total().is_none() {
            return Err(refused(format!("is {card}, whose memory nvidia-smi does not report")));
        }
        return Ok(Fleet { count: count.or(Some(found)), accelerator: known, entry, price: None });
    };
    let bytes = (Exact::from(mib) * (1u64 << 20)).bytes()?;
    // What engines were told on such a card holds for this one only if the drivers agree.
    let alike = known.driver.as_ref().is_none_or(|driver| driver.bytes == bytes);
    let driver = Some(Term { bytes, known: Known::Measured, source: "nvidia-smi".into() });
    let visible = known.visible.clone().filter(|_| alike);
    let accelerator = Accelerator { driver, visible, ..known };
    Ok(Fleet { count: count.or(Some(found)), accelerator, entry, price: None })
}

/// The device on which an engine's defaults depend, and what had to be assumed for it.
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
    (Device { id: id.clone().into(), compute_capability, memory_mib }, assumed)
}

/// A note where the memory for the cache alone is what a card has in all.
pub fn memory_of_a_card(memory: Bytes) -> Option<String> {
    let is = |size: &Option<Figure<Size>>| size.as_ref().is_some_and(|size| size.value.bytes == memory);
    // "80GiB" is typed for a card that is marketed with 80 GB.
    let loosely = |size: &Option<Figure<Size>>| {
        let Some(size) = size else { return false };
        let gigabytes = size.value.bytes.0.checked_div(1_000_000_000).unwrap_or_default();
        size.value.text.ends_with(" GB") && gigabytes.checked_mul(1 << 30) == Some(memory.0)
    };
    let entry = catalogue::accelerators(&[])
        .find(|entry| is(&entry.marketed) || is(&entry.driver) || is(&entry.visible) || loosely(&entry.marketed))?;
    Some(format!(
        "--memory is for the cache alone, and {} is the whole memory of a card ({}): `kvsize fit` takes that as --gpu-memory, or as \
         --gpu",
        exact_size(memory),
        entry.id()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::DRIVER_LESS_VISIBLE;
    use crate::source::LocalSources;

    fn named(text: &str) -> Result<(Option<u64>, String), Code> {
        let found = fleet(text, &[], &LocalSources).map_err(|error| error.code)?;
        Ok((found.count, found.accelerator.id))
    }

    #[test]
    fn a_count_stands_before_or_behind_a_name() {
        for (text, count, id) in [
            ("h100", None, "h100-sxm"),
            ("4090", None, "rtx-4090"),
            ("7900xtx", None, "rx-7900-xtx"),
            ("max-1550", None, "max-1550"),
            ("8xh100", Some(8), "h100-sxm"),
            ("8X H100 80GB", Some(8), "h100-sxm"),
            ("4×A100 80GB", Some(4), "a100-sxm4-80gb"),
            ("4 x a100-80gb", Some(4), "a100-sxm4-80gb"),
            ("2 RTX 4090", Some(2), "rtx-4090"),
            ("dual RTX 5090", Some(2), "rtx-5090"),
            ("h100x8", Some(8), "h100-sxm"),
            ("4090x2", Some(2), "rtx-4090"),
            ("A10:4", Some(4), "a10"),
            ("MacBook Pro M4 Max (64GB)", None, "apple-m4-max-64gb"),
            ("Strix Halo 128GB", None, "ryzen-ai-max-395-128gb"),
            ("p5.48xlarge", Some(8), "h100-sxm"),
            ("2xp5.48xlarge", Some(16), "h100-sxm"),
            ("Standard_ND96isr_H200_v5", Some(8), "h200-sxm"),
        ] {
            assert_eq!(named(text), Ok((count, id.to_owned())), "{text}");
        }
        for text in ["0xh100", "xh100", "-1xh100", "1.5xh100", "99999999999999999999xh100", "65537xh100", "4090x0"] {
            assert_eq!(named(text), Err(Code::GpuCount), "{text}");
        }
        for text in ["", " ", "a100", "8xA100", "4060 Ti", "2 x nosuch", ":", "x2"] {
            assert_eq!(named(text), Err(Code::UnknownGpu), "{text}");
        }
    }

    fn asked(options: &[(&str, &'static str)]) -> Ask<'static> {
        options.iter().fold(Ask::default(), |ask, (name, value)| ask.set(name, value).unwrap())
    }

    #[test]
    fn lists_of_gpus_are_resolved_in_order() {
        let name = |fleet: Fleet| match fleet.count {
            Some(count) => format!("{count}x{}", fleet.accelerator.id),
            None => fleet.accelerator.id,
        };
        let names = |options: &[(&str, &'static str)]| -> Vec<String> {
            asked(options).fleets(&LocalSources).unwrap().into_iter().map(name).collect()
        };
        assert_eq!(names(&[]), [""; 0]);
        let listed = [("gpu", "8xh100"), ("gpu", "8xh200"), ("gpu", "l4"), ("gpu", "H200-SXM"), ("gpu", "8xh100-sxm")];
        assert_eq!(names(&listed), ["8xh100-sxm", "8xh200-sxm", "l4", "h200-sxm"]);
        assert_eq!(names(&[("gpu_memory", "80GiB")]), ["gpu-80gib"]);
        assert_eq!(names(&[("gpu", "2xapple-m3-max"), ("gpu_memory", "64GiB")]), ["2xapple-m3-max"]);
    }

    #[test]
    fn what_is_of_one_kind_or_of_one_node_is_refused_for_others() {
        let code = |options: &[(&str, &'static str)]| asked(options).fleets(&LocalSources).unwrap_err().code;
        let two = [("gpu", "h100"), ("gpu", "l4")];
        assert_eq!(code(&[two.as_slice(), &[("gpu_memory", "70GiB")]].concat()), Code::Conflict);
        assert_eq!(code(&[two.as_slice(), &[("price", "2.49/gpu-h")]].concat()), Code::Conflict);
        assert_eq!(code(&[("gpu_memory", "80GiB"), ("price", "9/node-h")]), Code::PriceNode);
        assert_eq!(code(&[("gpu", "h100"), ("price", "9/gpu-h"), ("prices", "own.json")]), Code::Conflict);
        assert_eq!(code(&[("gpu", "local")]), Code::LocalGpu);
        assert_eq!(asked(&two).one_gpu().unwrap_err().code, Code::Several);
    }

    #[test]
    fn fleets_have_the_memory_and_the_price_that_are_known_or_given() {
        let one = |options: &[(&str, &'static str)]| asked(options).fleets(&LocalSources).unwrap().remove(0);
        let price = |fleet: &Fleet| fleet.price.as_ref().map(|price| price.micro_dollars_per_gpu_hour);
        let h100 = one(&[("gpu", "8xh100")]);
        assert_eq!((h100.count, price(&h100)), (Some(8), Some(3_900_000)));
        assert_eq!(h100.accelerator.total().unwrap().known, Known::Catalogue);
        let given = one(&[("gpu", "8xh100"), ("gpu_memory", "70GiB"), ("price", "20/node-h")]);
        assert_eq!(price(&given), Some(2_500_000));
        assert_eq!(given.accelerator.total(), Some(Term::given(Bytes(70 << 30), "--gpu-memory")));
        // What its driver reports is nothing to go by then.
        assert_eq!(given.accelerator.driver, None);
        let sized = one(&[("gpu_memory", "80GiB")]);
        assert_eq!((sized.count, price(&sized)), (None, None));
        assert_eq!(sized.accelerator.total().unwrap().bytes, Bytes(80 << 30));
        // Without a driver's figure what engines see is estimated of what is sold.
        assert_eq!(one(&[("gpu", "mi325x")]).accelerator.total().unwrap().bytes, Bytes((256 << 30) * 982 / 1000));
        assert_eq!(one(&[("gpu", "apple-m4-max")]).accelerator.total(), None);
        assert_eq!(one(&[("gpu", "strix-halo-128gb")]).accelerator.total().unwrap().bytes, Bytes(96 << 30));
        let apple = one(&[("gpu", "apple-m3-max-64gb")]);
        assert_eq!(apple.accelerator.total().unwrap().bytes, Bytes(48 << 30));
        assert_eq!(one(&[("gpu", "gh200-480gb")]).accelerator.driver.unwrap().bytes, Bytes(97_871 << 20));
    }

    #[test]
    fn without_a_name_every_accelerator_that_has_a_total_is_asked_about() {
        let all = Ask::default().fleets_or_all(&LocalSources).unwrap();
        let is_read = |fleet: &Fleet| fleet.accelerator.driver.is_some() || fleet.accelerator.visible.is_some();
        assert!(all.len() > 40 && all.iter().all(is_read));
        assert!(all.iter().all(|fleet| fleet.count.is_none()));
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
        assert_eq!((device.id.as_ref(), device.memory_mib), ("mi300x", 196_592));
        assert!(assumed.unwrap().starts_with("mi300x: its compute capability is not known"));
        assert_eq!(of("gb10").0.compute_capability, (12, 1));
    }

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
        assert_eq!(Bytes((median + (1 << 19)) >> 20 << 20), DRIVER_LESS_VISIBLE);
    }
}
