//! Sections [features.NAME] and [checks.NAME].

use std::path::Path;

use driftline_operators::features::declaration::Literal;
use driftline_operators::features::rules::FAILED_RULES;
use driftline_operators::features::validity::{Check, OnFail, Pattern, Validity, ValueType};
use driftline_operators::features::window::{Aggregate, WindowSpec};
use driftline_operators::watched::PREDICTION;
use indexmap::IndexMap;

use super::problem::{Problem, suggestion};
use crate::config::duration::length_ms;
use crate::config::in_words;
use crate::config::job::{Feature, FeatureKind, Figure, Table};
use crate::config::raw::words::{NullDefault, Number};
use crate::config::raw::{
    CheckSection, FeatureSection, LookupSection, ValidSection, WindowSection,
};

/// Keys of a window that looks back for ever, if the job does not say.
const KEYS_MAX: u64 = 1_000_000;

pub(super) fn check_features(
    raw: IndexMap<String, FeatureSection>,
    tables: &IndexMap<String, Table>,
    folder: &Path,
) -> Result<Vec<(String, Feature)>, Problem> {
    if raw.is_empty() {
        return Err(Problem::at("features", "a job needs at least one section [features.NAME]"));
    }
    let check = |(name, mut section): (String, FeatureSection)| {
        let at = |message: String| Problem::at(format!("features.{name}"), message);
        if name == PREDICTION {
            return Err(at("that is the name of the score in drift figures".to_owned()));
        }
        let valid = section.valid.take();
        let mut feature = check_feature(section, tables, folder).map_err(at)?;
        let valid = valid.map(|valid| check_valid(&name, valid, &feature));
        feature.valid = valid.transpose()?;
        Ok((name, feature))
    };
    raw.into_iter().map(check).collect()
}

fn check_feature(
    raw: FeatureSection,
    tables: &IndexMap<String, Table>,
    folder: &Path,
) -> Result<Feature, String> {
    let FeatureSection { column, sql, window, lookup, encode, default, allow_null, .. } = raw;
    let kind = match (column, sql, window, lookup, encode) {
        (Some(column), None, None, None, None) => FeatureKind::Column(column),
        (None, Some(sql), None, None, None) => FeatureKind::Sql(sql),
        (None, None, Some(window), None, None) => check_window(window)?,
        (None, None, None, Some(lookup), None) => check_lookup(lookup, tables)?,
        (None, None, None, None, Some(encode)) => {
            let categories = match (encode.categories, encode.categories_file) {
                (Some(categories), None) => categories,
                (None, Some(file)) => read_lines(&folder.join(file))?,
                _ => return Err("encode has either categories or categories_file".to_owned()),
            };
            FeatureKind::Encode { input: encode.column, categories, unseen: encode.unseen }
        }
        _ => {
            let kinds = "column, sql, window, lookup or encode";
            return Err(format!("a feature has exactly one of {kinds}"));
        }
    };
    let default = default.map(|NullDefault(value)| value);
    Ok(Feature { kind, default, allow_null, valid: None })
}

fn check_valid(name: &str, raw: ValidSection, feature: &Feature) -> Result<Validity, Problem> {
    let at = |key: &str, message: String| {
        let dot = if key.is_empty() { "" } else { "." };
        Problem::at(format!("features.{name}.valid{dot}{key}"), message)
    };
    let ValidSection { value_type, min, max, allowed, pattern, required, on_fail } = raw;
    let pattern = pattern.map(|text| {
        let wrong = |why: String| format!("{text:?} is no regular expression: {why}");
        Pattern::new(&text).map_err(|why| at("pattern", wrong(why)))
    });
    let literals = |values: Vec<NullDefault>| values.into_iter().map(|NullDefault(value)| value);
    let valid = Validity {
        value_type: value_type.map(ValueType::from),
        min: min.map(|Number(least)| least),
        max: max.map(|Number(most)| most),
        allowed: allowed.map(|values| literals(values).collect::<Vec<Literal>>()),
        pattern: pattern.transpose()?,
        required,
        on_fail: OnFail::from(on_fail),
    };
    let sound = valid.check(feature.default.as_ref(), feature.allow_null);
    sound.map_err(|wrong| at(wrong.key, wrong.message))?;
    Ok(valid)
}

/// # Errors
/// Of a check whose name may be that of a rule of a feature; of a feature that is called as the column of
/// exports that says what rows failed, where there is one.
pub(super) fn check_checks(
    raw: IndexMap<String, CheckSection>,
    features: &[(String, Feature)],
) -> Result<Vec<Check>, Problem> {
    let check = |(name, section): (String, CheckSection)| {
        if name.is_empty() || name.contains('.') {
            let message = "names of checks have no dot; rules of features have";
            return Err(Problem::at(format!("checks.{name}"), message));
        }
        Ok(Check { name, sql: section.sql, on_fail: OnFail::from(section.on_fail) })
    };
    let checks = raw.into_iter().map(check).collect::<Result<Vec<Check>, Problem>>()?;
    let of_features = features.iter().filter_map(|(_, feature)| feature.valid.as_ref());
    let mut on_fail =
        of_features.map(|valid| valid.on_fail).chain(checks.iter().map(|check| check.on_fail));
    let is_told = on_fail.any(|on_fail| on_fail != OnFail::DeadLetter);
    if is_told && features.iter().any(|(name, _)| name == FAILED_RULES) {
        let message = "that is what exports call the rules that a row failed; call it otherwise";
        return Err(Problem::at(format!("features.{FAILED_RULES}"), message));
    }
    Ok(checks)
}

fn read_lines(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| in_words(path, &error))?;
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

fn check_window(raw: WindowSection) -> Result<FeatureKind, String> {
    let WindowSection { key, value, aggregate, function, length, within, max_keys } = raw;
    let word = match (aggregate, function) {
        (Some(word), None) => word,
        (None, Some(function)) => {
            let (Some(value), Some(length), None, None) = (value, length, within, max_keys) else {
                return Err(format!("function {function:?} needs a value and a length"));
            };
            return Ok(FeatureKind::Window {
                key,
                value: Some(value),
                figure: Figure::Function(function),
                length_ms: length_ms(&length)?,
                keys_max: None,
            });
        }
        _ => return Err("a window has either an aggregate or a function".to_owned()),
    };
    let (aggregate, name) = (Aggregate::from(word), word.as_typed());
    let length = match (aggregate, &length, &within) {
        (Aggregate::TimeSinceLast, None, within) => within.as_ref(),
        (Aggregate::TimeSinceLast, ..) => {
            return Err(format!("{name} has `within`, beyond which it is null, and no length"));
        }
        (_, Some(length), None) => Some(length),
        _ => return Err(format!("{name} has a length; `within` is for time_since_last")),
    };
    match (aggregate, &value) {
        (Aggregate::TimeSinceLast, Some(_)) => {
            return Err(format!("{name} is over rows and has no value"));
        }
        (Aggregate::Count | Aggregate::TimeSinceLast, _) | (_, Some(_)) => {}
        (_, None) => return Err(format!("{name} needs a value")),
    }
    let (length_ms, keys_max) = match length {
        Some(_) if max_keys.is_some() => {
            return Err("max_keys is for time_since_last without `within`".to_owned());
        }
        Some(length) => (length_ms(length)?, None),
        None if max_keys == Some(0) => return Err("max_keys must be at least 1".to_owned()),
        None => (WindowSpec::EVER, Some(max_keys.unwrap_or(KEYS_MAX))),
    };
    let figure = Figure::Aggregate(aggregate);
    Ok(FeatureKind::Window { key, value, figure, length_ms, keys_max })
}

fn check_lookup(
    raw: LookupSection,
    tables: &IndexMap<String, Table>,
) -> Result<FeatureKind, String> {
    let LookupSection { table, key, column, age } = raw;
    let Some(found) = tables.get(&table) else {
        let known = suggestion(&table, tables.keys().map(String::as_str));
        return Err(format!("there is no section [tables.{table}]; {known}"));
    };
    match (column, age) {
        (Some(column), false) => Ok(FeatureKind::Lookup { table, key, column }),
        (None, true) if found.versions.is_some() => Ok(FeatureKind::Age { table, key }),
        (None, true) => Err(format!("tables.{table} has no time, so its values have no age")),
        _ => Err("a lookup has either a column or age = true".to_owned()),
    }
}
