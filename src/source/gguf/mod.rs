//! The header of a GGUF file to a [`Model`].
//!
//! Only the header is read, through one buffer; texts of the tokenizer are stepped over one by one and never kept. No count
//! or length is trusted: each is held against the size of the file before anything is done with it. Versions 2 and 3 are
//! read, little-endian; big-endian files are refused.
//!
//! A file gives the model as llama.cpp sees it: which layers slide or are recurrent is in its keys, or else in the rules of
//! its architecture, which are data of the catalogue.

mod header;
mod keys;
mod layers;
mod states;
mod walk;

pub(super) use self::header::too_much;
pub use self::header::{Header, Tensors, Value, read};
use self::keys::Keys;
use crate::catalogue::{GgufArchitecture, ReadingRule, gguf_architecture};
use crate::model::{Checkpoint, GgufFile, Model, Origin, unknown_model_type};
use crate::units::{Code, ElementFormat, Error, Tokens};

/// Keys of mechanisms: an unknown architecture with one of these keys is refused.
const MECHANISMS: &str = "ssm. kda. wkv. shortconv. full_attention_interval attention.kv_lora_rank attention.sliding_window \
                          attention.indexer. attention.compress_ratios attention.recurrent_layers \
                          attention.shared_kv_layers";

/// The 16-bit format that a file's cache is counted in: llama.cpp's own default, whatever the weights are.
const FORMAT: ElementFormat = ElementFormat::FP16;

/// The model of a header; `name` where it has none itself, `origin` is what its facts are said to be from.
///
/// # Errors
/// [`Error`] with the key.
pub fn model(header: &Header, name: &str, origin: &str) -> Result<Model, Error> {
    let architecture = architecture(header)?;
    let keys = Keys::new(header, architecture, origin);
    let mut warnings = Vec::new();
    let rules = rules(&keys, architecture, &mut warnings)?;
    let layers = layers::layers(&keys, &rules)?;
    if layers.caches.iter().all(Vec::is_empty) {
        return Err(no_cache(architecture, "none of its layers attends or remembers"));
    }
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let (own, mtp) = layers.caches.split_at_checked(layers.own).unwrap_or((&layers.caches, &[]));
    let mut gguf = rules.gguf(count(own.len()));
    let pooled = rules.indexer.as_ref().and_then(|rule| rule.multi_slot_key.as_deref());
    if let Some(key) = pooled
        && !keys.list(key)?.unwrap_or_default().iter().any(|&ratio| ratio > 0)
    {
        gguf.index_slots = 1;
    }
    gguf.file = Some(GgufFile {
        block_count: count(layers.caches.len()),
        keeps_nextn: rules.reads(ReadingRule::MtpInMainCache),
        head_dims: layers.head_dims.iter().map(|dims| (dims.k, dims.v)).collect(),
        widest_value: layers.widest_value,
    });
    let num_attention_heads = match keys.list("attention.head_count")? {
        Some(heads) if !heads.is_empty() => heads.into_iter().max(),
        _ => keys.number("attention.head_count")?,
    };
    let hidden_size = keys.number("embedding_length")?;
    let checkpoint = Checkpoint { num_attention_heads, hidden_size, gguf: Some(gguf), ..Checkpoint::default() };
    let name = header.text("general.name").unwrap_or(name).to_owned();
    let layer_groups = super::hf_config::grouped(0, own);
    Ok(Model {
        model_type: Some(architecture.to_owned()),
        max_position_embeddings: keys.number("context_length")?.filter(|&tokens| tokens > 0).map(Tokens),
        mtp_groups: super::hf_config::grouped(count(own.len()), mtp),
        checkpoint,
        facts: keys.facts.into_inner(),
        warnings,
        ..Model::new(name, Origin::Gguf, FORMAT, count(own.len()), layer_groups)
    })
}

/// `general.architecture`
fn architecture(header: &Header) -> Result<&str, Error> {
    header.text("general.architecture").ok_or_else(|| match (header.number("split.no"), header.number("split.count")) {
        (Some(part), Some(parts)) if part > 0 => {
            let found = format!("part {} of {parts}", part.saturating_add(1));
            let remedy = "give the first part, whose name ends in -00001-of-…";
            Error::new(Code::GgufLaterPart, "split.no", found, "has no keys", remedy)
        }
        _ => missing("general.architecture"),
    })
}

/// The rules of an architecture. One that is not known is plain attention, unless a key says otherwise.
fn rules(keys: &Keys<'_>, architecture: &str, warnings: &mut Vec<String>) -> Result<GgufArchitecture, Error> {
    match gguf_architecture(architecture) {
        Some(GgufArchitecture { no_cache: Some(reason), .. }) => Err(no_cache(architecture, &reason)),
        Some(rules) => Ok(rules),
        None => {
            if let Some(key) = MECHANISMS.split(' ').find_map(|start| keys.beginning_with(start)) {
                let (code, field) = (Code::UnknownArchitecture, "general.architecture");
                let problem =
                    format!("is not an architecture known here, and {key} says that it is not plain attention");
                let remedy = "give the config.json of the model it was made from";
                return Err(Error::new(code, field, architecture, problem, remedy));
            }
            warnings.push(unknown_model_type(architecture));
            Ok(GgufArchitecture { name: architecture.to_owned(), ..GgufArchitecture::default() })
        }
    }
}

fn no_cache(architecture: &str, reason: &str) -> Error {
    let (problem, remedy) = (format!("has no KV cache: {reason}"), "give the GGUF of a model that generates text");
    Error::new(Code::NoCache, "general.architecture", architecture, problem, remedy)
}

fn missing(key: impl Into<String>) -> Error {
    Error::missing(key, "give the GGUF of a language model, as llama.cpp's converter writes it")
}

/// An error that only a damaged file has.
fn damaged(code: Code, key: &str, found: impl Into<String>, problem: impl Into<String>) -> Error {
    Error::new(code, key, found, problem, "the file is damaged: download it again")
}
