//! What `fit`, `plan` and `check` have alike: their options, and the age of prices.

use std::time::{SystemTime, UNIX_EPOCH};

use super::options::{Models, Options};
use super::terminal_is_watching;
use crate::hardware::Price;
use crate::request::{Fleet, Group, Selection};
use crate::units::once;

/// What is asked of hardware, and of a budget.
pub(super) const GROUPS: &[Group] = &[
    Group::Model,
    Group::Check,
    Group::Dimensions,
    Group::Workload,
    Group::Device,
    Group::Terms,
    Group::Average,
    Group::Gpus,
    Group::Plan,
    Group::Accelerators,
    Group::Sources,
];

/// The options of `fit`.
pub(super) const FIT: Options = Options {
    selection: Selection { groups: GROUPS, without: "memory max-gpus budget budget-per-gpu margin" },
    models: Models::One,
    lists: &[],
    about: include_str!("about/fit.txt"),
    brief: "",
};

/// The options of `plan`.
pub(super) const PLAN: Options = Options {
    selection: Selection { groups: GROUPS, without: "memory budget budget-per-gpu margin" },
    about: include_str!("about/plan.txt"),
    ..FIT
};

/// How old the prices of these GPUs are, each once. Only a person who is watching reads it: what is written to files stays
/// the same every day.
pub(super) fn ages_of_prices<'a>(fleets: impl Iterator<Item = &'a Fleet>) -> Vec<String> {
    if !terminal_is_watching() {
        return Vec::new();
    }
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    let today = seconds.div_euclid(86_400);
    once(fleets.filter_map(|fleet| age(&fleet.accelerator.id, fleet.price.as_ref()?, today)))
}

fn age(name: &str, price: &Price, today: u64) -> Option<String> {
    let days = price.age_in_days(today)?;
    let unit = if days == 1 { "day" } else { "days" };
    Some(format!("the price of {name} is {days} {unit} old, as of {}", price.as_of.as_deref()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Rate;

    #[test]
    fn the_age_of_a_price_is_in_days() {
        let rate: Rate = "1/gpu-h".parse().unwrap();
        let price = Price { as_of: Some("2026-08-19".into()), ..rate.price(None).unwrap() };
        assert_eq!(age("l4", &price, 20_685).as_deref(), Some("the price of l4 is 1 day old, as of 2026-08-19"));
        assert_eq!(age("l4", &Price { as_of: None, ..price }, 20_685), None);
    }
}
