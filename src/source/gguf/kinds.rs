//! Which layers slide, and which are recurrent, by the rules of the architecture.

use super::layers::{LayerKeys, usize_of};
use crate::catalogue::{RecurrentRule, WindowKey, WindowLayers, WindowRule};
use crate::units::{Error, Tokens};

impl LayerKeys<'_> {
    /// Which layers are recurrent, and which attend.
    pub(super) fn recurrent(&mut self) -> Result<(), Error> {
        let (all, own) = (self.all, self.own);
        let is_own = |layer: usize| layer < own;
        match self.rules.recurrent {
            None => {}
            Some(RecurrentRule::All) => {
                self.recurs = (0..all).map(is_own).collect();
                self.attends = vec![false; all];
            }
            Some(RecurrentRule::Beside) => self.recurs = (0..all).map(is_own).collect(),
            Some(RecurrentRule::NoKvHeads) => {
                self.recurs = self.kv_heads.iter().enumerate().map(|(i, heads)| is_own(i) && *heads == 0).collect();
                self.attends = self.recurs.iter().map(|recurs| !recurs).collect();
            }
            Some(RecurrentRule::NoKvHeadsNorFeedForward) => {
                let widths = self.keys.per_layer("feed_forward_length", all)?.unwrap_or_else(|| vec![0; all]);
                let layers = self.kv_heads.iter().zip(&widths).enumerate();
                self.recurs =
                    layers.clone().map(|(i, (heads, width))| is_own(i) && *heads == 0 && *width == 0).collect();
                let recurs = &self.recurs;
                self.attends = widths.iter().zip(recurs).map(|(width, recurs)| !recurs && *width == 0).collect();
            }
            Some(RecurrentRule::Interval) => {
                self.recurs = if let Some(flags) = self.keys.per_layer("attention.recurrent_layers", all)? {
                    flags.iter().enumerate().map(|(i, flag)| is_own(i) && *flag != 0).collect()
                } else {
                    let given = self.keys.number("full_attention_interval")?.or(self.rules.interval);
                    let interval = usize_of(given.unwrap_or(1));
                    if interval == 0 {
                        return Err(self.keys.wrong("full_attention_interval", "a positive count"));
                    }
                    (0..all).map(|i| is_own(i) && !i.saturating_add(1).is_multiple_of(interval)).collect()
                };
                self.attends = self.recurs.iter().map(|recurs| !recurs).collect();
            }
        }
        Ok(())
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
