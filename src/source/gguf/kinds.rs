//! Which layers slide, and which are recurrent, by the rules of the architecture.

use super::layers::{LayerKeys, usize_of};
use crate::catalogue::{RecurrentRule, WindowKey, WindowLayers, WindowRule};
use crate::units::{Error, Tokens};

impl LayerKeys<'_> {
    /// Which layers are recurrent, and which attend.
    pub(super) fn recurrent(&mut self) -> Result<(), Error> {
        let Some(rule) = self.rules.recurrent else { return Ok(()) };
        let all = self.all;
        let by_width = rule == RecurrentRule::NoKvHeadsNorFeedForward;
        let widths = if by_width { self.keys.per_layer("feed_forward_length", all)? } else { None };
        let widths = widths.unwrap_or_else(|| vec![0; all]);
        let without_heads = self.kv_heads.iter().map(|heads| *heads == 0);
        let recurs: Vec<bool> = match rule {
            RecurrentRule::All | RecurrentRule::Beside => vec![true; all],
            RecurrentRule::NoKvHeads => without_heads.collect(),
            RecurrentRule::NoKvHeadsNorFeedForward => {
                without_heads.zip(&widths).map(|(without, width)| without && *width == 0).collect()
            }
            RecurrentRule::Interval => self.recurrent_by_interval()?,
        };
        self.recurs = recurs.into_iter().enumerate().map(|(layer, recurs)| recurs && layer < self.own).collect();
        let others = self.recurs.iter().map(|recurs| !recurs);
        self.attends = match rule {
            RecurrentRule::All => vec![false; all],
            RecurrentRule::Beside => vec![true; all],
            RecurrentRule::NoKvHeads | RecurrentRule::Interval => others.collect(),
            RecurrentRule::NoKvHeadsNorFeedForward => {
                others.zip(&widths).map(|(other, width)| other && *width == 0).collect()
            }
        };
        Ok(())
    }

    fn recurrent_by_interval(&self) -> Result<Vec<bool>, Error> {
        if let Some(flags) = self.keys.per_layer("attention.recurrent_layers", self.all)? {
            return Ok(flags.iter().map(|flag| *flag != 0).collect());
        }
        let given = self.keys.number("full_attention_interval")?.or(self.rules.interval);
        let interval = usize_of(given.unwrap_or(1));
        if interval == 0 {
            return Err(self.keys.wrong("full_attention_interval", "a positive count"));
        }
        Ok((1..=self.all).map(|number| !number.is_multiple_of(interval)).collect())
    }

    /// Which layers slide, and by how much.
    pub(super) fn window(&mut self, rule: &WindowRule) -> Result<(), Error> {
        const KEY: &str = "attention.sliding_window";
        const PATTERN: &str = "attention.sliding_window_pattern";
        let given = self.keys.number(KEY)?;
        if rule.only_layers.is_some_and(|only| usize_of(only.into()) != self.own) {
            return Ok(());
        }
        let window = match rule.key {
            WindowKey::Required => Some(given.ok_or_else(|| self.keys.missing(KEY))?),
            WindowKey::Optional => given.or(rule.default),
            WindowKey::OnIfPositive | WindowKey::Ignored => given.filter(|&window| window > 0),
            WindowKey::OffIfZero => Some(given.unwrap_or(1)).filter(|&window| window > 0),
        };
        let Some(window) = window.map(|window| rule.fixed.unwrap_or(window)) else { return Ok(()) };
        if window == 0 {
            return Err(self.keys.wrong(KEY, "a positive count"));
        }
        self.window = Some(Tokens(window));
        let listed = || self.keys.layers_listed(PATTERN, self.all);
        self.slides = match rule.layers {
            WindowLayers::All => vec![true; self.all],
            WindowLayers::Attention => {
                (0..self.all).zip(&self.recurs).map(|(i, recurs)| i < self.own && !recurs).collect()
            }
            WindowLayers::Listed => listed()?.ok_or_else(|| self.keys.missing(PATTERN))?,
            WindowLayers::Pattern => {
                if let Some(flags) = listed()? {
                    flags
                } else {
                    let n = usize_of(self.keys.number(PATTERN)?.or(rule.pattern).unwrap_or_default());
                    let full_at = if rule.dense_first { 0 } else { n.saturating_sub(1) };
                    let slides = |i: usize| i < self.own && i.checked_rem(n).is_none_or(|place| place != full_at);
                    (0..self.all).map(slides).collect()
                }
            }
        };
        Ok(())
    }
}
