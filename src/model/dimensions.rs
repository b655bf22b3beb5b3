//! A model by its dimensions: from the numbers a source names to the shape of an entry, with the checks that every source needs.

use serde::Deserialize;

use super::{Checkpoint, Fact, KeyValue, LayerCache, LayerGroup, Model, Origin};
use crate::units::{Code, ElementFormat, Error, Tokens};

/// More layers than any model has; past it a number is a mistake, and lists of layers would eat memory.
pub const MAX_LAYERS: u32 = 65_536;

/// A number and the flag or key it was given under, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dimension {
    /// The flag or JSON key.
    pub field: String,
    /// The number.
    pub value: u64,
}

/// The dimensions that decide the shape of an entry, as far as they were given.
#[derive(Debug, Clone, Default)]
pub struct Dimensions {
    /// `hidden_size`
    pub hidden_size: Option<Dimension>,
    /// `num_attention_heads`
    pub num_attention_heads: Option<Dimension>,
    /// `num_key_value_heads`
    pub num_key_value_heads: Option<Dimension>,
    /// `head_dim`
    pub head_dim: Option<Dimension>,
    /// `v_head_dim`
    pub v_head_dim: Option<Dimension>,
}

/// A layer count within [`MAX_LAYERS`].
///
/// # Errors
/// [`Code::TooManyLayers`].
pub fn layer_count(layers: Dimension) -> Result<u32, Error> {
    let Dimension { field, value } = layers;
    u32::try_from(value).ok().filter(|&count| count <= MAX_LAYERS).ok_or_else(|| {
        let (problem, remedy) = ("is more layers than any model has", format!("give at most {MAX_LAYERS}"));
        Error::new(Code::TooManyLayers, field, value.to_string(), problem, remedy)
    })
}

impl Dimensions {
    /// These dimensions, with those of `other` where it has them.
    #[must_use]
    pub fn overridden(self, other: Self) -> Self {
        Self {
            hidden_size: other.hidden_size.or(self.hidden_size),
            num_attention_heads: other.num_attention_heads.or(self.num_attention_heads),
            num_key_value_heads: other.num_key_value_heads.or(self.num_key_value_heads),
            head_dim: other.head_dim.or(self.head_dim),
            v_head_dim: other.v_head_dim.or(self.v_head_dim),
        }
    }

    /// The entry these dimensions make: `head_dim` as given, else `hidden_size / num_attention_heads`, rounded down; KV heads as
    /// given, else as many as query heads (reference order of vLLM 0.33 `model_arch_config_convertor.py`).
    ///
    /// `names` are the flag or key for query heads and for the head dimension, `remedy` what to do when neither settles the width.
    ///
    /// # Errors
    /// [`Error`] when heads or width are missing or do not divide.
    pub fn key_value(
        self,
        names: &[String; 2],
        remedy: &'static str,
        assumptions: &mut Vec<String>,
    ) -> Result<KeyValue, Error> {
        let [heads_name, head_dim_name] = names;
        let num_key_value_heads = match (self.num_key_value_heads, &self.num_attention_heads) {
            (Some(key_value), Some(attention)) => {
                if !attention.value.is_multiple_of(key_value.value) {
                    let Dimension { field, value } = key_value;
                    let problem = format!("does not divide {} {}", attention.field, attention.value);
                    let remedy = "give KV heads that do; each serves an equal group of query heads";
                    return Err(Error::new(Code::UnevenHeads, field, value.to_string(), problem, remedy));
                }
                key_value.value
            }
            (Some(key_value), None) => key_value.value,
            (None, Some(attention)) => {
                let Dimension { field, value } = attention;
                assumptions.push(format!("no KV heads given: {value}, as many as {field} (MHA)"));
                *value
            }
            (None, None) => return Err(Error::missing(heads_name, remedy)),
        };
        let head_dim = match (self.head_dim, self.hidden_size, self.num_attention_heads) {
            (Some(head_dim), ..) => head_dim.value,
            (None, Some(hidden_size), Some(attention)) => match hidden_size.value.checked_div(attention.value) {
                Some(head_dim) if head_dim > 0 => {
                    if !hidden_size.value.is_multiple_of(attention.value) {
                        let (hidden_size, heads) = (hidden_size.value, attention.value);
                        assumptions.push(format!(
                            "no head_dim given: {hidden_size} / {heads} = {head_dim}, rounded down as engines do"
                        ));
                    }
                    head_dim
                }
                _ => return Err(no_width(&hidden_size, &attention, remedy)),
            },
            (None, _, None) => return Err(Error::missing(heads_name, remedy)),
            (None, None, Some(_)) => return Err(Error::missing(head_dim_name, remedy)),
        };
        let v_head_dim = self.v_head_dim.map_or(head_dim, |dimension| dimension.value);
        Ok(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim })
    }
}

/// A width that leaves nothing for each head, with no head dimension given.
pub(super) fn no_width(hidden_size: &Dimension, heads: &Dimension, remedy: &str) -> Error {
    let problem = format!("is less than {} {}", heads.field, heads.value);
    Error::new(Code::NoWidth, &hidden_size.field, hidden_size.value.to_string(), problem, remedy)
}

// A model given by its dimensions, one by one.

/// The dimensions of a model, as far as they were given. All layers are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema), schemars(transform = positive))]
#[serde(deny_unknown_fields, default)]
pub struct ModelSpec {
    /// The name to print.
    pub name: Option<String>,
    /// Layers.
    pub layers: Option<u64>,
    /// The model's width.
    pub hidden_size: Option<u64>,
    /// KV heads.
    pub kv_heads: Option<u64>,
    /// Query heads.
    pub heads: Option<u64>,
    /// Elements of K, and of V unless [`ModelSpec::v_head_dim`] says otherwise, in one head.
    pub head_dim: Option<u64>,
    /// Elements of V in one head.
    pub v_head_dim: Option<u64>,
    /// The window, if all layers slide.
    pub sliding_window: Option<u64>,
}

/// Makes the counts of a schema at least 1.
#[cfg(feature = "cli")]
pub(crate) fn positive(schema: &mut schemars::Schema) {
    const COUNTS: &str = "layers hidden_size kv_heads heads k_dim v_dim head_dim v_head_dim sliding_window window chunk \
                          kv_lora_rank index_head_dim ratio encoder_tokens conv_kernel state_heads";
    for key in COUNTS.split(' ') {
        if let Some(property) = schema.pointer_mut(&format!("/properties/{key}")) {
            property["minimum"] = 1.into();
        }
    }
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
        let num_hidden_layers = layer_count(layers)?;
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

    fn dimension(field: &str, value: u64) -> Dimension {
        Dimension { field: field.into(), value }
    }

    fn key_value(dimensions: Dimensions) -> Result<KeyValue, Error> {
        dimensions.key_value(&["heads".into(), "head_dim".into()], "say it", &mut Vec::new())
    }

    #[test]
    fn a_given_head_dim_wins_over_the_quotient() {
        let dimensions = Dimensions {
            hidden_size: Some(dimension("hidden_size", 2880)),
            num_attention_heads: Some(dimension("heads", 64)),
            num_key_value_heads: Some(dimension("kv", 8)),
            head_dim: Some(dimension("head_dim", 64)),
            v_head_dim: None,
        };
        assert_eq!(
            key_value(dimensions.clone()),
            Ok(KeyValue::Heads { num_key_value_heads: 8, head_dim: 64, v_head_dim: 64 })
        );
        assert_eq!(
            key_value(Dimensions { head_dim: None, ..dimensions }),
            Ok(KeyValue::Heads { num_key_value_heads: 8, head_dim: 45, v_head_dim: 45 })
        );
    }

    #[test]
    fn heads_must_divide_and_leave_a_width() {
        let dimensions = Dimensions {
            hidden_size: Some(dimension("hidden_size", 100)),
            num_attention_heads: Some(dimension("heads", 600)),
            num_key_value_heads: Some(dimension("kv", 7)),
            ..Dimensions::default()
        };
        assert_eq!(
            key_value(dimensions.clone()).unwrap_err().to_string(),
            "kv: 7 does not divide heads 600; give KV heads that do; each serves an equal group of query heads"
        );
        assert_eq!(
            key_value(Dimensions { num_key_value_heads: Some(dimension("kv", 6)), ..dimensions })
                .unwrap_err()
                .to_string(),
            "hidden_size: 100 is less than heads 600; say it"
        );
    }

    #[test]
    fn layers_have_a_limit() {
        assert_eq!(layer_count(Dimension { field: "layers".into(), value: 65_536 }), Ok(65_536));
        assert!(layer_count(Dimension { field: "layers".into(), value: 65_537 }).is_err());
    }

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
