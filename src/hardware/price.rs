//! What an hour of a device costs: always with a date or as given, never assumed.

/// A price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Millionths of a US dollar for one GPU in one hour.
    pub micro_dollars_per_gpu_hour: u64,
    /// The day of the data; none for one that was given.
    pub as_of: Option<String>,
    /// `on demand`, `spot` or `reserved`, where that is known.
    pub kind: Option<String>,
    /// Whose offer it is.
    pub provider: Option<String>,
    /// Where it was read.
    pub source: String,
}
