//! The parts every error message has: where, what was found, what is wrong with it, and what to do.

use std::fmt;

/// An error in parts: one line for people, fields for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// A stable word for programs to branch on.
    pub code: &'static str,
    /// The flag, JSON key or argument; empty while the reader of the value does not know it.
    pub field: String,
    /// The value found, as it was written.
    pub found: String,
    /// What is wrong with it, as the end of a sentence that starts with the value; may be empty.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

impl Diagnosis {
    /// Its parts, in the order they are read in.
    pub fn new(code: &'static str, field: &str, found: String, problem: String, remedy: &str) -> Self {
        Self { code, field: field.into(), found, problem, remedy: remedy.into() }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(if self.found.is_empty() { "an empty text" } else { &self.found })?;
        if !self.problem.is_empty() {
            write!(f, " {}", self.problem)?;
        }
        write!(f, "; {}", self.remedy)
    }
}

/// An error that can say where, what, why and what to do.
pub trait Diagnose {
    /// The error in parts.
    fn diagnosis(&self) -> Diagnosis;
}

/// Gives error enums the one-line `Display` of their [`Diagnosis`].
macro_rules! display_diagnosis {
    ($error:ty) => {
        impl std::fmt::Display for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::units::Diagnose::diagnosis(self).fmt(f)
            }
        }
        impl std::error::Error for $error {}
    };
}
pub(crate) use display_diagnosis;
