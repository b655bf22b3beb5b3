//! The formats of checkpoints by name.

use std::fmt;
use std::str::FromStr;

use super::encoding::{EightBits, Encoding};
use super::pattern::Pattern;
use super::quantizer::{Quantizer, Takes};

/// A format of checkpoints.
#[derive(Debug)]
pub struct FormatRow {
    /// Its name; of formats with bits in their names (`exl2-4.0bpw`) what is before them.
    pub name: &'static str,
    /// Other spellings. Case and separators do not matter.
    pub aliases: &'static [&'static str],
    /// How matrices are stored; of formats with bits in their names an example.
    encoding: Encoding,
    takes: Takes,
    /// Linear layers that its tool leaves alone by default.
    leaves: &'static [&'static str],
    /// Engines that load it, of those known here.
    pub engines: &'static [&'static str],
    /// Other programs that load it.
    pub others: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Where that was read.
    pub source: &'static str,
}

/// A format with its bits.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointFormat {
    /// Its row.
    pub row: &'static FormatRow,
    encoding: Encoding,
}

const COMMON: &[&str] = &["vllm", "sglang", "transformers"];
const COMPRESSED: &[&str] = &["vllm", "sglang", "transformers"];
const COMMON_AND_TURBOMIND: &[&str] = &["vllm", "sglang", "transformers", "lmdeploy"];
const MODELOPT: &[&str] = &["vllm", "sglang", "tensorrt-llm"];
const BNB: &[&str] = &["vllm", "sglang", "transformers"];

const CT: &str = "compressed-tensors 0.20.1, run";
const MLX: &str = "mlx 0.32, mlx_lm 0.32.2, run";

/// All formats.
pub static CHECKPOINT_FORMATS: &[FormatRow] = &[
    row("awq", Encoding::Awq { group: 128 }, "int4, zeros, groups of 128", "autoawq 0.2.7, gemm.py")
        .or(&["awq-int4", "awq-4bit", "awq-4bits"])
        .on(COMMON_AND_TURBOMIND),
    row("gptq", Encoding::Gptq { bits: 4, group: 128, index: true }, "int4, groups of 128", GPTQ)
        .or(&["gptq-int4", "gptq-4bit", "gptq-4b"])
        .on(COMMON_AND_TURBOMIND),
    row("gptq-8bit", Encoding::Gptq { bits: 8, group: 128, index: true }, "int8, groups of 128", GPTQ)
        .or(&["gptq-int8"])
        .on(COMMON),
    row("autoround", Encoding::Gptq { bits: 4, group: 128, index: false }, "int4, groups of 128", ROUND)
        .or(&["auto-round", "autoround-w4a16", "autoround-int4"])
        .on(COMMON),
    row("w4a16", packed(4, false), "int4, groups of 128", CT).or(&["int4-w4a16", "ct-w4a16"]).on(COMPRESSED),
    row("w4a16-asym", packed(4, true), "int4, zeros, groups of 128", CT).or(&["ct-w4a16-asym"]).on(COMPRESSED),
    row("w8a16", packed(8, false), "int8, groups of 128", CT).or(&["int8-w8a16"]).on(COMPRESSED),
    row("w8a8", Encoding::Rows(EightBits::Integer), "int8, a scale for each row", CT)
        .or(&["int8-w8a8", "w8a8-int8", "int8-dynamic"])
        .on(&["vllm", "sglang", "transformers", "lmdeploy"]),
    row("fp8", Encoding::Rows(EightBits::Float), "fp8, a scale for each row", CT)
        .or(&["fp8-dynamic", "fp8-channel", "w8a8-fp8", "fp8-w8a8", "ct-fp8"])
        .on(&["vllm", "sglang", "transformers", "lmdeploy", "tensorrt-llm"]),
    row("fp8-tensor", Encoding::Whole { scalars: 2, scalar_bytes: 4 }, "fp8, a scale for each matrix", OPT)
        .or(&["fp8-static", "fp8-per-tensor", "modelopt-fp8"])
        .on(MODELOPT),
    row("fp8-block", tiles(), "fp8, a scale for 128 x 128", "DeepSeek-V3's files: scales in f32")
        .or(&["fp8-block128", "fp8-blockwise", "deepseek-fp8"])
        .on(&["vllm", "sglang", "transformers", "tensorrt-llm", "lmdeploy"]),
    row("nvfp4", Encoding::Nvfp4 { scalars: 2 }, "fp4, fp8 scale for 16", OPT)
        .or(&["modelopt-nvfp4", "modelopt-fp4", "nvfp4-w4a4"])
        .leaving(&["linear_attn.in_proj_a", "linear_attn.in_proj_b", "linear_attn.in_proj_ba"])
        .on(&["vllm", "sglang", "tensorrt-llm"]),
    row("nvfp4a16", Encoding::Nvfp4 { scalars: 1 }, "fp4 alike, inputs in 16 bits", CT)
        .or(&["nvfp4-w4a16"])
        .on(&["vllm"]),
    row("mxfp4", Encoding::Mxfp4, "fp4, 8-bit exponent for 32", "gpt-oss; compressed-tensors 0.20.1, run")
        .or(&["mx-fp4", "ct-mxfp4"])
        .on(&["vllm", "sglang", "transformers", "tensorrt-llm", "lmdeploy"]),
    row("mxfp8", Encoding::Mxfp8, "fp8, 8-bit exponent for 32", CT).or(&["mx-fp8"]).on(&["vllm", "sglang"]),
    row("bnb-nf4", Encoding::Nf4 { double: true }, "nf4, quantized scales for 64", BITSANDBYTES)
        .or(&["nf4", "bnb-4bit", "bnb", "bitsandbytes", "bitsandbytes-4bit", "bnb-nf4-double", "qlora"])
        .taking(Takes::LinearsWithoutExperts)
        .on(BNB),
    row("bnb-nf4-plain", Encoding::Nf4 { double: false }, "nf4, fp32 scales for 64", BITSANDBYTES)
        .or(&["bnb-nf4-single"])
        .taking(Takes::LinearsWithoutExperts)
        .on(BNB),
    row("bnb-int8", Encoding::LlmInt8, "int8, a scale for each row", BITSANDBYTES)
        .or(&["bnb-8bit", "llm.int8", "llm-int8", "bitsandbytes-8bit", "bitsandbytes-int8"])
        .taking(Takes::LinearsWithoutExperts)
        .on(BNB),
    row("hqq", Encoding::Hqq { bits: 4, group: 64 }, "int4, groups of 64", "its settings; not run")
        .or(&["hqq-4bit", "hqq-int4"])
        .on(&["vllm", "transformers"]),
    row("exl2", Encoding::Exl2 { millibits: 4000 }, "mean bits, as exl2-4.0bpw", "exllamav2 0.3.2, read")
        .by("ExLlamaV2 and TabbyAPI"),
    row("exl3", Encoding::Exl3 { millibits: 4000 }, "mean bits, as exl3-3.5bpw", "exllamav3 1.6.5, read")
        .by("ExLlamaV3 and TabbyAPI"),
    row("mlx-4bit", Encoding::Mlx { bits: 4, group: 64 }, "int4, groups of 64", MLX)
        .or(&["mlx", "mlx-int4", "mlx-q4"])
        .taking(Takes::Matrices)
        .by("MLX"),
    row("mlx-8bit", Encoding::Mlx { bits: 8, group: 64 }, "int8, groups of 64", MLX)
        .or(&["mlx-int8", "mlx-q8"])
        .taking(Takes::Matrices)
        .by("MLX"),
    row("mlx-6bit", Encoding::Mlx { bits: 6, group: 64 }, "int6, groups of 64", MLX)
        .or(&["mlx-q6"])
        .taking(Takes::Matrices)
        .by("MLX"),
    row("mlx-3bit", Encoding::Mlx { bits: 3, group: 64 }, "int3, groups of 64", MLX)
        .or(&["mlx-q3"])
        .taking(Takes::Matrices)
        .by("MLX"),
    row("mlx-mxfp4", Encoding::Mxfp4, "fp4, 8-bit exponent for 32", MLX).taking(Takes::Matrices).by("MLX"),
];

const GPTQ: &str = "auto_gptq 0.7.1, qlinear_cuda.py";
const ROUND: &str = "GPTQ's layout without an index; AutoRound's settings";
const OPT: &str = "modelopt 0.47, its export, read";
const BITSANDBYTES: &str = "bitsandbytes 0.50.2, run";

const fn row(name: &'static str, encoding: Encoding, about: &'static str, source: &'static str) -> FormatRow {
    FormatRow {
        name,
        aliases: &[],
        encoding,
        takes: Takes::Linears,
        leaves: &[],
        engines: &[],
        others: "",
        about,
        source,
    }
}

const fn packed(bits: u64, zero_points: bool) -> Encoding {
    Encoding::PackedIntegers { bits, group: 128, zero_points, index: false }
}

const fn tiles() -> Encoding {
    Encoding::Tiles { rows: 128, columns: 128, scale_bytes: 4 }
}

impl FormatRow {
    const fn or(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn on(mut self, engines: &'static [&'static str]) -> Self {
        self.engines = engines;
        self
    }

    const fn by(mut self, others: &'static str) -> Self {
        self.others = others;
        self
    }

    const fn leaving(mut self, leaves: &'static [&'static str]) -> Self {
        self.leaves = leaves;
        self
    }

    const fn taking(mut self, takes: Takes) -> Self {
        self.takes = takes;
        self
    }

    /// Bits of an element of a large square matrix, in ten-thousandths.
    pub fn ten_thousandths_of_bits(&self) -> u64 {
        const SIDE: u64 = 1 << 14;
        let bytes = self.encoding.bytes(SIDE.into(), SIDE, super::Holder::Files);
        (bytes * 80_000u64 / SIDE / SIDE).get().unwrap_or_default()
    }
}

/// The head of an `ExLlama` model.
const EXL_HEAD_MILLIBITS: u64 = 6000;

/// Classes whose routers MLX keeps in 8 bits (`quant_predicate` of `mlx_lm`'s models).
const EIGHT_BIT_ROUTERS: &[&str] = &["qwen3_moe", "qwen3_next"];

impl CheckpointFormat {
    /// What its tool makes of a checkpoint by default.
    pub(crate) fn quantizer(self, model_type: Option<&str>) -> Quantizer {
        let quantizer = match self.encoding {
            // Only the experts of gpt-oss are published in it.
            Encoding::Mxfp4 if model_type == Some("gpt_oss") => Quantizer::new(Takes::Experts, self.encoding),
            Encoding::Exl2 { .. } => Quantizer::new(Takes::Linears, self.encoding)
                .with(Takes::Head, Encoding::Exl2 { millibits: EXL_HEAD_MILLIBITS }),
            Encoding::Exl3 { .. } => Quantizer::new(Takes::Linears, self.encoding)
                .with(Takes::Head, Encoding::Exl3 { millibits: EXL_HEAD_MILLIBITS }),
            Encoding::Mlx { .. } if model_type.is_some_and(|name| EIGHT_BIT_ROUTERS.contains(&name)) => {
                Quantizer::new(Takes::Routers, Encoding::Mlx { bits: 8, group: 64 }).with(self.row.takes, self.encoding)
            }
            Encoding::Awq { .. }
            | Encoding::Gptq { .. }
            | Encoding::PackedIntegers { .. }
            | Encoding::Rows(_)
            | Encoding::Whole { .. }
            | Encoding::Tiles { .. }
            | Encoding::Nvfp4 { .. }
            | Encoding::Mxfp4
            | Encoding::Mxfp8
            | Encoding::Nf4 { .. }
            | Encoding::LlmInt8
            | Encoding::Hqq { .. }
            | Encoding::Mlx { .. } => Quantizer::new(self.row.takes, self.encoding),
        };
        let left_out = self.row.leaves.iter().filter_map(|name| Pattern::parse(name)).collect();
        Quantizer { left_out, ..quantizer }
    }

    /// What its figures leave open.
    pub fn note(self) -> Option<&'static str> {
        let is_mean = matches!(self.encoding, Encoding::Exl2 { .. } | Encoding::Exl3 { .. });
        let is_bitsandbytes = matches!(self.encoding, Encoding::Nf4 { .. } | Encoding::LlmInt8);
        is_mean
            .then_some("its bits are a mean that the quantizer aims at")
            .or(is_bitsandbytes.then_some("bitsandbytes leaves experts that are stacked in one parameter in 16 bits"))
    }
}

impl PartialEq for CheckpointFormat {
    fn eq(&self, other: &Self) -> bool {
        self.row.name == other.row.name && self.encoding == other.encoding
    }
}

impl Eq for CheckpointFormat {}

impl fmt::Display for CheckpointFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.encoding {
            Encoding::Exl2 { millibits } | Encoding::Exl3 { millibits } => {
                let decimals = format!("{:03}", millibits % 1000);
                let decimals = decimals.trim_end_matches('0');
                let decimals = if decimals.is_empty() { "0" } else { decimals };
                write!(f, "{}-{}.{decimals}bpw", self.row.name, millibits / 1000)
            }
            _ => f.write_str(self.row.name),
        }
    }
}

/// Lower case, without what separates parts; a point stays between digits.
fn plain(text: &str) -> String {
    text.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.').collect::<String>().to_lowercase()
}

impl FromStr for CheckpointFormat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let name = plain(text);
        let is_named = |row: &&FormatRow| row.aliases.iter().chain([&row.name]).any(|known| plain(known) == name);
        if let Some(row) = CHECKPOINT_FORMATS.iter().find(is_named) {
            return Ok(Self { row, encoding: row.encoding });
        }
        let bits = |millibits: u64| (1000..=8000).contains(&millibits);
        CHECKPOINT_FORMATS
            .iter()
            .find_map(|row| {
                let millibits = millibits(name.strip_prefix(row.name)?).filter(|&millibits| bits(millibits))?;
                let encoding = match row.encoding {
                    Encoding::Exl2 { .. } => Encoding::Exl2 { millibits },
                    Encoding::Exl3 { .. } => Encoding::Exl3 { millibits },
                    _ => return None,
                };
                Some(Self { row, encoding })
            })
            .ok_or(())
    }
}

/// `4.25bpw`, `4bpw` or `4.0`, in thousandths.
fn millibits(text: &str) -> Option<u64> {
    let number = text.strip_suffix("bpw").unwrap_or(text);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(whole) && digits(fraction)).then(|| format!("{whole}{fraction:0<3}").parse().ok())?
}
