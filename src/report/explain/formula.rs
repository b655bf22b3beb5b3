//! What a layer takes, as a formula.

use crate::estimate::{Batch, Workload, shared};
use crate::model::{KeyValue, LayerCache, RecurrentState};
use crate::report::text::decimal;
use crate::units::{ElementFormat, KvFormat};

/// What one layer takes, in symbols and in numbers.
pub(super) struct Formula {
    pub(super) symbols: String,
    pub(super) numbers: String,
}

impl Formula {
    pub(super) fn of(cache: &LayerCache, workload: &Workload, format: KvFormat) -> Self {
        let (seq_len, batch) = (workload.seq_len.0, workload.batch);
        let (symbols, numbers) = match *cache {
            LayerCache::FullAttention { .. } | LayerCache::Latent { .. } => ("S".to_owned(), seq_len.to_string()),
            LayerCache::SlidingWindow { window, .. } => {
                ("min(S, window)".into(), format!("min({seq_len}, {})", window.0))
            }
            LayerCache::ChunkedLocal { chunk, .. } => ("min(S, chunk)".into(), format!("min({seq_len}, {})", chunk.0)),
            LayerCache::Indexer { ratio: 1, .. } => ("S".into(), seq_len.to_string()),
            LayerCache::Indexer { ratio, .. } | LayerCache::Compressed { ratio, .. } => {
                ("ceil(S / ratio)".into(), format!("ceil({seq_len} / {ratio})"))
            }
            LayerCache::CrossAttention { encoder_tokens, .. } => {
                let tokens = workload.encoder_len.or(encoder_tokens).map_or(0, |tokens| tokens.0);
                ("encoder tokens".into(), tokens.to_string())
            }
            LayerCache::Recurrent(state) => return Self::of_state(state, batch),
            LayerCache::Shared | LayerCache::None => return Self { symbols: "0".into(), numbers: "0".into() },
        };
        let (symbols, numbers) = match shared(cache, workload) {
            // Where nothing is in common the prefix changes nothing to be told.
            Some(Batch { common, own }) if common > 0 => {
                ("(in common + batch x own)".to_owned(), format!("({common} + {batch} x {own})"))
            }
            _ => (format!("{symbols} x batch"), format!("{numbers} x {batch}")),
        };
        let entry = Self::of_entry(cache, format);
        let mut formula = Self {
            symbols: format!("{symbols} x {}", entry.symbols),
            numbers: format!("{numbers} x {}", entry.numbers),
        };
        if let LayerCache::Compressed { state_elements, .. } = cache {
            formula.symbols = format!("({} + batch x state x 32/8)", formula.symbols);
            formula.numbers = format!("({} + {batch} x {state_elements} x 32/8)", formula.numbers);
        }
        formula
    }

    /// Over all ranks of the layout: what is held more than once, by ranks that outnumber heads or keep a vector whole.
    pub(super) fn over_ranks(self, layers: usize, on_one: u64, on_all: u64) -> Self {
        let Self { symbols, numbers } = self;
        let (symbols, numbers) = (format!("layers x {symbols}"), format!("{layers} x {numbers}"));
        let copies = on_all.checked_div(on_one).filter(|&copies| copies.checked_mul(on_one) == Some(on_all));
        match copies {
            _ if on_all == on_one => Self { symbols, numbers },
            Some(copies) => {
                Self { symbols: format!("{symbols} x copies on ranks"), numbers: format!("{numbers} x {copies}") }
            }
            None => Self {
                symbols: format!("{symbols} + what ranks hold twice or round up"),
                numbers: format!("{numbers} + {}", on_all.saturating_sub(on_one)),
            },
        }
    }

    fn of_entry(cache: &LayerCache, format: KvFormat) -> Self {
        let KvFormat { k, v, .. } = format;
        let text = |symbols: String, numbers: String| Self { symbols, numbers };
        // A format with bits for each vector, its scale, has them beside the elements.
        let vector = |symbol: &str, number: &str, format: ElementFormat, name: &str| match format.bits_per_vector() {
            0 => (format!("{symbol} x {name}/8"), format!("{number} x {}/8", bits(format))),
            scale => (format!("({symbol} x {name} + scale)/8"), format!("({number} x {} + {scale})/8", bits(format))),
        };
        let one = |symbol: &str, number: String| {
            let (symbols, numbers) = vector(symbol, &number, k, "bits");
            text(symbols, numbers)
        };
        match (cache, cache.key_value()) {
            (LayerCache::Latent { kv_lora_rank, qk_rope_head_dim }, _) => {
                one("(kv_lora_rank + qk_rope_head_dim)", format!("({kv_lora_rank} + {qk_rope_head_dim})"))
            }
            (LayerCache::Indexer { index_head_dim, .. }, _) => one("index_head_dim", index_head_dim.to_string()),
            (_, Some(KeyValue::Vector { elements })) => one("head_dim", elements.to_string()),
            (_, Some(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim }))
                if bits(k) == bits(v) && (k.bits_per_vector(), v.bits_per_vector()) == (0, 0) =>
            {
                text(
                    "kv_heads x (k_dim + v_dim) x bits/8".into(),
                    format!("{num_key_value_heads} x ({head_dim} + {v_head_dim}) x {}/8", bits(k)),
                )
            }
            (_, Some(KeyValue::Heads { num_key_value_heads, head_dim, v_head_dim })) => {
                let (k_symbols, k_numbers) = vector("k_dim", &head_dim.to_string(), k, "k_bits");
                let (v_symbols, v_numbers) = vector("v_dim", &v_head_dim.to_string(), v, "v_bits");
                text(
                    format!("kv_heads x ({k_symbols} + {v_symbols})"),
                    format!("{num_key_value_heads} x ({k_numbers} + {v_numbers})"),
                )
            }
            (_, Some(KeyValue::ArticleShortcut { hidden_size, num_key_value_heads })) => text(
                "(hidden_size / kv_heads) x (k_bits + v_bits)/8".into(),
                format!("({hidden_size} / {num_key_value_heads}) x ({} + {})/8", bits(k), bits(v)),
            ),
            (_, None) => text("0".into(), "0".into()),
        }
    }

    fn of_state(state: RecurrentState, batch: u64) -> Self {
        let mut symbols = Vec::new();
        let mut numbers = Vec::new();
        if let Some(convolution) = state.convolution {
            let grouped = match convolution.groups {
                0 => String::new(),
                groups => format!(" + {groups} x {}", convolution.channels_per_group),
            };
            symbols.push("channels x (kernel - 1) x bits/8".to_owned());
            let channels = convolution.channels;
            numbers.push(format!(
                "({channels}{grouped}) x ({} - 1) x {}/8",
                convolution.kernel,
                bits(convolution.format)
            ));
        }
        if let Some(memory) = state.memory {
            symbols.push("heads x state x state_bits/8".to_owned());
            numbers.push(format!("{} x {} x {}/8", memory.heads, memory.elements_per_head, bits(memory.format)));
        }
        let symbols = format!("batch x ({})", symbols.join(" + "));
        Self { symbols, numbers: format!("{batch} x ({})", numbers.join(" + ")) }
    }
}

/// Bits of an element, as short as they can be written.
fn bits(format: ElementFormat) -> String {
    decimal(format.bits_per_block(), format.elements_per_block(), 4)
}
