//! The options of a question, a row each, in the order of help.

use super::field::{Field, Group, Kind};
use super::read::{bytes, draft_method, named, positive_bytes, push, put, share, tokens};
use super::{Total, Windows};
use crate::engine::Engine;
use crate::units::{Bytes, Series, Tokens, parse_count};

use Group::{Accelerators, Average, Budget, Check, Device, Dimensions, Gpus, Model, Plan, Sources, Terms, Workload};
use Kind::{Number, Size, Switch, Text, Texts, Words};

/// Every option.
pub const FIELDS: &[Field] = &[
    Field::new("model", Model, Kind::Model, "MODEL", MODEL, |ask, text| {
        ask.models.push(named(text));
        Ok(())
    })
    .more(MORE_OF_MODEL),
    Field::new("layers", Dimensions, Number, "N", "Layers", |ask, text| put(&mut ask.dimensions.layers, parse_count(&text))),
    Field::new("hidden-size", Dimensions, Number, "N", "Width of the model", |ask, text| {
        put(&mut ask.dimensions.hidden_size, parse_count(&text))
    }),
    Field::new("kv-heads", Dimensions, Number, "N", "KV heads", |ask, text| {
        put(&mut ask.dimensions.kv_heads, parse_count(&text))
    }),
    Field::new("heads", Dimensions, Number, "N", "Query heads; with --hidden-size they give the head dimension", |ask, text| {
        put(&mut ask.dimensions.heads, parse_count(&text))
    }),
    Field::new(
        "head-dim",
        Dimensions,
        Number,
        "N",
        "Elements of K in one head, and of V unless --v-head-dim differs",
        |ask, text| put(&mut ask.dimensions.head_dim, parse_count(&text)),
    ),
    Field::new("v-head-dim", Dimensions, Number, "N", "Elements of V in one head", |ask, text| {
        put(&mut ask.dimensions.v_head_dim, parse_count(&text))
    })
    .rare(),
    Field::new("sliding-window", Dimensions, Size, "TOKENS", "Sliding window of every layer, in tokens", |ask, text| {
        put(&mut ask.dimensions.sliding_window, tokens(&text))
    })
    .rare(),
    Field::new("name", Dimensions, Text, "NAME", "Name to print", |ask, text| {
        ask.dimensions.name = Some(text.into_owned());
        Ok(())
    })
    .rare(),
    Field::new(
        "seq-len",
        Workload,
        Size,
        "TOKENS",
        "Context length in tokens, comma-separated; k m g are powers of 1000, K M G of 1024",
        |ask, text| push(&mut ask.seq_len, Series::parse(&text, tokens)),
    )
    .short('s')
    .or(&["context", "max-model-len"])
    .list()
    .varies(|workload, tokens| workload.seq_len = Tokens(tokens))
    .more("Default: 1,000; 10,000; 1,000,000; 10,000,000 tokens, up to the model's own maximum, which is added."),
    Field::new("batch", Workload, Number, "N", "Concurrent requests, comma-separated [default: 1]", |ask, text| {
        push(&mut ask.batch, Series::parse(&text, parse_count))
    })
    .short('b')
    .list()
    .varies(|workload, batch| workload.batch = batch),
    Field::new("kv-dtype", Workload, Text, "FORMAT", "KV cache dtypes, comma-separated (`kvsize formats`)", |ask, text| {
        push(&mut ask.kv_dtype, text.parse())
    })
    .short('d')
    .or(&["kv-cache-dtype"])
    .list()
    .more("Default: the 16-bit format of the checkpoint (fp16 for a model from flags), and fp8."),
    Field::new("k-dtype", Workload, Text, "FORMAT", "Format of K, where it differs from that of V", |ask, text| {
        put(&mut ask.k_dtype, text.parse())
    })
    .or(&["cache-type-k"])
    .rare(),
    Field::new("v-dtype", Workload, Text, "FORMAT", "Format of V, where it differs from that of K", |ask, text| {
        put(&mut ask.v_dtype, text.parse())
    })
    .or(&["cache-type-v"])
    .rare(),
    Field::new(
        "bitwidth",
        Workload,
        Number,
        "BITS",
        "Plain bits per element, comma-separated, as the article's bitwidth",
        |ask, text| push(&mut ask.bitwidth, parse_count(&text)),
    )
    .list()
    .rare(),
    Field::new(
        "encoder-len",
        Workload,
        Size,
        "TOKENS",
        "Encoder output length for cross-attention [default: the model's own maximum]",
        |ask, text| put(&mut ask.encoder_len, text.parse()),
    )
    .rare(),
    Field::new(
        "engine",
        Workload,
        Text,
        "ENGINE",
        "Engines to size for, comma-separated: ideal (default), vllm, llama.cpp, … (`kvsize engines`)",
        |ask, text| push(&mut ask.engine, text.parse::<Engine>()),
    )
    .short('e')
    .list()
    .more("An engine may be followed by its version: vllm@0.19. Its settings have its own names; several engines are compared."),
    Field::new(
        "shared-prefix",
        Workload,
        Size,
        "TOKENS",
        "Length of a prefix that the batch shares, stored once",
        |ask, text| put(&mut ask.shared_prefix, text.parse()),
    )
    .rare(),
    Field::new(
        "sinks",
        Workload,
        Number,
        "N",
        "Attention sinks: keep the first N tokens and the last --window tokens (ideal only)",
        |ask, text| put(&mut ask.sinks, parse_count(&text)),
    )
    .rare(),
    Field::new("window", Workload, Size, "TOKENS", "The last tokens to keep with --sinks", |ask, text| {
        put(&mut ask.window, text.parse())
    })
    .rare(),
    Field::new(
        "windows",
        Workload,
        Words(&["honoured", "kept"]),
        "HOW",
        "kept: ignore sliding windows and chunks, every layer keeps every token (ideal only) [default: honoured]",
        |ask, text| {
            let windows = if text == "kept" { Windows::Kept } else { Windows::Honoured };
            put(&mut ask.windows, Ok(windows))
        },
    )
    .rare(),
    Field::new(
        "retrieve",
        Workload,
        Text,
        "NxTOKENS",
        "Use N retrieved passages of TOKENS tokens as the context, such as 20x512",
        |ask, text| put(&mut ask.retrieve, text.parse()),
    )
    .rare(),
    Field::new(
        "speculative-method",
        Workload,
        Words(&["mtp", "draft_model|draft", "eagle3|eagle", "ngram"]),
        "METHOD",
        "Draft tokens with mtp (the model's own layers), ngram, or a --draft model: draft_model or eagle3",
        |ask, text| put(&mut ask.speculative_method, draft_method(&text)),
    )
    .rare(),
    Field::new(
        "num-speculative-tokens",
        Workload,
        Number,
        "N",
        "Tokens drafted at a time; engines reserve room for them, the ideal does not [default: 1]",
        |ask, text| put(&mut ask.num_speculative_tokens, parse_count(&text)),
    )
    .rare(),
    Field::new("draft", Workload, Kind::Model, "CONFIG", "Draft model, named as MODEL is", |ask, text| {
        put(&mut ask.draft, Ok(named(text)))
    })
    .rare(),
    Field::new("tp", Workload, Number, "N", "Tensor-parallel ranks [default: 1]", |ask, text| {
        push(&mut ask.tp, Series::parse(&text, parse_count))
    })
    .or(&["tensor-parallel-size"]),
    Field::new("pp", Workload, Number, "N", "Pipeline-parallel stages [default: 1]", |ask, text| {
        push(&mut ask.pp, Series::parse(&text, parse_count))
    })
    .or(&["pipeline-parallel-size"]),
    Field::new("dp", Workload, Number, "N", "Data-parallel replicas; --batch is per replica [default: 1]", |ask, text| {
        push(&mut ask.dp, Series::parse(&text, parse_count))
    })
    .or(&["data-parallel-size"])
    .rare(),
    Field::new(
        "dcp",
        Workload,
        Number,
        "N",
        "Decode-context-parallel size: shards the KV cache of each request over TP ranks [default: 1]",
        |ask, text| push(&mut ask.dcp, Series::parse(&text, parse_count)),
    )
    .or(&["decode-context-parallel-size"])
    .rare(),
    Field::new(
        "memory",
        Device,
        Size,
        "BYTES",
        "KV cache memory per GPU, after weights and overhead; shows what fits in it",
        |ask, text| push(&mut ask.memory, Series::parse(&text, bytes)),
    )
    .varies(|workload, bytes| workload.memory = Some(Bytes(bytes))),
    Field::new(
        "gpu",
        Device,
        Text,
        "GPU",
        "GPU whose engine defaults apply (`kvsize gpus`), or local [default: h100-sxm]",
        |ask, text| {
            ask.gpu.push(text);
            Ok(())
        },
    )
    .list(),
    Field::new("weights", Terms, Size, "BYTES", "Weights of one replica [default: as `kvsize weights` says]", |ask, text| {
        put(&mut ask.weights, text.parse())
    }),
    Field::new(
        "weights-dtype",
        Terms,
        Text,
        "FORMAT",
        "Assume weights in this format: a GGUF file type such as q4_k_m, or fp8, int4, … (embeddings unchanged)",
        |ask, text| put(&mut ask.weights_dtype, text.parse()),
    )
    .rare(),
    Field::new(
        "llama-quantize",
        Terms,
        Text,
        "BUILD",
        "Build of llama-quantize whose rule decides GGUF file types [default: b8390 and later]",
        |ask, text| put(&mut ask.llama_quantize, text.parse()),
    )
    .rare(),
    Field::new(
        "overhead",
        Terms,
        Size,
        "BYTES",
        "Overhead per GPU: activations, CUDA graphs, contexts [default: estimated]",
        |ask, text| put(&mut ask.overhead, text.parse()),
    ),
    Field::new(
        "utilization",
        Terms,
        Number,
        "RATIO",
        "Fraction of GPU memory that the engine may use [default: the engine's own; 0.9 for ideal]",
        |ask, text| put(&mut ask.utilization, share(&text)),
    )
    .or(&["gpu-memory-utilization"]),
    Field::new(
        "capacity",
        Terms,
        Words(&["visible", "driver", "marketed"]),
        "TOTAL",
        "Total of a GPU to count with: visible to CUDA (default), reported by the driver, or marketed",
        |ask, text| {
            let totals = [Total::Visible, Total::Driver, Total::Marketed];
            ask.capacity = totals.into_iter().find(|total| total.name() == text);
            Ok(())
        },
    )
    .rare(),
    Field::new(
        "avg-seq-len",
        Average,
        Size,
        "TOKENS",
        "Average request length; also shows concurrency at it",
        |ask, text| put(&mut ask.avg_seq_len, text.parse()),
    ),
    Field::new(
        "gpu-memory",
        Gpus,
        Size,
        "BYTES",
        "Memory per GPU as CUDA reports it; overrides --gpu, or describes an unlisted GPU (of Apple's chips the machine's)",
        |ask, text| put(&mut ask.gpu_memory, positive_bytes(&text)),
    ),
    Field::new(
        "accelerators",
        Accelerators,
        Text,
        "FILE",
        "JSON file with your own accelerators; overrides the catalogue's [env: `KVSIZE_ACCELERATORS`]",
        |ask, text| put(&mut ask.accelerators, Ok(text.as_ref().into())),
    )
    .rare(),
    Field::new(
        "price",
        Gpus,
        Text,
        "PRICE",
        "US dollars: 2.49/gpu-h, or 19.92/node-h for all GPUs of --gpu [default: a dated snapshot]",
        |ask, text| put(&mut ask.price, text.parse()),
    ),
    Field::new("prices", Gpus, Text, "FILE", "JSON file with your own prices; overrides the snapshot's", |ask, text| {
        put(&mut ask.prices, Ok(text.as_ref().into()))
    })
    .rare(),
    Field::new(
        "max-gpus",
        Plan,
        Number,
        "N",
        "Most GPUs to plan with [default: 256, or the number before an x in --gpu]",
        |ask, text| put(&mut ask.max_gpus, parse_count(&text)),
    ),
    Field::new("budget", Check, Size, "BYTES", "Budget for the cache over all GPUs of a replica", |ask, text| {
        put(&mut ask.budget, positive_bytes(&text))
    }),
    Field::new("budget-per-gpu", Check, Size, "BYTES", "Budget for the cache on any one GPU", |ask, text| {
        put(&mut ask.budget_per_gpu, positive_bytes(&text))
    }),
    Field::new("max-bytes", Budget, Size, "BYTES", "Budget for the cache over all GPUs of a replica", |ask, text| {
        put(&mut ask.budget, positive_bytes(&text))
    }),
    Field::new("max-bytes-per-gpu", Budget, Size, "BYTES", "Budget for the cache on any one GPU", |ask, text| {
        put(&mut ask.budget_per_gpu, positive_bytes(&text))
    }),
    Field::new("margin", Check, Text, "PERCENT", "Part of the budget to keep free [default: 0%]", |ask, text| {
        put(&mut ask.margin, text.parse())
    }),
    Field::new(
        "min-context",
        Budget,
        Size,
        "TOKENS",
        "Context length that the GPUs must hold for `batch` requests at once",
        |ask, text| put(&mut ask.min_context, text.parse()),
    ),
    Field::new(
        "min-concurrent-requests",
        Budget,
        Number,
        "N",
        "Requests of `seq_len` tokens that the GPUs must run at once",
        |ask, text| put(&mut ask.min_concurrent_requests, parse_count(&text)),
    ),
    Field::new("must-fit-on", Budget, Texts, "[Nx]GPU", "GPUs that must hold it, such as 8xh100; each of a list", |ask, text| {
        ask.must_fit_on.push(text);
        Ok(())
    })
    .list(),
    Field::new(
        "catalogue",
        Sources,
        Text,
        "FILE",
        "JSON file with your own models; overrides the catalogue [env: `KVSIZE_CATALOGUE`]",
        |ask, text| put(&mut ask.catalogue, Ok(text.as_ref().into())),
    ),
    Field::new("offline", Sources, Switch, "", "Do not contact the Hugging Face hub [env: `HF_HUB_OFFLINE`]", |ask, _| {
        ask.offline = true;
        Ok(())
    }),
    Field::new("strict", Sources, Switch, "", "Turn warnings into errors", |ask, _| {
        ask.strict = true;
        Ok(())
    }),
];

const MODEL: &str =
    "Catalogue name, config.json, GGUF file or a directory with one, - for standard input, or hub id (org/name)";

const MORE_OF_MODEL: &str = "\
A hub id may name a revision, and one of several GGUF files or the tag that tells it from the others: \
org/name[@revision][:FILE]. It is looked for in the catalogue, then in the local cache of the hub, then on the hub, from which \
configurations and headers are received and never the weights.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Ask;

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
        assert_eq!(FIELDS.iter().filter(|field| matches!(field.kind, Words(_))).count(), 3);
    }
}
