//! How many bytes the KV cache of a language model takes, and where every byte comes from.
//!
//! A model is a list of [layer groups](model::LayerGroup); an [estimate](mod@estimate) is a sum over them. Models come from
//! the [catalogue], from files and from dimensions ([source], [`model::ModelSpec`]).
//!
//! What is asked is an [`Ask`](request::Ask), under the names of the command line; resolved, it is a [`Request`](request::Request)
//! with an answer, or a [`HardwareRequest`](request::HardwareRequest) for [`fit::fits`] and [`fit::plans`]:
//!
//! ```
//! use kvsize::{fit::fits, request::Ask, source::LocalSources};
//! let ask = Ask::new("llama-3.1-70b").set("gpu", "8xh100")?.set("engine", "vllm")?.set("seq_len", "32K")?;
//! let found = fits(&ask.on_hardware(&LocalSources, ask.fleets(&LocalSources)?)?)?;
//! assert_eq!(found.rows[0].fit.requests[0].at_once, Some(40));
//! # Ok::<(), kvsize::units::Error>(())
//! ```
//!
//! The arrows point one way: `units ← model ← estimate ← {engine, strategy} ← hardware ← request ← fit ← check ← report ← cli`,
//! with `catalogue` a room of data that engines, requests and sources read. All left of `report` is pure: no files, no environment, no printing, no floating-point bytes;
//! of the others only `source` reads files and only `cli` knows the command line. A test holds these rules.
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
