//! What `fit`, `plan` and `check` have alike: their options, and how answers about GPUs are gathered.

use std::path::Path;

use super::options::{Models, Options};
use super::terminal_is_watching;
use crate::engine::Engine;
use crate::estimate::{Layout, Workload};
use crate::fit::{Budgets, GivenLayout, Memory, Question, Server, Sizes, layouts_of};
use crate::hardware::{DRIVER_LESS_VISIBLE, Price, exact_size};
use crate::model::Model;
use crate::report::{Fitted, Served};
use crate::request::{Fleet, Group, HardwareRequest, Selection, Total};
use crate::units::{Code, Error, KvDtype, Tokens};

/// GPUs of a node, unless something else is known.
pub(super) const PER_NODE: u64 = 8;
