//! Arguments as they are typed: what clap reads, and nothing that is decided.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::PossibleValue;
use clap::{Args, Parser, ValueEnum};

use crate::engine::Engine;
use crate::model::{DraftMethod, ModelSpec};
use crate::report::{Format, UnitChoice};
use crate::strategy::{Levers, Streaming};
use crate::units::{ByteUnit, Bytes, ElementFormat, Error, KvDtype, Passages, Tokens, parse_count};

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Table, Self::Plain, Self::Json, Self::Jsonl, Self::Csv, Self::Markdown]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            Self::Table => "table",
            Self::Plain => "plain",
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Markdown => "markdown",
        }))
    }
}

const AFTER_HELP: &str = "More options, and the settings of each engine under its own names: --help.\n\nExit status: 0 answered, 1 it does not fit (fit, plan, check), 2 the question could not be answered.";

// The commands are added in `super::command`, and the long help below the options in `super::help`; without a command it is the estimate of a model.
/// How many bytes the KV cache of a language model takes
#[derive(Debug, Parser)]
#[command(
    name = "kvsize",
    version,
    max_term_width = 98,
    override_usage = "kvsize [OPTIONS] MODEL...\n       kvsize COMMAND [OPTIONS]",
    disable_help_subcommand = true,
    after_help = AFTER_HELP
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) estimate: EstimateArguments,
}

#[derive(Debug, Args)]
pub(super) struct EstimateArguments {
    /// A catalogue name, a config.json or GGUF file, a directory with one, - for standard input, or an id on the Hugging Face
    /// hub (org/name); several stand side by side
    ///
    /// An id may name a revision, and one of several GGUF files or the tag that tells it from the others:
    /// org/name[@revision][:FILE]. It is looked for in the catalogue, then in the local cache of the hub, then on the hub, from
    /// which configurations and headers are received and never the weights.
    #[arg(value_name = "MODEL")]
    pub(super) models: Vec<String>,
    #[command(flatten)]
    pub(super) spec: SpecArguments,
    #[command(flatten)]
    pub(super) workload: WorkloadArguments,
    #[command(flatten)]
    pub(super) device: DeviceArguments,
    #[command(flatten)]
    pub(super) output: OutputArguments,
    /// Several models: smallest first by this, at the longest length [default: bytes]
    #[arg(long, value_name = "KEY", value_enum)]
    pub(super) sort: Option<SortKey>,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    pub(super) catalogue: Option<PathBuf>,
    #[command(flatten)]
    pub(super) hub: HubArguments,
    /// Warnings become errors
    #[arg(long)]
    pub(super) strict: bool,
}

#[derive(Debug, Args)]
pub(super) struct HubArguments {
    /// The hub is not asked: an org/name is looked for in the catalogue and the local cache [env: `HF_HUB_OFFLINE`]
    #[arg(long)]
    pub(super) offline: bool,
}

/// What several models are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SortKey {
    /// Bytes
    Bytes,
    /// Bytes of one more token
    BytesPerToken,
    /// Name
    Name,
    /// The order they are given in
    Given,
}

impl ValueEnum for DraftMethod {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Mtp, Self::DraftModel, Self::Eagle, Self::Ngram]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Mtp => PossibleValue::new("mtp").help("The model's own layers for it"),
            Self::DraftModel => PossibleValue::new("draft_model").alias("draft").help("A smaller model"),
            Self::Eagle => PossibleValue::new("eagle3").alias("eagle").help("A head trained for it"),
            Self::Ngram => PossibleValue::new("ngram").help("What the text said before"),
        })
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "A model from flags")]
pub(super) struct SpecArguments {
    /// Layers
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    layers: Option<u64>,
    /// Width of the model
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    hidden_size: Option<u64>,
    /// KV heads
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    kv_heads: Option<u64>,
    /// Query heads; with --hidden-size they give the head dimension
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    heads: Option<u64>,
    /// Elements of K in one head, and of V unless --v-head-dim says otherwise
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    head_dim: Option<u64>,
    /// Elements of V in one head
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true, hide_short_help = true)]
    v_head_dim: Option<u64>,
    /// Every layer keeps this many tokens at most
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true, hide_short_help = true)]
    sliding_window: Option<Tokens>,
    /// A name to print
    #[arg(long, value_name = "NAME", hide_short_help = true)]
    name: Option<String>,
}

impl SpecArguments {
    pub(super) fn spec(&self) -> ModelSpec {
        ModelSpec {
            name: self.name.clone(),
            layers: self.layers,
            hidden_size: self.hidden_size,
            kv_heads: self.kv_heads,
            heads: self.heads,
            head_dim: self.head_dim,
            v_head_dim: self.v_head_dim,
            sliding_window: self.sliding_window.map(|window| window.0),
        }
    }
}

// Defaults are stated in the help and filled in where they are used: as default values here they would be parsed at
// each start.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workload")]
pub(super) struct WorkloadArguments {
    /// Tokens of each sequence, a list; k m g are powers of 1000, K M G of 1024
    ///
    /// Without it: 1,000; 10,000; 1,000,000; 10,000,000 tokens, no further than the model's own maximum, which is added.
    #[arg(
        short,
        long,
        visible_aliases = ["context", "max-model-len"],
        value_name = "TOKENS",
        value_delimiter = ',',
        value_parser = TypedTokens::from_str,
        allow_hyphen_values = true
    )]
    pub(super) seq_len: Vec<TypedTokens>,
    /// Sequences, a list [default: 1]
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = parse_count, allow_hyphen_values = true)]
    pub(super) batch: Vec<u64>,
    /// Formats of cached elements, a list (`kvsize formats`)
    ///
    /// Without it: the 16-bit format of the checkpoint (fp16 for a model from flags), and fp8.
    #[arg(
        short = 'd',
        long,
        visible_alias = "kv-cache-dtype",
        value_name = "FORMAT",
        value_delimiter = ',',
        value_parser = KvDtype::from_str
    )]
    pub(super) kv_dtype: Vec<KvDtype>,
    /// Format of K, where it differs from that of V
    #[arg(
        long,
        visible_alias = "cache-type-k",
        value_name = "FORMAT",
        value_parser = ElementFormat::from_str,
        conflicts_with_all = ["kv_dtype", "bitwidth"],
        hide_short_help = true
    )]
    pub(super) k_dtype: Option<ElementFormat>,
    /// Format of V, where it differs from that of K
    #[arg(
        long,
        visible_alias = "cache-type-v",
        value_name = "FORMAT",
        value_parser = ElementFormat::from_str,
        conflicts_with_all = ["kv_dtype", "bitwidth"],
        hide_short_help = true
    )]
    pub(super) v_dtype: Option<ElementFormat>,
    /// Plain bits per element, a list, as the article's bitwidth
    #[arg(
        long,
        value_name = "BITS",
        value_delimiter = ',',
        value_parser = parse_count,
        allow_hyphen_values = true,
        conflicts_with = "kv_dtype",
        hide_short_help = true
    )]
    pub(super) bitwidth: Vec<u64>,
    /// Tokens that an encoder gives to cross-attention [default: the model's own maximum]
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true, hide_short_help = true)]
    pub(super) encoder_len: Option<Tokens>,
    /// Whose allocation is told, a list: ideal (the live bytes, the default) or an engine (`kvsize engines`)
    ///
    /// An engine may be followed by its version: vllm@0.19. Its settings have its own names; several engines stand side by
    /// side.
    #[arg(short, long, value_name = "ENGINE", value_delimiter = ',', value_parser = Engine::from_str)]
    pub(super) engine: Vec<Engine>,
    /// Tokens at the start that all sequences of a batch share, and that are kept once
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true, hide_short_help = true)]
    pub(super) shared_prefix: Option<Tokens>,
    #[command(flatten)]
    pub(super) levers: LeverArguments,
    /// Draft tokens with mtp (the model's own layers for it), ngram, or a --draft model: `draft_model` or eagle3
    #[arg(long, value_name = "METHOD", value_enum, hide_possible_values = true, hide_short_help = true)]
    pub(super) speculative_method: Option<DraftMethod>,
    /// Tokens drafted at a time; engines reserve room for them, the ideal does not [default: 1]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true, requires = "speculative_method", hide_short_help = true)]
    pub(super) num_speculative_tokens: Option<u64>,
    /// The draft model, named as MODEL is
    #[arg(long, value_name = "CONFIG", requires = "speculative_method", hide_short_help = true)]
    pub(super) draft: Option<String>,
    /// Tensor parallel ranks [default: 1]
    #[arg(
        long,
        visible_alias = "tensor-parallel-size",
        value_name = "N",
        value_parser = parse_count,
        allow_hyphen_values = true
    )]
    pub(super) tp: Option<u64>,
    /// Pipeline stages [default: 1]
    #[arg(
        long,
        visible_alias = "pipeline-parallel-size",
        value_name = "N",
        value_parser = parse_count,
        allow_hyphen_values = true
    )]
    pub(super) pp: Option<u64>,
    /// Replicas, each with a batch of its own [default: 1]
    #[arg(
        long,
        visible_alias = "data-parallel-size",
        value_name = "N",
        value_parser = parse_count,
        allow_hyphen_values = true,
        hide_short_help = true
    )]
    pub(super) dp: Option<u64>,
    /// Tensor parallel ranks that each keep a part of a sequence's tokens [default: 1]
    #[arg(
        long,
        visible_alias = "decode-context-parallel-size",
        value_name = "N",
        value_parser = parse_count,
        allow_hyphen_values = true,
        hide_short_help = true
    )]
    pub(super) dcp: Option<u64>,
}

// The memory and the device of an estimate; where hardware is asked about, both come from it. (A doc comment on arguments
// that are flattened would be the help of the command.)
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workload")]
pub(super) struct DeviceArguments {
    /// Bytes on each GPU that the cache may take, net of all else: what an engine makes of them
    #[arg(long, value_name = "BYTES", value_parser = Bytes::from_str, allow_hyphen_values = true)]
    pub(super) memory: Option<Bytes>,
    /// The device that an engine's defaults depend on (`kvsize gpus`), or local [default: h100-sxm]
    #[arg(long, value_name = "GPU")]
    pub(super) gpu: Option<String>,
    /// A JSON file of accelerators of your own, which shadow the catalogue's [env: `KVSIZE_ACCELERATORS`]
    #[arg(long, value_name = "FILE")]
    pub(super) accelerators: Option<PathBuf>,
}

// What `kvsize strategies` compares, as options of one estimate.
#[derive(Debug, Clone, Args)]
pub(super) struct LeverArguments {
    /// Attention sinks: the first N tokens stay, with the last --window tokens (ideal only)
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true, requires = "window", conflicts_with = "shared_prefix", hide_short_help = true)]
    pub(super) sinks: Option<u64>,
    /// The last tokens that stay with --sinks
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true, requires = "sinks", hide_short_help = true)]
    pub(super) window: Option<Tokens>,
    /// Windows and chunks: honoured (the default), or kept whole, every token in every layer (ideal only)
    #[arg(long, value_name = "HOW", value_enum, hide_possible_values = true, hide_short_help = true)]
    pub(super) windows: Option<Windows>,
    /// Passages that a prompt is given in place of the whole text, as 20x512: they are the sequence
    #[arg(long, value_name = "NxTOKENS", value_parser = Passages::from_str, allow_hyphen_values = true, conflicts_with = "seq_len", hide_short_help = true)]
    pub(super) retrieve: Option<Passages>,
}

impl LeverArguments {
    pub(super) fn levers(&self) -> Levers {
        let streaming = self.sinks.zip(self.window).map(|(sinks, window)| Streaming { sinks, window });
        Levers { streaming, windows_kept: self.windows == Some(Windows::Kept), retrieval: self.retrieve }
    }
}

/// What becomes of windows and chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Windows {
    /// A layer keeps no more than its window or chunk
    Honoured,
    /// Every layer keeps every token
    Kept,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArguments {
    #[command(flatten)]
    pub(super) format: FormatArguments,
    /// Unit of printed bytes: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB or auto [default: GB]
    #[arg(long, value_name = "UNIT", value_parser = unit_choice)]
    unit: Option<UnitChoice>,
}

impl OutputArguments {
    pub(super) fn unit(&self) -> UnitChoice {
        self.unit.unwrap_or(UnitChoice::Fixed(ByteUnit::Gigabytes))
    }
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct FormatArguments {
    /// How the answer is written [default: table]
    #[arg(short, long, value_name = "FORMAT", value_enum)]
    format: Option<Format>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    // Not global: clap would copy it into every command at each start.
    /// No notes or warnings on stderr
    #[arg(short, long)]
    pub(super) quiet: bool,
}

impl FormatArguments {
    /// Whether the answer is for programs, which get more of it.
    pub(super) fn for_programs(&self) -> bool {
        matches!(self.format(), Format::Json | Format::Jsonl)
    }

    pub(super) fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format.unwrap_or(Format::Table) }
    }
}

#[derive(Debug, Args)]
pub(super) struct ModelListArguments {
    #[command(flatten)]
    pub(super) list: ListArguments,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    pub(super) catalogue: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct GpuListArguments {
    #[command(flatten)]
    pub(super) list: ListArguments,
    /// A JSON file of accelerators of your own, which shadow the catalogue's [env: `KVSIZE_ACCELERATORS`]
    #[arg(long, value_name = "FILE")]
    pub(super) accelerators: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    /// Only names that contain this
    #[arg(value_name = "PATTERN")]
    pub(super) pattern: Option<String>,
    #[command(flatten)]
    pub(super) format: FormatArguments,
}

/// Tokens, and the text they were typed as.
#[derive(Debug, Clone)]
pub(super) struct TypedTokens {
    pub(super) tokens: Tokens,
    pub(super) text: String,
}

impl FromStr for TypedTokens {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(Self { tokens: text.parse()?, text: text.to_owned() })
    }
}

pub(super) fn unit_choice(text: &str) -> Result<UnitChoice, Error> {
    if text == "auto" { Ok(UnitChoice::Auto) } else { text.parse().map(UnitChoice::Fixed) }
}
