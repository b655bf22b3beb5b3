//! Parts of a whole in millionths, which are four places of a percent.

/// Reads a percentage, `5%` or `2.5%`, as millionths of a whole; none of what is no such text, or is finer than that.
///
/// ```
/// use kvsize::units::parse_percentage;
/// assert_eq!(parse_percentage("2.5%"), Some(25_000));
/// assert_eq!(parse_percentage("2.5"), None);
/// ```
pub fn parse_percentage(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 4 || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return None;
    }
    format!("{whole}{fraction:0<4}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_millionths() {
        for (text, expected) in [
            ("5%", Some(50_000)),
            ("2.5%", Some(25_000)),
            ("0.0001%", Some(1)),
            ("250%", Some(2_500_000)),
            ("0%", Some(0)),
        ] {
            assert_eq!(parse_percentage(text), expected, "{text}");
        }
        for text in ["5", "%", ".5%", "5.%", "-5%", "+5%", "5 %", "0.00001%", "5e1%", "99999999%", "", "５%"] {
            assert_eq!(parse_percentage(text), None, "{text}");
        }
    }
}
