//! What one cached element costs: bits per block of elements.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Code, Error};

/// The storage format of cached elements: `bits_per_block` bits for every `elements_per_block` elements, scales and
/// zero points of the block included, and `bits_per_vector` for each vector (K or V of one head and token). Never "bytes
/// per element".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementFormat {
    name: Name,
    bits_per_block: u64,
    elements_per_block: u64,
    bits_per_vector: u64,
    packed: bool,
    full_precision_tokens: u32,
}

/// The formats of cached K and V.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvFormat {
    /// Of K.
    pub k: ElementFormat,
    /// Of V.
    pub v: ElementFormat,
    /// The one name of a pair that differs.
    name: Option<&'static str>,
}

/// The format that is asked for: one by its name, or whatever the engine makes of the checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KvDtype {
    /// `auto`: the checkpoint's own KV scheme where the engine follows it, else its 16-bit format.
    #[default]
    Auto,
    /// This one.
    Given(KvFormat),
}

impl KvDtype {
    /// The format given, or `auto` in place of none.
    pub fn or(self, auto: ElementFormat) -> KvFormat {
        match self {
            Self::Auto => auto.into(),
            Self::Given(format) => format,
        }
    }
}

impl From<ElementFormat> for KvDtype {
    fn from(format: ElementFormat) -> Self {
        Self::Given(format.into())
    }
}

impl fmt::Display for KvDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::Given(format) => format.fmt(f),
        }
    }
}

impl FromStr for KvDtype {
    type Err = Error;

    /// Reads `auto`, or the name of a format or of a pair of them.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.eq_ignore_ascii_case("auto") { Ok(Self::Auto) } else { text.parse().map(Self::Given) }
    }
}

impl KvFormat {
    /// K and V in formats of their own.
    pub fn new(k: ElementFormat, v: ElementFormat) -> Self {
        Self { k, v, name: None }
    }

    /// The one name that this format, or pair of formats, is known by.
    pub fn name(self) -> Option<&'static str> {
        match self.k.name {
            Name::Known(name) if self.k == self.v => Some(name),
            _ => self.name,
        }
    }
}

impl From<ElementFormat> for KvFormat {
    /// The same format for both.
    fn from(format: ElementFormat) -> Self {
        Self::new(format, format)
    }
}

impl fmt::Display for KvFormat {
    /// `K/V` where they differ and have no name of their own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            Some(name) => f.pad(name),
            None if self.k == self.v => self.k.fmt(f),
            None => write!(f, "{}/{}", self.k, self.v),
        }
    }
}

impl FromStr for KvFormat {
    type Err = Error;

    /// Reads the name of a format for both, or of a pair.
    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase().replace('-', "_");
        match PAIRS.iter().find(|pair| pair.name == lower) {
            Some(pair) => Ok(pair.format()),
            None => text.parse().map(ElementFormat::into),
        }
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
    /// The format.
    format: ElementFormat,
    /// Of an engine's layout of a whole latent, whose bytes only that engine's rules tell: the bytes of one, and its
    /// elements.
    pub packed: Option<(u64, u64)>,
    /// What it is.
    pub about: &'static str,
    /// Where the figure comes from.
    pub source: &'static str,
}

/// A pair of formats that goes by one name.
#[derive(Debug, Clone, Copy)]
pub struct PairEntry {
    /// The name that is printed.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The format of K.
    pub k: FormatEntry,
    /// The format of V.
    pub v: FormatEntry,
}

impl PairEntry {
    /// The formats this line defines.
    pub fn format(&self) -> KvFormat {
        KvFormat { k: self.k.format(), v: self.v.format(), name: Some(self.name) }
    }
}

const IEEE: &str = "IEEE 754-2019, table 3.5";
const BFLOAT16: &str = "bfloat16 hardware numerics definition, revision 1.0";
const OCP_FP8: &str = "OCP 8-bit floating point specification 1.0";
const PLAIN: &str = "by definition: the named width and nothing else";
const GGML: &str = "llama.cpp, ggml/src/ggml-common.h";
const VLLM_SPEC: &str = "vLLM 0.33.0, v1/kv_cache_interface.py";
const SGLANG_FP4: &str = "SGLang 0.5.23, fp4_kv_cache_quant_method.py";
const QUANTO: &str = "transformers 5.23 with optimum-quanto 0.2.7, groups of 64 on axis 0";
const HQQ: &str = "transformers 5.23 with hqq 0.2.8.post1, groups of 64 on axis 0";
const KIVI: &str = "arXiv:2402.02750, algorithm 1, groups of 32, 128 tokens in full precision";
const VLLM_TURBOQUANT: &str = "vLLM 0.33.0, model_executor/layers/quantization/turboquant";

const FP32: FormatEntry = plain("fp32", 32, "single precision", IEEE).or(&["float32", "f32", "float"]);
const FP16: FormatEntry = plain("fp16", 16, "half precision", IEEE).or(&["float16", "f16", "half"]);
const BF16: FormatEntry = plain("bf16", 16, "fp32 with 7 bits of fraction", BFLOAT16).or(&["bfloat16"]);
const FP8: FormatEntry = plain("fp8", 8, "e4m3 or e5m2, scales elsewhere", OCP_FP8);

/// Every format known by name.
pub const FORMATS: &[FormatEntry] = &[
    FP32,
    FP16,
    BF16,
    FP8,
    plain("fp8_e4m3", 8, "float, 4 bits of exponent", OCP_FP8).or(&["e4m3"]),
    plain("fp8_e5m2", 8, "float, 5 bits of exponent", OCP_FP8).or(&["e5m2"]),
    plain("int8", 8, "integers, scales not counted", PLAIN),
    plain("int4", 4, "integers, scales not counted", PLAIN),
    plain("int2", 2, "integers, scales not counted", PLAIN),
    plain("fp8_per_token_head", 8, "fp32 scale a vector", VLLM_SPEC).with_vector_bits(32),
    plain("int8_per_token_head", 8, "fp32 scale a vector", VLLM_SPEC).with_vector_bits(32),
    plain("int4_per_token_head", 4, "4 bytes more a vector", VLLM_SPEC).with_vector_bits(32),
    blocks("nvfp4", 9 * 8, 16, "fp8 scale for 16", "vLLM 0.33.0, utils/torch_utils.py"),
    blocks("nvfp4_4over6", 9 * 8, 16, "fp8 scale for 16", "vLLM 0.33.0, utils/torch_utils.py"),
    blocks("fp4_mx_block16", 9 * 8, 16, "8-bit scale for 16", SGLANG_FP4),
    blocks("mxfp8", 33 * 8, 32, "8-bit scale for 32", "OCP microscaling formats 1.0"),
    blocks("q8_0", 34 * 8, 32, "fp16 scale for 32", GGML),
    blocks("q5_1", 24 * 8, 32, "fp16 scale and minimum for 32", GGML),
    blocks("q5_0", 22 * 8, 32, "fp16 scale for 32", GGML),
    blocks("q4_1", 20 * 8, 32, "fp16 scale and minimum for 32", GGML),
    blocks("q4_0", 18 * 8, 32, "fp16 scale for 32", GGML),
    blocks("iq4_nl", 18 * 8, 32, "fp16 scale for 32", GGML),
    blocks("quanto_int4", 64 * 4 + 32, 64, "16-bit scale, shift for 64", QUANTO),
    blocks("quanto_int2", 64 * 2 + 32, 64, "16-bit scale, shift for 64", QUANTO),
    blocks("hqq_int8", 64 * 8 + 32, 64, "16-bit scale, zero for 64", HQQ),
    blocks("hqq_int4", 64 * 4 + 32, 64, "16-bit scale, zero for 64", HQQ),
    blocks("hqq_int3", 7 * 32 + 32, 64, "ten in 32 bits; the same", HQQ),
    blocks("hqq_int2", 64 * 2 + 32, 64, "16-bit scale, zero for 64", HQQ),
    blocks("hqq_int1", 64 + 32, 64, "16-bit scale, zero for 64", HQQ),
    kivi("kivi_int4", 32 * 4 + 32),
    kivi("kivi_int2", 32 * 2 + 32),
    plain("fp8_ds_mla", 8, "latents, rotary part in bf16", "vLLM 0.33.0, flashmla_sparse.py")
        .with_packed_latent(656, 576),
    plain("nvfp4_ds_mla", 4, "latents, rotary part in fp8", "vLLM 0.33.0, flashmla_sparse.py")
        .with_packed_latent(352, 576),
];

/// Every pair of formats known by one name: `TurboQuant` keeps the norm of a K vector in 2 bytes, scale and zero point of
/// a V vector in 4.
pub const PAIRS: &[PairEntry] = &[
    turboquant("turboquant_k8v4", "fp8 K, 4-bit V with scales", FP8, TURBOQUANT_V4),
    turboquant("turboquant_4bit_nc", "4-bit K and V with scales", TURBOQUANT_K4, TURBOQUANT_V4),
    turboquant("turboquant_k3v4_nc", "3-bit K, 4-bit V with scales", TURBOQUANT_K3, TURBOQUANT_V4),
    turboquant("turboquant_3bit_nc", "3-bit K and V with scales", TURBOQUANT_K3, TURBOQUANT_V3),
];

const TURBOQUANT_K4: FormatEntry = plain("turboquant_k4", 4, "", VLLM_TURBOQUANT).with_vector_bits(16);
const TURBOQUANT_K3: FormatEntry = plain("turboquant_k3", 3, "", VLLM_TURBOQUANT).with_vector_bits(16);
const TURBOQUANT_V4: FormatEntry = plain("turboquant_v4", 4, "", VLLM_TURBOQUANT).with_vector_bits(32);
const TURBOQUANT_V3: FormatEntry = plain("turboquant_v3", 3, "", VLLM_TURBOQUANT).with_vector_bits(32);

const fn turboquant(name: &'static str, about: &'static str, k: FormatEntry, v: FormatEntry) -> PairEntry {
    PairEntry { name, about, k, v }
}

const fn plain(name: &'static str, bits: u64, about: &'static str, source: &'static str) -> FormatEntry {
    blocks(name, bits, 1, about, source)
}

const fn blocks(
    name: &'static str,
    bits_per_block: u64,
    elements_per_block: u64,
    about: &'static str,
    source: &'static str,
) -> FormatEntry {
    let format = ElementFormat::blocks(name, bits_per_block, elements_per_block);
    FormatEntry { name, aliases: &[], format, packed: None, about, source }
}

/// K by channel and V by token, in groups of 32 with a scale and a zero of 16 bits, and a window of 128.
const fn kivi(name: &'static str, bits: u64) -> FormatEntry {
    let entry = blocks(name, bits, 32, "16-bit scale, zero for 32", KIVI);
    FormatEntry { format: ElementFormat { full_precision_tokens: 128, ..entry.format }, ..entry }
}

/// The names of all formats, for a message.
fn names() -> String {
    let formats = FORMATS.iter().map(|entry| entry.name);
    formats.chain(PAIRS.iter().map(|pair| pair.name)).collect::<Vec<_>>().join(", ")
}

impl FormatEntry {
    const fn or(self, aliases: &'static [&'static str]) -> Self {
        Self { aliases, ..self }
    }

    const fn with_vector_bits(self, bits_per_vector: u64) -> Self {
        Self { format: ElementFormat { bits_per_vector, ..self.format }, ..self }
    }

    const fn with_packed_latent(self, bytes: u64, elements: u64) -> Self {
        Self { format: ElementFormat { packed: true, ..self.format }, packed: Some((bytes, elements)), ..self }
    }

    /// The format this line defines.
    pub const fn format(&self) -> ElementFormat {
        self.format
    }
}

impl ElementFormat {
    /// Single precision, 32 bits.
    pub const FP32: Self = FP32.format();
    /// Half precision, 16 bits: what flags alone are counted in, as the article does.
    pub const FP16: Self = FP16.format();
    /// bfloat16, 16 bits: what most checkpoints are published in.
    pub const BF16: Self = BF16.format();
    /// An 8-bit float.
    pub const FP8: Self = FP8.format();

    /// A format of `bits` per element and no overhead, as the article's `bitwidth`.
    pub const fn bitwidth(bits: u64) -> Self {
        Self { name: Name::Bitwidth(bits), ..Self::blocks("", bits, 1) }
    }

    /// A format that packs `elements_per_block` elements and their scales into `bits_per_block` bits.
    pub const fn blocks(name: &'static str, bits_per_block: u64, elements_per_block: u64) -> Self {
        Self {
            name: Name::Known(name),
            bits_per_block,
            elements_per_block,
            bits_per_vector: 0,
            packed: false,
            full_precision_tokens: 0,
        }
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

    /// Bits of `vectors` vectors of `elements` elements in all: their blocks, and what each vector has of its own.
    ///
    /// ```
    /// use kvsize::units::ElementFormat;
    /// let scaled: ElementFormat = "int8_per_token_head".parse().unwrap();
    /// assert_eq!(scaled.bits_of_vectors(8, 8 * 128), Some(8 * (128 * 8 + 32)));
    /// ```
    pub fn bits_of_vectors(self, vectors: u128, elements: u128) -> Option<u128> {
        self.bits(elements)?.checked_add(vectors.checked_mul(u128::from(self.bits_per_vector))?)
    }

    /// Bits of each vector (K or V of one head and token) beside those of its elements.
    pub fn bits_per_vector(self) -> u64 {
        self.bits_per_vector
    }

    /// Whether it is an engine's layout of a whole latent, whose bytes only that engine's rules tell.
    pub fn is_packed(self) -> bool {
        self.packed
    }

    /// The window of tokens that stay in full precision for a while, beside what is counted in bits here.
    pub fn full_precision_tokens(self) -> Option<u64> {
        Some(u64::from(self.full_precision_tokens)).filter(|&tokens| tokens > 0)
    }

    /// The name, where it has one.
    pub fn name(self) -> Option<&'static str> {
        match self.name {
            Name::Known(name) => Some(name),
            Name::Bitwidth(_) => None,
        }
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

impl Serialize for ElementFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ElementFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl FromStr for ElementFormat {
    type Err = Error;

    /// Reads a format's name or alias, in any case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let lower = text.to_ascii_lowercase().replace('-', "_");
        let is_named = |entry: &&FormatEntry| entry.name == lower || entry.aliases.contains(&lower.as_str());
        FORMATS.iter().find(is_named).map(FormatEntry::format).ok_or_else(|| {
            let remedy = format!("use one of {}, or --bitwidth N", names());
            Error::new(Code::UnknownFormat, "", text, "is not a known element format", remedy)
        })
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
            assert_eq!(text.parse::<ElementFormat>().unwrap_err().code, Code::UnknownFormat);
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
