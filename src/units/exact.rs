//! Whole numbers that remember an overflow, so that a formula reads like one.

use std::iter::Sum;
use std::ops::{Add, Div, Mul, Rem, Sub};

use super::{Bytes, Error, Tokens};

/// A whole number of bytes, blocks or tokens in the middle of a formula. Once an operation overflows, goes below zero or
/// divides by zero, it stays overflowed, and reading it is an error: no wrong number gets out.
///
/// ```
/// use kvsize::units::Exact;
/// let bytes = (Exact::from(80u64) * 8u64 * 128u64 * 2u64).div_ceil(7u64);
/// assert_eq!(bytes.get(), Ok(23_406));
/// assert!((Exact::from(u64::MAX) * u64::MAX * u64::MAX).get().is_err());
/// assert!((Exact::from(1u64) - 2u64).get().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact(u128);

/// What stands for an overflow, so that a number takes two registers and no more: nothing of ours comes near it.
const OVERFLOWED: u128 = u128::MAX;

impl Exact {
    /// 0
    pub const ZERO: Self = Self(0);
    /// 1
    pub const ONE: Self = Self(1);

    /// The quotient, rounded up.
    #[must_use]
    pub fn div_ceil(self, divisor: impl Into<Self>) -> Self {
        self.with(divisor.into(), |a, b| match small(a, b) {
            Some((_, 0)) => None,
            Some((a, b)) => Some(a.div_ceil(b).into()),
            None => a.checked_sub(1).map_or(Some(0), |less| quotient(less, b)?.checked_add(1)),
        })
    }

    /// The smallest multiple of `unit` that is no smaller.
    #[must_use]
    pub fn round_up_to(self, unit: impl Into<Self>) -> Self {
        let unit = unit.into();
        self.div_ceil(unit) * unit
    }

    /// The smaller of the two, unless one overflowed.
    #[must_use]
    pub fn min(self, other: impl Into<Self>) -> Self {
        self.with(other.into(), |a, b| Some(a.min(b)))
    }

    /// The larger of the two, unless one overflowed.
    #[must_use]
    pub fn max(self, other: impl Into<Self>) -> Self {
        self.with(other.into(), |a, b| Some(a.max(b)))
    }

    /// The difference, or 0 where `other` is larger: for what is left of something.
    #[must_use]
    pub fn less(self, other: impl Into<Self>) -> Self {
        self.with(other.into(), |a, b| Some(a.saturating_sub(b)))
    }

    /// The number, if it is below 2⁶⁴.
    ///
    /// # Errors
    /// [`Code::TooLarge`](super::Code::TooLarge) after an overflow.
    pub fn get(self) -> Result<u64, Error> {
        self.wide().and_then(|number| u64::try_from(number).map_err(|_| Error::too_large()))
    }

    /// The number, if it is below 2¹²⁸ − 1.
    ///
    /// # Errors
    /// [`Code::TooLarge`](super::Code::TooLarge) after an overflow.
    pub fn wide(self) -> Result<u128, Error> {
        if self.0 == OVERFLOWED { Err(Error::too_large()) } else { Ok(self.0) }
    }

    /// The number as bytes.
    ///
    /// # Errors
    /// [`Code::TooLarge`](super::Code::TooLarge) after an overflow.
    pub fn bytes(self) -> Result<Bytes, Error> {
        self.get().map(Bytes)
    }

    /// The number as tokens.
    ///
    /// # Errors
    /// [`Code::TooLarge`](super::Code::TooLarge) after an overflow.
    pub fn tokens(self) -> Result<Tokens, Error> {
        self.get().map(Tokens)
    }

    #[inline]
    fn with(self, other: Self, operation: impl Fn(u128, u128) -> Option<u128>) -> Self {
        match (self.0, other.0) {
            (OVERFLOWED, _) | (_, OVERFLOWED) => Self(OVERFLOWED),
            (a, b) => Self(operation(a, b).unwrap_or(OVERFLOWED)),
        }
    }
}

/// Both in one word, as nearly all are: much faster to multiply and to divide.
#[inline]
fn small(a: u128, b: u128) -> Option<(u64, u64)> {
    Some((a.try_into().ok()?, b.try_into().ok()?))
}

#[inline]
fn product(a: u128, b: u128) -> Option<u128> {
    small(a, b).map_or_else(|| a.checked_mul(b), |(a, b)| Some(u128::from(a).wrapping_mul(b.into())))
}

#[inline]
fn quotient(a: u128, b: u128) -> Option<u128> {
    small(a, b).map_or_else(|| a.checked_div(b), |(a, b)| a.checked_div(b).map(Into::into))
}

#[inline]
fn remainder(a: u128, b: u128) -> Option<u128> {
    small(a, b).map_or_else(|| a.checked_rem(b), |(a, b)| a.checked_rem(b).map(Into::into))
}

macro_rules! from_unsigned {
    ($($number:ty),*) => {$(
        impl From<$number> for Exact {
            #[inline]
            fn from(number: $number) -> Self {
                Self(u128::try_from(number).unwrap_or(OVERFLOWED))
            }
        }
    )*};
}
from_unsigned!(u8, u16, u32, u64, u128, usize);

impl From<Bytes> for Exact {
    fn from(Bytes(bytes): Bytes) -> Self {
        bytes.into()
    }
}

impl From<Tokens> for Exact {
    fn from(Tokens(tokens): Tokens) -> Self {
        tokens.into()
    }
}

macro_rules! operator {
    ($($operator:ident $method:ident $checked:path),*) => {$(
        impl<T: Into<Exact>> $operator<T> for Exact {
            type Output = Self;

            #[inline]
            fn $method(self, other: T) -> Self {
                self.with(other.into(), $checked)
            }
        }
    )*};
}
operator!(Add add u128::checked_add, Sub sub u128::checked_sub, Mul mul product, Div div quotient, Rem rem remainder);

impl<T: Into<Self>> Sum<T> for Exact {
    fn sum<I: Iterator<Item = T>>(numbers: I) -> Self {
        numbers.fold(Self::ZERO, |sum, number| sum + number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number() -> impl Strategy<Value = u128> {
        prop_oneof![
            0u128..20,
            u128::from(u64::MAX) - 3..u128::from(u64::MAX) + 3,
            any::<u128>(),
            u128::MAX - 3..=u128::MAX
        ]
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_wider_numbers_come_to(a in number(), b in number()) {
            let (exact, overflowed) = (Exact::from(a), Exact(OVERFLOWED));
            let is = |exact: Exact, wider: Option<u128>| {
                let number = wider.filter(|_| a != OVERFLOWED && b != OVERFLOWED);
                exact.wide().ok() == number.filter(|&number| number != OVERFLOWED)
            };
            prop_assert!(is(exact * b, a.checked_mul(b)));
            prop_assert!(is(exact / b, a.checked_div(b)));
            prop_assert!(is(exact % b, a.checked_rem(b)));
            prop_assert!(is(exact + b, a.checked_add(b)));
            prop_assert!(is(exact - b, a.checked_sub(b)));
            prop_assert!(is(exact.div_ceil(b), (b > 0).then(|| a.div_ceil(b))));
            prop_assert!((overflowed * b).wide().is_err() && (exact + overflowed).wide().is_err());
        }
    }
}
