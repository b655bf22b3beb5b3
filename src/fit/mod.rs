//! Questions asked of hardware: what fits on it, and the smallest that holds a workload.
//!
//! [`fits`] and [`plans`] answer a request. A [`Server`] is a model in an engine over devices whose budgets are known. What it
//! holds is asked of the engine, so that an answer here and the engine's own for the same memory are the same integers.

mod answer;
mod layout;
mod memory;
mod outcome;
mod plan;
mod search;
mod server;
mod ways_out;

pub use answer::{Deployment, Fits, Fitted, PER_NODE, PlannedOn, Plans, TooSmall, fits, plans};
pub use layout::layouts_of;
pub use memory::Budgets;
pub use outcome::{Binding, Fit, Left, Requests};
pub use plan::{Layouts, Limits, Planned, Smaller, closest, plan, ranks};
pub use search::{MOST, longest_of};
pub use server::{Question, Server};
pub use ways_out::WayOut;

#[cfg(test)]
mod tests;
