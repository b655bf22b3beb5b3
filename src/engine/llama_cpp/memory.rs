//! What the layers of a model take in a context, part by part (`llama_model::create_memory` in `src/llama-model.cpp`, and the
//! files it chooses from).

use std::collections::BTreeMap;

use serde::Serialize;

use super::context::Context;
use super::{Options, has};
use crate::engine::Engine;
use crate::model::{CacheKind as Kind, Gguf, GgufFeature, GgufFile, GgufWindow, KeyValue, LayerCache, LayerGroup};
use crate::model::{Mechanism as M, Model, RecurrentState};
use crate::units::{ElementFormat, Error, Exact, KvFormat};

/// Ratios that are cached, and the rows of what their compressors keep (`DSV4_CSA_RATIO`, `DSV4_HCA_RATIO`).
const OVERLAPPING_RATIO: u64 = 4;
const OVERLAPPING_ROWS: u64 = 2 * OVERLAPPING_RATIO;
const PLAIN_RATIO: u64 = 128;
/// States are always in single precision.
const STATE_BYTES: u64 = 4;

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
    /// MTP layers.
    Mtp,
}

/// What the layers of a group take.
#[derive(Debug, Clone, Default)]
pub(super) struct GroupMemory {
    /// Cells that each of them has for one sequence.
    pub(super) cells: u64,
    /// The bytes, by reason.
    pieces: Vec<(Piece, u64)>,
}

impl GroupMemory {
    /// The bytes that are there for these reasons.
    pub(super) fn bytes(&self, of: impl Fn(Piece) -> bool) -> Exact {
        self.pieces.iter().filter(|(piece, _)| of(*piece)).map(|(_, bytes)| *bytes).sum()
    }
}

/// What a model takes in a context.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// By part.
    pub(super) parts: BTreeMap<&'static str, Part>,
    /// By layer group, in the order of [`Layers::groups`].
    pub(super) groups: Vec<GroupMemory>,
    /// All of it.
    pub(super) bytes: u64,
    /// On the GPU.
    pub(super) gpu_bytes: u64,
    /// One more token of one sequence: bytes for every 128 tokens.
    pub(super) bytes_per_128_tokens: u128,
}

/// A layer group that is cached.
pub(super) struct CachedGroup<'a> {
    pub(super) group: &'a LayerGroup,
    /// Whether it is of MTP layers.
    pub(super) mtp: bool,
}

/// A model as llama.cpp takes it.
pub(super) struct Layers<'a> {
    model: &'a Model,
    gguf: Option<&'a Gguf>,
    /// The groups that are cached, those of MTP layers at the end.
    pub(super) groups: Vec<CachedGroup<'a>>,
}

impl<'a> Layers<'a> {
    /// The layers of a model. What llama.cpp has nothing like is refused.
    pub(super) fn new(model: &'a Model, engine: &Engine) -> Result<Self, Error> {
        let gguf = model.checkpoint.gguf.as_ref();
        let mtp_is_cached = gguf.and_then(|gguf| gguf.file.as_ref()).is_some_and(|file| file.keeps_nextn);
        let own = model.layer_groups.iter().map(|group| CachedGroup { group, mtp: false });
        let mtp = model.mtp_groups.iter().filter(|_| mtp_is_cached).map(|group| CachedGroup { group, mtp: true });
        let layers = Self { model, gguf, groups: own.chain(mtp).collect() };
        layers.groups.iter().try_for_each(|cached| layers.refuse(&cached.group.cache, engine))?;
        Ok(layers)
    }

    fn refuse(&self, cache: &LayerCache, engine: &Engine) -> Result<(), Error> {
        let refusal = |reason: &str| Err(engine.refusal("MODEL", &self.model.name, reason, "give its GGUF file"));
        if matches!(cache, LayerCache::Latent { .. }) && self.gguf.is_some() && !has(self.model, GgufFeature::Latent) {
            return refusal("is kept as full heads, whose sizes are not in what was read");
        }
        let LayerCache::Recurrent(state) = cache else { return Ok(()) };
        match state.mechanism {
            M::RgLru | M::Cca | M::Mlstm => refusal("has recurrent layers of a kind that llama.cpp does not run"),
            M::Rwkv if self.gguf.is_none() => refusal("is of a version of RWKV that llama.cpp does not run"),
            M::Mamba1 | M::Mamba2 | M::GatedDeltaNet | M::Kda | M::Lightning | M::ShortConvolution | M::Rwkv => Ok(()),
        }
    }

    fn file(&self) -> Option<&GgufFile> {
        self.gguf?.file.as_ref()
    }

    fn any(&self, wanted: impl Fn(&LayerCache) -> bool) -> bool {
        self.groups.iter().any(|cached| wanted(&cached.group.cache))
    }

    fn has(&self, kind: Kind) -> bool {
        self.any(|cache| cache.cache_kind() == kind)
    }

    fn compresses(&self) -> bool {
        self.has(Kind::Compressed)
    }

    /// Whether windows have a cache of their own.
    fn slides(&self) -> bool {
        let knows_windows = self.gguf.is_none_or(|gguf| gguf.window != GgufWindow::Unknown);
        knows_windows && self.any(|cache| cache.bound().is_some())
    }

    /// Whether K and V must be in one format, V being a part of K.
    pub(super) fn one_vector(&self) -> bool {
        let is_vector = |cache: &LayerCache| matches!(cache.key_value(), Some(KeyValue::Vector { .. }));
        self.any(|cache| cache.cache_kind() != Kind::Indexer && is_vector(cache))
    }

    /// The sizes of K and of V in a head, which quantised formats must divide.
    pub(super) fn head_dims(&self) -> Vec<(u64, u64)> {
        if let Some(file) = self.file() {
            return file.head_dims.clone();
        }
        let dims = |cached: &CachedGroup| match cached.group.cache {
            LayerCache::Latent { kv_lora_rank, qk_rope_head_dim } => {
                Some((kv_lora_rank.checked_add(qk_rope_head_dim)?, kv_lora_rank))
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
        self.file().map_or(self.model.num_hidden_layers, |file| file.block_count).into()
    }

    /// The widest V of all layers.
    fn widest_value(&self) -> Exact {
        let read = self.file().map_or(0, |file| file.widest_value);
        let values = self.groups.iter().filter_map(|cached| Some(Widths::new(cached.group.cache.key_value()?).v));
        values.fold(read.into(), Exact::max)
    }

    /// V of a head of the layers that keep every token: what an index has, too, where it has V.
    fn value_dim(&self) -> u64 {
        let dims = self.groups.iter().find_map(|cached| match cached.group.cache {
            LayerCache::FullAttention { key_value } => key_value.head_dims(),
            _ => None,
        });
        dims.map_or(0, |(_, v)| v)
    }

    /// The window of a layer that slides; `None` where it keeps every token after all.
    fn window(&self, own: u64) -> Option<u64> {
        match self.gguf.map(|gguf| gguf.window) {
            Some(GgufWindow::Unknown) => None,
            Some(GgufWindow::Fixed(fixed)) => Some(fixed.0),
            Some(GgufWindow::Kept) | None => Some(own),
        }
    }

    /// The parts, as far as the kinds of layers call for them, empty.
    fn parts(&self, context: &Context, options: &Options) -> Result<BTreeMap<&'static str, Part>, Error> {
        let of = |cells, streams| Part { cells, streams, buffer_bytes: 0 };
        let streams = self.streams(context);
        let full = of(context.n_ctx_seq, streams);
        let window = self.groups.iter().find_map(|cached| cached.group.cache.bound());
        let window = window.and_then(|bound| self.window(bound.0)).unwrap_or_default();
        let sliding = of(self.sliding_cells(context, options, window)?, streams);
        if self.compresses() {
            let overlapping = of(context.compressed_cells(OVERLAPPING_RATIO)?, streams);
            return Ok(BTreeMap::from([
                ("kv.raw.full", full),
                ("kv.raw.swa", sliding),
                ("kv.csa", overlapping),
                ("kv.hca", of(context.compressed_cells(PLAIN_RATIO)?, streams)),
                ("kv.indexer", overlapping),
                ("state.csa", of(OVERLAPPING_ROWS, streams)),
                ("state.hca", of(PLAIN_RATIO, streams)),
                ("state.indexer", of(OVERLAPPING_ROWS, streams)),
            ]));
        }
        let parts = [
            (self.any(LayerCache::follows_the_sequence), self.entries_part(), full),
            (self.slides(), "kv.swa", sliding),
            (self.has(Kind::Indexer), "kv.indexer", full),
            (self.has(Kind::Recurrent), "recurrent", of(context.n_seq_max, 1)),
        ];
        Ok(parts.into_iter().filter(|(is_there, ..)| *is_there).map(|(_, name, part)| (name, part)).collect())
    }

    /// The part of the layers that keep every token.
    fn entries_part(&self) -> &'static str {
        match (self.has(Kind::Indexer) && !self.has(Kind::Recurrent), self.slides()) {
            (true, _) if has(self.model, GgufFeature::IndexValues) => "kv.base",
            (true, _) => "kv.mla",
            (false, true) => "kv.full",
            (false, false) => "kv",
        }
    }

    fn streams(&self, context: &Context) -> u64 {
        if self.compresses() { context.n_seq_max } else { context.streams() }
    }

    fn sliding_cells(&self, context: &Context, options: &Options, window: u64) -> Result<u64, Error> {
        if options.swa_full {
            return Ok(context.n_ctx_seq);
        }
        let is_shared = context.unified && !self.compresses();
        context.window_cells(window, if is_shared { context.n_seq_max } else { 1 })
    }

    /// What all layers take.
    pub(super) fn memory(&self, context: &Context, options: &Options) -> Result<Memory, Error> {
        let mut memory = Memory { parts: self.parts(context, options)?, ..Memory::default() };
        let rules = Rules { layers: self, context, options };
        // The output counts as one layer more.
        let first_on_gpu = match options.n_gpu_layers {
            _ if !options.kv_offload => u64::MAX,
            None => 0,
            Some(count) => self.block_count().saturating_add(1).saturating_sub(count),
        };
        let (mut all, mut on_gpu, mut slope) = (Exact::ZERO, Exact::ZERO, Exact::ZERO);
        for cached in &self.groups {
            let mut of_group = GroupMemory::default();
            let layers = &cached.group.layers;
            let layers_on_gpu = layers.iter().filter(|layer| u64::from(**layer) >= first_on_gpu).count();
            for tensors in rules.tensors(cached)? {
                let part = memory.parts.entry(tensors.part).or_default();
                for (piece, each) in tensors.pieces {
                    let bytes = each * layers.len();
                    part.buffer_bytes = (bytes + part.buffer_bytes).get()?;
                    all = all + bytes;
                    on_gpu = on_gpu + each * layers_on_gpu;
                    of_group.pieces.push((if cached.mtp { Piece::Mtp } else { piece }, bytes.get()?));
                }
                slope = slope + tensors.bytes_per_128_tokens * layers.len();
                of_group.cells = of_group.cells.max(tensors.cells);
            }
            memory.groups.push(of_group);
        }
        (memory.bytes, memory.gpu_bytes) = (all.get()?, on_gpu.get()?);
        memory.bytes_per_128_tokens = slope.wide()?;
        Ok(memory)
    }
}

/// Tensors of one layer in one part.
struct Tensors {
    part: &'static str,
    /// Cells for one sequence; of states none.
    cells: u64,
    pieces: Vec<(Piece, Exact)>,
    bytes_per_128_tokens: Exact,
}

impl Tensors {
    /// `rows` of each piece, for every one of `copies` cells.
    fn new(part: &'static str, copies: Exact, rows: &[(Piece, Exact)]) -> Self {
        let pieces = rows.iter().filter(|(_, row)| *row != Exact::ZERO).map(|(piece, row)| (*piece, *row * copies));
        Self { part, cells: 0, pieces: pieces.collect(), bytes_per_128_tokens: Exact::ZERO }
    }
}

/// What decides the tensors of a layer.
struct Rules<'a> {
    layers: &'a Layers<'a>,
    context: &'a Context,
    options: &'a Options,
}

impl Rules<'_> {
    /// The tensors of one layer.
    fn tensors(&self, cached: &CachedGroup) -> Result<Vec<Tensors>, Error> {
        let all_cells = self.context.n_ctx_seq;
        let full = |piece, key_value| vec![self.entries(self.layers.entries_part(), piece, key_value, all_cells)];
        let cache = cached.group.cache;
        Ok(match cache {
            LayerCache::FullAttention { key_value } => full(Piece::Entries, key_value),
            LayerCache::Latent { .. } => cache.key_value().map_or_else(Vec::new, |vector| full(Piece::Entries, vector)),
            LayerCache::SlidingWindow { key_value, window: bound, .. }
            | LayerCache::ChunkedLocal { key_value, chunk: bound } => match self.layers.window(bound.0) {
                Some(window) => {
                    let cells = self.layers.sliding_cells(self.context, self.options, window)?;
                    let part = if self.layers.compresses() { "kv.raw.swa" } else { "kv.swa" };
                    vec![self.entries(part, Piece::Window, key_value, cells)]
                }
                None => full(Piece::NoWindow, key_value),
            },
            LayerCache::Indexer { index_head_dim, ratio: 1 } => vec![self.index(index_head_dim)],
            LayerCache::Indexer { index_head_dim, ratio: OVERLAPPING_RATIO } => {
                self.compressed(&INDEX, index_head_dim, cached)?
            }
            LayerCache::Compressed { head_dim, ratio: OVERLAPPING_RATIO, .. } => {
                self.compressed(&OVERLAPPING, head_dim, cached)?
            }
            LayerCache::Compressed { head_dim, ratio: PLAIN_RATIO, .. } => self.compressed(&PLAIN, head_dim, cached)?,
            LayerCache::Recurrent(state) => {
                let row = state_elements(state) * STATE_BYTES;
                vec![self.states("recurrent", self.context.n_seq_max.into(), Piece::State, row)]
            }
            // Other ratios are not cached.
            LayerCache::Indexer { .. }
            | LayerCache::Compressed { .. }
            | LayerCache::CrossAttention { .. }
            | LayerCache::Shared
            | LayerCache::None => Vec::new(),
        })
    }

    fn entries(&self, part: &'static str, piece: Piece, key_value: KeyValue, cells: u64) -> Tensors {
        let Widths { k, v } = Widths::new(key_value);
        let padded_v = if self.options.flash_attention || v == Exact::ZERO { v } else { self.layers.widest_value() };
        let (own, padded) = (self.row(k, v), self.row(k, padded_v));
        let pieces = [(piece, own), (Piece::WidestValue, padded.less(own))];
        let grows = cells == self.context.n_ctx_seq;
        let bytes_per_128_tokens = if grows { padded * 128u64 } else { Exact::ZERO };
        Tensors { cells, bytes_per_128_tokens, ..Tensors::new(part, self.copies(cells), &pieces) }
    }

    /// An index of every token.
    fn index(&self, dim: u64) -> Tensors {
        let slots = self.layers.gguf.map_or(1, |gguf| gguf.index_slots);
        let value = if has(self.layers.model, GgufFeature::IndexValues) { self.layers.value_dim() } else { 0 };
        let own = self.row(dim.into(), Exact::ZERO);
        let extra = self.row(Exact::from(dim) * slots, value.into()).less(own);
        let (cells, pieces) = (self.context.n_ctx_seq, [(Piece::Entries, own), (Piece::IndexExtra, extra)]);
        let bytes_per_128_tokens = (own + extra) * 128u64;
        Tensors { cells, bytes_per_128_tokens, ..Tensors::new("kv.indexer", self.copies(cells), &pieces) }
    }

    /// Compressed entries, and what their compressor keeps: its input, and a score for it. MTP layers keep only entries.
    fn compressed(&self, parts: &CompressedParts, dim: u64, of: &CachedGroup) -> Result<Vec<Tensors>, Error> {
        let cells = self.context.compressed_cells(parts.ratio)?;
        let row = self.row(dim.into(), Exact::ZERO);
        let entries = Tensors::new(parts.entries, self.copies(cells), &[(Piece::Entries, row)]);
        let entries = Tensors { cells, bytes_per_128_tokens: row * 128u64 / parts.ratio, ..entries };
        if of.mtp {
            return Ok(vec![entries]);
        }
        let row = Exact::from(dim) * parts.vectors * 2u64 * STATE_BYTES;
        Ok(vec![entries, self.states(parts.state, self.copies(parts.rows), Piece::Entries, row)])
    }

    /// Rows of a state, and those that are kept to go back to.
    fn states(&self, part: &'static str, copies: Exact, piece: Piece, row: Exact) -> Tensors {
        Tensors::new(part, copies, &[(piece, row), (Piece::Rollback, row * self.options.rs_seq)])
    }

    /// Cells of all streams.
    fn copies(&self, cells: u64) -> Exact {
        Exact::from(cells) * self.layers.streams(self.context)
    }

    /// Bytes of a row of K and a row of V (`ggml_row_size`).
    fn row(&self, k: Exact, v: Exact) -> Exact {
        let bytes = |format: ElementFormat, width: Exact| {
            (width.div_ceil(format.elements_per_block()) * format.bits_per_block()).div_ceil(8u64)
        };
        let KvFormat { k: k_format, v: v_format, .. } = self.options.format;
        bytes(k_format, k) + bytes(v_format, v)
    }
}

/// The parts of compressed entries of one ratio.
struct CompressedParts {
    entries: &'static str,
    state: &'static str,
    ratio: u64,
    /// Rows of the compressor's state.
    rows: u64,
    /// Entries that overlap in a row of it.
    vectors: u64,
}

const OVERLAPPING: CompressedParts = CompressedParts {
    entries: "kv.csa",
    state: "state.csa",
    ratio: OVERLAPPING_RATIO,
    rows: OVERLAPPING_ROWS,
    vectors: 2,
};
const INDEX: CompressedParts = CompressedParts { entries: "kv.indexer", state: "state.indexer", ..OVERLAPPING };
const PLAIN: CompressedParts =
    CompressedParts { entries: "kv.hca", state: "state.hca", ratio: PLAIN_RATIO, rows: PLAIN_RATIO, vectors: 1 };

/// The elements of K and of V in one row; a vector has no V.
struct Widths {
    k: Exact,
    v: Exact,
}

impl Widths {
    fn new(key_value: KeyValue) -> Self {
        let of = |copies: u64, k: u64, v: u64| Self { k: Exact::from(copies) * k, v: Exact::from(copies) * v };
        let shortcut = key_value.shortcut_width().unwrap_or_default();
        match key_value {
            KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim } => {
                of(num_key_value_heads, head_dim, v_head_dim)
            }
            KeyValue::Vector { elements } => of(1, elements, 0),
            KeyValue::ArticleShortcut { .. } => of(1, shortcut, shortcut),
        }
    }
}

/// The columns of the convolution, without the current one, and the memory (`llama_hparams::n_embd_r` and `n_embd_s`).
fn state_elements(state: RecurrentState) -> Exact {
    let columns = state.convolution.map_or(Exact::ZERO, |convolution| {
        let channels = Exact::from(convolution.groups) * convolution.channels_per_group + convolution.channels;
        channels * convolution.columns()
    });
    let memory = state.memory.map_or(Exact::ZERO, |memory| Exact::from(memory.heads) * memory.elements_per_head);
    columns + memory
}
