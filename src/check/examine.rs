//! A workload under a budget: what it takes, and what hardware holds of it.

use std::sync::Arc;

use super::{Budget, Checked, Demand, Held, check};
use crate::engine::{Engine, Spread};
use crate::estimate::{Layout, Workload};
use crate::fit::{Fits, fits};
use crate::model::Model;
use crate::request::{Ask, Fleet, HardwareRequest, OnHardware, past_maximum};
use crate::units::{Error, Notes, Tokens};

/// What a workload takes, and what hardware holds of it.
#[derive(Debug)]
pub struct Examined {
    /// The model.
    pub model: Arc<Model>,
    /// The workload, over the layout that was found where none was given.
    pub workload: Workload,
    /// The engine.
    pub engine: Engine,
    /// What it takes.
    pub checked: Checked,
    /// What GPUs hold, a row each.
    pub held: Vec<Held>,
    /// What was taken for granted, and what may make it wrong, by the model, the engine and hardware.
    pub notes: Notes,
    /// Why hardware could not be asked.
    pub failure: Option<Error>,
}

/// What the workload of `ask` takes on a resolved model, and what GPUs hold of what is demanded of them; the engine has the
/// defaults of the GPUs `on`, if that is given.
///
/// # Errors
/// As [`Ask::request`], and what the engine refuses of the workload.
pub fn examine(
    ask: &Ask,
    model: Arc<Model>,
    mut engine: Engine,
    on: Option<&Fleet>,
    demands: &[(Demand, Fleet)],
) -> Result<Examined, Error> {
    let hardware = ask.hardware_of(Arc::clone(&model), vec![engine.clone()]);
    let mut assumption = None;
    if let Some(fleet) = on {
        (engine, assumption) = HardwareRequest::with_defaults_of(&engine, fleet);
    }
    if !demands.is_empty() {
        // A share of the memory is of what hardware holds, and changes nothing of what a workload takes.
        engine.take_share();
    }
    let (mut workload, _) = ask.workload(&model, &engine)?;
    let mut of_hardware = Notes::default();
    of_hardware.add(assumption.as_slice(), past_maximum(&model, Some(workload.seq_len)).as_slice());
    let (mut held, mut failure) = (Vec::new(), None);
    for (demand, fleet) in demands {
        match hardware.clone().and_then(|request| hold(request, *demand, fleet, &workload)) {
            Ok((row, fits)) => {
                held.push(row);
                of_hardware.add(&fits.notes.assumptions, &[]);
                for row in fits.rows {
                    of_hardware.add(&row.fit.answer.assumptions, &row.fit.answer.warnings);
                }
            }
            // What one GPU can't be asked about is no reason not to ask about another.
            Err(error) => _ = failure.get_or_insert(error),
        }
    }
    let budget =
        Budget { bytes: ask.budget, bytes_per_gpu: ask.budget_per_gpu, margin: ask.margin.unwrap_or_default() };
    let mut share = workload;
    let is_given = hardware
        .is_ok_and(|request| [request.place.tp, request.place.pp, request.place.dp].iter().any(Option::is_some));
    if let ([held], false) = (held.as_slice(), is_given || budget.is_limited()) {
        // The bytes are those of the layout that was found, of which a replica has its share.
        if engine.profile.spread == Spread::Ranks {
            workload.layout = Layout { tp: held.tp, pp: held.pp, dp: held.dp, dcp: workload.layout.dcp };
        }
        share = Workload { batch: workload.batch.div_ceil(held.dp.max(1)), ..workload };
    }
    let checked = check(&model, &share, &engine, &budget)?;
    let mut notes = Notes::default();
    notes.add(&model.assumptions, &model.warnings);
    notes.add(&checked.assumptions, &checked.warnings);
    notes.add(&of_hardware.assumptions, &of_hardware.warnings);
    Ok(Examined { model, workload, engine, checked, held, notes, failure })
}

/// What a fleet holds of a demand, as [`fits`] says.
fn hold(request: HardwareRequest, demand: Demand, fleet: &Fleet, workload: &Workload) -> Result<(Held, Fits), Error> {
    let (seq_len, batch) = demand.asks(workload.seq_len, workload.batch);
    let maximum: Option<Tokens> = request.model.max_position_embeddings;
    let request = HardwareRequest { seq_len: Some(seq_len), batch: Some(batch), ..request };
    let found = fits(&[OnHardware { request, fleets: vec![fleet.clone()] }])?;
    let row = found.rows.first().ok_or_else(|| Error::missing("--gpu", "name the GPUs"))?;
    Ok((Held::new(demand, maximum, row), found))
}
