//! The header of a file: its keys, and what its tensors come to. The data behind it is not touched.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use super::damaged;
use super::walk::Walk;
use crate::model::DtypeWeights;
use crate::units::{Bytes, Code, Error, Exact};

/// Elements of a list that are kept: more than any model has layers in llama.cpp (512).
const MAX_LIST: u64 = 1024;
/// Bytes of a text, or of a name, that are kept.
const MAX_TEXT: u64 = 1024;
/// What the data of each tensor begins at a multiple of, unless `general.alignment` says otherwise.
const ALIGNMENT: u64 = 32;
/// Bytes of all that is kept.
const MAX_KEPT: usize = 1 << 20;

/// The header of a GGUF file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The keys, but for those of the tokenizer.
    pub metadata: BTreeMap<String, Value>,
    /// What the tensors come to.
    pub tensors: Tensors,
    /// Bytes up to its end.
    pub len: u64,
    /// Bytes that its tensors should take past the end of the file: of one that is cut short, or a header alone.
    pub missing: u64,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, or a flag as 0 or 1.
    Integer(i128),
    /// A number with a fraction.
    Float(f64),
    /// A text.
    Text(String),
    /// Whole numbers or flags.
    List(Vec<i64>),
    /// Something that is not kept, in words.
    Other(String),
}

impl Value {
    /// In a few words.
    pub(super) fn shortened(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) => text.chars().take(24).collect(),
            Self::List(list) => format!("{} entries", list.len()),
            Self::Other(words) => words.clone(),
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Integer(_) | Self::Float(_) => 16,
            Self::Text(text) | Self::Other(text) => text.len(),
            Self::List(list) => list.len().saturating_mul(8),
        }
    }
}

impl Header {
    pub(in crate::source) fn text(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(in crate::source) fn number(&self, key: &str) -> Option<u64> {
        match self.metadata.get(key) {
            Some(Value::Integer(value)) => u64::try_from(*value).ok(),
            _ => None,
        }
    }
}

fn tensor_error(name: &str, problem: impl Into<String>) -> Error {
    damaged(Code::GgufTensor, name, "the tensor", problem)
}

fn value_type(key: &str, found: u32) -> Error {
    damaged(Code::GgufValueType, key, format!("type {found}"), "is not a type of GGUF values")
}

/// The header of the file that `reader` gives, which is `len` bytes long.
///
/// # Errors
/// [`Error`] for anything but a whole GGUF header.
pub fn read(reader: impl Read + Seek, len: u64) -> Result<Header, Error> {
    let mut walk = Walk::new(reader, len);
    if walk.remaining() < 4 || walk.bytes(MAGIC)? != *b"GGUF" {
        let problem = "does not begin with GGUF";
        return Err(Error::new(Code::GgufMagic, "", "the file", problem, "give a GGUF file"));
    }
    let version = walk.u32("the version")?;
    match version {
        2 | 3 => {}
        other if (1..=3).contains(&other.swap_bytes()) => {
            let remedy = "give a little-endian one, as llama.cpp's converter writes without --bigendian";
            return Err(Error::new(Code::GgufBigEndian, "version", "the file", "is big-endian", remedy));
        }
        other => {
            let problem = "is not a version of GGUF that is read here";
            let remedy = "read are 2 and 3; convert the model again";
            return Err(Error::new(Code::GgufVersion, "version", other.to_string(), problem, remedy));
        }
    }
    let tensor_count = walk.count("tensors", TENSOR_BYTES)?;
    let key_count = walk.count("keys", KEY_BYTES)?;
    let mut metadata = BTreeMap::new();
    let mut kept = 0usize;
    for _ in 0..key_count {
        let Some((key, value)) = entry(&mut walk)? else { continue };
        kept = kept.saturating_add(key.len()).saturating_add(value.size());
        if kept > MAX_KEPT {
            return Err(too_much());
        }
        if metadata.contains_key(&key) {
            return Err(damaged(Code::GgufTwice, &key, "the key", "is there twice"));
        }
        metadata.insert(key, value);
    }
    let mut header = Header { version, metadata, tensors: Tensors::default(), len: 0, missing: 0 };
    let alignment = header.number("general.alignment").filter(|&alignment| alignment > 0).unwrap_or(ALIGNMENT);
    let mut data = Data { alignment, all: Some(Exact::ZERO), last: (0, String::new()) };
    for _ in 0..tensor_count {
        tensor(&mut walk, &mut header.tensors, &mut data)?;
    }
    (header.len, header.missing) = (walk.position(), data.missing(walk.position(), len)?);
    Ok(header)
}

/// Where the data of the tensors lies, as they say.
struct Data {
    alignment: u64,
    /// Bytes of all of them, each filled up to the alignment; `None` with a type of unknown size.
    all: Option<Exact>,
    /// The end of the one that ends last, and its name.
    last: (u64, String),
}

impl Data {
    fn add(&mut self, name: &str, offset: u64, bytes: Option<u64>) -> Result<(), Error> {
        let Some(bytes) = bytes else {
            self.all = None;
            return Ok(());
        };
        self.all = self.all.map(|all| all + Exact::from(bytes).round_up_to(self.alignment));
        let end = within_limit(name, Exact::from(offset) + bytes)?;
        if let Some(all) = self.all {
            within_limit(name, all)?;
        }
        if end > self.last.0 {
            self.last = (end, name.to_owned());
        }
        Ok(())
    }

    /// What of it lies past the end of a file of `len` bytes, whose header ends at `position`. Tensors follow on one another:
    /// one that ends past what all take is an error.
    fn missing(self, position: u64, len: u64) -> Result<u64, Error> {
        let (end, name) = self.last;
        if end == 0 {
            return Ok(0);
        }
        if self.all.is_some_and(|all| all.get().is_ok_and(|all| end > all)) {
            return Err(tensor_error(&name, "lies past the end of the data of all tensors"));
        }
        within_limit(&name, (Exact::from(position).round_up_to(self.alignment) + end).less(len))
    }
}

fn within_limit(name: &str, number: Exact) -> Result<u64, Error> {
    number.get().map_err(|_| tensor_error(name, "lies past 2^64 - 1 bytes"))
}

const MAGIC: &str = "the magic";
const KEY: &str = "a key";
const VALUE: &str = "a value";
const TENSOR: &str = "the description of a tensor";
/// The least that a key takes: the length of its name, its type, and a byte.
const KEY_BYTES: u64 = 13;
/// The least that the description of a tensor takes: the length of its name, its dimensions, type and offset.
const TENSOR_BYTES: u64 = 24;

/// A key and its value; none if it is of no use here.
fn entry<R: Read + Seek>(walk: &mut Walk<R>) -> Result<Option<(String, Value)>, Error> {
    let len = walk.count("bytes of a key", 1)?;
    let key = short_text(walk, len, KEY)?.unwrap_or_default();
    let wanted = !key.is_empty() && !key.starts_with("tokenizer.");
    let kind = walk.u32(VALUE)?;
    let value = match kind {
        STRING => {
            let len = walk.count("bytes of a text", 1)?;
            let text = short_text(walk, len, VALUE)?;
            text.map_or_else(|| Value::Other(format!("a text of {len} bytes")), Value::Text)
        }
        ARRAY => list(walk, &key)?,
        _ => scalar(walk, kind)?.ok_or_else(|| value_type(&key, kind))?,
    };
    Ok(wanted.then_some((key, value)))
}

/// A text of `len` bytes; `None` where it is too long to be kept.
fn short_text<R: Read + Seek>(walk: &mut Walk<R>, len: u64, what: &'static str) -> Result<Option<String>, Error> {
    if len <= MAX_TEXT { walk.text(len, what).map(Some) } else { walk.skip(len, what).map(|()| None) }
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// The bytes of a value of fixed size.
fn size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// A value of fixed size; none if there is no such type.
fn scalar<R: Read + Seek>(walk: &mut Walk<R>, kind: u32) -> Result<Option<Value>, Error> {
    Ok(Some(match kind {
        0 => Value::Integer(u8::from_le_bytes(walk.bytes(VALUE)?).into()),
        1 => Value::Integer(i8::from_le_bytes(walk.bytes(VALUE)?).into()),
        2 => Value::Integer(u16::from_le_bytes(walk.bytes(VALUE)?).into()),
        3 => Value::Integer(i16::from_le_bytes(walk.bytes(VALUE)?).into()),
        4 => Value::Integer(u32::from_le_bytes(walk.bytes(VALUE)?).into()),
        5 => Value::Integer(i32::from_le_bytes(walk.bytes(VALUE)?).into()),
        6 => Value::Float(f32::from_le_bytes(walk.bytes(VALUE)?).into()),
        7 => Value::Integer((u8::from_le_bytes(walk.bytes(VALUE)?) != 0).into()),
        10 => Value::Integer(u64::from_le_bytes(walk.bytes(VALUE)?).into()),
        11 => Value::Integer(i64::from_le_bytes(walk.bytes(VALUE)?).into()),
        12 => Value::Float(f64::from_le_bytes(walk.bytes(VALUE)?)),
        _ => return Ok(None),
    }))
}

/// A list: kept if it is short and of whole numbers, else stepped over, texts one by one.
fn list<R: Read + Seek>(walk: &mut Walk<R>, key: &str) -> Result<Value, Error> {
    let kind = walk.u32(VALUE)?;
    match kind {
        STRING => {
            let count = walk.count("texts of a list", 8)?;
            walk.skip_texts(count, VALUE)?;
            Ok(Value::Other(format!("{count} texts")))
        }
        ARRAY => Err(damaged(Code::GgufNested, key, "a list", "is a list of lists")),
        _ => {
            let bytes = size(kind).ok_or_else(|| value_type(key, kind))?;
            let count = walk.u64(VALUE)?;
            let len = walk.within(count, "entries of a list", bytes)?;
            if count > MAX_LIST || matches!(kind, 6 | 12) {
                walk.skip(len, VALUE)?;
                return Ok(Value::Other(format!("{count} entries")));
            }
            let mut entries = Vec::new();
            for _ in 0..count {
                if let Some(Value::Integer(value)) = scalar(walk, kind)? {
                    entries.push(i64::try_from(value).unwrap_or(i64::MAX));
                }
            }
            Ok(Value::List(entries))
        }
    }
}

/// The description of a tensor.
fn tensor<R: Read + Seek>(walk: &mut Walk<R>, tensors: &mut Tensors, data: &mut Data) -> Result<(), Error> {
    let len = walk.count("bytes of the name of a tensor", 1)?;
    let name = short_text(walk, len, TENSOR)?.unwrap_or_else(|| "a tensor".into());
    let dimensions = walk.u32(TENSOR)?;
    if dimensions > 4 {
        return Err(tensor_error(&name, format!("has {dimensions} dimensions, and ggml no more than 4")));
    }
    let sizes = (0..dimensions).map(|_| walk.u64(TENSOR)).collect::<Result<Vec<_>, _>>()?;
    let kind = walk.u32(TENSOR)?;
    let offset = walk.u64(TENSOR)?;
    let bytes = tensors.add(&name, kind, &sizes).map_err(|reason| tensor_error(&name, reason))?;
    data.add(&name, offset, bytes)?;
    if name.contains(".nextn.") && tensors.nextn.len() < MAX_NEXTN {
        tensors.nextn.push(name);
    }
    Ok(())
}

/// Names of tensors that are kept.
const MAX_NEXTN: usize = 1024;

// Bytes and parameters of the tensors of a file, by type, from their descriptions alone.

/// The types of tensors, a line each: number, name, elements of a block and bytes of one (`ggml/include/ggml.h`,
/// `ggml/src/ggml-common.h` of ggml 0.26.0).
const TYPES: &str = include_str!("types.txt");

/// A type of tensors.
struct TensorType {
    name: &'static str,
    elements_per_block: u64,
    bytes_per_block: u64,
}

impl TensorType {
    /// The type of a number; a test holds that every line is one.
    fn numbered(id: u32) -> Option<Self> {
        TYPES.lines().find_map(|line| {
            let mut words = line.split(' ');
            let number: u32 = words.next()?.parse().ok()?;
            let (name, mut counts) = (words.next()?, words.map_while(|count| count.parse().ok()));
            let (elements_per_block, bytes_per_block) = (counts.next()?, counts.next()?);
            (number == id).then_some(Self { name, elements_per_block, bytes_per_block })
        })
    }
}

/// The tensors of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tensors {
    /// How many.
    pub count: u64,
    /// Their elements.
    pub parameters: u64,
    /// Elements in experts that tokens are sent to: of tensors named `…_exps…`.
    pub routed: u64,
    /// The same by type, in the order of first appearance.
    pub types: Vec<DtypeWeights>,
    /// The names of those of MTP layers.
    pub nextn: Vec<String>,
}

impl Tensors {
    /// Adds a tensor of these dimensions, the first of which is that of rows, and gives its bytes, if they are known; the reason
    /// if there can be no such tensor.
    pub(super) fn add(&mut self, name: &str, id: u32, dimensions: &[u64]) -> Result<Option<u64>, String> {
        let too_many = |_| "has more than 2^64 - 1 elements or bytes".to_owned();
        let elements = dimensions.iter().fold(Exact::ONE, |product, &dimension| product * dimension);
        let (dtype, bytes) = match TensorType::numbered(id) {
            Some(TensorType { name, elements_per_block, bytes_per_block }) => {
                let row = dimensions.first().copied().unwrap_or(1);
                if !row.is_multiple_of(elements_per_block) {
                    return Err(format!("has rows of {row} elements, which blocks of {name} do not divide"));
                }
                (name.to_owned(), Some((elements / elements_per_block * bytes_per_block).get().map_err(too_many)?))
            }
            None => (format!("type {id}"), None),
        };
        let elements = elements.get().map_err(too_many)?;
        let routed = if name.contains("_exps.") { elements } else { 0 };
        let share = DtypeWeights { dtype, tensors: Some(1), parameters: elements, bytes: bytes.map(Bytes) };
        let one = Self { count: 1, parameters: elements, routed, types: vec![share], nextn: Vec::new() };
        self.merge(one).map_err(too_many)?;
        Ok(bytes)
    }

    /// Adds other tensors of the same file, or those of another part of it.
    pub(in crate::source) fn merge(&mut self, other: Self) -> Result<(), Error> {
        self.count = (Exact::from(self.count) + other.count).get()?;
        self.parameters = (Exact::from(self.parameters) + other.parameters).get()?;
        self.routed = (Exact::from(self.routed) + other.routed).get()?;
        for share in other.types {
            share.add_to(&mut self.types)?;
        }
        self.nextn.extend(other.nextn);
        Ok(())
    }

    /// All bytes; none if there is a type that is not known here.
    pub fn bytes(&self) -> Option<u64> {
        let bytes: Option<Exact> = self.types.iter().map(|share| share.bytes.map(Exact::from)).sum();
        bytes?.get().ok()
    }
}

pub(in crate::source) fn too_much() -> Error {
    damaged(Code::GgufTooMuch, "", "the metadata", "is more than any model has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_type_of_its_own() {
        let numbers: Vec<u32> = TYPES.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        for (id, line) in numbers.into_iter().zip(TYPES.lines()) {
            let TensorType { name, elements_per_block, bytes_per_block } = TensorType::numbered(id).unwrap();
            assert_eq!(format!("{id} {name} {elements_per_block} {bytes_per_block}"), line);
            assert!(elements_per_block > 0 && bytes_per_block > 0);
        }
    }
}
