//! Hardware: what devices have, what a server leaves of it for the cache, and what it costs.
//!
//! How many bytes a cache takes is exact; how many are left for it is an estimate. So every figure here is a
//! [`Term`](crate::engine::Term), which says how it is known, and none is blended with another.

mod accelerator;
mod price;

pub use accelerator::{Accelerator, Budget, DRIVER_LESS_VISIBLE, exact_size};
pub use price::{Price, Rate, day};
