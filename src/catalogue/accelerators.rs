//! Accelerators by name: three totals of memory, rates and links, each figure with where it was read. A figure without a source
//! is left out; the few that engines' defaults rest on and that no source confirms say `unverified`.

use serde::{Deserialize, Serialize};

use super::{most_alike, overlay, row_naming};
use crate::units::{Bytes, Code, Error, Quantity};

const ACCELERATORS: &str = include_str!("accelerators.jsonl");

/// An accelerator of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceleratorEntry {
    /// Names it is found under, drivers' product names among them, as [`normalised`]; the first is its own.
    pub names: Vec<String>,
    /// The vendor.
    #[serde(default)]
    pub vendor: String,
    /// `data-centre`, `workstation`, `consumer` or `unified memory`.
    #[serde(default)]
    pub class: String,
    /// CUDA's compute capability, major and minor.
    pub compute_capability: Option<Figure<(u32, u32)>>,
    /// Its memory in the vendor's data sheet.
    pub marketed: Option<Figure<Size>>,
    /// What its driver reports as total.
    pub driver: Option<Figure<Size>>,
    /// The total that engines see.
    pub visible: Option<Figure<Size>>,
    /// Memory bandwidth, in 10⁶ bytes a second.
    pub bandwidth_mb_s: Option<Figure<u64>>,
    /// Peak dense rate in bf16, in 10⁹ operations a second.
    pub bf16_gflops: Option<Figure<u64>>,
    /// Peak dense rate in fp8, in 10⁹ operations a second.
    pub fp8_gflops: Option<Figure<u64>>,
    /// The way to its neighbours.
    pub link: Option<Link>,
    /// What error correction takes of its memory.
    pub ecc: Option<String>,
    /// The sizes of memory that the machine is sold with, in GiB, where that is several.
    pub sizes_gib: Option<Figure<Vec<u64>>>,
    /// What else is to be known.
    pub note: Option<String>,
}

impl AcceleratorEntry {
    /// Its own name.
    pub fn id(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// Whether its memory is the machine's, of which Metal lets the GPU have a part.
    pub fn metal(&self) -> bool {
        self.vendor == "Apple"
    }
}

/// A figure, and where it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Figure<T> {
    /// The figure.
    pub value: T,
    /// Where it was read.
    pub source: String,
}

/// A size as it is written, with its unit: `80 GB`, `81559 MiB`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Size {
    /// As it is written.
    pub text: String,
    /// In bytes.
    pub bytes: Bytes,
}

impl Size {
    /// The whole number before the unit: 80 of `80 GB`.
    pub(crate) fn whole_units(&self) -> Option<u64> {
        let digits = self.text.split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok()
    }
}

impl TryFrom<String> for Size {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        let bytes: Bytes = text.parse()?;
        // Nothing but bytes is meant by a bare number elsewhere; in data it is a unit forgotten.
        let unit = text.ends_with('B') || text.ends_with('b');
        match bytes {
            Bytes(0) => Err(Quantity::Bytes.zero(&text)),
            _ if !unit => Err(Quantity::Bytes.unknown_suffix(&text)),
            bytes => Ok(Self { text, bytes }),
        }
    }
}

/// The way to its neighbours, one direction of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// What it is called.
    pub kind: String,
    /// In 10⁶ bytes a second.
    pub mb_s_one_way: u64,
    /// Where it was read.
    pub source: String,
}

/// Vendor words that do not identify a device.
const NOISE: [&str; 15] = [
    "nvidia", "tesla", "geforce", "quadro", "amd", "instinct", "radeon", "intel", "google", "aws", "gpu", "graphics",
    "ryzen", "macbook", "cloud",
];

/// Machines that devices are named with, and that do not identify them.
const MACHINES: [&str; 6] = ["macbook pro", "macbook air", "mac studio", "mac mini", "mac pro", "imac"];

/// A name as it is compared: its words in lower case, joined by hyphens, without those that only say whose it is.
///
/// ```
/// use kvsize::catalogue::normalised;
/// assert_eq!(normalised("NVIDIA H100 80GB HBM3"), "h100-80gb-hbm3");
/// assert_eq!(normalised("Intel(R) Arc(TM) B580 Graphics"), "arc-b580");
/// ```
pub fn normalised(name: &str) -> String {
    let lower = name.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    let lower = MACHINES.iter().fold(lower, |lower, machine| lower.replace(machine, " "));
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.filter(|word| !NOISE.contains(word)).collect::<Vec<_>>().join("-")
}

/// All accelerators: the user's own, then the catalogue's that they do not shadow.
pub fn accelerators(overlay: &[AcceleratorEntry]) -> impl Iterator<Item = AcceleratorEntry> {
    let shadowed = |entry: &AcceleratorEntry| overlay.iter().any(|own| own.names.iter().any(|name| name == entry.id()));
    // A test holds that every line is an entry.
    let lines = ACCELERATORS.lines().filter_map(|line| serde_json::from_str(line).ok());
    overlay.iter().cloned().chain(lines.filter(move |entry| !shadowed(entry)))
}

/// The accelerator of that name: its own, another of its names or its driver's product name, in any case and however its words
/// are joined. Never a part of a name, and no size is read out of one, except of Apple's chips, which are sold with several:
/// `apple-m3-max-64gb`. The `overlay`, a user's own, shadows the catalogue.
///
/// # Errors
/// [`Code::UnknownGpu`] with the names it could mean: all that begin with it, or else the nearest.
pub fn accelerator(name: &str, overlay: &[AcceleratorEntry]) -> Result<AcceleratorEntry, Error> {
    find_accelerator(name, overlay).ok_or_else(|| unknown(name, &normalised(name), overlay))
}

/// As [`accelerator`], without the search for the nearest names where there is none.
pub fn find_accelerator(name: &str, overlay: &[AcceleratorEntry]) -> Option<AcceleratorEntry> {
    let wanted = normalised(name);
    named(&wanted, overlay).or_else(|| sized(&wanted, overlay))
}

fn named(wanted: &str, overlay: &[AcceleratorEntry]) -> Option<AcceleratorEntry> {
    let is_named = |entry: &AcceleratorEntry| entry.names.iter().any(|name| name == wanted);
    let own = overlay.iter().find(|entry| is_named(entry)).cloned();
    let quick = || row_naming(ACCELERATORS, wanted, is_named);
    // "rtx4090" is "rtx-4090": the same letters and digits in the same order.
    let joined = wanted.replace('-', "");
    let is_joined = |name: &String| name.bytes().filter(|&byte| byte != b'-').eq(joined.bytes());
    let slow = || accelerators(overlay).find(|entry| entry.names.iter().any(is_joined));
    own.or_else(quick).or_else(|| if wanted.is_empty() { None } else { slow() })
}

/// A device by a name that ends with a size of memory: of a machine that is sold with several the one of that size, else one
/// that is marketed with it.
fn sized(wanted: &str, overlay: &[AcceleratorEntry]) -> Option<AcceleratorEntry> {
    let (chip, gigabytes) = with_size(wanted)?;
    let sold_with_it = |entry: &AcceleratorEntry| {
        entry.marketed.as_ref().is_some_and(|size| size.value.whole_units() == Some(gigabytes))
    };
    if let Some(entry) = named(chip, overlay) {
        if entry.sizes_gib.is_none() {
            return Some(entry)
                .filter(sold_with_it)
                .or_else(|| only_one(beginning(chip, overlay).filter(sold_with_it)));
        }
        let size = Size { text: format!("{gigabytes} GiB"), bytes: Bytes(gigabytes.checked_mul(1 << 30)?) };
        let marketed = Some(Figure { value: size, source: "its name".into() });
        let names = vec![format!("{}-{gigabytes}gb", entry.id())];
        return Some(AcceleratorEntry { names, marketed, ..entry });
    }
    only_one(beginning(chip, overlay).filter(sold_with_it))
}

/// A name and the size that ends it: `m3-max`, 64 of `m3-max-64gb`, `m3-max-64-gb` and `m3-max-64g`.
fn with_size(wanted: &str) -> Option<(&str, u64)> {
    const UNITS: [&str; 3] = ["gb", "gib", "g"];
    let (rest, last) = wanted.rsplit_once('-')?;
    let (chip, digits, unit) = if UNITS.contains(&last) {
        let (chip, digits) = rest.rsplit_once('-')?;
        (chip, digits, last)
    } else {
        let digits = last.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        (rest, digits, last.strip_prefix(digits)?)
    };
    let gigabytes = digits.parse().ok().filter(|&gigabytes: &u64| gigabytes > 0)?;
    UNITS.contains(&unit).then_some((chip, gigabytes))
}

/// The devices with a name that begins so.
fn beginning<'a>(wanted: &'a str, overlay: &'a [AcceleratorEntry]) -> impl Iterator<Item = AcceleratorEntry> + 'a {
    let starts =
        move |name: &String| name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    accelerators(overlay).filter(move |entry| !wanted.is_empty() && entry.names.iter().any(starts))
}

fn only_one<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn unknown(name: &str, wanted: &str, overlay: &[AcceleratorEntry]) -> Error {
    const ALIKE: f64 = 0.8;
    let starts = |entry: &AcceleratorEntry| {
        !wanted.is_empty()
            && entry.names.iter().any(|name| name.starts_with(wanted) || name.replace('-', "").starts_with(wanted))
    };
    let beginning: Vec<String> = accelerators(overlay).filter(starts).map(|entry| entry.id().to_owned()).collect();
    if beginning.len() > 1 {
        let remedy = format!("name one of {}", beginning.join(", "));
        return Error::new(Code::UnknownGpu, "--gpu", name, "names several devices", remedy);
    }
    let all = accelerators(overlay).map(|entry| entry.names);
    let alike = || most_alike(all, ALIKE, |name| strsim::jaro_winkler(name, wanted));
    let nearest = if beginning.is_empty() { alike() } else { beginning };
    let remedy = if nearest.is_empty() {
        "`kvsize gpus` lists all; --gpu-memory BYTES is for any other".into()
    } else {
        format!("nearest names: {}; `kvsize gpus` lists all", nearest.join(", "))
    };
    Error::new(Code::UnknownGpu, "--gpu", name, "is not a device known here", remedy)
}

/// The accelerators of a user's own file: a JSON list of entries like the catalogue's, or an object with such a list under
/// `accelerators`; all but `names` can be left out.
///
/// # Errors
/// [`Error`] with the path of what is wrong.
pub fn parse_accelerators(text: &str) -> Result<Vec<AcceleratorEntry>, Error> {
    const SHAPE: overlay::Shape = overlay::Shape {
        key: "accelerators",
        required: "names",
        example: r#"[{"names": ["mine"], "driver": {"value": "81559 MiB", "source": "nvidia-smi"}}]"#,
    };
    let mut entries: Vec<AcceleratorEntry> = overlay::parse(text, &SHAPE)?;
    for (index, entry) in entries.iter_mut().enumerate() {
        for name in &mut entry.names {
            let usual = normalised(name);
            if usual.is_empty() {
                return Err(SHAPE.wrong(format!("[{index}].names"), format!("{name:?}"), "is not a name"));
            }
            *name = usual;
        }
        if entry.names.is_empty() {
            return Err(SHAPE.wrong(format!("[{index}].names"), "[]", "names no device"));
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn all() -> Vec<AcceleratorEntry> {
        ACCELERATORS.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn every_line_is_an_accelerator_with_names_of_its_own_and_a_source_for_each_figure() {
        let mut seen = BTreeMap::new();
        let entries = all();
        assert_eq!(entries.len(), 150);
        for entry in &entries {
            for name in &entry.names {
                // A name may have words that are left out where names are compared.
                assert!(*name == normalised(name) || entry.vendor == "AMD", "{name}");
                let before = seen.insert(name.replace('-', ""), entry.id());
                assert!(before.is_none_or(|before| before == entry.id()), "{name} is {before:?}, too");
                assert_eq!(accelerator(name, &[]).as_ref(), Ok(entry));
                assert_eq!(accelerator(&name.replace('-', " ").to_uppercase(), &[]).as_ref(), Ok(entry));
            }
            let totals = [&entry.marketed, &entry.driver, &entry.visible];
            let rates = [&entry.bandwidth_mb_s, &entry.bf16_gflops, &entry.fp8_gflops];
            let sources = (totals.into_iter().flatten().map(|figure| &figure.source))
                .chain(rates.into_iter().flatten().map(|figure| &figure.source))
                .chain(entry.compute_capability.as_ref().map(|figure| &figure.source))
                .chain(entry.link.as_ref().map(|link| &link.source));
            assert!(sources.into_iter().all(|source| !source.is_empty()), "{}", entry.id());
            assert!(!entry.vendor.is_empty() && !entry.class.is_empty());
            // The driver's figure is not what is sold, nor what an engine is told.
            if let (Some(driver), Some(visible)) = (&entry.driver, &entry.visible) {
                assert!(visible.value.bytes < driver.value.bytes, "{}", entry.id());
            }
        }
    }

    /// As `nvidia-smi`, `rocm-smi` and the like print them.
    #[test]
    fn product_names_of_drivers_find_their_device_and_no_other() {
        for (product, id) in [
            ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80gb"),
            ("NVIDIA A100-SXM4-40GB", "a100-sxm4-40gb"),
            ("NVIDIA A100-PCIE-40GB", "a100-pcie-40gb"),
            ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
            ("A100-SXM4-80GB", "a100-sxm4-80gb"),
            ("NVIDIA H100 80GB HBM3", "h100-sxm"),
            ("NVIDIA H100 PCIe", "h100-pcie"),
            ("NVIDIA H100 NVL", "h100-nvl"),
            ("NVIDIA H800", "h800-sxm"),
            ("NVIDIA H20", "h20"),
            ("NVIDIA H200", "h200-sxm"),
            ("NVIDIA H200 NVL", "h200-nvl"),
            ("NVIDIA GH200 480GB", "gh200-96gb"),
            ("NVIDIA GH200 120GB", "gh200-96gb"),
            ("NVIDIA B200", "b200-sxm"),
            ("NVIDIA GB200", "gb200"),
            ("NVIDIA B300 SXM6 AC", "b300-sxm"),
            ("NVIDIA GB300", "gb300"),
            ("NVIDIA GB10", "gb10-dgx-spark"),
            ("Tesla T4", "t4"),
            ("Tesla V100-SXM2-32GB", "v100-sxm2-32gb"),
            ("Tesla V100-PCIE-16GB", "v100-pcie-16gb"),
            ("NVIDIA A10", "a10"),
            ("NVIDIA A10G", "a10g"),
            ("NVIDIA A30", "a30"),
            ("NVIDIA A40", "a40"),
            ("NVIDIA L4", "l4"),
            ("NVIDIA L40", "l40"),
            ("NVIDIA L40S", "l40s"),
            ("NVIDIA L20", "l20"),
            ("NVIDIA RTX A6000", "rtx-a6000"),
            ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
            ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000-blackwell"),
            ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx-pro-6000-blackwell"),
            ("NVIDIA GeForce RTX 3060", "rtx-3060-12gb"),
            ("NVIDIA GeForce RTX 3090", "rtx-3090"),
            ("NVIDIA GeForce RTX 4070 Ti", "rtx-4070-ti"),
            ("NVIDIA GeForce RTX 4080", "rtx-4080"),
            ("NVIDIA GeForce RTX 4090", "rtx-4090"),
            ("NVIDIA GeForce RTX 5070 Ti", "rtx-5070-ti"),
            ("NVIDIA GeForce RTX 5080", "rtx-5080"),
            ("NVIDIA GeForce RTX 5090", "rtx-5090"),
            ("AMD Instinct MI210", "mi210"),
            ("AMD Instinct MI250X / MI250", "mi250x"),
            ("AMD Instinct MI300X", "mi300x"),
            ("AMD Instinct MI300X OAM", "mi300x"),
            ("AMD Instinct MI325X", "mi325x"),
            ("AMD Radeon RX 7900 XTX", "rx-7900-xtx"),
            ("Intel(R) Arc(TM) B580 Graphics", "arc-b580"),
            ("Intel(R) Arc(TM) Pro B60 Graphics", "arc-pro-b60"),
            ("Apple M3 Max", "apple-m3-max"),
            ("Apple M4", "apple-m4"),
            ("Apple M2 Ultra", "apple-m2-ultra"),
            ("h100", "h100-sxm"),
            ("H200", "h200-sxm"),
            ("b200", "b200-sxm"),
            ("rtx4090", "rtx-4090"),
            ("A100_SXM4_80GB", "a100-sxm4-80gb"),
        ] {
            assert_eq!(accelerator(product, &[]).map(|entry| entry.id().to_owned()).as_deref(), Ok(id), "{product}");
        }
        // Not cards that are known here, whatever they resemble.
        for product in [
            "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
            "NVIDIA GeForce RTX 4090 D",
            "NVIDIA GeForce RTX 4090 Laptop GPU 2",
            "NVIDIA A100X",
            "NVIDIA L4S",
            "NVIDIA H100 96GB",
            "NVIDIA",
            "Tesla",
        ] {
            assert!(accelerator(product, &[]).is_err(), "{product}");
        }
    }

    #[test]
    fn a_name_that_may_be_several_devices_lists_them() {
        let says = |name: &str| accelerator(name, &[]).unwrap_err().to_string();
        assert_eq!(
            says("a100"),
            "--gpu: a100 names several devices; name one of a100-pcie-40gb, a100-sxm4-40gb, a100-pcie-80gb, a100-sxm4-80gb"
        );
        assert_eq!(says("v100"), "--gpu: v100 names several devices; name one of v100-pcie-16gb, v100-sxm2-32gb");
        assert_eq!(
            says("h1000"),
            "--gpu: h1000 is not a device known here; nearest names: h100-sxm, h100-pcie, h100-nvl; `kvsize gpus` lists all"
        );
        for name in ["%%%", "nosuchcard"] {
            assert_eq!(
                says(name),
                format!(
                    "--gpu: {name} is not a device known here; `kvsize gpus` lists all; --gpu-memory BYTES is for any other"
                )
            );
        }
    }

    #[test]
    fn apple_s_chips_are_sold_with_several_sizes() {
        let bytes = |name: &str| accelerator(name, &[]).ok()?.marketed.map(|size| size.value.bytes.0 >> 30);
        for name in ["apple-m3-max-64gb", "Apple M3 Max 64GB", "Apple M3 Max 64 GB", "m3-max-64gib"] {
            assert_eq!(bytes(name), Some(64), "{name}");
            assert_eq!(accelerator(name, &[]).unwrap().id(), "apple-m3-max-64gb");
        }
        assert_eq!(bytes("apple-m3-max"), None);
        for name in ["apple-m3-max-0gb", "apple-m3-max-64tb", "apple-m3-max-gb", "h100-64gb", "apple-m3-max-64"] {
            assert!(accelerator(name, &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn a_user_s_own_file_shadows_the_catalogue() {
        let text = r#"{"accelerators": [{"names": ["NVIDIA H100", "Mine"], "visible": {"value": "70 GiB", "source": "a log"}}]}"#;
        let overlay = parse_accelerators(text).unwrap();
        assert_eq!(accelerator("h100", &overlay).unwrap().visible.unwrap().value.text, "70 GiB");
        assert_eq!(accelerator("mine", &overlay).unwrap().id(), "h100");
        assert_eq!(accelerators(&overlay).count(), 151);
        let own = r#"[{"names": ["h100-sxm"]}]"#;
        assert_eq!(accelerators(&parse_accelerators(own).unwrap()).count(), 150);
    }

    #[test]
    fn what_is_wrong_in_a_file_is_named_with_its_path() {
        for (text, message) in [
            ("", "the text is not JSON: EOF while parsing a value at line 1 column 0"),
            ("{}", "the text is not a list"),
            ("[1]", "[0]: 1 is not an object"),
            (r#"[{"names": ["a"]}, {}]"#, "[1].names: missing"),
            (r#"[{"names": []}]"#, "[0].names: [] names no device"),
            (r#"[{"names": ["  "]}]"#, "[0].names: \"  \" is not a name"),
            (r#"[{"names": "a"}]"#, "[0].names: \"a\" is wrong: invalid type: string \"a\", expected a sequence"),
            (r#"[{"names": ["a"], "memory": 1}]"#, "[0].memory: 1 is wrong: unknown field `memory`"),
            (
                r#"[{"names": ["a"], "driver": {"value": "80 giga", "source": "x"}}]"#,
                "[0].driver: {\"source\":\"x\",\"value\":\"80 giga\"} is wrong: 80 giga is a number of bytes with an unknown suffix",
            ),
            (
                r#"[{"names": ["a"], "driver": {"value": "80", "source": "x"}}]"#,
                "[0].driver: {\"source\":\"x\",\"value\":\"80\"} is wrong: 80 is a number of bytes with an unknown suffix",
            ),
            (
                r#"[{"names": ["a"], "driver": {"value": "80 GB"}}]"#,
                "[0].driver: {\"value\":\"80 GB\"} is wrong: missing field `source`",
            ),
            (r#"[{"names": ["a"], "bf16_gflops": {"value": -1, "source": "x"}}]"#, "[0].bf16_gflops: "),
        ] {
            let error = parse_accelerators(text).unwrap_err().to_string();
            assert!(error.starts_with(message), "{text}: {error}");
            assert!(error.contains("; write [{\"names\""), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_name_is_found_or_refused(name in "[a-z0-9 -]{0,12}|.*") {
            let joined = |name: &str| name.replace('-', "");
            match accelerator(&name, &[]) {
                Ok(entry) => prop_assert!(entry.names.iter().any(|known| joined(known) == joined(&normalised(&name)))),
                Err(unknown) => prop_assert_eq!(unknown.found, Some(name)),
            }
        }

        #[test]
        fn any_text_is_a_list_of_accelerators_or_refused(text in "\\[\\{.*\\}\\]|.*") {
            let _ = parse_accelerators(&text);
            let _ = super::super::parse_prices(&text);
        }
    }
}
