//! What one cached element costs: bits per block of elements.

use std::fmt;
use std::str::FromStr;

use super::UnitError;

/// The storage format of cached elements: `bits_per_block` bits for every `elements_per_block` elements, scales and
/// zero points of the block included. Never "bytes per element".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementFormat {
    name: Name,
    bits_per_block: u64,
    elements_per_block: u64,
}

/// The formats of cached K and V.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvFormat {
    /// Of K.
    pub k: ElementFormat,
    /// Of V.
    pub v: ElementFormat,
}

impl From<ElementFormat> for KvFormat {
    /// The same format for both.
    fn from(format: ElementFormat) -> Self {
        Self { k: format, v: format }
    }
}

impl fmt::Display for KvFormat {
    /// `K/V` where they differ.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.k == self.v { self.k.fmt(f) } else { write!(f, "{}/{}", self.k, self.v) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Known(&'static str),
    Bitwidth(u64),
}

/// A line of the table of formats.
#[derive(Debug, Clone, Copy)]
pub struct FormatEntry {
    /// The name that is printed.
    pub name: &'static str,
    /// Other names that are read.
    pub aliases: &'static [&'static str],
    /// Bits of one block.
    pub bits_per_block: u64,
    /// Elements of one block; 1 for plain formats.
    pub elements_per_block: u64,
    /// What it is.
    pub about: &'static str,
    /// Where the figure comes from.
    pub source: &'static str,
}

const IEEE: &str = "IEEE 754-2019, table 3.5";
const OCP_FP8: &str = "OCP 8-bit floating point specification 1.0";
const PLAIN: &str = "by definition: the named width and nothing else";

/// Every format known by name.
pub const FORMATS: &[FormatEntry] = &[
    plain("fp32", &["float32", "f32", "float"], 32, "single precision", IEEE),
    plain("fp16", &["float16", "f16", "half"], 16, "half precision", IEEE),
    plain(
        "bf16",
        &["bfloat16"],
        16,
        "the exponent of fp32, 7 bits of fraction",
        "bfloat16 hardware numerics definition, revision 1.0",
    ),
    plain("fp8", &[], 8, "e4m3 or e5m2; scales not in the cache", OCP_FP8),
    plain("fp8_e4m3", &["e4m3"], 8, "8-bit float, 4 bits of exponent", OCP_FP8),
    plain("fp8_e5m2", &["e5m2"], 8, "8-bit float, 5 bits of exponent", OCP_FP8),
    plain("int8", &[], 8, "8-bit integers; scales not counted", PLAIN),
    plain("int4", &[], 4, "4-bit integers; scales not counted", PLAIN),
    plain("int2", &[], 2, "2-bit integers; scales not counted", PLAIN),
];

const fn plain(
    name: &'static str,
    aliases: &'static [&'static str],
    bits: u64,
    about: &'static str,
    source: &'static str,
) -> FormatEntry {
    FormatEntry { name, aliases, bits_per_block: bits, elements_per_block: 1, about, source }
}

/// The names of all formats, for a message.
pub(super) fn names() -> String {
    FORMATS.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}

impl FormatEntry {
    /// The format this line defines.
    pub const fn format(&self) -> ElementFormat {
        ElementFormat {
            name: Name::Known(self.name),
            bits_per_block: self.bits_per_block,
            elements_per_block: self.elements_per_block,
        }
    }
}

impl ElementFormat {
    /// Single precision, 32 bits.
    pub const FP32: Self = FORMATS[0].format();
    /// Half precision, 16 bits: what flags alone are counted in, as the article does.
    pub const FP16: Self = FORMATS[1].format();
    /// bfloat16, 16 bits: what most checkpoints are published in.
    pub const BF16: Self = FORMATS[2].format();
    /// An 8-bit float.
    pub const FP8: Self = FORMATS[3].format();

    /// A format of `bits` per element and no overhead, as the article's `bitwidth`.
    pub const fn bitwidth(bits: u64) -> Self {
        Self { name: Name::Bitwidth(bits), bits_per_block: bits, elements_per_block: 1 }
    }

    /// A format that packs `elements_per_block` elements and their scales into `bits_per_block` bits.
    pub const fn blocks(name: &'static str, bits_per_block: u64, elements_per_block: u64) -> Self {
        Self { name: Name::Known(name), bits_per_block, elements_per_block }
    }

    /// Bits of `elements` elements, whole blocks; `None` past 2¹²⁸ − 1.
    ///
    /// ```
    /// use kvsize::units::ElementFormat;
    /// assert_eq!(ElementFormat::FP16.bits(640), Some(10_240));
    /// assert_eq!(ElementFormat::blocks("q8_0", 34 * 8, 32).bits(33), Some(2 * 34 * 8));
    /// ```
    pub fn bits(self, elements: u128) -> Option<u128> {
        elements.div_ceil(u128::from(self.elements_per_block.max(1))).checked_mul(u128::from(self.bits_per_block))
    }

    /// Bits of one block.
    pub fn bits_per_block(self) -> u64 {
        self.bits_per_block
    }

    /// Elements of one block, at least 1.
    pub fn elements_per_block(self) -> u64 {
        self.elements_per_block.max(1)
    }
}

impl fmt::Display for ElementFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Name::Known(name) => f.pad(name),
            Name::Bitwidth(bits) => f.pad(&format!("{bits}-bit")),
        }
    }
}

impl FromStr for ElementFormat {
    type Err = UnitError;

    /// Reads a format's name or alias, in any case.
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let lower = text.to_ascii_lowercase().replace('-', "_");
        FORMATS
            .iter()
            .find(|entry| entry.name == lower || entry.aliases.contains(&lower.as_str()))
            .map(FormatEntry::format)
            .ok_or_else(|| UnitError::UnknownFormat(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_and_alias_reads_back_to_its_format_and_is_used_once() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in FORMATS {
            for name in entry.aliases.iter().chain([&entry.name]) {
                assert_eq!(name.parse(), Ok(entry.format()), "{name}");
                assert_eq!(name.to_uppercase().parse(), Ok(entry.format()), "{name}");
                assert!(seen.insert(*name), "{name} twice");
            }
        }
        assert_eq!("fp8-e4m3".parse::<ElementFormat>().unwrap().to_string(), "fp8_e4m3");
    }

    #[test]
    fn formats_that_fail() {
        for text in ["", "fp12", "q9_0", "16", "fp16 ", "bf"] {
            assert_eq!(text.parse::<ElementFormat>(), Err(UnitError::UnknownFormat(text.into())));
        }
    }

    #[test]
    fn bits_are_exact_and_blocks_are_whole() {
        let q8_0 = ElementFormat::blocks("q8_0", 34 * 8, 32);
        for (format, elements, bits) in [
            (ElementFormat::FP16, 3, 48),
            (ElementFormat::FP8, 3, 24),
            (ElementFormat::bitwidth(3), 3, 9),
            (q8_0, 0, 0),
            (q8_0, 1, 272),
            (q8_0, 32, 272),
            (q8_0, 33, 544),
        ] {
            assert_eq!(format.bits(elements), Some(bits), "{format} {elements}");
        }
        assert_eq!(ElementFormat::FP16.bits(u128::MAX), None);
    }
}
