//! The files of one model, wherever they lie: a directory, or a repository on the hub.

use std::io::{Read, Seek};

use super::{gguf, safetensors};
use crate::units::Error;

/// The configuration of a model.
pub(super) const CONFIG: &str = "config.json";

/// Files by their names, which are paths within the directory or repository.
pub(super) trait Files {
    /// The text of a file of at most `limit` bytes; `None` if there is no such file.
    fn text(&self, name: &str, limit: u64) -> Result<Option<String>, Error>;

    /// A file of which the start is read; `None` if there is no such file.
    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, Error>;

    /// All files, in order.
    fn names(&self) -> Result<Vec<String>, Error>;

    /// Whether each file that is looked for costs a request, so that few are.
    fn is_remote(&self) -> bool;

    /// What messages call a file.
    fn label(&self, name: &str) -> String;

    /// A name for the model of a file that has none itself.
    fn model_name(&self, name: &str) -> String;

    /// An error of this content of a file.
    fn error_in(&self, name: &str, error: Error) -> Error {
        error.in_file(self.label(name))
    }

    /// The error where none of the files is the `wanted` one, or without one, gives a model; `others` are the GGUF files.
    fn no_model(&self, wanted: Option<&str>, others: &[String]) -> Error;

    /// The error where each of these GGUF files could be meant.
    fn several_gguf(&self, names: &[String]) -> Error;
}

/// A file to read the start of.
pub(super) struct Opened<'a> {
    pub(super) reader: Box<dyn ReadSeek + 'a>,
    pub(super) len: u64,
}

pub(super) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// The header of a GGUF file; `None` if there is no such file.
pub(super) fn gguf_header(files: &dyn Files, name: &str) -> Result<Option<gguf::Header>, Error> {
    let Some(Opened { reader, len }) = files.open(name)? else { return Ok(None) };
    gguf::read(reader, len).map(Some).map_err(|error| files.error_in(name, error))
}

/// Adds the tensors of a safetensors file; false if it is missing, or only a note of Git LFS that it is elsewhere.
pub(super) fn add_tensors(files: &dyn Files, name: &str, tensors: &mut safetensors::Tensors) -> Result<bool, Error> {
    const POINTER: &[u8] = b"version https://git-lfs";
    const POINTER_BYTES: u64 = 1024;
    let Some(Opened { mut reader, len }) = files.open(name)? else { return Ok(false) };
    let wrong = |error: Error| files.error_in(name, error);
    if len >= POINTER_BYTES {
        return safetensors::read(reader, len, tensors).map(|()| true).map_err(wrong);
    }
    let mut whole = Vec::new();
    reader.read_to_end(&mut whole).map_err(super::file::reading).map_err(wrong)?;
    if whole.starts_with(POINTER) {
        return Ok(false);
    }
    safetensors::read(whole.as_slice(), len, tensors).map(|()| true).map_err(wrong)
}
