//! References to registered models, as MLflow writes them.

use std::fmt::{self, Display, Formatter};

/// What such a reference begins with.
pub const SCHEME: &str = "models:/";

/// A registered model, and which of its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub name: String,
    pub which: Which,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The version that an alias stands on, such as `champion`.
    Alias(String),
    /// The newest version of a stage, such as `Production`.
    Stage(String),
    Number(u64),
    /// The newest version there is.
    Latest,
}

impl Reference {
    /// Of `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `models:/NAME/STAGE` and `models:/NAME/latest`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORMS: &str = "models:/NAME@ALIAS, models:/NAME/VERSION, models:/NAME/STAGE or \
                             models:/NAME/latest";
        let wrong = || format!("{text:?} is no reference to a model; there are {FORMS}");
        let rest = text.strip_prefix(SCHEME).ok_or_else(wrong)?;
        // An alias has neither sign in it, a name may have the former.
        let (name, which) = match (rest.rsplit_once('@'), rest.split_once('/')) {
            (Some((name, alias)), None) => (name, Which::Alias(alias.to_owned())),
            (_, Some((name, which))) => (name, Which::of(which)),
            (None, None) => return Err(wrong()),
        };
        let is_empty = match &which {
            Which::Alias(text) | Which::Stage(text) => text.is_empty() || text.contains('/'),
            Which::Number(_) | Which::Latest => false,
        };
        if name.is_empty() || is_empty {
            return Err(wrong());
        }
        Ok(Reference { name: name.to_owned(), which })
    }
}

impl Which {
    fn of(text: &str) -> Self {
        match text.parse() {
            Ok(number) => Which::Number(number),
            Err(_) if text.eq_ignore_ascii_case("latest") => Which::Latest,
            Err(_) => Which::Stage(text.to_owned()),
        }
    }
}

impl Display for Reference {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match &self.which {
            Which::Alias(alias) => write!(f, "{SCHEME}{name}@{alias}"),
            Which::Stage(stage) => write!(f, "{SCHEME}{name}/{stage}"),
            Which::Number(number) => write!(f, "{SCHEME}{name}/{number}"),
            Which::Latest => write!(f, "{SCHEME}{name}/latest"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_mlflow_reads_them() {
        let alias = |text: &str| Which::Alias(text.to_owned());
        let stage = |text: &str| Which::Stage(text.to_owned());
        for (text, name, which) in [
            ("models:/risk@champion", "risk", alias("champion")),
            ("models:/risk@2", "risk", alias("2")),
            ("models:/risk/3", "risk", Which::Number(3)),
            ("models:/risk/Production", "risk", stage("Production")),
            ("models:/risk/latest", "risk", Which::Latest),
            ("models:/a b.c/3", "a b.c", Which::Number(3)),
            ("models:/a@b/3", "a@b", Which::Number(3)),
            ("models:/a@b@c", "a@b", alias("c")),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference, Reference { name: name.to_owned(), which }, "{text}");
            assert_eq!(reference.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_reference_says_what_is_one() {
        for text in [
            "models:/",
            "models:/risk",
            "models:/@a",
            "models:/risk@",
            "models:/risk/",
            "models://risk/3",
            "runs:/1/model",
            "models:/risk/a/b",
        ] {
            let why = Reference::parse(text).unwrap_err();
            assert!(why.contains("models:/NAME@ALIAS"), "{text}: {why}");
        }
    }
}
