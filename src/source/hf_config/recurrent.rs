//! The state of recurrent layers, by the keys of their mechanism.

use super::ConfigError;
use super::keys::Keys;
use crate::model::{Assumption, Convolution, Mechanism, Memory, RecurrentState};
use crate::units::ElementFormat;

const HIDDEN: &[&str] = &["hidden_size"];

/// The formats of a state.
#[derive(Clone, Copy)]
struct Formats {
    model: ElementFormat,
    memory: ElementFormat,
}

impl Formats {
    fn convolution(self, channels: u64, kernel: u64) -> Convolution {
        Convolution { channels, channels_per_group: 0, groups: 0, kernel, format: self.model }
    }

    fn memory(self, heads: u64, elements_per_head: u64) -> Memory {
        Memory { heads, elements_per_head, format: self.memory }
    }
}

/// The state of each recurrent layer.
pub(super) fn state(
    keys: &Keys<'_>,
    model_format: ElementFormat,
    assumptions: &mut Vec<Assumption>,
) -> Result<RecurrentState, ConfigError> {
    let formats = Formats { model: model_format, memory: memory_format(keys)?.unwrap_or(model_format) };
    let class = |key: &str| keys.model_type.is_some_and(|known| known.defaults.contains_key(key));
    let has = |key: &str| keys.get(key).is_some() || class(key);
    if let Some(linear) = keys.inner("linear_attn_config")? {
        let kernel = linear.needed(&["short_conv_kernel_size"])?;
        return Ok(kda(formats, linear.needed(&["num_heads"])?, linear.needed(&["head_dim"])?, kernel));
    }
    if has("linear_num_value_heads") {
        return gated_delta_net(keys, formats);
    }
    if has("linear_num_heads") {
        let kernel = keys.needed(&["linear_conv_kernel_dim"])?;
        return Ok(kda(formats, keys.needed(&["linear_num_heads"])?, keys.needed(&["linear_head_dim"])?, kernel));
    }
    if has("conv_L_cache") {
        let convolution = Some(formats.convolution(keys.needed(HIDDEN)?, keys.needed(&["conv_L_cache"])?));
        return Ok(RecurrentState { mechanism: Mechanism::ShortConvolution, convolution, memory: None });
    }
    if has("lru_width") || has("conv1d_width") {
        let width = keys.needed(&["lru_width", "hidden_size"])?;
        return Ok(RecurrentState {
            mechanism: Mechanism::RgLru,
            convolution: Some(formats.convolution(width, keys.needed(&["conv1d_width"])?)),
            memory: Some(formats.memory(width, 1)),
        });
    }
    if has("qk_dim_factor") {
        return mlstm(keys, formats);
    }
    if has("attention_hidden_size") && has("rescale_every") {
        // The last token's input to attention and to the feed-forward layer; numerator, denominator and maximum.
        let width = keys.needed(&["attention_hidden_size", "hidden_size"])?;
        return Ok(RecurrentState {
            mechanism: Mechanism::Rwkv,
            convolution: Some(formats.convolution(keys.needed(HIDDEN)?, 3)),
            memory: Some(formats.memory(width, 3)),
        });
    }
    if has("mamba_num_heads") || has("mamba_n_heads") || has("mamba_headdim") || (has("num_heads") && has("state_size"))
    {
        return mamba2(keys, formats, assumptions);
    }
    if has("state_size") || has("mamba_d_state") {
        return mamba1(keys, formats);
    }
    if has("cca_time0") {
        let dim = keys.needed(&["head_dim"])?;
        let kv_heads = keys.needed(&["num_key_value_heads"])?;
        let heads = keys.needed(&["num_attention_heads"])?.saturating_add(kv_heads);
        // Two convolutions one after the other look back as far as both.
        let kernel = keys.needed(&["cca_time0"])?.saturating_add(keys.needed(&["cca_time1"])?).saturating_sub(1);
        return Ok(RecurrentState {
            mechanism: Mechanism::Cca,
            convolution: Some(formats.convolution(product(keys, heads, dim)?, kernel)),
            memory: Some(formats.memory(kv_heads, dim / 2)),
        });
    }
    if has("attn_type_list") || has("linear_attn_alpha_factor") {
        let heads = keys.needed(&["num_attention_heads"])?;
        let dim = match keys.count_or_off(&["head_dim"])? {
            Some(dim) => dim.value,
            None => keys.needed(HIDDEN)?.checked_div(heads).unwrap_or_default(),
        };
        return Ok(RecurrentState {
            mechanism: Mechanism::Lightning,
            convolution: None,
            memory: Some(formats.memory(heads, product(keys, dim, dim)?)),
        });
    }
    Err(ConfigError::NoState)
}

/// The format that the configuration names for the memory.
pub(super) fn memory_format(keys: &Keys<'_>) -> Result<Option<ElementFormat>, ConfigError> {
    for key in ["mamba_ssm_cache_dtype", "mamba_ssm_dtype", "inference_state_dtype"] {
        if let Some(name) = keys.text(key)?.filter(|name| *name != "auto") {
            let unknown = || ConfigError::WrongType {
                field: keys.field(key),
                found: name.into(),
                expected: "the name of an element format",
            };
            return name.parse().map(Some).map_err(|_| unknown());
        }
    }
    Ok(None)
}

fn kda(formats: Formats, heads: u64, dim: u64, kernel: u64) -> RecurrentState {
    // q, k and v each have their convolution.
    let channels = heads.saturating_mul(dim).saturating_mul(3);
    RecurrentState {
        mechanism: Mechanism::Kda,
        convolution: Some(formats.convolution(channels, kernel)),
        memory: Some(formats.memory(heads, dim.saturating_mul(dim))),
    }
}

fn gated_delta_net(keys: &Keys<'_>, formats: Formats) -> Result<RecurrentState, ConfigError> {
    let key_width = product(keys, keys.needed(&["linear_num_key_heads"])?, keys.needed(&["linear_key_head_dim"])?)?;
    let heads = keys.needed(&["linear_num_value_heads"])?;
    let value_dim = keys.needed(&["linear_value_head_dim"])?;
    let channels = product(keys, heads, value_dim)?.checked_add(key_width.saturating_mul(2));
    let channels = channels.ok_or_else(|| too_wide(keys))?;
    let memory = product(keys, value_dim, keys.needed(&["linear_key_head_dim"])?)?;
    Ok(RecurrentState {
        mechanism: Mechanism::GatedDeltaNet,
        convolution: Some(formats.convolution(channels, keys.needed(&["linear_conv_kernel_dim"])?)),
        memory: Some(formats.memory(heads, memory)),
    })
}

fn mamba2(keys: &Keys<'_>, formats: Formats, assumptions: &mut Vec<Assumption>) -> Result<RecurrentState, ConfigError> {
    let dim = keys.count(&["mamba_head_dim", "mamba_d_head", "mamba_headdim"])?;
    let heads = keys.count(&["mamba_num_heads", "mamba_n_heads", "n_mamba_heads", "num_heads"])?;
    let mut inner = || product(keys, count_expand(keys, assumptions)?, keys.needed(HIDDEN)?);
    // One may be left out, or "auto"; a pure Mamba-2 has its own under a plain name.
    let (heads, dim) = match (heads, dim) {
        (Some(heads), Some(dim)) => (heads.value, dim.value),
        (None, Some(dim)) => (inner()?.checked_div(dim.value).unwrap_or_default(), dim.value),
        (Some(heads), None) => match keys.count_or_off(&["head_dim"])?.filter(|_| keys.get("num_heads").is_some()) {
            Some(dim) => (heads.value, dim.value),
            None => (heads.value, inner()?.checked_div(heads.value).unwrap_or_default()),
        },
        (None, None) => return Err(ConfigError::Missing { field: keys.field("mamba_num_heads") }),
    };
    let state = keys.needed(&["ssm_state_size", "mamba_d_state", "state_size"])?;
    let group_keys = ["n_groups", "mamba_n_groups", "mamba_ngroups"];
    let given = keys.count(&group_keys)?;
    let groups = given.or_else(|| group_keys.iter().find_map(|key| keys.default(key, assumptions)));
    if groups.is_none() {
        let reason = "one group of B and C";
        assumptions.push(Assumption::Unstated { key: keys.field("n_groups"), value: 1, reason });
    }
    let groups = groups.map_or(1, |groups| groups.value);
    Ok(RecurrentState {
        mechanism: Mechanism::Mamba2,
        convolution: Some(Convolution {
            channels: product(keys, heads, dim)?,
            channels_per_group: state.saturating_mul(2),
            groups,
            kernel: kernel(keys, assumptions)?,
            format: formats.model,
        }),
        memory: Some(formats.memory(heads, product(keys, dim, state)?)),
    })
}

fn mamba1(keys: &Keys<'_>, formats: Formats) -> Result<RecurrentState, ConfigError> {
    // In a hybrid `intermediate_size` is the feed-forward layer's; in a pure Mamba it is the state's own, and `expand` may lie.
    let inner = match keys.count(&["mamba_expand"])? {
        Some(expand) => product(keys, expand.value, keys.needed(HIDDEN)?)?,
        None => match keys.count(&["intermediate_size"])? {
            Some(inner) => inner.value,
            None => product(keys, keys.needed(&["expand"])?, keys.needed(HIDDEN)?)?,
        },
    };
    let state = keys.needed(&["state_size", "mamba_d_state"])?;
    Ok(RecurrentState {
        mechanism: Mechanism::Mamba1,
        convolution: Some(formats.convolution(inner, keys.needed(&["conv_kernel", "mamba_d_conv"])?)),
        memory: Some(formats.memory(inner, state)),
    })
}

/// The width of the convolution, from the file or from its class.
fn kernel(keys: &Keys<'_>, assumptions: &mut Vec<Assumption>) -> Result<u64, ConfigError> {
    let given = keys.count_or_default(&["conv_kernel", "mamba_d_conv"], assumptions)?;
    Ok(given.ok_or_else(|| ConfigError::Missing { field: keys.field("conv_kernel") })?.value)
}

/// How much wider the state's input is than the model, from the file or from its class.
fn count_expand(keys: &Keys<'_>, assumptions: &mut Vec<Assumption>) -> Result<u64, ConfigError> {
    let given = keys.count_or_default(&["mamba_expand", "expand"], assumptions)?;
    Ok(given.ok_or_else(|| ConfigError::Missing { field: keys.field("mamba_expand") })?.value)
}

fn mlstm(keys: &Keys<'_>, formats: Formats) -> Result<RecurrentState, ConfigError> {
    let heads = keys.needed(&["num_heads"])?;
    let width = keys.needed(&["hidden_size", "embedding_dim"])?;
    let dim = |key: &str| -> Result<u64, ConfigError> {
        let share = keys.decimal_fraction(key)?;
        let (numerator, denominator) = share.ok_or_else(|| ConfigError::Missing { field: keys.field(key) })?;
        let whole = width.checked_mul(numerator).and_then(|width| width.checked_div(denominator)?.checked_div(heads));
        whole.ok_or_else(|| too_wide(keys))
    };
    let (qk, v) = (dim("qk_dim_factor")?, dim("v_dim_factor")?);
    let elements = product(keys, qk, v)?.checked_add(qk).and_then(|elements| elements.checked_add(1));
    Ok(RecurrentState {
        mechanism: Mechanism::Mlstm,
        convolution: None,
        memory: Some(formats.memory(heads, elements.ok_or_else(|| too_wide(keys))?)),
    })
}

fn product(keys: &Keys<'_>, a: u64, b: u64) -> Result<u64, ConfigError> {
    a.checked_mul(b).ok_or_else(|| too_wide(keys))
}

/// A state past 2⁶⁴ elements.
fn too_wide(keys: &Keys<'_>) -> ConfigError {
    ConfigError::WrongType {
        field: keys.field("hidden_size"),
        found: "the product of the state's dimensions".into(),
        expected: "a possible width",
    }
}
