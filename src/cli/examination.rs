//! A workload under a budget: what it takes, and what hardware holds of it.

use clap::ArgMatches;

use super::args::WorkloadArguments;
use super::estimate::{needs_encoder, once, past_maximum};
use super::gpus::Fleet;
use super::hardware::{
    MemoryArguments, SEPARATE_REPLICAS, SHARE_OF_SGLANG, Subject, TermArguments, assumed_of, fitted, given_layout,
    on_device, question, replicas_of_experts, runs_on, usual_formats,
};
use super::{lengths, levers, single};
use crate::check::{Budget, Checked, Demand, Held, check};
use crate::engine::{Engine, Spread};
use crate::estimate::{Layout, Workload};
use crate::fit::Question;
use crate::model::Model;
use crate::report::FitDocument;
use crate::units::{Bytes, Error, Notes};

/// A workload, and what is asserted of it.
pub(super) struct Asked<'a> {
    /// The model, with what drafts for it.
    pub(super) model: Model,
    pub(super) workload: &'a WorkloadArguments,
    /// The engine, with its settings.
    pub(super) engine: Engine,
    /// The GPUs whose defaults the engine has, in place of its device's.
    pub(super) on: Option<&'a Fleet>,
    pub(super) matches: &'a ArgMatches,
    pub(super) memory: Option<Bytes>,
    pub(super) terms: &'a TermArguments,
    pub(super) budget: Budget,
    pub(super) demands: Vec<(Demand, Fleet)>,
}

/// What there is to say of it.
pub(super) struct Examined {
    pub(super) model: Model,
    pub(super) workload: Workload,
    pub(super) engine: Engine,
    pub(super) checked: Checked,
    pub(super) held: Vec<Held>,
    /// What was taken for granted, by the model, the engine and hardware.
    pub(super) assumptions: Vec<String>,
    /// What may make it wrong.
    pub(super) warnings: Vec<String>,
    /// Why hardware could not be asked.
    pub(super) failure: Option<Error>,
}

/// What a workload takes, and what hardware holds of it.
pub(super) fn examined(asked: &Asked) -> Result<Examined, Error> {
    let mut assumptions = Vec::new();
    let mut engine = match asked.on {
        Some(fleet) => on_device(&asked.engine, fleet, &mut assumptions),
        None => asked.engine.clone(),
    };
    if !asked.demands.is_empty() {
        // It says what a pool may take, which hardware is asked about, and changes nothing of what a workload takes.
        engine.settings.take(SHARE_OF_SGLANG);
    }
    let typed = asked.workload;
    let model = levers::applied_to(&asked.model, typed, std::slice::from_ref(&engine))?;
    needs_encoder(typed, std::slice::from_ref(&model))?;
    let settled = lengths::settled(typed, std::slice::from_ref(&engine), &model)?;
    let mut workload = single::workload(&model, &settled, asked.memory, &engine)?;
    let mut warnings: Vec<String> =
        past_maximum(&model, Some(workload.seq_len)).iter().map(ToString::to_string).collect();
    let (mut held, mut failure) = (Vec::new(), None);
    for (demand, fleet) in &asked.demands {
        match hardware(asked, &workload, *demand, fleet) {
            Ok((of_demand, said)) => {
                held.push(of_demand);
                assumptions.extend(said.notes.assumptions);
                warnings.extend(said.notes.warnings);
            }
            // What one GPU can't be asked about is no reason not to ask about another.
            Err(of_fleet) => _ = failure.get_or_insert(of_fleet),
        }
    }
    let mut share = workload;
    let WorkloadArguments { tp, pp, dp, .. } = typed;
    let is_given = asked.budget.is_limited() || [tp, pp, dp].iter().any(|ranks| ranks.is_some());
    if let ([held], false) = (held.as_slice(), is_given) {
        // The bytes are those of the layout that was found, of which a replica has its share.
        if engine.profile.spread == Spread::Ranks {
            workload.layout = Layout { dcp: workload.layout.dcp, ..held.layout };
        }
        share = Workload { batch: workload.batch.div_ceil(held.layout.dp.max(1)), ..workload };
    }
    let checked = check(&model, &share, &engine, &asked.budget)?;
    let assumptions = told(&model.assumptions, &checked.assumptions, assumptions);
    let warnings = told(&model.warnings, &checked.warnings, warnings);
    Ok(Examined { model, workload, engine, checked, held, assumptions, warnings, failure })
}

/// What is said of the model, of the engine and of more, each once.
fn told(of_model: &[impl ToString], of_engine: &[String], more: Vec<String>) -> Vec<String> {
    once(of_model.iter().map(ToString::to_string).chain(of_engine.iter().cloned()).chain(more))
}

/// Asks hardware, as `kvsize fit` does: what it holds, and the document with what is to be said of that.
fn hardware(asked: &Asked, workload: &Workload, demand: Demand, fleet: &Fleet) -> Result<(Held, FitDocument), Error> {
    let memory = MemoryArguments { terms: asked.terms.clone(), ..MemoryArguments::default() };
    let mut typed = asked.workload.clone();
    let subject = Subject::about(&mut typed, &memory, asked.matches, None, |_| Ok(asked.model.clone()))?;
    let mut assumptions = Vec::new();
    if memory.counts_what_engines_see() {
        assumptions.extend(assumed_of(std::slice::from_ref(fleet)));
    }
    let engine = subject.engines.first().unwrap_or(&asked.engine);
    let engine = on_device(engine, fleet, &mut assumptions);
    runs_on(&engine, fleet)?;
    let kv_dtype = usual_formats(&subject.model, &typed, &engine).first().copied().unwrap_or(workload.kv_dtype);
    let (seq_len, batch) = demand.asks(workload.seq_len, workload.batch);
    let question = question(&subject, &typed, &memory, &engine, kv_dtype);
    let question = Question { seq_len: Some(seq_len), batch: Some(batch), ..question };
    let found = fitted(&question, fleet, &memory.of(&subject, fleet), given_layout(&typed), |_, _| None)?;
    if replicas_of_experts(&subject.model, &engine, found.layout) {
        assumptions.push(SEPARATE_REPLICAS.into());
    }
    let maximum = subject.model.max_position_embeddings;
    let held = Held::of(demand, maximum, (found.gpu.clone(), found.gpus), found.layout, &found.fit);
    Ok((held, FitDocument::new(&subject.model, &[found], &Notes { assumptions, warnings: Vec::new() })))
}
