//! What the layers of a model take in a context, part by part (`llama_model::create_memory` in `src/llama-model.cpp`, and the
//! files it chooses from).

use std::collections::BTreeMap;

use serde::Serialize;

use super::Options;
use super::context::Context;
use crate::engine::Engine;
use crate::model::{Gguf, GgufFeature, GgufWindow, KeyValue, LayerCache, LayerGroup, Mechanism, Model, RecurrentState};
use crate::units::{ElementFormat, Error, KvFormat};

/// Ratios that are cached, and the rows of what their compressors keep (`DSV4_CSA_RATIO`, `DSV4_HCA_RATIO`).
const OVERLAPPING_RATIO: u64 = 4;
const PLAIN_RATIO: u64 = 128;
/// States are always in single precision.
const STATE_BYTES: u128 = 4;

/// A buffer of the cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Part {
    /// Cells of each stream; of states their rows.
    pub cells: u64,
    /// Streams.
    pub streams: u64,
    /// Bytes.
    pub buffer_bytes: u64,
}

/// Why some bytes are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Entries of every token.
    Entries,
    /// Entries of a window.
    Window,
    /// Entries past a window that the architecture does not know.
    NoWindow,
    /// A state of a recurrent layer.
    State,
    /// What is kept of a state to go back to.
    Rollback,
    /// V as wide as the widest, since it is stored transposed.
    WidestValue,
    /// V of an index, or further keys of one.
    IndexExtra,
    /// Layers that predict further tokens.
    Nextn,
}

/// What the layers of a group take.
#[derive(Debug, Clone, Default)]
pub(super) struct Share {
    /// Cells that each of them has for one sequence.
    pub(super) cells: u64,
    /// The bytes, by reason.
    pub(super) pieces: Vec<(Piece, u64)>,
}

impl Share {
    /// All of them.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// What a model takes in a context.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By part.
    pub(super) parts: BTreeMap<&'static str, Part>,
    /// By layer group, those of layers that predict further tokens at the end.
    pub(super) shares: Vec<Share>,
    /// All of it.
    pub(super) bytes: u64,
    /// On the GPU.
    pub(super) gpu_bytes: u64,
    /// One more token of one sequence: bytes for every 128 tokens.
    pub(super) bytes_per_128_tokens: u128,
}

/// A model as llama.cpp takes it.
#[allow(clippy::struct_excessive_bools, reason = "each kind of layer calls for parts of its own")]
pub(super) struct Layers<'a> {
    model: &'a Model,
    gguf: Option<&'a Gguf>,
    /// The groups that are cached, and whether they predict further tokens.
    pub(super) groups: Vec<(&'a LayerGroup, bool)>,
    compressed: bool,
    indexed: bool,
    slides: bool,
    attends: bool,
    recurs: bool,
}

impl<'a> Layers<'a> {
    /// The layers of a model, with what it has of its own refused where llama.cpp has nothing like it.
    pub(super) fn new(model: &'a Model, engine: &Engine) -> Result<Self, Error> {
        let gguf = model.checkpoint.gguf.as_ref();
        let keeps_nextn = gguf.and_then(|gguf| gguf.file.as_ref()).is_some_and(|file| file.keeps_nextn);
        let nextn = model.mtp_groups.iter().filter(|_| keeps_nextn).map(|group| (group, true));
        let groups: Vec<(&LayerGroup, bool)> =
            model.layer_groups.iter().map(|group| (group, false)).chain(nextn).collect();
        for (group, _) in &groups {
            Self::refuse(model, gguf, &group.cache, engine)?;
        }
        let any = |wanted: &dyn Fn(&LayerCache) -> bool| groups.iter().any(|(group, _)| wanted(&group.cache));
        let kept = gguf.is_none_or(|gguf| gguf.window != GgufWindow::Unknown);
        Ok(Self {
            compressed: any(&|cache| matches!(cache, LayerCache::Compressed { .. })),
            indexed: any(&|cache| matches!(cache, LayerCache::Indexer { .. })),
            slides: kept && any(&|cache| cache.bound().is_some()),
            attends: any(&LayerCache::follows_the_sequence),
            recurs: any(&|cache| matches!(cache, LayerCache::Recurrent(_))),
            model,
            gguf,
            groups,
        })
    }

    fn refuse(model: &Model, gguf: Option<&Gguf>, cache: &LayerCache, engine: &Engine) -> Result<(), Error> {
        let refusal = |reason: &str| Err(engine.refusal("MODEL", &model.name, reason, "give its GGUF file"));
        match cache {
            LayerCache::Latent { .. } if gguf.is_some_and(|gguf| !gguf.has(GgufFeature::Latent)) => {
                refusal("is kept as full heads, whose sizes are not in what was read")
            }
            LayerCache::Recurrent(state) => match state.mechanism {
                Mechanism::RgLru | Mechanism::Cca | Mechanism::Mlstm => {
                    refusal("has recurrent layers of a kind that llama.cpp does not run")
                }
                Mechanism::Rwkv if gguf.is_none() => refusal("is of a version of RWKV that llama.cpp does not run"),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Whether K and V must be in one format, V being a part of K.
    pub(super) fn one_vector(&self) -> bool {
        let vector = |cache: &LayerCache| matches!(cache.key_value(), Some(KeyValue::Vector { .. }));
        let entries = |cache: &LayerCache| !matches!(cache, LayerCache::Indexer { .. });
        self.groups.iter().any(|(group, _)| entries(&group.cache) && vector(&group.cache))
    }

    /// The sizes of K and of V in a head, which quantised formats must divide.
    pub(super) fn head_dims(&self) -> Vec<(u64, u64)> {
        if let Some(file) = self.gguf.and_then(|gguf| gguf.file.as_ref()) {
            return file.head_dims.clone();
        }
        let dims = |(group, _): &(&LayerGroup, bool)| match group.cache {
            LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => {
                Some((kv_lora_rank.saturating_add(qk_rope_head_dim), kv_lora_rank))
            }
            LayerCache::Indexer { .. } | LayerCache::Compressed { .. } | LayerCache::CrossAttention { .. } => None,
            cache => match cache.key_value()? {
                KeyValue::Vector { elements } => Some((elements, elements)),
                heads => heads.head_dims(),
            },
        };
        self.groups.iter().filter_map(dims).collect()
    }

    /// Layers that llama.cpp counts when it puts them on a GPU.
    fn block_count(&self) -> u64 {
        let file = self.gguf.and_then(|gguf| gguf.file.as_ref());
        file.map_or(self.model.num_hidden_layers, |file| file.block_count).into()
    }

    /// The widest V of all layers.
    fn widest_value(&self) -> u64 {
        let widths = self.groups.iter().filter_map(|(group, _)| Some(widths(group.cache.key_value()?).1));
        let read = self.gguf.and_then(|gguf| gguf.file.as_ref()).map(|file| file.widest_value);
        widths.chain(read).max().unwrap_or_default()
    }

    /// V of a head of the layers that keep every token: what an index has, too, where it has V.
    fn value_dim(&self) -> u64 {
        let dims = self.groups.iter().find_map(|(group, _)| match group.cache {
            LayerCache::FullAttention { key_value } => key_value.head_dims(),
            _ => None,
        });
        dims.map_or(0, |(_, v)| v)
    }

    /// The window of a layer that slides; none where it keeps every token after all.
    fn window(&self, own: u64) -> Option<u64> {
        match self.gguf.map(|gguf| gguf.window) {
            Some(GgufWindow::Unknown) => None,
            Some(GgufWindow::Fixed(fixed)) => Some(fixed.0),
            Some(GgufWindow::Kept) | None => Some(own),
        }
    }

    /// The parts, as far as the kinds of layers call for them, empty.
    fn parts(&self, context: &Context, swa_full: bool) -> BTreeMap<&'static str, Part> {
        let of = |cells, streams| Part { cells, streams, buffer_bytes: 0 };
        let streams = if self.compressed { context.n_seq_max } else { context.streams() };
        let full = of(context.n_ctx_seq, streams);
        let window = self.groups.iter().find_map(|(group, _)| group.cache.bound());
        let window = window.and_then(|bound| self.window(bound.0)).unwrap_or_default();
        let sliding = of(self.sliding_cells(context, window, swa_full), streams);
        let mut parts = BTreeMap::new();
        if self.compressed {
            let overlapping = of(context.compressed_cells(OVERLAPPING_RATIO), streams);
            let rows = OVERLAPPING_RATIO.saturating_mul(2);
            parts.insert("kv.raw.full", full);
            parts.insert("kv.raw.swa", sliding);
            parts.insert("kv.csa", overlapping);
            parts.insert("kv.hca", of(context.compressed_cells(PLAIN_RATIO), streams));
            parts.insert("kv.indexer", overlapping);
            parts.insert("state.csa", of(rows, streams));
            parts.insert("state.hca", of(PLAIN_RATIO, streams));
            parts.insert("state.indexer", of(rows, streams));
            return parts;
        }
        if self.attends {
            parts.insert(self.entries_part(), full);
        }
        if self.slides {
            parts.insert("kv.swa", sliding);
        }
        if self.indexed {
            parts.insert("kv.indexer", full);
        }
        if self.recurs {
            parts.insert("recurrent", of(context.n_seq_max, 1));
        }
        parts
    }

    /// The part of the layers that keep every token.
    fn entries_part(&self) -> &'static str {
        let values = self.gguf.is_some_and(|gguf| gguf.has(GgufFeature::IndexValues));
        match (self.indexed, self.recurs, self.slides) {
            (true, false, _) if values => "kv.base",
            (true, false, _) => "kv.mla",
            (_, _, true) => "kv.full",
            _ => "kv",
        }
    }

    fn sliding_cells(&self, context: &Context, window: u64, swa_full: bool) -> u64 {
        if swa_full { context.n_ctx_seq } else { context.window_cells(window, context.unified && !self.compressed) }
    }

    /// What all layers take.
    pub(super) fn memory(&self, context: &Context, options: &Options) -> Result<Memory, Error> {
        let mut memory = Memory { parts: self.parts(context, options.swa_full), ..Memory::default() };
        let rows = Rows { format: options.format, flash_attention: options.flash_attention };
        let first_on_gpu = match options.n_gpu_layers {
            _ if !options.kv_offload => u64::MAX,
            None => 0,
            Some(count) => self.block_count().saturating_add(1).saturating_sub(count),
        };
        for (group, nextn) in &self.groups {
            let mut share = Share::default();
            for tensors in self.tensors(&group.cache, *nextn, context, options, &rows)? {
                let part = memory.parts.entry(tensors.part).or_default();
                let layers = |count: usize| u128::try_from(count).unwrap_or(u128::MAX);
                let on_gpu = group.layers.iter().filter(|layer| u64::from(**layer) >= first_on_gpu).count();
                let bytes = |each: u128, count: usize| -> Result<u64, Error> {
                    let bytes = each.checked_mul(layers(count)).and_then(|bytes| u64::try_from(bytes).ok());
                    bytes.ok_or_else(Error::too_large)
                };
                for (piece, each) in &tensors.pieces {
                    let all = bytes(*each, group.layers.len())?;
                    let add = |sum: u64, more: u64| sum.checked_add(more).ok_or_else(Error::too_large);
                    part.buffer_bytes = add(part.buffer_bytes, all)?;
                    memory.bytes = add(memory.bytes, all)?;
                    memory.gpu_bytes = add(memory.gpu_bytes, bytes(*each, on_gpu)?)?;
                    share.pieces.push((if *nextn { Piece::Nextn } else { *piece }, all));
                }
                let slope = tensors.bytes_per_128_tokens.checked_mul(layers(group.layers.len()));
                let slope = slope.and_then(|slope| memory.bytes_per_128_tokens.checked_add(slope));
                memory.bytes_per_128_tokens = slope.ok_or_else(Error::too_large)?;
                share.cells = share.cells.max(tensors.cells);
            }
            memory.shares.push(share);
        }
        Ok(memory)
    }

    /// The tensors of one layer.
    fn tensors(
        &self,
        cache: &LayerCache,
        nextn: bool,
        context: &Context,
        options: &Options,
        rows: &Rows,
    ) -> Result<Vec<Tensors>, Error> {
        let streams = if self.compressed { context.n_seq_max } else { context.streams() };
        let all_cells = context.n_ctx_seq;
        let entries = |part, piece, key_value: KeyValue, cells: u64, grows: bool| {
            let (k, v) = widths(key_value);
            let kept = if rows.flash_attention || v == 0 { v } else { self.widest_value() };
            let own = rows.bytes(k, v)?;
            let extra = rows.bytes(k, kept)?.saturating_sub(own);
            let slope = if grows { own.saturating_add(extra).saturating_mul(128) } else { 0 };
            Tensors::new(part, cells, streams, &[(piece, own), (Piece::WidestValue, extra)], slope)
        };
        Ok(match *cache {
            LayerCache::FullAttention { key_value } => {
                vec![entries(self.entries_part(), Piece::Entries, key_value, all_cells, true)?]
            }
            LayerCache::Latent { .. } => {
                let vector = cache.key_value().unwrap_or(KeyValue::Vector { elements: 0 });
                vec![entries(self.entries_part(), Piece::Entries, vector, all_cells, true)?]
            }
            LayerCache::SlidingWindow { key_value, window: bound, .. }
            | LayerCache::ChunkedLocal { key_value, chunk: bound } => match self.window(bound.0) {
                Some(window) => {
                    let cells = self.sliding_cells(context, window, options.swa_full);
                    let part = if self.compressed { "kv.raw.swa" } else { "kv.swa" };
                    vec![entries(part, Piece::Window, key_value, cells, cells == all_cells)?]
                }
                None => vec![entries(self.entries_part(), Piece::NoWindow, key_value, all_cells, true)?],
            },
            LayerCache::Indexer { index_head_dim, ratio: 1 } => {
                let gguf = self.gguf;
                let values = gguf.is_some_and(|gguf| gguf.has(GgufFeature::IndexValues));
                let slots = gguf.map_or(1, |gguf| gguf.index_slots);
                let own = rows.bytes(index_head_dim, 0)?;
                let value = if values { self.value_dim() } else { 0 };
                let extra = rows.bytes(index_head_dim.saturating_mul(slots), value)?.saturating_sub(own);
                let slope = own.saturating_add(extra).saturating_mul(128);
                let pieces = [(Piece::Entries, own), (Piece::IndexExtra, extra)];
                vec![Tensors::new("kv.indexer", all_cells, streams, &pieces, slope)?]
            }
            LayerCache::Indexer { index_head_dim: dim, ratio }
            | LayerCache::Compressed { head_dim: dim, ratio, .. } => {
                let (entries, state, rows_kept, width) = match (cache, ratio) {
                    (LayerCache::Indexer { .. }, OVERLAPPING_RATIO) => {
                        ("kv.indexer", "state.indexer", 8, dim.saturating_mul(2))
                    }
                    (_, OVERLAPPING_RATIO) => ("kv.csa", "state.csa", 8, dim.saturating_mul(2)),
                    (LayerCache::Compressed { .. }, PLAIN_RATIO) => ("kv.hca", "state.hca", PLAIN_RATIO, dim),
                    _ => return Ok(Vec::new()),
                };
                let row = rows.bytes(dim, 0)?;
                let slope = row.saturating_mul(128).checked_div(ratio.into()).unwrap_or_default();
                let cells = context.compressed_cells(ratio);
                let kept = Tensors::new(entries, cells, streams, &[(Piece::Entries, row)], slope)?;
                if nextn {
                    return Ok(vec![kept]);
                }
                // What is compressed, and a score for it.
                let row = u128::from(width).saturating_mul(STATE_BYTES).saturating_mul(2);
                let back = row.saturating_mul(u128::from(options.rs_seq));
                let pieces = [(Piece::Entries, row), (Piece::Rollback, back)];
                vec![kept, Tensors { cells: 0, ..Tensors::new(state, rows_kept, streams, &pieces, 0)? }]
            }
            LayerCache::Recurrent(state) => {
                let row = state_elements(state).and_then(|elements| elements.checked_mul(STATE_BYTES));
                let row = row.ok_or_else(Error::too_large)?;
                let back = row.checked_mul(options.rs_seq.into()).ok_or_else(Error::too_large)?;
                let pieces = [(Piece::State, row), (Piece::Rollback, back)];
                vec![Tensors { cells: 0, ..Tensors::new("recurrent", context.n_seq_max, 1, &pieces, 0)? }]
            }
            LayerCache::CrossAttention { .. } | LayerCache::Shared | LayerCache::None => Vec::new(),
        })
    }
}

/// Tensors of one layer in one part.
struct Tensors {
    part: &'static str,
    cells: u64,
    pieces: Vec<(Piece, u128)>,
    bytes_per_128_tokens: u128,
}

impl Tensors {
    /// `rows` of each piece, for every cell of every stream.
    fn new(
        part: &'static str,
        cells: u64,
        streams: u64,
        rows: &[(Piece, u128)],
        bytes_per_128_tokens: u128,
    ) -> Result<Self, Error> {
        let copies = u128::from(cells).saturating_mul(streams.into());
        let piece = |(piece, row): &(Piece, u128)| Some((*piece, row.checked_mul(copies)?));
        let pieces = rows.iter().filter(|(_, row)| *row > 0).map(piece).collect::<Option<_>>();
        Ok(Self { part, cells, pieces: pieces.ok_or_else(Error::too_large)?, bytes_per_128_tokens })
    }
}

/// How rows of K and V are stored.
struct Rows {
    format: KvFormat,
    flash_attention: bool,
}

impl Rows {
    /// Bytes of a row of K and a row of V (`ggml_row_size`).
    fn bytes(&self, k: u64, v: u64) -> Result<u128, Error> {
        let bytes = |format: ElementFormat, width: u64| {
            let blocks = u128::from(width).div_ceil(format.elements_per_block().into());
            blocks.checked_mul(u128::from(format.bits_per_block())).map(|bits| bits.div_ceil(8))
        };
        let both = bytes(self.format.k, k).zip(bytes(self.format.v, v));
        both.and_then(|(k, v)| k.checked_add(v)).ok_or_else(Error::too_large)
    }
}

/// The elements of K and of V in one row; a vector has no V.
fn widths(key_value: KeyValue) -> (u64, u64) {
    match key_value {
        KeyValue::Heads { num_key_value_heads: heads, head_dim, v_head_dim } => {
            (heads.saturating_mul(head_dim), heads.saturating_mul(v_head_dim))
        }
        KeyValue::Vector { elements } => (elements, 0),
        KeyValue::ArticleShortcut { .. } => {
            let width = key_value.shortcut_width().unwrap_or_default();
            (width, width)
        }
    }
}

/// The columns of the convolution, without the current one, and the memory (`llama_hparams::n_embd_r` and `n_embd_s`).
fn state_elements(state: RecurrentState) -> Option<u128> {
    let columns = match state.convolution {
        Some(convolution) => {
            let grouped = u128::from(convolution.groups).checked_mul(convolution.channels_per_group.into())?;
            let channels = grouped.checked_add(convolution.channels.into())?;
            channels.checked_mul(convolution.kernel.saturating_sub(1).into())?
        }
        None => 0,
    };
    let memory = match state.memory {
        Some(memory) => u128::from(memory.heads).checked_mul(memory.elements_per_head.into())?,
        None => 0,
    };
    columns.checked_add(memory)
}
