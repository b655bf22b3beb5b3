//! A model given by its dimensions, one by one.

use serde::Deserialize;

use super::dimensions::no_width;
use super::{Checkpoint, Dimension, Dimensions, Fact, KeyValue, LayerCache, LayerGroup, Model, Origin};
use crate::units::{ElementFormat, Error, Tokens};

/// The dimensions of a model, as far as they were given. All layers are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ModelSpec {
    /// The name to print.
    pub name: Option<String>,
    /// Layers.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    pub layers: Option<u64>,
    /// The model's width.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    pub hidden_size: Option<u64>,
    /// KV heads.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    pub kv_heads: Option<u64>,
    /// Query heads.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    pub heads: Option<u64>,
    /// Elements of K, and of V unless [`ModelSpec::v_head_dim`] says otherwise, in one head.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    pub head_dim: Option<u64>,
    /// Elements of V in one head.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    pub v_head_dim: Option<u64>,
    /// The window, if all layers slide.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    pub sliding_window: Option<u64>,
}

impl ModelSpec {
    /// The dimensions that were given.
    fn facts(&self) -> Vec<Fact> {
        let Self { layers, hidden_size, kv_heads, heads, head_dim, v_head_dim, sliding_window, .. } = *self;
        let given = [
            ("layers", layers),
            ("hidden_size", hidden_size),
            ("kv_heads", kv_heads),
            ("heads", heads),
            ("head_dim", head_dim),
            ("v_head_dim", v_head_dim),
            ("sliding_window", sliding_window),
        ];
        let fact = |(key, value): (&str, Option<u64>)| {
            Some(Fact { key: key.into(), value: value?.to_string(), from: "given".into() })
        };
        given.into_iter().filter_map(fact).collect()
    }

    /// Whether nothing but perhaps a name was given.
    pub fn is_empty(&self) -> bool {
        *self == Self { name: self.name.clone(), ..Self::default() }
    }

    /// The model of these dimensions.
    ///
    /// With `layers`, `hidden_size` and `kv_heads` alone, the article's shortcut is the only thing computable: it is
    /// used, and said.
    ///
    /// # Errors
    /// [`Error`] when dimensions are missing or do not divide; it names the options.
    pub fn model(&self) -> Result<Model, Error> {
        let option = |key: &str| format!("--{}", key.replace('_', "-"));
        let no_layers = "give the number of layers, or name a MODEL";
        self.named(option, no_layers, "give --head-dim, or --hidden-size with --heads")
    }

    /// As [`ModelSpec::model`], of an object: errors name its keys.
    ///
    /// # Errors
    /// [`Error`] when dimensions are missing or do not divide.
    pub fn model_by_keys(&self) -> Result<Model, Error> {
        let no_layers = "add the number of layers, or layer_groups";
        self.named(str::to_owned, no_layers, "add head_dim, or hidden_size with heads")
    }

    /// The model; `name` is what a key is called where it was given, the others what to do where something is missing.
    fn named(&self, name: fn(&str) -> String, no_layers: &str, no_width: &'static str) -> Result<Model, Error> {
        let given = |key: &str, value: u64| Dimension { field: name(key), value };
        let dimension = |key: &str, value: Option<u64>| value.map(|value| given(key, value));
        let layers = dimension("layers", self.layers).ok_or_else(|| Error::missing(name("layers"), no_layers))?;
        let num_hidden_layers = super::layer_count(layers)?;
        let mut assumptions = Vec::new();
        let key_value = match *self {
            Self {
                hidden_size: Some(width),
                kv_heads: Some(kv_heads),
                heads: None,
                head_dim: None,
                v_head_dim: None,
                ..
            } => shortcut(&given("hidden_size", width), &given("kv_heads", kv_heads))?,
            _ => Dimensions {
                hidden_size: dimension("hidden_size", self.hidden_size),
                num_attention_heads: dimension("heads", self.heads),
                num_key_value_heads: dimension("kv_heads", self.kv_heads),
                head_dim: dimension("head_dim", self.head_dim),
                v_head_dim: dimension("v_head_dim", self.v_head_dim),
            }
            .key_value(&[name("heads"), name("head_dim")], no_width, &mut assumptions)?,
        };
        let cache = match self.sliding_window {
            Some(window) => LayerCache::sliding(key_value, Tokens(window)),
            None => LayerCache::FullAttention { key_value },
        };
        let name = self.name.clone().unwrap_or_else(|| "model from flags".into());
        let group = LayerGroup { layers: (0..num_hidden_layers).collect(), cache };
        let (num_attention_heads, hidden_size) = (self.heads, self.hidden_size);
        let checkpoint = Checkpoint { num_attention_heads, hidden_size, ..Checkpoint::default() };
        let model = Model::new(name, Origin::Flags, ElementFormat::FP16, num_hidden_layers, vec![group]);
        Ok(Model { checkpoint, facts: self.facts(), assumptions, ..model }.with_shortcut_noted())
    }
}

fn shortcut(hidden_size: &Dimension, kv_heads: &Dimension) -> Result<KeyValue, Error> {
    let key_value = KeyValue::ArticleShortcut { hidden_size: hidden_size.value, num_key_value_heads: kv_heads.value };
    if key_value.shortcut_width().is_none_or(|width| width == 0) {
        return Err(no_width(hidden_size, kv_heads, "give a hidden size of at least the KV heads"));
    }
    Ok(key_value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_and_kv_heads_alone_are_the_article_s_shortcut() {
        let spec = ModelSpec { layers: Some(48), hidden_size: Some(5120), kv_heads: Some(8), ..ModelSpec::default() };
        let model = spec.model().unwrap();
        let key_value = KeyValue::ArticleShortcut { hidden_size: 5120, num_key_value_heads: 8 };
        assert_eq!(model.layer_groups[0].cache, LayerCache::FullAttention { key_value });
        assert!(model.assumptions.iter().any(|text| text.contains("5120 / 8 = 640")));
        assert!(model.warnings.is_empty());
        let uneven = ModelSpec { kv_heads: Some(6), ..spec }.model().unwrap();
        assert_eq!(uneven.warnings.len(), 1);
    }

    #[test]
    fn heads_or_head_dim_make_it_exact() {
        let spec = ModelSpec { layers: Some(2), kv_heads: Some(8), ..ModelSpec::default() };
        let exact = LayerCache::FullAttention {
            key_value: KeyValue::Heads { num_key_value_heads: 8, head_dim: 128, v_head_dim: 128 },
        };
        for spec in [
            ModelSpec { head_dim: Some(128), ..spec.clone() },
            ModelSpec { hidden_size: Some(5120), heads: Some(40), ..spec.clone() },
            ModelSpec { hidden_size: Some(5120), heads: Some(64), head_dim: Some(128), ..spec.clone() },
        ] {
            assert_eq!(spec.model().unwrap().layer_groups[0].cache, exact, "{spec:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (spec, message) in [
            (ModelSpec::default(), "--layers: missing; give the number of layers, or name a MODEL"),
            (
                ModelSpec { layers: Some(1), kv_heads: Some(8), ..ModelSpec::default() },
                "--heads: missing; give --head-dim, or --hidden-size with --heads",
            ),
            (
                ModelSpec { layers: Some(1), heads: Some(8), ..ModelSpec::default() },
                "--head-dim: missing; give --head-dim, or --hidden-size with --heads",
            ),
            (
                ModelSpec { layers: Some(1), hidden_size: Some(4), kv_heads: Some(8), ..ModelSpec::default() },
                "--hidden-size: 4 is less than --kv-heads 8; give a hidden size of at least the KV heads",
            ),
        ] {
            assert_eq!(spec.model().unwrap_err().to_string(), message);
        }
    }
}
