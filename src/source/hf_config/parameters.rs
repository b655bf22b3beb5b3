//! Parameters from the dimensions of a configuration, for the classes whose tensors are known one by one; and the experts
//! of a mixture. A class that is not listed here has no figure: nothing is guessed.
//!
//! Layers that predict further tokens (MTP) are not counted.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::attention::{HEAD_DIM, HEADS, HIDDEN, KV_HEADS};
use super::classes::{
    Attention, Blocks, CLASSES, Class, Ends, Flag, HeadNorm, Mamba2, Mixer, Mixture, Mlp, Router, Shared, SparseLayers,
};
use super::keys::Keys;
use super::layer_kinds::{LayerKind, layer_kinds, listed_layers};
use super::scheme::{Kind, Scheme};
use super::towers::Tower;
use crate::catalogue::model_type;
use crate::model::{DtypeWeights, Experts, MAX_LAYERS, Place, TensorGroup, Tensors, Weights, WeightsOrigin};
use crate::units::Bytes;

const TOO_LARGE: &str = "the dimensions come to more than 2^64 - 1 parameters";
const LAYERS: &[&str] = &["num_hidden_layers", "n_layer", "n_layers", "num_layers"];

/// Spellings of the experts of a layer, and of those that a token is sent to.
const ALL_EXPERTS: &[&str] = &["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"];
const EXPERTS_PER_TOKEN: &[&str] =
    &["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "top_k_experts"];

/// The experts of a configuration, if it has any.
pub(in crate::source) fn experts(config: &Value) -> Option<Experts> {
    let root = config.as_object()?;
    let (object, _) = super::text_model(root).ok()?;
    experts_of(object)
}

/// The layers that predict further tokens, if a configuration has any.
pub(in crate::source) fn further_layers(config: &Value) -> Option<u64> {
    let (object, _) = super::text_model(config.as_object()?).ok()?;
    let layers =
        ["num_nextn_predict_layers", "mtp_num_hidden_layers"].iter().find_map(|key| object.get(*key)?.as_u64());
    layers.filter(|&layers| layers > 0)
}

fn experts_of(object: &Map<String, Value>) -> Option<Experts> {
    let first = |names: &[&str]| names.iter().find_map(|key| object.get(*key)?.as_u64());
    let all = first(ALL_EXPERTS).filter(|&all| all > 1)?;
    Some(Experts { all, per_token: first(EXPERTS_PER_TOKEN).filter(|&chosen| chosen > 0)? })
}

/// The weights that a configuration comes to, computed; or the reason why they can't be told.
///
/// `beside` tells that a file beside it declares a quantisation.
pub(in crate::source) fn weights(config: &Value, beside: bool) -> Result<Weights, String> {
    let root = config.as_object().ok_or("the config is no object")?;
    let (object, path) = super::text_model(root).map_err(|error| error.to_string())?;
    let outer = root.get("model_type").and_then(Value::as_str);
    let named = object.get("model_type").and_then(Value::as_str).or(outer).ok_or("the config names no model_type")?;
    let class = CLASSES
        .iter()
        .find(|class| class.names.contains(&named))
        .ok_or_else(|| format!("the tensors of model_type {named:?} are not known here one by one"))?;
    let tower = Tower::of(root, !path.is_empty())?;
    let classes = root.get("architectures").and_then(Value::as_array);
    let is_known = |name: &&str| class.is_named(name) || tower.as_ref().is_some_and(|tower| tower.is_of(name));
    if let Some(other) = classes.and_then(|names| names.first()?.as_str()).filter(|name| !is_known(name)) {
        return Err(format!("the tensors of {other} are not known here one by one"));
    }
    let read = RefCell::default();
    let known = model_type(named);
    let keys = Keys { object, path, model_type: known.as_ref(), read: &read };
    let mut notes = Vec::new();
    for (key, value, optional) in class.fixed {
        match keys.object.get(*key).filter(|found| !found.is_null()) {
            None if *optional => {}
            Some(found) if is_written(found, value) => {}
            _ => return Err(format!("{key} is not {value}, and what tensors {named} has then is not known here")),
        }
    }
    let mut tally = Tally::of(class, &keys, root)?;
    if let Some(tower) = &tower {
        tally.tower(tower, number(&keys, HIDDEN)?)?;
    }
    let dtype =
        [object, root].iter().find_map(|keys| ["torch_dtype", "dtype"].iter().find_map(|key| keys.get(*key)?.as_str()));
    let dtype = match dtype.map(|name| name.strip_prefix("torch.").unwrap_or(name)) {
        Some("float16" | "half") => "F16",
        Some("float32" | "float") => "F32",
        _ => "BF16",
    };
    let size = if dtype == "F32" { 4 } else { 2 };
    let declared = [root, object].iter().find_map(|keys| keys.get("quantization_config")?.as_object());
    let method = declared.map(|declared| declared.get("quant_method").and_then(Value::as_str).unwrap_or("unnamed"));
    let method = method.or(beside.then_some("hf_quant_config.json"));
    let scheme = declared.and_then(|declared| Scheme::of(declared, named));
    if let Some(method) = method.filter(|_| scheme.is_none()) {
        notes.push(format!(
            "the checkpoint is quantised ({method}): its bytes are counted in {dtype}, which is more than its files take"
        ));
    }
    if let Some(layers) = further_layers(config) {
        notes.push(format!("what predicts further tokens (MTP layers: {layers}) is not counted"));
    } else if class.untold {
        notes.push("what predicts further tokens (MTP) is not counted: its config tells nothing of it".into());
    }
    let too_large = "the weights are past 2^64 - 1 bytes";
    let by_dtype = tally.by_dtype(dtype, size, scheme.as_ref()).ok_or(too_large)?;
    let bytes = by_dtype.iter().try_fold(Bytes(0), |sum, share| sum.checked_add(share.bytes?)).ok_or(too_large)?;
    let active = class.experts.as_ref().and_then(|_| experts_of(object)?.active(tally.parameters, tally.routed));
    let tensors = Tensors {
        groups: tally.tensors.iter().filter_map(|tensor| tensor.group(size, scheme.as_ref())).collect(),
        tied: tally.tied,
    };
    Ok(Weights {
        by_dtype,
        bytes: Some(bytes),
        parameters: Some(tally.parameters),
        active_parameters: active,
        tensors: Some(tensors),
        origin: WeightsOrigin::Config,
        notes,
    })
}

/// Whether a value is written so.
fn is_written(value: &Value, text: &str) -> bool {
    let written = value.to_string();
    written == text
}

/// Tensors of one shape: matrices, or vectors of one row.
#[derive(Debug, Clone)]
struct Shape {
    place: Place,
    count: u64,
    kind: Kind,
    /// Rows that ranks divide (or columns: the bytes are the same), rows that they divide by KV heads, rows that each has.
    divided: u64,
    by_kv_heads: u64,
    whole: u64,
    columns: u64,
    /// The most ranks that divide rows by KV heads.
    num_key_value_heads: u64,
}

impl Shape {
    /// All parameters of it in the model.
    fn parameters(&self) -> Option<u64> {
        let rows = self.divided.checked_add(self.by_kv_heads)?.checked_add(self.whole)?;
        let places = match &self.place {
            Place::Layers(layers) => u64::try_from(layers.len()).ok()?,
            _ => 1,
        };
        rows.checked_mul(self.columns)?.checked_mul(self.count)?.checked_mul(places)
    }

    /// The same in bytes.
    fn group(&self, size: u64, scheme: Option<&Scheme>) -> Option<TensorGroup> {
        let scheme = scheme.filter(|scheme| scheme.takes(self.kind));
        let bytes = |rows: u64| match scheme {
            Some(scheme) => scheme.bytes(rows, self.columns),
            None => rows.checked_mul(self.columns)?.checked_mul(size),
        };
        Some(TensorGroup {
            place: self.place.clone(),
            count: self.count,
            divided: bytes(self.divided)?,
            by_kv_heads: bytes(self.by_kv_heads)?,
            num_key_value_heads: self.num_key_value_heads,
            whole: bytes(self.whole)?,
            packed: self.kind == Kind::Expert && scheme == Some(&Scheme::Mxfp4),
        })
    }

    /// All bytes of it in the model.
    fn bytes(&self, size: u64, scheme: Option<&Scheme>) -> Option<u64> {
        let group = self.group(size, scheme)?;
        let places = match &self.place {
            Place::Layers(layers) => u64::try_from(layers.len()).ok()?,
            _ => 1,
        };
        group.bytes().checked_mul(self.count)?.checked_mul(places)
    }
}

/// Parameters, counted tensor by tensor.
#[derive(Default)]
struct Tally {
    tensors: Vec<Shape>,
    parameters: u64,
    /// Those of experts that tokens are sent to.
    routed: u64,
    tied: bool,
}

/// How ranks hold the rows of a matrix.
#[derive(Clone, Copy)]
enum Rows {
    Divided(u64),
    Whole(u64),
    /// Those of q, and those of k and v, of so many KV heads.
    Heads(u64, u64, u64),
}

impl Tally {
    fn add(&mut self, place: &Place, count: u64, kind: Kind, rows: Rows, columns: u64) -> Result<u64, String> {
        let (divided, by_kv_heads, whole, num_key_value_heads) = match rows {
            Rows::Divided(rows) => (rows, 0, 0, 1),
            Rows::Whole(rows) => (0, 0, rows, 1),
            Rows::Heads(q, kv, heads) => (q, kv, 0, heads),
        };
        let shape =
            Shape { place: place.clone(), count, kind, divided, by_kv_heads, whole, columns, num_key_value_heads };
        let product = shape.parameters();
        let sum = product.and_then(|product| self.parameters.checked_add(product));
        self.parameters = sum.ok_or(TOO_LARGE)?;
        if product.is_some_and(|product| product > 0) {
            self.tensors.push(shape);
        }
        Ok(product.unwrap_or_default())
    }

    fn linear(&mut self, place: &Place, rows: Rows, columns: u64) -> Result<u64, String> {
        self.add(place, 1, Kind::Linear, rows, columns)
    }

    /// Vectors that every rank has: norms, and biases of what is not divided.
    fn vectors(&mut self, place: &Place, count: u64, width: u64) -> Result<u64, String> {
        self.add(place, count, Kind::Other, Rows::Whole(1), width)
    }

    fn of(class: &Class, keys: &Keys<'_>, root: &Map<String, Value>) -> Result<Self, String> {
        let mut tally = Self::default();
        let hidden = number(keys, HIDDEN)?;
        let listed = listed_layers(keys).map(|(_, layers)| layers);
        let layers = number_or(keys, LAYERS, listed)?;
        let layers = u32::try_from(layers)
            .ok()
            .filter(|&layers| layers <= MAX_LAYERS)
            .ok_or_else(|| format!("{layers} is more layers than any model has"))?;
        let vocabulary = number(keys, &["vocab_size"])?;
        let said = [keys.object, root].iter().find_map(|object| object.get("tie_word_embeddings")?.as_bool());
        let norm = class.norm_vectors;
        tally.tied = said.unwrap_or(class.tied);
        tally.add(&Place::Embedding, 1, Kind::Other, Rows::Divided(vocabulary), hidden)?;
        if let Some((key, free)) = class.positions {
            let positions = number(keys, &[key])?.checked_add(free).ok_or(TOO_LARGE)?;
            tally.add(&Place::Embedding, 1, Kind::Other, Rows::Whole(positions), hidden)?;
        }
        if class.ends == Ends::EmbeddingNorm {
            tally.vectors(&Place::Embedding, norm, hidden)?;
        }
        if !tally.tied {
            tally.add(&Place::Head, 1, Kind::Other, Rows::Divided(vocabulary), hidden)?;
        }
        if class.ends == Ends::HeadBias {
            tally.add(&Place::Head, 1, Kind::Other, Rows::Divided(vocabulary), 1)?;
        }
        tally.vectors(&Place::Head, norm, hidden)?;
        let layout = Layout::of(class, keys, layers)?;
        let all = Place::Layers((0..layers).collect());
        tally.vectors(&all, class.norms.saturating_mul(norm), hidden)?;
        tally.vectors(&all, class.scalars, 1)?;
        match class.attention {
            Attention::Alternating => {
                let kv_heads = number(keys, KV_HEADS)?;
                let head_dim = number(keys, HEAD_DIM)?;
                tally.alternating(keys, hidden, &layout.windowed, (kv_heads, head_dim, false))?;
                let global = number_or(keys, &["global_head_dim"], Some(512))?;
                let k_is_v = Flag::Key("attention_k_eq_v", false).on(keys)?;
                let kv_heads = if k_is_v { number(keys, &["num_global_key_value_heads"])? } else { kv_heads };
                tally.alternating(keys, hidden, &layout.attention, (kv_heads, global, k_is_v))?;
            }
            _ if layout.attention.is_empty() => {}
            _ => tally.attention(&class.attention, keys, hidden, &Place::Layers(layout.attention))?,
        }
        if matches!(class.attention, Attention::Indexed) {
            tally.indexer(keys, hidden, layers)?;
        }
        if !layout.recurrent.is_empty() {
            tally.recurrent(&class.mixer, keys, hidden, &Place::Layers(layout.recurrent))?;
        }
        if !layout.dense.is_empty() {
            let dense = Place::Layers(layout.dense);
            let fourfold = hidden.checked_mul(4).filter(|_| matches!(class.mlp, Mlp::Fourfold));
            let width = number_or(keys, &[class.dense_width], fourfold)?;
            let width = if matches!(class.mlp, Mlp::Adjusted) { adjusted(keys, width)? } else { width };
            let gated = matches!(class.mlp, Mlp::Gated | Mlp::Adjusted);
            tally.feed_forward(&dense, hidden, width, gated)?;
            if class.mlp_bias.on(keys)? {
                tally.add(&dense, if gated { 2 } else { 1 }, Kind::Other, Rows::Divided(1), width)?;
                tally.vectors(&dense, 1, hidden)?;
            }
        }
        if let Some(mixture) = class.experts.as_ref().filter(|_| !layout.sparse.is_empty()) {
            let gated = !matches!(class.mlp, Mlp::Plain);
            tally.mixture(mixture, keys, hidden, gated, &Place::Layers(layout.sparse))?;
        }
        Ok(tally)
    }

    /// Up and down, and a gate where it has one.
    fn feed_forward(&mut self, place: &Place, hidden: u64, width: u64, gated: bool) -> Result<(), String> {
        let rows = width.checked_mul(if gated { 2 } else { 1 }).ok_or(TOO_LARGE)?;
        self.linear(place, Rows::Divided(rows), hidden)?;
        self.linear(place, Rows::Divided(hidden), width)?;
        Ok(())
    }

    /// Layers of Gemma 4 whose KV heads, width of heads, and whether k is v, are these.
    fn alternating(
        &mut self,
        keys: &Keys<'_>,
        hidden: u64,
        layers: &[u32],
        (kv_heads, head_dim, k_is_v): (u64, u64, bool),
    ) -> Result<(), String> {
        if layers.is_empty() {
            return Ok(());
        }
        let layers = Place::Layers(layers.to_vec());
        let q = number(keys, HEADS)?.checked_mul(head_dim).ok_or(TOO_LARGE)?;
        let kv = kv_heads.checked_mul(head_dim).and_then(|kv| kv.checked_mul(if k_is_v { 1 } else { 2 }));
        self.linear(&layers, Rows::Heads(q, kv.ok_or(TOO_LARGE)?, kv_heads), hidden)?;
        self.linear(&layers, Rows::Divided(hidden), q)?;
        self.vectors(&layers, 2, head_dim)?;
        Ok(())
    }

    /// What chooses the tokens of sparse attention, in the layers that do not take over another's choice.
    fn indexer(&mut self, keys: &Keys<'_>, hidden: u64, layers: u32) -> Result<(), String> {
        if keys.object.get("index_topk_pattern").is_some_and(|pattern| !pattern.is_null()) {
            return Err("index_topk_pattern is not read here".into());
        }
        let own: Vec<u32> = match keys.object.get("indexer_types").and_then(Value::as_array) {
            Some(list) if list.len() >= usize::try_from(layers).unwrap_or(usize::MAX) => {
                (0..layers).zip(list).filter(|(_, kind)| *kind == "full").map(|(layer, _)| layer).collect()
            }
            Some(_) => return Err("indexer_types has fewer entries than there are layers".into()),
            None => {
                let freq = number_or(keys, &["index_topk_freq"], Some(1))?;
                let offset = number_or(keys, &["index_skip_topk_offset"], Some(2))?;
                let is_own =
                    |layer: &u32| u64::from(*layer).saturating_add(1).saturating_sub(offset).is_multiple_of(freq);
                (0..layers).filter(is_own).collect()
            }
        };
        let own = Place::Layers(own);
        let heads = number(keys, &["index_n_heads"])?;
        let head_dim = number(keys, &["index_head_dim"])?;
        let q = heads.checked_mul(head_dim).ok_or(TOO_LARGE)?;
        self.linear(&own, Rows::Whole(q), number(keys, &["q_lora_rank"])?)?;
        self.linear(&own, Rows::Whole(head_dim), hidden)?;
        self.vectors(&own, 2, head_dim)?;
        self.add(&own, 1, Kind::Other, Rows::Whole(heads), hidden)?;
        Ok(())
    }

    /// What stands in place of attention.
    fn recurrent(&mut self, mixer: &Mixer, keys: &Keys<'_>, hidden: u64, layers: &Place) -> Result<(), String> {
        let times = |a: u64, b: u64| a.checked_mul(b).ok_or(TOO_LARGE);
        match mixer {
            Mixer::None => return Err("it has layers with a state, whose tensors are not known here".into()),
            Mixer::Delta => {
                let heads = number(keys, &["linear_num_value_heads"])?;
                let head_dim = number(keys, &["linear_value_head_dim"])?;
                let k = times(number(keys, &["linear_num_key_heads"])?, number(keys, &["linear_key_head_dim"])?)?;
                let v = times(heads, head_dim)?;
                let q_k_v = k.checked_mul(2).and_then(|both| both.checked_add(v)).ok_or(TOO_LARGE)?;
                self.linear(layers, Rows::Divided(q_k_v.checked_add(v).ok_or(TOO_LARGE)?), hidden)?;
                self.linear(layers, Rows::Divided(times(heads, 2)?), hidden)?;
                let kernel = number(keys, &["linear_conv_kernel_dim"])?;
                self.add(layers, 1, Kind::Other, Rows::Divided(q_k_v), kernel)?;
                self.add(layers, 2, Kind::Other, Rows::Divided(heads), 1)?;
                self.vectors(layers, 1, head_dim)?;
                self.linear(layers, Rows::Divided(hidden), v)?;
            }
            Mixer::Mamba2(names) => self.mamba_2(names, keys, hidden, layers)?,
            Mixer::Convolution => {
                self.linear(layers, Rows::Divided(times(hidden, 3)?), hidden)?;
                self.linear(layers, Rows::Divided(hidden), hidden)?;
                self.add(layers, 1, Kind::Other, Rows::Divided(hidden), number(keys, &["conv_L_cache"])?)?;
            }
            Mixer::Lightning => {
                let heads = number(keys, HEADS)?;
                let q = times(heads, number_or(keys, HEAD_DIM, hidden.checked_div(heads))?)?;
                self.linear(layers, Rows::Divided(times(q, 4)?), hidden)?;
                self.linear(layers, Rows::Divided(hidden), q)?;
                self.add(layers, 1, Kind::Other, Rows::Divided(q), 1)?;
            }
        }
        Ok(())
    }

    fn mamba_2(&mut self, names: &Mamba2, keys: &Keys<'_>, hidden: u64, layers: &Place) -> Result<(), String> {
        let heads = number(keys, &[names.heads])?;
        let inner = heads.checked_mul(number(keys, &[names.head_dim])?).ok_or(TOO_LARGE)?;
        let groups = number(keys, &[names.groups])?;
        let state = groups.checked_mul(number(keys, &[names.state])?);
        let b_and_c = state.and_then(|state| state.checked_mul(2)).ok_or(TOO_LARGE)?;
        let kernel = number(keys, &[names.kernel])?;
        let outer = inner.checked_mul(2).and_then(|both| both.checked_add(heads)).ok_or(TOO_LARGE)?;
        // B and C are repeated as KV heads are, once there are more ranks than groups.
        self.linear(layers, Rows::Heads(outer, b_and_c, groups), hidden)?;
        self.linear(layers, Rows::Divided(hidden), inner)?;
        self.add(layers, 1, Kind::Other, Rows::Heads(inner, b_and_c, groups), kernel)?;
        if names.conv_bias.on(keys)? {
            self.add(layers, 1, Kind::Other, Rows::Heads(inner, b_and_c, groups), 1)?;
        }
        if names.bias.on(keys)? {
            self.add(layers, 1, Kind::Other, Rows::Heads(outer, b_and_c, groups), 1)?;
            self.vectors(layers, 1, hidden)?;
        }
        self.add(layers, 3, Kind::Other, Rows::Divided(heads), 1)?;
        self.add(layers, 1, Kind::Other, Rows::Divided(inner), 1)?;
        Ok(())
    }

    fn attention(&mut self, attention: &Attention, keys: &Keys<'_>, hidden: u64, layers: &Place) -> Result<(), String> {
        let heads = number(keys, HEADS)?;
        let too_large = || "the dimensions of its heads come to more than 2^64 - 1".to_owned();
        match attention {
            Attention::Alternating => {}
            Attention::Heads { .. } | Attention::Gated { .. } => {
                let (gated, qkv_bias, o_bias, norm, sinks) = match attention {
                    Attention::Heads { qkv_bias, o_bias, norm, sinks } => {
                        (false, qkv_bias.on(keys)?, o_bias.on(keys)?, norm, *sinks)
                    }
                    Attention::Gated { norm } => (true, false, false, norm, false),
                    _ => (false, false, false, &HeadNorm::None, false),
                };
                let kv_heads = number_or(keys, KV_HEADS, Some(heads))?;
                let head_dim = number_or(keys, HEAD_DIM, hidden.checked_div(heads))?;
                let q = heads.checked_mul(head_dim).ok_or_else(too_large)?;
                let kv = kv_heads.checked_mul(head_dim).ok_or_else(too_large)?;
                let k_and_v = kv.checked_mul(2).ok_or_else(too_large)?;
                let q_and_gate = if gated { q.checked_mul(2).ok_or_else(too_large)? } else { q };
                self.linear(layers, Rows::Heads(q_and_gate, k_and_v, kv_heads), hidden)?;
                self.linear(layers, Rows::Divided(hidden), q)?;
                if qkv_bias {
                    self.add(layers, 1, Kind::Other, Rows::Heads(q, k_and_v, kv_heads), 1)?;
                }
                if o_bias {
                    self.vectors(layers, 1, hidden)?;
                }
                let (of_head, of_all) = match norm {
                    HeadNorm::None => (false, false),
                    HeadNorm::Head => (true, false),
                    HeadNorm::HeadIf(key) => (Flag::Key(key, false).on(keys)?, false),
                    HeadNorm::All => (false, true),
                    HeadNorm::AllIf(key) => (false, Flag::Key(key, false).on(keys)?),
                };
                if of_head {
                    self.vectors(layers, 2, head_dim)?;
                }
                if of_all {
                    self.add(layers, 1, Kind::Other, Rows::Divided(q), 1)?;
                    self.add(layers, 1, Kind::Other, Rows::Heads(0, kv, kv_heads), 1)?;
                }
                if sinks {
                    self.add(layers, 1, Kind::Other, Rows::Divided(heads), 1)?;
                }
            }
            Attention::Latent | Attention::Indexed => {
                let latent = number(keys, &["kv_lora_rank"])?;
                let rope = number(keys, &["qk_rope_head_dim"])?;
                let nope = number(keys, &["qk_nope_head_dim"])?;
                let v = number(keys, &["v_head_dim"])?;
                let k = nope.checked_add(rope).ok_or_else(too_large)?;
                let q = heads.checked_mul(k).ok_or_else(too_large)?;
                let bias = Flag::Key("attention_bias", false).on(keys)?;
                let compressed = latent.checked_add(rope).ok_or_else(too_large)?;
                if keys.object.get("q_lora_rank").is_some_and(|rank| !rank.is_null()) {
                    let rank = number(keys, &["q_lora_rank"])?;
                    self.linear(layers, Rows::Whole(rank), hidden)?;
                    self.vectors(layers, if bias { 2 } else { 1 }, rank)?;
                    self.linear(layers, Rows::Divided(q), rank)?;
                } else {
                    self.linear(layers, Rows::Divided(q), hidden)?;
                }
                self.linear(layers, Rows::Whole(compressed), hidden)?;
                self.vectors(layers, 1, latent)?;
                let up = nope.checked_add(v).and_then(|both| both.checked_mul(heads)).ok_or_else(too_large)?;
                self.linear(layers, Rows::Divided(up), latent)?;
                self.linear(layers, Rows::Divided(hidden), heads.checked_mul(v).ok_or_else(too_large)?)?;
                if bias {
                    self.vectors(layers, 1, compressed)?;
                    self.vectors(layers, 1, hidden)?;
                }
            }
        }
        Ok(())
    }

    fn mixture(
        &mut self,
        mixture: &Mixture,
        keys: &Keys<'_>,
        hidden: u64,
        gated: bool,
        layers: &Place,
    ) -> Result<(), String> {
        let all = number(keys, &[mixture.all])?;
        let width = number(keys, &[mixture.width])?;
        let worked_in = match mixture.latent {
            Some(key) if keys.object.get(key).is_some_and(|width| !width.is_null()) => {
                let latent = number(keys, &[key])?;
                self.linear(layers, Rows::Whole(latent), hidden)?;
                self.linear(layers, Rows::Whole(hidden), latent)?;
                latent
            }
            _ => hidden,
        };
        let inner = all.checked_mul(width).and_then(|rows| rows.checked_mul(if gated { 2 } else { 1 }));
        let inner = inner.ok_or(TOO_LARGE)?;
        let outer = all.checked_mul(worked_in).ok_or(TOO_LARGE)?;
        let up = self.add(layers, 1, Kind::Expert, Rows::Divided(inner), worked_in)?;
        let down = self.add(layers, 1, Kind::Expert, Rows::Divided(outer), width)?;
        self.routed = up.saturating_add(down);
        self.vectors(layers, mixture.norms, hidden)?;
        self.add(layers, 1, Kind::Other, Rows::Whole(all), hidden)?;
        match mixture.router {
            Router::Plain => {}
            Router::Corrected => {
                self.vectors(layers, 1, all)?;
            }
            Router::Scaled => {
                self.vectors(layers, 1, worked_in)?;
                self.vectors(layers, 1, all)?;
            }
            Router::Biased => {
                let inner = self.add(layers, 1, Kind::Other, Rows::Divided(inner), 1)?;
                let outer = self.add(layers, 1, Kind::Other, Rows::Whole(outer), 1)?;
                self.routed = self.routed.saturating_add(inner).saturating_add(outer);
                self.vectors(layers, 1, all)?;
            }
        }
        let shared = match mixture.shared {
            Shared::None => return Ok(()),
            Shared::One => width,
            // Null is none.
            Shared::Experts(key) => {
                let shared = keys.object.get(key).and_then(Value::as_u64).unwrap_or_default();
                shared.checked_mul(width).ok_or(TOO_LARGE)?
            }
            Shared::Wide(count, key) => {
                number_or(keys, &[count], Some(1))?.checked_mul(number(keys, &[key])?).ok_or(TOO_LARGE)?
            }
            Shared::Gated(key) => {
                self.vectors(layers, 1, hidden)?;
                number(keys, &[key])?
            }
        };
        self.feed_forward(layers, hidden, shared, gated)
    }

    /// What sees beside a text model of this width. Ranks divide the matrices of its blocks; no quantisation is taken.
    fn tower(&mut self, tower: &Tower, hidden: u64) -> Result<(), String> {
        for part in tower.parts(hidden)? {
            let rows = if part.divided { Rows::Divided(part.rows) } else { Rows::Whole(part.rows) };
            self.add(&Place::Beside, part.count, Kind::Other, rows, part.columns)?;
        }
        Ok(())
    }

    /// All tensors by element type: those in `dtype`, of `size` bytes an element, and those that `scheme` takes.
    fn by_dtype(&self, dtype: &str, size: u64, scheme: Option<&Scheme>) -> Option<Vec<DtypeWeights>> {
        let share = |dtype: &str, taken: bool| {
            let mut share = DtypeWeights { dtype: dtype.into(), tensors: None, parameters: 0, bytes: Some(Bytes(0)) };
            let belongs = |tensor: &&Shape| scheme.is_some_and(|scheme| scheme.takes(tensor.kind)) == taken;
            for tensor in self.tensors.iter().filter(belongs) {
                share.parameters = share.parameters.checked_add(tensor.parameters()?)?;
                share.bytes = share.bytes?.checked_add(Bytes(tensor.bytes(size, scheme)?));
            }
            Some(share)
        };
        let mut shares = vec![share(dtype, false)?];
        if let Some(scheme) = scheme {
            shares.push(share(scheme.dtype(), true)?);
        }
        Some(shares)
    }
}

/// The layers that have each of the parts.
struct Layout {
    attention: Vec<u32>,
    /// Of those with attention the ones with a window, where the class tells them apart.
    windowed: Vec<u32>,
    recurrent: Vec<u32>,
    dense: Vec<u32>,
    sparse: Vec<u32>,
}

impl Layout {
    fn of(class: &Class, keys: &Keys<'_>, layers: u32) -> Result<Self, String> {
        let all = || (0..layers).collect::<Vec<u32>>();
        let alternates = matches!(class.attention, Attention::Alternating);
        if class.blocks == Blocks::One {
            let blocks = blocks(keys, layers)?;
            let of = |block: char| {
                all().into_iter().zip(&blocks).filter(|(_, other)| **other == block).map(|(layer, _)| layer).collect()
            };
            let (attention, recurrent, dense, sparse) = (of('*'), of('M'), of('-'), of('E'));
            return Ok(Self { attention, windowed: Vec::new(), recurrent, dense, sparse });
        }
        let (attention, windowed, recurrent) = if matches!(class.mixer, Mixer::None) && !alternates {
            (all(), Vec::new(), Vec::new())
        } else {
            let kinds = layer_kinds(keys, layers, true, &mut Vec::new()).map_err(|error| error.to_string())?;
            let of = |is: &dyn Fn(LayerKind) -> bool| {
                all().into_iter().zip(&kinds).filter(|(_, kind)| is(**kind)).map(|(layer, _)| layer).collect::<Vec<_>>()
            };
            let windowed = of(&|kind| kind == LayerKind::Sliding);
            let recurrent = of(&|kind| kind == LayerKind::Recurrent);
            (of(&|kind| kind == LayerKind::Full), windowed, recurrent)
        };
        let known = [&attention, &windowed, &recurrent].iter().map(|list| list.len()).fold(0, usize::saturating_add);
        if known != usize::try_from(layers).unwrap_or(usize::MAX) || (!alternates && !windowed.is_empty()) {
            return Err("it has layers of kinds whose tensors are not known here".into());
        }
        let sparse = match &class.experts {
            Some(mixture) => mixture.layers_of(keys, layers)?,
            None => Vec::new(),
        };
        let beside = class.experts.as_ref().is_some_and(|mixture| mixture.beside);
        let is_dense = |layer: &u32| beside || sparse.binary_search(layer).is_err();
        let dense = (0..layers).filter(is_dense).collect();
        Ok(Self { attention, windowed, recurrent, dense, sparse })
    }
}

/// What each layer is, in the letters of `hybrid_override_pattern`: M for Mamba, * for attention, - for a feed-forward, E for
/// experts.
fn blocks(keys: &Keys<'_>, layers: u32) -> Result<Vec<char>, String> {
    let text = keys.object.get("hybrid_override_pattern").and_then(Value::as_str);
    let list = ["layers_block_type", "layer_types"].iter().find_map(|key| keys.object.get(*key)?.as_array());
    let blocks: Option<Vec<char>> = match (text, list) {
        (Some(text), _) => text.chars().map(|letter| "M*-E".contains(letter).then_some(letter)).collect(),
        (None, Some(list)) => {
            let letter = |name: &Value| match name.as_str()? {
                "mamba" | "mamba2" => Some('M'),
                "attention" | "full_attention" => Some('*'),
                "mlp" => Some('-'),
                "moe" => Some('E'),
                _ => None,
            };
            list.iter().map(letter).collect()
        }
        (None, None) => None,
    };
    let count = usize::try_from(layers).unwrap_or(usize::MAX);
    blocks
        .filter(|blocks| blocks.len() == count)
        .ok_or_else(|| "neither hybrid_override_pattern nor layers_block_type tells what each layer is".into())
}

/// The width that LFM2 makes of this one: two thirds, rounded up to a multiple.
fn adjusted(keys: &Keys<'_>, width: u64) -> Result<u64, String> {
    if !Flag::Key("block_auto_adjust_ff_dim", true).on(keys)? {
        return Ok(width);
    }
    let multiple = number_or(keys, &["block_multiple_of"], Some(256))?;
    let two_thirds = width.checked_mul(2).ok_or(TOO_LARGE)? / 3;
    two_thirds.checked_next_multiple_of(multiple).ok_or_else(|| TOO_LARGE.into())
}

impl Mixture {
    /// Of so many layers those with experts.
    fn layers_of(&self, keys: &Keys<'_>, layers: u32) -> Result<Vec<u32>, String> {
        match self.layers {
            SparseLayers::All if self.beside => {
                let enabled = Flag::Key("enable_moe_block", true).on(keys)?;
                let some = keys.object.get(self.all).is_some_and(|all| !all.is_null() && *all != 0);
                Ok(if enabled && some { (0..layers).collect() } else { Vec::new() })
            }
            SparseLayers::All => Ok((0..layers).collect()),
            SparseLayers::Blocks => Ok(Vec::new()),
            SparseLayers::From(key) => {
                if keys.object.get("moe_layer_freq").is_some_and(|every| *every != 1) {
                    return Err("moe_layer_freq is not 1, which is not read here".into());
                }
                let first = keys.object.get(key).and_then(Value::as_u64).ok_or_else(|| missing(key))?;
                Ok((0..layers).filter(|layer| u64::from(*layer) >= first).collect())
            }
            SparseLayers::Interleaved(key) => {
                let step = keys.object.get(key).map_or(Some(1), Value::as_u64).filter(|&step| step > 0);
                let step = step.ok_or_else(|| format!("{key} is not a positive count"))?;
                Ok((0..layers).filter(|layer| u64::from(*layer).saturating_add(1).is_multiple_of(step)).collect())
            }
            SparseLayers::Stepped => {
                let step = keys.object.get("decoder_sparse_step").map_or(Some(1), Value::as_u64);
                let step = step.filter(|&step| step > 0).ok_or("decoder_sparse_step is not a positive count")?;
                let only = match keys.object.get("mlp_only_layers") {
                    None | Some(Value::Null) => &[],
                    Some(Value::Array(list)) => list.as_slice(),
                    Some(_) => return Err("mlp_only_layers is not a list".into()),
                };
                let sparse = |layer: &u32| {
                    let layer = u64::from(*layer);
                    !only.iter().any(|other| other.as_u64() == Some(layer))
                        && layer.saturating_add(1).is_multiple_of(step)
                };
                Ok((0..layers).filter(sparse).collect())
            }
        }
    }
}

impl Flag {
    fn on(&self, keys: &Keys<'_>) -> Result<bool, String> {
        match self {
            Self::Never => Ok(false),
            Self::Always => Ok(true),
            Self::Key(key, default) => match keys.object.get(*key) {
                None | Some(Value::Null) => Ok(*default),
                Some(Value::Bool(flag)) => Ok(*flag),
                Some(_) => Err(format!("{key} is not true or false")),
            },
        }
    }
}

fn missing(key: &str) -> String {
    format!("{key} is not in the config")
}

/// A count that the configuration, or else its class, supplies.
fn number(keys: &Keys<'_>, names: &[&str]) -> Result<u64, String> {
    number_or(keys, names, None)
}

fn number_or(keys: &Keys<'_>, names: &[&str], other: Option<u64>) -> Result<u64, String> {
    let given = keys.count_or_default(names, &mut Vec::new()).map_err(|error| error.to_string())?;
    given.map(|dimension| dimension.value).or(other).ok_or_else(|| missing(names.first().copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn config(name: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/configs").join(name);
        super::super::parse(&fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn published_totals_are_met() {
        // Totals of the tensors as published; those of gpt-oss, Qwen2.5-7B and Qwen3-30B-A3B are in tests/golden/gguf too.
        for (name, parameters) in [
            ("meta-llama--Meta-Llama-3.1-8B", 8_030_261_248u64),
            ("meta-llama--Meta-Llama-3.1-70B", 70_553_706_496),
            ("meta-llama--Llama-2-7b", 6_738_415_616),
            ("meta-llama--Llama-3.2-1B-Instruct", 1_235_814_400),
            ("mistralai--Mistral-7B-v0.1", 7_241_732_096),
            ("mistralai--Mistral-7B-Instruct-v0.3", 7_248_023_552),
            ("mistralai--Mixtral-8x7B-v0.1", 46_702_792_704),
            ("microsoft--Phi-3-mini-4k-instruct", 3_821_079_552),
            ("Qwen--Qwen2.5-7B-Instruct", 7_615_616_512),
            ("Qwen--Qwen3-30B-A3B", 30_532_122_624),
            ("google--gemma-3-1b-it", 999_885_952),
            ("openai--gpt-oss-20b", 20_914_757_184),
            ("deepseek-ai--DeepSeek-V3", 671_026_419_200),
            ("deepseek-ai--DeepSeek-V2-Lite", 15_706_484_224),
        ] {
            let weights = weights(&config(&format!("{name}.json")), false).unwrap();
            assert_eq!(weights.parameters, Some(parameters), "{name}");
        }
    }

    #[test]
    fn published_totals_of_models_in_logs_are_met() {
        for (name, parameters) in [
            ("google--gemma-3-12b-it", 12_187_325_040u64),
            ("google--gemma-3-27b-it", 27_432_406_640),
            ("ibm-granite--granite-vision-3.3-2b", 2_975_396_928),
            ("meta-llama--Llama-4-Scout-17B-16E-Instruct", 108_641_793_536),
            ("mistralai--Mistral-Small-3.1-24B-Instruct-2503", 24_011_361_280),
            ("codellama--CodeLlama-7b-hf", 6_738_546_688),
            ("google--gemma-2-27b-it", 27_227_128_320),
            ("google--gemma-2-9b-it", 9_241_705_984),
            ("google--gemma-2-2b-it", 2_614_341_888),
            ("google--gemma-7b", 8_537_680_896),
            ("ibm-granite--granite-3.1-8b-instruct", 8_170_848_256),
            ("microsoft--phi-4", 14_659_507_200),
            ("Qwen--Qwen2.5-72B-Instruct", 72_706_203_648),
            // Published: 1,728 more, which are no parameters of its class (27 x 64).
            ("moonshotai--Kimi-VL-A3B-Instruct", 16_407_656_048),
        ] {
            let weights = weights(&config(&format!("../pool/{name}.json")), false).unwrap();
            assert_eq!(weights.parameters, Some(parameters), "{name}");
        }
    }

    #[test]
    fn published_totals_are_met_from_dimensions_alone() {
        let total = |config: Value| weights(&config, false).unwrap().parameters;
        let mut gemma_2 = config("google--gemma-2-9b.json");
        gemma_2["vocab_size"] = 256_000.into();
        assert_eq!(total(gemma_2), Some(9_241_705_984));
        // Gemma 7B, OLMo 2 7B, OLMoE 1B-7B, Qwen1.5-MoE-A2.7B.
        for (parameters, config) in [
            (
                8_537_680_896u64,
                serde_json::json!({
                    "model_type": "gemma", "vocab_size": 256_000, "hidden_size": 3072, "num_hidden_layers": 28,
                    "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "intermediate_size": 24_576,
                }),
            ),
            (
                7_298_617_344,
                serde_json::json!({
                    "model_type": "olmo2", "vocab_size": 100_352, "hidden_size": 4096, "num_hidden_layers": 32,
                    "num_attention_heads": 32, "intermediate_size": 11_008,
                }),
            ),
            (
                6_919_161_856,
                serde_json::json!({
                    "model_type": "olmoe", "vocab_size": 50_304, "hidden_size": 2048, "num_hidden_layers": 16,
                    "num_attention_heads": 16, "intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8,
                }),
            ),
            (
                14_315_784_192,
                serde_json::json!({
                    "model_type": "qwen2_moe", "vocab_size": 151_936, "hidden_size": 2048, "num_hidden_layers": 24,
                    "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 5632, "num_experts": 60,
                    "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
                }),
            ),
        ] {
            assert_eq!(total(config.clone()), Some(parameters), "{config}");
        }
    }

    /// What an architecture of these settings comes to.
    fn total(config: &Value) -> Option<u64> {
        weights(config, false).unwrap_or_else(|reason| panic!("{reason}: {config}")).parameters
    }

    #[test]
    fn published_totals_of_mixed_layers_are_met() {
        for (name, parameters) in [
            ("Qwen--Qwen3-VL-2B-Instruct", 2_127_532_032u64),
            ("Qwen--Qwen3-VL-4B-Instruct", 4_437_815_808),
            ("Qwen--Qwen3-VL-8B-Instruct", 8_767_123_696),
            ("Qwen--Qwen3-VL-32B-Instruct", 33_357_390_064),
            ("Qwen--Qwen3-VL-30B-A3B-Instruct", 31_070_754_032),
            // As Qwen3-Coder-Next, whose files hold no layer that predicts further tokens.
            ("Qwen--Qwen3-Next-80B-A3B-Instruct", 79_674_391_296),
            ("allenai--Olmo-3-7B", 7_298_011_136),
            ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31_577_940_288),
            // 25,805,933,872 are published as parameters, and 51,611,872,412 as bytes, which are twice this.
            ("google--gemma-4-26B-A4B", 25_805_936_206),
        ] {
            assert_eq!(total(&config(&format!("{name}.json"))), Some(parameters), "{name}");
        }
    }

    #[test]
    fn published_totals_are_met_with_the_layer_that_predicts_further_tokens() {
        // What joins the token and the state, its norms, and a layer that is like the last one.
        let of_qwen = |name: &str| {
            let mut config = config(name);
            let one = total(&config).unwrap();
            let text = config.get("text_config").unwrap_or(&config).clone();
            let number = |key: &str| text[key].as_u64().unwrap();
            let (hidden, layers) = (number("hidden_size"), number("num_hidden_layers"));
            let kinds = text
                .get("layer_types")
                .and_then(Value::as_array)
                .map(|kinds| kinds.iter().cloned().chain([Value::from("full_attention")]).collect::<Vec<_>>());
            let text = if config.get("text_config").is_some() { &mut config["text_config"] } else { &mut config };
            text["num_hidden_layers"] = (layers + 1).into();
            if let Some(kinds) = kinds {
                text["layer_types"] = kinds.into();
            }
            let more = total(&config).unwrap();
            assert!(more > one);
            more + 2 * hidden * hidden + 3 * hidden
        };
        assert_eq!(of_qwen("Qwen--Qwen3.5-27B.json"), 27_781_427_952);
        assert_eq!(of_qwen("Qwen--Qwen3.5-122B-A10B.json"), 125_086_497_008);
        // Without scales, with an embedding and a head of its own; those of GLM-5 are shared.
        let latent = |name: &str, own: u64| {
            let mut config = config(name);
            let number = |key: &str| config[key].as_u64().unwrap();
            let (hidden, words) = (number("hidden_size"), number("vocab_size"));
            config["num_hidden_layers"] = (number("num_hidden_layers") + 1).into();
            total(&config).unwrap() + 2 * hidden * hidden + 3 * hidden + own * words * hidden
        };
        assert_eq!(latent("deepseek-ai--DeepSeek-V3.2.json", 2), 685_355_329_792);
        assert_eq!(latent("zai-org--GLM-5.json", 0), 753_864_139_008);
        // Layers of GLM-5.2 take over an earlier one's choice, but not the one that predicts.
        let mut glm = config("zai-org--GLM-5.2-FP8.json");
        let mut kinds = glm["indexer_types"].as_array().unwrap().clone();
        kinds.push("full".into());
        glm["indexer_types"] = kinds.into();
        glm["num_hidden_layers"] = 79.into();
        assert_eq!(total(&glm).unwrap() + 2 * 6144 * 6144 + 3 * 6144, 753_329_940_480);
        // Attention and experts; the correction of the 41 routers is not among the published.
        let mut nemotron = config("nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4.json");
        let blocks = format!("{}*E", nemotron["hybrid_override_pattern"].as_str().unwrap());
        nemotron["hybrid_override_pattern"] = blocks.into();
        nemotron["num_hidden_layers"] = 90.into();
        assert_eq!(total(&nemotron).unwrap() + 2 * 4096 * 4096 + 3 * 4096 - 41 * 512, 123_611_012_096);
    }

    #[test]
    fn published_totals_of_further_classes_are_met() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/totals.jsonl");
        for line in fs::read_to_string(path).unwrap().lines() {
            let row: Value = serde_json::from_str(line).unwrap();
            assert_eq!(total(&row["config"]), row["parameters"].as_u64(), "{}", row["name"]);
        }
    }

    #[test]
    fn groups_say_how_many_ranks_divide_them() {
        let groups = |name: &str| weights(&config(name), false).unwrap().tensors.unwrap().groups;
        let heads = |name: &str| -> std::collections::BTreeSet<u64> {
            groups(name).iter().filter(|group| group.by_kv_heads > 0).map(|group| group.num_key_value_heads).collect()
        };
        // Gemma 4: 8 in a window, 2 elsewhere. Nemotron: 2 heads of attention, 8 groups of a state.
        assert_eq!(heads("google--gemma-4-26B-A4B.json"), [2, 8].into());
        assert_eq!(heads("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.json"), [2, 8].into());
        assert_eq!(heads("meta-llama--Meta-Llama-3.1-8B.json"), [8].into());
    }

    #[test]
    fn settings_that_change_tensors_are_refused() {
        let mut qwen = config("Qwen--Qwen3.5-27B.json");
        qwen["text_config"]["attn_output_gate"] = false.into();
        assert_eq!(
            weights(&qwen, false).unwrap_err(),
            "attn_output_gate is not true, and what tensors qwen3_5_text has then is not known here"
        );
        let falcon = serde_json::json!({"model_type": "falcon"});
        assert!(weights(&falcon, false).unwrap_err().starts_with("new_decoder_architecture is not true"));
        let mut gemma = config("google--gemma-4-E2B.json");
        gemma.as_object_mut().unwrap().remove("architectures");
        assert!(weights(&gemma, false).is_err());
    }

    #[test]
    fn a_token_passes_through_its_experts() {
        for (name, active) in
            [("mistralai--Mixtral-8x7B-v0.1", Some(12_879_925_248)), ("meta-llama--Meta-Llama-3.1-8B", None)]
        {
            assert_eq!(weights(&config(&format!("{name}.json")), false).unwrap().active_parameters, active, "{name}");
        }
    }

    #[test]
    fn bytes_are_those_of_the_format_or_said_to_be_others() {
        let weights = |name| weights(&config(name), false).unwrap();
        let gpt_oss = weights("openai--gpt-oss-20b.json");
        assert_eq!((gpt_oss.bytes, gpt_oss.notes.len()), (Some(Bytes(13_761_264_768)), 0));
        // Its files have 688,586,727,753 bytes with the layer that predicts further tokens, its embedding and its head.
        let deepseek = weights("deepseek-ai--DeepSeek-V3.json");
        assert_eq!(deepseek.bytes, Some(Bytes(673_150_582_112)));
        let mut nvfp4 = config("Qwen--Qwen3-30B-A3B.json");
        nvfp4["quantization_config"] = serde_json::json!({"quant_method": "modelopt", "quant_algo": "NVFP4"});
        let nvfp4 = super::weights(&nvfp4, false).unwrap();
        assert!(nvfp4.notes[0].starts_with("the checkpoint is quantised (modelopt): "), "{:?}", nvfp4.notes);
        assert_eq!(nvfp4.bytes, nvfp4.parameters.map(|parameters| Bytes(2 * parameters)));
    }

    #[test]
    fn published_numbers_of_scales_are_met() {
        // What is published of the files in 8 bits, less what is of those in 16: a scale for each square.
        for (name, published) in [
            ("Qwen--Qwen3-235B-A22B-FP8.json", 235_107_904_512u64 - 235_093_634_560),
            ("MiniMaxAI--MiniMax-M2.5.json", 228_703_644_928 - 228_689_764_864),
        ] {
            let mut config = config(name);
            config["quantization_config"] = serde_json::json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
            let weights = weights(&config, false).unwrap();
            let eight = weights.by_dtype.iter().find(|share| share.dtype == "F8_E4M3").unwrap();
            assert_eq!(eight.bytes.unwrap().0 - eight.parameters, 4 * published, "{name}");
        }
    }

    #[test]
    fn eight_bits_are_counted_where_all_of_them_are_told() {
        let quantized = |declared: Value| {
            let mut config = config("meta-llama--Meta-Llama-3.1-8B.json");
            config["quantization_config"] = declared;
            weights(&config, false).unwrap()
        };
        let channels = |ignore: Value, strategy: &str| {
            serde_json::json!({"quant_method": "compressed-tensors", "ignore": ignore, "config_groups": {"group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "int", "strategy": strategy, "symmetric": true},
            }}})
        };
        // What is not linear: embedding, head and norms; what is: 6144 + 4096 + 28672 + 4096 rows in each of 32 layers.
        let rest = 2 * 128_256 * 4096 + 65 * 4096;
        let linear = 8_030_261_248 - rest;
        let eight = quantized(channels(serde_json::json!(["lm_head"]), "channel"));
        assert_eq!(eight.bytes, Some(Bytes(2 * rest + linear + 4 * 32 * (6144 + 4096 + 28_672 + 4096))));
        let dtypes: Vec<_> = eight.by_dtype.iter().map(|share| (share.dtype.as_str(), share.parameters)).collect();
        assert_eq!((dtypes, eight.notes.len()), (vec![("BF16", rest), ("I8", linear)], 0));
        // Squares of 128: 32 x (48 + 32 + 224) x 32 of them and 32 x 32 x 112 in layers.
        let squares = serde_json::json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
        let scales = 32 * ((48 + 32 + 224) * 32 + 32 * 112);
        assert_eq!(quantized(squares).bytes, Some(Bytes(2 * rest + linear + 4 * scales)));
        // Half a byte for each linear weight, two and a half for each 128 of them, two for all else.
        let mut mistral = config("mistralai--Mistral-7B-v0.1.json");
        mistral["quantization_config"] =
            serde_json::json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true});
        let linear = 7_241_732_096 - 2 * 32_000 * 4096 - 65 * 4096;
        let four = linear / 2 + linear / 128 * 5 / 2 + 2 * (2 * 32_000 * 4096 + 65 * 4096);
        assert_eq!(super::weights(&mistral, false).unwrap().bytes, Some(Bytes(four)));
        // Linear layers that are left out, or groups: not told.
        for other in [
            channels(serde_json::json!(["lm_head", "model.layers.0.mlp.down_proj"]), "channel"),
            channels(serde_json::json!(["lm_head"]), "group"),
            serde_json::json!({"quant_method": "fp8"}),
            serde_json::json!({"quant_method": "fp8", "weight_block_size": [128, 0]}),
            serde_json::json!({"quant_method": "awq", "bits": 4}),
            serde_json::json!({"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": ["x"]}),
            serde_json::json!({"quant_method": "gptq", "bits": 4, "group_size": 128}),
        ] {
            let weights = quantized(other.clone());
            assert_eq!((weights.bytes, weights.notes.len()), (Some(Bytes(2 * 8_030_261_248)), 1), "{other}");
        }
    }

    #[test]
    fn what_is_not_known_has_a_reason_and_no_figure() {
        let refusal = |config| weights(&config, false).unwrap_err();
        assert_eq!(
            refusal(config("class-default--stablelm.json")),
            "the tensors of model_type \"stablelm\" are not known here one by one"
        );
        let llama = || config("meta-llama--Meta-Llama-3.1-8B.json");
        let with = |key: &str, value: Value| {
            let mut config = llama();
            config[key] = value;
            refusal(config)
        };
        assert_eq!(with("vocab_size", Value::Null), "vocab_size is not in the config");
        assert_eq!(
            with("architectures", serde_json::json!(["LlamaForSequenceClassification"])),
            "the tensors of \
             LlamaForSequenceClassification are not known here one by one"
        );
        assert_eq!(
            with("vision_config", serde_json::json!({})),
            "the config has parts beside the text model, whose tensors \
             are not known here"
        );
        let other = "the tensors of MiniMaxM2ForCausalLM are not known here one by one";
        assert_eq!(with("architectures", serde_json::json!(["MiniMaxM2ForCausalLM"])), other);
        let large = serde_json::json!(u64::MAX);
        assert_eq!(with("vocab_size", large), "the dimensions come to more than 2^64 - 1 parameters");
    }

    proptest::proptest! {
        #[test]
        fn no_dimensions_make_it_panic(
            name in proptest::sample::select(vec![
                "meta-llama--Meta-Llama-3.1-8B", "deepseek-ai--DeepSeek-V3", "Qwen--Qwen3-30B-A3B", "openai--gpt-oss-20b",
                "../pool/google--gemma-3-12b-it", "../pool/moonshotai--Kimi-VL-A3B-Instruct",
                "../pool/meta-llama--Llama-4-Scout-17B-16E-Instruct", "../pool/ibm-granite--granite-vision-3.3-2b",
                "../pool/RedHatAI--Mistral-Small-3.1-24B-Instruct-2503-quantized.w8a8",
                "Qwen--Qwen3.5-122B-A10B", "Qwen--Qwen3-VL-2B-Instruct", "google--gemma-4-26B-A4B", "zai-org--GLM-5.2-FP8",
                "nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "LiquidAI--LFM2.5-VL-1.6B-text",
                "handwritten--granite-4.0-h-small-like",
            ]),
            changes in proptest::collection::vec((0usize..400, proptest::sample::select(vec![
                serde_json::json!(0), serde_json::json!(1), serde_json::json!(u64::MAX), serde_json::json!(1u64 << 32),
                serde_json::json!(70_000), serde_json::json!(-1), serde_json::json!("x"), serde_json::json!(1.5),
                serde_json::json!([]), serde_json::json!({}), Value::Null, serde_json::json!(true),
            ])), 1..4),
        ) {
            let mut config = config(&format!("{name}.json"));
            for (at, value) in changes {
                // A key of the whole, or of one of its parts.
                let parts = ["", "/text_config", "/vision_config", "/quantization_config"];
                let part = config.pointer_mut(parts[at % parts.len()]).and_then(Value::as_object_mut);
                if let Some(part) = part.filter(|part| !part.is_empty()) {
                    let keys: Vec<String> = part.keys().cloned().collect();
                    part.insert(keys[at / parts.len() % keys.len()].clone(), value);
                }
            }
            if let Ok(weights) = weights(&config, false) {
                let active = weights.active_parameters.unwrap_or_default();
                proptest::prop_assert!(weights.parameters.is_some_and(|parameters| active <= parameters));
            }
            let _ = experts(&config);
        }
    }
}
