//! What is asked: as it was said ([`Ask`]), and as it is resolved: one estimate ([`Request`]), many of one model ([`Axes`]), or
//! what hardware holds ([`HardwareRequest`]).
//!
//! The command line, a line of a batch, a budget of a file and a caller of the library all fill an [`Ask`]; the options are rows
//! of [`FIELDS`], under the same names everywhere. `Ask`'s resolving methods are the only place that fills a default or refuses
//! a combination; what must be looked up comes from [`Sources`]. Answers are functions of what is resolved.
//!
//! ```
//! use kvsize::request::Ask;
//! use kvsize::source::LocalSources;
//! let ask = Ask::new("llama-3.1-8b").set("engine", "vllm")?.set("seq_len", "128K")?.set("tp", "2")?;
//! let request = ask.request(&LocalSources)?;
//! assert_eq!(request.answer()?.estimate.bytes_per_gpu.0, 8_589_934_592);
//! # Ok::<(), kvsize::units::Error>(())
//! ```

mod ask;
mod field;
mod fields;
mod gpus;
mod hardware;
mod object;
mod read;
mod resolve;
mod sources;
mod weights_dtype;

pub use ask::{Ask, Named, Total, Windows};
pub use field::{BUDGET, Field, Group, Kind, LINE, Selection, key_of};
pub use fields::FIELDS;
pub use gpus::{Fleet, accelerator, counted, memory_of_a_card, priced};
pub use hardware::{Assumed, HardwareRequest, OnHardware, weights_of};
pub use object::{ByText, Object, ObjectReader, duplicate, field_of, nearest, shortened, text_of, twice};
pub use resolve::{ARTICLE_LENGTHS, Axes, Place, Request, Variant, distinct, past_maximum};
pub use sources::{Card, Sources, Weigh};
pub use weights_dtype::{NOT_LISTED, WeightsDtype};
