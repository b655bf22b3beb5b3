//! What SGLang 0.5.23 does differently for a model class: one row a class in `models.jsonl`. The file's first line names
//! the source of each column.

use serde::Deserialize;

use super::attention_backend::{Backend, BackendRule, DsaBackend};
use super::draft::DraftTree;
use crate::catalogue::row_naming;
use crate::model::Model;

const CLASSES: &str = include_str!("models.jsonl");

/// A model class (`architectures`); the default is a class without rules of its own.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Class<'a> {
    /// Empty where neither the source nor the `model_type` names a class.
    #[serde(rename = "class")]
    pub(super) name: &'a str,
    /// The `model_type`s of models whose source names no class.
    #[serde(borrow)]
    model_types: Vec<&'a str>,
    #[serde(rename = "is")]
    traits: Vec<Trait>,
    /// Tokens that the runner's window is less than `sliding_window`, where windowed layers get a pool.
    pub(super) window_less: Option<u64>,
    /// The only attention backends that it takes; empty for any.
    pub(super) backends: Vec<Backend>,
    /// Attention backends that it does not take.
    pub(super) refused_backends: Vec<Backend>,
    /// The first rule that applies decides; without one, the usual backend.
    pub(super) default_backend: Vec<BackendRule>,
    /// Tokens of a page where FA4 would want 128.
    pub(super) fa4_page: Option<u64>,
    /// The backend of sparse attention on every GPU.
    pub(super) dsa_backend: Option<DsaBackend>,
    /// The backend of sparse attention in fp8 on SM120.
    pub(super) dsa_sm120_backend: Option<DsaBackend>,
    /// How EAGLE drafts by default.
    pub(super) draft: Option<DraftTree>,
    /// Why these rules do not cover it.
    pub(super) not_covered: Option<&'a str>,
}

/// What distinguishes a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Trait {
    /// It keeps latents (MLA).
    Latent,
    /// Its latents have an index, where the checkpoint has one (DeepSeek sparse attention).
    LatentIndex,
    /// Its KV heads have an index (MiniMax-M3).
    HeadIndex,
    /// Its pools are those of DeepSeek-V4.
    Compressed,
    /// It has learned attention sinks, which flashinfer does not take.
    Sinks,
    /// Its mxfp4 kernels take bfloat16 alone.
    Mxfp4InBf16,
    /// `auto` stays bfloat16 for its sparse attention, on Blackwell too.
    DsaAutoBf16,
    /// Its recurrent layers get a pool of states.
    State,
    /// It caches the states of prefixes.
    StatePrefixes,
    /// It takes snapshots of states into extra slots.
    StateSnapshots,
    /// It reads `mamba_ssm_dtype` of its configuration.
    StateDtype,
}

impl<'a> Class<'a> {
    /// The class that serves `model`.
    pub(super) fn of_model(model: &'a Model) -> Self {
        match (model.checkpoint.architectures.first(), model.model_type.as_deref()) {
            (Some(name), _) => row_naming(CLASSES, name, |class: &Class<'static>| class.name == name)
                .unwrap_or(Self { name, ..Self::default() }),
            (None, Some(name)) => row_naming(CLASSES, name, |class: &Class<'static>| class.model_types.contains(&name))
                .unwrap_or_default(),
            (None, None) => Self::default(),
        }
    }

    pub(super) fn is(&self, wanted: Trait) -> bool {
        self.traits.contains(&wanted)
    }

    /// The class, or `other` where none is known.
    pub(super) fn name_or(&self, other: &'a str) -> &'a str {
        if self.name.is_empty() { other } else { self.name }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every row is read, every class and `model_type` is named once, and every column has its source.
    #[test]
    fn every_class_is_a_row() {
        let mut lines = CLASSES.lines();
        let head: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        let mut names = BTreeSet::new();
        for line in lines {
            let class: Class<'_> = serde_json::from_str(line).unwrap();
            for name in class.model_types.iter().chain([&class.name]) {
                assert!(names.insert(*name), "{name} twice");
            }
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let traits = row["is"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
            let columns =
                row.as_object().unwrap().keys().map(String::as_str).filter(|key| !["class", "is"].contains(key));
            for column in columns.chain(traits) {
                assert!(head["sources"][column].is_string(), "{column} has no source");
            }
        }
        assert_eq!(names.len(), 122);
    }
}
