//! Bytes, and the decimal and binary units they are written in.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::decimal::{Decimal, Product, fixed_point};
use super::{Code, Error, Quantity, group_thousands, named, too_large};

/// A number of bytes. Arithmetic is checked; there is no wrapping and no float.
///
/// A fraction of a unit is rounded down to a whole byte, so that a budget never grows by being written with decimals
/// (engines print their memory as `63.47 GiB`); a fraction of a byte itself is refused.
///
/// ```
/// use kvsize::units::Bytes;
/// assert_eq!("80GB".parse(), Ok(Bytes(80_000_000_000)));
/// assert_eq!("1.5TiB".parse(), Ok(Bytes(1_649_267_441_664)));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
pub struct Bytes(pub u64);

impl Bytes {
    /// The sum, unless it passes 2⁶⁴ − 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The product, unless it passes 2⁶⁴ − 1.
    pub fn checked_mul(self, factor: u64) -> Option<Self> {
        self.0.checked_mul(factor).map(Self)
    }

    /// The amount in `unit`, without the unit's name: three decimals, rounded half away from zero; whole for `B`.
    ///
    /// ```
    /// use kvsize::units::{ByteUnit, Bytes};
    /// assert_eq!(Bytes(1_228_800_000).in_unit(ByteUnit::Gigabytes), "1.229");
    /// ```
    pub fn in_unit(self, unit: ByteUnit) -> String {
        match unit {
            ByteUnit::Bytes => group_thousands(self.0),
            _ => fixed_point(u128::from(self.0), u128::from(unit.bytes()), 3),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&group_thousands(self.0))
    }
}

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (number, suffix) = Decimal::split(text).ok_or_else(|| Quantity::Bytes.not_a_number(text))?;
        let unit = match suffix.trim_start() {
            "" => ByteUnit::Bytes,
            suffix => ByteUnit::read(suffix).ok_or_else(|| Quantity::Bytes.unknown_suffix(text))?,
        };
        match number.times(unit.bytes()) {
            Product::Fraction(_) if unit == ByteUnit::Bytes => Err(Quantity::Bytes.not_whole(text)),
            Product::Whole(bytes) | Product::Fraction(bytes) => Ok(Self(bytes)),
            Product::TooLarge => Err(too_large(text)),
        }
    }
}

named! {
    /// A unit that bytes are read and printed in: decimal (`GB`, 10⁹) and binary (`GiB`, 2³⁰) are never confused.
    pub enum ByteUnit {
        /// 1
        Bytes = "B",
        /// 10³
        Kilobytes = "kB",
        /// 2¹⁰
        Kibibytes = "KiB",
        /// 10⁶
        Megabytes = "MB",
        /// 2²⁰
        Mebibytes = "MiB",
        /// 10⁹
        Gigabytes = "GB",
        /// 2³⁰
        Gibibytes = "GiB",
        /// 10¹²
        Terabytes = "TB",
        /// 2⁴⁰
        Tebibytes = "TiB",
    }
}

impl ByteUnit {
    /// Bytes in one of this unit.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Bytes => 1,
            Self::Kilobytes => 1_000,
            Self::Kibibytes => 1 << 10,
            Self::Megabytes => 1_000_000,
            Self::Mebibytes => 1 << 20,
            Self::Gigabytes => 1_000_000_000,
            Self::Gibibytes => 1 << 30,
            Self::Terabytes => 1_000_000_000_000,
            Self::Tebibytes => 1 << 40,
        }
    }

    /// The one that is written so, in lower or in upper case.
    fn read(text: &str) -> Option<Self> {
        let is_named = |name: &str| name == text || name.to_lowercase() == text || name.to_uppercase() == text;
        Self::ALL.iter().copied().find(|unit| is_named(unit.name()))
    }

    /// The largest decimal unit in which `largest` is at least one: the unit of a column whose largest entry it is.
    pub fn fitting(largest: Bytes) -> Self {
        let mut decimal = [Self::Terabytes, Self::Gigabytes, Self::Megabytes, Self::Kilobytes].into_iter();
        decimal.find(|unit| largest.0 >= unit.bytes()).unwrap_or(Self::Bytes)
    }
}

impl FromStr for ByteUnit {
    type Err = Error;

    /// Reads a unit's name as it is written, in lower or in upper case; `Gb` is a gigabit and refused.
    fn from_str(text: &str) -> Result<Self, Error> {
        let remedy = "use one of B, kB, KiB, MB, MiB, GB, GiB, TB, TiB or auto";
        Self::read(text).ok_or_else(|| Error::new(Code::UnknownUnit, "", text, "is not a unit of bytes", remedy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_that_pass() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("80GB", 80_000_000_000),
            ("80 GB", 80_000_000_000),
            ("80gb", 80_000_000_000),
            ("80GiB", 85_899_345_920),
            ("1.5TiB", 1_649_267_441_664),
            ("0.5KiB", 512),
            ("24kB", 24_000),
            ("141.1GB", 141_100_000_000),
            ("63.47GiB", 68_150_393_569), // 68,150,393,569.28 rounded down
            ("0.000000001GB", 1),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
    }

    #[test]
    fn bytes_that_fail() {
        for text in [
            "",
            "GB",
            "-1GB",
            "+1GB",
            "1e9",
            "NaN",
            "inf",
            "1.5",
            "1.5B",
            "1.GB",
            ".5GB",
            "80G",
            "80Gi",
            "80GBs",
            "1,000",
            "80 G B",
            "80Gb",
            "18446744073709551616",
            "16777216TiB",
            "999999999999999999999999999999999999999999TB",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_unit_of_a_column_fits_its_largest_entry() {
        for (bytes, unit) in [
            (0, ByteUnit::Bytes),
            (999, ByteUnit::Bytes),
            (1_000, ByteUnit::Kilobytes),
            (999_999_999, ByteUnit::Megabytes),
            (1_000_000_000_000, ByteUnit::Terabytes),
        ] {
            assert_eq!(ByteUnit::fitting(Bytes(bytes)), unit);
        }
    }

    proptest! {
        #[test]
        fn whole_units_round_trip(count in 0u64..1 << 20, index in 0usize..9) {
            let unit = ByteUnit::ALL[index];
            let bytes = Bytes(count * unit.bytes());
            prop_assert_eq!(format!("{count}{}", unit.name()).parse(), Ok(bytes));
            if unit != ByteUnit::Bytes {
                prop_assert_eq!(bytes.in_unit(unit), format!("{count}.000"));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<Bytes>();
        }
    }
}
