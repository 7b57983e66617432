//! The versions of a table, for a straight line: all that have been read, by key and time.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, new_null_array};
use arrow::compute::interleave;
use arrow::datatypes::Int64Type;
use driftline_operators::as_of::table::{KEY, TIME, VALUES};
use driftline_operators::features::trip::AsOfLookups;

#[derive(Default)]
pub struct TableVersions {
    batches: Vec<RecordBatch>,
    /// By key, in order of time: time, batch and row.
    by_key: HashMap<String, Vec<(i64, usize, usize)>>,
}

impl TableVersions {
    /// Rows of the table, later than those before.
    pub fn add(&mut self, rows: RecordBatch) {
        let keys = rows.column(KEY).as_string::<i32>();
        let times = rows.column(TIME).as_primitive::<Int64Type>();
        for row in 0..rows.num_rows() {
            let versions = self.by_key.entry(keys.value(row).to_owned()).or_default();
            versions.push((times.value(row), self.batches.len() + 1, row));
        }
        self.batches.push(rows);
    }

    /// The looked-up columns as of the times of the keys, `[rows]`. The age plays no part, as the
    /// flights job needs none, nor does how old a version may be.
    pub fn lookup(
        &self,
        lookups: &AsOfLookups,
        keys: &ArrayRef,
        times: &Int64Array,
    ) -> Result<Vec<ArrayRef>> {
        let keys = keys.as_string::<i32>();
        // The first of the batches is one null, for what is not found.
        let find = |row: usize| {
            let versions = keys.is_valid(row).then(|| self.by_key.get(keys.value(row))).flatten();
            let versions = versions.map_or(&[] as &[_], Vec::as_slice);
            let after = versions.partition_point(|version| version.0 <= times.value(row));
            after.checked_sub(1).map_or((0, 0), |at| (versions[at].1, versions[at].2))
        };
        let found: Vec<(usize, usize)> = (0..times.len()).map(find).collect();
        let column = |&column: &usize| -> Result<ArrayRef> {
            let mut parts: Vec<ArrayRef> = Vec::with_capacity(1 + self.batches.len());
            parts.extend(self.batches.iter().map(|batch| batch.column(VALUES + column).clone()));
            let kind = parts.first().map(|part| part.data_type().clone());
            let null = new_null_array(&kind.unwrap_or(arrow::datatypes::DataType::Float64), 1);
            parts.insert(0, null);
            let parts: Vec<&dyn Array> = parts.iter().map(Arc::as_ref).collect();
            Ok(interleave(&parts, &found)?)
        };
        lookups.columns.iter().map(column).collect()
    }
}
