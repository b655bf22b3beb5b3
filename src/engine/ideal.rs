//! No engine: the live bytes of [`mod@crate::estimate`], in the form of an engine's answer.

use super::{Answer, Engine, Profile};
use crate::estimate::{EstimateError, Workload, estimate};
use crate::model::Model;

pub(super) const PROFILE: Profile = Profile {
    name: "ideal",
    versions: &[],
    about: "live bytes, no blocks, no padding, no reserve",
    replayed: "equal to transformers' static caches wherever no rule of transformers differs",
    heading: "",
    settings: &[],
    defaults: &[],
    formats: &[],
    answer,
};

fn answer(model: &Model, workload: &Workload, _: &Engine) -> Result<Answer, EstimateError> {
    Ok(Answer::of(estimate(model, workload)?))
}
