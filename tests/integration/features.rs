//! Features that need nothing but their row (columns, SQL, codes of texts, static tables, defaults) on
//! several workers, against the same in plain Rust.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use driftline_operators::features::categories::Categories;
use driftline_operators::features::declaration::{Definition, FeatureDeclaration, Literal};
use driftline_operators::features::table::StaticTable;
use driftline_operators::gate::Order;

use crate::input::{Event, Input, Shape};
use crate::record::{Origin, Recorded, origins};
use crate::seeds::{all_are_run, seeds};
use crate::support::{Setting, layout};
use crate::ways::{run_features, ways};

fn feature(name: &str, definition: Definition, default: Option<Literal>) -> FeatureDeclaration {
    FeatureDeclaration { name: name.to_owned(), definition, default, allow_null: true }
}

fn sql(name: &str, text: &str, default: Option<Literal>) -> FeatureDeclaration {
    feature(name, Definition::Sql(text.to_owned()), default)
}

fn encode(
    name: &str,
    input: &str,
    categories: &[&str],
    unseen: Option<f64>,
    default: Option<Literal>,
) -> FeatureDeclaration {
    let categories: Vec<String> = categories.iter().map(|text| (*text).to_owned()).collect();
    let categories = Categories::new(&categories, unseen).unwrap();
    feature(name, Definition::Encode { input: input.to_owned(), categories }, default)
}

/// The seats of some keys; of one they are not known, and one row has no key.
fn table() -> StaticTable {
    let keys = StringArray::from(vec![Some("k2"), Some("k0"), None, Some("k3")]);
    let seats = Float64Array::from(vec![Some(20.0), Some(5.5), Some(7.0), None]);
    let columns: [(&str, ArrayRef); 2] = [("key", Arc::new(keys)), ("seats", Arc::new(seats))];
    StaticTable::new(RecordBatch::try_from_iter(columns).unwrap(), "key").unwrap()
}

fn seats(name: &str, key: &str, default: Option<Literal>) -> FeatureDeclaration {
    let (key, column) = (key.to_owned(), "seats".to_owned());
    feature(name, Definition::Lookup { table: table(), key, column }, default)
}

const KEYS: [&str; 3] = ["k1", "k0", "k2"];

fn declared() -> Vec<FeatureDeclaration> {
    let number = |number| Some(Literal::Number(number));
    let text = |text: &str| Some(Literal::Text(text.to_owned()));
    let sign = "CASE WHEN value < 0 THEN 'low' WHEN value >= 0 THEN 'high' END";
    vec![
        encode("code", "key", &KEYS, Some(-1.0), None),
        encode("code_or_null", "key", &KEYS, None, None),
        encode("code_or_default", "key", &KEYS, None, number(99.0)),
        encode("code_of_null_too", "key", &KEYS, Some(-1.0), number(-2.0)),
        feature("plain", Definition::Column("value".to_owned()), number(0.25)),
        sql("double", "value * 2 + id", None),
        sql("is_big", "value > 10", number(-5.0)),
        sql("digit", "id % 10", None),
        sql("sign", sign, text("none")),
        encode("sign_code", "sign", &["none", "low", "high"], None, None),
        sql("shout", "upper(key) || '!'", None),
        encode("shout_code", "shout", &["K0!", "K1!"], Some(7.0), None),
        seats("seats", "key", number(149.0)),
        seats("seats_or_null", "concat('k', id % 4)", None),
        // Hides the column from here on.
        sql("value", "coalesce(value, 100) / 4", None),
        sql("value_and_more", "value + 1", None),
        sql("constant", "1.5", None),
    ]
}

/// What of a job's features stays what it is, feature by feature.
fn naive(event: &Event) -> BTreeMap<&'static str, Option<f64>> {
    let Event { id, value, .. } = *event;
    let key = event.key.as_deref();
    let code = key.and_then(|key| KEYS.iter().position(|known| *known == key)).map(|at| at as f64);
    let or_unseen = |code: Option<f64>, unseen: f64| match (key, code) {
        (None, _) => None,
        (Some(_), code) => Some(code.unwrap_or(unseen)),
    };
    let seats = |key: &str| match key {
        "k0" => Some(5.5),
        "k2" => Some(20.0),
        _ => None,
    };
    let sign = value.map_or(0.0, |value| if value < 0.0 { 1.0 } else { 2.0 });
    let shout = match key {
        Some("k0") => Some(0.0),
        Some("k1") => Some(1.0),
        _ => None,
    };
    let is_big = value.map_or(-5.0, |value| if value > 10.0 { 1.0 } else { 0.0 });
    let quarter = value.unwrap_or(100.0) / 4.0;
    BTreeMap::from([
        ("code", or_unseen(code, -1.0)),
        ("code_or_null", code),
        ("code_or_default", Some(code.unwrap_or(99.0))),
        ("code_of_null_too", Some(or_unseen(code, -1.0).unwrap_or(-2.0))),
        ("plain", Some(value.unwrap_or(0.25))),
        ("double", value.zip(id).map(|(value, id)| value * 2.0 + id as f64)),
        ("is_big", Some(is_big)),
        ("digit", id.map(|id| (id % 10) as f64)),
        ("sign_code", Some(sign)),
        ("shout_code", or_unseen(shout, 7.0)),
        ("seats", Some(key.and_then(seats).unwrap_or(149.0))),
        // concat() leaves nulls out.
        ("seats_or_null", id.and_then(|id| seats(&format!("k{}", id % 4)))),
        ("value", Some(quarter)),
        ("value_and_more", Some(quarter + 1.0)),
        ("constant", Some(1.5)),
    ])
}

/// The features that are numbers, by origin; where a name stands twice, the last column is meant.
fn found(recorded: &Recorded) -> BTreeMap<Origin, BTreeMap<String, Option<f64>>> {
    let mut found: BTreeMap<Origin, BTreeMap<String, Option<f64>>> = BTreeMap::new();
    let first = layout().schema.fields().len();
    for rows in recorded.batches() {
        let schema = rows.schema();
        let numbers = (first..rows.num_columns())
            .filter(|&at| *schema.field(at).data_type() == DataType::Float64);
        for at in numbers {
            let values = rows.column(at).as_primitive::<Float64Type>();
            for (row, origin) in origins(&rows).into_iter().enumerate() {
                let value = values.is_valid(row).then(|| values.value(row));
                found.entry(origin).or_default().insert(schema.field(at).name().clone(), value);
            }
        }
    }
    found
}

#[test]
fn features_of_a_row_alone_are_those_of_plain_rust() {
    let mut nulls = BTreeMap::new();
    for seed in seeds(1..=9) {
        let order = [Order::EventTime, Order::Epoch, Order::Arrival][seed as usize % 3];
        let keys = [1, 5, 1_000_000][(seed / 3) as usize % 3];
        let input = Input::random(seed, Shape { keys, ..Shape::default() });
        let setting = Setting {
            order,
            partitions: Input::PARTITIONS,
            allowed_lateness_ms: 20,
            ..Setting::new(declared)
        };
        let timed = || input.events().filter(|(_, event)| event.time.is_some());
        let mut due = match order {
            Order::EventTime => setting.released(&input.chunks, &Input::UNOPENED),
            Order::Epoch | Order::Arrival => input.epochs(),
        };
        let expected: BTreeMap<Origin, _> = timed().map(|(at, event)| (at, naive(event))).collect();
        due.retain(|origin, _| expected.contains_key(origin));
        for way in ways() {
            let name = format!("seed {seed}, {way:?}, {order:?}");
            let (recorded, chunks) = (Recorded::default(), input.chunks.clone());
            run_features(way, &setting, &recorded, &name, move |worker, workers| {
                Input::source(&chunks, worker, workers)
            });
            assert_eq!(setting.failure.message(), None, "{name}");
            recorded.assert_epochs(&due, &name);
            let found = found(&recorded);
            for (origin, expected) in &expected {
                let found = found[origin].iter().map(|(name, value)| (name.as_str(), *value));
                let found: BTreeMap<&str, Option<f64>> = found.collect();
                assert_eq!(found, *expected, "{name}: {origin:?}");
            }
        }
        for (feature, value) in expected.values().flatten() {
            let count: &mut [u64; 2] = nulls.entry(*feature).or_default();
            count[usize::from(value.is_some())] += 1;
        }
    }
    let mixed = nulls.values().filter(|[nulls, values]| *nulls > 20 && *values > 20).count();
    assert!(!all_are_run() || mixed == 6, "{nulls:?}");
}
