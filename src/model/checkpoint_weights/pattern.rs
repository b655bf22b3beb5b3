//! The patterns by which quantizers name modules: plain names, wildcards, and `re:` with the regular expressions that
//! published files use.

use std::cell::Cell;

/// Names of modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// Components of a name that stand next to each other, as `self_attn` or `mlp.gate`.
    Components(String),
    /// `*` stands for any text, in a name or in that of a module that it belongs to.
    Wildcard(String),
    /// From the begin of a name on.
    Expression(Expression),
}

/// What engines, and the classes of models with towers, put before the layers.
const PREFIXES: &[&str] = &["model.", "language_model.", "backbone.", "text_model.", "decoder."];

impl Pattern {
    /// The pattern; `None` for an expression that is not read here.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(expression) = text.strip_prefix("re:") {
            return Expression::parse(without_prefixes(expression)).map(Self::Expression);
        }
        let text = without_prefixes(text);
        Some(if text.contains('*') { Self::Wildcard(text.into()) } else { Self::Components(text.into()) })
    }

    /// Whether it names this module (`layers.3.self_attn.q_proj`) or one that it belongs to.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match self {
            Self::Components(text) => {
                !text.is_empty() && format!(".{name}.").contains(&format!(".{}.", text.trim_end_matches('.')))
            }
            Self::Wildcard(text) => parents(name).any(|name| is_like(text.as_bytes(), name.as_bytes())),
            Self::Expression(expression) => expression.matches(name),
        }
    }
}

fn without_prefixes(text: &str) -> &str {
    let mut rest = text.strip_prefix('^').unwrap_or(text);
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| {
        let (name, _) = prefix.split_at(prefix.len().saturating_sub(1));
        let rest = rest.strip_prefix(name)?;
        rest.strip_prefix("\\.").or_else(|| rest.strip_prefix('.'))
    }) {
        rest = shorter;
    }
    rest
}

/// A module and all that it belongs to.
pub(super) fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.rsplit_once('.').map(|(parent, _)| parent))
}

/// Whether a text is like one with `*` in it.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    let mut parts = pattern.split(|&byte| byte == b'*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&[u8]> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle.iter().filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|window| window == *part) else { return false };
        rest = rest.get(at.saturating_add(part.len())..).unwrap_or_default();
    }
    rest.ends_with(last)
}

/// A regular expression: text, `.`, classes, groups, alternatives, `*`, `+`, `?` and `$`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expression(Vec<Vec<Piece>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    atom: Atom,
    least: u32,
    most: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Atom {
    One(char),
    Any,
    Digit,
    Class { ranges: Vec<(char, char)>, negated: bool },
    Group(Vec<Vec<Piece>>),
    End,
}

/// Steps after which a match is given up: an expression of a file must not stop the program.
const MAX_STEPS: u32 = 20_000;
/// Groups in groups.
const MAX_DEPTH: u32 = 8;

impl Expression {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = text.chars().peekable();
        let alternatives = alternatives(&mut rest, 0)?;
        rest.peek().is_none().then_some(Self(alternatives))
    }

    fn matches(&self, name: &str) -> bool {
        let steps = Cell::new(0);
        self.0.iter().any(|pieces| matches(pieces, name, &steps, &mut |_| true))
    }
}

type Text<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn alternatives(rest: &mut Text<'_>, depth: u32) -> Option<Vec<Vec<Piece>>> {
    let mut all = vec![Vec::new()];
    while let Some(&next) = rest.peek() {
        match next {
            ')' => break,
            '|' => {
                rest.next();
                all.push(Vec::new());
            }
            '^' => {
                rest.next();
            }
            _ => all.last_mut()?.push(piece(rest, depth)?),
        }
    }
    Some(all)
}

fn piece(rest: &mut Text<'_>, depth: u32) -> Option<Piece> {
    let atom = match rest.next()? {
        '.' => Atom::Any,
        '$' => Atom::End,
        '\\' => match rest.next()? {
            'd' => Atom::Digit,
            letter if letter.is_ascii_alphanumeric() => return None,
            other => Atom::One(other),
        },
        '[' => class(rest)?,
        '(' => {
            if depth >= MAX_DEPTH {
                return None;
            }
            if rest.next_if_eq(&'?').is_some() && rest.next() != Some(':') {
                return None;
            }
            let group = alternatives(rest, depth.saturating_add(1))?;
            rest.next_if_eq(&')')?;
            Atom::Group(group)
        }
        '*' | '+' | '?' | '{' => return None,
        other => Atom::One(other),
    };
    let (least, most) = match rest.peek() {
        Some('*') => (0, u32::MAX),
        Some('+') => (1, u32::MAX),
        Some('?') => (0, 1),
        _ => return Some(Piece { atom, least: 1, most: 1 }),
    };
    rest.next();
    let _lazy = rest.next_if_eq(&'?');
    Some(Piece { atom, least, most })
}

fn class(rest: &mut Text<'_>) -> Option<Atom> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        let first = match rest.next()? {
            ']' => return Some(Atom::Class { ranges, negated }),
            '\\' => match rest.next()? {
                'd' => {
                    ranges.push(('0', '9'));
                    continue;
                }
                other => other,
            },
            other => other,
        };
        let last = if rest.next_if_eq(&'-').is_some() { rest.next()? } else { first };
        ranges.push((first, last));
    }
}

/// Whether pieces match the begin of a text, and `then` what is left of it.
fn matches(pieces: &[Piece], text: &str, steps: &Cell<u32>, then: &mut dyn FnMut(&str) -> bool) -> bool {
    match pieces.split_first() {
        None => then(text),
        Some((piece, others)) => repeat(piece, 0, text, steps, &mut |rest| matches(others, rest, steps, then)),
    }
}

fn repeat(piece: &Piece, times: u32, text: &str, steps: &Cell<u32>, then: &mut dyn FnMut(&str) -> bool) -> bool {
    steps.set(steps.get().saturating_add(1));
    if steps.get() > MAX_STEPS {
        return false;
    }
    let again = times < piece.most
        && one(&piece.atom, text, steps, &mut |rest| {
            // What takes nothing is not repeated.
            (rest.len() < text.len() || times < piece.least)
                && repeat(piece, times.saturating_add(1), rest, steps, then)
        });
    again || (times >= piece.least && then(text))
}

fn one(atom: &Atom, text: &str, steps: &Cell<u32>, then: &mut dyn FnMut(&str) -> bool) -> bool {
    let is_one = |character: char| match atom {
        Atom::One(wanted) => *wanted == character,
        Atom::Any => true,
        Atom::Digit => character.is_ascii_digit(),
        Atom::Class { ranges, negated } => {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&character)) != *negated
        }
        Atom::Group(_) | Atom::End => false,
    };
    match atom {
        Atom::End => text.is_empty() && then(text),
        Atom::Group(alternatives) => alternatives.iter().any(|pieces| matches(pieces, text, steps, then)),
        Atom::One(_) | Atom::Any | Atom::Digit | Atom::Class { .. } => {
            let mut rest = text.chars();
            rest.next().is_some_and(is_one) && then(rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_of_published_files_name_what_their_quantizers_leave_out() {
        let named = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
        for (pattern, name, is_named) in [
            ("re:.*self_attn.*", "layers.3.self_attn.q_proj", true),
            ("re:.*mlp\\.(gate|up|gate_up|down)_proj.*", "layers.0.mlp.gate_proj", true),
            ("re:.*mlp\\.(gate|up|gate_up|down)_proj.*", "layers.3.mlp.experts.0.gate_proj", false),
            ("re:.*mlp.gate$", "layers.3.mlp.gate", true),
            ("re:.*mlp.gate$", "layers.3.mlp.gate_proj", false),
            ("re:^model\\.layers\\.[0-3]\\..*", "layers.3.mlp.up_proj", true),
            ("re:model.layers.\\d+.mlp", "layers.12.mlp.up_proj", true),
            ("re:layers\\.(?:1|2)\\.", "layers.3.mlp.up_proj", false),
            ("model.language_model.layers.0.mlp*", "layers.0.mlp.up_proj", true),
            ("model.language_model.layers.0.mlp*", "layers.10.mlp.up_proj", false),
            ("language_model.model.layers.1.self_attn*", "layers.1.self_attn.o_proj", true),
            ("*.attn.*", "layers.1.attn.wkv", true),
            ("mtp*", "layers.1.mlp.up_proj", false),
            ("model.layers.*.self_attn", "layers.7.self_attn.k_proj", true),
            ("gate", "layers.3.mlp.gate", true),
            ("gate", "layers.3.mlp.gate_proj", false),
            ("lm_head", "lm_head", true),
            ("model.layers.1", "layers.1.mlp.up_proj", true),
            ("model.layers.1", "layers.11.mlp.up_proj", false),
        ] {
            assert_eq!(named(pattern, name), is_named, "{pattern} and {name}");
        }
        // What is not read here is no pattern; what repeats without end is given up.
        for unread in ["re:a{2}", "re:(?=a)", "re:\\w+", "re:(a"] {
            assert_eq!(Pattern::parse(unread), None, "{unread}");
        }
        assert!(!named("re:(a*)*(a*)*(a*)*b", &"a".repeat(60)));
    }
}
