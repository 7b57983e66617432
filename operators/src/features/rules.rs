//! Rules of features and rows, compiled: which values of a batch fail which of them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array, ListArray,
    PrimitiveArray, RecordBatch, StringArray, UInt32Array, new_null_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, UInt32Type};
use arrow::error::ArrowError;

use crate::features::declaration::Literal;
use crate::features::sql::Expression;
use crate::features::validity::{Check, OnFail, Pattern, Unsound, Validity, ValueType, is_whole};

/// What an enriched row failed: a list of the numbers of rules, null where it is none. Behind the
/// features, where there are rules.
pub const FAILED: &str = "__failed";

/// What is published of that: the names of the rules, in the metadata of predictions, and in exports a column
/// of them as a list in JSON, null for none.
pub const FAILED_RULES: &str = "failed_rules";

/// The rules of a job, by number: those of features in the order of features, then those of rows.
#[derive(Default)]
pub struct Rules(Vec<Rule>);

/// Something that each row must be.
pub struct Rule {
    /// As metrics and predictions call it: `FEATURE.RULE`, or the name of the check.
    pub name: String,
    pub on_fail: OnFail,
    /// What must be, in words.
    pub words: String,
    of: Of,
}

enum Of {
    /// A feature, by its position among features.
    Feature(usize, Test),
    Row,
}

/// What a value that is known must be; null only fails to be there.
#[derive(Clone)]
enum Test {
    Required,
    Whole,
    Min(f64),
    Max(f64),
    MinInteger(i64),
    MaxInteger(i64),
    /// In order, and zero without a sign.
    Numbers(Vec<f64>),
    Integers(Vec<i64>),
    Texts(Vec<String>),
    Pattern(Pattern),
}

/// What takes the place of a value that fails.
#[derive(Clone)]
enum Value {
    Number(f64),
    Integer(i64),
    Text(String),
}

impl Rules {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.0.iter()
    }

    pub fn get(&self, number: u32) -> &Rule {
        &self.0[number as usize]
    }

    pub fn names(&self, numbers: &[u32]) -> Vec<&str> {
        numbers.iter().map(|&number| self.get(number).name.as_str()).collect()
    }

    /// Whether a row that fails a rule may go on.
    pub fn let_some_go_on(&self) -> bool {
        self.0.iter().any(|rule| rule.on_fail != OnFail::DeadLetter)
    }

    /// The column of what rows failed.
    pub fn field() -> Field {
        Field::new(FAILED, numbers_type(), true)
    }

    /// Adds the rules of the feature at `position`, of which the type is `to`; none where values
    /// cannot fail them.
    pub(super) fn add_feature(
        &mut self,
        (position, name, to): (usize, &str, &DataType),
        valid: &Validity,
        default: Option<&Literal>,
    ) -> Result<Option<FeatureRules>, Unsound> {
        let tests = tests(valid, to)?;
        let first = self.0.len() as u32;
        let on_fail = valid.on_fail;
        self.0.extend(tests.iter().map(|(key, test)| Rule {
            name: format!("{name}.{key}"),
            on_fail,
            words: test.words(),
            of: Of::Feature(position, test.clone()),
        }));
        let tests: Vec<Test> = tests.into_iter().map(|(_, test)| test).collect();
        let default = default.and_then(|default| Value::of(default, to));
        Ok((!tests.is_empty()).then_some(FeatureRules { first, tests, on_fail, default }))
    }

    /// Adds a rule of rows, and returns its number.
    pub(super) fn add_check(&mut self, check: &Check) -> u32 {
        self.0.push(Rule {
            name: check.name.clone(),
            on_fail: check.on_fail,
            words: check.sql.clone(),
            of: Of::Row,
        });
        self.0.len() as u32 - 1
    }
}

/// A text is told up to so many characters.
const TOLD_MAX: usize = 60;

fn told(text: &str) -> String {
    match text.char_indices().nth(TOLD_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl Rule {
    /// What is wrong with an enriched row that fails it; its features begin at `first_feature`.
    pub fn detail(&self, rows: &RecordBatch, first_feature: usize, row: usize) -> String {
        let Rule { name, words, of, .. } = self;
        match of {
            Of::Feature(_, Test::Required) => format!("{name}: null"),
            Of::Feature(position, _) => {
                let value = shown(rows.column(first_feature + position), row);
                format!("{name}: {value} is not {}", told(words))
            }
            Of::Row => format!("{name}: not true: {}", told(words)),
        }
    }
}

/// A value of a feature.
fn shown(column: &ArrayRef, row: usize) -> String {
    if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
        return number_text(numbers.value(row));
    }
    match column.as_string_opt::<i32>() {
        Some(texts) => format!("{:?}", told(texts.value(row))),
        None => column.as_primitive::<Int64Type>().value(row).to_string(),
    }
}

fn number_text(number: f64) -> String {
    let is_long = number.is_finite() && number != 0.0 && !(1e-5..1e16).contains(&number.abs());
    if is_long { format!("{number:e}") } else { number.to_string() }
}

impl Test {
    fn words(&self) -> String {
        let one_of = |values: Vec<String>| format!("one of {}", values.join(", "));
        match self {
            Test::Required => "there".to_owned(),
            Test::Whole => "a whole number".to_owned(),
            Test::Min(least) => format!("at least {}", number_text(*least)),
            Test::Max(most) => format!("at most {}", number_text(*most)),
            Test::MinInteger(least) => format!("at least {least}"),
            Test::MaxInteger(most) => format!("at most {most}"),
            Test::Numbers(all) => one_of(all.iter().map(|one| number_text(*one)).collect()),
            Test::Integers(all) => one_of(all.iter().map(i64::to_string).collect()),
            Test::Texts(all) => one_of(all.iter().map(|one| format!("{one:?}")).collect()),
            Test::Pattern(pattern) => format!("like {}", pattern.text()),
        }
    }

    /// The rows of a feature that fail, in order.
    fn failing(&self, column: &ArrayRef) -> Vec<u32> {
        let numbers = || column.as_primitive::<Float64Type>();
        let integers = || column.as_primitive::<Int64Type>();
        let texts = || column.as_string::<i32>();
        match self {
            Test::Required if column.null_count() == 0 => Vec::new(),
            Test::Required => {
                (0..column.len() as u32).filter(|&row| column.is_null(row as usize)).collect()
            }
            Test::Whole => some_fail(numbers(), |number| !is_whole(number)),
            Test::Min(least) => some_fail(numbers(), |number| number < *least),
            Test::Max(most) => some_fail(numbers(), |number| number > *most),
            Test::MinInteger(least) => some_fail(integers(), |number| number < *least),
            Test::MaxInteger(most) => some_fail(integers(), |number| number > *most),
            Test::Numbers(allowed) => some_fail(numbers(), |number| {
                allowed.binary_search_by(|one| one.total_cmp(&(number + 0.0))).is_err()
            }),
            Test::Integers(allowed) => {
                some_fail(integers(), |number| allowed.binary_search(&number).is_err())
            }
            Test::Texts(allowed) => not_matching(texts(), |text| {
                allowed.binary_search_by(|one| one.as_str().cmp(text)).is_ok()
            }),
            Test::Pattern(pattern) => not_matching(texts(), |text| pattern.matches(text)),
        }
    }

    /// The bound that a value beyond it is brought to.
    fn bound(&self) -> Option<Value> {
        match self {
            Test::Min(bound) | Test::Max(bound) => Some(Value::Number(*bound)),
            Test::MinInteger(bound) | Test::MaxInteger(bound) => Some(Value::Integer(*bound)),
            _ => None,
        }
    }
}

/// Nearly always none: a loop without an exit, over nulls too, tells so first.
fn some_fail<T: ArrowPrimitiveType>(
    column: &PrimitiveArray<T>,
    fails: impl Fn(T::Native) -> bool,
) -> Vec<u32> {
    let values = column.values();
    if !values.iter().fold(false, |found, &value| found | fails(value)) {
        return Vec::new();
    }
    let rows = 0..values.len();
    let failing = rows.filter(|&row| column.is_valid(row) && fails(values[row]));
    failing.map(|row| row as u32).collect()
}

fn not_matching(column: &StringArray, matches: impl Fn(&str) -> bool) -> Vec<u32> {
    let fails = |text: Option<&str>| text.is_some_and(|text| !matches(text));
    (0u32..).zip(column).filter(|(_, text)| fails(*text)).map(|(row, _)| row).collect()
}

/// The tests of a feature of type `to`, by their keys.
fn tests(valid: &Validity, to: &DataType) -> Result<Vec<(&'static str, Test)>, Unsound> {
    let mut tests: Vec<(&'static str, Test)> = Vec::new();
    tests.extend(valid.required.then_some(("required", Test::Required)));
    let wrong = |key, message: String| Unsound { key, message };
    let is_text = *to == DataType::Utf8;
    match valid.value_type {
        Some(ValueType::Text) if !is_text => {
            return Err(wrong("type", "the feature is a number".to_owned()));
        }
        Some(ValueType::Integer | ValueType::Number) if is_text => {
            return Err(wrong("type", "the feature is a text".to_owned()));
        }
        Some(ValueType::Integer) if *to == DataType::Float64 => tests.push(("type", Test::Whole)),
        _ => {}
    }
    let bounds = [("min", valid.min), ("max", valid.max)];
    for (key, bound) in bounds.into_iter().filter_map(|(key, bound)| Some((key, bound?))) {
        let is_min = key == "min";
        let test = match to {
            DataType::Utf8 => {
                return Err(wrong(key, "is for numbers, and the feature is a text".to_owned()));
            }
            DataType::Int64 => {
                let whole = as_integer(bound).ok_or_else(|| not_whole(key, bound))?;
                if is_min { Test::MinInteger(whole) } else { Test::MaxInteger(whole) }
            }
            _ if is_min => Test::Min(bound),
            _ => Test::Max(bound),
        };
        tests.push((key, test));
    }
    if let Some(allowed) = &valid.allowed {
        tests.push(("allowed", allowed_test(allowed, to)?));
    }
    match &valid.pattern {
        Some(_) if !is_text => {
            return Err(wrong("pattern", "is for texts, and the feature is a number".to_owned()));
        }
        Some(pattern) => tests.push(("pattern", Test::Pattern(pattern.clone()))),
        None => {}
    }
    Ok(tests)
}

fn not_whole(key: &'static str, number: f64) -> Unsound {
    let message = format!("{number} is no whole number, and the feature is of integers");
    Unsound { key, message }
}

fn allowed_test(allowed: &[Literal], to: &DataType) -> Result<Test, Unsound> {
    let key = "allowed";
    let mut numbers: Vec<f64> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for one in allowed {
        match one {
            // Zero without its sign.
            Literal::Number(number) => numbers.push(number + 0.0),
            Literal::Text(text) => texts.push(text.clone()),
        }
    }
    let wrong = |what: &str| Unsound { key, message: what.to_owned() };
    match (to, numbers.is_empty()) {
        (DataType::Utf8, true) => {
            texts.sort();
            Ok(Test::Texts(texts))
        }
        (DataType::Utf8, false) => Err(wrong("lists numbers, and the feature is a text")),
        (_, true) => Err(wrong("lists texts, and the feature is a number")),
        (DataType::Int64, false) => {
            let whole = |number: &f64| as_integer(*number).ok_or_else(|| not_whole(key, *number));
            let mut integers = numbers.iter().map(whole).collect::<Result<Vec<_>, _>>()?;
            integers.sort_unstable();
            Ok(Test::Integers(integers))
        }
        (_, false) => {
            numbers.sort_by(f64::total_cmp);
            Ok(Test::Numbers(numbers))
        }
    }
}

/// A number as the integer that it is, if it is one.
pub(super) fn as_integer(number: f64) -> Option<i64> {
    let whole = number as i64;
    // 2^63 is a float, and i64::MAX is not.
    (whole as f64 == number && number < 9_223_372_036_854_775_808.0).then_some(whole)
}

impl Value {
    fn of(literal: &Literal, to: &DataType) -> Option<Self> {
        Some(match (literal, to) {
            (Literal::Number(number), DataType::Int64) => Value::Integer(as_integer(*number)?),
            (Literal::Number(number), _) => Value::Number(*number),
            (Literal::Text(text), _) => Value::Text(text.clone()),
        })
    }

    /// The column with this value in some rows.
    fn put(&self, column: &ArrayRef, rows: &[u32]) -> ArrayRef {
        match self {
            Value::Number(number) => {
                let mut values: Vec<_> = column.as_primitive::<Float64Type>().iter().collect();
                rows.iter().for_each(|&row| values[row as usize] = Some(*number));
                Arc::new(Float64Array::from(values))
            }
            Value::Integer(number) => {
                let mut values: Vec<_> = column.as_primitive::<Int64Type>().iter().collect();
                rows.iter().for_each(|&row| values[row as usize] = Some(*number));
                Arc::new(Int64Array::from(values))
            }
            Value::Text(text) => {
                let mut values: Vec<_> = column.as_string::<i32>().iter().collect();
                rows.iter().for_each(|&row| values[row as usize] = Some(text));
                Arc::new(StringArray::from(values))
            }
        }
    }
}

/// The rules of one feature.
pub(super) struct FeatureRules {
    first: u32,
    tests: Vec<Test>,
    on_fail: OnFail,
    default: Option<Value>,
}

impl FeatureRules {
    /// The feature as it goes on, and what its values fail. Nulls are null, and not yet the default.
    pub fn apply(&self, value: ArrayRef, failures: &mut Failures) -> ArrayRef {
        let mut goes_on = value.clone();
        for (number, test) in (self.first..).zip(&self.tests) {
            let rows = test.failing(&value);
            if rows.is_empty() {
                continue;
            }
            let instead = match self.on_fail {
                OnFail::DeadLetter | OnFail::Flag => None,
                OnFail::Default => self.default.clone(),
                OnFail::Clip => test.bound(),
            };
            if let Some(instead) = instead {
                goes_on = instead.put(&goes_on, &rows);
            }
            failures.add(number, rows);
        }
        goes_on
    }
}

/// Which rows of a batch fail which rules.
#[derive(Default)]
pub(super) struct Failures(Vec<(u32, Vec<u32>)>);

fn numbers_type() -> DataType {
    DataType::List(Arc::new(Field::new_list_field(DataType::UInt32, false)))
}

impl Failures {
    fn add(&mut self, rule: u32, rows: Vec<u32>) {
        self.0.push((rule, rows));
    }

    /// Rows of which `check` is false fail the rule.
    pub fn check(
        &mut self,
        rule: u32,
        check: &Expression,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<(), ArrowError> {
        let found = check.evaluate(columns, rows)?;
        let found = found.as_boolean();
        if found.false_count() == 0 {
            return Ok(());
        }
        let failing = (0u32..).zip(found).filter(|(_, is_true)| *is_true == Some(false));
        self.add(rule, failing.map(|(row, _)| row).collect());
        Ok(())
    }

    /// By row the rules that it fails, in the order in which they were added, `[rows]`.
    pub fn column(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        if self.0.is_empty() {
            return Ok(new_null_array(&numbers_type(), rows));
        }
        let mut lengths = vec![0usize; rows];
        for &row in self.0.iter().flat_map(|(_, failing)| failing) {
            lengths[row as usize] += 1;
        }
        let offsets = OffsetBuffer::<i32>::from_lengths(lengths.iter().copied());
        let mut next: Vec<usize> = offsets.iter().map(|&offset| offset as usize).collect();
        let mut numbers = vec![0u32; next[rows]];
        for (rule, failing) in &self.0 {
            for &row in failing {
                let at = &mut next[row as usize];
                numbers[*at] = *rule;
                *at += 1;
            }
        }
        let nulls: NullBuffer = lengths.iter().map(|&length| length > 0).collect();
        let item = Arc::new(Field::new_list_field(DataType::UInt32, false));
        let numbers = Arc::new(UInt32Array::from(numbers));
        Ok(Arc::new(ListArray::try_new(item, offsets, numbers, Some(nulls))?))
    }
}

/// The numbers of the rules that the row of a batch failed; `column` is the one of that.
pub fn failed_by(column: &ArrayRef, row: usize) -> Vec<u32> {
    let lists = column.as_list::<i32>();
    match lists.is_valid(row) {
        true => lists.value(row).as_primitive::<UInt32Type>().values().to_vec(),
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rules of one feature, and of its failing values those by rule.
    fn applied(
        valid: &Validity,
        default: Option<Literal>,
        column: ArrayRef,
    ) -> (ArrayRef, Failures) {
        let mut rules = Rules::default();
        let of = (0, "x", column.data_type());
        let compiled = rules.add_feature(of, valid, default.as_ref()).unwrap().unwrap();
        let mut failures = Failures::default();
        (compiled.apply(column, &mut failures), failures)
    }

    fn floats(values: &[Option<f64>]) -> ArrayRef {
        Arc::new(Float64Array::from(values.to_vec()))
    }

    fn bits(column: &ArrayRef) -> Vec<Option<u64>> {
        column.as_primitive::<Float64Type>().iter().map(|value| value.map(f64::to_bits)).collect()
    }

    fn bounds(on_fail: OnFail) -> Validity {
        Validity { min: Some(0.0), max: Some(5.0), ..Validity::none(on_fail) }
    }

    const INF: f64 = f64::INFINITY;

    #[test]
    fn bounds_are_allowed_and_what_is_beyond_is_brought_to_them() {
        let column = [Some(0.0), Some(-0.0), Some(5.0), None, Some(INF), Some(-INF), Some(-1e-300)];
        let (clipped, failures) = applied(&bounds(OnFail::Clip), None, floats(&column));
        let wanted = [Some(0.0), Some(-0.0), Some(5.0), None, Some(5.0), Some(0.0), Some(0.0)];
        assert_eq!(bits(&clipped), bits(&floats(&wanted)));
        assert_eq!(failures.0, [(0, vec![5, 6]), (1, vec![4])]);
        for on_fail in [OnFail::DeadLetter, OnFail::Flag] {
            let (kept, failures) = applied(&bounds(on_fail), None, floats(&column));
            assert_eq!(bits(&kept), bits(&floats(&column)));
            assert_eq!(failures.0.len(), 2);
        }
    }

    #[test]
    fn integers_are_compared_as_integers() {
        let big = (1i64 << 53) + 1;
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(big), Some(big - 1), None]));
        let valid = Validity { max: Some((1i64 << 53) as f64), ..Validity::none(OnFail::Clip) };
        let (clipped, failures) = applied(&valid, None, column);
        let found: Vec<_> = clipped.as_primitive::<Int64Type>().iter().collect();
        assert_eq!(found, [Some(big - 1), Some(big - 1), None]);
        assert_eq!(failures.0, [(0, vec![0])]);
    }

    #[test]
    fn null_fails_only_to_be_there() {
        let valid = Validity { required: true, ..bounds(OnFail::Default) };
        let column = floats(&[None, Some(9.0), Some(1.0)]);
        let (kept, failures) = applied(&valid, Some(Literal::Number(2.0)), column);
        assert_eq!(bits(&kept), bits(&floats(&[Some(2.0), Some(2.0), Some(1.0)])));
        assert_eq!(failures.0, [(0, vec![0]), (2, vec![1])]);
    }

    #[test]
    fn what_lies_in_the_place_of_a_null_is_no_value() {
        let least = Validity { min: Some(1.0), ..Validity::none(OnFail::Clip) };
        let nulls = NullBuffer::from(vec![false, true, false]);
        let column = Float64Array::new(vec![-7.0, 0.5, 0.0].into(), Some(nulls));
        let (clipped, failures) = applied(&least, None, Arc::new(column));
        assert_eq!(bits(&clipped), bits(&floats(&[None, Some(1.0), None])));
        assert_eq!(failures.0, [(0, vec![1])]);
    }

    #[test]
    fn texts_are_allowed_or_match() {
        let texts =
            |texts: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
        let literal = |text: &str| Literal::Text(text.to_owned());
        let valid = Validity {
            allowed: Some(vec![literal("b"), literal("a")]),
            pattern: Pattern::new("[a-c]").ok(),
            ..Validity::none(OnFail::Default)
        };
        let column = texts(&[Some("a"), Some("c"), None, Some("bb"), Some("b")]);
        let (kept, failures) = applied(&valid, Some(literal("a")), column);
        assert_eq!(&kept, &texts(&[Some("a"), Some("a"), None, Some("a"), Some("b")]));
        assert_eq!(failures.0, [(0, vec![1, 3]), (1, vec![3])]);
    }

    #[test]
    fn numbers_are_allowed_by_value() {
        let allowed = [0.0, 2.5, -1.0].map(Literal::Number).into();
        let valid = Validity { allowed: Some(allowed), ..Validity::none(OnFail::Flag) };
        let column = floats(&[Some(-0.0), Some(2.5), Some(2.0), None, Some(-1.0), Some(INF)]);
        assert_eq!(applied(&valid, None, column).1.0, [(0, vec![2, 5])]);
        let whole =
            Validity { value_type: Some(ValueType::Integer), ..Validity::none(OnFail::Flag) };
        let column = floats(&[Some(-0.0), Some(1e300), Some(0.5), Some(-INF), None]);
        assert_eq!(applied(&whole, None, column).1.0, [(0, vec![2, 3])]);
    }

    #[test]
    fn each_row_has_the_rules_that_it_failed() {
        let mut failures = Failures::default();
        failures.add(2, vec![0, 3]);
        failures.add(5, vec![3]);
        failures.add(7, vec![1, 3]);
        let column = failures.column(5).unwrap();
        let found: Vec<Vec<u32>> = (0..5).map(|row| failed_by(&column, row)).collect();
        assert_eq!(found, [vec![2], vec![7], vec![], vec![2, 5, 7], vec![]]);
        assert_eq!(column.null_count(), 2);
        assert_eq!(column.data_type(), Rules::field().data_type());
        let none = Failures::default().column(3).unwrap();
        assert_eq!((none.null_count(), none.data_type()), (3, column.data_type()));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_value_cut_short() {
        let mut rules = Rules::default();
        let pattern = Validity { pattern: Pattern::new("a").ok(), ..Validity::none(OnFail::Flag) };
        rules.add_feature((0, "s", &DataType::Utf8), &pattern, None).unwrap();
        rules.add_feature((1, "x", &DataType::Float64), &bounds(OnFail::Flag), None).unwrap();
        let long = "é".repeat(100);
        let columns: [(&str, ArrayRef); 3] = [
            ("event", floats(&[None, None])),
            ("s", Arc::new(StringArray::from(vec!["b", &long]))),
            ("x", floats(&[Some(1e300), Some(-0.25)])),
        ];
        let rows = RecordBatch::try_from_iter(columns).unwrap();
        let said = |rule, row| rules.get(rule).detail(&rows, 1, row);
        assert_eq!(said(0, 0), "s.pattern: \"b\" is not like a");
        assert_eq!(said(0, 1), format!("s.pattern: \"{}…\" is not like a", "é".repeat(60)));
        assert_eq!(said(2, 0), "x.max: 1e300 is not at most 5");
        assert_eq!(said(1, 1), "x.min: -0.25 is not at least 0");
    }
}
