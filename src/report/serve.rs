//! The line that starts a server with a layout, to be pasted.

use std::path::Path;

use super::strategies::quoted;
use crate::engine::{Double, Engine, SettingValue, ValueKind};
use crate::estimate::Layout;
use crate::units::{ElementFormat, KvDtype, KvFormat, Tokens};

/// A server to start.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The model as it was named.
    pub model: Option<&'a str>,
    /// Whether that is a file or a directory.
    pub is_path: bool,
    /// Its own name.
    pub name: &'a str,
    /// Its 16-bit format, in which a cache needs no option.
    pub dtype: ElementFormat,
    /// The engine.
    pub engine: &'a Engine,
    /// The format asked for.
    pub kv_dtype: KvDtype,
    /// How the model is spread.
    pub layout: Layout,
    /// The longest request.
    pub seq_len: Tokens,
    /// Requests at once, if that was given.
    pub batch: Option<u64>,
    /// The share of the memory, if that was given.
    pub utilization: Option<Double>,
    /// Whether a line tells all of it.
    pub is_told: bool,
    /// Whether replicas are servers of their own, whatever the engine calls replicas.
    pub replicas_apart: bool,
}

/// Settings that servers have no option for.
const NO_OPTION: &[&str] = &["usage", "rs-seq"];

/// The line; none for what is no server, for a model that has no name, and for settings that no option tells.
pub fn serve(served: &Served) -> Option<String> {
    let told = |(name, _): &(&str, SettingValue)| !NO_OPTION.contains(name);
    let by_file = served.engine.profile.name == "tensorrt-llm" && served.engine.settings.iter().next().is_some();
    if !served.is_told || by_file || !served.engine.settings.iter().all(told) {
        return None;
    }
    let apart = served.layout.dp > 1;
    let Layout { tp, pp, dp, dcp } = served.layout;
    let length = served.seq_len.0.to_string();
    let share = served.utilization.map(|share| share.value().to_string());
    let sized = |name: &str, size: u64| (size > 1).then(|| format!("{name} {size}"));
    let valued = |name: &str, value: Option<String>| value.map(|value| format!("{name} {value}"));
    let mut words: Vec<String> = Vec::new();
    match served.engine.profile.name {
        "vllm" => {
            words.push(format!("vllm serve {}", served.named()?));
            words.extend(sized("--tensor-parallel-size", tp));
            words.extend(sized("--pipeline-parallel-size", pp));
            words.extend(sized("--data-parallel-size", if served.replicas_apart { 1 } else { dp }));
            words.extend(sized("--decode-context-parallel-size", dcp));
            words.push(format!("--max-model-len {length}"));
            words.extend(valued("--gpu-memory-utilization", share));
            words.extend(valued("--kv-cache-dtype", served.format()));
            words.extend((apart && served.replicas_apart).then(|| format!("# each of {dp} replicas")));
        }
        "sglang" => {
            words.push(format!("python -m sglang.launch_server --model-path {}", served.named()?));
            words.extend(sized("--tp-size", tp));
            words.extend(sized("--pp-size", pp));
            words.extend(sized("--dp-size", dp));
            words.push(format!("--context-length {length}"));
            words.extend(valued("--mem-fraction-static", share));
            words.extend(valued("--kv-cache-dtype", served.format()));
        }
        "tensorrt-llm" => {
            words.push(format!("trtllm-serve {}", served.named()?));
            words.extend(sized("--tp_size", tp));
            words.extend(sized("--pp_size", pp));
            words.push(format!("--max_seq_len {length}"));
            words.extend(valued("--kv_cache_free_gpu_memory_fraction", share));
            words.extend(valued("--kv_cache_dtype", served.format()));
            words.extend(apart.then(|| format!("# each of {dp} replicas")));
        }
        "llama.cpp" => {
            let parallel = served.batch.unwrap_or(1).div_ceil(dp.max(1));
            words.push(format!("llama-server -m {}", served.file()));
            words.push(format!("--ctx-size {}", served.seq_len.0.saturating_mul(parallel)));
            words.push(format!("--parallel {parallel}"));
            words.extend(served.types().map(|(k, v)| format!("--cache-type-k {k} --cache-type-v {v}")));
            words.extend(apart.then(|| format!("# each of {dp} replicas")));
        }
        _ => return None,
    }
    // A remark ends the line.
    let remark = words.pop_if(|word| word.starts_with('#'));
    words.extend(served.settings());
    words.extend(remark);
    Some(words.join(" "))
}

fn has_extension(model: &str, extension: &str) -> bool {
    Path::new(model).extension().is_some_and(|own| own.eq_ignore_ascii_case(extension))
}

impl Served<'_> {
    /// The model as a server is told of it.
    fn named(&self) -> Option<String> {
        let path = self.model.filter(|_| self.is_path).map(|path| path.strip_suffix("config.json").unwrap_or(path));
        let name = match path {
            Some("") => ".",
            Some(path) if path.len() > 1 => path.trim_end_matches('/'),
            Some(path) => path,
            None => self.name,
        };
        Some(quoted(name)).filter(|_| self.model.is_some_and(|model| model != "-"))
    }

    fn file(&self) -> String {
        self.model.filter(|model| has_extension(model, "gguf")).map_or_else(|| "MODEL.gguf".into(), quoted)
    }

    /// The format, where it must be told.
    fn format(&self) -> Option<String> {
        let KvDtype::Given(format) = self.kv_dtype else { return None };
        if format.k == self.dtype && format.v == self.dtype {
            return None;
        }
        Some(match (self.engine.profile.name, format.to_string().as_str()) {
            ("vllm", "bf16") => "bfloat16".into(),
            ("vllm", "fp16") => "float16".into(),
            // SGLang 0.5.23, `arg_groups/fields/model.py`: it has no plain fp8.
            ("sglang", "fp8") => "fp8_e4m3".into(),
            (_, name) => name.to_owned(),
        })
    }

    /// The types of K and of V, where llama.cpp must be told of them: f16 is its default.
    fn types(&self) -> Option<(String, String)> {
        let KvDtype::Given(KvFormat { k, v, .. }) = self.kv_dtype else { return None };
        let name = |format: ElementFormat| match format.to_string().as_str() {
            "fp16" => "f16".to_owned(),
            "fp32" => "f32".to_owned(),
            name => name.to_owned(),
        };
        Some((name(k), name(v))).filter(|(k, v)| k != "f16" || v != "f16")
    }

    /// The engine's own settings that were given.
    fn settings(&self) -> Vec<String> {
        let as_option = |(name, value): &(&'static str, SettingValue)| {
            let setting = self.engine.setting(name)?;
            Some(match (value, setting.kind) {
                (SettingValue::Switch(false), ValueKind::Switch { off }) => format!("--{off}"),
                (SettingValue::Switch(_), _) => format!("--{name}"),
                _ => format!("--{name} {value}"),
            })
        };
        self.engine.settings.iter().filter_map(as_option).collect()
    }
}
