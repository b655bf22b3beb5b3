//! A line of a batch to its answer. Its keys are the options of one estimate in `snake_case`, and it is answered as these
//! options are: it is turned into them, and goes the way that a command line goes.
//!
//! That way is long. What does not depend on the numbers that differ from line to line (tokens, sequences, memory) is kept as a
//! [`Context`] for the lines that say the same of all else; the second such line costs its estimate and little more.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{ArgAction, ArgMatches, Args, Command};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::args::{DeviceArguments, SpecArguments, WorkloadArguments};
use super::estimate::{Places, drafted, named_or_spec, needs_encoder, past_maximum};
use super::failure::{self, Failure};
use super::{lengths, levers, refuse_warnings, settings, single, typed};
use crate::engine::{Engine, OwnLengths, PROFILES, Prepared, ValueKind};
use crate::estimate::Workload;
use crate::model::Model;
use crate::report::BatchFrame;
use crate::source;
use crate::units::{Bytes, Diagnosis, Tokens};

/// A hash of short texts: a step for each eight bytes, a fifth of what std's costs. It does not withstand keys that are chosen
/// to collide, which slow their own batch down and nothing else.
#[derive(Debug, Default)]
struct ShortHasher(u64);

impl Hasher for ShortHasher {
    fn write(&mut self, bytes: &[u8]) {
        /// 2⁶⁴ over the golden ratio, odd.
        const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            let mixed = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(FACTOR);
            self.0 = mixed ^ (mixed >> 32);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A map by short texts.
type ByText<K, V> = HashMap<K, V, BuildHasherDefault<ShortHasher>>;

/// What a line may say beside its model and its `id`.
#[derive(Debug, Args)]
struct LineArguments {
    #[arg(value_name = "MODEL")]
    models: Vec<String>,
    #[command(flatten)]
    spec: SpecArguments,
    #[command(flatten)]
    workload: WorkloadArguments,
    #[command(flatten)]
    device: DeviceArguments,
}

/// What a value is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A number.
    Number,
    /// A number, or a text with a unit: tokens, bytes.
    Size,
    /// A text.
    Text,
    /// A text, or a list of texts.
    Texts,
    /// A model: a text, or an object.
    Model,
    /// True or false.
    Switch,
}

/// A key of a line.
#[derive(Debug)]
struct Key {
    /// The option it is, without the dashes; of a switch, the one that switches it on.
    option: String,
    /// Of a switch, the option that switches it off, if there is one.
    off: Option<&'static str>,
    kind: Kind,
}

/// Where a key's value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Id,
    SeqLen,
    Batch,
    Memory,
    EncoderLen,
    SharedPrefix,
    /// The key of this number; it is another name that says the opposite.
    Other(u8, bool),
    Unknown,
}

impl Place {
    /// The bit that tells whether it was met before.
    fn bit(self) -> u8 {
        match self {
            Self::Id => 255,
            Self::SeqLen => 254,
            Self::Batch => 253,
            Self::Memory => 252,
            Self::EncoderLen => 251,
            Self::SharedPrefix => 250,
            Self::Other(number, _) => number,
            Self::Unknown => 249,
        }
    }
}

/// All keys of a line.
#[derive(Debug)]
struct Keys {
    keys: Vec<Key>,
    names: ByText<String, Place>,
}

impl Keys {
    /// The keys that the options of `command` make.
    fn of(command: &Command) -> Self {
        let mut keys = Self { keys: Vec::new(), names: ByText::default() };
        keys.add(Key { option: "MODEL".into(), off: None, kind: Kind::Model }, ["model"]);
        for setting in PROFILES.iter().flat_map(|profile| profile.settings) {
            let ValueKind::Switch { off } = setting.kind else { continue };
            if keys.names.contains_key(&key_of(setting.name)) {
                continue;
            }
            let short = setting.name.strip_prefix("enable-").unwrap_or(setting.name);
            let key = Key { option: setting.name.into(), off: Some(off), kind: Kind::Switch };
            let place = keys.add(key, [setting.name, setting.alias, short]);
            if let Place::Other(number, _) = place {
                keys.names.insert(key_of(off), Place::Other(number, true));
            }
        }
        for argument in command.get_arguments() {
            let Some(name) = argument.get_long() else { continue };
            if keys.names.contains_key(&key_of(name)) || ["help", "version"].contains(&name) {
                continue;
            }
            let value = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
            let kind = match value {
                _ if matches!(argument.get_action(), ArgAction::SetTrue) => Kind::Switch,
                "N" | "BITS" | "RATIO" => Kind::Number,
                "TOKENS" | "BYTES" => Kind::Size,
                "CONFIG" => Kind::Model,
                "[Nx]GPU" => Kind::Texts,
                // Words that are numbers may be written as such.
                _ if argument.get_possible_values().iter().any(|word| word.get_name().parse::<i64>().is_ok()) => {
                    Kind::Size
                }
                _ => Kind::Text,
            };
            let aliases = argument.get_visible_aliases().unwrap_or_default();
            keys.add(Key { option: name.into(), off: None, kind }, [name].into_iter().chain(aliases));
        }
        for (name, place) in [
            ("seq_len", Place::SeqLen),
            ("batch", Place::Batch),
            ("memory", Place::Memory),
            ("encoder_len", Place::EncoderLen),
            ("shared_prefix", Place::SharedPrefix),
        ] {
            let Some(&old) = keys.names.get(name) else { continue };
            keys.names.values_mut().filter(|known| **known == old).for_each(|known| *known = place);
        }
        keys.names.insert("id".into(), Place::Id);
        keys
    }

    fn add<'a>(&mut self, key: Key, names: impl IntoIterator<Item = &'a str>) -> Place {
        // A test holds that there are fewer; past them a key would be unknown, and not another.
        let number = u8::try_from(self.keys.len()).unwrap_or(u8::MAX);
        let place = Place::Other(number, false);
        self.keys.push(key);
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            self.names.insert(key_of(name), place);
        }
        place
    }

    /// Where the value of a key goes. The names that most lines have are met without a look-up.
    fn place(&self, name: &str) -> Place {
        match name {
            "seq_len" => Place::SeqLen,
            "batch" => Place::Batch,
            "id" => Place::Id,
            "memory" => Place::Memory,
            "model" => Place::Other(0, false),
            _ => self.names.get(name).copied().unwrap_or(Place::Unknown),
        }
    }

    /// What the key of this name is.
    fn key(&self, name: &str) -> Option<(&Key, bool)> {
        let option = |option: &str| self.keys.iter().find(|key| key.option == option).map(|key| (key, false));
        match self.place(name) {
            Place::Id | Place::Unknown => None,
            Place::SeqLen => option("seq-len"),
            Place::Batch => option("batch"),
            Place::Memory => option("memory"),
            Place::EncoderLen => option("encoder-len"),
            Place::SharedPrefix => option("shared-prefix"),
            Place::Other(number, opposite) => Some((self.keys.get(usize::from(number))?, opposite)),
        }
    }

    /// The key, or the one of `own`, that is nearest to a name, if one is near.
    fn nearest<'a>(&'a self, name: &str, own: &[&'a str]) -> Option<&'a str> {
        // What is no option is told by `own` alone.
        let options = self.names.iter().filter(|(_, place)| **place != Place::Id).map(|(name, _)| name.as_str());
        let known = options.chain(own.iter().copied());
        let alike = known.map(|known| (strsim::jaro_winkler(known, name), known));
        let nearest = alike.max_by(|(a, known), (b, other)| a.total_cmp(b).then_with(|| other.cmp(known)));
        nearest.filter(|(likeness, _)| *likeness > ALIKE).map(|(_, known)| known)
    }
}

/// The key of an option.
fn key_of(option: &str) -> String {
    option.replace('-', "_")
}

/// The field of an error under the name that a line has for it: `--kv-dtype` is `kv_dtype`.
pub(super) fn field_of(field: &str) -> String {
    let word = |word: &str| match word.strip_prefix("--") {
        Some(option) => key_of(option),
        None if word == "MODEL" => "model".into(),
        None => word.to_owned(),
    };
    field.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// What a line says, as far as a first look goes: the numbers that differ from line to line.
#[derive(Debug, Default)]
struct Said<'a> {
    id: Option<&'a RawValue>,
    seq_len: Option<&'a str>,
    batch: Option<&'a str>,
    memory: Option<&'a str>,
    encoder_len: Option<&'a str>,
    shared_prefix: Option<&'a str>,
    /// The keys that were met.
    met: [u128; 2],
    /// A key is not known, or was met before.
    odd: bool,
}

impl<'a> Said<'a> {
    fn take(&mut self, place: Place, raw: &'a RawValue, lenient: bool, rest: &mut Vec<u8>) {
        if place == Place::Unknown {
            self.odd |= !lenient;
            return;
        }
        let bit = place.bit();
        let (word, mask) = (usize::from(bit >> 7), 1u128 << (bit & 127));
        if let Some(word) = self.met.get_mut(word) {
            self.odd |= *word & mask != 0;
            *word |= mask;
        }
        let text = raw.get();
        if place == Place::Id {
            self.id = Some(raw);
            return;
        }
        // What is null is not given.
        if text == "null" {
            return;
        }
        match place {
            Place::SeqLen => self.seq_len = Some(text),
            Place::Batch => self.batch = Some(text),
            Place::Memory => self.memory = Some(text),
            Place::EncoderLen => self.encoder_len = Some(text),
            Place::SharedPrefix => self.shared_prefix = Some(text),
            Place::Other(number, opposite) => {
                rest.extend_from_slice(&[number, u8::from(opposite)]);
                rest.extend_from_slice(text.as_bytes());
                // No value has a raw line feed in it.
                rest.push(b'\n');
            }
            Place::Id | Place::Unknown => {}
        }
    }

    /// Which of the numbers are given.
    fn given(&self) -> u8 {
        let bit = |number: Option<&str>, bit: u8| u8::from(number.is_some()) << bit;
        bit(self.seq_len, 0)
            | bit(self.batch, 1)
            | bit(self.memory, 2)
            | bit(self.encoder_len, 3)
            | bit(self.shared_prefix, 4)
    }

    /// The workload with the numbers of this line; none if one of them is no such number.
    fn workload(&self, of: &Workload) -> Option<Workload> {
        let tokens = |raw: Option<&str>| raw.map(|raw| size(raw, |text| text.parse().map(|Tokens(n)| n).ok()));
        let given = |raw: Option<&str>, known| match tokens(raw) {
            Some(tokens) => tokens.filter(|&tokens| tokens > 0).map(|tokens| Some(Tokens(tokens))),
            None => Some(known),
        };
        Some(Workload {
            seq_len: given(self.seq_len, Some(of.seq_len))??,
            batch: match self.batch {
                Some(raw) => whole(raw).filter(|&batch| batch > 0)?,
                None => of.batch,
            },
            memory: match self.memory {
                Some(raw) => Some(Bytes(size(raw, |text| text.parse().map(|Bytes(n)| n).ok())?)),
                None => of.memory,
            },
            encoder_len: given(self.encoder_len, of.encoder_len)?,
            shared_prefix: given(self.shared_prefix, of.shared_prefix)?,
            ..*of
        })
    }
}

/// A whole number as it is written.
fn whole(raw: &str) -> Option<u64> {
    if raw.bytes().all(|byte| byte.is_ascii_digit()) { raw.parse().ok() } else { None }
}

/// A whole number, or a text that `read` reads.
fn size(raw: &str, read: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    match raw.strip_prefix('"') {
        Some(rest) => read(rest.strip_suffix('"')?),
        None => whole(raw),
    }
}

/// Reads a line at a first look.
struct FirstLook<'s, 'a> {
    keys: &'s Keys,
    lenient: bool,
    said: &'s mut Said<'a>,
    rest: &'s mut Vec<u8>,
}

impl<'a> DeserializeSeed<'a> for FirstLook<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for FirstLook<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(place) = map.next_key_seed(Name(self.keys))? {
            let raw: &RawValue = map.next_value()?;
            self.said.take(place, raw, self.lenient, self.rest);
        }
        Ok(())
    }
}

/// Reads the name of a key, and keeps only where its value goes.
struct Name<'s>(&'s Keys);

impl<'a> DeserializeSeed<'a> for Name<'_> {
    type Value = Place;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Place, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Place, E> {
        Ok(self.0.place(name))
    }
}

/// All that a line says, in its order.
pub(super) struct Pairs<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'a> de::Deserialize<'a> for Pairs<'a> {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfPairs;
        impl<'a> Visitor<'a> for OfPairs {
            type Value = Pairs<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Pairs<'a>, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(OfPairs)
    }
}

/// What lines that differ only in their numbers have in common.
struct Context {
    model: Arc<Model>,
    engine: Engine,
    prepared: Prepared,
    /// With the numbers of the line that it was made for.
    workload: Workload,
    frame: BatchFrame,
    assumptions: Vec<String>,
    warnings: Vec<String>,
    /// Whether it is of the numbers of that line alone.
    of_its_numbers: bool,
}

/// What is known of lines with the same rest.
enum Known {
    Context(Rc<Context>),
    /// Their numbers change more than the workload.
    OfTheirNumbers,
}

/// A cache that is emptied when it is full: what is asked again is found again.
struct Cache<T> {
    entries: ByText<Vec<u8>, T>,
    weight: usize,
}

/// About the bytes that a cache may hold.
const CACHE_BYTES: usize = 32 << 20;

impl<T> Cache<T> {
    fn new() -> Self {
        Self { entries: ByText::default(), weight: 0 }
    }

    fn keep(&mut self, key: &[u8], value: T, weight: usize) {
        /// What an entry takes beside its key and its model's layers, roughly.
        const ENTRY_BYTES: usize = 4 << 10;
        let weight = weight.saturating_add(key.len()).saturating_add(ENTRY_BYTES);
        self.weight = self.weight.saturating_add(weight);
        if self.weight > CACHE_BYTES {
            self.entries.clear();
            self.weight = weight;
        }
        self.entries.insert(key.to_vec(), value);
    }
}

/// What a model takes in memory, roughly: its lists of layers.
fn weight(model: &Model) -> usize {
    model.layer_groups.iter().map(|group| group.layers.len()).sum::<usize>().saturating_mul(size_of::<u32>())
}

/// The models that lines name, each read once.
pub(super) struct Shelf {
    places: Places,
    read: Mutex<Cache<Result<Arc<Model>, Diagnosis>>>,
}

impl Shelf {
    pub(super) fn new(places: Places) -> Self {
        Self { places, read: Mutex::new(Cache::new()) }
    }

    /// The model that a value means: a name, or an object.
    fn model(&self, raw: &str, key: &str) -> Result<Arc<Model>, Failure> {
        // What is half done here is an entry that is missing, and so read again.
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.entries.get(raw.as_bytes()) {
            return known.clone().map_err(Failure);
        }
        let model = self.find(raw, key).map(Arc::new).map_err(|Failure(diagnosis)| diagnosis);
        read.keep(raw.as_bytes(), model.clone(), model.as_ref().map_or(0, |model| weight(model)));
        model.map_err(Failure)
    }

    fn find(&self, raw: &str, key: &str) -> Result<Model, Failure> {
        if raw.starts_with('{') {
            return Ok(source::of_json(raw.to_owned(), key)?);
        }
        let name = text_of(key, raw)?;
        if name == "-" {
            let (found, problem) = ("-".into(), "would be read from where the lines may come from".into());
            return Err(wrong("stdin", key, found, problem, "write the object itself as its value"));
        }
        self.places.draft(&name)
    }
}

pub(super) fn wrong(code: &'static str, key: &str, found: String, problem: String, remedy: &str) -> Failure {
    Failure(Diagnosis { code, field: key.into(), found, problem, remedy: remedy.into() })
}

/// As much of a text as a message shows.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The text that a value is.
pub(super) fn text_of(key: &str, raw: &str) -> Result<String, Failure> {
    let not_text = |error: serde_json::Error| {
        let problem = format!("is not a text: {}", said_by(&error));
        wrong("not_text", key, shortened(raw), problem, "write it in quotes, its escapes whole")
    };
    serde_json::from_str(raw).map_err(not_text)
}

/// What the parser says, without the number of the line, which it takes for the first.
pub(super) fn said_by(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    match error.column() {
        0 => text.to_owned(),
        column => format!("{text} at column {column}"),
    }
}

/// How lines are answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Manner {
    /// Keys that are not known are passed over.
    pub(super) lenient: bool,
    /// Warnings are errors.
    pub(super) strict: bool,
}

/// What became of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is empty.
    Skipped,
    /// It was answered.
    Answered,
    /// It got an error.
    Refused,
}

/// Answers lines, one at a time.
pub(super) struct Clerk {
    manner: Manner,
    shelf: Arc<Shelf>,
    reader: Reader,
    contexts: Cache<Known>,
    /// What the line says beside its numbers.
    rest: Vec<u8>,
}

impl Clerk {
    pub(super) fn new(manner: Manner, shelf: Arc<Shelf>) -> Self {
        let reader = Reader::of(LineArguments::augment_args);
        Self { manner, shelf, reader, contexts: Cache::new(), rest: Vec::new() }
    }

    /// Writes the answer to a line, or its error.
    pub(super) fn answer(&mut self, number: u64, line: &[u8], out: &mut Vec<u8>) -> Outcome {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Outcome::Skipped;
        }
        let mut id = None;
        match self.answered(number, line, &mut id, out) {
            Ok(()) => Outcome::Answered,
            Err(Failure(diagnosis)) => {
                refuse(number, id, diagnosis, out);
                Outcome::Refused
            }
        }
    }

    fn answered<'a>(
        &mut self,
        number: u64,
        line: &'a [u8],
        id: &mut Option<&'a RawValue>,
        out: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let line = std::str::from_utf8(line).map_err(|error| not_utf8(line, error))?;
        let mut said = Said::default();
        self.rest.clear();
        let look =
            FirstLook { keys: &self.reader.keys, lenient: self.manner.lenient, said: &mut said, rest: &mut self.rest };
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let read = look.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        // An id that was met before the mistake is still the line's.
        *id = said.id.map(scalar).transpose()?;
        read.map_err(|error| not_json(line, &error))?;
        self.rest.push(said.given());
        let mut by_numbers = false;
        let context = match self.contexts.entries.get(&self.rest) {
            Some(Known::Context(context)) if !said.odd => Some(Rc::clone(context)),
            Some(Known::OfTheirNumbers) if !said.odd => {
                by_numbers = true;
                for number in [said.seq_len, said.batch, said.encoder_len, said.shared_prefix, said.memory] {
                    self.rest.extend_from_slice(number.unwrap_or_default().as_bytes());
                    self.rest.push(b'\n');
                }
                match self.contexts.entries.get(&self.rest) {
                    Some(Known::Context(context)) => Some(Rc::clone(context)),
                    _ => None,
                }
            }
            _ => None,
        };
        let known = context.and_then(|context| Some((said.workload(&context.workload)?, context)));
        let (workload, context) = if let Some(known) = known {
            known
        } else {
            let context = Rc::new(self.read(line)?);
            self.keep(&context, by_numbers);
            (context.workload, context)
        };
        let Context { model, engine, prepared, frame, .. } = &*context;
        let answer = engine.answer_prepared(prepared, model, &workload)?;
        let mut assumptions = together(&context.assumptions, &answer.assumptions);
        if workload.memory.is_some() && answer.capacity.is_none() {
            assumptions.to_mut().push(UNUSED_MEMORY.to_owned());
        }
        let warnings = if model.max_position_embeddings.is_some_and(|maximum| workload.seq_len > maximum) {
            let past = past_maximum(model, Some(workload.seq_len));
            let past: Vec<String> = past.iter().map(ToString::to_string).collect();
            together(&together(&context.warnings, &past), &answer.warnings).into_owned().into()
        } else {
            together(&context.warnings, &answer.warnings)
        };
        refuse_warnings(self.manner.strict, &warnings)?;
        frame.write(out, (Some(number), *id), &workload, &answer, [&assumptions, &warnings]);
        Ok(())
    }

    /// Keeps the context of a line for those that say the same.
    fn keep(&mut self, context: &Rc<Context>, by_numbers: bool) {
        if context.of_its_numbers && !by_numbers {
            self.contexts.keep(&self.rest, Known::OfTheirNumbers, 0);
        } else {
            self.contexts.keep(&self.rest, Known::Context(Rc::clone(context)), weight(&context.model));
        }
    }

    /// The long way: the line as options, and what they ask.
    fn read(&mut self, line: &str) -> Result<Context, Failure> {
        let mut matches = self.options(line)?;
        let mut arguments: LineArguments = typed(&mut matches)?;
        let (engine, assumed) =
            single::engine(&arguments.workload, Some(&arguments.device), &matches).map_err(one_only)?;
        levers::retrieved(&mut arguments.workload);
        let LineArguments { models, spec, workload: asked, device } = &arguments;
        let models = named_or_spec(models, &spec.spec(), |raw| self.model(raw, "model"))?;
        let Some(model) = models.into_iter().next() else { return Err(missing_model()) };
        let model = drafted(model, asked, |raw| self.model(raw, "draft"))?;
        let model = levers::applied_to(&model, asked, std::slice::from_ref(&engine))?;
        needs_encoder(asked, std::slice::from_ref(&model))?;
        let settled = lengths::settled(asked, std::slice::from_ref(&engine), &model)?;
        let workload = single::workload(&model, &settled, device.memory, &engine).map_err(one_only)?;
        let own = engine.own_lengths(&model, asked.batch.first().copied().unwrap_or(1));
        Ok(Context {
            frame: BatchFrame::new(&model, &engine, &workload)?,
            assumptions: model.assumptions.iter().map(ToString::to_string).chain(assumed).collect(),
            warnings: model.warnings.iter().map(ToString::to_string).collect(),
            of_its_numbers: own != OwnLengths::default() || asked.levers.levers().streaming.is_some(),
            prepared: engine.prepare(&model, &workload),
            model: Arc::new(model),
            engine,
            workload,
        })
    }

    fn model(&self, raw: &str, key: &str) -> Result<Model, Failure> {
        Ok(Model::clone(&*self.shelf.model(raw, key)?))
    }

    /// The line as options.
    fn options(&mut self, line: &str) -> Result<ArgMatches, Failure> {
        let Pairs(pairs) = serde_json::from_str(line).map_err(|error| not_json(line, &error))?;
        let lenient = self.manner.lenient;
        self.reader.options(&pairs, &["id"], |name, nearest| (!lenient).then(|| unknown(name, nearest)))
    }
}

/// A key that is not known, with the nearest that is.
fn unknown(name: &str, nearest: Option<&str>) -> Failure {
    let remedy = match nearest {
        Some(known) => format!("did you mean {known}?"),
        None => "`kvsize schema batch-line` lists the keys; --lenient passes over others".into(),
    };
    let name = shortened(name);
    wrong("unknown_key", &name, "it".into(), "is not a key of a line".into(), &remedy)
}

/// Reads objects whose keys are the options of a command in `snake_case`.
pub(super) struct Reader {
    command: Command,
    keys: Keys,
}

impl Reader {
    /// The reader for the options that `augment` gives a command, and for the settings of engines.
    pub(super) fn of(augment: fn(Command) -> Command) -> Self {
        let command = Command::new("object").disable_help_flag(true).disable_version_flag(true).no_binary_name(true);
        let mut command = settings::augment(augment(command));
        command.build();
        let keys = Keys::of(&command);
        Self { command, keys }
    }

    /// The keys as the properties of a JSON Schema, each with the help of its option.
    #[cfg(test)]
    pub(super) fn properties(&self) -> serde_json::Map<String, serde_json::Value> {
        use serde_json::{Value, json};
        let options = self.keys.names.keys().filter_map(|name| Some((name, self.keys.key(name)?)));
        let property = |(name, (key, opposite)): (&String, (&Key, bool))| {
            let argument = self.command.get_arguments().find(|argument| argument.get_long() == Some(&key.option));
            let words: Vec<Value> = argument
                .filter(|_| key.kind != Kind::Switch)
                .map(clap::Arg::get_possible_values)
                .unwrap_or_default()
                .iter()
                .flat_map(|word| {
                    let number = word.get_name().parse::<i64>().ok().map(Value::from);
                    [Some(Value::from(word.get_name())), number].into_iter().flatten()
                })
                .collect();
            let is_ratio = argument
                .and_then(clap::Arg::get_value_names)
                .is_some_and(|names| names.iter().any(|name| name == "RATIO"));
            let mut schema = match key.kind {
                _ if !words.is_empty() => json!({"enum": words.into_iter().chain([Value::Null]).collect::<Vec<_>>()}),
                Kind::Number if is_ratio => json!({"type": ["number", "null"], "minimum": 0}),
                Kind::Number => json!({"type": ["integer", "null"], "minimum": 0}),
                Kind::Size => json!({"type": ["integer", "string", "null"], "minimum": 0}),
                Kind::Text => json!({"type": ["string", "null"]}),
                Kind::Texts => json!({"type": ["string", "array", "null"], "items": {"type": "string"}, "minItems": 1}),
                Kind::Model => json!({"type": ["string", "object", "null"]}),
                Kind::Switch => json!({"type": ["boolean", "null"]}),
            };
            let own = if key.option == "MODEL" { "model".into() } else { key_of(&key.option) };
            let help = argument.and_then(clap::Arg::get_help).map(ToString::to_string).unwrap_or_default();
            // An option takes a list, and its help names options.
            let help = help.replace(", a list", "");
            let help = field_of(help.split(" [env").next().unwrap_or_default());
            schema["description"] = match own.as_str() {
                _ if opposite => format!("The opposite of {own}").into(),
                _ if *name != own => format!("The same as {own}").into(),
                "model" => {
                    "A catalogue name, a path or an id of the hub; or an object, a config.json or kvsize.spec/1".into()
                }
                _ => help.into(),
            };
            (name.clone(), schema)
        };
        options.map(property).collect()
    }

    /// The object as options. Keys in `own` are passed over; of one that is not known, `unknown` is asked with the nearest
    /// that is.
    pub(super) fn options(
        &mut self,
        pairs: &[(String, &RawValue)],
        own: &[&str],
        unknown: impl Fn(&str, Option<&str>) -> Option<Failure>,
    ) -> Result<ArgMatches, Failure> {
        let mut met: Vec<&str> = Vec::with_capacity(pairs.len());
        let mut options = Vec::with_capacity(pairs.len());
        let mut models = Vec::new();
        for (name, raw) in pairs {
            let twice = || Err(duplicate(name));
            if let Some(own) = own.iter().find(|own| *own == name) {
                if met.contains(own) {
                    return twice();
                }
                met.push(own);
                continue;
            }
            let Some((key, opposite)) = self.keys.key(name) else {
                match unknown(name, self.keys.nearest(name, own)) {
                    Some(failure) => return Err(failure),
                    None => continue,
                }
            };
            if met.contains(&key.option.as_str()) {
                return twice();
            }
            met.push(&key.option);
            let raw = raw.get();
            match (key.kind, raw) {
                (_, "null") => {}
                (Kind::Model, _) if key.option == "MODEL" => models.push(written(name, Kind::Model, raw)?),
                (Kind::Switch, _) => match (raw, opposite, key.off) {
                    ("true", false, _) | ("false", true, _) => options.push(format!("--{}", key.option)),
                    ("false", false, Some(off)) | ("true", true, Some(off)) => options.push(format!("--{off}")),
                    ("false", false, None) => {}
                    _ => {
                        let problem = "is neither true nor false".to_owned();
                        return Err(wrong("invalid_value", name, shortened(raw), problem, "write true or false"));
                    }
                },
                (kind, _) => options.push(format!("--{}={}", key.option, written(name, kind, raw)?)),
            }
        }
        if !models.is_empty() {
            options.push("--".into());
            options.extend(models);
        }
        self.command.try_get_matches_from_mut(options).map_err(|error| super::usage::failure(&error))
    }
}

/// A key that is there a second time.
pub(super) fn duplicate(name: &str) -> Failure {
    wrong("duplicate_key", &shortened(name), "it".into(), "is there twice".into(), "give it once")
}

/// What is said of memory that is given and of which an engine makes nothing.
const UNUSED_MEMORY: &str = "memory is not used: nothing here tells what would be made of it";

/// How alike two names are, of 1, if one may be meant for the other.
const ALIKE: f64 = 0.8;

/// A value as an option has it.
fn written(key: &str, kind: Kind, raw: &str) -> Result<String, Failure> {
    let refused =
        |problem: &str, remedy: &str| Err(wrong("wrong_type", key, shortened(raw), problem.to_owned(), remedy));
    match (kind, raw.bytes().next().unwrap_or_default()) {
        (Kind::Texts, b'[') => match serde_json::from_str::<Vec<String>>(raw) {
            Ok(texts) if !texts.is_empty() => Ok(texts.join(",")),
            _ => refused("is not a list of texts", "write one text or more, each in quotes"),
        },
        (_, b'[') => Err(one_only(wrong("several", key, "a list".into(), String::new(), ""))),
        (Kind::Model, b'"' | b'{') | (Kind::Number | Kind::Size, b'0'..=b'9' | b'-') => Ok(raw.to_owned()),
        (Kind::Model, _) => refused("is not a model", "write its name, or an object"),
        (Kind::Number, b'"') => refused("is a text, not a number", "write the number without quotes"),
        (Kind::Text | Kind::Texts | Kind::Size, b'"') => text_of(key, raw),
        (Kind::Number, _) => refused("is not a number", "write a number"),
        (Kind::Size, _) => refused("is not a number", "write a number, or a text such as \"128K\" or \"64GiB\""),
        _ => refused("is not a text", "write it in quotes"),
    }
}

/// Of several values: a line is one estimate.
fn one_only(Failure(diagnosis): Failure) -> Failure {
    if diagnosis.code != "several" {
        return Failure(diagnosis);
    }
    let problem = "for the one estimate of a line".to_owned();
    let remedy = "give one value, or use `kvsize sweep` for every combination".to_owned();
    Failure(Diagnosis { problem, remedy, ..diagnosis })
}

fn missing_model() -> Failure {
    wrong("model", "model", "missing".into(), String::new(), "name one")
}

/// The id, if it is not an object or a list, nor a text that is none.
fn scalar(raw: &RawValue) -> Result<&RawValue, Failure> {
    let text = raw.get();
    match text.bytes().next() {
        Some(b'{' | b'[') => {
            let problem = "is not one value".to_owned();
            Err(wrong("id", "id", shortened(text), problem, "write a text, a number, true, false or null"))
        }
        Some(b'"') if text.contains('\\') => text_of("id", text).map(|_| raw),
        _ => Ok(raw),
    }
}

fn not_utf8(line: &[u8], error: std::str::Utf8Error) -> Failure {
    let valid = error.valid_up_to();
    let byte = line.get(valid).copied().unwrap_or_default();
    let problem = format!("at column {} is not UTF-8", valid.saturating_add(1));
    wrong("not_utf8", "", format!("the byte 0x{byte:02X}"), problem, "write the line in UTF-8")
}

fn not_json(line: &str, error: &serde_json::Error) -> Failure {
    let problem = format!("is not one JSON object: {}", said_by(error));
    wrong("not_json", "", shortened(line), problem, "write an object in one line, its keys and texts in double quotes")
}

/// A line that is longer than is read.
pub(super) fn refuse_long(number: u64, limit: usize, out: &mut Vec<u8>) {
    let problem = format!("is longer than {limit} bytes, and was passed over");
    let Failure(diagnosis) = wrong("too_long", "", "the line".into(), problem, "name the file of a large model");
    refuse(number, None, diagnosis, out);
}

fn refuse(number: u64, id: Option<&RawValue>, diagnosis: Diagnosis, out: &mut Vec<u8>) {
    let field = field_of(&diagnosis.field);
    let diagnosis = Diagnosis { field, ..diagnosis };
    out.extend_from_slice(failure::of_line(&diagnosis, number, id).as_bytes());
}

/// The texts of both, each once.
fn together<'a>(own: &'a [String], more: &'a [String]) -> std::borrow::Cow<'a, [String]> {
    match (own, more) {
        (own, []) => own.into(),
        ([], more) => more.into(),
        _ => {
            let new = more.iter().filter(|text| !own.contains(text));
            own.iter().chain(new).cloned().collect::<Vec<_>>().into()
        }
    }
}

/// The shape of a line, for its schema.
#[cfg(test)]
pub(super) fn shape() -> serde_json::Value {
    let mut properties = Reader::of(LineArguments::augment_args).properties();
    let id = "Yours: a text, a number, true, false or null, which comes back with the answer";
    properties.insert("id".into(), serde_json::json!({"description": id}));
    serde_json::json!({
        "description": "One estimate, under the names of the options; null is as if it were not there. A line names a model, or \
                        gives its dimensions (layers, kv_heads, …).",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clerk() -> Clerk {
        Clerk::new(Manner::default(), Arc::new(Shelf::new(Places { overlay: Vec::new(), hub: None })))
    }

    #[test]
    fn every_setting_is_a_key() {
        let clerk = clerk();
        for setting in PROFILES.iter().flat_map(|profile| profile.settings) {
            assert!(clerk.reader.keys.names.contains_key(&key_of(setting.name)), "{}", setting.name);
        }
        assert!(clerk.reader.keys.keys.len() < usize::from(Place::Unknown.bit()));
    }

    #[test]
    fn a_cache_that_is_full_is_emptied() {
        let mut cache = Cache::new();
        for number in 0..100u32 {
            cache.keep(&number.to_le_bytes(), number, CACHE_BYTES / 10);
            assert!(cache.weight <= CACHE_BYTES && cache.entries.len() <= 10);
            assert_eq!(cache.entries.get(&number.to_le_bytes()[..]), Some(&number));
        }
    }

    #[test]
    fn lines_that_differ_in_numbers_share_a_context_and_those_that_look_at_numbers_do_not() {
        let mut clerk = clerk();
        let mut out = Vec::new();
        let mut ask = |line: &str| assert_eq!(clerk.answer(1, line.as_bytes(), &mut out), Outcome::Answered, "{line}");
        for seq_len in 1..50 {
            ask(&format!(r#"{{"model":"llama-3.1-8b","seq_len":{seq_len},"batch":{seq_len}}}"#));
        }
        for parallel in 1..5 {
            ask(&format!(r#"{{"model":"llama-3.1-8b","engine":"llama.cpp","ctx_size":8192,"parallel":{parallel}}}"#));
        }
        // One for the first, and two for each of those whose numbers count.
        assert_eq!(clerk.contexts.entries.len(), 1 + 4);
        assert_eq!(clerk.shelf.read.lock().unwrap().entries.len(), 1);
    }
}
