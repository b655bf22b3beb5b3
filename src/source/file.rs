//! Files and standard input, with a limit on what is read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::file_names::model_name;
use super::files::{Files, Opened};
use crate::units::{Code, Error, group_thousands};

/// The largest configuration read. The largest published one seen is 3 MB, mostly a list of quantised modules.
pub(super) const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// The longest index of safetensors files, or list of models, that is read.
pub(super) const MAX_LIST_BYTES: u64 = 32 << 20;

/// An error while something is read; the hub's own where it came through a reader.
pub(super) fn reading(error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| {
        Error::without_value(Code::Io, "", format!("cannot be read: {error}"), "make the file readable")
    })
}

fn reading_of(path: &Path) -> impl Fn(io::Error) -> Error {
    |error| reading(error).at(path.display().to_string())
}

pub(super) fn missing(path: &Path) -> Error {
    let remedy = "give a config.json, a GGUF file, a directory with one, or a catalogue name";
    Error::without_value(Code::NoSuchFile, path.display().to_string(), "no such file", remedy)
}

fn too_large(size: Option<u64>, limit: u64) -> Error {
    let found = size.map_or_else(|| "the text".into(), |size| format!("{} bytes", group_thousands(size)));
    let problem = format!("is more than the {} bytes that are read", group_thousands(limit));
    Error::new(Code::TooLarge, "", found, problem, "give the config.json, not the weights")
}

/// Whether something is at a path, a link that leads nowhere included.
pub(super) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// The length of the file at `path`; `None` if there is nothing.
fn len(path: &Path) -> Result<Option<u64>, Error> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
        // Asked before opening: opening a pipe with no writer would wait for one.
        Ok(_) => {
            let remedy = "give a file, or pipe the text in and use - as MODEL";
            Err(Error::without_value(Code::NotAFile, path.display().to_string(), "not a regular file", remedy))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_there(path) => Ok(None),
        Err(error) => Err(reading_of(path)(error)),
    }
}

/// A directory on this machine.
pub(super) struct Directory(pub(super) PathBuf);

impl Files for Directory {
    fn text(&self, name: &str, limit: u64) -> Result<Option<String>, Error> {
        let path = self.0.join(name);
        len(&path)?.map(|len| read_whole(&path, len, limit)).transpose()
    }

    fn open(&self, name: &str) -> Result<Option<Opened<'_>>, Error> {
        let path = self.0.join(name);
        let Some(len) = len(&path)? else { return Ok(None) };
        let file = File::open(&path).map_err(reading_of(&path))?;
        Ok(Some(Opened { reader: Box::new(file), len }))
    }

    fn names(&self) -> Result<Vec<String>, Error> {
        let directory = if self.0.as_os_str().is_empty() { Path::new(".") } else { &self.0 };
        let mut names = Vec::new();
        for entry in fs::read_dir(directory).map_err(reading_of(directory))? {
            let path = entry.map_err(reading_of(directory))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).filter(|_| path.is_file());
            names.extend(name.map(ToOwned::to_owned));
        }
        names.sort();
        Ok(names)
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn label(&self, name: &str) -> String {
        let path = if name.is_empty() { self.0.clone() } else { self.0.join(name) };
        path.display().to_string()
    }

    fn model_name(&self, name: &str) -> String {
        model_name(&self.0.join(name))
    }

    fn no_model(&self, _: Option<&str>, _: &[String]) -> Error {
        let remedy = "give the directory of a model, or the file itself";
        let problem = "has no config.json and no GGUF file";
        Error::new(Code::NoConfig, self.0.display().to_string(), "the directory", problem, remedy)
    }

    fn several_gguf(&self, names: &[String]) -> Error {
        let (found, remedy) =
            (format!("{} GGUF files", names.len()), format!("name one of them: {}", names.join(", ")));
        Error::new(Code::SeveralGguf, self.0.display().to_string(), found, "are there", remedy)
    }
}

/// Whether a file begins as GGUF files do.
pub(super) fn begins_as_gguf(directory: &Directory, name: &str) -> Result<bool, Error> {
    let Some(Opened { reader, .. }) = directory.open(name)? else { return Ok(false) };
    let mut magic = Vec::new();
    reader.take(4).read_to_end(&mut magic).map_err(reading_of(&directory.0.join(name)))?;
    Ok(magic == *b"GGUF")
}

/// A file to be read from its start, a pipe too.
///
/// # Errors
/// [`Error`] when it can't be opened, or is a directory.
pub fn open(path: &Path) -> Result<File, Error> {
    let file = File::open(path).map_err(reading_of(path))?;
    if file.metadata().map_err(reading_of(path))?.is_dir() {
        return Err(reading_of(path)(io::ErrorKind::IsADirectory.into()));
    }
    Ok(file)
}

/// The text of standard input.
///
/// # Errors
/// [`Error`] when it can't be read, is too long, or is not UTF-8.
pub fn text_of_stdin(stdin: &mut dyn Read) -> Result<String, Error> {
    read_text(stdin, "standard input", MAX_CONFIG_BYTES)
}

/// The text of a list that a user wrote.
///
/// # Errors
/// [`Error`] when it can't be read, is too long, or is not UTF-8.
pub fn text(path: &Path) -> Result<String, Error> {
    let len = len(path)?.map_or_else(|| fs::metadata(path).map(|metadata| metadata.len()), Ok);
    read_whole(path, len.map_err(reading_of(path))?, MAX_LIST_BYTES)
}

/// The text of a file of `len` bytes, at most `limit`.
fn read_whole(path: &Path, len: u64, limit: u64) -> Result<String, Error> {
    let label = path.display().to_string();
    if len > limit {
        return Err(too_large(Some(len), limit).at(label));
    }
    let file = File::open(path).map_err(reading_of(path))?;
    read_text(file, &label, limit)
}

/// The text of a reader of at most `limit` bytes.
pub(super) fn read_text(reader: impl Read, label: &str, limit: u64) -> Result<String, Error> {
    let mut bytes = Vec::new();
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| reading(error).at(label))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
        return Err(too_large(None, limit).at(label));
    }
    if bytes.starts_with(b"GGUF") {
        let problem = "a GGUF file, whose header is read from a file only";
        return Err(Error::without_value(Code::Gguf, label, problem, "give its path"));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::new(Code::NotText, label, "the content", "is not UTF-8 text", "give a config.json"))
}

/// The token in a file, if there is one.
#[cfg(feature = "hub")]
pub(super) fn read_token(path: &Path) -> Option<String> {
    /// More than any token has.
    const MAX_TOKEN_BYTES: u64 = 4 << 10;
    if !path.is_file() {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(MAX_TOKEN_BYTES).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_past_the_limit_is_refused_without_reading_on() {
        let mut endless = io::repeat(b' ');
        assert_eq!(text_of_stdin(&mut endless).unwrap_err().code, Code::TooLarge);
        assert_eq!(text_of_stdin(&mut &b"\xff"[..]).unwrap_err().code, Code::NotText);
    }
}
