//! One binary, a module a command; the rules between the rooms; and what engines really did.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test these are how it fails"
)]

mod gguf_file;
mod harness;
#[cfg(feature = "hub")]
mod http_server;

mod article;
mod bad_input;
mod batch;
mod budgets;
mod catalogue;
mod check;
mod completions;
mod compose;
mod estimate;
mod exactness;
mod explain;
mod file_types;
mod fit;
mod gguf;
mod gpus;
mod help;
#[cfg(feature = "hub")]
mod hub;
mod hub_cache;
mod import_rules;
mod lists;
mod llama_cpp;
mod man;
mod output;
mod plan;
mod pool;
mod quantized;
mod readme;
mod round_trip;
mod schema;
mod schema_versions;
mod sglang;
mod side_by_side;
mod strategies;
mod sweep;
mod tensorrt_llm;
mod verbs;
mod vllm;
mod weights;
