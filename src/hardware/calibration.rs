//! What start-up logs of real servers say of memory that no rule gives, by engine and version; and how far off the pools
//! computed with it are. `tests/pool.rs` works all of it out again from the logs.

use crate::engine::Engine;
use crate::units::Bytes;

/// Figures fitted to start-up logs of one version of an engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Calibration {
    /// The engine.
    pub engine: &'static str,
    /// The version of the logs.
    pub version: &'static str,
    /// The device of the logs.
    pub device: &'static str,
    /// How many logs.
    pub logs: u32,
    /// How many models they are of, a model's sizes of parallelism and formats counted once.
    pub models: u32,
    /// The most tensor parallel ranks of any log.
    pub most_ranks: u64,
    /// What a step takes beyond the tensors that its rules count.
    pub step: Bytes,
    /// Hidden states beside a feed-forward's own tensors, in thousandths of one for each token.
    pub hidden_states_per_mille: u64,
    /// What is allocated outside the engine's allocator (contexts, libraries, communication), from so many tensor parallel
    /// ranks on.
    pub outside: &'static [(u64, Bytes)],
    /// The same with pipeline stages of one rank each.
    pub outside_of_stages: Bytes,
    /// What experts packed in four bits take more in the layout of the kernels, in thousandths; of one log.
    pub packed_experts_per_mille: u64,
    /// The engine's own estimate for its CUDA graphs: this, and so much for each layer of a stage.
    pub graphs: (Bytes, Bytes),
    /// How far off that is: the mean and the largest of the absolute errors.
    pub graphs_off: (Bytes, Bytes),
    /// How far off the pool is.
    pub pool: Errors,
    /// The same with the model left out of the fit.
    pub pool_left_out: Errors,
    /// How far off the requests at once are, with the model left out.
    pub concurrency_left_out: Errors,
    /// The same for pools below a tenth of the device, which are in none of the others: how far off the pool is.
    pub small_pool_left_out: Errors,
    /// How many logs of such pools there are.
    pub small_pools: u32,
    /// Where the logs are from.
    pub source: &'static str,
}

/// Absolute errors over logs, in hundredths of a percent, each rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errors {
    /// The mean.
    pub mean: u32,
    /// The largest.
    pub max: u32,
}

/// What is calibrated.
///
/// The rules of `overhead` were read in the engine's source with these logs at hand, so what leaving models out tests is the
/// constants above and not the rules; the one log of a version between (0.17.0, of a model in none of these) is 0.3 % off.
/// Two logs, of Granite 3.1 and 3.3 8B, report 0.21 GiB more outside the allocator than all others of one device. Nothing in
/// model or options tells why: they are in the fit and in the errors, and are the largest of those with all models in.
/// What packed experts take more is of the one log that has them, and left out it is nothing: the largest error then.
pub static CALIBRATIONS: &[Calibration] = &[Calibration {
    engine: "vllm",
    version: "0.19",
    device: "h100-sxm",
    logs: 37,
    models: 21,
    most_ranks: 4,
    step: Bytes(36_206_775),
    hidden_states_per_mille: 3_676,
    outside: &[(1, Bytes(285_138_106)), (2, Bytes(2_235_172_563)), (4, Bytes(2_330_019_758))],
    outside_of_stages: Bytes(75_161_927),
    packed_experts_per_mille: 85,
    graphs: (Bytes(345_309_609), Bytes(17_330_016)),
    graphs_off: (Bytes(166_287_031), Bytes(679_476_662)),
    pool: Errors { mean: 7, max: 35 },
    pool_left_out: Errors { mean: 12, max: 136 },
    concurrency_left_out: Errors { mean: 14, max: 137 },
    small_pool_left_out: Errors { mean: 53, max: 58 },
    small_pools: 2,
    source: "start-up logs of vLLM 0.19.0 in pull request 205 of llm-d-incubation/llm-d-planner",
}];

/// Whether a version takes its estimate for CUDA graphs out of the pool: from 0.21 on (0.33.0 `envs.py`,
/// `VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS` is on; in 0.19.0 it is off).
pub(super) fn charges_graphs(engine: &Engine) -> bool {
    engine.version != "0.19"
}

/// The calibration of an engine, of its own version or else the one there is.
pub(super) fn calibration(engine: &Engine) -> Option<&'static Calibration> {
    let mut of_engine = CALIBRATIONS.iter().filter(|calibration| calibration.engine == engine.profile.name);
    let first = of_engine.clone().next();
    of_engine.find(|calibration| calibration.version == engine.version).or(first)
}

impl Calibration {
    /// What is allocated outside the engine's allocator with so many ranks and stages.
    pub(super) fn outside(&self, tp: u64, pp: u64) -> Bytes {
        if tp == 1 && pp > 1 {
            return self.outside_of_stages;
        }
        let rows = self.outside.iter().take_while(|(ranks, _)| *ranks <= tp);
        rows.last().map_or(Bytes(0), |(_, bytes)| *bytes)
    }
}
