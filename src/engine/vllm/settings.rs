//! vLLM's settings: as they are declared, and typed.

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

/// The settings, typed; `None` leaves the default.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) block_size: Option<u64>,
    pub(super) async_scheduling: bool,
    pub(super) max_num_batched_tokens: Option<u64>,
    pub(super) max_num_seqs: Option<u64>,
    pub(super) prefix_caching: Option<bool>,
    pub(super) windows_off: bool,
    pub(super) offline: bool,
    pub(super) convolution_format: Option<ElementFormat>,
    pub(super) memory_format: Option<ElementFormat>,
}

impl Options {
    pub(super) fn of(engine: &Engine) -> Self {
        let settings = &engine.settings;
        let format = |name| match settings.choice(name)? {
            "float32" => Some(ElementFormat::FP32),
            "float16" => Some(ElementFormat::FP16),
            "bfloat16" => Some(ElementFormat::BF16),
            _ => None,
        };
        Self {
            block_size: settings.count("block-size"),
            async_scheduling: settings.switch("async-scheduling").unwrap_or(true),
            max_num_batched_tokens: settings.count("max-num-batched-tokens"),
            max_num_seqs: settings.count("max-num-seqs"),
            prefix_caching: settings.switch("enable-prefix-caching"),
            windows_off: settings.switch("disable-hybrid-kv-cache-manager").unwrap_or(false),
            offline: settings.choice("usage") == Some("offline"),
            convolution_format: format("mamba-cache-dtype"),
            memory_format: format("mamba-ssm-cache-dtype"),
        }
    }
}
