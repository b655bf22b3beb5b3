//! The header of a GGUF file to a [`Model`].
//!
//! Only the header is read, through one buffer; texts of the tokenizer are stepped over one by one and never kept. No count
//! or length is trusted: each is held against the size of the file before anything is done with it. Versions 2 and 3 are
//! read, little-endian; big-endian files are refused.
//!
//! A file gives the model as llama.cpp sees it: which layers slide or are recurrent is in its keys, or else in the rules of
//! its architecture, which are data of the catalogue.

mod error;
mod header;
mod keys;
mod layers;
mod tensors;
mod walk;

pub use self::error::GgufError;
pub use self::header::{Header, Value, read};
pub use self::tensors::{TensorType, Tensors};

use self::keys::Keys;
use crate::catalogue::{FeatureName, GgufArchitecture, gguf_architecture};
use crate::model::{Checkpoint, GgufFile, Model, Origin, Warning};
use crate::units::{ElementFormat, Tokens};

/// Keys of mechanisms: an architecture that is not known here and has one of them is no plain attention.
const MECHANISMS: &[&str] = &[
    "ssm.",
    "kda.",
    "wkv.",
    "shortconv.",
    "full_attention_interval",
    "attention.kv_lora_rank",
    "attention.sliding_window",
    "attention.indexer.",
    "attention.compress_ratios",
    "attention.recurrent_layers",
    "attention.shared_kv_layers",
];

/// The 16-bit format that a file's cache is counted in: llama.cpp's own default, whatever the weights are.
const FORMAT: ElementFormat = ElementFormat::FP16;

/// The model of a header; `name` where it has none itself, `origin` is what its facts are said to be from.
///
/// # Errors
/// [`GgufError`], with the key.
pub fn model(header: &Header, name: &str, origin: &str) -> Result<Model, GgufError> {
    let text = |key: &str| match header.metadata.get(key) {
        Some(Value::Text(text)) => Some(text.clone()),
        _ => None,
    };
    let number = |key: &str| match header.metadata.get(key) {
        Some(Value::Integer(value)) => u64::try_from(*value).ok(),
        _ => None,
    };
    let Some(architecture) = text("general.architecture") else {
        return Err(match (number("split.no"), number("split.count")) {
            (Some(part), Some(parts)) if part > 0 => GgufError::LaterPart { part: part.saturating_add(1), parts },
            _ => GgufError::Missing { key: "general.architecture".into() },
        });
    };
    let keys = Keys::new(header, &architecture, origin);
    let known = gguf_architecture(&architecture);
    let mut warnings = Vec::new();
    let rules = match known {
        Some(GgufArchitecture { no_cache: Some(reason), .. }) => {
            return Err(GgufError::NoCache { architecture, reason });
        }
        Some(rules) => rules,
        None => {
            if let Some(key) = keys.any_of(MECHANISMS) {
                return Err(GgufError::UnknownArchitecture { architecture, key });
            }
            warnings.push(Warning::UnknownModelType { model_type: architecture.clone() });
            GgufArchitecture { name: architecture.clone(), ..GgufArchitecture::default() }
        }
    };
    let has_tensor = |name: &str| header.tensors.nextn.iter().any(|known| known == name);
    let layers = layers::layers(&keys, &rules, FORMAT, has_tensor)?;
    if layers.caches.iter().all(Vec::is_empty) {
        let reason = "none of its layers attends or remembers".into();
        return Err(GgufError::NoCache { architecture, reason });
    }
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
    let own = layers.caches.len().saturating_sub(layers.nextn);
    let (model_layers, nextn_layers) = layers.caches.split_at_checked(own).unwrap_or((&layers.caches, &[]));
    let mut gguf = rules.gguf(count(own));
    let pooled = rules.indexer.as_ref().and_then(|rule| rule.slots_if.as_deref());
    if let Some(key) = pooled
        && !keys.list(key)?.unwrap_or_default().iter().any(|&ratio| ratio > 0)
    {
        gguf.index_slots = 1;
    }
    gguf.file = Some(GgufFile {
        block_count: count(layers.caches.len()),
        keeps_nextn: rules.has(FeatureName::KeepsNextn),
        head_dims: layers.head_dims,
        widest_value: layers.widest_value,
    });
    let heads = keys.list("attention.head_count")?.and_then(|heads| heads.into_iter().max());
    let name = text("general.name").unwrap_or_else(|| name.to_owned());
    let layer_groups = super::hf_config::grouped(0, model_layers);
    Ok(Model {
        model_type: Some(architecture.clone()),
        max_position_embeddings: keys.number("context_length")?.filter(|&tokens| tokens > 0).map(Tokens),
        mtp_groups: super::hf_config::grouped(count(own), nextn_layers),
        checkpoint: Checkpoint {
            num_attention_heads: match heads {
                Some(heads) => Some(heads),
                None => keys.number("attention.head_count")?,
            },
            hidden_size: keys.number("embedding_length")?,
            gguf: Some(gguf),
            ..Checkpoint::default()
        },
        facts: keys.into_facts(),
        warnings,
        ..Model::new(name, Origin::Gguf, FORMAT, count(own), layer_groups)
    })
}
