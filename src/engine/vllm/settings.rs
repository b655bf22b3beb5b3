//! vLLM's settings.

use crate::engine::setting::settings;
use crate::engine::{Engine, Setting};
use crate::units::ElementFormat;

pub(super) const SETTINGS: &[Setting] = settings! {
    "block-size" Count "Block size in tokens [default: chosen by the attention backend]";
    "async-scheduling" Switch
        "Schedule the next batch while one runs; --no-async-scheduling turns it off [default: on]";
    "max-num-batched-tokens" Count "Maximum tokens per batch [default: by GPU]";
    "max-num-seqs" Count "Maximum sequences per batch [default: by GPU]";
    "enable-prefix-caching" Switch
        "Keep prefixes for later requests; --no-enable-prefix-caching turns it off [default: on]";
    "disable-hybrid-kv-cache-manager" Switch "Keep every token in layers with sliding windows or chunks";
    "usage" Choice(&["server", "offline"])
        "Use the defaults of the API server or of an offline LLM [default: server]";
    "mamba-cache-dtype" Choice(STATE_FORMATS) "Format of convolution states [default: auto]";
    "mamba-ssm-cache-dtype" Choice(STATE_FORMATS) "Format of recurrent states [default: auto]";
};

const STATE_FORMATS: &[&str] = &["auto", "float32", "float16", "bfloat16"];

/// The format that a setting for states names; `None` for `auto`.
pub(super) fn state_format(engine: &Engine, name: &str) -> Option<ElementFormat> {
    match engine.settings.choice(name)? {
        "float32" => Some(ElementFormat::FP32),
        "float16" => Some(ElementFormat::FP16),
        "bfloat16" => Some(ElementFormat::BF16),
        _ => None,
    }
}
