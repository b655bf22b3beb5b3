//! What a model weighs: from the headers of the files that hold its weights, else from the total of their index, else from
//! the catalogue or the dimensions of its configuration. The weights themselves are never read.

use serde_json::Value;

use super::computed;
use crate::catalogue::{ModelEntry, ModelFacts};
use crate::model::{Experts, Weights, WeightsOrigin};
use crate::source::gguf;
use crate::source::safetensors::Tensors;
use crate::units::{Bytes, group_thousands};

/// What is known of the weights of a model, or the reason why nothing is.
pub type Known = Result<Weights, String>;

/// The weights of which only the total of an index is known, with a note that says why.
pub(in crate::source) fn of_total(total: u64, note: String) -> Weights {
    Weights { bytes: Some(Bytes(total)), notes: vec![note], ..Weights::new(WeightsOrigin::Index) }
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
        by_dtype: tensors.types.clone(),
        bytes: tensors.bytes().map(Bytes),
        parameters,
        active_parameters: active,
        notes,
        ..Weights::new(WeightsOrigin::Headers)
    }
}

/// The weights that the headers of `files` GGUF files come to, `first` being the first.
pub(super) fn of_headers(first: &gguf::Header, tensors: &gguf::Tensors, missing: u64, files: usize) -> Weights {
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
    let unknown = tensors.types.iter().filter(|share| share.bytes.is_none()).map(|share| share.dtype.as_str());
    let unknown = unknown.collect::<Vec<_>>().join(", ");
    if !unknown.is_empty() {
        notes.push(format!("the bytes of {unknown} are not known, and so not the sum"));
    }
    let architecture = first.text("general.architecture").unwrap_or_default();
    let all = first.number(&format!("{architecture}.expert_count")).filter(|&all| all > 1);
    let per_token = first.number(&format!("{architecture}.expert_used_count"));
    let experts = all.zip(per_token).map(|(all, per_token)| Experts { all, per_token });
    let active = experts.and_then(|experts| experts.active(tensors.parameters, tensors.routed));
    if active.is_some() {
        notes.push("active: of the tensors named _exps the share that a token is sent to, and all others".into());
    }
    Weights {
        by_dtype: tensors.types.clone(),
        bytes: tensors.bytes().map(Bytes),
        parameters: Some(tensors.parameters),
        active_parameters: active,
        notes,
        ..Weights::new(WeightsOrigin::Headers)
    }
}

/// The weights of an entry of the catalogue: its figures, or those that its configuration comes to.
pub(in crate::source) fn of_entry(entry: &ModelEntry) -> Known {
    let computed = match &entry.facts {
        ModelFacts::Config(config) => computed(config, entry.hf_quant_config.as_ref())
            .map_err(|reason| format!("the catalogue has no figure for it, and {reason}")),
        ModelFacts::Spec(_) => Err(OF_THE_CACHE.into()),
    };
    if entry.parameters.is_none() && entry.weight_bytes.is_none() {
        return computed;
    }
    Ok(Weights {
        bytes: entry.weight_bytes.map(Bytes),
        parameters: entry.parameters,
        tensors: computed.ok().and_then(|computed| computed.tensors),
        notes: vec![format!("source: {}", entry.source)],
        ..Weights::new(WeightsOrigin::Catalogue)
    })
}

/// Adds the tensors that a configuration implies to weights that were read elsewhere.
pub(in crate::source) fn with_tensors(known: &mut Known, config: &Value) {
    if let Ok(weights) = known {
        weights.tensors = computed(config, None).ok().and_then(|computed| computed.tensors);
    }
}

/// Why dimensions of a cache tell no weights.
pub(in crate::source) const OF_THE_CACHE: &str = "the dimensions given are those of its cache";
