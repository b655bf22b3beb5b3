//! What a model weighs: from the headers of the files that hold its weights, else from the total of their index, else from
//! the catalogue or the dimensions of its configuration. The weights themselves are never read.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::{computed, experts, mtp_layers};
use crate::catalogue::{ModelEntry, ModelFacts};
use crate::model::{DtypeWeights, Experts, Tensors as Shapes, Weights, WeightsOrigin};
use crate::source::file::{self, FileError};
use crate::source::safetensors::{self, Tensors};
use crate::source::{SourceError, gguf};
use crate::units::{Bytes, group_thousands};

/// What is known of the weights of a model, or the reason why nothing is.
pub type Known = Result<Weights, String>;

/// The safetensors files of a model, by their index or their names.
pub(in crate::source) struct WeightFiles {
    files: Vec<PathBuf>,
    /// What the index states, if there is one.
    total: Option<u64>,
}

/// The suffix of the index of a model in several files.
const INDEX: &str = ".safetensors.index.json";

/// Whether `path` is, by its name, a safetensors file or the index of several.
pub(in crate::source) fn is_safetensors(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".safetensors") || name.ends_with(INDEX)
}

/// The safetensors files that `path` means: those of the directory, beside the `config.json`, of the index, or the file
/// itself with the others of its set. None if there are none.
pub(in crate::source) fn files_of(path: &Path) -> Result<Option<WeightFiles>, SourceError> {
    if path.is_dir() {
        let index = path.join("model.safetensors.index.json");
        if index.is_file() {
            return of_index(&index).map(Some);
        }
        return of_names(path).map_err(SourceError::File);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(INDEX) {
        return of_index(path).map(Some);
    }
    if name.ends_with(".safetensors") {
        let files = parts(path).unwrap_or_else(|| vec![path.to_path_buf()]);
        let index = path.with_file_name("model.safetensors.index.json");
        let total = if files.len() > 1 && index.is_file() { read_index(&index)?.total() } else { None };
        return Ok(Some(WeightFiles { files, total }));
    }
    let beside = name == "config.json";
    let directory = path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    match directory.filter(|_| beside) {
        Some(directory) => files_of(directory),
        None => Ok(None),
    }
}

/// The files of a directory without an index: the one, or the first set whose names say that they belong together.
fn of_names(directory: &Path) -> Result<Option<WeightFiles>, FileError> {
    let one = directory.join("model.safetensors");
    if one.is_file() {
        return Ok(Some(WeightFiles { files: vec![one], total: None }));
    }
    let io = |error| FileError::Io(directory.to_path_buf(), error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // What was trained beside a model, and the same weights under Mistral's own names.
        let other = name.starts_with("adapter") || name.starts_with("consolidated");
        if name.ends_with(".safetensors") && path.is_file() && !other {
            names.push(path);
        }
    }
    names.sort();
    let set = names.iter().find_map(|path| parts(path).filter(|parts| parts.len() > 1));
    let files = match (set, names.as_slice()) {
        (Some(set), _) => set,
        (None, [one]) => vec![one.clone()],
        (None, _) => return Ok(None),
    };
    Ok(Some(WeightFiles { files, total: None }))
}

/// All parts of the set that a file named `…-00002-of-00003.safetensors` belongs to.
fn parts(path: &Path) -> Option<Vec<PathBuf>> {
    let (stem, extension) = (path.file_stem()?.to_str()?, path.extension()?.to_str()?);
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (name, part) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(part) || !digits(count) {
        return None;
    }
    let last = count.parse::<u32>().ok().filter(|&last| usize::try_from(last).is_ok_and(|last| last <= MAX_FILES))?;
    let part = |part: u32| path.with_file_name(format!("{name}-{part:05}-of-{count}.{extension}"));
    Some((1..=last).map(part).collect()).filter(|parts: &Vec<_>| !parts.is_empty())
}

/// The index of a model in several files.
#[derive(Deserialize)]
pub(in crate::source) struct Index {
    #[serde(default)]
    metadata: Option<IndexMetadata>,
    weight_map: FileNames,
}

#[derive(Deserialize)]
struct IndexMetadata {
    total_size: Option<serde_json::Number>,
}

impl Index {
    /// The files, each once.
    #[cfg(feature = "hub")]
    pub(in crate::source) fn names(&self) -> &BTreeSet<String> {
        &self.weight_map.0
    }

    /// The bytes of all weights; some indices write them with a point.
    pub(in crate::source) fn total(&self) -> Option<u64> {
        let number = self.metadata.as_ref()?.total_size.as_ref()?.to_string();
        number.strip_suffix(".0").unwrap_or(&number).parse().ok()
    }
}

/// Files of a model at most.
const MAX_FILES: usize = 10_000;

/// The files that a map of tensors names, each once.
struct FileNames(BTreeSet<String>);

impl<'de> Deserialize<'de> for FileNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = FileNames;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object that names the file of each tensor")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FileNames, A::Error> {
                let mut names = BTreeSet::new();
                while map.next_key::<IgnoredAny>()?.is_some() {
                    let name: std::borrow::Cow<'_, str> = map.next_value()?;
                    if !names.contains(&*name) {
                        names.insert(name.into_owned());
                    }
                    if names.len() > MAX_FILES {
                        return Err(de::Error::custom("it names more files than any model has"));
                    }
                }
                Ok(FileNames(names))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

/// The index that a text is.
pub(in crate::source) fn parse_index(text: &[u8]) -> Result<Index, serde_json::Error> {
    serde_json::from_slice(text)
}

fn read_index(path: &Path) -> Result<Index, SourceError> {
    let text = file::read_whole(path).map_err(SourceError::File)?;
    parse_index(text.as_bytes()).map_err(|error| SourceError::Index { origin: path.display().to_string(), error })
}

fn of_index(path: &Path) -> Result<WeightFiles, SourceError> {
    let index = read_index(path)?;
    let total = index.total();
    let mut files = Vec::with_capacity(index.weight_map.0.len());
    for name in index.weight_map.0 {
        if !is_inside(&name) {
            return Err(SourceError::File(FileError::Outside(path.to_path_buf(), name)));
        }
        files.push(path.with_file_name(name));
    }
    Ok(WeightFiles { files, total })
}

/// Whether a name is of a file beside or below the index that has it.
pub(in crate::source) fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

impl WeightFiles {
    /// The weights: of the headers if all files are here, else of the index's total.
    pub(in crate::source) fn weights(&self, experts: Option<Experts>) -> Result<Known, SourceError> {
        let mut tensors = Tensors::default();
        let mut missing = Vec::new();
        for path in &self.files {
            if !header(path, &mut tensors)? {
                missing.push(path);
            }
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let all = self.files.len();
        let Some(first) = missing.first() else {
            return Ok(Ok(of_tensors(&tensors, all, experts)));
        };
        let absent = format!("{} of the {all} files are not here ({})", missing.len(), name(first));
        let Some(total) = self.total else { return Ok(Err(format!("{absent}, and no index states the total"))) };
        Ok(Ok(of_total(total, format!("{absent}: the bytes are the total that the index states"))))
    }
}

/// The weights of which only the total of an index is known, with a note that says why.
pub(in crate::source) fn of_total(total: u64, note: String) -> Weights {
    Weights {
        by_dtype: Vec::new(),
        bytes: Some(Bytes(total)),
        parameters: None,
        active_parameters: None,
        tensors: None,
        origin: WeightsOrigin::Index,
        notes: vec![note],
    }
}

/// Adds the tensors of a file; false if it is not here, or only a note of Git LFS that it is elsewhere.
fn header(path: &Path, tensors: &mut Tensors) -> Result<bool, SourceError> {
    const POINTER: &[u8] = b"version https://git-lfs";
    const POINTER_BYTES: u64 = 1024;
    let file_error = |error: FileError| SourceError::File(error);
    let Some(metadata) = file::metadata(path).map_err(file_error)? else { return Ok(false) };
    // Asked before opening: opening a pipe with no writer would wait for one.
    if !metadata.is_file() {
        return Err(file_error(FileError::NotRegular(path.to_path_buf())));
    }
    let io = |error| file_error(FileError::Io(path.to_path_buf(), error));
    let mut file = File::open(path).map_err(io)?;
    if metadata.len() < POINTER_BYTES {
        let mut whole = Vec::new();
        file.by_ref().take(POINTER_BYTES).read_to_end(&mut whole).map_err(io)?;
        if whole.starts_with(POINTER) {
            return Ok(false);
        }
        safetensors::read(whole.as_slice(), metadata.len(), tensors)
    } else {
        safetensors::read(file, metadata.len(), tensors)
    }
    .map_err(|error| SourceError::Safetensors { origin: path.display().to_string(), error })?;
    Ok(true)
}

/// The weights that the tensors of `files` files come to.
pub(in crate::source) fn of_tensors(tensors: &Tensors, files: usize, experts: Option<Experts>) -> Weights {
    let parameters = tensors.parameters();
    let mut notes = Vec::new();
    if files > 1 {
        notes.push(format!("the headers of {files} files"));
    }
    if parameters.is_none() {
        notes.push(
            "the weights are packed in a way that the headers don't tell: their parameters are not counted".into(),
        );
    }
    let active = experts.and_then(|experts| experts.active(parameters?, tensors.routed));
    if active.is_some() {
        notes.push(
            "active: of the tensors under `experts` the share that the config sends a token to, and all others".into(),
        );
    }
    Weights {
        by_dtype: tensors
            .types
            .iter()
            .map(|share| DtypeWeights {
                dtype: share.name.into(),
                tensors: Some(share.tensors),
                parameters: share.elements,
                bytes: Some(Bytes(share.bytes)),
            })
            .collect(),
        bytes: tensors.bytes().map(Bytes),
        parameters,
        active_parameters: active,
        tensors: None,
        origin: WeightsOrigin::Headers,
        notes,
    }
}

/// The weights of a GGUF file whose header is `first`, and of the other parts of it if it is split.
pub(in crate::source) fn of_gguf(first: &gguf::Header, path: &Path) -> Result<Known, SourceError> {
    let mut tensors = first.tensors.clone();
    let files = parts(path).filter(|files| files.len() > 1);
    if let (Some(count), None) = (number(first, "split.count").filter(|&count| count > 1), &files) {
        return Ok(Err(format!("it is a part of {count}, and its name does not tell those of the others")));
    }
    let files = files.unwrap_or_default();
    let mut missing = first.missing;
    for path in files.iter().filter(|part| part.as_path() != path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file_error = |error: FileError| SourceError::File(error);
        let Some(metadata) = file::metadata(path).map_err(file_error)? else {
            return Ok(Err(format!("{name}, a part of it, is not here")));
        };
        if !metadata.is_file() {
            return Err(file_error(FileError::NotRegular(path.clone())));
        }
        let opened = File::open(path).map_err(|error| file_error(FileError::Io(path.clone(), error)))?;
        gguf::read(opened, metadata.len())
            .and_then(|header| {
                missing = missing.saturating_add(header.missing);
                tensors.merge(header.tensors)
            })
            .map_err(|error| SourceError::Gguf { origin: path.display().to_string(), error })?;
    }
    Ok(Ok(of_headers(first, &tensors, missing, files.len())))
}

/// The weights of a GGUF file of which no other part can be read.
#[cfg(feature = "hub")]
pub(in crate::source) fn of_one_gguf(header: &gguf::Header) -> Known {
    match number(header, "split.count").filter(|&count| count > 1) {
        Some(count) => Err(format!("it is a part of {count}, and the headers of the others were not asked for")),
        None => Ok(of_headers(header, &header.tensors, header.missing, 1)),
    }
}

/// A whole number of the metadata.
fn number(header: &gguf::Header, key: &str) -> Option<u64> {
    match header.metadata.get(key) {
        Some(gguf::Value::Integer(value)) => u64::try_from(*value).ok(),
        _ => None,
    }
}

/// The weights that the headers of `files` GGUF files come to, `first` being the first.
fn of_headers(first: &gguf::Header, tensors: &gguf::Tensors, missing: u64, files: usize) -> Weights {
    let mut notes = Vec::new();
    if files > 1 {
        notes.push(format!("the headers of {files} files"));
    }
    if missing > 0 {
        let missing = group_thousands(missing);
        notes.push(format!(
            "{missing} bytes of the tensors lie past the end of the file: it is cut short, or a header alone"
        ));
    }
    if !tensors.nextn.is_empty() {
        notes.push("what predicts further tokens (MTP) is counted".into());
    }
    let unknown: Vec<String> =
        tensors.types.iter().filter(|share| share.name.is_none()).map(|share| share.id.to_string()).collect();
    if !unknown.is_empty() {
        notes.push(format!("the bytes of type {} are not known, and so not the sum", unknown.join(", ")));
    }
    let architecture = match first.metadata.get("general.architecture") {
        Some(gguf::Value::Text(name)) => name.as_str(),
        _ => "",
    };
    let all = number(first, &format!("{architecture}.expert_count")).filter(|&all| all > 1);
    let per_token = number(first, &format!("{architecture}.expert_used_count"));
    let experts = all.zip(per_token).map(|(all, per_token)| Experts { all, per_token });
    let active = experts.and_then(|experts| experts.active(tensors.parameters, tensors.routed));
    if active.is_some() {
        notes.push("active: of the tensors named _exps the share that a token is sent to, and all others".into());
    }
    Weights {
        by_dtype: tensors
            .types
            .iter()
            .map(|share| DtypeWeights {
                dtype: share.name.map_or_else(|| format!("type {}", share.id), Into::into),
                tensors: Some(share.tensors),
                parameters: share.parameters,
                bytes: share.bytes.map(Bytes),
            })
            .collect(),
        bytes: tensors.bytes().map(Bytes),
        parameters: Some(tensors.parameters),
        active_parameters: active,
        tensors: None,
        origin: WeightsOrigin::Headers,
        notes,
    }
}

/// The weights of an entry of the catalogue: its figures, or those that its configuration comes to.
pub(in crate::source) fn of_entry(entry: &ModelEntry) -> Known {
    if entry.parameters.is_some() || entry.weight_bytes.is_some() {
        return Ok(Weights {
            by_dtype: Vec::new(),
            bytes: entry.weight_bytes.map(Bytes),
            parameters: entry.parameters,
            active_parameters: None,
            tensors: tensors_of_entry(entry),
            origin: WeightsOrigin::Catalogue,
            notes: vec![format!("source: {}", entry.source)],
        });
    }
    match &entry.facts {
        ModelFacts::Config(config) => {
            computed(config, None).map_err(|reason| format!("the catalogue has no figure for it, and {reason}"))
        }
        ModelFacts::Spec(_) => Err(OF_THE_CACHE.into()),
    }
}

/// Adds the tensors that a configuration implies to weights that were read elsewhere.
pub(in crate::source) fn with_tensors(known: &mut Known, config: &Value) {
    if let Ok(weights) = known {
        weights.tensors = computed(config, None).ok().and_then(|computed| computed.tensors);
    }
}

/// The tensors that the configuration of an entry implies.
fn tensors_of_entry(entry: &ModelEntry) -> Option<Shapes> {
    match &entry.facts {
        ModelFacts::Config(config) => computed(config, None).ok()?.tensors,
        ModelFacts::Spec(_) => None,
    }
}

/// Why dimensions of a cache tell no weights.
pub(in crate::source) const OF_THE_CACHE: &str = "the dimensions given are those of its cache";

/// The weights of a configuration, with the files beside it if it is a file.
pub(in crate::source) fn of_config(config: &Value, path: Option<&Path>) -> Result<Known, SourceError> {
    if let Some(path) = path
        && let Some(files) = files_of(path)?
    {
        let mut known = files.weights(experts(config))?;
        let further = mtp_layers(config);
        with_tensors(&mut known, config);
        if let (Ok(weights), Some(layers)) = (&mut known, further)
            && weights.origin == WeightsOrigin::Headers
        {
            weights
                .notes
                .push(format!("what predicts further tokens (MTP layers: {layers}) is counted if the files hold it"));
        }
        return Ok(known);
    }
    let quant_file = match path {
        Some(path) => file::read_quantization(path).map_err(SourceError::File)?.map(|_| "hf_quant_config.json"),
        None => None,
    };
    Ok(computed(config, quant_file))
}
