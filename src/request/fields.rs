//! The options of a question, a row each, in the order of help.

use super::field::{Field, Group, Kind};
use super::read::{bytes, memory_of_a_gpu, named, positive_bytes, push, put, set, share, tokens};
use super::{Total, Windows};
use crate::engine::Engine;
use crate::model::DraftMethod;
use crate::units::{Bytes, Series, Tokens, parse_count};

use Group::{Accelerators, Average, Budget, Check, Device, Dimensions, Gpus, Model, Plan, Sources, Terms, Workload};
use Kind::{Number, Size, Switch, Text, Texts, Words};

/// Every option.
pub const FIELDS: &[Field] = &[
    Field::new("model", Model, Kind::Model, "MODEL", |ask, text| push(&mut ask.models, Ok(named(text)))),
    Field::new("layers", Dimensions, Number, "N", |ask, text| put(&mut ask.dimensions.layers, parse_count(&text))),
    Field::new("hidden-size", Dimensions, Number, "N", |ask, text| {
        put(&mut ask.dimensions.hidden_size, parse_count(&text))
    }),
    Field::new("kv-heads", Dimensions, Number, "N", |ask, text| put(&mut ask.dimensions.kv_heads, parse_count(&text))),
    Field::new("heads", Dimensions, Number, "N", |ask, text| put(&mut ask.dimensions.heads, parse_count(&text))),
    Field::new("head-dim", Dimensions, Number, "N", |ask, text| put(&mut ask.dimensions.head_dim, parse_count(&text))),
    Field::new("v-head-dim", Dimensions, Number, "N", |ask, text| {
        put(&mut ask.dimensions.v_head_dim, parse_count(&text))
    })
    .rare(),
    Field::new("sliding-window", Dimensions, Size, "TOKENS", |ask, text| {
        put(&mut ask.dimensions.sliding_window, tokens(&text))
    })
    .rare(),
    Field::new("name", Dimensions, Text, "NAME", |ask, text| put(&mut ask.dimensions.name, Ok(text.into_owned())))
        .rare(),
    Field::new("dtype", Workload, Words(&["auto", "bf16|bfloat16", "fp16|float16|half"]), "DTYPE", |ask, text| {
        set(&mut ask.dtype, text.parse().ok())
    })
    .rare(),
    Field::new("seq-len", Workload, Size, "TOKENS", |ask, text| push(&mut ask.seq_len, Series::parse(&text, tokens)))
        .short('s')
        .or(&["ctx", "context", "max-model-len", "c"])
        .list()
        .varies(|workload, tokens| workload.seq_len = Tokens(tokens)),
    Field::new("batch", Workload, Number, "N", |ask, text| push(&mut ask.batch, Series::parse(&text, parse_count)))
        .short('b')
        .or(&["users", "concurrency"])
        .list()
        .varies(|workload, batch| workload.batch = batch),
    Field::new("kv-dtype", Workload, Text, "FORMAT", |ask, text| push(&mut ask.kv_dtype, text.parse()))
        .short('d')
        .or(&["kv-cache-dtype"])
        .list(),
    Field::new("k-dtype", Workload, Text, "FORMAT", |ask, text| put(&mut ask.k_dtype, text.parse()))
        .or(&["cache-type-k"])
        .rare(),
    Field::new("v-dtype", Workload, Text, "FORMAT", |ask, text| put(&mut ask.v_dtype, text.parse()))
        .or(&["cache-type-v"])
        .rare(),
    Field::new("bitwidth", Workload, Number, "BITS", |ask, text| push(&mut ask.bitwidth, parse_count(&text)))
        .list()
        .rare(),
    Field::new("encoder-len", Workload, Size, "TOKENS", |ask, text| put(&mut ask.encoder_len, text.parse())).rare(),
    Field::new("engine", Workload, Text, "ENGINE", |ask, text| push(&mut ask.engine, text.parse::<Engine>()))
        .short('e')
        .list(),
    Field::new("shared-prefix", Workload, Size, "TOKENS", |ask, text| put(&mut ask.shared_prefix, text.parse())).rare(),
    Field::new("sinks", Workload, Number, "N", |ask, text| put(&mut ask.sinks, parse_count(&text))).rare(),
    Field::new("window", Workload, Size, "TOKENS", |ask, text| put(&mut ask.window, text.parse())).rare(),
    Field::new("windows", Workload, Words(Windows::NAMES), "HOW", |ask, text| {
        set(&mut ask.windows, Windows::named(&text))
    })
    .rare(),
    Field::new("retrieve", Workload, Text, "NxTOKENS", |ask, text| put(&mut ask.retrieve, text.parse())).rare(),
    Field::new(
        "speculative-method",
        Workload,
        Words(&["mtp", "draft_model|draft", "eagle3|eagle", "ngram"]),
        "METHOD",
        |ask, text| set(&mut ask.speculative_method, DraftMethod::named(&text)),
    )
    .rare(),
    Field::new("num-speculative-tokens", Workload, Number, "N", |ask, text| {
        put(&mut ask.num_speculative_tokens, parse_count(&text))
    })
    .rare(),
    Field::new("draft", Workload, Kind::Model, "CONFIG", |ask, text| put(&mut ask.draft, Ok(named(text)))).rare(),
    Field::new("tp", Workload, Number, "N", |ask, text| push(&mut ask.tp, Series::parse(&text, parse_count)))
        .or(&["tensor-parallel-size"]),
    Field::new("pp", Workload, Number, "N", |ask, text| push(&mut ask.pp, Series::parse(&text, parse_count)))
        .or(&["pipeline-parallel-size"]),
    Field::new("dp", Workload, Number, "N", |ask, text| push(&mut ask.dp, Series::parse(&text, parse_count)))
        .or(&["data-parallel-size"])
        .rare(),
    Field::new("dcp", Workload, Number, "N", |ask, text| push(&mut ask.dcp, Series::parse(&text, parse_count)))
        .or(&["decode-context-parallel-size"])
        .rare(),
    Field::new("memory", Device, Size, "BYTES", |ask, text| push(&mut ask.memory, Series::parse(&text, bytes)))
        .varies(|workload, bytes| workload.memory = Some(Bytes(bytes))),
    Field::new("gpu", Device, Text, "GPU", |ask, text| push(&mut ask.gpu, Ok(text))).list(),
    Field::new("weights", Terms, Size, "BYTES", |ask, text| put(&mut ask.weights, text.parse())),
    Field::new("weights-dtype", Terms, Text, "FORMAT", |ask, text| put(&mut ask.weights_dtype, text.parse()))
        .or(&["quantization", "quant"])
        .rare(),
    Field::new("llama-quantize", Terms, Text, "BUILD", |ask, text| put(&mut ask.llama_quantize, text.parse())).rare(),
    Field::new("overhead", Terms, Size, "BYTES", |ask, text| put(&mut ask.overhead, text.parse())),
    Field::new("utilization", Terms, Number, "RATIO", |ask, text| put(&mut ask.utilization, share(&text)))
        .or(&["gpu-memory-utilization"]),
    Field::new("capacity", Terms, Words(Total::NAMES), "TOTAL", |ask, text| {
        set(&mut ask.capacity, Total::named(&text))
    })
    .rare(),
    Field::new("avg-seq-len", Average, Size, "TOKENS", |ask, text| put(&mut ask.avg_seq_len, text.parse())),
    Field::new("num-gpus", Gpus, Number, "N", |ask, text| put(&mut ask.num_gpus, parse_count(&text)))
        .or(&["gpu-count"])
        .rare(),
    Field::new("gpu-memory", Gpus, Size, "BYTES", |ask, text| put(&mut ask.gpu_memory, memory_of_a_gpu(&text)))
        .or(&["vram"]),
    Field::new("accelerators", Accelerators, Text, "FILE", |ask, text| {
        put(&mut ask.accelerators, Ok(text.as_ref().into()))
    })
    .rare(),
    Field::new("price", Gpus, Text, "PRICE", |ask, text| put(&mut ask.price, text.parse())),
    Field::new("prices", Gpus, Text, "FILE", |ask, text| put(&mut ask.prices, Ok(text.as_ref().into()))).rare(),
    Field::new("max-gpus", Plan, Number, "N", |ask, text| put(&mut ask.max_gpus, parse_count(&text))),
    Field::new("any-layout", Plan, Switch, "", |ask, _| set(&mut ask.any_layout, true)),
    Field::new("budget", Check, Size, "BYTES", |ask, text| put(&mut ask.budget, positive_bytes(&text))),
    Field::new("budget-per-gpu", Check, Size, "BYTES", |ask, text| put(&mut ask.budget_per_gpu, positive_bytes(&text))),
    Field::new("max-bytes", Budget, Size, "BYTES", |ask, text| put(&mut ask.budget, positive_bytes(&text))),
    Field::new("max-bytes-per-gpu", Budget, Size, "BYTES", |ask, text| {
        put(&mut ask.budget_per_gpu, positive_bytes(&text))
    }),
    Field::new("margin", Check, Text, "PERCENT", |ask, text| put(&mut ask.margin, text.parse())),
    Field::new("min-context", Budget, Size, "TOKENS", |ask, text| put(&mut ask.min_context, text.parse())),
    Field::new("min-concurrent-requests", Budget, Number, "N", |ask, text| {
        put(&mut ask.min_concurrent_requests, parse_count(&text))
    }),
    Field::new("must-fit-on", Budget, Texts, "[Nx]GPU", |ask, text| push(&mut ask.must_fit_on, Ok(text))).list(),
    Field::new("catalogue", Sources, Text, "FILE", |ask, text| put(&mut ask.catalogue, Ok(text.as_ref().into()))),
    Field::new("offline", Sources, Switch, "", |ask, _| set(&mut ask.offline, true)),
    Field::new("strict", Sources, Switch, "", |ask, _| set(&mut ask.strict, true)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Ask;

    #[test]
    fn every_option_has_a_line_of_help_and_every_line_is_of_one() {
        let lines = include_str!("fields.txt").lines().filter(|line| !line.starts_with("  "));
        let helped: Vec<&str> = lines.filter_map(|line| line.split_once(": ")).map(|(name, _)| name).collect();
        assert_eq!(helped, FIELDS.iter().map(|field| field.name).collect::<Vec<_>>());
        assert!(FIELDS.iter().all(|field| !field.about().0.is_empty()));
    }

    #[test]
    fn every_word_of_an_option_is_read_and_has_a_meaning_of_its_own() {
        for field in FIELDS {
            let read: Vec<Ask> = field
                .words()
                .map(|word| {
                    let mut ask = Ask::default();
                    field.read(&mut ask, word.into()).unwrap();
                    ask
                })
                .collect();
            assert!(read.iter().enumerate().all(|(index, ask)| !read[..index].contains(ask)), "{}", field.name);
        }
        assert_eq!(FIELDS.iter().filter(|field| matches!(field.kind, Words(_))).count(), 4);
    }
}
