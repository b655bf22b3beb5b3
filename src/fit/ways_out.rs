//! What would make it fit: single changes, each tried, and what is held after it.

use std::sync::Arc;

use super::answer::{Fitted, fitted};
use crate::engine::WeightFiles;
use crate::request::{Fleet, HardwareRequest, Place};
use crate::units::{ElementFormat, KvDtype, Tokens};

/// A change after which what was asked for fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WayOut {
    /// The option to type.
    pub change: String,
    /// Requests that then run at once; `None` where there is no end.
    pub requests: Option<u64>,
    /// The line that starts such a server.
    pub command: Option<String>,
}

/// The ways out that are named: more would have to be read.
const MOST: usize = 4;

/// Formats of the cache that are tried instead of a 16-bit one, in this order; an engine has one of them, or none.
const KV_DTYPES: [&str; 3] = ["fp8", "q8_0", "int8"];

/// Formats of weights that are tried, the largest first: the first that fits is named.
const FILE_TYPES: &[&str] = &["q8_0", "q6_k", "q5_k_m", "q4_k_m", "iq4_xs", "q3_k_m", "q2_k"];
const CHECKPOINTS: &[&str] = &["fp8", "awq"];

/// Times as many GPUs, in this order: the first that holds it is named.
const TIMES: [u64; 4] = [2, 4, 8, 16];

impl Fitted {
    /// Single changes after which it fits, the cheapest first: the format of the cache, that of the weights, more GPUs, fewer
    /// requests, a shorter context. Empty where it fits, or where no single change is enough.
    pub fn ways_out(&self) -> Vec<WayOut> {
        if self.fit.fits {
            return Vec::new();
        }
        let ways = [self.other_cache(), self.other_weights(), self.more_gpus(), self.fewer_requests(), self.shorter()];
        ways.into_iter().flatten().take(MOST).collect()
    }

    fn other_cache(&self) -> Option<WayOut> {
        let stored = self.deployment.stored;
        let is_16_bit = |format: ElementFormat| [ElementFormat::BF16, ElementFormat::FP16].contains(&format);
        if !is_16_bit(stored.k) || !is_16_bit(stored.v) {
            return None;
        }
        KV_DTYPES.iter().find_map(|name| {
            let kv_dtype = name.parse().ok()?;
            self.tried(format!("-d {name}"), &self.request, &self.fleet, kv_dtype)
        })
    }

    fn other_weights(&self) -> Option<WayOut> {
        let names = match self.deployment.engine.profile.weight_files {
            WeightFiles::Gguf => FILE_TYPES,
            WeightFiles::Safetensors => CHECKPOINTS,
            WeightFiles::Any => return None,
        };
        let now = self.request.weights.as_ref()?.bytes;
        names.iter().find_map(|name| {
            let request = self.request.with_weights_dtype(name.parse().ok()?, &self.deployment.engine).ok()?;
            let is_smaller = request.weights.as_ref().is_some_and(|weights| weights.bytes < now);
            let try_it =
                || self.tried(format!("--weights-dtype {name}"), &request, &self.fleet, self.deployment.kv_dtype);
            is_smaller.then(try_it)?
        })
    }

    fn more_gpus(&self) -> Option<WayOut> {
        let Fleet { count, accelerator, entry, .. } = &self.fleet;
        let request = HardwareRequest { place: Place::default(), ..HardwareRequest::clone(&self.request) };
        TIMES.iter().find_map(|times| {
            let count = count.unwrap_or(1).checked_mul(*times)?;
            let fleet = Fleet { count: Some(count), ..self.fleet.clone() };
            // A size of memory has no name to count.
            let change = match entry {
                Some(_) => format!("--gpu {count}x{}", accelerator.id),
                None => format!("--tp {count}"),
            };
            self.tried(change, &request, &fleet, self.deployment.kv_dtype)
        })
    }

    fn fewer_requests(&self) -> Option<WayOut> {
        let most = self.fit.requests.first()?.at_once.filter(|&most| most > 0)?;
        let request = HardwareRequest { batch: Some(most), ..HardwareRequest::clone(&self.request) };
        self.tried(format!("-b {most}"), &request, &self.fleet, self.deployment.kv_dtype)
    }

    fn shorter(&self) -> Option<WayOut> {
        let longest = self.fit.longest.filter(|&longest| longest > Tokens(0))?;
        let request = HardwareRequest { seq_len: Some(longest), ..HardwareRequest::clone(&self.request) };
        self.tried(format!("-s {}", longest.0), &request, &self.fleet, self.deployment.kv_dtype)
    }

    /// The way out that a change is, if it is one.
    fn tried(&self, change: String, request: &HardwareRequest, fleet: &Fleet, kv_dtype: KvDtype) -> Option<WayOut> {
        let (row, _) = fitted(&Arc::new(request.clone()), fleet, &self.deployment.engine, kv_dtype).ok()?;
        let requests = row.fit.requests.first().and_then(|requests| requests.at_once);
        row.fit.fits.then_some(WayOut { change, requests, command: row.deployment.command })
    }
}
