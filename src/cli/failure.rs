//! One error, in parts; as one object for programs.

use std::fmt;

use serde::Serialize;

use crate::units::{Diagnose, Diagnosis};

/// An error of the core, in parts, on its way to the edge.
#[derive(Debug)]
pub(super) struct Failure(pub(super) Diagnosis);

impl<E: Diagnose> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.diagnosis())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failure {}

/// `kvsize.error/1`
#[derive(Serialize)]
struct ErrorDocument<'a> {
    schema: &'static str,
    error: ErrorParts<'a>,
}

#[derive(Serialize)]
struct ErrorParts<'a> {
    code: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    field: &'a str,
    found: &'a str,
    remedy: &'a str,
    message: String,
}

/// The object for programs.
pub(super) fn to_json(error: &anyhow::Error) -> String {
    let message = format!("{error:#}");
    let unknown;
    let diagnosis = if let Some(Failure(diagnosis)) = error.downcast_ref() {
        diagnosis
    } else {
        let (found, remedy) = (message.clone(), "check where the output goes".into());
        unknown = Diagnosis { code: "io", field: String::new(), found, problem: String::new(), remedy };
        &unknown
    };
    let Diagnosis { code, field, found, remedy, .. } = diagnosis;
    let document =
        ErrorDocument { schema: "kvsize.error/1", error: ErrorParts { code, field, found, remedy, message } };
    serde_json::to_string(&document).map(|line| line + "\n").unwrap_or_default()
}
