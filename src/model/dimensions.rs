//! From the numbers a source names to the shape of an entry, with the checks that every source needs.

use super::KeyValue;
use crate::units::{Code, Error};

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
}
