//! The files that hold a model's weights, of which the headers are read, or the index.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::known::{self, Known};
use super::{experts, mtp_layers};
use crate::model::{Experts, WeightsOrigin};
use crate::source::file::MAX_LIST_BYTES;
use crate::source::file_names::{MAX_PARTS, Part, is_inside};
use crate::source::files::{Files, add_tensors, gguf_header};
use crate::source::gguf;
use crate::source::safetensors::Tensors;
use crate::units::{Code, Error, Exact};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const SAFETENSORS: &str = ".safetensors";

/// The headers of this many files at most are read over the network.
const MAX_REMOTE_HEADERS: usize = 8;

/// Whether a name is of a safetensors file or of the index of several.
pub(in crate::source) fn is_safetensors(name: &str) -> bool {
    name.ends_with(SAFETENSORS) || is_index(name)
}

fn is_index(name: &str) -> bool {
    name.ends_with(".safetensors.index.json")
}

/// Whether there are weights among the files of a directory.
pub(in crate::source) fn are_among(names: &[String]) -> bool {
    names.iter().any(|name| name == INDEX) || without_index(names).is_some()
}

/// The safetensors files without an index: the one, or the first set whose names say that they belong together.
fn without_index(names: &[String]) -> Option<Vec<String>> {
    if names.iter().any(|name| name == SINGLE) {
        return Some(vec![SINGLE.into()]);
    }
    // What was trained for a model, and the same weights under Mistral's own names.
    let other = |name: &str| name.starts_with("adapter") || name.starts_with("consolidated");
    let names: Vec<&String> = names.iter().filter(|name| name.ends_with(SAFETENSORS) && !other(name)).collect();
    match (names.iter().find_map(|name| Part::parse(name)?.all()), names.as_slice()) {
        (Some(set), _) => Some(set),
        (None, [one]) => Some(vec![(*one).clone()]),
        (None, _) => None,
    }
}

/// The weights in the files that belong to a configuration; `None` if there are none.
pub(in crate::source) fn of_config(
    files: &dyn Files,
    wanted: Option<&str>,
    config: &Value,
) -> Result<Option<Known>, Error> {
    let Some(mut known) = in_files(files, wanted, experts(config))? else { return Ok(None) };
    known::with_tensors(&mut known, config);
    if let (Ok(weights), Some(layers)) = (&mut known, mtp_layers(config))
        && weights.origin == WeightsOrigin::Headers
    {
        weights.notes.push(format!("MTP layers ({layers}) are counted if the files hold them"));
    }
    Ok(Some(known))
}

/// The weights in the safetensors files that are `wanted`, by one of them or by their index, or else in those that are
/// there; `None` if there are none. `experts` are those of the configuration.
pub(in crate::source) fn in_files(
    files: &dyn Files,
    wanted: Option<&str>,
    experts: Option<Experts>,
) -> Result<Option<Known>, Error> {
    let mut tensors = Tensors::default();
    if wanted.is_none() && add_tensors(files, SINGLE, &mut tensors)? {
        return Ok(Some(Ok(known::of_tensors(&tensors, 1, experts))));
    }
    let Some(Set { names, total }) = set(files, wanted)? else { return Ok(None) };
    let or_total =
        |reason: String, note: String| Ok(Some(total.map(|total| known::of_total(total, note)).ok_or(reason)));
    let all = names.len();
    if files.is_remote() && all > MAX_REMOTE_HEADERS {
        let reason = format!("the headers of its {all} files were not requested");
        return or_total(
            format!("{reason}, and no index states the total"),
            format!("{reason}: the bytes are the total that the index states"),
        );
    }
    let mut missing = Vec::new();
    for name in &names {
        if !add_tensors(files, name, &mut tensors)? {
            missing.push(name);
        }
    }
    let Some(first) = missing.first() else { return Ok(Some(Ok(known::of_tensors(&tensors, all, experts)))) };
    let reason = format!("{} of the {all} files are missing ({first})", missing.len());
    or_total(
        format!("{reason}, and no index states the total"),
        format!("{reason}: the bytes are the total that the index states"),
    )
}

/// The safetensors files of a model.
struct Set {
    names: Vec<String>,
    /// The bytes that the index states.
    total: Option<u64>,
}

fn set(files: &dyn Files, wanted: Option<&str>) -> Result<Option<Set>, Error> {
    Ok(match wanted {
        Some(name) if is_index(name) => index(files, name)?,
        Some(name) => {
            let names = Part::parse(name).and_then(|part| part.all());
            let total = match names.as_ref().map(|_| index(files, INDEX)).transpose()?.flatten() {
                Some(index) => index.total,
                None => None,
            };
            Some(Set { names: names.unwrap_or_else(|| vec![name.to_owned()]), total })
        }
        None => match index(files, INDEX)? {
            Some(set) => Some(set),
            None if files.is_remote() => None,
            None => without_index(&files.names()?).map(|names| Set { names, total: None }),
        },
    })
}

/// The files that an index names; `None` if there is no index.
fn index(files: &dyn Files, name: &str) -> Result<Option<Set>, Error> {
    let Some(text) = files.text(name, MAX_LIST_BYTES)? else { return Ok(None) };
    let wrong = |code, found: String, problem: String| {
        Error::new(code, files.label(name), found, problem, "download the index again")
    };
    let index: Index = serde_json::from_str(&text).map_err(|error| {
        let problem = format!("is not an index of safetensors files: {error}");
        wrong(Code::SafetensorsIndex, "the text".into(), problem)
    })?;
    let total = index.total();
    if let Some(outside) = index.weight_map.0.iter().find(|name| !is_inside(name)) {
        return Err(wrong(Code::IndexOutside, format!("{outside:?}"), "is not a file next to the index".into()));
    }
    Ok(Some(Set { names: index.weight_map.0.into_iter().collect(), total }))
}

/// The weights of the GGUF file `name`, whose header is `first`, and of the other parts of it if it is split.
pub(in crate::source) fn of_gguf(files: &dyn Files, name: &str, first: &gguf::Header) -> Result<Known, Error> {
    let parts = Part::parse(name).and_then(|part| part.all());
    if let (Some(count), None) = (first.number("split.count").filter(|&count| count > 1), &parts) {
        return Ok(Err(format!("it is a part of {count}, and its name does not show the names of the others")));
    }
    let parts = parts.unwrap_or_default();
    if files.is_remote() && parts.len() > MAX_REMOTE_HEADERS {
        return Ok(Err(format!("the headers of its {} parts were not requested", parts.len())));
    }
    let mut tensors = first.tensors.clone();
    let mut missing = Exact::from(first.missing);
    for part in parts.iter().filter(|part| *part != name) {
        let Some(header) = gguf_header(files, part)? else {
            return Ok(Err(format!("{part}, a part of it, is missing")));
        };
        missing = missing + header.missing;
        tensors.merge(header.tensors).map_err(|_| files.error_in(part, gguf::too_much()))?;
    }
    Ok(Ok(known::of_headers(first, &tensors, missing.get()?, parts.len())))
}

/// The index of a model in several files.
#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    metadata: Option<IndexMetadata>,
    weight_map: FileNames,
}

#[derive(Deserialize)]
struct IndexMetadata {
    total_size: Option<serde_json::Number>,
}

impl Index {
    /// The bytes of all weights; some indices write them with a point.
    fn total(&self) -> Option<u64> {
        let number = self.metadata.as_ref()?.total_size.as_ref()?.to_string();
        number.strip_suffix(".0").unwrap_or(&number).parse().ok()
    }
}

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
                    if names.len() > MAX_PARTS {
                        return Err(de::Error::custom("it names more files than any model has"));
                    }
                }
                Ok(FileNames(names))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
