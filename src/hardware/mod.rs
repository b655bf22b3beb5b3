//! Hardware: what devices have, what a server leaves of it for the cache, and what it costs.
//!
//! How many bytes a cache takes is exact; how many are left for it is an estimate. So every figure here is a [`Term`], which
//! says how it is known, and none is blended with another.

mod accelerator;
mod budget;
mod calibration;
mod overhead;
mod price;
mod reserve;
mod share;
mod term;
mod weights;

pub use accelerator::{Accelerator, DRIVER_LESS_VISIBLE, exact_size};
pub use budget::Budget;
pub use calibration::{CALIBRATIONS, Calibration, Errors};
pub use overhead::{Overhead, OverheadTerm, RESERVE, overhead, overhead_by};
pub use price::{Price, PriceError, Rate, day};
pub use share::{Rule, Share, share, usable};
pub use term::{Known, Term};
pub use weights::{weights_by_device, weights_by_stage};
