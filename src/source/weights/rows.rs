//! The tensors of a class as rows of data, and the sizes that a configuration gives them.
//!
//! Read from the `nn.Linear`, `nn.Embedding`, `nn.Parameter` and norms of transformers 5.23, `models/NAME/modeling_NAME.py`;
//! Kimi-VL's tower from `models/kimi_vl.py` and `models/moonvit.py` of vLLM 0.19. Each class meets a published total:
//! `tests/golden/totals.jsonl` lists them.
//!
//! A size is a sum of products (`/` divides and rounds down, `a&b` is the smaller, `condition?a:b` one of two) of whole numbers, of names of `let`, and of keys of the
//! configuration. `key|size` is the size where the key has no value; `root.key` is outside the vision tower's object, and
//! `#key` is the length of a list. A condition is a key that is true or false: `key|true` where it is true by default, `!`
//! before one that must be false, `?` before a key that must have a number above 0.
//!
//! `gguf` is the name of a matrix in a GGUF file, without its layer and `.weight`: llama.cpp chooses the types of its file
//! types by it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::TOO_LARGE;
use super::layers::{Layers, MtpLayers, On, Sparse, States};
use crate::catalogue::line_naming;
use crate::model::{Kind, Shape};
use crate::source::hf_config::{HEAD_DIM, HEADS, HIDDEN, KV_HEADS, Keys};
use crate::units::Exact;

pub(super) const CLASSES: &str = include_str!("classes.jsonl");
pub(super) const TOWERS: &str = include_str!("towers.jsonl");
pub(super) const BLOCKS: &str = include_str!("blocks.jsonl");

/// A class with its own tensors and those of the blocks it consists of: a text model, or a vision tower with its projector.
/// A block is one, too.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Class {
    /// The values of `model_type`.
    names: Vec<String>,
    /// `tie_word_embeddings` where the file does not say.
    pub(super) tied: bool,
    /// The values of keys for which the tensors are known; null: the key may be missing.
    only: BTreeMap<String, Vec<Value>>,
    /// The layers with experts.
    pub(super) sparse: Option<Sparse>,
    /// Layers with attention and a state.
    pub(super) states: States,
    /// The layers that predict further tokens.
    pub(super) mtp: Option<MtpLayers>,
    /// Values of keys that published files leave out.
    defaults: BTreeMap<String, u64>,
    blocks: Vec<String>,
    /// Names for sizes and conditions. Those of the class override those of its blocks.
    #[serde(rename = "let")]
    names_of_sizes: BTreeMap<String, String>,
    /// Where the tensors are that do not say it themselves.
    on: Option<On>,
    pub(super) tensors: Vec<Tensor>,
    #[serde(rename = "note")]
    _note: String,
}

/// Where weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Storage {
    /// The files of the checkpoint.
    Checkpoint,
    /// A GGUF file.
    Gguf,
}

/// Tensors of one shape.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Tensor {
    pub(super) on: Option<On>,
    #[serde(rename = "if")]
    condition: Option<String>,
    kind: Kind,
    /// The name in a GGUF file.
    gguf: Option<String>,
    /// The name in the checkpoint's layers, where it is not a usual one.
    module: Option<String>,
    /// What engines join it into, with the rows beside it of the same name: q, k and v are one tensor there.
    join: Option<String>,
    /// Columns there, where its converter reshapes the matrix.
    gguf_columns: Option<String>,
    /// Rows there, where its converter drops or adds some.
    gguf_rows: Option<String>,
    /// The one of checkpoint and GGUF file that has it, if only one does.
    only: Option<Storage>,
    /// Whether the file stacks matrices in a third dimension, as it does experts.
    stacked: bool,
    /// How many there are, 1 by default.
    count: Option<String>,
    /// Rows (or columns: the bytes are the same) that tensor-parallel ranks divide.
    divided: Option<String>,
    /// Rows that ranks divide by KV heads.
    by_kv_heads: Option<String>,
    /// Rows that each rank has.
    whole: Option<String>,
    /// 1 by default.
    columns: Option<String>,
    /// The KV heads, or groups of a state, that divide `by_kv_heads`; `kv_heads` by default.
    kv_heads: Option<String>,
}

impl Class {
    pub(super) fn load(rows: &str, name: &str) -> Option<Self> {
        let mut row = Self::named(rows, name)?;
        let mut names = BTreeMap::new();
        let mut tensors = Vec::new();
        for block in &row.blocks {
            let block = Self::named(BLOCKS, block)?;
            names.extend(block.names_of_sizes);
            tensors.extend(block.tensors);
        }
        names.append(&mut row.names_of_sizes);
        tensors.append(&mut row.tensors);
        Some(Self { names_of_sizes: names, tensors, ..row })
    }

    fn named(rows: &str, name: &str) -> Option<Self> {
        line_naming(rows, name, |line| {
            let mut row: Self = serde_json::from_str(line).ok()?;
            for tensor in &mut row.tensors {
                tensor.on = tensor.on.or(row.on);
            }
            row.names.iter().any(|known| known == name).then_some(row)
        })
    }

    /// Whether a name in `architectures` is of this class: `Qwen3MoeForCausalLM` is of `qwen3_moe`.
    pub(super) fn is_named(&self, architecture: &str, suffix: &str) -> bool {
        let plain = |name: &str| name.trim_end_matches("_text").replace('_', "").to_lowercase();
        let name = architecture.strip_suffix(suffix).map(plain);
        self.names.iter().any(|known| Some(plain(known)) == name)
    }

    /// The number of its MTP layers.
    pub(super) fn mtp_layers(&self, keys: &Keys<'_>) -> Result<u32, String> {
        self.mtp.as_ref().map_or(Ok(0), |mtp| mtp.count(keys))
    }

    /// Whether it has tensors there.
    pub(super) fn is_on(&self, on: On) -> bool {
        self.tensors.iter().any(|tensor| tensor.on == Some(on))
    }
}

/// What the names in sizes and conditions mean.
pub(super) struct Scope<'a> {
    class: &'a Class,
    keys: &'a Keys<'a>,
    root: &'a Keys<'a>,
    /// Names that are not of the class.
    constants: BTreeMap<&'static str, String>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(class: &'a Class, keys: &'a Keys<'a>, root: &'a Keys<'a>) -> Self {
        Self { class, keys, root, constants: BTreeMap::new() }
    }

    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.constants.insert(name, value);
        self
    }

    fn named(&self, name: &str) -> Option<&str> {
        self.constants.get(name).or_else(|| self.class.names_of_sizes.get(name)).map(String::as_str)
    }

    /// Whether the class has a size of this name.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.named(name).is_some()
    }

    /// Refuses settings with which a class has other tensors than its row has.
    pub(super) fn check(&self, named: &str) -> Result<(), String> {
        for (key, values) in &self.class.only {
            let (keys, name) = self.locate(key);
            if !values.contains(keys.get(name).unwrap_or(&Value::Null)) {
                let known = values.last().unwrap_or(&Value::Null);
                let field = keys.field(name);
                return Err(format!("{field} is not {known}, and what tensors {named} has then is not known here"));
            }
        }
        Ok(())
    }

    /// The tensors of the class as they are stored there.
    pub(super) fn shapes(&self, layers: &Layers, storage: Storage) -> Result<Vec<Shape>, String> {
        let mut shapes = Vec::new();
        for tensor in self.class.tensors.iter().filter(|tensor| tensor.only.is_none_or(|only| only == storage)) {
            let Some(place) = layers.place(tensor.on.unwrap_or_default()) else { continue };
            if let Some(condition) = &tensor.condition
                && !self.holds(condition)?
            {
                continue;
            }
            let size = |size: &Option<String>, default| size.as_ref().map_or(Ok(default), |size| self.size(size));
            let rows = if storage == Storage::Gguf { &tensor.gguf_rows } else { &None };
            let (divided, whole) = match rows {
                Some(_) => (rows, &None),
                None => (&tensor.divided, &tensor.whole),
            };
            let by_kv_heads = size(&tensor.by_kv_heads, 0)?;
            let kv_heads = tensor.kv_heads.as_deref().unwrap_or("kv_heads");
            let shape = Shape {
                place,
                kind: tensor.kind,
                count: size(&tensor.count, 1)?,
                matrices: if tensor.kind == Kind::Expert { self.experts()? } else { 1 },
                divided: size(divided, 0)?,
                by_kv_heads,
                num_key_value_heads: if by_kv_heads > 0 { self.size(kv_heads)? } else { 1 },
                whole: size(whole, 0)?,
                columns: size(&tensor.columns, 1)?,
                gguf: tensor.gguf.clone(),
                module: tensor.module.clone(),
                join: tensor.join.clone(),
                gguf_columns: size(&tensor.gguf_columns, 0)?,
                stacked: tensor.stacked || tensor.kind == Kind::Expert,
                encoding: None,
            };
            if shape.parameters() != Exact::ZERO {
                shapes.push(shape);
            }
        }
        Ok(shapes)
    }

    /// Experts of a layer.
    fn experts(&self) -> Result<u64, String> {
        if self.has_name("experts") { self.size("experts") } else { Ok(1) }
    }

    pub(super) fn size(&self, size: &str) -> Result<u64, String> {
        self.value(size)?.get().map_err(|_| TOO_LARGE.into())
    }

    fn value(&self, size: &str) -> Result<Exact, String> {
        if let Some((condition, (one, other))) =
            size.split_once('?').and_then(|(condition, values)| Some((condition, values.split_once(':')?)))
        {
            return self.value(if self.holds(condition)? { one } else { other });
        }
        if let Some((key, other)) = size.split_once('|') {
            return self.count(key)?.map_or_else(|| self.value(other), |value| Ok(value.into()));
        }
        if let Some((one, other)) = size.split_once('&') {
            return Ok(self.value(one)?.min(self.value(other)?));
        }
        size.split('+').map(|product| self.product(product)).sum()
    }

    fn product(&self, text: &str) -> Result<Exact, String> {
        let mut product = Exact::ONE;
        for factors in text.split('*') {
            let mut factors = factors.split('/');
            product = product * self.factor(factors.next().unwrap_or_default())?;
            for divisor in factors {
                product = product / self.factor(divisor)?;
            }
        }
        Ok(product)
    }

    fn factor(&self, name: &str) -> Result<Exact, String> {
        if let Ok(number) = name.parse::<u64>() {
            return Ok(number.into());
        }
        match name {
            "adjusted_width" => return self.adjusted_width(),
            "ngram_heads" => return Ok((self.value("ngram_size")? - 1u64) * self.value("heads_per_ngram")?),
            "ngram_rows" => return self.ngram_rows(),
            "altup_num_inputs_less_one" => return Ok(self.value("altup_num_inputs")? - 1u64),
            _ => {}
        }
        match self.named(name) {
            Some(size) => self.value(size),
            None => self.count(name)?.map(Exact::from).ok_or_else(|| {
                let (keys, name) = self.locate(name);
                missing(keys, name)
            }),
        }
    }

    /// The width of LFM2's feed-forward: two thirds of the one given, rounded up to a multiple.
    fn adjusted_width(&self) -> Result<Exact, String> {
        let width = self.value("intermediate_size")?;
        if !self.holds("block_auto_adjust_ff_dim|true")? {
            return Ok(width);
        }
        Ok((width * 2u64 / 3u64).round_up_to(self.value("block_multiple_of|256")?))
    }

    /// The rows of a table of n-grams: for each head a prime number from the base on, rounded up together
    /// (`_find_nth_prime_after` in transformers 5.24, `models/qwen4_exp/modeling_qwen4_exp.py`).
    fn ngram_rows(&self) -> Result<Exact, String> {
        const MOST_HEADS: u64 = 1 << 6;
        const MOST: u64 = 1 << 28;
        let (heads, base) = (self.size("ngram_heads")?, self.size("ngram_vocab_size_base")?);
        if heads > MOST_HEADS || base > MOST {
            return Err("its table of n-grams is larger than any model's".into());
        }
        let is_prime = |number: u64| {
            let mut divisors = (2u64..).take_while(|divisor| divisor.saturating_mul(*divisor) <= number);
            number > 1 && !divisors.any(|divisor| number.is_multiple_of(divisor))
        };
        let wanted = usize::try_from(heads).unwrap_or(usize::MAX);
        let rows: Exact = (base..).filter(|&number| is_prime(number)).take(wanted).sum();
        Ok(rows.round_up_to(self.value("make_ngram_vocab_size_divisible_by|128")?))
    }

    /// The object that a key is in, and its name there.
    fn locate<'b>(&self, key: &'b str) -> (&'a Keys<'a>, &'b str) {
        let key = key.trim_start_matches('#');
        key.strip_prefix("root.").map_or((self.keys, key), |key| (self.root, key))
    }

    /// The number of a key, its default in the class, or the length of its list.
    fn count(&self, key: &str) -> Result<Option<u64>, String> {
        let default = self.class.defaults.get(key).filter(|_| !self.keys.object.contains_key(key));
        if let Some(&default) = default {
            return Ok(Some(default));
        }
        let (keys, name) = self.locate(key);
        if key.starts_with('#') {
            let list = keys.get(name).and_then(Value::as_array);
            return Ok(list.and_then(|list| u64::try_from(list.len()).ok()));
        }
        if let Some((object, inner)) = name.split_once('.') {
            return Ok(keys.get(object).and_then(|object| object.get(inner)?.as_u64()));
        }
        if let Some(same) = keys.get(name).and_then(Value::as_array).and_then(|list| same_number(list)) {
            return Ok(Some(same));
        }
        let spellings = [HIDDEN, HEADS, KV_HEADS, HEAD_DIM].into_iter().find(|names| names.contains(&name));
        let given = keys.count_or_default(spellings.unwrap_or(&[name]));
        Ok(given.map_err(|error| error.to_string())?.map(|dimension| dimension.value))
    }

    fn holds(&self, condition: &str) -> Result<bool, String> {
        if let Some(other) = condition.strip_prefix('!') {
            return Ok(!self.holds(other)?);
        }
        if let Some(key) = condition.strip_prefix('?') {
            return Ok(self.count(key)?.is_some_and(|count| count > 0));
        }
        let condition = self.named(condition).unwrap_or(condition);
        if let Ok(constant) = condition.parse() {
            return Ok(constant);
        }
        let (key, default) = condition.split_once('|').unwrap_or((condition, "false"));
        let (keys, name) = self.locate(key);
        match keys.get(name) {
            None => Ok(default == "true"),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{} is not true or false", keys.field(name))),
        }
    }
}

/// The number that all entries of a list are: keys of some classes have one a layer.
fn same_number(list: &[Value]) -> Option<u64> {
    let first = list.first()?.as_u64()?;
    list.iter().all(|entry| entry.as_u64() == Some(first)).then_some(first)
}

pub(super) fn missing(keys: &Keys<'_>, key: &str) -> String {
    format!("{} is not in the config", keys.field(key))
}
