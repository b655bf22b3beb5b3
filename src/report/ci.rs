//! What CI systems show by themselves: GitHub's annotations, and the XML of `JUnit`.

use super::{Format, Report, UnitChoice, clean, render};
use crate::check::Verdict;
use crate::units::ByteUnit;

/// How a check is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFormat {
    /// As all answers are.
    As(Format),
    /// GitHub's workflow commands, a line an annotation.
    Github,
    /// `JUnit`'s XML, a test a budget.
    Junit,
}

impl CheckFormat {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::As(Format::Table),
        Self::As(Format::Plain),
        Self::As(Format::Json),
        Self::As(Format::Jsonl),
        Self::As(Format::Csv),
        Self::As(Format::Markdown),
        Self::As(Format::Svg),
        Self::Github,
        Self::Junit,
    ];

    /// The name that is typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::As(format) => format.name(),
            Self::Github => "github",
            Self::Junit => "junit",
        }
    }
}

/// A report on budgets.
pub trait Cases: Report {
    /// Each of them.
    fn cases(&self, unit: ByteUnit) -> Vec<Case>;
}

/// A report on budgets in a format.
pub fn render_check(report: &impl Cases, format: CheckFormat, unit: UnitChoice) -> String {
    match format {
        CheckFormat::As(format) => render(report, format, unit),
        CheckFormat::Github => github(&report.cases(unit.resolve(report.largest()))),
        CheckFormat::Junit => junit(&report.cases(unit.resolve(report.largest()))),
    }
}

/// That nothing could be told, and why, in a format that CI systems read; none in another.
pub fn no_check(why: &str, format: CheckFormat) -> Option<String> {
    let (name, message) = ("kvsize check".into(), why.into());
    let case = Case { name, verdict: Verdict::Unknown, message, warnings: Vec::new() };
    match format {
        CheckFormat::As(_) => None,
        CheckFormat::Github => Some(github(&[case])),
        CheckFormat::Junit => Some(junit(&[case])),
    }
}

/// A budget as CI systems have it: a test that passes, fails or has an error.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// How it ends.
    pub verdict: Verdict,
    /// What there is to say of it, if anything.
    pub message: String,
    /// What may make that wrong.
    pub warnings: Vec<String>,
}

/// An annotation a budget, and one a warning. Commands and what they escape: GitHub's `actions/toolkit`, `command.ts`.
fn github(cases: &[Case]) -> String {
    // The ends of lines that a command would escape, too, are none after this.
    let data = |text: &str| clean(text).replace('%', "%25");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let command = |word: &str, name: &str, text: &str| format!("::{word} title={}::{}\n", property(name), data(text));
    let of_case = |case: &Case| {
        let word = if case.verdict == Verdict::Within { "notice" } else { "error" };
        let warnings = case.warnings.iter().map(|text| command("warning", &case.name, text));
        let said = (!case.message.is_empty()).then(|| command(word, &case.name, &case.message));
        said.into_iter().chain(warnings).collect::<String>()
    };
    cases.iter().map(of_case).collect()
}

/// A test a budget: over is a failure, and what could not be told an error. No times: the same input gives the same bytes.
fn junit(cases: &[Case]) -> String {
    let count = |verdict: Verdict| cases.iter().filter(|case| case.verdict == verdict).count();
    let counts = format!(
        "name=\"kvsize check\" tests=\"{}\" failures=\"{}\" errors=\"{}\"",
        cases.len(),
        count(Verdict::Over),
        count(Verdict::Unknown)
    );
    let of_case = |case: &Case| {
        let message = xml(&case.message);
        let inside = match case.verdict {
            Verdict::Within if message.is_empty() => String::new(),
            Verdict::Within => format!("      <system-out>{message}</system-out>\n"),
            Verdict::Over => format!("      <failure type=\"over\" message=\"{message}\"/>\n"),
            Verdict::Unknown => format!("      <error type=\"unknown\" message=\"{message}\"/>\n"),
        };
        let warnings = case.warnings.iter().map(|text| format!("      <system-err>{}</system-err>\n", xml(text)));
        let warnings: String = warnings.collect();
        format!(
            "    <testcase classname=\"kvsize.check\" name=\"{}\">\n{inside}{warnings}    </testcase>\n",
            xml(&case.name)
        )
    };
    let tests: String = cases.iter().map(of_case).collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  <testsuite {counts}>\n{tests}  \
         </testsuite>\n</testsuites>\n"
    )
}

/// Text for an attribute or an element: XML 1.0 has no way to write most control characters, nor two others.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn case(name: &str, message: &str) -> [Case; 1] {
        let warnings = vec![message.to_owned()];
        [Case { name: name.into(), verdict: Verdict::Over, message: message.into(), warnings }]
    }

    #[test]
    fn what_means_something_to_github_is_escaped() {
        assert_eq!(
            github(&case("a:b,c%", "50%\r\n::error::x, y")),
            "::error title=a%3Ab%2Cc%25::50%25  ::error::x, y\n::warning title=a%3Ab%2Cc%25::50%25  ::error::x, y\n"
        );
    }

    #[test]
    fn what_means_something_to_xml_is_escaped() {
        let text = junit(&case("a\"<&>'", "\u{0}\u{ffff}]]>"));
        assert!(text.contains("name=\"a&quot;&lt;&amp;&gt;&apos;\""), "{text}");
        assert!(text.contains("message=\" \u{fffd}]]&gt;\""), "{text}");
    }

    proptest! {
        /// Whatever a name or a message holds, it is one line a command, and ends no attribute and no element.
        #[test]
        fn no_text_breaks_out_or_is_lost(name in any::<String>(), message in "[^\\p{Cc}]\\PC*") {
            let text = github(&case(&name, &message));
            prop_assert_eq!(text.lines().count(), 2);
            prop_assert_eq!(text.matches('\n').count(), 2);
            let undone = |text: &str| {
                let text = text.replace("%3A", ":").replace("%2C", ",");
                text.replace("%25", "%")
            };
            let line = text.lines().next().unwrap().strip_prefix("::error title=").unwrap();
            // The first that ends a property ends it for the runner, too.
            let (title, said) = line.split_once("::").unwrap();
            prop_assert!(!title.contains([':', ',']));
            prop_assert_eq!(undone(title), clean(&name));
            prop_assert_eq!(said.replace("%25", "%"), clean(&message));
            let xml = junit(&case(&name, &message));
            let plain = junit(&case("", ""));
            for c in ['<', '>', '"'] {
                prop_assert_eq!(xml.matches(c).count(), plain.matches(c).count());
            }
            prop_assert!(!xml.replace('\n', "").chars().any(char::is_control));
        }
    }
}
