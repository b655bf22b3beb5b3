//! What a layer takes, as a formula.

use crate::estimate::{Batch, Workload, shared};
use crate::model::{KeyValue, LayerCache, RecurrentState};
use crate::report::text::decimal;
use crate::units::{ElementFormat, KvFormat};

/// What one layer takes, in symbols and in numbers.
#[derive(Clone)]
pub(super) struct Formula {
    pub(super) symbols: String,
    pub(super) numbers: String,
}

impl Formula {
    fn new(symbols: &str, numbers: &(impl ToString + ?Sized)) -> Self {
        Self { symbols: symbols.to_owned(), numbers: numbers.to_string() }
    }

    fn times(self, Self { symbols, numbers }: Self) -> Self {
        Self { symbols: self.symbols + " x " + &symbols, numbers: self.numbers + " x " + &numbers }
    }

    fn plus(self, Self { symbols, numbers }: Self) -> Self {
        Self { symbols: self.symbols + " + " + &symbols, numbers: self.numbers + " + " + &numbers }
    }

    fn in_brackets(self) -> Self {
        Self { symbols: format!("({})", self.symbols), numbers: format!("({})", self.numbers) }
    }

    /// Bits in bytes.
    fn eighth(self) -> Self {
        Self { symbols: self.symbols + "/8", numbers: self.numbers + "/8" }
    }

    pub(super) fn of(cache: &LayerCache, workload: &Workload, format: KvFormat) -> Self {
        let (seq_len, batch) = (workload.seq_len.0, workload.batch);
        let least = |of: &str, most: u64| Self::new(&format!("min(S, {of})"), &format!("min({seq_len}, {most})"));
        let each = Self::new("batch", &batch);
        let tokens = match *cache {
            LayerCache::FullAttention { .. } | LayerCache::Latent { .. } | LayerCache::Indexer { ratio: 1, .. } => {
                Self::new("S", &seq_len)
            }
            LayerCache::SlidingWindow { window, .. } => least("window", window.0),
            LayerCache::ChunkedLocal { chunk, .. } => least("chunk", chunk.0),
            LayerCache::Indexer { ratio, .. } | LayerCache::Compressed { ratio, .. } => {
                Self::new("ceil(S / ratio)", &format!("ceil({seq_len} / {ratio})"))
            }
            LayerCache::CrossAttention { encoder_tokens, .. } => {
                let tokens = workload.encoder_len.or(encoder_tokens);
                Self::new("encoder tokens", &tokens.map_or(0, |tokens| tokens.0))
            }
            LayerCache::Recurrent(state) => return each.times(Self::of_state(state).in_brackets()),
            LayerCache::Shared | LayerCache::None => return Self::new("0", "0"),
        };
        let entries = match shared(cache, workload) {
            // Where nothing is in common the prefix changes nothing to be told.
            Some(Batch { common, own }) if common > 0 => {
                Self::new("in common", &common).plus(each.clone().times(Self::new("own", &own))).in_brackets()
            }
            _ => tokens.times(each.clone()),
        };
        let formula = entries.times(Self::of_entry(cache, format));
        match cache {
            LayerCache::Compressed { state_elements, .. } => {
                let state = Self::new("state", state_elements).times(Self::new("32/8", "32/8"));
                formula.plus(each.times(state)).in_brackets()
            }
            _ => formula,
        }
    }

    /// Over all ranks of the layout: what is held more than once, by ranks that outnumber heads or keep a vector whole.
    pub(super) fn over_ranks(self, layers: usize, on_one: u64, on_all: u64) -> Self {
        let formula = Self::new("layers", &layers).times(self);
        match on_all.checked_div(on_one).filter(|&copies| copies.checked_mul(on_one) == Some(on_all)) {
            _ if on_all == on_one => formula,
            Some(copies) => formula.times(Self::new("copies on ranks", &copies)),
            None => formula.plus(Self::new("what ranks hold twice or round up", &on_all.saturating_sub(on_one))),
        }
    }

    fn of_entry(cache: &LayerCache, format: KvFormat) -> Self {
        let KvFormat { k, v, .. } = format;
        // A format with bits for each vector, its scale, has them beside the elements.
        let vector = |elements: Self, format: ElementFormat, name: &str| {
            let vector = elements.times(Self::new(name, &bits(format)));
            match format.bits_per_vector() {
                0 => vector.eighth(),
                scale => vector.plus(Self::new("scale", &scale)).in_brackets().eighth(),
            }
        };
        match (cache, cache.key_value()) {
            (LayerCache::Latent { kv_lora_rank, qk_rope_head_dim }, _) => {
                let rope = Self::new("qk_rope_head_dim", qk_rope_head_dim);
                vector(Self::new("kv_lora_rank", kv_lora_rank).plus(rope).in_brackets(), k, "bits")
            }
            (LayerCache::Indexer { index_head_dim: dim, .. }, _) => vector(Self::new("index_head_dim", dim), k, "bits"),
            (_, Some(KeyValue::Vector { elements })) => vector(Self::new("head_dim", &elements), k, "bits"),
            (_, Some(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim })) => {
                let [heads, k_dim] = [Self::new("kv_heads", &num_key_value_heads), Self::new("k_dim", &head_dim)];
                let v_dim = Self::new("v_dim", &v_head_dim);
                if bits(k) == bits(v) && (k.bits_per_vector(), v.bits_per_vector()) == (0, 0) {
                    heads.times(k_dim.plus(v_dim).in_brackets()).times(Self::new("bits", &bits(k)).eighth())
                } else {
                    heads.times(vector(k_dim, k, "k_bits").plus(vector(v_dim, v, "v_bits")).in_brackets())
                }
            }
            (_, Some(KeyValue::ArticleShortcut { hidden_size, num_key_value_heads })) => {
                let share = format!("({hidden_size} / {num_key_value_heads})");
                let both = Self::new("k_bits", &bits(k)).plus(Self::new("v_bits", &bits(v)));
                Self::new("(hidden_size / kv_heads)", &share).times(both.in_brackets().eighth())
            }
            (_, None) => Self::new("0", "0"),
        }
    }

    fn of_state(state: RecurrentState) -> Self {
        let convolution = state.convolution.map(|convolution| {
            let grouped = match convolution.groups {
                0 => String::new(),
                groups => format!(" + {groups} x {}", convolution.channels_per_group),
            };
            let numbers = format!("({}{grouped}) x ({} - 1)", convolution.channels, convolution.kernel);
            Self::new("channels x (kernel - 1)", &numbers).times(Self::new("bits", &bits(convolution.format)).eighth())
        });
        let memory = state.memory.map(|memory| {
            let elements = Self::new("heads", &memory.heads).times(Self::new("state", &memory.elements_per_head));
            elements.times(Self::new("state_bits", &bits(memory.format)).eighth())
        });
        convolution.into_iter().chain(memory).reduce(Self::plus).unwrap_or_else(|| Self::new("", ""))
    }
}

/// Bits of an element, as short as they can be written.
fn bits(format: ElementFormat) -> String {
    decimal(format.bits_per_block(), format.elements_per_block(), 4)
}
