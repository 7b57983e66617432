//! What values of a feature and whole rows must be, as the job declares it.

use std::collections::BTreeSet;

use regex::Regex;

use crate::features::declaration::Literal;

/// What becomes of a row whose value fails a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFail {
    /// The row is a dead letter.
    DeadLetter,
    /// The feature's default takes the place of the value.
    Default,
    /// The nearest bound takes the place of the value.
    Clip,
    /// The row goes on, and its prediction names the rule.
    Flag,
}

impl OnFail {
    /// The word in job files and metrics.
    pub fn name(self) -> &'static str {
        match self {
            OnFail::DeadLetter => "dead_letter",
            OnFail::Default => "default",
            OnFail::Clip => "clip",
            OnFail::Flag => "flag",
        }
    }
}

/// What values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// Whole numbers.
    Integer,
    Number,
    Text,
}

/// A regular expression that texts must match from their first character to their last.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    whole: Regex,
}

impl Pattern {
    /// # Errors
    /// What is wrong with the expression, on one line.
    pub fn new(text: &str) -> Result<Self, String> {
        let compiled = |text: &str| Regex::new(text).map_err(|error| reason(&error));
        // What is sound only behind other text would be another expression.
        compiled(text)?;
        let whole = compiled(&format!(r"\A(?:{text})\z"))?;
        Ok(Pattern { text: text.to_owned(), whole })
    }

    pub fn matches(&self, text: &str) -> bool {
        self.whole.is_match(text)
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What is wrong with a regular expression, on one line.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(bytes) => format!("it needs more than {bytes} bytes"),
        // The last line of several, of which the others show where.
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        }
    }
}

/// What values of a feature must be. A null is a value of no rule but `required`.
#[derive(Clone, Debug)]
pub struct Validity {
    pub value_type: Option<ValueType>,
    /// The least and the greatest value, which are allowed.
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub allowed: Option<Vec<Literal>>,
    pub pattern: Option<Pattern>,
    /// Whether a null fails, also where the feature has a default.
    pub required: bool,
    pub on_fail: OnFail,
}

/// A rule over whole rows.
#[derive(Clone, Debug)]
pub struct Check {
    pub name: String,
    /// Over columns of the event and features, as they are when all rules of features are done with. A
    /// row fails where it is false; where it is null, as in a CHECK of SQL, it does not.
    pub sql: String,
    pub on_fail: OnFail,
}

/// What is wrong with a rule, under a key of it; under none it is of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsound {
    pub key: &'static str,
    pub message: String,
}

fn unsound(key: &'static str, message: impl Into<String>) -> Result<(), Unsound> {
    Err(Unsound { key, message: message.into() })
}

impl Validity {
    /// No rule, and what becomes of rows that fail one.
    pub fn none(on_fail: OnFail) -> Self {
        Validity {
            value_type: None,
            min: None,
            max: None,
            allowed: None,
            pattern: None,
            required: false,
            on_fail,
        }
    }

    /// Whether the rules can be meant, for a feature with this default.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self, default: Option<&Literal>, allow_null: bool) -> Result<(), Unsound> {
        let Validity { value_type, min, max, allowed, pattern, required, on_fail } = self;
        let has_bounds = min.is_some() || max.is_some();
        let has_others =
            value_type.is_some() || allowed.is_some() || pattern.is_some() || *required;
        if !has_bounds && !has_others {
            return unsound("", "has no rule: type, min, max, allowed, pattern or required");
        }
        for (key, bound) in [("min", min), ("max", max)] {
            if bound.is_some_and(|bound| !bound.is_finite()) {
                return unsound(key, "it must be a finite number; leave it out for no bound");
            }
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return unsound("min", format!("{min} is over max = {max}: no value would do"));
        }
        self.check_allowed()?;
        match on_fail {
            OnFail::Clip if !has_bounds => {
                return unsound("on_fail", "clip needs a bound: min or max");
            }
            OnFail::Clip if has_others => {
                return unsound(
                    "on_fail",
                    "clip is for min and max alone; make other rules [checks]",
                );
            }
            OnFail::Default if default.is_none() => {
                return unsound("on_fail", "default needs the key `default` of the feature");
            }
            _ => {}
        }
        if *required && allow_null {
            return unsound(
                "required",
                "the feature has allow_null = true, which says the opposite",
            );
        }
        if *required && *on_fail == OnFail::DeadLetter && default.is_some() {
            let message = "null would be a dead letter and never become the feature's default; \
                           leave one of them out, or say on_fail = \"default\"";
            return unsound("required", message);
        }
        match default.and_then(|default| Some((default, self.broken_by(default)?))) {
            Some((default, key)) => {
                unsound(key, format!("the feature's own default {default} breaks this rule"))
            }
            None => Ok(()),
        }
    }

    fn check_allowed(&self) -> Result<(), Unsound> {
        let Some(allowed) = &self.allowed else { return Ok(()) };
        let is_number = |literal: &Literal| matches!(literal, Literal::Number(_));
        let texts: BTreeSet<String> = allowed.iter().map(ToString::to_string).collect();
        match allowed.first() {
            None => unsound("allowed", "is empty: no value would do"),
            Some(first) if allowed.iter().any(|other| is_number(other) != is_number(first)) => {
                unsound("allowed", "has numbers and texts; a feature is one or the other")
            }
            Some(_)
                if allowed.iter().any(|one| matches!(one, Literal::Number(n) if n.is_nan())) =>
            {
                unsound("allowed", "NaN is a null, and no value")
            }
            Some(_) if texts.len() < allowed.len() => unsound("allowed", "lists a value twice"),
            Some(_) => Ok(()),
        }
    }

    /// The first rule that a value breaks, by its key.
    fn broken_by(&self, value: &Literal) -> Option<&'static str> {
        let broken = match value {
            Literal::Number(number) => [
                ("type", self.value_type == Some(ValueType::Integer) && !is_whole(*number)),
                ("min", self.min.is_some_and(|min| *number < min)),
                ("max", self.max.is_some_and(|max| *number > max)),
                ("pattern", false),
            ],
            Literal::Text(text) => [
                ("pattern", self.pattern.as_ref().is_some_and(|pattern| !pattern.matches(text))),
                ("type", false),
                ("min", false),
                ("max", false),
            ],
        };
        let is_allowed = self.allowed.as_ref().is_none_or(|allowed| allowed.contains(value));
        let broken = broken.into_iter().chain([("allowed", !is_allowed)]);
        broken.into_iter().find_map(|(key, is_broken)| is_broken.then_some(key))
    }
}

/// Whether it is a whole number; an infinity is none.
pub(super) fn is_whole(number: f64) -> bool {
    number.is_finite() && number.trunc() == number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Validity {
        Validity::none(OnFail::DeadLetter)
    }

    #[test]
    fn a_pattern_is_of_the_whole_text() {
        let matches = |pattern: &str, text: &str| Pattern::new(pattern).unwrap().matches(text);
        assert!(matches("[a-z]+", "abc") && matches("^[a-z]+$", "abc"));
        assert!(!matches("[a-z]+", "abc1") && !matches("[a-z]+", "1abc") && !matches("[a-z]+", ""));
        // Neither alternative alone, nor a line of several, nor one with an end of line.
        assert!(matches("a|ab", "ab") && !matches("a|ab", "xab"));
        assert!(!matches("a", "a\n") && !matches("a$", "a\nb") && matches("(?s)a.*", "a\nb"));
        assert!(matches("(?i)é+", "ÉÉ") && matches("", "") && !matches("", "x"));
    }

    #[test]
    fn what_is_no_pattern_is_said_on_one_line() {
        let said = |text: &str| Pattern::new(text).err().unwrap();
        assert_eq!(said("[a-"), "unclosed character class");
        assert_eq!(said("a)(b"), "unopened group");
        assert_eq!(
            said("(?=a)"),
            "look-around, including look-ahead and look-behind, is not supported"
        );
        assert!(
            said("(?:a{1000}){1000}").starts_with("it needs more than"),
            "{}",
            said("(?:a{1000}){1000}")
        );
        assert!(said("(?x) a # b").contains("unclosed group"));
    }

    /// The key of what is wrong.
    fn key(valid: Validity, default: Option<Literal>, allow_null: bool) -> &'static str {
        valid.check(default.as_ref(), allow_null).map_or_else(|wrong| wrong.key, |()| "sound")
    }

    #[test]
    fn rules_that_cannot_be_meant_are_refused() {
        let number = |number| Some(Literal::Number(number));
        let text = |text: &str| Some(Literal::Text(text.to_owned()));
        let bounds = |min, max| Validity { min: Some(min), max: Some(max), ..none() };
        assert_eq!(key(none(), None, false), "");
        assert_eq!(key(bounds(1.0, 1.0), None, false), "sound");
        assert_eq!(key(bounds(2.0, 1.0), None, false), "min");
        assert_eq!(key(bounds(0.0, f64::INFINITY), None, false), "max");
        assert_eq!(key(bounds(f64::NAN, 0.0), None, false), "min");
        assert_eq!(key(bounds(0.0, 1.0), number(1.0), false), "sound");
        assert_eq!(key(bounds(0.0, 1.0), number(1.5), false), "max");
        assert_eq!(key(bounds(0.0, 1.0), number(-0.5), false), "min");

        let on_fail = |on_fail, valid: Validity| Validity { on_fail, ..valid };
        assert_eq!(key(on_fail(OnFail::Clip, bounds(0.0, 1.0)), None, true), "sound");
        let required = || Validity { required: true, ..none() };
        assert_eq!(key(on_fail(OnFail::Clip, required()), None, false), "on_fail");
        let both = Validity { required: true, ..bounds(0.0, 1.0) };
        assert_eq!(key(on_fail(OnFail::Clip, both), None, false), "on_fail");
        assert_eq!(key(on_fail(OnFail::Default, bounds(0.0, 1.0)), None, false), "on_fail");
        assert_eq!(key(on_fail(OnFail::Default, required()), number(1.0), false), "sound");
        assert_eq!(key(required(), number(1.0), false), "required");
        assert_eq!(key(required(), None, true), "required");
        assert_eq!(key(on_fail(OnFail::Flag, required()), number(1.0), false), "sound");

        let whole = || Validity { value_type: Some(ValueType::Integer), ..none() };
        assert_eq!(key(whole(), number(-3.0), false), "sound");
        assert_eq!(key(whole(), number(0.5), false), "type");
        let pattern = || Validity { pattern: Pattern::new("[a-z]+").ok(), ..none() };
        assert_eq!(key(pattern(), text("a"), false), "sound");
        assert_eq!(key(pattern(), text("A"), false), "pattern");

        let allowed = |allowed| Validity { allowed: Some(allowed), ..none() };
        let texts = |texts: &[&str]| texts.iter().flat_map(|one| text(one)).collect::<Vec<_>>();
        assert_eq!(key(allowed(texts(&["a", "b"])), text("b"), false), "sound");
        assert_eq!(key(allowed(texts(&["a", "b"])), text("c"), false), "allowed");
        assert_eq!(key(allowed(texts(&["a", "a"])), None, false), "allowed");
        assert_eq!(key(allowed(vec![]), None, false), "allowed");
        let mixed = texts(&["1"]).into_iter().chain(number(1.0)).collect();
        assert_eq!(key(allowed(mixed), None, false), "allowed");
        assert_eq!(key(allowed(vec![Literal::Number(f64::NAN)]), None, false), "allowed");
    }
}
