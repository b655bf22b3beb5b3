//! The format that weights are asked about in: a GGUF file type, or a format of elements.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::nearest;
use crate::engine::{Engine, Known, Term, WeightFiles};
use crate::model::{CHECKPOINT_FORMATS, CheckpointFormat, FileType, FormatRow, Model, Release};
use crate::units::{Code, ElementFormat, Error, FORMATS};

/// A format of weights by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightsDtype {
    /// A GGUF file type, as `Q4_K_M`.
    FileType(FileType),
    /// A format of checkpoints, as `awq`.
    Checkpoint(CheckpointFormat),
    /// A format of elements, as `int8`: their bits alone.
    Elements(ElementFormat),
    /// A 16-bit or 32-bit format, which is both.
    Plain(FileType, ElementFormat),
}

/// The names of formats of elements that are file types as well.
const PLAIN: &[(&str, &str)] = &[("fp32", "F32"), ("fp16", "F16"), ("bf16", "BF16")];

impl FromStr for WeightsDtype {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let file_type = text.parse::<FileType>().ok();
        let elements = text.parse::<ElementFormat>().ok();
        let plain = elements.and_then(|format| {
            let name = format.name()?;
            let (_, file_type) = PLAIN.iter().find(|(plain, _)| *plain == name)?;
            Some(Self::Plain(file_type.parse().ok()?, format))
        });
        let checkpoint = || text.parse().ok().map(Self::Checkpoint);
        let other = || elements.map(Self::Elements);
        plain.or(file_type.map(Self::FileType)).or_else(checkpoint).or_else(other).ok_or_else(|| unknown(text))
    }
}

fn unknown(text: &str) -> Error {
    let lower = text.to_ascii_lowercase();
    let file_types: Vec<String> = FileType::all().map(|file_type| file_type.name().to_ascii_lowercase()).collect();
    let of_checkpoints = CHECKPOINT_FORMATS.iter().flat_map(|row| row.aliases.iter().copied().chain([row.name]));
    let names = file_types.iter().map(String::as_str).chain(of_checkpoints);
    let names = names.chain(FORMATS.iter().map(|format| format.name));
    let alike = nearest(&lower, names).map(|name| format!("did you mean {name}? "));
    let remedy = format!(
        "{}give a GGUF file type (q4_k_m, iq4_xs, q8_0, mxfp4_moe, …) or a checkpoint format (fp8, awq, \
         nvfp4, …); `kvsize formats` lists them",
        alike.unwrap_or_default()
    );
    Error::new(Code::UnknownFormat, "", text, "is an unknown format of weights", remedy)
}

impl fmt::Display for WeightsDtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileType(file_type) => file_type.fmt(f),
            Self::Checkpoint(format) => format.fmt(f),
            Self::Elements(format) | Self::Plain(_, format) => format.fmt(f),
        }
    }
}

impl WeightsDtype {
    /// The file type, if the name is one.
    pub fn file_type(self) -> Option<FileType> {
        match self {
            Self::FileType(file_type) | Self::Plain(file_type, _) => Some(file_type),
            Self::Checkpoint(_) | Self::Elements(_) => None,
        }
    }

    /// What the engines take the name for.
    ///
    /// # Errors
    /// [`Code::Refused`]: an engine that does not load weights in it.
    pub(super) fn in_engines(self, engines: &[Engine]) -> Result<Form, Error> {
        let is = |engine: &Engine, files: WeightFiles| engine.profile.weight_files == files;
        let refused = |engine: &Engine, problem: String, remedy: &str| {
            let problem = problem.replace("{engine}", engine.profile.name);
            Err(Error::new(Code::Refused, "--weights-dtype", self.to_string(), problem, remedy))
        };
        let other = |row: &FormatRow| {
            engines
                .iter()
                .find(|engine| is(engine, WeightFiles::Safetensors) && !row.engines.contains(&engine.profile.name))
        };
        let of_checkpoints = engines.iter().find(|engine| is(engine, WeightFiles::Safetensors));
        let of_gguf = engines.iter().find(|engine| is(engine, WeightFiles::Gguf));
        match (self, of_checkpoints, of_gguf) {
            (Self::FileType(_), Some(engine), _) => {
                let problem = "is a GGUF file type; the rules of {engine} here are for safetensors checkpoints";
                refused(engine, problem.into(), "use -e llama.cpp or -e ollama, or give a format such as fp8")
            }
            (Self::Elements(_) | Self::Checkpoint(_), _, Some(engine)) => {
                let problem = "is not a GGUF file type, and {engine} loads GGUF files";
                refused(engine, problem.into(), "give a file type such as q8_0, q4_k_m or iq4_xs")
            }
            (Self::Checkpoint(format), _, None) => match other(format.row) {
                Some(engine) => {
                    let problem = format!("is a format that {{engine}} does not load; {}", loaders(format.row));
                    refused(engine, problem, "give another format; `kvsize formats` lists them with their engines")
                }
                None => Ok(Form::Checkpoint(format)),
            },
            (Self::FileType(file_type), None, _) | (Self::Plain(file_type, _), None, Some(_)) => {
                Ok(Form::File(file_type))
            }
            (Self::Elements(format), _, None) | (Self::Plain(_, format), _, _) => Ok(Form::Elements(format)),
        }
    }
}

/// What loads a format.
fn loaders(row: &FormatRow) -> String {
    let names = row.engines.join(", ");
    match (names.as_str(), row.others) {
        ("", others) => {
            let verb = if others.contains(" and ") { "load" } else { "loads" };
            format!("{others} {verb} it, whose rules are not known here")
        }
        (names, _) => format!("engines that do: {names}"),
    }
}

/// What a name of a format is taken for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    File(FileType),
    Checkpoint(CheckpointFormat),
    Elements(ElementFormat),
}

/// The model with its weights in a GGUF file of this type, and their bytes.
///
/// # Errors
/// [`Code::NoWeights`]: its tensors are not known.
pub(super) fn in_file(model: &Model, file_type: FileType, release: Release) -> Result<(Arc<Model>, Term), Error> {
    let no_weights = |reason: &str| {
        let remedy = "give --weights, or the GGUF file as MODEL";
        Error::new(
            Code::NoWeights,
            "--weights-dtype",
            model.name.clone(),
            format!("has unknown tensors: {reason}"),
            remedy,
        )
    };
    let tensors = match &model.gguf_tensors {
        Some(Ok(tensors)) => tensors,
        Some(Err(reason)) => return Err(no_weights(reason)),
        None => return Err(no_weights("only dimensions of its cache are given")),
    };
    let file = file_type.with_release(release).published(tensors).file(tensors)?;
    let bytes = file.weights.bytes.ok_or_else(|| no_weights("their bytes are unknown"))?;
    let source = format!("{} as llama-quantize makes it", file.file_type);
    let mut model = model.clone();
    model.assumptions.extend(file.weights.notes.iter().map(|note| format!("weights: {note}")));
    model.weights = Some(file.weights);
    Ok((Arc::new(model), Term { bytes, known: Known::Estimated, source }))
}

/// The model with its weights in a format of checkpoints, and their bytes.
///
/// # Errors
/// [`Code::NoWeights`]: its tensors are not known.
pub(super) fn in_checkpoint(model: &Model, format: CheckpointFormat) -> Result<(Arc<Model>, Term), Error> {
    let unknown = |reason: &str| {
        let problem = format!("has unknown tensors: {reason}");
        Error::new(Code::NoWeights, "--weights-dtype", model.name.clone(), problem, "give --weights")
    };
    let weights = model.weights.as_ref().ok_or_else(|| unknown(NOT_LISTED))?;
    let weights = weights.in_format(format, model.text_model_type())?.ok_or_else(|| unknown(NOT_LISTED))?;
    let bytes = weights.bytes.ok_or_else(|| unknown("their bytes are unknown"))?;
    let mut model = model.clone();
    model.assumptions.extend(weights.notes.iter().map(|note| format!("weights: {note}")));
    model.weights = Some(weights);
    Ok((Arc::new(model), Term { bytes, known: Known::Estimated, source: format!("{format}, by its layout") }))
}

/// Why a model has no weights in another format.
pub const NOT_LISTED: &str = "those of its class are not listed here one by one";
