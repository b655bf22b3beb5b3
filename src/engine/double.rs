//! The one place of the core with floating point: engines that count in doubles are exact only if we do, too.
#![allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an engine's own arithmetic is repeated, operation by operation"
)]

use serde::Serialize;

/// A number as Python's `float` holds it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[serde(transparent)]
#[must_use]
pub struct Double(f64);

impl Double {
    /// The nearest double to a whole number.
    pub const fn whole(value: u64) -> Self {
        Self(value as f64)
    }

    /// `numerator / denominator`, both whole: the double nearest to the true quotient while both are below 2⁵³.
    pub fn ratio(numerator: u64, denominator: u64) -> Self {
        Self(numerator as f64 / denominator as f64)
    }

    /// The value of a decimal text.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|value: &f64| value.is_finite()).map(Self)
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The difference.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }

    /// The product.
    pub fn times(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }

    /// The quotient.
    pub fn over(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }

    /// Python's `//`: the floor of the quotient, worked out through the remainder, as Python does.
    pub fn floor_div(self, other: Self) -> Self {
        let remainder = self.0 % other.0;
        let mut quotient = (self.0 - remainder) / other.0;
        if remainder != 0.0 && (other.0 < 0.0) != (remainder < 0.0) {
            quotient -= 1.0;
        }
        if quotient == 0.0 {
            return Self(0.0);
        }
        let floor = quotient.floor();
        Self(if quotient - floor > 0.5 { floor + 1.0 } else { floor })
    }

    /// `int(x)` of a number that is not negative: its fraction dropped; at most 2⁶⁴ − 1.
    pub fn truncated(self) -> u64 {
        self.0 as u64
    }

    /// `math.ceil(x)` of a number that is not negative; at most 2⁶⁴ − 1.
    pub fn ceiling(self) -> u64 {
        self.0.ceil() as u64
    }

    /// Millionths, to the nearest: what a decimal of six places is exactly.
    pub fn millionths(self) -> u64 {
        (self.0 * 1e6).round() as u64
    }

    /// Whether it is a whole number that 64 bits hold.
    pub fn is_whole(self) -> bool {
        self.0 >= 0.0 && self.0.fract() == 0.0 && self.0 < 18_446_744_073_709_551_615.0
    }

    /// The same as a float, for printing.
    pub fn value(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor_division_is_python_s() {
        // In Python: 42949672960 // 167116.8 == 257003.0; 1.0 // 0.1 == 9.0.
        let cell = Double::parse("167116.8").unwrap();
        assert_eq!(Double::whole(42_949_672_960).floor_div(cell).truncated(), 257_003);
        assert_eq!(Double::whole(1).floor_div(Double::parse("0.1").unwrap()).truncated(), 9);
        assert_eq!(Double::whole(6).floor_div(Double::whole(3)).truncated(), 2);
    }
}
