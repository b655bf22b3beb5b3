//! What is asked of hardware: a model and its weights in engines, over GPUs whose memory has terms.

use std::fmt;
use std::sync::Arc;

use super::gpus::engine_device;
use super::resolve::distinct;
use super::weights_dtype::{Form, in_checkpoint, in_file};
use super::{Ask, Fleet, Named, Place, Sources, Total, Weigh, WeightsDtype};
use crate::engine::{Allocation, Double, Engine, Known, PROFILES, Term, WeightFiles};
use crate::estimate::Workload;
use crate::model::{Model, Origin, Release, Weights, WeightsOrigin};
use crate::units::{Bytes, Code, ElementFormat, Error, KvDtype, Passages, Series, Tokens, group_thousands, once};

/// What GPUs are asked, all of them the same.
#[derive(Debug, Clone)]
pub struct OnHardware {
    /// The question.
    pub request: HardwareRequest,
    /// The GPUs, of one or several kinds.
    pub fleets: Vec<Fleet>,
}

/// What is asked of hardware, whichever it is.
#[derive(Debug, Clone)]
pub struct HardwareRequest {
    /// The model, with what drafts for it and with the levers on it.
    pub model: Arc<Model>,
    /// The model as it was typed; `None` for one of dimensions.
    pub typed: Option<String>,
    /// The engines with the formats that are asked for in each.
    pub engines: Vec<(Engine, Vec<KvDtype>)>,
    /// Whether that is a file or a directory.
    pub is_path: bool,
    /// What is alike in every workload; its layout is the one that was given, or 1.
    pub common: Workload,
    /// The parallel sizes that were given.
    pub place: Place,
    /// Tokens of a request; `None`: the longest that fits.
    pub seq_len: Option<Tokens>,
    /// Requests at once, over all replicas; `None`: one.
    pub batch: Option<u64>,
    /// Tokens that requests have on average.
    pub average: Option<Tokens>,
    /// The weights of one replica, if they are known.
    pub weights: Option<Term>,
    /// The format of the weights, by its name, unless their bytes were given.
    pub weights_dtype: Option<String>,
    /// What was not given and decides the answer.
    pub assumed: Vec<Assumed>,
    /// Whether the weights are asked about in another format than the checkpoint's.
    pub is_what_if: bool,
    /// What the engine needs in addition on each device, if that was given.
    pub overhead: Option<Bytes>,
    /// The share of a GPU's memory that engines take, if it was given under any name.
    pub utilization: Option<Double>,
    /// Which total of a device counts.
    pub total: Total,
    /// The most GPUs to plan with.
    pub max_gpus: Option<u64>,
    /// The layouts that a plan proposes.
    pub any_layout: bool,
}

/// The file type of GGUF engines where neither a file nor a format is named: what Ollama's tags, LM Studio and most
/// repositories of GGUF files offer first.
const USUAL_FILE_TYPE: &str = "Q4_K_M";

/// A value that was not given and decides the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assumed {
    /// The option that gives another.
    pub option: &'static str,
    /// The value.
    pub value: String,
}

impl fmt::Display for Assumed {
    /// `assumed: Q4_K_M weights (--weights-dtype)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "assumed: {} ({})", self.value, self.option)
    }
}

/// The most combinations of lengths, requests and layouts in one question.
const MOST_POINTS: usize = 256;

/// Engines, and the GPUs that are asked about with them.
type OnGpus = (Vec<Engine>, Vec<Fleet>);

/// Of a request, what lists have several of.
#[derive(Debug, Clone, Copy)]
struct Point {
    seq_len: Option<Tokens>,
    batch: Option<u64>,
    place: Place,
}

impl Ask<'_> {
    /// What is asked of hardware: each model, length, number of requests and layout, in the engines that were named; without
    /// one, in the engine that each kind of GPU is usually run with.
    ///
    /// # Errors
    /// As [`Ask::request`], and settings that have no meaning where hardware decides.
    pub fn on_hardware(&self, sources: &dyn Sources, fleets: Vec<Fleet>) -> Result<Vec<OnHardware>, Error> {
        self.refuse_pairs()?;
        let points = self.points()?;
        let mut asked = Vec::new();
        for (engines, fleets) in self.by_engines(fleets)? {
            for (index, model) in self.models(&engines, sources, self.weigh(&engines))?.into_iter().enumerate() {
                let typed = self.models.get(index).map(Named::text);
                for point in &points {
                    let request = self.hardware_at(Arc::clone(&model), engines.clone(), *point)?;
                    let is_path = typed.is_some_and(|name| sources.is_path(name));
                    let request = HardwareRequest { typed: typed.map(ToOwned::to_owned), is_path, ..request };
                    asked.push(OnHardware { request, fleets: fleets.clone() });
                }
            }
        }
        Ok(asked)
    }

    /// The engines that were named with all GPUs; without one, each usual engine with its GPUs.
    fn by_engines(&self, fleets: Vec<Fleet>) -> Result<Vec<OnGpus>, Error> {
        let mut groups: Vec<OnGpus> = Vec::new();
        for fleet in fleets {
            let engines = self.engines_for(&fleet)?;
            match groups.iter_mut().find(|(known, _)| *known == engines) {
                Some((_, fleets)) => fleets.push(fleet),
                None => groups.push((engines, vec![fleet])),
            }
        }
        Ok(groups)
    }

    /// The engines that were named; without one, the engine that such GPUs are usually run with.
    ///
    /// # Errors
    /// A setting that none of them has.
    pub fn engines_for(&self, fleet: &Fleet) -> Result<Vec<Engine>, Error> {
        if self.engine.is_empty() {
            self.with_settings(vec![self.usual_engine(fleet)?])
        } else {
            self.engines_anywhere()
        }
    }

    /// The engine that GPUs of this kind are usually run with; of engines with the settings that were given, where that one
    /// does not have them, the first.
    fn usual_engine(&self, fleet: &Fleet) -> Result<Engine, Error> {
        // Of dimensions alone no engine knows what it needs in addition to weights and cache.
        let usual = if self.models.is_empty() { Engine::ideal() } else { fleet.usual_engine().parse()? };
        let all = PROFILES.iter().map(|profile| -> Engine { Engine::new(profile) });
        let has_all = |engine: &Engine| self.settings.iter().all(|(setting, _)| engine.setting(setting.name).is_some());
        Ok(std::iter::once(usual.clone()).chain(all).find(has_all).unwrap_or(usual))
    }

    /// Every combination of lengths, requests and layouts.
    fn points(&self) -> Result<Vec<Point>, Error> {
        let retrieved = self.retrieve.and_then(Passages::tokens).map(|tokens| tokens.0);
        let or_none = |list: Vec<u64>| if list.is_empty() { vec![None] } else { list.into_iter().map(Some).collect() };
        let values = |list: &[Series]| or_none(distinct(list).collect());
        let lengths = retrieved.map_or_else(|| values(&self.seq_len), |tokens| vec![Some(tokens)]);
        let [batches, tensor, pipeline, data, context] =
            [&self.batch, &self.tp, &self.pp, &self.dp, &self.dcp].map(|list| values(list));
        let lists = [&lengths, &batches, &tensor, &pipeline, &data, &context];
        let count = lists.iter().fold(1usize, |count, list| count.saturating_mul(list.len()));
        if count > MOST_POINTS {
            let found = format!("{} combinations", group_thousands(u64::try_from(count).unwrap_or(u64::MAX)));
            let problem = format!("are more than the {MOST_POINTS} that hardware is asked about at once");
            return Err(Error::new(Code::Several, "--seq-len", found, problem, "give fewer values"));
        }
        let mut points = vec![Point { seq_len: None, batch: None, place: Place::default() }];
        let mut times = |list: &[Option<u64>], with: fn(Point, Option<u64>) -> Point| {
            points = points.iter().flat_map(|point| list.iter().map(|value| with(*point, *value))).collect();
        };
        times(&tensor, |point, tp| Point { place: Place { tp, ..point.place }, ..point });
        times(&pipeline, |point, pp| Point { place: Place { pp, ..point.place }, ..point });
        times(&data, |point, dp| Point { place: Place { dp, ..point.place }, ..point });
        times(&context, |point, dcp| Point { place: Place { dcp, ..point.place }, ..point });
        times(&lengths, |point, tokens| Point { seq_len: tokens.map(Tokens), ..point });
        times(&batches, |point, batch| Point { batch, ..point });
        Ok(points)
    }

    /// What is asked of hardware about one model that is resolved, with one length, number of requests and layout.
    ///
    /// # Errors
    /// As [`Ask::on_hardware`].
    pub fn hardware_of(&self, model: Arc<Model>, engines: Vec<Engine>) -> Result<HardwareRequest, Error> {
        let retrieved = self.retrieve.and_then(Passages::tokens);
        let seq_len = retrieved.or(self.one_seq_len()?);
        self.hardware_at(model, engines, Point { seq_len, batch: self.one_batch()?, place: self.place()? })
    }

    fn hardware_at(
        &self,
        model: Arc<Model>,
        mut engines: Vec<Engine>,
        Point { seq_len, batch, place }: Point,
    ) -> Result<HardwareRequest, Error> {
        let own_share = self.own_share(&mut engines)?;
        self.refuse_what_hardware_decides(&engines)?;
        let (model, weights) = self.weighed(model, &engines)?;
        if let (Some(average), Some(longest)) =
            (self.avg_seq_len, seq_len.filter(|&most| self.avg_seq_len > Some(most)))
        {
            let problem = format!("is more than the {longest} tokens of the longest");
            let found = average.0.to_string();
            return Err(Error::new(Code::Average, "--avg-seq-len", found, problem, "give at most --seq-len"));
        }
        let common = self.common(&place);
        let of_engine = |engine: Engine| {
            let asked = self.formats(&model, &engine, &common);
            let usual = || if engine.is_ideal() { model.dtype.into() } else { KvDtype::Auto };
            let formats = if asked.is_empty() { vec![usual()] } else { asked };
            (engine, formats)
        };
        Ok(HardwareRequest {
            weights_dtype: self.name_of_weights(&model, &engines),
            assumed: self.assumed(&model, &engines),
            engines: once(engines).into_iter().map(of_engine).collect(),
            typed: self.models.first().map(|named| named.text().to_owned()),
            is_path: false,
            common,
            place,
            seq_len,
            batch,
            average: self.avg_seq_len,
            weights,
            is_what_if: self.weights_dtype.is_some_and(is_what_if),
            overhead: self.overhead,
            utilization: self.utilization.or(own_share),
            total: self.capacity.unwrap_or_default(),
            max_gpus: self.max_gpus,
            any_layout: self.any_layout,
            model,
        })
    }

    /// The model with the weights that the engines load of it, and their bytes, if they are known: those given, in the format
    /// given, of the file or checkpoint that was named; of GGUF engines without a file, in the usual file type.
    fn weighed(&self, model: Arc<Model>, engines: &[Engine]) -> Result<(Arc<Model>, Option<Term>), Error> {
        if let Some(bytes) = self.weights {
            return Ok((model, Some(Term::given(bytes, "--weights"))));
        }
        match self.weights_dtype.map(|dtype| dtype.in_engines(engines)).transpose()? {
            Some(Form::File(file_type)) => {
                let (model, term) = in_file(&model, file_type, self.llama_quantize.unwrap_or_default())?;
                Ok((model, Some(term)))
            }
            Some(Form::Checkpoint(format)) => {
                let (model, term) = in_checkpoint(&model, format)?;
                Ok((model, Some(term)))
            }
            Some(Form::Elements(format)) => {
                let term = in_format(&model, format)?;
                Ok((model, Some(term)))
            }
            None if reads_gguf(engines) && model.origin != Origin::Gguf => {
                // What is not known tensor by tensor has no file type to assume.
                let usual = USUAL_FILE_TYPE.parse().map_err(|_| Error::missing("--weights-dtype", "give one"))?;
                let Ok((model, term)) = in_file(&model, usual, Release::default()) else {
                    let term = weights_of(&model);
                    return Ok((model, term));
                };
                Ok((model, Some(term)))
            }
            None => {
                let term = weights_of(&model);
                Ok((model, term))
            }
        }
    }

    /// The weights of one replica that an engine loads of a model, as [`Self::on_hardware`] counts them.
    ///
    /// # Errors
    /// [`Code::NoWeights`]: they are unknown; a format that the engine does not load.
    pub fn weights_in(&self, model: &Arc<Model>, engine: &Engine) -> Result<Bytes, Error> {
        let (_, weights) = self.weighed(Arc::clone(model), std::slice::from_ref(engine))?;
        weights.map(|term| term.bytes).ok_or_else(|| {
            let remedy = "give their bytes with --weights, or the files that hold them";
            Error::new(Code::NoWeights, "MODEL", model.name.clone(), "has unknown weights", remedy)
        })
    }

    /// The name of the format of the weights: the one asked about, the one assumed, or that of the checkpoint.
    fn name_of_weights(&self, model: &Model, engines: &[Engine]) -> Option<String> {
        match self.weights_dtype {
            _ if self.weights.is_some() => None,
            Some(dtype) => Some(dtype.to_string()),
            None if reads_gguf(engines) && model.origin != Origin::Gguf => Some(USUAL_FILE_TYPE.to_owned()),
            None => {
                let types = &model.weights.as_ref()?.by_dtype;
                let most = types.iter().max_by_key(|dtype| dtype.bytes)?;
                // As safetensors name it, and as `--weights-dtype` does.
                Some(match most.dtype.as_str() {
                    "F8_E4M3" | "F8_E5M2" => "fp8".into(),
                    dtype => dtype.to_lowercase(),
                })
            }
        }
    }

    /// What was not given: the engine, and the file type of GGUF engines.
    fn assumed(&self, model: &Model, engines: &[Engine]) -> Vec<Assumed> {
        let engine = engines.first().filter(|engine| self.engine.is_empty() && !engine.is_ideal());
        let engine = engine.map(|engine| Assumed { option: "-e", value: engine.profile.name.into() });
        let is_given = self.weights.is_some() || self.weights_dtype.is_some() || model.origin == Origin::Gguf;
        let weights = (reads_gguf(engines) && !is_given)
            .then(|| Assumed { option: "--weights-dtype", value: format!("{USUAL_FILE_TYPE} weights") });
        engine.into_iter().chain(weights).collect()
    }

    /// What is needed of the model's weights, where they matter to these engines.
    pub fn weigh(&self, engines: &[Engine]) -> Weigh {
        match (self.weights, self.weights_dtype.and_then(WeightsDtype::file_type)) {
            (Some(_), _) => Weigh::No,
            (None, Some(_)) => Weigh::Gguf,
            (None, None) if self.weights_dtype.is_none() && reads_gguf(engines) => Weigh::Gguf,
            (None, None) => Weigh::Yes,
        }
    }

    /// The first option that was given and applies to the memory of a GPU alone.
    pub fn memory_term(&self) -> Option<&'static str> {
        let all = [
            (self.weights.is_some(), "--weights"),
            (self.weights_dtype.is_some(), "--weights-dtype"),
            (self.llama_quantize.is_some(), "--llama-quantize"),
            (self.overhead.is_some(), "--overhead"),
            (self.utilization.is_some(), "--utilization"),
            (self.capacity.is_some(), "--capacity"),
            (self.gpu_memory.is_some(), "--gpu-memory"),
        ];
        all.into_iter().find_map(|(given, option)| given.then_some(option))
    }

    /// The share of the memory that an engine's own setting gives, which decides no pool.
    fn own_share(&self, engines: &mut [Engine]) -> Result<Option<Double>, Error> {
        let is_one = engines.len() == 1;
        let taken = engines.iter_mut().find_map(|engine| Some((engine.take_share()?, engine.profile)));
        let Some((share, profile)) = taken else { return Ok(None) };
        let wrong = |problem: &str, remedy: &str| {
            let field = format!("--{}", profile.share_setting.unwrap_or_default());
            Err(Error::new(Code::Share, field, share.value().to_string(), problem, remedy))
        };
        if self.utilization.is_some() {
            return wrong("is given together with --utilization, which is the same", "leave one of them out");
        }
        if !is_one {
            let problem = format!("is a share that only {} takes by this name", profile.name);
            return wrong(&problem, "give --utilization, which is each engine's");
        }
        if share > Double::whole(1) {
            return wrong("is more than all of the memory", "give a share of at most 1, as 0.88");
        }
        Ok(Some(share))
    }

    /// Refuses what decides a single estimate and has no meaning where hardware decides.
    fn refuse_what_hardware_decides(&self, engines: &[Engine]) -> Result<(), Error> {
        let refused = |field: &str, found: String, remedy: &str| {
            Err(Error::new(Code::NotCounted, field, found, "is not counted with hardware", remedy))
        };
        if let Some(prefix) = self.shared_prefix {
            let remedy = "leave it out: each request is counted whole";
            return refused("--shared-prefix", prefix.0.to_string(), remedy);
        }
        for engine in engines {
            for (name, value) in engine.settings.iter() {
                if let Some(remedy) = engine.setting(name).and_then(|setting| setting.with_hardware) {
                    return refused(&format!("--{name}"), value.to_string(), remedy);
                }
            }
        }
        Ok(())
    }
}

/// Whether weights in a format are another checkpoint than the one that is named; a GGUF file is named by nobody.
fn is_what_if(dtype: WeightsDtype) -> bool {
    match dtype {
        WeightsDtype::FileType(_) => false,
        WeightsDtype::Checkpoint(_) | WeightsDtype::Elements(_) | WeightsDtype::Plain(..) => true,
    }
}

/// Whether all of the engines load their weights from GGUF files.
fn reads_gguf(engines: &[Engine]) -> bool {
    engines.iter().all(|engine| engine.profile.weight_files == WeightFiles::Gguf)
}

/// The weights of a model as a term, as far as they are known.
pub fn weights_of(model: &Model) -> Option<Term> {
    let Weights { bytes, origin, .. } = model.weights.as_ref()?;
    let known = match origin {
        WeightsOrigin::Headers | WeightsOrigin::Index => Known::Measured,
        WeightsOrigin::Catalogue => Known::Catalogue,
        WeightsOrigin::Config => Known::Estimated,
    };
    Some(Term { bytes: (*bytes)?, known, source: origin.words().into() })
}

/// What the weights would be in another format: every parameter but those of the embeddings, which quantisers leave alone.
fn in_format(model: &Model, format: ElementFormat) -> Result<Term, Error> {
    let unknown = || {
        let problem = "has an unknown number of parameters";
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

impl HardwareRequest {
    /// The same with the weights in another format.
    ///
    /// # Errors
    /// A format that the engine does not load, or tensors that are not known.
    pub fn with_weights_dtype(&self, dtype: WeightsDtype, engine: &Engine) -> Result<Self, Error> {
        let ask = Ask { weights_dtype: Some(dtype), ..Ask::default() };
        let (model, weights) = ask.weighed(Arc::clone(&self.model), std::slice::from_ref(engine))?;
        Ok(Self {
            model,
            weights,
            is_what_if: is_what_if(dtype),
            weights_dtype: Some(dtype.to_string()),
            ..self.clone()
        })
    }

    /// An engine with the defaults that it has on the devices of a fleet, and what had to be assumed for them.
    ///
    /// # Errors
    /// [`Code::Refused`]: an engine whose rules here are those of CUDA devices is not asked about others that are known.
    pub fn on_device(engine: &Engine, fleet: &Fleet) -> Result<(Engine, Option<String>), Error> {
        let is_pool = engine.profile.allocation == Allocation::Pool;
        let accelerator = &fleet.accelerator;
        // What is rented with others' chips is answered by the same rules, and said to be.
        let is_other = fleet.entry.as_ref().is_some_and(|entry| entry.class != "data-centre");
        if is_pool && is_other && accelerator.compute_capability.is_none() {
            let problem = format!("needs to be a CUDA GPU with a known compute capability for {engine}");
            let remedy = "name another GPU or engine, or give its memory as --gpu-memory";
            return Err(Error::new(Code::Refused, "--gpu", accelerator.id.clone(), problem, remedy));
        }
        Ok(Self::with_defaults_of(engine, fleet))
    }

    /// An engine with the defaults that it has on the devices of a fleet, whether its rules are known there or not.
    pub fn with_defaults_of(engine: &Engine, fleet: &Fleet) -> (Engine, Option<String>) {
        let (device, assumed) = engine_device(&fleet.accelerator);
        let matters = engine.profile.allocation == Allocation::Pool;
        (Engine { device, ..engine.clone() }, assumed.filter(|_| matters))
    }
}
