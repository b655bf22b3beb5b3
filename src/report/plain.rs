//! Lines for scripts.

/// Each line with its end.
pub(super) fn render(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
