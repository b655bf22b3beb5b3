//! `kvsize levers MODEL`: the levers of the article's "making it fit", each with what it takes and how to repeat it.

use clap::{ArgMatches, Args};

use super::args::OutputArguments;
use super::article::{ARTICLE, REAL};
use super::hardware::ages_of_prices;
use super::options::{Models, Options};
use super::sources::Places;
use super::{Answer, COMMANDS, Subcommand, typed};
use crate::catalogue::{AcceleratorEntry, Figure};
use crate::engine::{Known, Term, quoted};
use crate::estimate::{Workload, estimate};
use crate::model::Model;
use crate::report::{ArticleStatement, ByItsRule, Gpu, Strategies, Typed};
use crate::request::{Ask, Fleet, Group, Selection, Sources, Weigh, past_maximum};
use crate::source;
use crate::strategy::{Question, Speed, Streaming, article, strategies, usable};
use crate::units::{Code, Error, Passages, Tokens};

const OPTIONS: Options = Options {
    selection: Selection {
        groups: &[
            Group::Model,
            Group::Workload,
            Group::Device,
            Group::Terms,
            Group::Gpus,
            Group::Accelerators,
            Group::Sources,
        ],
        without: "kv-dtype k-dtype v-dtype bitwidth engine windows speculative-method num-speculative-tokens \
            draft tp pp dp dcp memory weights-dtype overhead utilization capacity",
    },
    models: Models::One,
    lists: &[],
    about: include_str!("about/levers.txt"),
    brief: "model seq-len batch gpu weights sinks window retrieve shared-prefix encoder-len gpu-memory \
            price catalogue offline strict",
};

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "levers",
    about: "The article's levers to make it fit, each with its bytes, its GPUs and its command",
    options: Some(&OPTIONS),
    arguments: StrategiesOutput::augment_args,
    run,
    ..Subcommand::BARE
};

/// The article counts in these.
const GIGABYTE: u64 = 1_000_000_000;

/// The article's.
const USUAL_GPU: &str = "8xh100";
const USUAL_LENGTH: (Tokens, &str) = (Tokens(10_000_000), "10m");

#[derive(Debug, Args)]
struct StrategiesOutput {
    /// Adds the least time that bandwidth and peak rate leave each row: floors, not predictions
    #[arg(long)]
    floors: bool,
    #[command(flatten)]
    output: OutputArguments,
}

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let StrategiesOutput { floors, output } = typed(matches)?;
    let ask = OPTIONS.ask(matches)?;
    let places = Places::new(&ask)?;
    let fleet = fleet(&ask, &places)?;
    let gpu = gpu(&fleet)?;
    let streaming = Streaming { sinks: ask.sinks.unwrap_or(4), window: ask.window.unwrap_or(Tokens(4096)) };
    let retrieval = ask.retrieve.unwrap_or(Passages { count: 20, length: Tokens(512) });
    let Some(named) = ask.models.first() else {
        return Err(Error::without_value(Code::Model, "MODEL", "missing", "name one (`kvsize models` lists them)"));
    };
    let model = places.model(named, "model", Weigh::Yes)?;
    let seq_len = ask.one_seq_len()?.or(model.max_position_embeddings).unwrap_or(USUAL_LENGTH.0);
    let typed_length = matches.try_get_one::<String>("seq-len").ok().flatten();
    let usual = || model.max_position_embeddings.map_or(USUAL_LENGTH.1.to_owned(), |maximum| maximum.0.to_string());
    let length = typed_length.map_or_else(usual, Clone::clone);
    refuse_what_is_too_long(&ask, seq_len)?;
    let workload = Workload {
        kv_dtype: model.dtype.into(),
        encoder_len: ask.encoder_len,
        ..Workload::of(seq_len, ask.one_batch()?.unwrap_or(1))
    };
    let weights = ask.weights.or_else(|| model.weights.as_ref()?.bytes);
    let (usable, per_node) = (usable(gpu.memory), gpu.per_node);
    let shared_prefix = ask.shared_prefix;
    let question = Question { model: &model, workload, streaming, retrieval, shared_prefix, usable, per_node, weights };
    let rows = strategies(&question)?;
    let typed = Typed { estimate: estimate_of(named.text()), seq_len: length, extra: extra(&ask) };
    let statement = statement(&question, &fleet)?;
    let warnings = Vec::from_iter(past_maximum(&model, Some(seq_len)));
    let floors = floors.then(|| figures(fleet.entry.as_ref()));
    let document = Strategies::new(&question, &rows, &typed, gpu, floors, statement, &warnings);
    let mut answer = output.answer(&ask, &document, document.notes.clone())?;
    answer.notes.extend(ages_of_prices(std::iter::once(&fleet)));
    Ok(answer)
}

/// A lever that is given must be one that the length allows; the usual ones are shown as not usable instead.
fn refuse_what_is_too_long(ask: &Ask, seq_len: Tokens) -> Result<(), Error> {
    let refused = |field: &str, found: String, remedy: &str| {
        let problem = format!("is more than the {seq_len} tokens of a sequence");
        Err(Error::new(Code::TooManyTokens, field, found, problem, remedy))
    };
    match (ask.sinks, ask.retrieve, ask.shared_prefix) {
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
    format!("{command} {}", quoted(model))
}

/// What is said alike in every command.
fn extra(ask: &Ask) -> Vec<(&'static str, String)> {
    let encoder = ask.encoder_len.map(|tokens| ("--encoder-len", tokens.0.to_string()));
    let catalogue = ask.catalogue.as_ref().map(|path| ("--catalogue", path.display().to_string()));
    encoder.into_iter().chain(catalogue).collect()
}

/// The GPUs that are asked about.
fn fleet(ask: &Ask, sources: &dyn Sources) -> Result<Fleet, Error> {
    let named = match (ask.one_gpu()?, ask.gpu_memory) {
        (None, None) => ask.named_fleets([USUAL_GPU].into_iter(), sources)?,
        _ => ask.fleets(sources)?,
    };
    named.into_iter().next().ok_or_else(|| Error::missing("--gpu", "name the GPUs, as --gpu 8xh100"))
}

/// Of a memory that was given, that; else what the driver reports, of which nine tenths are counted; else what is known.
fn gpu(fleet: &Fleet) -> Result<Gpu, Error> {
    let accelerator = &fleet.accelerator;
    let given = accelerator.total().filter(|total| total.known == Known::Given);
    let memory = given.or_else(|| accelerator.driver.clone()).or_else(|| accelerator.total());
    let memory = memory.or_else(|| accelerator.marketed.clone()).ok_or_else(|| {
        let problem = "has a memory that is not known here";
        Error::new(Code::GpuMemory, "--gpu", accelerator.id.clone(), problem, "give it with --gpu-memory")
    })?;
    let (name, per_node) = (accelerator.id.clone(), fleet.count.unwrap_or(1));
    let (memory, price) = (memory.bytes, fleet.price.as_ref().map(Into::into));
    Ok(Gpu { name, per_node, memory_mib: memory.0 >> 20, memory, price })
}

/// The figures of a device that have a source. A rate is rounded up, so that a floor stays one.
fn figures(entry: Option<&AcceleratorEntry>) -> Speed {
    let figure = |figure: Figure<u64>| (figure.value, figure.source);
    let (bandwidth, bandwidth_source) = entry.and_then(|entry| entry.bandwidth_mb_s.clone()).map(figure).unzip();
    let (bf16_gflops, bf16_source) = entry.and_then(|entry| entry.bf16_gflops.clone()).map(figure).unzip();
    let bandwidth_gb_s = bandwidth.map(|bandwidth| bandwidth.div_ceil(1_000));
    Speed { bandwidth_gb_s, bandwidth_source, bf16_gflops, bf16_source }
}

/// What the article says, of its own model and of the one it stands for.
fn statement(question: &Question, fleet: &Fleet) -> Result<Option<ArticleStatement>, Error> {
    let gigabytes =
        |sold: &Term| sold.bytes.0.checked_div(GIGABYTE).filter(|_| sold.bytes.0.checked_rem(GIGABYTE) == Some(0));
    let Some(marketed_gb) = fleet.accelerator.marketed.as_ref().and_then(gigabytes) else { return Ok(None) };
    let alike = |known: &Model| known.layer_groups == question.model.layer_groups;
    let its_own = source::resolve(ARTICLE)?;
    let bytes = |model: &Model| Ok::<_, Error>(estimate(model, &question.workload)?.bytes);
    let is_its_own = alike(&its_own);
    if !is_its_own && !alike(&source::resolve(REAL)?) {
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
    let per_node = question.per_node;
    Ok(Some(ArticleStatement { bytes: counted, marketed_gb, gpus, per_node, named, real }))
}
