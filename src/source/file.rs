//! Files and standard input, with a limit on what is read.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use crate::units::{Code, Diagnose, Error, display_diagnosis, group_thousands};

/// The largest configuration read. The largest published one seen is 3 MB, mostly a list of quantised modules.
pub(super) const MAX_CONFIG_BYTES: u64 = 4 << 20;

/// The longest index of safetensors files, or list of models, that is read.
pub(super) const MAX_LIST_BYTES: u64 = 32 << 20;

/// Why a file has no text for us.
#[derive(Debug)]
pub enum FileError {
    /// A path that leads nowhere.
    Missing(PathBuf),
    /// A directory without a `config.json`.
    NoConfig(PathBuf),
    /// A pipe, socket or device.
    NotRegular(PathBuf),
    /// More than is read; the size if it was known before reading.
    TooLarge(PathBuf, Option<u64>),
    /// Not UTF-8.
    NotText(PathBuf),
    /// A GGUF file where text is read.
    Gguf(PathBuf),
    /// A directory with several GGUF files; their names.
    SeveralGguf(PathBuf, Vec<String>),
    /// Weights without a `config.json` beside them.
    NoConfigBeside(PathBuf),
    /// An index that names a file elsewhere; the name.
    Outside(PathBuf, String),
    /// What the system said.
    Io(PathBuf, io::Error),
}

impl Diagnose for FileError {
    fn diagnosis(&self) -> Error {
        if let Self::SeveralGguf(path, names) = self {
            return Error {
                code: Code::SeveralGguf,
                field: path.display().to_string(),
                found: Some(format!("{} GGUF files", names.len())),
                problem: "are there".into(),
                remedy: format!("name one of them: {}", names.join(", ")),
            };
        }
        let (path, code, found, problem, remedy) = match self {
            Self::Missing(path) => (
                path,
                Code::NoSuchFile,
                "nothing".into(),
                "is there".into(),
                "give a config.json, a GGUF file, a directory with one, or a catalogue name",
            ),
            Self::NoConfig(path) => (
                path,
                Code::NoConfig,
                "the directory".into(),
                "has no config.json and no GGUF file".into(),
                "give the directory of a model, or the file itself",
            ),
            Self::NotRegular(path) => (
                path,
                Code::NotAFile,
                "it".into(),
                "is not a regular file".into(),
                "give a file, or pipe the text in and say -",
            ),
            Self::TooLarge(path, size) => (
                path,
                Code::TooLarge,
                size.map_or_else(|| "the text".into(), |size| format!("{} bytes", group_thousands(size))),
                format!(
                    "is more than a config.json has (at most {} bytes are read)",
                    group_thousands(MAX_CONFIG_BYTES)
                ),
                "give the config.json, not the weights",
            ),
            Self::NotText(path) => {
                (path, Code::NotText, "the content".into(), "is not UTF-8 text".into(), "give a config.json")
            }
            Self::Gguf(path) => (
                path,
                Code::Gguf,
                "it".into(),
                "is a GGUF file, whose header is read from a file only".into(),
                "give its path",
            ),
            Self::NoConfigBeside(path) => (
                path,
                Code::NoConfigBeside,
                "no config.json".into(),
                "is beside it, and weights alone tell no cache".into(),
                "put the model's config.json there (`kvsize weights` needs none)",
            ),
            Self::Outside(path, name) => (
                path,
                Code::IndexOutside,
                format!("{name:?}"),
                "is no file beside the index".into(),
                "download the index again",
            ),
            Self::SeveralGguf(path, _) => (path, Code::SeveralGguf, String::new(), String::new(), ""),
            Self::Io(path, error) => (path, Code::Io, error.to_string(), String::new(), "make the file readable"),
        };
        Error { code, field: path.display().to_string(), found: Some(found), problem, remedy: remedy.into() }
    }
}

display_diagnosis!(FileError);

/// Whether something is at a path, a link that leads nowhere included.
pub(super) fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// What is at `path`; none if there is nothing.
pub(super) fn metadata(path: &Path) -> Result<Option<fs::Metadata>, FileError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::Io(path.to_path_buf(), error)),
    }
}

/// Whether `argument` can only have been meant as a path.
pub(super) fn looks_like_a_path(argument: &str) -> bool {
    let path = Path::new(argument);
    path.is_absolute()
        || argument.starts_with("./")
        || argument.starts_with("../")
        || argument.ends_with('/')
        || ["json", "gguf", "safetensors"].iter().any(|kind| has_extension(path, kind))
}

fn has_extension(path: &Path, kind: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind))
}

/// The GGUF file that `path` means, opened, with its path and length: the file itself, known by its first bytes or its
/// name; the one in a directory without a `config.json`; of a split file the first part, which has the keys. None if it
/// means no such file.
pub(super) fn open_gguf(path: &Path) -> Result<Option<(File, PathBuf, u64)>, FileError> {
    let path = if path.is_dir() {
        let Some(path) = gguf_inside(path)? else { return Ok(None) };
        path
    } else {
        path.to_path_buf()
    };
    let io = |error| FileError::Io(path.clone(), error);
    let metadata = fs::metadata(&path).map_err(io)?;
    if !metadata.is_file() || has_extension(&path, "json") {
        return Ok(None);
    }
    let first = first_part(&path);
    if let Some(first) = first.filter(|first| *first != path && first.is_file()) {
        return open_gguf(&first);
    }
    let mut file = File::open(&path).map_err(io)?;
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut magic).map_err(io)?;
    if magic != *b"GGUF" && !has_extension(&path, "gguf") {
        return Ok(None);
    }
    file.rewind().map_err(io)?;
    Ok(Some((file, path, metadata.len())))
}

/// The one GGUF file of a language model in a directory without a `config.json`; the parts of a split file are one.
fn gguf_inside(directory: &Path) -> Result<Option<PathBuf>, FileError> {
    let io = |error| FileError::Io(directory.to_path_buf(), error);
    if directory.join("config.json").exists() {
        return Ok(None);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if is_language_model(&path, Path::is_file) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    match files.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Err(FileError::SeveralGguf(directory.to_path_buf(), several.iter().map(name).collect()))
        }
    }
}

/// Whether a file is by its name the GGUF file of a language model, or the first part of one, the others being where
/// `is_there` says.
pub(super) fn is_language_model(path: &Path, is_there: impl Fn(&Path) -> bool) -> bool {
    // What makes images out to the model lies beside it under a name of its own.
    let projector = path.file_name().is_some_and(|name| name.to_string_lossy().contains("mmproj"));
    let later = first_part(path).is_some_and(|first| first != path && is_there(&first));
    has_extension(path, "gguf") && !projector && !later
}

/// The path of the first part of a split file (`…-00002-of-00003.gguf`), if that is what `path` is a part of.
pub(super) fn first_part(path: &Path) -> Option<PathBuf> {
    let stem = path.file_stem()?.to_str()?;
    let (rest, parts) = stem.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let five_digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let split = has_extension(path, "gguf") && five_digits(part) && five_digits(parts);
    split.then(|| path.with_file_name(format!("{name}-00001-of-{parts}.gguf")))
}

/// The text of a `config.json`, or of the one in a directory, and its path.
pub(super) fn read_config(path: &Path) -> Result<(String, PathBuf), FileError> {
    let owned = || path.to_path_buf();
    let metadata = fs::metadata(path).map_err(|error| FileError::Io(owned(), error))?;
    if metadata.is_dir() {
        let inside = path.join("config.json");
        if !inside.exists() {
            return Err(FileError::NoConfig(owned()));
        }
        if inside.is_dir() {
            return Err(FileError::NotRegular(inside));
        }
        return read_config(&inside);
    }
    // Asked before opening: opening a pipe with no writer would wait for one.
    if !metadata.is_file() {
        return Err(FileError::NotRegular(owned()));
    }
    if metadata.len() > MAX_CONFIG_BYTES {
        return Err(FileError::TooLarge(owned(), Some(metadata.len())));
    }
    let file = File::open(path).map_err(|error| FileError::Io(owned(), error))?;
    Ok((read_text(file, path, MAX_CONFIG_BYTES)?, owned()))
}

/// A file to be read from its start, a pipe too.
pub(super) fn open(path: &Path) -> Result<File, FileError> {
    let failed = |error| FileError::Io(path.to_path_buf(), error);
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    Ok(file)
}

/// The text of the `hf_quant_config.json` beside a `config.json`, if there is one.
pub(super) fn read_quantization(config: &Path) -> Result<Option<(String, PathBuf)>, FileError> {
    if config.file_name().is_none_or(|name| name != "config.json") {
        return Ok(None);
    }
    let path = config.with_file_name("hf_quant_config.json");
    if !path.exists() {
        return Ok(None);
    }
    read_within(&path, MAX_CONFIG_BYTES).map(|text| Some((text, path)))
}

/// All of standard input, within the limit.
pub(super) fn read_stdin(stdin: &mut dyn Read) -> Result<String, FileError> {
    read_text(stdin, Path::new("standard input"), MAX_CONFIG_BYTES)
}

/// The text of a reader of at most `limit` bytes.
pub(super) fn read_text(reader: impl Read, path: &Path, limit: u64) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| FileError::Io(path.to_path_buf(), error))?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > limit) {
        return Err(FileError::TooLarge(path.to_path_buf(), None));
    }
    if bytes.starts_with(b"GGUF") {
        return Err(FileError::Gguf(path.to_path_buf()));
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_path_buf()))
}

/// A name for the model of a file: its directory's for a `config.json`, else its own. `org--name` is `org/name`, and a
/// snapshot in the hub's cache (`models--org--name/snapshots/…`) is what it is a snapshot of.
pub(super) fn model_name(path: &Path) -> String {
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    let name = match path.file_stem().map(text) {
        Some(stem) if stem == "config" => {
            let full = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
            let cached =
                full.ancestors().filter_map(Path::file_name).map(text).find(|name| name.starts_with("models--"));
            match cached {
                Some(cached) => cached.trim_start_matches("models--").to_owned(),
                None => full.parent().and_then(Path::file_name).map_or(stem, text),
            }
        }
        Some(stem) => stem,
        None => path.display().to_string(),
    };
    name.replacen("--", "/", 1)
}

/// A name for the model of a directory, or of the one that a file is in.
pub(super) fn directory_name(path: &Path) -> String {
    let full = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let directory = if full.is_dir() { full.as_path() } else { full.parent().unwrap_or(&full) };
    model_name(&directory.join("config.json"))
}

/// The text of an index or of a user's own list.
pub(super) fn read_whole(path: &Path) -> Result<String, FileError> {
    read_within(path, MAX_LIST_BYTES)
}

/// The text of a file of at most `limit` bytes.
fn read_within(path: &Path, limit: u64) -> Result<String, FileError> {
    let metadata = fs::metadata(path).map_err(|error| FileError::Io(path.to_path_buf(), error))?;
    if !metadata.is_file() {
        return Err(FileError::NotRegular(path.to_path_buf()));
    }
    let file = File::open(path).map_err(|error| FileError::Io(path.to_path_buf(), error))?;
    read_text(file, path, limit)
}

/// What a file with a token says, if there is one.
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
        assert!(matches!(read_stdin(&mut endless), Err(FileError::TooLarge(_, None))));
        assert!(matches!(read_stdin(&mut &b"\xff"[..]), Err(FileError::NotText(_))));
    }

    #[test]
    fn names_come_from_paths() {
        assert_eq!(model_name(Path::new("x/meta-llama--Llama-3.1-8B.json")), "meta-llama/Llama-3.1-8B");
        let cached = "hub/models--google--gemma-3-4b-it/snapshots/0123/config.json";
        assert_eq!(model_name(Path::new(cached)), "google/gemma-3-4b-it");
        for (text, is_path) in
            [("./x", true), ("x.json", true), ("/x", true), ("x/", true), ("org/name", false), ("x", false)]
        {
            assert_eq!(looks_like_a_path(text), is_path, "{text}");
        }
    }
}
