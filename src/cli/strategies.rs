//! `kvsize strategies MODEL`: the levers of the article's "making it fit", each with what it takes and how to repeat it.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::args::{HubArguments, OutputArguments, TypedTokens};
use super::article::{ARTICLE, REAL};
use super::estimate::{Places, overlay_for, past_maximum};
use super::gpus::{Fleet, GpuArguments, OfGpuArguments, ages};
use super::{ANSWERED, Answer, COMMANDS, Subcommand, hub, refuse_warnings, typed};
use crate::catalogue::AcceleratorEntry;
use crate::estimate::{Workload, estimate};
use crate::hardware::{Known, Term};
use crate::model::Model;
use crate::report::{self, ArticleStatement, ByItsRule, Gpu, SpeedFigures, Strategies, Typed};
use crate::source;
use crate::strategy::{Hardware, Question, Streaming, article, strategies};
use crate::units::{Bytes, Code, Error, Notes, Passages, Tokens, parse_count};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "strategies",
    about: "The article's levers to make it fit, each with its bytes, its GPUs and its command",
    arguments: StrategiesArguments::augment_args,
    notes: "",
    examples: &[
        ("Every lever for the article's model and its ten million tokens", "kvsize strategies article"),
        ("A real model at 131,072 tokens, on nodes of 8 H200", "kvsize strategies llama-3.1-70b -s 128K --gpu 8xh200"),
        ("With the least time that bandwidth and peak rates leave", "kvsize strategies llama-4-scout -s 1m --floors"),
    ],
    statuses: ANSWERED,
    run: |matches| run(&typed(matches)?),
};

/// The article counts in these.
const GIGABYTE: u64 = 1_000_000_000;

/// The article's.
const USUAL_GPU: &str = "8xh100";
const USUAL_LENGTH: &str = "10m";

#[derive(Debug, Args)]
struct StrategiesArguments {
    /// A catalogue name, a config.json or GGUF file, a directory with one, - for standard input, or an id on the hub
    /// (org/name[@revision][:FILE])
    #[arg(value_name = "MODEL")]
    model: String,
    /// Tokens of each sequence; k m g are powers of 1000, K M G of 1024 [default: 10m, the article's]
    #[arg(
        short,
        long,
        visible_aliases = ["context", "max-model-len"],
        value_name = "TOKENS",
        value_parser = TypedTokens::from_str,
        allow_hyphen_values = true
    )]
    seq_len: Option<TypedTokens>,
    /// Sequences [default: 1]
    #[arg(short, long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    batch: Option<u64>,
    /// A kind of GPU, and how many are in a node [default: 8xh100]
    #[arg(long, value_name = "[Nx]GPU", allow_hyphen_values = true, help_heading = "Hardware")]
    gpu: Option<String>,
    /// Bytes of the weights [default: what `kvsize weights` says, if it is known]
    #[arg(long, value_name = "BYTES", value_parser = Bytes::from_str, allow_hyphen_values = true)]
    weights: Option<Bytes>,
    /// Attention sinks: the first N tokens stay [default: 4]
    #[arg(long, value_name = "N", value_parser = parse_count, allow_hyphen_values = true)]
    sinks: Option<u64>,
    /// The last tokens that stay with them [default: 4096]
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true)]
    window: Option<Tokens>,
    /// Passages that a prompt is given in place of the whole text [default: 20x512]
    #[arg(long, value_name = "NxTOKENS", value_parser = Passages::from_str, allow_hyphen_values = true)]
    retrieve: Option<Passages>,
    /// Tokens at the start that all sequences of a batch share [default: half of them]
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true)]
    shared_prefix: Option<Tokens>,
    /// Tokens that an encoder gives to cross-attention [default: the model's own maximum]
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true)]
    encoder_len: Option<Tokens>,
    /// Adds the least time that bandwidth and peak rate leave each row: floors, not predictions
    #[arg(long)]
    floors: bool,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArguments,
    /// Warnings become errors
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    of_gpu: OfGpuArguments,
    #[command(flatten)]
    output: OutputArguments,
}

fn run(arguments: &StrategiesArguments) -> Result<Answer, Error> {
    let fleet = fleet(arguments)?;
    let gpu = gpu(&fleet)?;
    let usual = TypedTokens { tokens: Tokens(10_000_000), text: USUAL_LENGTH.into() };
    let length = arguments.seq_len.as_ref().unwrap_or(&usual);
    let streaming = Streaming { sinks: arguments.sinks.unwrap_or(4), window: arguments.window.unwrap_or(Tokens(4096)) };
    let retrieval = arguments.retrieve.unwrap_or(Passages { count: 20, length: Tokens(512) });
    refuse_what_is_too_long(arguments, length.tokens)?;
    let names = [&arguments.model];
    let overlay = overlay_for(names, arguments.catalogue.as_deref())?;
    let places = Places { overlay, hub: hub::settings_for(names, &arguments.hub) };
    let model = places.model(&arguments.model, true)?;
    let workload = Workload {
        kv_dtype: model.dtype.into(),
        encoder_len: arguments.encoder_len,
        ..Workload::of(length.tokens, arguments.batch.unwrap_or(1))
    };
    let weights = arguments.weights.or_else(|| model.weights.as_ref()?.bytes);
    let hardware = Hardware::of(gpu.memory, gpu.per_node);
    let shared_prefix = arguments.shared_prefix;
    let question = Question { model: &model, workload, streaming, retrieval, shared_prefix, hardware, weights };
    let rows = strategies(&question)?;
    let typed =
        Typed { estimate: estimate_of(&arguments.model), seq_len: length.text.clone(), extra: extra(arguments) };
    let statement = statement(&question, &fleet)?;
    let warnings = past_maximum(&model, Some(length.tokens));
    let floors = arguments.floors.then(|| figures(fleet.entry.as_ref()));
    let document = Strategies::new(&question, &rows, &typed, gpu, floors, statement, &warnings);
    refuse_warnings(arguments.strict, &document.notes.warnings)?;
    let data = report::render(&document, arguments.output.format.format(), arguments.output.unit());
    let Notes { assumptions: mut notes, warnings } = document.notes;
    notes.extend(ages(fleet.price.as_ref().map(|price| (fleet.accelerator.id.as_str(), price))));
    Ok(Answer { quiet: arguments.output.format.quiet, data, notes, warnings, ..Answer::default() })
}

/// A lever that is given must be one that the length allows; the usual ones are shown as not usable instead.
fn refuse_what_is_too_long(arguments: &StrategiesArguments, seq_len: Tokens) -> Result<(), Error> {
    let refused = |field: &str, found: String, remedy: &str| {
        Err(Error {
            code: Code::TooManyTokens,
            field: field.into(),
            found: Some(found),
            problem: format!("is more than the {seq_len} tokens of a sequence"),
            remedy: remedy.into(),
        })
    };
    match (arguments.sinks, arguments.retrieve, arguments.shared_prefix) {
        (Some(sinks), ..) if sinks > seq_len.0 => refused("--sinks", sinks.to_string(), "give fewer, 4 as published"),
        (_, Some(passages), _) if passages.tokens().is_none_or(|tokens| tokens > seq_len) => {
            refused("--retrieve", passages.to_string(), "give fewer passages, or a longer --seq-len")
        }
        (.., Some(prefix)) if prefix > seq_len => {
            refused("--shared-prefix", prefix.to_string(), "give at most --seq-len")
        }
        _ => Ok(()),
    }
}

/// `kvsize MODEL`, or `kvsize estimate MODEL` where the model has the name of a command.
fn estimate_of(model: &str) -> String {
    let command = if COMMANDS.iter().any(|command| command.name == model) { "kvsize estimate" } else { "kvsize" };
    format!("{command} {}", report::quoted(model))
}

/// What is said alike in every command.
fn extra(arguments: &StrategiesArguments) -> Vec<(&'static str, String)> {
    let encoder = arguments.encoder_len.map(|tokens| ("--encoder-len", tokens.0.to_string()));
    let catalogue = arguments.catalogue.as_ref().map(|path| ("--catalogue", path.display().to_string()));
    encoder.into_iter().chain(catalogue).collect()
}

/// The GPUs that are asked about.
fn fleet(arguments: &StrategiesArguments) -> Result<Fleet, Error> {
    match (&arguments.gpu, arguments.of_gpu.gpu_memory) {
        (None, Some(_)) => {
            let of_gpu = arguments.of_gpu.clone();
            let mut fleets = GpuArguments { gpu: Vec::new(), of_gpu }.fleets()?.into_iter();
            fleets.next().map_or_else(|| arguments.of_gpu.fleet(USUAL_GPU), Ok)
        }
        (gpu, _) => arguments.of_gpu.fleet(gpu.as_deref().unwrap_or(USUAL_GPU)),
    }
}

/// Of a memory that was given, that; else what the driver reports, of which nine tenths are counted; else what is known.
fn gpu(fleet: &Fleet) -> Result<Gpu, Error> {
    let accelerator = &fleet.accelerator;
    let given = accelerator.total().filter(|total| total.known == Known::Given);
    let memory = given.or_else(|| accelerator.driver.clone()).or_else(|| accelerator.total());
    let Some(memory) = memory.or_else(|| accelerator.marketed.clone()) else {
        return Err(Error {
            code: Code::GpuMemory,
            field: "--gpu".into(),
            found: Some(accelerator.id.clone()),
            problem: "has a memory that is not known here".into(),
            remedy: "give it with --gpu-memory".into(),
        });
    };
    let price = fleet.price.as_ref();
    Ok(Gpu {
        name: accelerator.id.clone(),
        per_node: fleet.count.unwrap_or(1),
        memory: memory.bytes,
        price: price.map(Into::into),
    })
}

/// The figures of a device that have a source. A rate is rounded up, so that a floor stays one.
fn figures(entry: Option<&AcceleratorEntry>) -> SpeedFigures {
    let bandwidth = entry.and_then(|entry| entry.bandwidth_mb_s.clone());
    let bf16 = entry.and_then(|entry| entry.bf16_gflops.clone());
    SpeedFigures {
        bandwidth_gb_s: bandwidth.as_ref().map(|figure| figure.value.div_ceil(1_000)),
        bandwidth_source: bandwidth.map(|figure| figure.source),
        bf16_gflops: bf16.as_ref().map(|figure| figure.value),
        bf16_source: bf16.map(|figure| figure.source),
    }
}

/// What the article says, of its own model and of the one it stands for.
fn statement(question: &Question, fleet: &Fleet) -> Result<Option<ArticleStatement>, Error> {
    let gigabytes =
        |sold: &Term| sold.bytes.0.checked_div(GIGABYTE).filter(|_| sold.bytes.0.checked_rem(GIGABYTE) == Some(0));
    let Some(marketed_gb) = fleet.accelerator.marketed.as_ref().and_then(gigabytes) else { return Ok(None) };
    let look_up = |name| source::resolve(name, &mut io::empty(), &[]);
    let alike = |known: &Model| known.layer_groups == question.model.layer_groups;
    let its_own = look_up(ARTICLE)?;
    let bytes = |model: &Model| Ok::<_, Error>(estimate(model, &question.workload)?.bytes);
    let is_its_own = alike(&its_own);
    if !is_its_own && !alike(&look_up(REAL)?) {
        return Ok(None);
    }
    let counted = bytes(&its_own)?;
    let rule = |cache, weights| article::gpus(cache, weights, marketed_gb).unwrap_or(u64::MAX);
    let named = fleet.accelerator.id == article::DEVICE
        && question.workload.seq_len == article::SEQ_LEN
        && question.workload.batch == 1;
    let real = if is_its_own {
        None
    } else {
        let [real, whole] = [bytes(question.model)?, bytes(&question.model.keeping_every_token())?];
        let weights = question.weights.unwrap_or(article::REAL_WEIGHTS);
        Some([real, whole].map(|bytes| ByItsRule { bytes, gpus: rule(bytes, weights) }))
    };
    let gpus = rule(counted, article::WEIGHTS);
    let per_node = question.hardware.per_node;
    Ok(Some(ArticleStatement { bytes: counted, marketed_gb, gpus, per_node, named, real }))
}
