//! A line of a batch to its answer. Its keys are the options of one estimate in `snake_case`, and it is answered as these
//! options are: it is turned into them, and goes the way that a command line goes.
//!
//! That way is long. What does not depend on the numbers that differ from line to line (tokens, sequences, memory) is kept as a
//! [`Context`] for the lines that say the same of all else; the second such line costs its estimate and little more.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use clap::{ArgMatches, Args};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::args::{DeviceArguments, SpecArguments, WorkloadArguments};
use super::estimate::{drafted, named_or_spec, needs_encoder, past_maximum};
use super::failure;
use super::objects::{self, Keys, Pairs, Place, Reader, field_of, said_by, shortened, text_of, wrong};
use super::shelf::{Cache, Shelf, weight};
use super::{lengths, levers, refuse_warnings, single, typed};
use crate::engine::{Engine, OwnLengths, Prepared};
use crate::estimate::Workload;
use crate::model::Model;
use crate::report::BatchFrame;
use crate::units::{Bytes, Code, Error, Tokens};

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
            Err(diagnosis) => {
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
    ) -> Result<(), Error> {
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
    fn read(&mut self, line: &str) -> Result<Context, Error> {
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

    fn model(&self, raw: &str, key: &str) -> Result<Model, Error> {
        Ok(Model::clone(&*self.shelf.model(raw, key, false)?))
    }

    /// The line as options.
    fn options(&mut self, line: &str) -> Result<ArgMatches, Error> {
        let Pairs(pairs) = serde_json::from_str(line).map_err(|error| not_json(line, &error))?;
        let lenient = self.manner.lenient;
        let options = self.reader.options(&pairs, &["id"], |name, nearest| (!lenient).then(|| unknown(name, nearest)));
        options.map_err(one_only)
    }
}

/// A key that is not known, with the nearest that is.
fn unknown(name: &str, nearest: Option<&str>) -> Error {
    let remedy = match nearest {
        Some(known) => format!("did you mean {known}?"),
        None => "`kvsize schema batch-line` lists the keys; --lenient passes over others".into(),
    };
    let name = shortened(name);
    wrong(Code::UnknownKey, &name, "it".into(), "is not a key of a line".into(), &remedy)
}

/// What is said of memory that is given and of which an engine makes nothing.
const UNUSED_MEMORY: &str = "memory is not used: nothing here tells what would be made of it";

/// Of several values: a line is one estimate.
fn one_only(failure: Error) -> Error {
    let remedy = "give one value, or use `kvsize sweep` for every combination";
    objects::one_only(failure, "for the one estimate of a line", remedy)
}

fn missing_model() -> Error {
    wrong(Code::Model, "model", "missing".into(), String::new(), "name one")
}

/// The id, if it is not an object or a list, nor a text that is none.
fn scalar(raw: &RawValue) -> Result<&RawValue, Error> {
    let text = raw.get();
    match text.bytes().next() {
        Some(b'{' | b'[') => {
            let problem = "is not one value".to_owned();
            Err(wrong(Code::Id, "id", shortened(text), problem, "write a text, a number, true, false or null"))
        }
        Some(b'"') if text.contains('\\') => text_of("id", text).map(|_| raw),
        _ => Ok(raw),
    }
}

fn not_utf8(line: &[u8], error: std::str::Utf8Error) -> Error {
    let valid = error.valid_up_to();
    let byte = line.get(valid).copied().unwrap_or_default();
    let problem = format!("at column {} is not UTF-8", valid.saturating_add(1));
    wrong(Code::NotUtf8, "", format!("the byte 0x{byte:02X}"), problem, "write the line in UTF-8")
}

fn not_json(line: &str, error: &serde_json::Error) -> Error {
    let problem = format!("is not one JSON object: {}", said_by(error));
    wrong(
        Code::NotJson,
        "",
        shortened(line),
        problem,
        "write an object in one line, its keys and texts in double quotes",
    )
}

/// A line that is longer than is read.
pub(super) fn refuse_long(number: u64, limit: usize, out: &mut Vec<u8>) {
    let problem = format!("is longer than {limit} bytes, and was passed over");
    let diagnosis = wrong(Code::TooLong, "", "the line".into(), problem, "name the file of a large model");
    refuse(number, None, diagnosis, out);
}

fn refuse(number: u64, id: Option<&RawValue>, diagnosis: Error, out: &mut Vec<u8>) {
    /// Bytes that are shown whole: a name of a megabyte is not.
    const SHOWN: usize = 1_000;
    let found = diagnosis.found.map(|found| if found.len() > SHOWN { shortened(&found) } else { found });
    let diagnosis = Error { field: field_of(&diagnosis.field), found, ..diagnosis };
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
#[cfg(feature = "cli")]
pub(super) fn shape() -> serde_json::Value {
    let mut properties = Reader::of(LineArguments::augment_args).properties();
    let id = "Yours: a text, a number, true, false or null, which comes back with the answer";
    let types = ["string", "number", "boolean", "null"];
    properties.insert("id".into(), serde_json::json!({"description": id, "type": types}));
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
    use std::path::PathBuf;

    use crate::cli::estimate::Places;

    fn clerk() -> Clerk {
        Clerk::new(Manner::default(), Arc::new(Shelf::new(Places { overlay: Vec::new(), hub: None }, PathBuf::new())))
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
