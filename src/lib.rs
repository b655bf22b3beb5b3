//! How many bytes the KV cache of a language model takes, and where every byte comes from.
//!
//! A model is a list of [layer groups](model::LayerGroup); an [estimate](mod@estimate) is a sum over them. Models come from
//! the [catalogue], from files and from dimensions ([source], [`model::ModelSpec`]).
//!
//! The arrows point one way: `units ← model ← estimate ← {engine, strategy} ← hardware ← fit ← check ← report ← cli`, and `source → model, catalogue`.
//! All left of `report` is pure: no files, no environment, no printing, no floating-point bytes; of the others only `source` reads
//! files and only `cli` knows the command line. A test holds these rules.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should"))]

pub mod catalogue;
pub mod check;
#[cfg(feature = "cli")]
pub mod cli;
pub mod engine;
pub mod estimate;
pub mod fit;
pub mod hardware;
pub mod model;
#[cfg(feature = "cli")]
pub mod report;
pub mod request;
pub mod source;
pub mod strategy;
pub mod units;
