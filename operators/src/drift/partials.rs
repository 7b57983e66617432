//! What workers tell the owner of a column: their parts of panes, as rows.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int64Array, LargeListArray,
    PrimitiveArray, RecordBatch, UInt32Array, UInt64Array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, UInt32Type,
    UInt64Type,
};
use arrow::error::ArrowError;

use crate::drift::profile::Profile;
use crate::drift::runs::Runs;
use crate::drift::sample::{Mode, Sample};
use crate::drift::versions::ByVersion;
use crate::numeric::ExactSum;

/// What one worker has seen of a column in a pane since it last told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    pub pane_start: i64,
    pub column: usize,
    pub null_count: u64,
    pub sample: Sample,
}

/// The column that says which worker merges a row.
pub const OWNER: usize = 0;

/// Partials as rows, in the form that fits the mode.
#[derive(Clone)]
pub struct PartialCodec {
    pub schema: SchemaRef,
    is_profile: bool,
}

impl PartialCodec {
    pub fn new(mode: &Mode) -> Self {
        let list = |name, item| {
            Field::new(
                name,
                DataType::LargeList(Arc::new(Field::new_list_field(item, false))),
                false,
            )
        };
        let mut fields = vec![
            Field::new("owner", DataType::UInt32, false),
            Field::new("pane_start", DataType::Int64, false),
            Field::new("column", DataType::UInt32, false),
            Field::new("null_count", DataType::UInt64, false),
        ];
        let is_profile = matches!(mode, Mode::Profile(_));
        fields.extend(if is_profile {
            vec![
                list("cells", DataType::UInt32),
                list("counts", DataType::UInt64),
                Field::new("sum", DataType::Binary, false),
                Field::new("squares", DataType::Binary, false),
                Field::new("beyond_3", DataType::UInt64, false),
                Field::new("out_of_range", DataType::UInt64, false),
                Field::new("infinite", DataType::UInt64, false),
                Field::new("least", DataType::Float64, true),
                Field::new("greatest", DataType::Float64, true),
            ]
        } else {
            vec![list("values", DataType::Float64), list("counts", DataType::UInt64)]
        });
        PartialCodec { schema: Arc::new(Schema::new(fields)), is_profile }
    }

    /// Rows of the schema, one a partial, for the owners of the columns; predictions of all versions have the
    /// last one's.
    ///
    /// # Errors
    /// Never for partials of the codec's mode.
    pub fn encode(&self, partials: &[Partial], owners: &[u32]) -> Result<RecordBatch, ArrowError> {
        let by_version = ByVersion::of(owners.len());
        let owners = partials.iter().map(|partial| owners[by_version.shared(partial.column)]);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from_iter_values(owners)),
            Arc::new(Int64Array::from_iter_values(partials.iter().map(|p| p.pane_start))),
            Arc::new(UInt32Array::from_iter_values(partials.iter().map(|p| p.column as u32))),
            Arc::new(UInt64Array::from_iter_values(partials.iter().map(|p| p.null_count))),
        ];
        columns.extend(if self.is_profile {
            profile_columns(partials)?
        } else {
            exact_columns(partials)?
        });
        RecordBatch::try_new(self.schema.clone(), columns)
    }

    /// # Errors
    /// If the rows are not those of another worker of the same mode.
    pub fn decode(&self, batch: &RecordBatch) -> Result<Vec<Partial>, ArrowError> {
        let starts = batch.column(1).as_primitive::<Int64Type>();
        let columns = batch.column(2).as_primitive::<UInt32Type>();
        let nulls = batch.column(3).as_primitive::<UInt64Type>();
        let partial = |row: usize| {
            Ok(Partial {
                pane_start: starts.value(row),
                column: columns.value(row) as usize,
                null_count: nulls.value(row),
                sample: if self.is_profile {
                    Sample::Profile(profile(batch, row)?)
                } else {
                    let values = list::<Float64Type>(batch.column(4), row);
                    Sample::Exact(Runs { values, counts: list::<UInt64Type>(batch.column(5), row) })
                },
            })
        };
        (0..batch.num_rows()).map(partial).collect()
    }
}

fn exact_columns(partials: &[Partial]) -> Result<Vec<ArrayRef>, ArrowError> {
    let runs: Vec<&Runs> = partials
        .iter()
        .filter_map(|partial| match &partial.sample {
            Sample::Exact(runs) => Some(runs),
            Sample::Profile(_) => None,
        })
        .collect();
    let lengths = || runs.iter().map(|runs| runs.values.len());
    let values: Vec<f64> = runs.iter().flat_map(|runs| &runs.values).copied().collect();
    let counts: Vec<u64> = runs.iter().flat_map(|runs| &runs.counts).copied().collect();
    Ok(vec![
        lists(lengths(), Float64Array::from(values))?,
        lists(lengths(), UInt64Array::from(counts))?,
    ])
}

/// Counts go as those of the cells that have some: a late row has one.
fn profile_columns(partials: &[Partial]) -> Result<Vec<ArrayRef>, ArrowError> {
    let profiles: Vec<&Profile> = partials
        .iter()
        .filter_map(|partial| match &partial.sample {
            Sample::Profile(profile) => Some(profile),
            Sample::Exact(_) => None,
        })
        .collect();
    let (mut lengths, mut cells, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for profile in &profiles {
        let before = cells.len();
        let counted = profile.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        for (cell, &count) in counted {
            cells.push(cell as u32);
            counts.push(count);
        }
        lengths.push(cells.len() - before);
    }
    let sums = |sum: fn(&Profile) -> &ExactSum| -> ArrayRef {
        let encoded = profiles.iter().map(|profile| {
            let mut bytes = Vec::new();
            sum(profile).encode(&mut bytes);
            bytes
        });
        Arc::new(BinaryArray::from_iter_values(encoded))
    };
    let count = |of: fn(&Profile) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(profiles.iter().map(|profile| of(profile))))
    };
    Ok(vec![
        lists(lengths.iter().copied(), UInt32Array::from(cells))?,
        lists(lengths.iter().copied(), UInt64Array::from(counts))?,
        sums(|profile| &profile.sum),
        sums(|profile| &profile.squares),
        count(|profile| profile.beyond_3),
        count(|profile| profile.out_of_range),
        count(|profile| profile.infinite),
        Arc::new(
            profiles.iter().map(|p| p.extremes.map(|(least, _)| least)).collect::<Float64Array>(),
        ),
        Arc::new(
            profiles.iter().map(|p| p.extremes.map(|(_, most)| most)).collect::<Float64Array>(),
        ),
    ])
}

fn profile(batch: &RecordBatch, row: usize) -> Result<Profile, ArrowError> {
    let sum = |column: usize| {
        let mut bytes = batch.column(column).as_binary::<i32>().value(row);
        ExactSum::decode(&mut bytes).map_err(|error| ArrowError::ExternalError(Box::new(error)))
    };
    let extreme = |column: usize| {
        let values = batch.column(column).as_primitive::<Float64Type>();
        values.is_valid(row).then(|| values.value(row))
    };
    let count = |column: usize| batch.column(column).as_primitive::<UInt64Type>().value(row);
    let mut profile = Profile {
        counts: Vec::new(),
        sum: sum(6)?,
        squares: sum(7)?,
        beyond_3: count(8),
        out_of_range: count(9),
        infinite: count(10),
        extremes: extreme(11).zip(extreme(12)),
    };
    let cells = list::<UInt32Type>(batch.column(4), row);
    for (cell, count) in cells.into_iter().zip(list::<UInt64Type>(batch.column(5), row)) {
        profile.count(cell as usize, count);
    }
    Ok(profile)
}

fn lists<T: ArrowPrimitiveType>(
    lengths: impl IntoIterator<Item = usize>,
    items: PrimitiveArray<T>,
) -> Result<ArrayRef, ArrowError> {
    let item = Arc::new(Field::new_list_field(T::DATA_TYPE, false));
    let offsets = OffsetBuffer::from_lengths(lengths);
    Ok(Arc::new(LargeListArray::try_new(item, offsets, Arc::new(items), None)?))
}

fn list<T: ArrowPrimitiveType>(column: &ArrayRef, row: usize) -> Vec<T::Native> {
    column.as_list::<i64>().value(row).as_primitive::<T>().values().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::profile::Bins;

    #[test]
    fn partials_survive_their_rows() {
        let runs = Runs::from_values(vec![1.0, f64::INFINITY, 1.0]);
        let bins = Arc::new(Bins::new(&Runs::from_values(vec![0.0, 1.0, 9.0]), 4));
        let mut seen = Profile::default();
        [1.0, 4.0, f64::INFINITY, 90.0].into_iter().for_each(|value| seen.add(&bins, value));
        let cases = [
            (Mode::Exact, [Sample::Exact(runs), Sample::Exact(Runs::default())]),
            (
                Mode::Profile(vec![bins]),
                [Sample::Profile(seen), Sample::Profile(Profile::default())],
            ),
        ];
        for (mode, samples) in cases {
            let codec = PartialCodec::new(&mode);
            let partials: Vec<Partial> = (0..)
                .zip(samples)
                .map(|(column, sample)| Partial { pane_start: -7, column, null_count: 3, sample })
                .collect();
            let rows = codec.encode(&partials, &[0, 1]).unwrap();
            assert_eq!(codec.decode(&rows).unwrap(), partials);
            assert_eq!(codec.decode(&rows.slice(1, 1)).unwrap(), partials[1..]);
            assert_eq!(rows.column(OWNER).as_primitive::<UInt32Type>().values(), &[0, 1]);
        }
    }
}
