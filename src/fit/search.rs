//! Searches for the largest that still holds.

use crate::model::Model;
use crate::units::{Error, Exact, least_common_multiple};

/// The longest that is looked for: what still fits there has no end.
pub const MOST: u64 = 1 << 40;

/// The largest number up to `most` that `holds`, 0 if none does; what holds, holds for less. `guess` is looked at first.
///
/// # Errors
/// What `holds` says.
pub(super) fn largest(most: u64, guess: u64, holds: impl Fn(u64) -> Result<bool, Error>) -> Result<u64, Error> {
    let (mut low, mut high) = (0, most);
    let guess = guess.min(most);
    if guess == 0 || holds(guess)? {
        if guess == most || !holds(guess.saturating_add(1))? {
            return Ok(guess);
        }
        low = guess.saturating_add(1);
    } else {
        high = guess.saturating_sub(1);
    }
    while low < high {
        let middle = high.saturating_sub(high.saturating_sub(low) / 2);
        if holds(middle)? {
            low = middle;
        } else {
            high = middle.saturating_sub(1);
        }
    }
    Ok(low)
}

/// Tokens after which the states of compressors are as they were: an engine may keep of them only what no entry covers yet
/// (`transformers`), so that a longer request takes less. None of a model without, or whose period is past looking through.
fn period(model: &Model) -> Option<u64> {
    const MOST: u128 = 1 << 12;
    let mut ratios = model.layer_groups.iter().map(|group| u128::from(group.cache.ratio()));
    let period = ratios.try_fold(1, least_common_multiple)?;
    u64::try_from(period).ok().filter(|_| (2..=MOST).contains(&period))
}

/// The largest length up to `most` at which a model's cache `holds`, 0 if none is. A whole number of periods takes no more than
/// what is longer, so the last of these that holds is where the answer is, or begins.
///
/// # Errors
/// What `holds` says.
pub fn longest_of(model: &Model, most: u64, holds: impl Fn(u64) -> Result<bool, Error>) -> Result<u64, Error> {
    let Some(period) = period(model) else { return largest(most, most, holds) };
    let whole = most.checked_div(period).unwrap_or_default();
    let len = |periods: u64| (Exact::from(periods) * period).get();
    let whole = largest(whole, whole, |count| if count == 0 { Ok(true) } else { holds(len(count)?) })?;
    let start = len(whole)?;
    let end = (Exact::from(start) + period - 1u64).min(most).get()?;
    for seq_len in (start..=end).rev().take_while(|&seq_len| seq_len > start) {
        if holds(seq_len)? {
            return Ok(seq_len);
        }
    }
    Ok(start)
}
