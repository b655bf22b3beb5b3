//! The model of a repository on the hub: what the reader of directories makes of one on disk, file by file.

use std::path::Path;

use serde_json::Value;

use super::client::hub_error;
use super::repository::Repository;
use super::{HubError, HubId, HubProblem, HubSettings, Token};
use crate::model::Model;
use crate::source::file::{self, MAX_CONFIG_BYTES};
use crate::source::hub::files::{Choice, choose};
use crate::source::safetensors::{self, SafetensorsError, Tensors};
use crate::source::weights::{self, Known, is_inside};
use crate::source::{FileError, GgufError, SourceError, gguf, hf_config, of_config};

/// The headers of this many safetensors files at most are asked for, since each is a request or two.
const MAX_HEADERS: usize = 8;

/// The longest index of safetensors files that is read.
const MAX_INDEX: u64 = 32 << 20;

/// A model, and its weights if they were asked for.
pub(in crate::source) type Answered = (Model, Option<Result<Known, SourceError>>);

/// The model of `id`; `nearest` are names that could have been meant if there is none.
pub(in crate::source) fn model(
    id: &HubId,
    settings: &HubSettings,
    nearest: &dyn Fn() -> Vec<String>,
    weigh: bool,
) -> Result<Answered, SourceError> {
    let given = settings.token.as_ref().map(|Token(token)| token.trim().to_owned());
    let token = given.or_else(|| file::read_token(settings.token_file.as_deref()?));
    let token = token.filter(|token| !token.is_empty());
    let repository = Repository::new(id, settings, token, nearest).map_err(SourceError::Hub)?;
    if id.file.is_none()
        && let Some((text, origin)) = text(&repository, id, "config.json")?
    {
        let config = hf_config::parse(&text).map_err(|error| SourceError::Config { origin: origin.clone(), error })?;
        let known = weigh.then(|| {
            let mut known = weights_of(&repository, id, &config)?;
            weights::with_tensors(&mut known, &config);
            Ok(known)
        });
        let model = of_config(config, id.repository.clone(), &origin)?;
        // Asked for only where engines would look into it, since it is a request more.
        let model = match model.checkpoint.quantization {
            None => quantized(model, &repository, id)?,
            Some(_) => model,
        };
        return Ok((model, known));
    }
    let name = gguf_file(&repository, id).map_err(SourceError::Hub)?;
    gguf_model(&repository, id, &name, weigh)
}

/// The weights that the headers of the repository's safetensors files tell of; of many files the total of their index; without
/// any, what the configuration comes to.
fn weights_of(repository: &Repository<'_>, id: &HubId, config: &Value) -> Result<Known, SourceError> {
    let experts = weights::experts(config);
    let mut tensors = Tensors::default();
    if header(repository, id, "model.safetensors", &mut tensors)? {
        return Ok(Ok(weights::of_tensors(&tensors, 1, experts)));
    }
    let index = "model.safetensors.index.json";
    let Some(bytes) = repository.bytes(index, MAX_INDEX).map_err(SourceError::Hub)? else {
        return weights::of_config(config, None);
    };
    let origin = format!("{id}/{index}");
    let index = weights::parse_index(&bytes).map_err(|error| SourceError::Index { origin: origin.clone(), error })?;
    let names = index.names();
    if names.len() > MAX_HEADERS {
        let note =
            format!("the headers of its {} files were not asked for: the bytes are the index's total", names.len());
        return Ok(index.total().map(|total| weights::of_total(total, note)).ok_or("its index states no total".into()));
    }
    for name in names {
        if !is_inside(name) {
            return Err(SourceError::File(FileError::Outside(origin.into(), name.clone())));
        }
        if !header(repository, id, name, &mut tensors)? {
            let absent = format!("{name} is not in the repository");
            let note = format!("{absent}: the bytes are the total that the index states");
            return Ok(index.total().map(|total| weights::of_total(total, note)).ok_or(absent));
        }
    }
    Ok(Ok(weights::of_tensors(&tensors, names.len(), experts)))
}

/// Adds the tensors of a safetensors file; false if it is not there. No more is received than its header.
fn header(repository: &Repository<'_>, id: &HubId, name: &str, tensors: &mut Tensors) -> Result<bool, SourceError> {
    let Some(file) = repository.open(name).map_err(SourceError::Hub)? else { return Ok(false) };
    let len = file.len();
    safetensors::read(file, len, tensors).map(|()| true).map_err(|error| {
        let origin = format!("{id}/{name}");
        match error {
            SafetensorsError::Io(error) => match hub_error(error) {
                Ok(error) => SourceError::Hub(error),
                Err(error) => SourceError::Safetensors { origin, error: SafetensorsError::Io(error) },
            },
            error => SourceError::Safetensors { origin, error },
        }
    })
}

/// The model with what the `hf_quant_config.json` of the repository declares.
fn quantized(model: Model, repository: &Repository<'_>, id: &HubId) -> Result<Model, SourceError> {
    let Some((text, origin)) = text(repository, id, "hf_quant_config.json")? else { return Ok(model) };
    let beside = hf_config::parse(&text).map_err(|error| SourceError::Config { origin, error })?;
    Ok(hf_config::with_quantization(model, &beside))
}

/// A text of the repository and where it is from; none if it is not there.
fn text(repository: &Repository<'_>, id: &HubId, file: &str) -> Result<Option<(String, String)>, SourceError> {
    let Some(bytes) = repository.bytes(file, MAX_CONFIG_BYTES).map_err(SourceError::Hub)? else { return Ok(None) };
    let origin = format!("{id}/{file}");
    let text = file::read_text(bytes.as_slice(), Path::new(&origin), MAX_CONFIG_BYTES).map_err(SourceError::File)?;
    Ok(Some((text, origin)))
}

/// The GGUF file of the repository that is meant.
fn gguf_file(repository: &Repository<'_>, id: &HubId) -> Result<String, HubError> {
    match choose(&repository.files()?, id.file.as_deref()) {
        Choice::One(name) => Ok(name),
        Choice::Several(names) => Err(repository.error(HubProblem::SeveralGguf(names))),
        Choice::None(files) => Err(repository.error(match &id.file {
            Some(file) => HubProblem::NoFile { file: file.clone(), files },
            None => HubProblem::NoModel,
        })),
    }
}

/// The model of the header of a GGUF file of the repository.
fn gguf_model(repository: &Repository<'_>, id: &HubId, name: &str, weigh: bool) -> Result<Answered, SourceError> {
    let Some(file) = repository.open(name).map_err(SourceError::Hub)? else {
        return Err(SourceError::Hub(repository.error(HubProblem::NoFile { file: name.into(), files: Vec::new() })));
    };
    let len = file.len();
    let label = file::model_name(Path::new(name));
    let wrong = |error| {
        let origin = format!("{}:{name}", id.repository);
        match error {
            GgufError::Io(error) => match hub_error(error) {
                Ok(error) => SourceError::Hub(error),
                Err(error) => SourceError::Gguf { origin, error: GgufError::Io(error) },
            },
            error => SourceError::Gguf { origin, error },
        }
    };
    let header = gguf::read(file, len).map_err(wrong)?;
    let model = gguf::model(&header, &label, name).map_err(wrong)?;
    Ok((model, weigh.then(|| Ok(weights::of_one_gguf(&header)))))
}
