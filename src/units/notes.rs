//! What there is to say of an answer.

use serde::Serialize;

/// What is said of an answer, each text once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Notes {
    /// What was taken for granted.
    pub assumptions: Vec<String>,
    /// What may make the answer wrong.
    pub warnings: Vec<String>,
}

impl Notes {
    /// Adds what was taken for granted, unless it is there.
    pub fn assume(&mut self, text: impl Into<String>) {
        add_once(&mut self.assumptions, text.into());
    }

    /// Adds what may make the answer wrong, unless it is there.
    pub fn warn(&mut self, text: impl Into<String>) {
        add_once(&mut self.warnings, text.into());
    }

    /// Adds what is not there yet.
    pub fn add(&mut self, assumptions: &[String], warnings: &[String]) {
        for text in assumptions {
            self.assume(text);
        }
        for text in warnings {
            self.warn(text);
        }
    }

    /// Adds what others say and is not there yet.
    pub fn extend(&mut self, other: &Self) {
        self.add(&other.assumptions, &other.warnings);
    }
}

fn add_once(texts: &mut Vec<String>, text: String) {
    if !texts.contains(&text) {
        texts.push(text);
    }
}
