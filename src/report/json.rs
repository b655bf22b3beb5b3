//! JSON, pretty for one document and a line each for many.

use serde::Serialize;

/// Pretty JSON with a final line feed.
pub(super) fn pretty(value: &impl Serialize) -> String {
    // Serialising to memory fails only for maps with keys that are no text; there are none in our types.
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

pub(super) fn lines(values: &[impl Serialize]) -> String {
    values.iter().filter_map(|value| serde_json::to_string(value).ok()).map(|line| line + "\n").collect()
}
