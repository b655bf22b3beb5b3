//! A line of a batch to its answer.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::failure;
use super::refuse_warnings;
use super::sources::{Cache, SharedModels, ThreadModels};
use crate::engine::Prepared;
use crate::estimate::Workload;
use crate::report::BatchFrame;
use crate::request::{LINE, Object, ObjectReader, Request, field_of, past_maximum, shortened, text_of};
use crate::units::{Code, Error};

/// How lines are answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LineOptions {
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

/// What lines of one kind have in common: those that differ only in tokens, sequences and memory.
struct Shape {
    request: Request,
    prepared: Prepared,
    frame: BatchFrame,
    assumptions: Vec<String>,
    warnings: Vec<String>,
}

impl Shape {
    fn new(request: Request) -> Result<Self, Error> {
        let Request { model, engine, workload, assumption, .. } = &request;
        Ok(Self {
            prepared: request.prepare(),
            frame: BatchFrame::new(model, engine, workload)?,
            assumptions: model.assumptions.iter().chain(assumption).cloned().collect(),
            warnings: model.warnings.clone(),
            request,
        })
    }
}

/// About the bytes of shapes that are kept: some hundreds of kinds.
const SHAPE_BYTES: usize = 2 << 20;

const LISTED: &str = "`kvsize generate schema batch-line` lists the keys; --lenient passes over others";

/// Answers lines, one at a time.
pub(super) struct LineReader {
    options: LineOptions,
    models: ThreadModels,
    reader: ObjectReader,
    /// By the kind of line.
    shapes: Cache<Shape>,
    /// The kind of the last line, for its room.
    kind: String,
}

impl LineReader {
    pub(super) fn new(options: LineOptions, models: Arc<SharedModels>) -> Self {
        let reader = ObjectReader::new(LINE, &["id"], LISTED);
        let reader = if options.lenient { reader.lenient() } else { reader };
        let (shapes, kind) = (Cache::new(SHAPE_BYTES), String::new());
        Self { options, models: ThreadModels::new(models), reader, shapes, kind }
    }

    /// Writes the answer to a line, or its error.
    pub(super) fn answer(&mut self, number: u64, line: &[u8], out: &mut Vec<u8>) -> Outcome {
        let line = line.trim_ascii();
        if line.is_empty() {
            return Outcome::Skipped;
        }
        let mut object = Object::default();
        let answered = match std::str::from_utf8(line) {
            Ok(line) => self.answer_text(number, line, &mut object, out),
            Err(error) => Err(not_utf8(line, error)),
        };
        match answered {
            Ok(()) => Outcome::Answered,
            Err(error) => {
                refuse(number, id_of(&object).ok().flatten(), error, out);
                Outcome::Refused
            }
        }
    }

    fn answer_text<'a>(
        &mut self,
        number: u64,
        line: &'a str,
        object: &mut Object<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let read = self.reader.read(line, object);
        let id = id_of(object)?;
        read?;
        self.kind.clear();
        object.put_kind(&mut self.kind);
        if let Some(shape) = self.shapes.get(&self.kind) {
            let workload = object.varied(&shape.request.workload).map_err(one_only)?;
            return shape.answer(self.options, (number, id), &workload, out);
        }
        let ask = self.reader.ask(object).map_err(one_only)?;
        let request = ask.request(&self.models).map_err(one_only)?;
        let (workload, is_of_its_lengths) = (request.workload, request.is_of_its_lengths);
        let shape = Shape::new(request)?;
        let answered = shape.answer(self.options, (number, id), &workload, out);
        if !is_of_its_lengths {
            self.shapes.keep(&self.kind, shape, 0);
        }
        answered
    }
}

impl Shape {
    /// Writes the answer to a line of this kind.
    fn answer(
        &self,
        options: LineOptions,
        (number, id): (u64, Option<&RawValue>),
        workload: &Workload,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Request { model, engine, .. } = &self.request;
        let answer = engine.answer_prepared(&self.prepared, model, workload)?;
        let mut assumptions = together(&self.assumptions, &answer.assumptions);
        if workload.memory.is_some() && answer.capacity.is_none() {
            assumptions.to_mut().push("memory has no effect with this engine".to_owned());
        }
        let past = past_maximum(model, Some(workload.seq_len));
        let own = together(&self.warnings, past.as_slice());
        let warnings = together(&own, &answer.warnings);
        refuse_warnings(options.strict, &warnings)?;
        self.frame.write(out, (Some(number), id), workload, &answer, [&assumptions, &warnings]);
        Ok(())
    }
}

/// A line is one estimate.
fn one_only(error: Error) -> Error {
    match error.code {
        Code::Several => {
            Error { remedy: "give one value, or use `kvsize estimate` for every combination".into(), ..error }
        }
        _ => error,
    }
}

/// The id, if it is not an object or a list, nor a text that is none.
fn id_of<'a>(object: &Object<'a>) -> Result<Option<&'a RawValue>, Error> {
    let Some(raw) = object.own(0) else { return Ok(None) };
    let text = raw.get();
    match text.bytes().next() {
        Some(b'{' | b'[') => {
            let remedy = "write a text, a number, true, false or null";
            Err(Error::new(Code::Id, "id", shortened(text), "is not one value", remedy))
        }
        Some(b'"') if text.contains('\\') => text_of("id", text).map(|_| Some(raw)),
        _ => Ok(Some(raw)),
    }
}

fn not_utf8(line: &[u8], error: std::str::Utf8Error) -> Error {
    let valid = error.valid_up_to();
    let byte = line.get(valid).copied().unwrap_or_default();
    let problem = format!("at column {} is not UTF-8", valid.saturating_add(1));
    Error::new(Code::NotUtf8, "", format!("the byte 0x{byte:02X}"), problem, "write the line in UTF-8")
}

/// A line that is longer than is read.
pub(super) fn refuse_long(number: u64, limit: usize, out: &mut Vec<u8>) {
    let problem = format!("is longer than {limit} bytes, and was passed over");
    let error = Error::new(Code::TooLong, "", "the line", problem, "name the file of a large model");
    refuse(number, None, error, out);
}

fn refuse(number: u64, id: Option<&RawValue>, error: Error, out: &mut Vec<u8>) {
    /// Bytes that are shown whole: a name of a megabyte is not.
    const SHOWN: usize = 1_000;
    let found = error.found.map(|found| if found.len() > SHOWN { shortened(&found) } else { found });
    let error = Error { field: field_of(&error.field), found, ..error };
    out.extend_from_slice(failure::of_line(&error, number, id).as_bytes());
}

/// The texts of both, each once.
fn together<'a>(own: &'a [String], more: &'a [String]) -> Cow<'a, [String]> {
    match (own, more) {
        (own, []) => own.into(),
        ([], more) => more.into(),
        _ => {
            let new = more.iter().filter(|text| !own.contains(text));
            own.iter().chain(new).cloned().collect::<Vec<_>>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::sources::Places;

    #[test]
    fn lines_that_differ_in_numbers_share_a_shape() {
        let places = Places::of_file(std::path::PathBuf::new(), None, true).unwrap();
        let mut reader = LineReader::new(LineOptions::default(), Arc::new(SharedModels::new(places)));
        let mut out = Vec::new();
        let mut ask = |line: &str| assert_eq!(reader.answer(1, line.as_bytes(), &mut out), Outcome::Answered, "{line}");
        for seq_len in 1..50 {
            ask(&format!(r#"{{"model":"llama-3.1-8b","seq_len":{seq_len},"batch":{seq_len}}}"#));
        }
        for parallel in 1..5 {
            ask(&format!(r#"{{"model":"llama-3.1-8b","engine":"llama.cpp","ctx_size":8192,"parallel":{parallel}}}"#));
        }
        for batch in 1..3 {
            ask(&format!(r#"{{"model":"llama-3.1-8b","seq_len":null,"batch":{batch}}}"#));
        }
        assert_eq!(reader.shapes.len(), 2);
        assert!(String::from_utf8(out).unwrap().starts_with(r#"{"schema":"kvsize.batch/1","line":1,"#));
    }
}
