//! The forms that SQL has for its functions, and what bounds them. Expected values are worked out by hand
//! after PostgreSQL's manual.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimeUnit};

use super::*;
use crate::features::bounded::TEXT_BYTES_MAX;
use crate::features::functions::SqlFunction;

fn names() -> Vec<(String, DataType)> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    [("t", time), ("n", DataType::Int64), ("s", DataType::Utf8)]
        .map(|(name, data_type)| (name.to_owned(), data_type))
        .to_vec()
}

/// 2024-03-05T12:34:56Z, the same a day later, and null.
fn columns() -> Vec<ArrayRef> {
    let times = vec![Some(1_709_642_096_000_000), Some(1_709_728_496_000_000), None];
    vec![
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        Arc::new(Int64Array::from(vec![Some(1), Some(13), None])),
        Arc::new(StringArray::from(vec![Some("abc"), Some(" xay "), None])),
    ]
}

fn compiled(sql: &str) -> Result<Expression, SqlError> {
    Expression::compile(sql, &names(), &Functions::default())
}

fn numbers(sql: &str) -> Vec<Option<f64>> {
    let value = compiled(sql).unwrap().evaluate(&columns(), 3).unwrap();
    let value = cast(&value, &DataType::Float64).unwrap();
    value.as_primitive::<Float64Type>().iter().collect()
}

fn texts(sql: &str) -> Vec<Option<String>> {
    let value = compiled(sql).unwrap().evaluate(&columns(), 3).unwrap();
    let value = cast(&value, &DataType::Utf8).unwrap();
    value.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn forms_of_numbers_and_of_what_is_true() {
    for (sql, first, second) in [
        ("extract(month from t)", 3.0, 3.0),
        ("extract(day FROM t)", 5.0, 6.0),
        ("extract(hour from t at time zone 'America/New_York')", 7.0, 7.0),
        ("position('a' in s)", 1.0, 3.0),
        ("strpos(s, 'a')", 1.0, 3.0),
        ("n between 2 and 13", 0.0, 1.0),
        ("n not between 2 and 13", 1.0, 0.0),
        ("case when n > 3 then 10 else 20 end", 20.0, 10.0),
        ("case n when 1 then 5 when 13 then 6 end", 5.0, 6.0),
        ("s ilike 'A%'", 1.0, 0.0),
        ("s not like '%c'", 0.0, 1.0),
        ("s ~ '^a.c$'", 1.0, 0.0),
        ("n::int + '2'::int", 3.0, 15.0),
        ("character_length(s || '-' || n)", 5.0, 8.0),
        ("t > timestamp '2024-03-06'", 0.0, 1.0),
        ("cast(t as date) = date '2024-03-05'", 1.0, 0.0),
        ("n in (13, 14)", 0.0, 1.0),
        ("log(100)", 2.0, 2.0),
        ("ln(1)", 0.0, 0.0),
    ] {
        let found = numbers(sql);
        assert_eq!(found[..2], [Some(first), Some(second)], "{sql}");
    }
    // Of null and null, too.
    assert_eq!(numbers("n is distinct from 13"), [Some(1.0), Some(0.0), Some(1.0)]);
    assert_eq!(numbers("n is not distinct from null"), [Some(0.0), Some(0.0), Some(1.0)]);
}

#[test]
fn forms_of_texts() {
    for (sql, first, second) in [
        ("substring(s from 2 for 2)", "bc", "xa"),
        ("substring(s from 3)", "c", "ay "),
        ("substr(s, 1, 2)", "ab", " x"),
        ("trim(s)", "abc", "xay"),
        ("trim(both 'a' from s)", "bc", " xay "),
        ("trim(leading ' ' from s)", "abc", "xay "),
        ("trim(trailing ' ' from s)", "abc", " xay"),
        ("overlay(s placing 'ZZ' from 2 for 1)", "aZZc", " ZZay "),
        ("overlay(s placing 'ZZ' from 2)", "aZZ", " ZZy "),
        ("lpad(s, 5, 'é')", "ééabc", " xay "),
        ("regexp_replace(s, '[a-c]', '<\\0>', 'g')", "<a><b><c>", " x<a>y "),
        ("replace(s, 'a', 'oo')", "oobc", " xooy "),
        ("translate(s, 'ab', '12')", "12c", " x1y "),
        ("concat_ws('-', s, s)", "abc-abc", " xay - xay "),
        ("repeat(s, 2)", "abcabc", " xay  xay "),
        ("case when n > 3 then upper(s) else s end", "abc", " XAY "),
    ] {
        let found = texts(sql);
        let expected = [Some(first.to_owned()), Some(second.to_owned())];
        assert_eq!(found[..2], expected, "{sql}");
    }
    assert_eq!(texts("s || 'x'")[2], None);
    assert_eq!(texts("concat(s, 'x')")[2].as_deref(), Some("x"));
}

#[test]
fn what_does_not_work_is_told_in_one_plain_line() {
    for (sql, expected) in [
        ("s similar to 'a%'", "use ~ with a regular expression"),
        ("[1, 2]", "lists cannot be written"),
        ("array[1, 2][1]", "lists cannot be written"),
        ("n = any([1, 2])", "lists cannot be written"),
        ("trim(leading from s)", "Expected: )"),
        ("regexp_like(s, '(')", "Invalid regex"),
    ] {
        let error = compiled(sql).err().expect(sql).to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{sql}: {error}");
    }
}

#[test]
fn texts_are_bounded_before_they_are_made() {
    let most = TEXT_BYTES_MAX;
    for (sql, length) in [
        (format!("repeat('x', {most})"), Some(most)),
        (format!("repeat('x', {most} + 1)"), None),
        ("repeat('xy', 4000000000000000000)".to_owned(), None),
        ("repeat(repeat(repeat('x', 1000), 1000), 1000)".to_owned(), None),
        ("repeat('x', -5)".to_owned(), Some(0)),
        (format!("lpad('a', {most})"), Some(most)),
        (format!("rpad('a', {most} + 1, 'b')"), None),
        ("rpad('ab', 2000000000, '')".to_owned(), Some(2)),
        ("replace(repeat('a', 1000000), 'a', 'bb')".to_owned(), None),
        ("replace(repeat('a', 1000000), 'b', 'ccc')".to_owned(), Some(1_000_000)),
        ("regexp_replace(repeat('a', 1000), 'a', repeat('b', 2000), 'g')".to_owned(), None),
        ("regexp_replace(repeat('a', 1000), 'a', repeat('b', 2000))".to_owned(), Some(2_999)),
        ("repeat('a', 1000000) || repeat('b', 1000000)".to_owned(), None),
        ("concat(repeat('a', 1000000), repeat('b', 1000000))".to_owned(), None),
        ("concat_ws(repeat('-', 1000000), 'a', 'b')".to_owned(), Some(1_000_002)),
        ("translate(repeat('a', 1000000), 'a', 'é')".to_owned(), None),
        ("encode(repeat('a', 1000000), 'hex')".to_owned(), None),
        (
            "overlay(repeat('a', 1000000) placing repeat('b', 1000000) from 1 for 0)".to_owned(),
            None,
        ),
    ] {
        // As of constants, and as of what rows hold.
        for sql in [sql.clone(), sql.replace("'x'", "substr('x' || s, 1, 1)")] {
            let sql = format!("character_length({sql})");
            let found = numbers(&sql)[0];
            assert_eq!(found, length.map(|length| length as f64), "{sql}");
        }
    }
    assert_eq!(numbers("levenshtein(repeat('a', 100000), repeat(s, 100000))")[0], None);
    assert_eq!(numbers("levenshtein(s, 'abd')")[0], Some(1.0));
    // What is kept of a row is a text as long as those of the row, or a short one.
    let kept = |sql: &str| texts(sql)[0].as_ref().map(String::len);
    assert_eq!(kept("repeat('x', 65536)"), Some(65_536));
    assert_eq!(kept("repeat('x', 65537)"), None);
    let long: ArrayRef = Arc::new(StringArray::from(vec!["y".repeat(100_000)]));
    let names = vec![("s".to_owned(), DataType::Utf8)];
    let expression = |sql| Expression::compile(sql, &names, &Functions::default()).unwrap();
    let length = |sql| {
        expression(sql)
            .evaluate(std::slice::from_ref(&long), 1)
            .unwrap()
            .as_string::<i32>()
            .value_length(0)
    };
    assert_eq!((length("upper(s)"), length("s")), (100_000, 100_000));
}

#[test]
fn many_rows_of_much_text_are_taken_a_few_at_a_time() {
    let rows = 1_000;
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let names = vec![("n".to_owned(), DataType::Int64)];
    let sql = "character_length(repeat('x', 1000000 + n % 2 * 100000))";
    let expression = Expression::compile(sql, &names, &Functions::default()).unwrap();
    let found = expression.evaluate(&[column], rows as usize).unwrap();
    let found = cast(&found, &DataType::Float64).unwrap();
    for (row, found) in found.as_primitive::<Float64Type>().iter().enumerate() {
        assert_eq!(found, (row % 2 == 0).then_some(1_000_000.0), "{row}");
    }
    assert_eq!(expression.refused().rows, 500);
}

#[test]
fn a_panic_is_null_for_its_row_and_counted_once() {
    let own = SqlFunction::of_numbers("fragile", 1, |x| {
        assert!(x[0] != 13.0, "thirteen");
        x[0]
    });
    let functions = Functions::default().with([own]);
    let fragile = Expression::compile("fragile(n)", &names(), &functions).unwrap();
    let found = fragile.evaluate(&columns(), 3).unwrap();
    let found: Vec<_> = found.as_primitive::<Float64Type>().iter().collect();
    assert_eq!(found, [Some(1.0), None, None]);
    assert_eq!(fragile.clone().refused(), Refused { rows: 1, why: "thirteen".to_owned() });
}
