//! Parts of model names that say how weights are stored, or nothing of the shape: rows of data, each with a publisher that
//! uses it. The rows are general knowledge; the publishers' pages are still to be read.

/// What a part of a name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing of the model's shape.
    Ignored,
    /// How its weights are stored, in the words of `--weights-dtype` or of the method.
    Weights(&'static str),
    /// That the weights are stored as the file says, which another part may tell.
    File(&'static str),
}

/// A part at the end of a name, its words parted by `_`.
#[derive(Debug)]
pub(super) struct SuffixRow {
    pub(super) suffix: &'static str,
    pub(super) meaning: Meaning,
    #[cfg_attr(not(test), expect(dead_code, reason = "a fact has its source"))]
    pub(super) source: &'static str,
}

const fn row(suffix: &'static str, meaning: Meaning, source: &'static str) -> SuffixRow {
    SuffixRow { suffix, meaning, source }
}

const OLLAMA: &str = "https://ollama.com/library";
const MLX: &str = "https://huggingface.co/mlx-community";
const RED_HAT: &str = "https://huggingface.co/RedHatAI";
const UNSLOTH: &str = "https://huggingface.co/unsloth";
const NVIDIA: &str = "https://huggingface.co/nvidia";
const QWEN: &str = "https://huggingface.co/Qwen";
const LM_STUDIO: &str = "https://huggingface.co/lmstudio-community";

use Meaning::{File, Ignored, Weights};

/// Suffixes, as publishers of quantised copies write them. GGUF file types are read by their own parser.
pub(super) const SUFFIXES: &[SuffixRow] = &[
    row("latest", Ignored, OLLAMA),
    row("cloud", Ignored, OLLAMA),
    row("mlx", Ignored, MLX),
    row("dwq", Ignored, MLX),
    row("dynamic", Ignored, RED_HAT),
    row("block", Ignored, RED_HAT),
    row("static", Ignored, RED_HAT),
    row("pertensor", Ignored, RED_HAT),
    row("quantized", Ignored, RED_HAT),
    row("kv", Ignored, RED_HAT),
    row("unsloth", Ignored, UNSLOTH),
    row("ud", Ignored, UNSLOTH),
    row("i1", Ignored, "https://huggingface.co/mradermacher"),
    row("imatrix", Ignored, "https://huggingface.co/bartowski"),
    row("marlin", Ignored, "https://huggingface.co/nm-testing"),
    row("autoround", Ignored, "https://huggingface.co/Intel"),
    row("auto_round", Ignored, "https://huggingface.co/Intel"),
    row("gs128", Ignored, "https://huggingface.co/Intel"),
    row("g128", Ignored, RED_HAT),
    row("onnx", Ignored, "https://huggingface.co/onnx-community"),
    row("gguf", File("gguf"), LM_STUDIO),
    row("qat", File("qat"), "https://huggingface.co/google"),
    row("awq", Weights("awq"), QWEN),
    row("gptq", Weights("gptq"), QWEN),
    row("exl2", Weights("exl2"), "https://huggingface.co/turboderp"),
    row("exl3", Weights("exl3"), "https://huggingface.co/turboderp"),
    row("fp8", Weights("fp8"), QWEN),
    row("f8", Weights("fp8"), RED_HAT),
    row("fp4", Weights("nvfp4"), NVIDIA),
    row("nvfp4", Weights("nvfp4"), NVIDIA),
    row("nvfp4a16", Weights("nvfp4"), RED_HAT),
    row("mxfp4", Weights("mxfp4"), "https://huggingface.co/openai"),
    row("mxfp8", Weights("mxfp8"), MLX),
    row("int4", Weights("int4"), QWEN),
    row("int8", Weights("int8"), QWEN),
    row("w4a16", Weights("w4a16"), RED_HAT),
    row("w8a16", Weights("int8"), RED_HAT),
    row("w8a8", Weights("int8"), RED_HAT),
    row("bnb_4bit", Weights("bnb-4bit"), UNSLOTH),
    row("bnb_8bit", Weights("int8"), UNSLOTH),
    row("2bit", Weights("int2"), MLX),
    row("3bit", Weights("int3"), MLX),
    row("4bit", Weights("int4"), MLX),
    row("5bit", Weights("int5"), MLX),
    row("6bit", Weights("int6"), MLX),
    row("8bit", Weights("int8"), MLX),
    row("4_bit", Weights("int4"), MLX),
    row("8_bit", Weights("int8"), MLX),
    row("fp16", Weights("fp16"), MLX),
    row("bf16", Weights("bf16"), NVIDIA),
    row("q2", File("q2_k"), LM_STUDIO),
    row("q3", File("q3_k_m"), LM_STUDIO),
    row("q4", File("q4_k_m"), LM_STUDIO),
    row("q5", File("q5_k_m"), LM_STUDIO),
    row("q6", File("q6_k"), LM_STUDIO),
    row("q8", File("q8_0"), LM_STUDIO),
    row("q2_k_xl", Weights("q2_k"), UNSLOTH),
    row("q3_k_xl", Weights("q3_k_l"), UNSLOTH),
    row("q4_k_xl", Weights("q4_k_m"), UNSLOTH),
    row("q5_k_xl", Weights("q5_k_m"), UNSLOTH),
    row("q6_k_xl", Weights("q6_k"), UNSLOTH),
    row("q8_k_xl", Weights("q8_0"), UNSLOTH),
];

/// Words that tell how a model was trained and leave its layers alone.
pub(super) const OPTIONAL: &[&str] = &["instruct", "inst", "it", "chat", "hf", "base", "pt", "text"];

/// Words of the publisher that stand before a model's name, or are left out.
pub(super) const PUBLISHERS: &[&str] = &["meta", "nvidia", "c4ai", "ai21", "mistralai"];

/// A short word at the beginning of a name, and what it stands for.
pub(super) const SHORT: &[(&str, &str)] = &[("ds", "deepseek"), ("dsv", "deepseekv")];

/// What a name means that does not follow from the names of the models, and where that is said: the defaults of Ollama's
/// tags, and the sizes that publishers tell and the name of the model does not.
pub(super) const ALIASES: &[(&str, &str, &str)] = &[
    ("llama3.2:latest", "meta-llama/Llama-3.2-3B-Instruct", "https://ollama.com/library/llama3.2"),
    ("llama3.1:latest", "meta-llama/Llama-3.1-8B-Instruct", "https://ollama.com/library/llama3.1"),
    ("llama3:latest", "meta-llama/Meta-Llama-3-8B-Instruct", "https://ollama.com/library/llama3"),
    ("llama2:latest", "meta-llama/Llama-2-7b-chat-hf", "https://ollama.com/library/llama2"),
    ("llama4:latest", "meta-llama/Llama-4-Scout-17B-16E-Instruct", "https://ollama.com/library/llama4"),
    ("qwen3:latest", "Qwen/Qwen3-8B", "https://ollama.com/library/qwen3"),
    ("qwen2.5:latest", "Qwen/Qwen2.5-7B-Instruct", "https://ollama.com/library/qwen2.5"),
    ("qwen2.5-coder:latest", "Qwen/Qwen2.5-Coder-7B-Instruct", "https://ollama.com/library/qwen2.5-coder"),
    ("qwen3-coder:latest", "Qwen/Qwen3-Coder-30B-A3B-Instruct", "https://ollama.com/library/qwen3-coder"),
    ("qwen3-vl:latest", "Qwen/Qwen3-VL-8B-Instruct", "https://ollama.com/library/qwen3-vl"),
    ("qwen3.5:latest", "Qwen/Qwen3.5-9B", "https://ollama.com/library/qwen3.5"),
    ("gemma3:latest", "google/gemma-3-4b-it", "https://ollama.com/library/gemma3"),
    ("gemma4:latest", "google/gemma-4-E4B-it", "https://ollama.com/library/gemma4"),
    ("gemma2:latest", "google/gemma-2-9b-it", "https://ollama.com/library/gemma2"),
    ("gpt-oss:latest", "openai/gpt-oss-20b", "https://ollama.com/library/gpt-oss"),
    ("deepseek-r1:latest", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-r1:1.5b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-r1:7b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-r1:8b", "deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-r1:14b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-r1:32b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-r1:70b", "deepseek-ai/DeepSeek-R1-Distill-Llama-70B", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-r1:671b", "deepseek-ai/DeepSeek-R1", "https://ollama.com/library/deepseek-r1"),
    ("deepseek-v3:671b", "deepseek-ai/DeepSeek-V3", "https://ollama.com/library/deepseek-v3"),
    ("deepseek-v3.1:671b", "deepseek-ai/DeepSeek-V3.1", "https://ollama.com/library/deepseek-v3.1"),
    (
        "deepseek-coder-v2:16b",
        "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct",
        "https://ollama.com/library/deepseek-coder-v2",
    ),
    (
        "deepseek-coder-v2:latest",
        "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct",
        "https://ollama.com/library/deepseek-coder-v2",
    ),
    ("deepseek-v2:16b", "deepseek-ai/DeepSeek-V2-Lite-Chat", "https://ollama.com/library/deepseek-v2"),
    ("mistral:latest", "mistralai/Mistral-7B-Instruct-v0.3", "https://ollama.com/library/mistral"),
    ("mistral", "mistralai/Mistral-7B-Instruct-v0.3", "https://ollama.com/library/mistral"),
    ("mistral:7b", "mistralai/Mistral-7B-Instruct-v0.3", "https://ollama.com/library/mistral"),
    ("mistral:7b-v3", "mistralai/Mistral-7B-Instruct-v0.3", "https://ollama.com/library/mistral"),
    ("mistral:7b-v2", "mistralai/Mistral-7B-Instruct-v0.2", "https://ollama.com/library/mistral"),
    ("mistral-small:22b", "mistralai/Mistral-Small-Instruct-2409", "https://ollama.com/library/mistral-small"),
    ("mistral-small:24b", "mistralai/Mistral-Small-24B-Instruct-2501", "https://ollama.com/library/mistral-small"),
    ("mistral-small:latest", "mistralai/Mistral-Small-24B-Instruct-2501", "https://ollama.com/library/mistral-small"),
    ("mistral-nemo:12b", "mistralai/Mistral-Nemo-Instruct-2407", "https://ollama.com/library/mistral-nemo"),
    ("mistral-large:123b", "mistralai/Mistral-Large-Instruct-2411", "https://ollama.com/library/mistral-large"),
    ("mixtral", "mistralai/Mixtral-8x7B-Instruct-v0.1", "https://ollama.com/library/mixtral"),
    ("mixtral:latest", "mistralai/Mixtral-8x7B-Instruct-v0.1", "https://ollama.com/library/mixtral"),
    ("devstral:24b", "mistralai/Devstral-Small-2507", "https://ollama.com/library/devstral"),
    ("devstral:latest", "mistralai/Devstral-Small-2507", "https://ollama.com/library/devstral"),
    (
        "devstral-small-2:24b",
        "mistralai/Devstral-Small-2-24B-Instruct-2512",
        "https://ollama.com/library/devstral-small-2",
    ),
    ("phi4:14b", "microsoft/phi-4", "https://ollama.com/library/phi4"),
    ("phi4-mini:3.8b", "microsoft/Phi-4-mini-instruct", "https://ollama.com/library/phi4-mini"),
    ("phi4-reasoning:14b", "microsoft/Phi-4-reasoning", "https://ollama.com/library/phi4-reasoning"),
    ("phi3:mini", "microsoft/Phi-3-mini-128k-instruct", "https://ollama.com/library/phi3"),
    ("phi3:3.8b", "microsoft/Phi-3-mini-128k-instruct", "https://ollama.com/library/phi3"),
    ("phi3:latest", "microsoft/Phi-3-mini-128k-instruct", "https://ollama.com/library/phi3"),
    ("phi3.5:3.8b", "microsoft/Phi-3.5-mini-instruct", "https://ollama.com/library/phi3.5"),
    ("phi3.5:latest", "microsoft/Phi-3.5-mini-instruct", "https://ollama.com/library/phi3.5"),
    ("command-r:35b", "CohereLabs/c4ai-command-r-v01", "https://ollama.com/library/command-r"),
    ("command-r:latest", "CohereLabs/c4ai-command-r-v01", "https://ollama.com/library/command-r"),
    ("command-r-plus:104b", "CohereLabs/c4ai-command-r-plus", "https://ollama.com/library/command-r-plus"),
    ("command-a:111b", "CohereLabs/c4ai-command-a-03-2025", "https://ollama.com/library/command-a"),
    ("command-r7b:7b", "CohereLabs/c4ai-command-r7b-12-2024", "https://ollama.com/library/command-r7b"),
    ("nemotron:70b", "nvidia/Llama-3.1-Nemotron-70B-Instruct-HF", "https://ollama.com/library/nemotron"),
    ("nemotron-3-nano", "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", "https://ollama.com/library/nemotron-3-nano"),
    (
        "nemotron-3-super",
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
        "https://ollama.com/library/nemotron-3-super",
    ),
    ("glm-4.7-flash:30b", "zai-org/GLM-4.7-Flash", "https://huggingface.co/zai-org/GLM-4.7-Flash"),
    ("glm-4.5-air:106b", "zai-org/GLM-4.5-Air", "https://huggingface.co/zai-org/GLM-4.5-Air"),
    ("glm-4.5:355b", "zai-org/GLM-4.5", "https://huggingface.co/zai-org/GLM-4.5"),
    ("kimi-k2:1t", "moonshotai/Kimi-K2-Instruct", "https://ollama.com/library/kimi-k2"),
    ("minimax-m2:230b", "MiniMaxAI/MiniMax-M2", "https://huggingface.co/MiniMaxAI/MiniMax-M2"),
    ("qwq:latest", "Qwen/QwQ-32B", "https://ollama.com/library/qwq"),
    ("qwen3-coder-next:80b", "Qwen/Qwen3-Coder-Next", "https://huggingface.co/Qwen/Qwen3-Coder-Next"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_source() {
        let sources = SUFFIXES.iter().map(|row| row.source).chain(ALIASES.iter().map(|&(.., source)| source));
        for source in sources {
            assert!(source.starts_with("https://"), "{source}");
        }
    }
}
