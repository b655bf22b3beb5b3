//! The weights of a model in a checkpoint: its tensors by shape, and how quantizers store them.

mod encoding;
mod format;
mod pattern;
mod quantizer;
mod shape;
mod weigh;

#[cfg(test)]
mod tests;

pub(crate) use encoding::{EightBits, Encoding, Holder};
pub use format::{CHECKPOINT_FORMATS, CheckpointFormat, FormatRow};
pub(crate) use pattern::Pattern;
pub(crate) use quantizer::{Quantizer, Rule, Takes};
pub(crate) use shape::{Kind, Shape};
pub(crate) use weigh::{CheckpointTensors, PlainDtype};
