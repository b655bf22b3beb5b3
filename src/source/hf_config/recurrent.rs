//! The state of recurrent layers: a row for each mechanism, with the keys that it is known by, and a formula.

use super::keys::{Keys, wrong_type};
use crate::model::{Convolution, Mechanism, Memory, RecurrentState};
use crate::units::{Code, ElementFormat, Error, Exact};

/// A mechanism by its keys.
struct Row {
    mechanism: Mechanism,
    /// The configuration has all keys of one of these lists, in the file or as defaults of its class.
    keys: &'static [&'static [&'static str]],
    parts: fn(&StateKeys<'_>) -> Result<Parts, Error>,
}

/// What a state consists of.
struct Parts {
    convolution: Option<Convolution>,
    memory: Option<Memory>,
}

/// The first row whose keys are there decides.
const ROWS: &[Row] = &[
    Row { mechanism: Mechanism::Kda, keys: &[&["linear_attn_config"]], parts: kimi_linear },
    Row { mechanism: Mechanism::GatedDeltaNet, keys: &[&["linear_num_value_heads"]], parts: gated_delta_net },
    Row { mechanism: Mechanism::Kda, keys: &[&["linear_num_heads"]], parts: kda_by_plain_keys },
    Row { mechanism: Mechanism::ShortConvolution, keys: &[&["conv_L_cache"]], parts: short_convolution },
    Row { mechanism: Mechanism::RgLru, keys: &[&["lru_width"], &["conv1d_width"]], parts: rg_lru },
    Row { mechanism: Mechanism::Mlstm, keys: &[&["qk_dim_factor"]], parts: mlstm },
    Row { mechanism: Mechanism::Rwkv, keys: &[&["attention_hidden_size", "rescale_every"]], parts: rwkv },
    Row { mechanism: Mechanism::Mamba2, keys: MAMBA2, parts: mamba2 },
    Row { mechanism: Mechanism::Mamba1, keys: &[&["state_size"], &["mamba_d_state"]], parts: mamba1 },
    Row { mechanism: Mechanism::Cca, keys: &[&["cca_time0"]], parts: cca },
    Row { mechanism: Mechanism::Lightning, keys: LIGHTNING, parts: lightning },
];

const MAMBA2: &[&[&str]] =
    &[&["mamba_num_heads"], &["mamba_n_heads"], &["mamba_headdim"], &["num_heads", "state_size"]];
const LIGHTNING: &[&[&str]] = &[&["attn_type_list"], &["linear_attn_alpha_factor"]];

const HIDDEN: &[&str] = &["hidden_size"];

/// The keys of a state, and its formats.
struct StateKeys<'a> {
    keys: &'a Keys<'a>,
    model_format: ElementFormat,
    memory_format: ElementFormat,
}

/// The state of each recurrent layer.
pub(super) fn state(keys: &Keys<'_>, model_format: ElementFormat) -> Result<RecurrentState, Error> {
    let memory_format = memory_format(keys)?.unwrap_or(model_format);
    let class = |key: &str| keys.model_type.is_some_and(|known| known.defaults.contains_key(key));
    let has = |key: &&str| keys.get(key).is_some() || class(key);
    let row = ROWS.iter().find(|row| row.keys.iter().any(|all| all.iter().all(has)));
    let row = row.ok_or_else(|| {
        let problem = "are there, but no keys of a mechanism known here give the size of their state";
        let remedy = "known are Mamba, Mamba-2, gated delta nets, KDA, lightning attention, short convolutions, RG-LRU, RWKV-4 \
                      and mLSTM";
        Error::new(Code::Missing, "layer_types", "recurrent layers", problem, remedy)
    })?;
    let Parts { convolution, memory } = (row.parts)(&StateKeys { keys, model_format, memory_format })?;
    Ok(RecurrentState { mechanism: row.mechanism, convolution, memory })
}

/// The format that the configuration names for the memory.
pub(super) fn memory_format(keys: &Keys<'_>) -> Result<Option<ElementFormat>, Error> {
    for key in ["mamba_ssm_cache_dtype", "mamba_ssm_dtype", "inference_state_dtype"] {
        if let Some(name) = keys.text(key)?.filter(|name| *name != "auto") {
            let unknown = |_| wrong_type(keys.field(key), &name.into(), "the name of an element format");
            return name.parse().map(Some).map_err(unknown);
        }
    }
    Ok(None)
}

impl StateKeys<'_> {
    fn needed(&self, keys: &[&'static str]) -> Result<u64, Error> {
        self.keys.needed(keys)
    }

    /// A count, from the file or from its class.
    fn needed_or_default(&self, keys: &[&'static str]) -> Result<u64, Error> {
        let given = self.keys.count_or_default(keys)?;
        Ok(given.ok_or_else(|| self.keys.missing(keys.first().copied().unwrap_or_default()))?.value)
    }

    fn elements(&self, number: Exact) -> Result<u64, Error> {
        number.get().map_err(|_| {
            let (found, problem) = ("the product of the state's dimensions", "is past 2^64 - 1");
            Error::new(Code::WrongType, self.keys.field("hidden_size"), found, problem, "write a possible width")
        })
    }

    fn convolution(&self, channels: impl Into<Exact>, kernel: impl Into<Exact>) -> Result<Option<Convolution>, Error> {
        let (channels, kernel) = (self.elements(channels.into())?, self.elements(kernel.into())?);
        Ok(Some(Convolution::new(channels, kernel, self.model_format)))
    }

    fn memory(&self, heads: u64, elements_per_head: impl Into<Exact>) -> Result<Option<Memory>, Error> {
        let elements_per_head = self.elements(elements_per_head.into())?;
        Ok(Some(Memory { heads, elements_per_head, format: self.memory_format }))
    }
}

/// q, k and v each have their convolution.
fn kda(state: &StateKeys<'_>, heads: u64, dim: u64, kernel: u64) -> Result<Parts, Error> {
    let convolution = state.convolution(Exact::from(heads) * dim * 3u64, kernel)?;
    Ok(Parts { convolution, memory: state.memory(heads, Exact::from(dim) * dim)? })
}

fn kimi_linear(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let linear = state.keys.inner("linear_attn_config")?.ok_or_else(|| state.keys.missing("linear_attn_config"))?;
    let kernel = linear.needed(&["short_conv_kernel_size"])?;
    kda(state, linear.needed(&["num_heads"])?, linear.needed(&["head_dim"])?, kernel)
}

fn kda_by_plain_keys(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let kernel = state.needed(&["linear_conv_kernel_dim"])?;
    kda(state, state.needed(&["linear_num_heads"])?, state.needed(&["linear_head_dim"])?, kernel)
}

fn gated_delta_net(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let key_heads = state.needed(&["linear_num_key_heads"])?;
    let key_dim = Exact::from(state.needed(&["linear_key_head_dim"])?);
    let heads = state.needed(&["linear_num_value_heads"])?;
    let value_dim = state.needed(&["linear_value_head_dim"])?;
    let channels = Exact::from(heads) * value_dim + key_dim * key_heads * 2u64;
    let memory = state.memory(heads, key_dim * value_dim)?;
    Ok(Parts { memory, convolution: state.convolution(channels, state.needed(&["linear_conv_kernel_dim"])?)? })
}

fn short_convolution(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let convolution = state.convolution(state.needed(HIDDEN)?, state.needed(&["conv_L_cache"])?)?;
    Ok(Parts { convolution, memory: None })
}

fn rg_lru(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let width = state.needed(&["lru_width", "hidden_size"])?;
    let convolution = state.convolution(width, state.needed(&["conv1d_width"])?)?;
    Ok(Parts { convolution, memory: state.memory(width, 1u64)? })
}

/// The last token's input to attention and to the feed-forward layer; numerator, denominator and maximum.
fn rwkv(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let width = state.needed(&["attention_hidden_size", "hidden_size"])?;
    Ok(Parts { convolution: state.convolution(state.needed(HIDDEN)?, 3u64)?, memory: state.memory(width, 3u64)? })
}

/// Two convolutions one after the other look back as far as both.
fn cca(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let dim = state.needed(&["head_dim"])?;
    let kv_heads = state.needed(&["num_key_value_heads"])?;
    let heads = Exact::from(state.needed(&["num_attention_heads"])?) + kv_heads;
    let kernel = Exact::from(state.needed(&["cca_time0"])?) + state.needed(&["cca_time1"])? - 1u64;
    Ok(Parts { convolution: state.convolution(heads * dim, kernel)?, memory: state.memory(kv_heads, dim / 2)? })
}

fn lightning(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let heads = state.needed(&["num_attention_heads"])?;
    let dim = match state.keys.count_or_off(&["head_dim"])? {
        Some(dim) => dim.value.into(),
        None => Exact::from(state.needed(HIDDEN)?) / heads,
    };
    Ok(Parts { convolution: None, memory: state.memory(heads, dim * dim)? })
}

fn mamba2(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let (heads, dim) = mamba2_heads(state)?;
    let state_size = state.needed(&["ssm_state_size", "mamba_d_state", "state_size"])?;
    let group_keys = ["n_groups", "mamba_n_groups", "mamba_ngroups"];
    let given = state.keys.count(&group_keys)?;
    let groups = given.or_else(|| group_keys.iter().find_map(|key| state.keys.default(key)));
    if groups.is_none() {
        state.keys.assume(format!("{} is not in the config: 1, one group of B and C", state.keys.field("n_groups")));
    }
    let groups = groups.map_or(1, |groups| groups.value);
    let kernel = state.needed_or_default(&["conv_kernel", "mamba_d_conv"])?;
    let channels_per_group = state.elements(Exact::from(state_size) * 2u64)?;
    let convolution = state.convolution(Exact::from(heads) * dim, kernel)?;
    let convolution = convolution.map(|all| Convolution { channels_per_group, groups, ..all });
    Ok(Parts { convolution, memory: state.memory(heads, Exact::from(dim) * state_size)? })
}

/// Heads and head dimension: one may be left out, or "auto"; a pure Mamba-2 has its own under a plain name.
fn mamba2_heads(state: &StateKeys<'_>) -> Result<(u64, u64), Error> {
    let dim = state.keys.count(&["mamba_head_dim", "mamba_d_head", "mamba_headdim"])?;
    let heads = state.keys.count(&["mamba_num_heads", "mamba_n_heads", "n_mamba_heads", "num_heads"])?;
    let plain_dim = match (&heads, &dim) {
        (Some(_), None) => state.keys.count_or_off(&["head_dim"])?.filter(|_| state.keys.get("num_heads").is_some()),
        _ => None,
    };
    let inner_over = |divisor: u64| {
        let expand = state.needed_or_default(&["mamba_expand", "expand"])?;
        state.elements(Exact::from(expand) * state.needed(HIDDEN)? / divisor)
    };
    match (heads, dim.or(plain_dim)) {
        (Some(heads), Some(dim)) => Ok((heads.value, dim.value)),
        (None, Some(dim)) => Ok((inner_over(dim.value)?, dim.value)),
        (Some(heads), None) => Ok((heads.value, inner_over(heads.value)?)),
        (None, None) => Err(state.keys.missing("mamba_num_heads")),
    }
}

/// In a hybrid `intermediate_size` is the feed-forward layer's; in a pure Mamba it is the state's own, and `expand` may lie.
fn mamba1(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let inner = match state.keys.count(&["mamba_expand"])? {
        Some(expand) => Exact::from(expand.value) * state.needed(HIDDEN)?,
        None => match state.keys.count(&["intermediate_size"])? {
            Some(inner) => inner.value.into(),
            None => Exact::from(state.needed(&["expand"])?) * state.needed(HIDDEN)?,
        },
    };
    let inner = state.elements(inner)?;
    let state_size = state.needed(&["state_size", "mamba_d_state"])?;
    let convolution = state.convolution(inner, state.needed(&["conv_kernel", "mamba_d_conv"])?)?;
    Ok(Parts { convolution, memory: state.memory(inner, state_size)? })
}

fn mlstm(state: &StateKeys<'_>) -> Result<Parts, Error> {
    let heads = state.needed(&["num_heads"])?;
    let width = state.needed(&["hidden_size", "embedding_dim"])?;
    let dim = |key: &str| -> Result<Exact, Error> {
        let share = state.keys.decimal(key)?.ok_or_else(|| state.keys.missing(key))?;
        Ok(share.times_rounded_down(width) / heads)
    };
    let (qk, v) = (dim("qk_dim_factor")?, dim("v_dim_factor")?);
    Ok(Parts { convolution: None, memory: state.memory(heads, qk * v + qk + 1u64)? })
}
