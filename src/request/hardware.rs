//! What is asked of hardware: a model and its weights in engines, over GPUs whose memory has terms.

use std::sync::Arc;

use super::gpus::engine_device;
use super::weights_dtype::{Form, in_file};
use super::{Ask, Fleet, Place, Sources, Total};
use crate::engine::{Allocation, Double, Engine, Known, Term};
use crate::estimate::Workload;
use crate::model::{Model, Weights, WeightsOrigin};
use crate::units::{Bytes, Code, ElementFormat, Error, KvDtype, Passages, Tokens, once};

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
}

impl Ask<'_> {
    /// What is asked of hardware.
    ///
    /// # Errors
    /// As [`Ask::request`], and settings that have no meaning where hardware decides.
    pub fn hardware(&self, sources: &dyn Sources) -> Result<HardwareRequest, Error> {
        self.refuse_pairs()?;
        let engines = self.engines_anywhere()?;
        let model = self.model(&engines, sources, self.weigh())?;
        let request = self.hardware_of(model, engines)?;
        let is_path = request.typed.as_deref().is_some_and(|name| sources.is_path(name));
        Ok(HardwareRequest { is_path, ..request })
    }

    /// The same of a model that is resolved.
    ///
    /// # Errors
    /// As [`Ask::hardware`].
    pub fn hardware_of(&self, model: Arc<Model>, mut engines: Vec<Engine>) -> Result<HardwareRequest, Error> {
        let own_share = self.own_share(&mut engines)?;
        self.refuse_what_hardware_decides(&engines)?;
        let form = self.weights_dtype.map(|dtype| dtype.in_engines(&engines)).transpose()?;
        let (model, weights) = match (form, self.weights) {
            (Some(Form::File(file_type)), _) => {
                let (model, term) = in_file(&model, file_type, self.llama_quantize.unwrap_or_default())?;
                (model, Some(term))
            }
            (Some(Form::Elements(format)), _) => {
                let term = in_format(&model, format)?;
                (model, Some(term))
            }
            (None, Some(bytes)) => (model, Some(Term::given(bytes, "--weights"))),
            (None, None) => {
                let term = weights_of(&model);
                (model, term)
            }
        };
        let retrieved = self.retrieve.and_then(Passages::tokens);
        let seq_len = retrieved.or(self.one_seq_len()?);
        if let (Some(average), Some(longest)) =
            (self.avg_seq_len, seq_len.filter(|&most| self.avg_seq_len > Some(most)))
        {
            let problem = format!("is more than the {longest} tokens of the longest");
            let found = average.0.to_string();
            return Err(Error::new(Code::Average, "--avg-seq-len", found, problem, "give at most --seq-len"));
        }
        let place = self.place()?;
        let common = self.common(&place);
        let of_engine = |engine: Engine| {
            let asked = self.formats(&model, &engine, &common);
            let usual = || if engine.is_ideal() { model.dtype.into() } else { KvDtype::Auto };
            let formats = if asked.is_empty() { vec![usual()] } else { asked };
            (engine, formats)
        };
        Ok(HardwareRequest {
            engines: once(engines).into_iter().map(of_engine).collect(),
            typed: self.models.first().map(|named| named.text().to_owned()),
            is_path: false,
            common,
            place,
            seq_len,
            batch: self.one_batch()?,
            average: self.avg_seq_len,
            weights,
            is_what_if: self.weights_dtype.is_some(),
            overhead: self.overhead,
            utilization: self.utilization.or(own_share),
            total: self.capacity.unwrap_or_default(),
            max_gpus: self.max_gpus,
            model,
        })
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
    /// An engine with the defaults that it has on the devices of a fleet, and what had to be assumed for them.
    ///
    /// # Errors
    /// [`Code::Refused`]: an engine whose rules here are those of CUDA devices is not asked about others that are known.
    pub fn on_device(engine: &Engine, fleet: &Fleet) -> Result<(Engine, Option<String>), Error> {
        let is_pool = engine.profile.allocation == Allocation::Pool;
        let accelerator = &fleet.accelerator;
        if is_pool && fleet.entry.is_some() && accelerator.compute_capability.is_none() {
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
