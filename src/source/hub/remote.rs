//! The model of a repository on the hub: what the reader of directories makes of one on disk, file by file.

use std::path::Path;

use super::client::hub_error;
use super::repository::Repository;
use super::{HubError, HubId, HubProblem, HubSettings, Token};
use crate::model::Model;
use crate::source::file::{self, MAX_CONFIG_BYTES};
use crate::source::hub::files::{Choice, choose};
use crate::source::{GgufError, SourceError, config, gguf, hf_config};

/// The model of `id`; `nearest` are names that could have been meant if there is none.
pub(in crate::source) fn model(
    id: &HubId,
    settings: &HubSettings,
    nearest: &dyn Fn() -> Vec<String>,
) -> Result<Model, SourceError> {
    let given = settings.token.as_ref().map(|Token(token)| token.trim().to_owned());
    let token = given.or_else(|| file::read_token(settings.token_file.as_deref()?));
    let token = token.filter(|token| !token.is_empty());
    let repository = Repository::new(id, settings, token, nearest).map_err(SourceError::Hub)?;
    if id.file.is_none()
        && let Some((text, origin)) = text(&repository, id, "config.json")?
    {
        let model = config(&text, &id.repository, &origin)?;
        // Asked for only where engines would look into it, since it is a request more.
        let model = match model.checkpoint.quantization {
            None => quantized(model, &repository, id)?,
            Some(_) => model,
        };
        return weighed(model, &repository);
    }
    let name = gguf_file(&repository, id).map_err(SourceError::Hub)?;
    gguf_model(&repository, id, &name)
}

/// The model with the weights that the headers of the repository's safetensors files tell of. They are opened by
/// [`Repository::open`], which receives no more than is read of them.
#[expect(clippy::unnecessary_wraps, reason = "reading headers may fail")]
fn weighed(model: Model, _repository: &Repository<'_>) -> Result<Model, SourceError> {
    Ok(model)
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
    let text = file::read_text(bytes.as_slice(), Path::new(&origin)).map_err(SourceError::File)?;
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
fn gguf_model(repository: &Repository<'_>, id: &HubId, name: &str) -> Result<Model, SourceError> {
    let Some(file) = repository.open(name).map_err(SourceError::Hub)? else {
        return Err(SourceError::Hub(repository.error(HubProblem::NoFile { file: name.into(), files: Vec::new() })));
    };
    let len = file.len();
    let label = file::model_name(Path::new(name));
    gguf::read(file, len).and_then(|header| gguf::model(&header, &label, name)).map_err(|error| {
        let origin = format!("{}:{name}", id.repository);
        match error {
            GgufError::Io(error) => match hub_error(error) {
                Ok(error) => SourceError::Hub(error),
                Err(error) => SourceError::Gguf { origin, error: GgufError::Io(error) },
            },
            error => SourceError::Gguf { origin, error },
        }
    })
}
