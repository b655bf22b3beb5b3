//! The header of a safetensors file: the types, shapes and bytes of its tensors. The data behind it is not touched.
//!
//! The layout (huggingface/safetensors, `README.md` "Format"): the length of the header as a little-endian `u64`, then the
//! header, a JSON object `{name: {"dtype", "shape", "data_offsets": [begin, end]}}` and `__metadata__`, then the data, which
//! the tensors cover without a hole. No length is trusted: each is held against the size of the file.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Read};

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::units::{Code, Diagnose, Error, display_diagnosis, group_thousands};

/// The longest header that is read: the limit of the library that writes them (`MAX_HEADER_SIZE` of safetensors 0.7).
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Element types and the bits of one (`Dtype` of safetensors 0.7).
const TYPES: &[(&str, u64)] = &[
    ("BF16", 16),
    ("F32", 32),
    ("F16", 16),
    ("F8_E4M3", 8),
    ("U8", 8),
    ("I32", 32),
    ("I8", 8),
    ("I64", 64),
    ("F8_E5M2", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("BOOL", 8),
    ("U16", 16),
    ("I16", 16),
    ("U32", 32),
    ("U64", 64),
    ("F64", 64),
    ("C64", 64),
];

/// The tensors of a file, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tensors {
    /// By type, in the order of first appearance.
    pub types: Vec<TypeShare>,
    /// Elements of quantisation scales and the like, which are no parameters.
    pub scales: u64,
    /// Parameters that are stored packed, several in an element, beside the elements themselves.
    pub packed: Packed,
    /// Parameters in experts that tokens are sent to.
    pub routed: u64,
}

/// What is packed, by the rule that unpacks it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed {
    /// Elements of two parameters each.
    pub two_in_one: u64,
    /// Elements of bytes named `weight`: of two parameters each if there are scales that say so.
    pub weight_bytes: u64,
    /// Whether such scales are there.
    pub has_scales: bool,
    /// Elements of as many parameters as only the configuration of the quantisation says.
    pub unclear: u64,
}

/// The tensors of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeShare {
    /// Its name.
    pub name: &'static str,
    /// Tensors of it.
    pub tensors: u64,
    /// Their elements.
    pub elements: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a file is no safetensors file.
#[derive(Debug)]
pub enum SafetensorsError {
    /// Too short for the length of a header.
    Short(u64),
    /// A header longer than is read.
    TooLong(u64),
    /// A header longer than the file.
    Truncated {
        /// Bytes of the header, as the file says.
        header: u64,
        /// Bytes of the file.
        len: u64,
    },
    /// A header that is not the JSON it should be.
    Json(serde_json::Error),
    /// A type that is not known.
    Dtype {
        /// The tensor.
        name: String,
        /// The type.
        found: String,
    },
    /// A tensor that can't be.
    Tensor {
        /// Its name.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A file that ends before its tensors do.
    CutShort {
        /// Bytes that are missing.
        missing: u64,
    },
    /// Data that the tensors do not cover one after another to the end.
    Uncovered {
        /// Where they go wrong.
        position: u64,
        /// Bytes of data.
        len: u64,
    },
    /// What the system said.
    Io(io::Error),
}

impl Diagnose for SafetensorsError {
    fn diagnosis(&self) -> Error {
        const AGAIN: &str = "the file is damaged or no safetensors file: download it again";
        let whole = |code, found: String, problem: String| Error {
            code,
            field: String::new(),
            found: Some(found),
            problem,
            remedy: AGAIN.into(),
        };
        match self {
            Self::Short(len) => whole(
                Code::SafetensorsTruncated,
                format!("{len} bytes"),
                "are too few for the 8 that tell the length of the header".into(),
            ),
            Self::TooLong(header) => whole(
                Code::SafetensorsHeaderTooLong,
                format!("a header of {} bytes", group_thousands(*header)),
                format!("is longer than any is (at most {} are read)", group_thousands(MAX_HEADER_BYTES)),
            ),
            Self::Truncated { header, len } => whole(
                Code::SafetensorsTruncated,
                format!("a header of {} bytes", group_thousands(*header)),
                format!("is more than the file of {} holds", group_thousands(*len)),
            ),
            Self::Json(error) => whole(Code::SafetensorsJson, "the header".into(), format!("is not read: {error}")),
            Self::Dtype { name, found } => Error {
                code: Code::SafetensorsDtype,
                field: name.clone(),
                found: Some(found.clone()),
                problem: "is not an element type known here".into(),
                remedy: format!("known are {}", TYPES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")),
            },
            Self::Tensor { name, reason } => Error {
                code: Code::SafetensorsTensor,
                field: name.clone(),
                found: Some("the tensor".into()),
                problem: reason.clone(),
                remedy: AGAIN.into(),
            },
            Self::CutShort { missing } => whole(
                Code::SafetensorsCutShort,
                "the data".into(),
                format!("is cut short: {} bytes of its tensors are missing", group_thousands(*missing)),
            ),
            Self::Uncovered { position, len } => whole(
                Code::SafetensorsUncovered,
                "the data".into(),
                format!(
                    "is not covered by the tensors one after another (at byte {} of {})",
                    group_thousands(*position),
                    group_thousands(*len)
                ),
            ),
            Self::Io(error) => Error {
                code: Code::Io,
                field: String::new(),
                found: Some(error.to_string()),
                problem: String::new(),
                remedy: "make the file readable".into(),
            },
        }
    }
}

display_diagnosis!(SafetensorsError);

/// The tensors of the file that `reader` gives from its start, which is `len` bytes long; added to `tensors`. Nothing past
/// the header is read.
///
/// # Errors
/// [`SafetensorsError`] for what is no safetensors file, or one that is damaged.
pub fn read(mut reader: impl Read, len: u64, tensors: &mut Tensors) -> Result<(), SafetensorsError> {
    let Some(rest) = len.checked_sub(8) else { return Err(SafetensorsError::Short(len)) };
    let mut prefix = [0; 8];
    reader.read_exact(&mut prefix).map_err(SafetensorsError::Io)?;
    let header = u64::from_le_bytes(prefix);
    if header > MAX_HEADER_BYTES {
        return Err(SafetensorsError::TooLong(header));
    }
    let Some(data) = rest.checked_sub(header) else { return Err(SafetensorsError::Truncated { header, len }) };
    // Grown as bytes come: a length that lies takes no memory.
    let mut bytes = Vec::new();
    reader.take(header).read_to_end(&mut bytes).map_err(SafetensorsError::Io)?;
    if u64::try_from(bytes.len()).ok() != Some(header) {
        return Err(SafetensorsError::Truncated { header, len });
    }
    let mut ranges = Vec::new();
    let mut refused = None;
    let mut parser = serde_json::Deserializer::from_slice(&bytes);
    let entries = Entries { tensors, ranges: &mut ranges, refused: &mut refused };
    let parsed = entries.deserialize(&mut parser).and_then(|()| parser.end());
    if let Some(error) = refused {
        return Err(error);
    }
    parsed.map_err(SafetensorsError::Json)?;
    ranges.sort_unstable();
    if let Some(end) = ranges.iter().map(|[_, end]| *end).max().filter(|&end| end > data) {
        return Err(SafetensorsError::CutShort { missing: end.saturating_sub(data) });
    }
    let mut position = 0;
    for [begin, end] in ranges {
        if begin != position {
            return Err(SafetensorsError::Uncovered { position, len: data });
        }
        position = end;
    }
    if position == data { Ok(()) } else { Err(SafetensorsError::Uncovered { position, len: data }) }
}

/// A tensor as the header describes it.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// The elements of a shape; none past 2⁶⁴ − 1. Its sizes are not kept: there may be any number of them.
struct Shape(Option<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut product = Some(1u64);
                while let Some(size) = list.next_element::<u64>()? {
                    product = product.and_then(|product| product.checked_mul(size));
                }
                Ok(Shape(product))
            }
        }
        deserializer.deserialize_seq(Sizes)
    }
}

/// A name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The tensors of a header, taken one by one: only where their data lies is kept of each.
struct Entries<'t> {
    tensors: &'t mut Tensors,
    ranges: &'t mut Vec<[u64; 2]>,
    /// Why a tensor can't be.
    refused: &'t mut Option<SafetensorsError>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let entry = map.next_value::<Entry<'de>>();
            let entry = entry.map_err(|error| de::Error::custom(format_args!("{}: {error}", shortened(&name))))?;
            if let Err(error) = self.tensors.add(&name, &entry) {
                *self.refused = Some(error);
                return Err(de::Error::custom("a tensor that can't be"));
            }
            self.ranges.push(entry.data_offsets);
        }
        Ok(())
    }
}

/// A name as messages show it.
fn shortened(name: &str) -> String {
    name.chars().take(120).collect()
}

impl Tensors {
    /// Adds a tensor, after it is held against its bytes.
    fn add(&mut self, name: &str, entry: &Entry<'_>) -> Result<(), SafetensorsError> {
        let wrong = |reason: &str| SafetensorsError::Tensor { name: shortened(name), reason: reason.into() };
        let Some((dtype, bits)) = TYPES.iter().find(|(known, _)| *known == entry.dtype) else {
            return Err(SafetensorsError::Dtype { name: shortened(name), found: shortened(&entry.dtype) });
        };
        let too_large = || wrong("has more than 2^64 - 1 elements or bytes");
        let elements = entry.shape.0.ok_or_else(too_large)?;
        let all_bits = elements.checked_mul(*bits).ok_or_else(too_large)?;
        if !all_bits.is_multiple_of(8) {
            return Err(wrong("does not end at a whole byte"));
        }
        let [begin, end] = entry.data_offsets;
        let bytes = end.checked_sub(begin).ok_or_else(|| wrong("ends before it begins"))?;
        if all_bits.checked_div(8) != Some(bytes) {
            return Err(wrong(&format!(
                "has {} bytes, which is not what its type {dtype} and shape come to",
                group_thousands(bytes)
            )));
        }
        let position = self.types.iter().position(|share| share.name == *dtype).unwrap_or_else(|| {
            self.types.push(TypeShare { name: dtype, tensors: 0, elements: 0, bytes: 0 });
            self.types.len().saturating_sub(1)
        });
        if let Some(share) = self.types.get_mut(position) {
            share.tensors = share.tensors.saturating_add(1);
            share.elements = share.elements.checked_add(elements).ok_or_else(too_large)?;
            share.bytes = share.bytes.checked_add(bytes).ok_or_else(too_large)?;
        }
        let routed = name.split('.').any(|part| part == "experts");
        let parameters = match role(name, dtype) {
            Role::Parameters => elements,
            Role::Scale => {
                self.scales = self.scales.checked_add(elements).ok_or_else(too_large)?;
                let says_two = (*dtype == "F8_E4M3" && name.ends_with(".weight_scale")) || name.ends_with(".absmax");
                self.packed.has_scales |= says_two;
                0
            }
            Role::TwoInOne => {
                self.packed.two_in_one = self.packed.two_in_one.checked_add(elements).ok_or_else(too_large)?;
                elements.checked_mul(2).ok_or_else(too_large)?
            }
            Role::WeightBytes => {
                self.packed.weight_bytes = self.packed.weight_bytes.checked_add(elements).ok_or_else(too_large)?;
                elements.checked_mul(2).ok_or_else(too_large)?
            }
            Role::Unclear => {
                self.packed.unclear = self.packed.unclear.checked_add(elements).ok_or_else(too_large)?;
                0
            }
        };
        if routed {
            self.routed = self.routed.checked_add(parameters).ok_or_else(too_large)?;
        }
        Ok(())
    }

    /// All bytes.
    pub fn bytes(&self) -> Option<u64> {
        self.types.iter().try_fold(0u64, |sum, share| sum.checked_add(share.bytes))
    }

    /// All parameters; none where only the configuration of the quantisation says how many are in an element.
    pub fn parameters(&self) -> Option<u64> {
        let Packed { two_in_one, weight_bytes, has_scales, unclear } = self.packed;
        if unclear > 0 || (weight_bytes > 0 && !has_scales) {
            return None;
        }
        let elements = self.types.iter().try_fold(0u64, |sum, share| sum.checked_add(share.elements))?;
        elements.checked_sub(self.scales)?.checked_add(two_in_one)?.checked_add(weight_bytes)
    }
}

/// What a tensor is in a checkpoint, as far as counting parameters goes.
enum Role {
    /// An element is a parameter.
    Parameters,
    /// Something that quantisation stores beside its weights.
    Scale,
    /// An element is two parameters.
    TwoInOne,
    /// A byte of a weight.
    WeightBytes,
    /// An element is so many parameters as the quantisation says.
    Unclear,
}

/// Ends of the names of what quantisation stores beside its weights: fp8 of `DeepSeek` (`weight_scale_inv`), modelopt and
/// compressed-tensors (`weight_scale`, `input_scale` …), GPTQ and AWQ (`scales`, `qzeros`, `g_idx`), bitsandbytes
/// (`absmax`, `quant_map` …).
const SCALES: &[&str] = &[
    "weight_scale_inv",
    "weight_scale",
    "weight_scale_2",
    "weight_global_scale",
    "weight_zero_point",
    "weight_shape",
    "weight_g_idx",
    "input_scale",
    "input_global_scale",
    "input_zero_point",
    "output_scale",
    "k_scale",
    "v_scale",
    "q_scale",
    "scales",
    "qzeros",
    "g_idx",
    "absmax",
    "quant_map",
    "nested_absmax",
    "nested_quant_map",
    "SCB",
    "weight_format",
];

fn role(name: &str, dtype: &str) -> Role {
    let last = name.rsplit('.').next().unwrap_or_default();
    // MXFP4 as gpt-oss has it (transformers 5.23 integrations/mxfp4.py): bytes of two values, and a scale for 16 of them.
    let scale =
        SCALES.contains(&last) || name.contains(".quant_state.") || (dtype == "U8" && last.ends_with("_scales"));
    match (dtype, last) {
        _ if scale => Role::Scale,
        ("U8", "weight_packed") => Role::TwoInOne,
        ("U8", last) if last.ends_with("_blocks") => Role::TwoInOne,
        ("U8", "weight") => Role::WeightBytes,
        ("I32" | "U32" | "I64", "qweight" | "weight_packed" | "weight") | ("U8", "qweight") => Role::Unclear,
        _ => Role::Parameters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn tensors(header: &str, data: usize) -> Result<Tensors, SafetensorsError> {
        let bytes = file(header, data);
        let mut tensors = Tensors::default();
        read(bytes.as_slice(), bytes.len() as u64, &mut tensors).map(|()| tensors)
    }

    #[test]
    fn types_are_summed_and_metadata_is_stepped_over() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "a.weight":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
            "b":{"dtype":"F32","shape":[],"data_offsets":[12,16]},
            "c":{"dtype":"BF16","shape":[0,7],"data_offsets":[16,16]}}"#;
        let tensors = tensors(header, 16).unwrap();
        let share = |name, tensors, elements, bytes| TypeShare { name, tensors, elements, bytes };
        assert_eq!(tensors.types, [share("BF16", 2, 6, 12), share("F32", 1, 1, 4)]);
        assert_eq!((tensors.bytes(), tensors.parameters()), (Some(16), Some(7)));
    }

    #[test]
    fn what_is_packed_is_counted_by_the_rule_of_its_format() {
        // gpt-oss: 16 bytes of two values and a scale, of experts.
        let mxfp4 = r#"{"l.mlp.experts.down_proj_blocks":{"dtype":"U8","shape":[1,16],"data_offsets":[0,16]},
            "l.mlp.experts.down_proj_scales":{"dtype":"U8","shape":[1],"data_offsets":[16,17]}}"#;
        let tensors_of = |header: &str, data| tensors(header, data).unwrap();
        let mxfp4 = tensors_of(mxfp4, 17);
        assert_eq!((mxfp4.parameters(), mxfp4.routed, mxfp4.scales), (Some(32), 32, 1));
        // Bytes of weights are NVFP4 with its scales, and nothing certain without them.
        let weight = r#""l.weight":{"dtype":"U8","shape":[4,2],"data_offsets":[0,8]}"#;
        let scale = r#""l.weight_scale":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[8,9]}"#;
        assert_eq!(tensors_of(&format!("{{{weight},{scale}}}"), 9).parameters(), Some(16));
        assert_eq!(tensors_of(&format!("{{{weight}}}"), 8).parameters(), None);
        let awq = r#"{"l.qweight":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}"#;
        assert_eq!((tensors_of(awq, 8).parameters(), tensors_of(awq, 8).bytes()), (None, Some(8)));
    }

    #[test]
    fn nothing_past_the_header_is_read() {
        struct Stops<'a>(&'a [u8]);
        impl Read for Stops<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                assert!(!self.0.is_empty(), "read past the header");
                self.0.read(buffer)
            }
        }
        let header = r#"{"a":{"dtype":"U8","shape":[1000000000000],"data_offsets":[0,1000000000000]}}"#;
        let bytes = file(header, 0);
        let mut tensors = Tensors::default();
        read(Stops(&bytes), bytes.len() as u64 + 1_000_000_000_000, &mut tensors).unwrap();
        assert_eq!(tensors.bytes(), Some(1_000_000_000_000));
    }

    #[test]
    fn what_can_t_be_is_refused() {
        let refusal = |header: &str, data| tensors(header, data).unwrap_err().to_string();
        let one = |dtype: &str, shape: &str, offsets: &str| {
            refusal(&format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#), 8)
        };
        let again = "the file is damaged or no safetensors file: download it again";
        assert_eq!(one("F32", "[2]", "[8,0]"), format!("a: the tensor ends before it begins; {again}"));
        assert_eq!(
            one("F32", "[3]", "[0,8]"),
            format!("a: the tensor has 8 bytes, which is not what its type F32 and shape come to; {again}")
        );
        assert_eq!(
            one("F32", "[4294967296,4294967296,2]", "[0,8]"),
            format!("a: the tensor has more than 2^64 - 1 elements or bytes; {again}")
        );
        assert_eq!(one("F4", "[3]", "[0,8]"), format!("a: the tensor does not end at a whole byte; {again}"));
        let uncovered = "the data is not covered by the tensors one after another";
        assert_eq!(one("F32", "[1]", "[4,8]"), format!("{uncovered} (at byte 0 of 8); {again}"));
        assert_eq!(one("F32", "[1]", "[0,4]"), format!("{uncovered} (at byte 4 of 8); {again}"));
        assert_eq!(
            one("F32", "[4]", "[0,16]"),
            format!("the data is cut short: 8 bytes of its tensors are missing; {again}")
        );
        assert!(one("F5", "[1]", "[0,8]").starts_with("a: F5 is not an element type known here; known are BF16, F32"));
        for header in ["", "[]", "{", "{\"a\":1}", "{\"a\":{}}", "{\"a\":{\"dtype\":\"F32\",\"shape\":[-1]}}", "\u{7f}"]
        {
            assert!(refusal(header, 0).starts_with("the header is not read: "), "{header}");
        }
        // Deep nesting is stepped over without the stack, or refused.
        let deep = format!("{{\"__metadata__\":{}", "[".repeat(1_000_000));
        assert!(refusal(&deep, 0).starts_with("the header is not read: "));
        let deep = format!("{{\"a\":{}", "{\"a\":".repeat(1_000_000));
        assert!(refusal(&deep, 0).starts_with("the header is not read: "));
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_read() {
        let refusal = |bytes: &[u8], len: u64| read(bytes, len, &mut Tensors::default()).unwrap_err().to_string();
        assert!(refusal(b"", 0).starts_with("0 bytes are too few"));
        assert!(refusal(&[1, 0, 0], 3).starts_with("3 bytes are too few"));
        for length in [u64::MAX, 1 << 63, MAX_HEADER_BYTES + 1] {
            assert!(refusal(&length.to_le_bytes(), u64::MAX).contains("is longer than any is (at most 100,000,000 "));
        }
        assert!(refusal(&9u64.to_le_bytes(), 16).starts_with("a header of 9 bytes is more than the file of 16 holds"));
        // The size was told wrong: the file ends before its header does.
        assert!(refusal(&9u64.to_le_bytes(), 1000).starts_with("a header of 9 bytes is more than the file of 1,000 "));
    }
}
