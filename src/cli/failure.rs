//! One error, in parts; as one object for programs.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;

use crate::report::ErrorRow;
use crate::units::{Code, Error};

/// `kvsize.error/1`: why a question could not be answered. Under `--json` it goes to stderr; of a batch it is a line.
#[skip_serializing_none]
#[derive(Serialize, JsonSchema)]
pub(super) struct ErrorDocument<'a> {
    /// Name and version of this shape.
    schema: &'static str,
    /// The line of a batch.
    line: Option<u64>,
    /// The `id` that came with the line.
    id: Option<&'a RawValue>,
    /// What is wrong.
    error: ErrorRow,
}

/// The object for programs.
pub(super) fn to_json(error: &anyhow::Error) -> String {
    let message = format!("{error:#}");
    let unknown = Error::new(Code::Io, "", &message, "", "check where the output goes");
    document(error.downcast_ref().unwrap_or(&unknown), message, None, None)
}

/// The object for a line of a batch, with the `id` that came with it.
pub(super) fn of_line(diagnosis: &Error, line: u64, id: Option<&RawValue>) -> String {
    document(diagnosis, diagnosis.to_string(), Some(line), id)
}

fn document(diagnosis: &Error, message: String, line: Option<u64>, id: Option<&RawValue>) -> String {
    let error = ErrorRow { message, ..diagnosis.into() };
    let document = ErrorDocument { schema: "kvsize.error/1", line, id, error };
    serde_json::to_string(&document).map(|line| line + "\n").unwrap_or_default()
}
