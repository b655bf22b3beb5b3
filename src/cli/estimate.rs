//! `kvsize [estimate] MODEL`: what the cache of a model takes.

use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args};

use super::args::{DeviceArguments, EstimateArguments, SortKey, WorkloadArguments};
use super::gpus::{memory_of_a_card, named_device};
use super::{
    ANSWERED, Answer, Subcommand, hub, lengths, levers, refuse_warnings, settings, terminal_is_watching, typed,
};
use crate::catalogue::ModelEntry;
use crate::engine::Engine;
use crate::estimate::{Layout, Workload};
use crate::model::{DraftMethod, LayerCache, LayerGroup, Model, ModelSpec, Warning};
use crate::report::{self, AnsweredEstimate, Document};
use crate::source::{self, HubSettings, ReadWeights, Resolver, Weighed};
use crate::units::{Bytes, Code, ElementFormat, Error, KvDtype, KvFormat, Tokens};

/// The article's lengths.
pub(super) const ARTICLE_LENGTHS: [Tokens; 4] = [Tokens(1_000), Tokens(10_000), Tokens(1_000_000), Tokens(10_000_000)];

pub(super) const COMMAND: Subcommand = Subcommand {
    name: "estimate",
    about: "The estimate of a model (what is done without a command)",
    arguments: |command| settings::augment(EstimateArguments::augment_args(command)),
    notes: "",
    examples: &[
        ("The article's lengths, in 16 bits and FP8, with a model of the catalogue", "kvsize estimate llama-4-scout"),
        (
            "131,072 tokens, one sequence and eight, over eight GPUs",
            "kvsize estimate llama-3.1-70b -s 128K -b 1,8 --tp 8",
        ),
        (
            "What engines allocate beside the live bytes, and why",
            "kvsize estimate gemma-3-27b -s 32K -e ideal,vllm,llama.cpp",
        ),
        ("A model of your own, as JSON for a program", "kvsize estimate config.json -s 32k --json"),
    ],
    statuses: ANSWERED,
    run,
};

fn run(matches: &mut ArgMatches) -> Result<Answer, Error> {
    let mut arguments: EstimateArguments = typed(matches)?;
    let (engines, assumed) = engines(&arguments.workload, Some(&arguments.device), matches)?;
    levers::retrieved(&mut arguments.workload);
    let arguments = &arguments;
    let models = levers::applied(models(arguments)?, &arguments.workload, &engines)?;
    needs_encoder(&arguments.workload, &models)?;
    let mut documents = Vec::with_capacity(models.len());
    let several = models.len() > 1;
    for model in &models {
        let workload = lengths::settled(&arguments.workload, &engines, model)?;
        let document = Question::new(model, &workload, arguments.device.memory, &engines).document(model);
        documents.push(document.map_err(|diagnosis| {
            let field = if several { format!("{}: {}", model.name, diagnosis.field) } else { diagnosis.field };
            Error { field, ..diagnosis }
        })?);
    }
    let of = |document: &Document, text: &String| {
        if several { format!("{}: {text}", document.model.name) } else { text.clone() }
    };
    let gather = |texts: fn(&Document) -> &[String]| -> Vec<String> {
        documents.iter().flat_map(|document| texts(document).iter().map(|text| of(document, text))).collect()
    };
    let mut notes: Vec<String> = assumed.into_iter().collect();
    notes.extend(gather(|document| &document.assumptions));
    let warnings = gather(|document| &document.warnings);
    refuse_warnings(arguments.strict, &warnings)?;
    sort(&mut documents, arguments.sort.unwrap_or(SortKey::Bytes));
    if terminal_is_watching() {
        notes.extend(arguments.workload.seq_len.iter().filter(|typed| typed.text.ends_with(['M', 'G'])).map(|typed| {
            let lower = typed.text.to_lowercase();
            format!("{} is {} tokens, a power of 1024; {lower} is the power of 1000", typed.text, typed.tokens)
        }));
    }
    let rows = || documents.iter().flat_map(|document| &document.estimates);
    notes.extend(unused_memory(&arguments.device, rows().any(|row| row.capacity.is_some())));
    notes.extend(memory_of_a_card(arguments.device.memory));
    let data = report::estimates(&documents, arguments.output.format.format(), arguments.output.unit());
    Ok(Answer { quiet: arguments.output.format.quiet, data, notes, warnings, ..Answer::default() })
}

/// What is said of memory that no engine makes a capacity of.
pub(super) fn unused_memory(arguments: &DeviceArguments, used: bool) -> Option<String> {
    let unused = arguments.memory.is_some() && !used;
    unused.then(|| "--memory is not used: nothing here tells what would be made of it".into())
}

/// An encoder's length is an error where no model has an encoder.
pub(super) fn needs_encoder(arguments: &WorkloadArguments, models: &[Model]) -> Result<(), Error> {
    let crosses = |group: &LayerGroup| matches!(group.cache, LayerCache::CrossAttention { .. });
    match arguments.encoder_len {
        Some(tokens) if !models.iter().any(|model| model.layer_groups.iter().any(crosses)) => Err(Error {
            code: Code::NoEncoder,
            field: "--encoder-len".into(),
            found: Some(tokens.0.to_string()),
            problem: "is given, but there is no cross-attention".into(),
            remedy: "leave it out".into(),
        }),
        _ => Ok(()),
    }
}

/// Smallest first, by the first format at the longest length.
fn sort(documents: &mut [Document], key: SortKey) {
    match key {
        SortKey::Given => {}
        SortKey::Name => documents.sort_by(|a, b| a.model.name.cmp(&b.model.name)),
        SortKey::Bytes => documents.sort_by_key(|document| document.longest().map(|row| row.bytes)),
        SortKey::BytesPerToken => documents.sort_by(|a, b| {
            let slope = |document: &Document| document.longest().map_or(0.0, |row| row.bytes_per_token.as_f64());
            slope(a).total_cmp(&slope(b))
        }),
    }
}

/// The models that were named, or the one given by its dimensions.
pub(super) fn models(arguments: &EstimateArguments) -> Result<Vec<Model>, Error> {
    let names = || arguments.models.iter().chain(&arguments.workload.draft);
    let overlay = overlay_for(names(), arguments.catalogue.as_deref())?;
    let places = Places { overlay, hub: hub::settings_for(names(), &arguments.hub) };
    // Weights are in the JSON alone, and only then worth the files' headers.
    let weigh = arguments.output.format.for_programs();
    let models = named_or_spec(&arguments.models, &arguments.spec.spec(), |name| places.model(name, weigh))?;
    models.into_iter().map(|model| drafted(model, &arguments.workload, |name| places.draft(name))).collect()
}

/// The models of these names, or the one of the dimensions.
pub(super) fn named_or_spec(
    names: &[String],
    spec: &ModelSpec,
    read: impl Fn(&str) -> Result<Model, Error>,
) -> Result<Vec<Model>, Error> {
    let wrong = |found: &str, problem: &str, remedy: &str| Error {
        code: Code::Model,
        field: "MODEL".into(),
        found: Some(found.into()),
        problem: problem.into(),
        remedy: remedy.into(),
    };
    match names {
        [] if spec.is_empty() => Err(Error::without_value(
            Code::Model,
            "MODEL",
            "missing",
            "name one (`kvsize models` lists them), or give --layers --hidden-size --kv-heads",
        )),
        [] => Ok(vec![spec.model()?]),
        names if spec.is_empty() && spec.name.is_none() => names.iter().map(|name| read(name)).collect(),
        [name, ..] => {
            Err(wrong(name, "can't be used with the flags of a model", "name a model or give its dimensions"))
        }
    }
}

/// What messages, and models without a name, call the text of standard input.
const STANDARD_INPUT: &str = "standard input";

/// Where models are looked for.
pub(super) struct Places {
    pub(super) overlay: Vec<ModelEntry>,
    pub(super) hub: Option<HubSettings>,
}

impl Places {
    fn resolver(&self, weigh: bool) -> Resolver<'_> {
        let weights = if weigh { ReadWeights::Yes } else { ReadWeights::No };
        Resolver::default().overlay(&self.overlay).hub(self.hub.as_ref()).weights(weights)
    }

    /// The model that an argument means, with its weights if it is to be weighed.
    pub(super) fn model(&self, name: &str, weigh: bool) -> Result<Model, Error> {
        match name {
            "-" => self.resolver(weigh).model_of_json(source::text_of_stdin(&mut StandardInput)?, STANDARD_INPUT),
            name => self.resolver(weigh).model(name),
        }
    }

    /// The model that a name in a file of `directory` means.
    pub(super) fn beside(&self, directory: &Path, name: &str, weigh: bool) -> Result<Model, Error> {
        self.resolver(weigh).directory(directory).model(name)
    }

    /// What the model that an argument means weighs.
    pub(super) fn weigh(&self, name: &str) -> Result<Weighed, Error> {
        match name {
            "-" => self.resolver(true).weigh_json(source::text_of_stdin(&mut StandardInput)?, STANDARD_INPUT),
            name => self.resolver(true).weigh(name),
        }
    }

    /// The model that an option means, for which standard input is not read.
    pub(super) fn draft(&self, name: &str) -> Result<Model, Error> {
        self.resolver(false).model(name)
    }
}

/// The model with what drafts for it; `read` gives a draft model by its name.
pub(super) fn drafted(
    model: Model,
    arguments: &WorkloadArguments,
    read: impl Fn(&str) -> Result<Model, Error>,
) -> Result<Model, Error> {
    let Some(method) = arguments.speculative_method else { return Ok(model) };
    let wrong = |field: &str, found: &str, problem: &str, remedy: &str| {
        Err(Error {
            code: Code::Speculative,
            field: field.into(),
            found: Some(found.into()),
            problem: problem.into(),
            remedy: remedy.into(),
        })
    };
    let tokens = arguments.num_speculative_tokens.unwrap_or(1);
    match (method, &arguments.draft) {
        (DraftMethod::Mtp | DraftMethod::Ngram, Some(draft)) => {
            wrong("--draft", draft, "is not used by a method that drafts without a model", "leave it out")
        }
        (DraftMethod::Mtp, None) if model.mtp_groups.is_empty() => {
            wrong("--speculative-method", "mtp", "needs layers that this model has not", "name a --draft model")
        }
        (DraftMethod::Mtp | DraftMethod::Ngram, None) => Ok(model.drafted(method, tokens, None)),
        (DraftMethod::DraftModel | DraftMethod::Eagle, None) => wrong("--draft", "missing", "", "name the draft model"),
        (DraftMethod::DraftModel | DraftMethod::Eagle, Some(name)) => {
            Ok(model.drafted(method, tokens, Some(&read(name)?)))
        }
    }
}

/// Standard input, which has no buffer before it is read.
struct StandardInput;

impl io::Read for StandardInput {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        io::stdin().lock().read(buffer)
    }
}

/// The user's own models: of the file named by the flag, or else by the environment.
pub(super) fn overlay(flag: Option<&Path>) -> Result<Vec<ModelEntry>, Error> {
    let variable = std::env::var_os("KVSIZE_CATALOGUE").filter(|path| !path.is_empty()).map(PathBuf::from);
    match flag.map(Path::to_path_buf).or(variable) {
        Some(path) => Ok(source::overlay(&path)?),
        None => Ok(Vec::new()),
    }
}

/// The overlay, if one of the models may be looked up: files need no catalogue, and are not held up by one that is broken.
pub(super) fn overlay_for<'a>(
    models: impl IntoIterator<Item = &'a String>,
    flag: Option<&Path>,
) -> Result<Vec<ModelEntry>, Error> {
    let look_up = models.into_iter().any(|name| name != "-" && !Path::new(name).exists());
    if look_up { overlay(flag) } else { Ok(Vec::new()) }
}

/// What is asked of a model, defaults filled in.
pub(super) struct Question {
    pub(super) seq_lens: Vec<Tokens>,
    pub(super) batches: Vec<u64>,
    /// Each engine with the formats it is asked for.
    pub(super) engines: Vec<(Engine, Vec<KvDtype>)>,
    /// All that is the same in every workload.
    pub(super) common: Workload,
}

/// The formats that are asked for, if any. A side that is not given is as the engine has it.
pub(super) fn formats(model: &Model, arguments: &WorkloadArguments, engine: &Engine) -> Vec<KvDtype> {
    let WorkloadArguments { kv_dtype, k_dtype, v_dtype, bitwidth, .. } = arguments;
    match (kv_dtype.as_slice(), k_dtype, v_dtype, bitwidth.as_slice()) {
        ([], None, None, []) => Vec::new(),
        ([], None, None, bits) => once(bits.iter().map(|&bits| ElementFormat::bitwidth(bits).into())),
        ([], k, v, _) => {
            let auto = stored(model, engine, &common(arguments)).unwrap_or_else(|| model.dtype.into());
            vec![KvDtype::Given(KvFormat::new(k.unwrap_or(auto.k), v.unwrap_or(auto.v)))]
        }
        (formats, ..) => once(formats.iter().copied()),
    }
}

/// What an engine stores for a workload, unless it refuses.
fn stored(model: &Model, engine: &Engine, workload: &Workload) -> Option<KvFormat> {
    Some(engine.answer(model, workload).ok()?.estimate.stored)
}

/// What is asked beside lengths, batches and formats, which are lists.
pub(super) fn common(arguments: &WorkloadArguments) -> Workload {
    let WorkloadArguments { encoder_len, shared_prefix, tp, pp, dp, dcp, .. } = *arguments;
    Workload {
        layout: Layout { tp: tp.unwrap_or(1), pp: pp.unwrap_or(1), dp: dp.unwrap_or(1), dcp: dcp.unwrap_or(1) },
        encoder_len,
        shared_prefix,
        ..Workload::of(Tokens(1), 1)
    }
}

impl Question {
    pub(super) fn new(model: &Model, arguments: &WorkloadArguments, memory: Option<Bytes>, engines: &[Engine]) -> Self {
        let WorkloadArguments { seq_len, batch, .. } = arguments;
        let defaults = Self::article(model);
        let mut question = Self {
            seq_lens: if seq_len.is_empty() {
                defaults.seq_lens
            } else {
                once(seq_len.iter().map(|typed| typed.tokens))
            },
            batches: if batch.is_empty() { defaults.batches } else { once(batch.iter().copied()) },
            engines: Vec::new(),
            common: Workload { memory, ..common(arguments) },
        };
        let of_engine = |engine: &Engine| {
            let asked = formats(model, arguments, engine);
            (engine.clone(), if asked.is_empty() { question.usual_formats(model, engine) } else { asked })
        };
        question.engines = engines.iter().map(of_engine).collect();
        question
    }

    /// The article's question: its lengths, no further than the model's own maximum, which is added; the 16-bit format
    /// of the checkpoint, and FP8.
    pub(super) fn article(model: &Model) -> Self {
        let mut seq_lens = ARTICLE_LENGTHS.to_vec();
        if let Some(maximum) = model.max_position_embeddings {
            seq_lens.retain(|&seq_len| seq_len < maximum);
            seq_lens.push(maximum);
        }
        Self {
            seq_lens,
            batches: vec![1],
            engines: vec![(Engine::ideal(), vec![model.dtype.into(), ElementFormat::FP8.into()])],
            common: Workload::of(Tokens(1), 1),
        }
    }

    /// The formats that are told without `--kv-dtype`: the 16-bit one and FP8; of an engine what it makes of `auto`, and
    /// FP8 beside it where the engine takes that for this model.
    fn usual_formats(&self, model: &Model, engine: &Engine) -> Vec<KvDtype> {
        let fp8 = KvDtype::from(ElementFormat::FP8);
        if engine.is_ideal() {
            return vec![model.dtype.into(), fp8];
        }
        let shortest = self.seq_lens.first().copied().unwrap_or(Tokens(1));
        let stored = |kv_dtype| stored(model, engine, &self.workload(shortest, 1, kv_dtype));
        match (stored(KvDtype::Auto), stored(fp8)) {
            (Some(auto), Some(fp8_stored)) if auto != fp8_stored => vec![KvDtype::Auto, fp8],
            _ => vec![KvDtype::Auto],
        }
    }

    pub(super) fn workload(&self, seq_len: Tokens, batch: u64, kv_dtype: KvDtype) -> Workload {
        Workload { seq_len, batch, kv_dtype, ..self.common }
    }

    /// The answers, with the warnings they call for. Of several engines one that refuses is left out, and that is said.
    pub(super) fn document(&self, model: &Model) -> Result<Document, Error> {
        let (mut answers, mut refusals) = (Vec::new(), Vec::new());
        for &seq_len in &self.seq_lens {
            for &batch in &self.batches {
                for (engine, formats) in &self.engines {
                    for &kv_dtype in formats {
                        let workload = self.workload(seq_len, batch, kv_dtype);
                        match engine.answer(model, &workload) {
                            Ok(answer) => answers.push(AnsweredEstimate { workload, engine: engine.clone(), answer }),
                            Err(refusal) if refusal.code == Code::Refused && self.engines.len() > 1 => {
                                refusals.push(refusal);
                            }
                            Err(error) => return Err(error),
                        }
                    }
                }
            }
        }
        if let (true, Some(refusal)) = (answers.is_empty(), refusals.first()) {
            return Err(refusal.clone());
        }
        let mut document = Document::new(model, answers, &past_maximum(model, self.seq_lens.iter().max().copied()))?;
        for refusal in refusals.iter().map(|refusal| format!("left out: {refusal}")) {
            if !document.warnings.contains(&refusal) {
                document.warnings.push(refusal);
            }
        }
        Ok(document)
    }
}

/// The warning of a length past what the model was made for.
pub(super) fn past_maximum(model: &Model, longest: Option<Tokens>) -> Vec<Warning> {
    match (longest, model.max_position_embeddings) {
        (Some(seq_len), Some(max_position_embeddings)) if seq_len > max_position_embeddings => {
            vec![Warning::PastMaximum { seq_len, max_position_embeddings }]
        }
        _ => Vec::new(),
    }
}

/// The engines that were named, ideal without any, with the settings that are their own, on the device that was named; and
/// what had to be assumed of the device that their defaults depend on.
pub(super) fn engines(
    arguments: &WorkloadArguments,
    on: Option<&DeviceArguments>,
    matches: &ArgMatches,
) -> Result<(Vec<Engine>, Option<String>), Error> {
    let named = if arguments.engine.is_empty() { vec![Engine::ideal()] } else { arguments.engine.clone() };
    let mut engines = settings::apply(once(named.into_iter()), matches)?;
    let Some((on, name)) = on.and_then(|on| Some((on, on.gpu.as_ref()?))) else { return Ok((engines, None)) };
    let (device, assumed) = named_device(name, on.accelerators.as_deref())?;
    for engine in &mut engines {
        engine.device = device.clone();
    }
    let matters = engines.iter().any(|engine| !engine.is_ideal());
    Ok((engines, assumed.filter(|_| matters)))
}

/// Each value once, in the order of its first appearance.
pub(super) fn once<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for value in values {
        if !kept.contains(&value) {
            kept.push(value);
        }
    }
    kept
}
