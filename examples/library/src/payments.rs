//! Made-up payments, the same every time.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

const CUSTOMERS: i64 = 40;
const PAYMENTS_A_DAY: i64 = 2_000;
const DAY_MS: i64 = 86_400_000;
/// 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

pub fn schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::Float64, false);
    Arc::new(Schema::new(vec![
        Field::new("payment_id", DataType::Utf8, false),
        Field::new("customer", DataType::Utf8, false),
        Field::new("paid_at", DataType::Int64, false),
        number("amount"),
        number("lat"),
        number("lon"),
        number("shop_lat"),
        number("shop_lon"),
    ]))
}

/// A batch for each day.
pub fn days(days: i64) -> impl Iterator<Item = RecordBatch> + Send {
    (0..days).map(|day| {
        let payments = day * PAYMENTS_A_DAY..(day + 1) * PAYMENTS_A_DAY;
        let numbers = |of: fn(i64) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(payments.clone().map(of)))
        };
        let customer = |payment: i64| scattered(payment, 1) % CUSTOMERS;
        let ids = payments.clone().map(|payment| format!("p{payment:06}"));
        let customers = payments.clone().map(|payment| format!("c{:02}", customer(payment)));
        let times = payments.clone().map(|n| START_MS + n * (DAY_MS / PAYMENTS_A_DAY));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(ids)),
            Arc::new(StringArray::from_iter_values(customers)),
            Arc::new(Int64Array::from_iter_values(times)),
            numbers(|n| scattered(n, 2) as f64 / 10.0),
            numbers(|n| 40.0 + (scattered(n, 1) % CUSTOMERS) as f64 / 10.0),
            numbers(|n| -74.0 + (scattered(n, 1) % CUSTOMERS) as f64 / 7.0),
            numbers(|n| 40.0 + scattered(n, 3) as f64 / 250.0),
            numbers(|n| -74.0 + scattered(n, 4) as f64 / 170.0),
        ];
        RecordBatch::try_new(schema(), columns).expect("the columns are those of the schema")
    })
}

/// A number from 0 to 999 for payment `n`.
fn scattered(n: i64, column: i64) -> i64 {
    (n * 7_919 + column * 104_729).wrapping_mul(2_654_435_761).rem_euclid(1_000_003) % 1_000
}
