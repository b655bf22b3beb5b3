//! What `fit` and `plan` ask alike: the model and its weights, the memory of GPUs, and how an answer is gathered.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::PossibleValue;
use clap::{ArgMatches, Args, Command, ValueEnum};

use super::args::{HubArguments, SpecArguments, WorkloadArguments};
use super::estimate::{Places, common, drafted, engines, formats, needs_encoder, overlay_for};
use super::explain::described;
use super::gpus::{self, Fleet};
use super::single::one;
use super::{hub, levers};
use crate::engine::{Allocation, Double, Engine, SettingValue};
use crate::estimate::{Layout, Workload};
use crate::fit::{Budgets, GivenLayout, Memory, Question, Server, Sizes, Total, layouts_of, weights_of};
use crate::hardware::{DRIVER_LESS_VISIBLE, Known, Price, Term, exact_size};
use crate::model::Model;
use crate::report::{Fitted, Served};
use crate::units::{Bytes, Code, ElementFormat, Error, KvDtype, Tokens};

/// GPUs of a node, where nobody says.
pub(super) const PER_NODE: u64 = 8;

/// The options of the estimate that take lists and here take one value.
pub(super) fn asks_of_one_length(command: Command) -> Command {
    described(
        command,
        &[
            ("seq_len", "Tokens of a request [default: the longest that fits]"),
            ("batch", "Requests at once, over all replicas [default: 1]"),
            (
                "kv_dtype",
                "Formats of cached elements, a list [default: the checkpoint's 16 bits, or what the engine takes]",
            ),
            (
                "engine",
                "Whose allocation is told, a list: ideal (the live bytes, the default) or an engine (`kvsize engines`)",
            ),
            (
                "tp",
                "Tensor parallel ranks [default: as many as a node has, as divide the heads, and as keep no KV head twice]",
            ),
            ("pp", "Pipeline stages [default: what the ranks leave over]"),
            ("dp", "Replicas, each with requests of its own [default: 1, or as many as it takes]"),
        ],
    )
}

// The model, and where it is looked for. (A doc comment here would be the help of the command.)
#[derive(Debug, Args)]
pub(super) struct SubjectArguments {
    /// A catalogue name, a config.json or GGUF file, a directory with one, - for standard input, or an id on the hub
    /// (org/name[@revision][:FILE])
    #[arg(value_name = "MODEL")]
    pub(super) model: Option<String>,
    #[command(flatten)]
    spec: SpecArguments,
    /// A JSON file of models of your own, which shadow the catalogue's [env: `KVSIZE_CATALOGUE`]
    #[arg(long, value_name = "FILE")]
    catalogue: Option<PathBuf>,
    #[command(flatten)]
    hub: HubArguments,
    /// Warnings become errors
    #[arg(long)]
    pub(super) strict: bool,
}

impl ValueEnum for Total {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Visible, Self::Driver, Self::Marketed]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()))
    }
}

// The memory of a GPU, and what is asked of it. (A doc comment here would be the help of the command.)
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Memory")]
pub(super) struct MemoryArguments {
    #[command(flatten)]
    pub(super) terms: TermArguments,
    /// Tokens that requests have on average: how many of these there is room for, too
    #[arg(long, value_name = "TOKENS", value_parser = Tokens::from_str, allow_hyphen_values = true)]
    pub(super) avg_seq_len: Option<Tokens>,
}

// The terms of the memory of a GPU.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Memory")]
pub(super) struct TermArguments {
    /// Bytes of the weights of one replica [default: what `kvsize weights` says, if it is known]
    #[arg(long, value_name = "BYTES", value_parser = Bytes::from_str, allow_hyphen_values = true)]
    pub(super) weights: Option<Bytes>,
    /// What if the weights were in this format: every parameter of layers, the embeddings as they are
    #[arg(long, value_name = "FORMAT", value_parser = ElementFormat::from_str, conflicts_with = "weights", hide_short_help = true)]
    pub(super) weights_dtype: Option<ElementFormat>,
    /// Bytes on each GPU that the engine needs beside weights and cache [default: estimated]
    #[arg(long, value_name = "BYTES", value_parser = Bytes::from_str, allow_hyphen_values = true)]
    overhead: Option<Bytes>,
    /// The share of a GPU's memory that the engine takes [default: the engine's own; 0.9 for ideal]
    #[arg(
        long,
        visible_alias = "gpu-memory-utilization",
        value_name = "RATIO",
        value_parser = share,
        allow_hyphen_values = true
    )]
    pub(super) utilization: Option<Double>,
    /// Which total of a GPU is counted with: what an engine is told (the default), what the driver reports, or what it is
    /// sold with
    #[arg(long, value_name = "TOTAL", value_enum, hide_possible_values = true, hide_short_help = true)]
    capacity: Option<Total>,
}

impl TermArguments {
    /// The first option of these that was given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let Self { weights, weights_dtype, overhead, utilization, capacity } = self;
        let all = [
            (weights.is_some(), "--weights"),
            (weights_dtype.is_some(), "--weights-dtype"),
            (overhead.is_some(), "--overhead"),
            (utilization.is_some(), "--utilization"),
            (capacity.is_some(), "--capacity"),
        ];
        all.into_iter().find_map(|(given, option)| given.then_some(option))
    }
}

/// A share above 0, written as a decimal.
fn share(text: &str) -> Result<Double, Error> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    let value = Double::parse(text).filter(|value| plain && *value > Double::whole(0) && *value <= Double::whole(1));
    value.ok_or_else(|| {
        let remedy = "give a decimal above 0 and of at most 1, as 0.9";
        Error::new(Code::NotAShare, "", text, "is not a share of the whole", remedy)
    })
}

/// What is asked, resolved as far as it is the same for all hardware.
pub(super) struct Subject {
    pub(super) model: Model,
    pub(super) engines: Vec<Engine>,
    pub(super) seq_len: Option<Tokens>,
    pub(super) batch: Option<u64>,
    pub(super) weights: Option<Term>,
    /// The share of a GPU's memory that engines take, if it was given under any name.
    pub(super) utilization: Option<Double>,
    /// The model as it was typed.
    typed: Option<String>,
    /// Whether the weights are asked about in another format.
    what_if: bool,
}

impl Subject {
    pub(super) fn of(
        arguments: &SubjectArguments,
        workload: &mut WorkloadArguments,
        memory: &MemoryArguments,
        matches: &ArgMatches,
    ) -> Result<Self, Error> {
        let typed = arguments.model.as_deref();
        Self::about(workload, memory, matches, typed, |workload| {
            let names = || arguments.model.iter().chain(&workload.draft);
            let overlay = overlay_for(names(), arguments.catalogue.as_deref())?;
            let places = Places { overlay, hub: hub::settings_for(names(), &arguments.hub) };
            let spec = arguments.spec.spec();
            let model = match typed {
                Some(name) if !spec.is_empty() || spec.name.is_some() => {
                    let problem = "can't be used with the flags of a model";
                    return Err(wrong_model(name, problem, "name a model or give its dimensions"));
                }
                Some(name) => places.model(name, memory.terms.weights.is_none())?,
                None if spec.is_empty() => {
                    let remedy = "name one (`kvsize models` lists them), or give its dimensions";
                    return Err(wrong_model("missing", "", remedy));
                }
                None => spec.model()?,
            };
            drafted(model, workload, |name| places.draft(name))
        })
    }

    /// The same about the model that `read` gives, with what drafts for it; `typed` is its name on a command line.
    pub(super) fn about(
        workload: &mut WorkloadArguments,
        memory: &MemoryArguments,
        matches: &ArgMatches,
        typed: Option<&str>,
        read: impl FnOnce(&WorkloadArguments) -> Result<Model, Error>,
    ) -> Result<Self, Error> {
        levers::retrieved(workload);
        let (mut engines, _) = engines(workload, None, matches)?;
        let static_share = share_of_sglang(&mut engines, memory.terms.utilization)?;
        refuse_what_is_not_counted(workload, &engines)?;
        let model = levers::applied_to(&read(workload)?, workload, &engines)?;
        needs_encoder(workload, std::slice::from_ref(&model))?;
        let given = memory.terms.weights.map(|bytes| Term::given(bytes, "--weights"));
        let weights = match memory.terms.weights_dtype {
            Some(format) => Some(in_format(&model, format)?),
            None => given.or_else(|| weights_of(&model)),
        };
        let seq_len = one("--seq-len", workload.seq_len.iter().map(|typed| typed.tokens).collect())?;
        let batch = one("--batch", workload.batch.clone())?;
        if let (Some(average), Some(longest)) =
            (memory.avg_seq_len, seq_len.filter(|&most| memory.avg_seq_len > Some(most)))
        {
            let problem = format!("is more than the {longest} tokens of the longest");
            let found = average.0.to_string();
            return Err(Error::new(Code::Average, "--avg-seq-len", found, problem, "give at most --seq-len"));
        }
        Ok(Self {
            model,
            engines,
            seq_len,
            batch,
            weights,
            utilization: memory.terms.utilization.or(static_share),
            typed: typed.map(ToOwned::to_owned),
            what_if: memory.terms.weights_dtype.is_some(),
        })
    }
}

/// The setting by which `SGLang` is told its share of the memory.
pub(super) const SHARE_OF_SGLANG: &str = "mem-fraction-static";

/// What `--mem-fraction-static` says, which to `SGLang` is its share of the memory: it is no setting of a pool.
fn share_of_sglang(engines: &mut [Engine], utilization: Option<Double>) -> Result<Option<Double>, Error> {
    let taken = engines.iter_mut().find_map(|engine| engine.settings.take(SHARE_OF_SGLANG));
    let Some(SettingValue::Ratio(share)) = taken else { return Ok(None) };
    let wrong = |problem: &str, remedy: &str| {
        Err(Error::new(Code::Share, "--mem-fraction-static", share.value().to_string(), problem, remedy))
    };
    if utilization.is_some() {
        return wrong("is given together with --utilization, which is the same", "leave one of them out");
    }
    if engines.len() > 1 {
        return wrong("is a share that only sglang takes by this name", "give --utilization, which is each engine's");
    }
    if share > Double::whole(1) {
        return wrong("is more than all of the memory", "give a share of at most 1, as 0.88");
    }
    Ok(Some(share))
}

/// Settings that fix lengths, sequences or the layers on a GPU: here these are asked for, or follow from the GPUs.
const NOT_COUNTED: &[(&str, &str)] = &[
    ("ctx-size", "give --seq-len and --batch in its place"),
    ("parallel", "give --batch in its place"),
    ("num-ctx", "give --seq-len in its place"),
    ("num-parallel", "give --batch in its place"),
    ("context-length", "give --seq-len in its place"),
    ("n-gpu-layers", "leave it out: here all layers are on the GPUs"),
    ("num-gpu", "leave it out: here all layers are on the GPUs"),
    ("kv-offload", "leave it out: here the cache is on the GPUs"),
];

/// What decides a single estimate and has no meaning where hardware decides.
fn refuse_what_is_not_counted(workload: &WorkloadArguments, engines: &[Engine]) -> Result<(), Error> {
    let refused = |field: String, found: String, remedy: &str| {
        Err(Error::new(Code::NotCounted, &field, found, "is not counted with hardware", remedy))
    };
    if let Some(prefix) = workload.shared_prefix {
        return refused("--shared-prefix".into(), prefix.0.to_string(), "leave it out: each request is counted whole");
    }
    let given = |(name, remedy): &(&'static str, &'static str)| {
        let value = engines.iter().find_map(|engine| engine.settings.get(name))?;
        Some((*name, *remedy, value))
    };
    match NOT_COUNTED.iter().find_map(given) {
        Some((name, remedy, value)) => refused(format!("--{name}"), value.to_string(), remedy),
        None => Ok(()),
    }
}

fn wrong_model(found: &str, problem: &str, remedy: &str) -> Error {
    Error::new(Code::Model, "MODEL", found, problem, remedy)
}

/// What the weights would be in another format: every parameter but those of the embeddings, which quantisers leave alone.
fn in_format(model: &Model, format: ElementFormat) -> Result<Term, Error> {
    let unknown = || {
        let problem = "has a number of parameters that is not known here";
        Error::new(Code::NoWeights, "--weights-dtype", model.name.clone(), problem, "give --weights")
    };
    let parameters = model.weights.as_ref().and_then(|weights| weights.parameters).ok_or_else(unknown)?;
    let embeddings = model.checkpoint.embedding_parameters.unwrap_or_default().min(parameters);
    let rest = u128::from(parameters.saturating_sub(embeddings));
    let bits = format.bits(rest).and_then(|bits| bits.checked_add(model.dtype.bits(embeddings.into())?));
    let bytes = bits.and_then(|bits| u64::try_from(bits.div_ceil(8)).ok()).ok_or_else(unknown)?;
    let source =
        format!("what if: {parameters} parameters in {format}, but {embeddings} of the embedding in {}", model.dtype);
    Ok(Term { bytes: Bytes(bytes), known: Known::Estimated, source })
}

/// What had to be assumed of the memory of GPUs: of each, or, of many, all in one.
pub(super) fn assumed_of(fleets: &[Fleet]) -> Vec<String> {
    const FEW: usize = 3;
    let each: Vec<String> = fleets.iter().filter_map(|fleet| fleet.accelerator.assumption()).collect();
    if each.len() <= FEW {
        return each;
    }
    let estimated = fleets.iter().filter(|fleet| fleet.accelerator.assumption().is_some());
    let names: Vec<&str> = estimated.map(|fleet| fleet.accelerator.id.as_str()).collect();
    let less = exact_size(DRIVER_LESS_VISIBLE);
    vec![format!(
        "engines are told the driver's figure less {less}, the median of the cards seen, of {}",
        names.join(", ")
    )]
}

/// The prices that were used, by device.
pub(super) fn prices(fleets: &[Fleet]) -> impl Iterator<Item = (&str, &Price)> {
    let priced = fleets.iter().filter_map(|fleet| Some((fleet.accelerator.id.as_str(), fleet.price.as_ref()?)));
    let mut seen = Vec::new();
    priced.filter(move |(name, _)| {
        let is_new = !seen.contains(name);
        seen.push(*name);
        is_new
    })
}

/// Rows that were answered, and what is said of those that an engine refuses: one that is alone is an error.
pub(super) struct Rows<T> {
    pub(super) found: Vec<T>,
    pub(super) refused: Vec<String>,
    first: Option<Error>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { found: Vec::new(), refused: Vec::new(), first: None }
    }
}

impl<T> Rows<T> {
    pub(super) fn add(&mut self, row: Result<T, Error>, fleet: &Fleet, engine: &Engine) -> Result<(), Error> {
        match row {
            Ok(row) => self.found.push(row),
            Err(failure) => self.refuse(failure, fleet, engine)?,
        }
        Ok(())
    }

    /// Leaves a row out that an engine refuses; any other error is one of the question.
    pub(super) fn refuse(&mut self, failure: Error, fleet: &Fleet, engine: &Engine) -> Result<(), Error> {
        if failure.code != Code::Refused {
            return Err(failure);
        }
        let said = format!("left out: {} with {engine}: {failure}", fleet.accelerator.id);
        if !self.refused.contains(&said) {
            self.refused.push(said);
        }
        self.first.get_or_insert(failure);
        Ok(())
    }

    /// The rows, and what is said of refusals, unless there is nothing else.
    pub(super) fn answered(self) -> Result<(Vec<T>, Vec<String>), Error> {
        match self.first.filter(|_| self.found.is_empty()) {
            Some(failure) => Err(failure),
            None => Ok((self.found, self.refused)),
        }
    }
}

/// An engine whose rules here are those of CUDA devices is not asked about others that are known.
pub(super) fn runs_on(engine: &Engine, fleet: &Fleet) -> Result<(), Error> {
    let other = fleet.entry.is_some() && fleet.accelerator.compute_capability.is_none();
    if engine.profile.allocation != Allocation::Pool || !other {
        return Ok(());
    }
    let problem = format!("is no CUDA device whose compute capability is known, and {engine} is told for these alone");
    let remedy = "name another GPU or engine, or give its memory as --gpu-memory";
    Err(Error::new(Code::Refused, "--gpu", fleet.accelerator.id.clone(), problem, remedy))
}

/// What is said of replicas of a mixture of experts.
pub(super) const SEPARATE_REPLICAS: &str = "replicas are servers of their own, each with all experts: vLLM's --data-parallel-size would divide experts over them";

/// Whether a layout has replicas of a mixture of experts in vLLM.
pub(super) fn replicas_of_experts(model: &Model, engine: &Engine, layout: Layout) -> bool {
    engine.profile.name == "vllm" && layout.dp > 1 && model.checkpoint.widths.experts.is_some()
}

/// The engine with the defaults that it has on the devices of a fleet.
pub(super) fn on_device(engine: &Engine, fleet: &Fleet, assumptions: &mut Vec<String>) -> Engine {
    let (device, assumed) = gpus::engine_device(&fleet.accelerator);
    let matters = engine.profile.allocation == Allocation::Pool;
    assumptions.extend(assumed.filter(|text| matters && !assumptions.contains(text)));
    Engine { device, ..engine.clone() }
}

/// The formats that were asked for, or the one that is stored without being asked.
pub(super) fn usual_formats(model: &Model, workload: &WorkloadArguments, engine: &Engine) -> Vec<KvDtype> {
    let asked = formats(model, workload, engine);
    match (asked.is_empty(), engine.is_ideal()) {
        (false, _) => asked,
        (true, true) => vec![model.dtype.into()],
        (true, false) => vec![KvDtype::Auto],
    }
}

pub(super) fn given_layout(workload: &WorkloadArguments) -> GivenLayout {
    GivenLayout { tp: workload.tp, pp: workload.pp, dp: workload.dp, dcp: workload.dcp }
}

pub(super) fn question<'a>(
    subject: &'a Subject,
    workload: &WorkloadArguments,
    memory: &MemoryArguments,
    engine: &'a Engine,
    kv_dtype: KvDtype,
) -> Question<'a> {
    Question {
        model: &subject.model,
        engine,
        workload: Workload { kv_dtype, ..common(workload) },
        seq_len: subject.seq_len,
        batch: subject.batch,
        average: memory.avg_seq_len,
    }
}

impl MemoryArguments {
    /// Whether the total that engines are told of is counted with.
    pub(super) fn counts_what_engines_see(&self) -> bool {
        self.terms.capacity.unwrap_or_default() == Total::Visible
    }

    pub(super) fn of<'a>(&self, subject: &'a Subject, fleet: &'a Fleet) -> Memory<'a> {
        Memory {
            accelerator: &fleet.accelerator,
            total: self.terms.capacity.unwrap_or_default(),
            utilization: subject.utilization,
            weights: subject.weights.as_ref(),
            overhead: self.terms.overhead,
        }
    }
}

/// The server of a layout, as its command tells it.
pub(super) fn served<'a>(subject: &'a Subject, question: &Question<'a>, layout: Layout, seq_len: Tokens) -> Served<'a> {
    let Question { model, engine, workload, batch, .. } = *question;
    Served {
        model: subject.typed.as_deref(),
        is_path: subject.typed.as_ref().is_some_and(|model| Path::new(model).exists()),
        name: &model.name,
        dtype: model.dtype,
        engine,
        kv_dtype: workload.kv_dtype,
        layout,
        seq_len,
        batch,
        utilization: subject.utilization,
        // Weights of another format are another checkpoint, a drafter has options of its own, and past their model's maximum
        // servers do not start: no line is told for these.
        is_told: !subject.what_if
            && model.drafter.is_none()
            && model.max_position_embeddings.is_none_or(|maximum| seq_len <= maximum),
        replicas_apart: replicas_of_experts(model, engine, layout),
    }
}

/// What GPUs of one kind hold in the first layout that holds what is asked for, else in the most usual one.
pub(super) fn fitted(
    question: &Question,
    fleet: &Fleet,
    memory: &Memory,
    given: GivenLayout,
    command: impl FnOnce(Layout, Tokens) -> Option<String>,
) -> Result<Fitted, Error> {
    let gpus = fleet.count.unwrap_or(1);
    let layouts = layouts_of(question, Sizes { gpus, per_node: PER_NODE }, given)?;
    let answer = |layout: Layout| -> Result<_, Error> {
        let budgets = memory.budgets(question, layout)?;
        let fit = Server::of(*question, layout, &budgets.stages)?.fit()?;
        Ok((layout, budgets, fit))
    };
    let mut usual = None;
    for layout in layouts {
        match (answer(layout), &usual) {
            (Ok(found), _) if found.2.fits => {
                usual = Some(found);
                break;
            }
            (Ok(found), None) => usual = Some(found),
            (Err(failure), None) => return Err(failure),
            // Of other layouts than the usual one that does not hold it either, or that the engine refuses, nothing is said.
            _ => {}
        }
    }
    let Some((layout, Budgets { stages: budgets, calibration, notes }, mut fit)) = usual else {
        return Err(Error::new(Code::Layout, "--gpu", fleet.accelerator.id.clone(), "has no layout", ""));
    };
    fit.assumptions.extend(notes);
    let seq_len = fit.requests.first().map(|requests| requests.seq_len).or(fit.longest);
    Ok(Fitted {
        gpu: fleet.accelerator.id.clone(),
        gpus,
        price: fleet.price.clone(),
        engine: question.engine.clone(),
        kv_dtype: question.workload.kv_dtype,
        layout,
        layout_given: [given.tp, given.pp, given.dp].iter().any(Option::is_some),
        budgets,
        calibration,
        command: seq_len.filter(|_| fit.fits).and_then(|seq_len| command(layout, seq_len)),
        fit,
    })
}
