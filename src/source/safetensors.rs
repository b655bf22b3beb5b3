//! The header of a safetensors file: the types, shapes and bytes of its tensors. The data behind it is not touched.
//!
//! The layout (huggingface/safetensors, `README.md` "Format"): the length of the header as a little-endian `u64`, then the
//! header, a JSON object `{name: {"dtype", "shape", "data_offsets": [begin, end]}}` and `__metadata__`, then the data, which
//! the tensors cover without a hole. No length is trusted: each is held against the size of the file.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::file;
use crate::model::DtypeWeights;
use crate::units::{Bytes, Code, Error, Exact, group_thousands};

/// The longest header that is read: the limit of the library that writes them (`MAX_HEADER_SIZE` of safetensors 0.7).
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Element types and the bits of one, a line each (`Dtype` of safetensors 0.7).
const TYPES: &str = include_str!("safetensors_types.txt");

/// The types, each with its bits.
fn types() -> impl Iterator<Item = (&'static str, u64)> {
    TYPES.lines().filter_map(|line| line.split_once(' ')).filter_map(|(name, bits)| Some((name, bits.parse().ok()?)))
}

/// The tensors of a file, or of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tensors {
    /// By type, in the order of first appearance.
    pub types: Vec<DtypeWeights>,
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

const AGAIN: &str = "the file is damaged or not a safetensors file: download it again";

fn damaged(code: Code, found: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::new(code, "", found, problem, AGAIN)
}

fn truncated(header: u64, len: u64) -> Error {
    let found = format!("a header of {} bytes", group_thousands(header));
    let problem = format!("is more than the file of {} holds", group_thousands(len));
    damaged(Code::SafetensorsTruncated, found, problem)
}

/// Data that the tensors do not cover one after another to the end.
fn uncovered(position: u64, len: u64) -> Error {
    let place = format!("at byte {} of {}", group_thousands(position), group_thousands(len));
    let problem = format!("is not covered by the tensors one after another ({place})");
    damaged(Code::SafetensorsUncovered, "the data", problem)
}

/// The tensors of the file that `reader` gives from its start, which is `len` bytes long; added to `tensors`. Nothing past
/// the header is read.
///
/// # Errors
/// [`Error`] for anything but a whole safetensors header.
pub fn read(mut reader: impl Read, len: u64, tensors: &mut Tensors) -> Result<(), Error> {
    let Some(rest) = len.checked_sub(8) else {
        let problem = "are too few for the 8 that hold the length of the header";
        return Err(damaged(Code::SafetensorsTruncated, format!("{len} bytes"), problem));
    };
    let mut prefix = [0; 8];
    reader.read_exact(&mut prefix).map_err(file::reading)?;
    let header = u64::from_le_bytes(prefix);
    if header > MAX_HEADER_BYTES {
        let found = format!("a header of {} bytes", group_thousands(header));
        let problem = format!("is longer than any is (at most {} are read)", group_thousands(MAX_HEADER_BYTES));
        return Err(damaged(Code::SafetensorsHeaderTooLong, found, problem));
    }
    let Some(data) = rest.checked_sub(header) else { return Err(truncated(header, len)) };
    // Grown as bytes come: a length that lies takes no memory.
    let mut bytes = Vec::new();
    reader.take(header).read_to_end(&mut bytes).map_err(file::reading)?;
    if u64::try_from(bytes.len()).ok() != Some(header) {
        return Err(truncated(header, len));
    }
    let mut ranges = Vec::new();
    let mut refused = None;
    let mut parser = serde_json::Deserializer::from_slice(&bytes);
    let entries = Entries { tensors, ranges: &mut ranges, refused: &mut refused };
    let parsed = entries.deserialize(&mut parser).and_then(|()| parser.end());
    if let Some(error) = refused {
        return Err(error);
    }
    parsed.map_err(|error| damaged(Code::SafetensorsJson, "the header", format!("is not read: {error}")))?;
    ranges.sort_unstable();
    let end = ranges.iter().map(|[_, end]| *end).max();
    if let Some(missing) = end.and_then(|end| end.checked_sub(data)).filter(|&missing| missing > 0) {
        let problem = format!("is cut short: {} bytes of its tensors are missing", group_thousands(missing));
        return Err(damaged(Code::SafetensorsCutShort, "the data", problem));
    }
    let mut position = 0;
    for [begin, end] in ranges {
        if begin != position {
            return Err(uncovered(position, data));
        }
        position = end;
    }
    if position == data { Ok(()) } else { Err(uncovered(position, data)) }
}

/// A tensor as the header describes it.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    data_offsets: [u64; 2],
}

/// The elements of a shape. Its sizes are not kept: there may be any number of them.
struct Shape(Exact);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sizes;
        impl<'de> Visitor<'de> for Sizes {
            type Value = Shape;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of sizes")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut product = Exact::ONE;
                while let Some(size) = list.next_element::<u64>()? {
                    product = product * size;
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
    refused: &'t mut Option<Error>,
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
    fn add(&mut self, name: &str, entry: &Entry<'_>) -> Result<(), Error> {
        let wrong = |problem: &str| Error::new(Code::SafetensorsTensor, shortened(name), "the tensor", problem, AGAIN);
        let Some((dtype, bits)) = types().find(|(known, _)| *known == entry.dtype) else {
            let known = types().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
            let problem = "is not an element type known here";
            let remedy = format!("known are {known}");
            return Err(Error::new(Code::SafetensorsDtype, shortened(name), shortened(&entry.dtype), problem, remedy));
        };
        let too_many = || wrong("has more than 2^64 - 1 elements or bytes");
        let exact = |number: Exact| number.get().map_err(|_| too_many());
        let all_bits = exact(entry.shape.0 * bits)?;
        let elements = exact(entry.shape.0)?;
        if !all_bits.is_multiple_of(8) {
            return Err(wrong("does not end at a whole byte"));
        }
        let [begin, end] = entry.data_offsets;
        let all_bytes = end.checked_sub(begin).ok_or_else(|| wrong("ends before it begins"))?;
        if all_bits / 8 != all_bytes {
            let bytes = group_thousands(all_bytes);
            return Err(wrong(&format!("has {bytes} bytes, which its type {dtype} and shape do not give")));
        }
        let bytes = Some(Bytes(all_bytes));
        let share = DtypeWeights { dtype: dtype.to_owned(), tensors: Some(1), parameters: elements, bytes };
        share.add_to(&mut self.types).map_err(|_| too_many())?;
        let role = role(name, dtype);
        let says_two = (dtype == "F8_E4M3" && name.ends_with(".weight_scale")) || name.ends_with(".absmax");
        self.packed.has_scales |= says_two && role == Role::Scale;
        // What its elements are summed in, and the parameters in one.
        let (sum, each) = match role {
            Role::Parameters => (None, 1u64),
            Role::Scale => (Some(&mut self.scales), 0),
            Role::TwoInOne => (Some(&mut self.packed.two_in_one), 2),
            Role::WeightBytes => (Some(&mut self.packed.weight_bytes), 2),
            Role::Unclear => (Some(&mut self.packed.unclear), 0),
        };
        if let Some(sum) = sum {
            *sum = exact(Exact::from(*sum) + elements)?;
        }
        if name.split('.').any(|part| part == "experts") {
            self.routed = exact(Exact::from(elements) * each + self.routed)?;
        }
        exact(Exact::from(elements) * each).map(|_| ())
    }

    /// All bytes.
    pub fn bytes(&self) -> Option<u64> {
        self.types.iter().filter_map(|share| share.bytes).sum::<Exact>().get().ok()
    }

    /// All parameters; `None` where only the quantisation's configuration gives the parameters in an element.
    pub fn parameters(&self) -> Option<u64> {
        let Packed { two_in_one, weight_bytes, has_scales, unclear } = self.packed;
        if unclear > 0 || (weight_bytes > 0 && !has_scales) {
            return None;
        }
        let elements: Exact = self.types.iter().map(|share| share.parameters).sum();
        (elements - self.scales + two_in_one + weight_bytes).get().ok()
    }
}

/// What a tensor is in a checkpoint, as far as counting parameters goes.
#[derive(Clone, Copy, PartialEq, Eq)]
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
const SCALES: &str = include_str!("safetensors_scales.txt");

fn role(name: &str, dtype: &str) -> Role {
    let last = name.rsplit('.').next().unwrap_or_default();
    // MXFP4 as gpt-oss has it (transformers 5.23 integrations/mxfp4.py): bytes of two values, and a scale for 16 of them.
    let scale = SCALES.lines().any(|end| end == last)
        || name.contains(".quant_state.")
        || (dtype == "U8" && last.ends_with("_scales"));
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

    fn tensors(header: &str, data: usize) -> Result<Tensors, Error> {
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
        let share = |dtype: &str, tensors, parameters, bytes| DtypeWeights {
            dtype: dtype.into(),
            tensors: Some(tensors),
            parameters,
            bytes: Some(Bytes(bytes)),
        };
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
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
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
        let again = "the file is damaged or not a safetensors file: download it again";
        assert_eq!(one("F32", "[2]", "[8,0]"), format!("a: the tensor ends before it begins; {again}"));
        assert_eq!(
            one("F32", "[3]", "[0,8]"),
            format!("a: the tensor has 8 bytes, which its type F32 and shape do not give; {again}")
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
