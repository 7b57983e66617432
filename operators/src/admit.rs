//! From a chunk as it was read to admitted events: event time, lateness, the filter, dead letters.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Int64Array, PrimitiveArray,
    RecordBatch, UInt32Array,
};
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimeUnit};
use arrow::error::ArrowError;

use crate::accounting::Counters;
use crate::beside::views_of;
use crate::chunk::{Chunk, Undecoded};
use crate::dead_letter::{DeadLetters, Reason};
use crate::features::sql::Expression;
use crate::key_group::as_key;
use crate::lateness::{Ahead, LateRows};
use crate::layout::EventLayout;
use crate::partition_names::PartitionNames;
use crate::settled::Settled;
use crate::too_early::FutureHorizon;
use crate::warm_up::WarmUp;
use crate::watermark::Mark;

/// Behind every bound: no row can be there.
pub const END_OF_TIME: i64 = i64::MAX;

/// What becomes of a late row; the job's `event.late`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatePolicy {
    Score,
    DeadLetter,
    Skip,
}

/// The rules of admission, the same on every worker.
pub struct Admission {
    pub layout: EventLayout,
    /// The column of `layout.schema` that holds the event time.
    pub time_column: usize,
    pub filter: Option<Expression>,
    pub allowed_lateness_ms: i64,
    pub late: LatePolicy,
    pub late_horizon_ms: Option<i64>,
    pub future_horizon: Option<FutureHorizon>,
    /// Rows before `to` (ms) that are no warm-up are scored and counted; warm-up from
    /// `warm_up_from` on feeds windows.
    pub warm_up: WarmUp,
    pub to: i64,
    pub warm_up_from: i64,
    pub partition_names: PartitionNames,
    pub counters: Counters,
    pub settled: Settled,
}

/// What [`Admission::admit`] makes of a chunk.
pub struct Admitted {
    /// Rows of the layout's schema; those before `from` are warm-up.
    pub rows: RecordBatch,
    /// Rows of [`crate::dead_letter::SCHEMA`].
    pub dead_letters: RecordBatch,
    pub marks: Vec<Mark>,
}

/// What the fates of rows follow from, `[rows]` each.
struct Judged<'a> {
    times: &'a Int64Array,
    /// As of [`Admission::beyond`].
    beyond: Option<&'a Int64Array>,
    passes: Option<&'a BooleanArray>,
}

impl Judged<'_> {
    /// Whether the row has a time that counts.
    fn counts(&self, row: usize) -> bool {
        let has_time = self.times.is_valid(row) && self.times.value(row) != END_OF_TIME;
        has_time && !self.is_too_early(row)
    }

    fn is_too_early(&self, row: usize) -> bool {
        self.beyond.is_some_and(|beyond| beyond.is_valid(row))
    }

    /// Whether a row of that fate is late. One that is skipped is if the filter would have let it
    /// through.
    fn is_late(&self, fate: Fate, row: usize) -> bool {
        match fate {
            Fate::Keep { late } => late,
            Fate::Dead(reason) => matches!(reason, Reason::Late | Reason::TooLate),
            Fate::Skip => self.passes.is_none_or(|p| p.is_valid(row) && p.value(row)),
            Fate::Outside => false,
        }
    }
}

/// What is done with one row.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Keep {
        late: bool,
    },
    /// Outside [warm_up_from, to), or before `from` and of no use to windows: as if never read.
    Outside,
    Skip,
    Dead(Reason),
}

impl Admission {
    /// Admits a chunk of the events that was read at `read_at` of the run's clock. Rows below `passed` (ms) are late in any case: the watermark
    /// that the stream had when the partition came back from being idle, else [`i64::MIN`].
    ///
    /// # Errors
    /// If the event time column cannot be read as a time, or the filter fails.
    pub fn admit(
        &self,
        chunk: Chunk,
        passed: i64,
        read_at: Duration,
    ) -> Result<Admitted, ArrowError> {
        let times = self.event_times(&chunk.rows)?;
        let passes = self.passes_filter(&chunk.rows)?;
        let beyond = self.beyond(&chunk, &times)?;
        let judged = Judged { times: &times, beyond: beyond.as_ref(), passes: passes.as_ref() };
        let (fates, highest) = self.fates(&judged, chunk.highest_before, passed);
        let rows = self.with_layout(&chunk, &times, &fates, read_at)?;
        let dead_letters = self.dead_letters(&chunk, &rows, &fates, beyond.as_ref())?;
        self.settled.read(&chunk, &counted(&times, beyond.as_ref()));
        self.count(&chunk, &times, &fates);
        self.counters.lateness().add(self.late_rows(&chunk, &judged, &fates, passed));
        let kept = BooleanArray::from_iter(
            fates.iter().map(|fate| Some(matches!(fate, Fate::Keep { .. }))),
        );
        let rows = if kept.true_count() == rows.num_rows() {
            rows
        } else {
            filter_record_batch(&rows, &kept)?
        };
        Ok(Admitted { rows, dead_letters, marks: chunk.marks(highest, lowest(&times, &fates)) })
    }

    /// Event times in ms, null where the record has none, `[rows]`.
    fn event_times(&self, events: &RecordBatch) -> Result<Int64Array, ArrowError> {
        event_times(events.column(self.time_column))
    }

    /// By how many ms each row is beyond the future horizon, null where it is not, `[rows]`; none
    /// without a horizon.
    fn beyond(&self, chunk: &Chunk, times: &Int64Array) -> Result<Option<Int64Array>, ArrowError> {
        let Some(horizon) = &self.future_horizon else { return Ok(None) };
        let sent = horizon.sent(&chunk.rows, chunk.sent.as_ref())?;
        let times = times.iter().enumerate();
        Ok(Some(times.map(|(row, time)| horizon.beyond(time?, &sent, row)).collect()))
    }

    fn passes_filter(&self, events: &RecordBatch) -> Result<Option<BooleanArray>, ArrowError> {
        let Some(filter) = &self.filter else { return Ok(None) };
        let passes = filter.evaluate(events.columns(), events.num_rows())?;
        Ok(Some(passes.as_boolean().clone()))
    }

    /// The fate of each row, and the highest event time of the partition after the chunk.
    fn fates(&self, judged: &Judged, highest_before: i64, passed: i64) -> (Vec<Fate>, i64) {
        let Judged { times, passes, .. } = *judged;
        let mut highest = highest_before;
        // What is below the watermark is late: as if the partition had come that far by itself.
        let floor = passed.saturating_add(self.allowed_lateness_ms);
        let fates = (0..times.len())
            .map(|row| {
                if times.is_null(row) || times.value(row) == END_OF_TIME {
                    return if self.is_bounded() {
                        Fate::Outside
                    } else {
                        Fate::Dead(Reason::NoEventTime)
                    };
                }
                let time = times.value(row);
                let before = if passed == i64::MIN { highest } else { highest.max(floor) };
                let behind = if before == i64::MIN { 0 } else { before.saturating_sub(time) };
                let is_too_early = judged.is_too_early(row);
                if !is_too_early {
                    highest = highest.max(time);
                }
                if time >= self.to || time < self.warm_up_from {
                    return Fate::Outside;
                }
                if passes.is_some_and(|p| p.is_null(row) || !p.value(row)) {
                    return Fate::Skip;
                }
                match is_too_early {
                    true => Fate::Dead(Reason::TooEarly),
                    false => self.fate_of_time(behind),
                }
            })
            .collect();
        (fates, highest)
    }

    /// The late rows of a chunk, and the rows that they are behind.
    fn late_rows(&self, chunk: &Chunk, judged: &Judged, fates: &[Fate], passed: i64) -> LateRows {
        let mut found = LateRows::default();
        let floor = match passed {
            i64::MIN => i64::MIN,
            passed => passed.saturating_add(self.allowed_lateness_ms),
        };
        let (mut highest, mut ahead) = (chunk.highest_before, None);
        for (row, fate) in fates.iter().enumerate().filter(|(row, _)| judged.counts(*row)) {
            let time = judged.times.value(row);
            if judged.is_late(*fate, row) && !self.is_warm_up(Some(time), chunk, row) {
                let reached = (highest >= floor).then_some((chunk.partition, highest));
                found.late(highest.max(floor).saturating_sub(time), reached);
                if let Some(ahead) = ahead {
                    found.ahead(chunk.partition, highest, ahead);
                }
            }
            if time > highest {
                let jump_ms = (highest > i64::MIN).then(|| time.saturating_sub(highest));
                ahead = Some(Ahead { offset: chunk.offsets.value(row), jump_ms });
                highest = time;
            }
        }
        if let Some(ahead) = ahead {
            found.ahead(chunk.partition, highest, ahead);
        }
        found
    }

    fn fate_of_time(&self, behind: i64) -> Fate {
        let late = behind > self.allowed_lateness_ms;
        if late && self.late_horizon_ms.is_some_and(|horizon| behind > horizon) {
            return Fate::Dead(Reason::TooLate);
        }
        match (late, self.late) {
            (true, LatePolicy::DeadLetter) => Fate::Dead(Reason::Late),
            (true, LatePolicy::Skip) => Fate::Skip,
            (late, _) => Fate::Keep { late },
        }
    }

    /// Whether `--from` or `--to` is given. Records without event time are then outside.
    fn is_bounded(&self) -> bool {
        self.warm_up.before != i64::MIN || self.to != i64::MAX
    }

    fn with_layout(
        &self,
        chunk: &Chunk,
        times: &Int64Array,
        fates: &[Fate],
        read_at: Duration,
    ) -> Result<RecordBatch, ArrowError> {
        let layout = &self.layout;
        let mut columns = chunk.rows.columns().to_vec();
        for keyed in [layout.id, layout.key].into_iter().flatten() {
            columns[keyed] = as_key(&columns[keyed])?;
        }
        columns.push(Arc::new(Int64Array::new(times.values().clone(), None)));
        columns.push(Arc::new(BooleanArray::from_iter(
            fates.iter().map(|fate| Some(*fate == Fate::Keep { late: true })),
        )));
        columns.push(Arc::new(UInt32Array::from_value(chunk.partition, times.len())));
        columns.push(Arc::new(chunk.offsets.clone()));
        columns.push(Arc::new(Int64Array::from_value(read_at.as_micros() as i64, times.len())));
        columns.extend(chunk.raw.as_ref().map(views_of));
        columns.extend(chunk.envelopes.as_ref().map(views_of));
        RecordBatch::try_new(layout.schema.clone(), columns)
    }

    fn dead_letters(
        &self,
        chunk: &Chunk,
        rows: &RecordBatch,
        fates: &[Fate],
        beyond: Option<&Int64Array>,
    ) -> Result<RecordBatch, ArrowError> {
        let mut letters = DeadLetters::new(self.partition_names.clone());
        if !self.is_bounded() {
            for record in self.undecoded(chunk) {
                letters.undecoded(chunk.partition, record);
            }
        }
        for (row, fate) in fates.iter().enumerate() {
            let Fate::Dead(reason) = *fate else { continue };
            let time = (reason != Reason::NoEventTime).then(|| self.layout.times(rows).value(row));
            if self.is_warm_up(time, chunk, row) {
                continue;
            }
            let detail = match reason {
                Reason::NoEventTime => {
                    "the record has no event time, or it is not a time".to_owned()
                }
                Reason::TooEarly => {
                    let horizon = self.future_horizon.map_or(0, |horizon| horizon.horizon_ms);
                    format!(
                        "{} ms beyond the time of its own message, which is more than event.future_horizon_ms = {horizon}",
                        beyond.map_or(0, |beyond| beyond.value(row))
                    )
                }
                Reason::TooLate => behind_by(self.late_horizon_ms.unwrap_or(0)),
                _ => behind_by(self.allowed_lateness_ms),
            };
            letters.row(reason, &detail, rows, &self.layout, row)?;
        }
        Ok(letters.finish())
    }

    /// Records of the chunk that are no events, without those that are warm-up.
    fn undecoded<'a>(&'a self, chunk: &'a Chunk) -> impl Iterator<Item = &'a Undecoded> {
        let is_warm_up = |offset| self.warm_up.is_before_offset(chunk.partition, offset);
        chunk.undecoded.iter().filter(move |record| !is_warm_up(record.offset))
    }

    fn is_warm_up(&self, time: Option<i64>, chunk: &Chunk, row: usize) -> bool {
        time.is_some_and(|time| self.warm_up.is_before_time(time))
            || self.warm_up.is_before_offset(chunk.partition, chunk.offsets.value(row))
    }

    /// Counts what is scored or skipped, and settles what is skipped; warm-up rows are read for the
    /// windows' sake.
    fn count(&self, chunk: &Chunk, times: &Int64Array, fates: &[Fate]) {
        let (mut read, mut late) = (0, 0);
        let mut skipped = Vec::new();
        for (row, fate) in fates.iter().enumerate() {
            let time = times.is_valid(row).then(|| times.value(row));
            if *fate == Fate::Outside || self.is_warm_up(time, chunk, row) {
                continue;
            }
            read += 1;
            if *fate == Fate::Skip {
                skipped.push(chunk.offsets.value(row));
            }
            late += u64::from(*fate == Fate::Keep { late: true });
        }
        if !self.is_bounded() {
            read += self.undecoded(chunk).count() as u64;
        }
        if self.is_bounded() {
            self.counters.event_times_there(times.iter().flatten().filter(|&t| t != END_OF_TIME));
        }
        self.counters.rows_read(read);
        self.counters.rows_skipped(skipped.len() as u64);
        self.settled.settle(chunk.partition, skipped);
        self.counters.rows_late(late);
    }
}

/// Event times without those of rows that are `beyond` the future horizon: these move no watermark.
fn counted(times: &Int64Array, beyond: Option<&Int64Array>) -> Int64Array {
    let Some(beyond) = beyond.filter(|beyond| beyond.null_count() < beyond.len()) else {
        return times.clone();
    };
    let rows = times.iter().zip(beyond);
    rows.map(|(time, beyond)| time.filter(|_| beyond.is_none())).collect()
}

/// The lowest event time of rows that are no dead letters, those that are passed over among them.
fn lowest(times: &Int64Array, fates: &[Fate]) -> Option<i64> {
    let told = times.iter().zip(fates).filter(|(_, fate)| !matches!(fate, Fate::Dead(_)));
    told.filter_map(|(time, _)| time).filter(|&time| time != END_OF_TIME).min()
}

fn behind_by(millis: i64) -> String {
    format!("behind the partition by more than {millis} ms")
}

/// The highest event time, if there is any. The end of time is none, as no row can be there.
pub fn highest<T: ArrowPrimitiveType<Native = i64>>(times: &PrimitiveArray<T>) -> Option<i64> {
    match arrow::compute::max(times) {
        Some(END_OF_TIME) => times.iter().flatten().filter(|&time| time != END_OF_TIME).max(),
        highest => highest,
    }
}

/// A column as event times in ms since the epoch, null where there is none. Finer units are rounded
/// down, integers are taken as milliseconds, and what is out of range is none.
///
/// # Errors
/// If the column is neither a timestamp, a date nor an integer, nor text in RFC 3339.
pub fn event_times(column: &ArrayRef) -> Result<Int64Array, ArrowError> {
    event_time_parts(column).map(|(millis, _)| millis)
}

/// Like [`event_times`], and how far behind its ms each time is, in ns (0 to 999,999), where the
/// column is finer than that.
///
/// # Errors
/// Like [`event_times`].
pub fn event_time_parts(
    column: &ArrayRef,
) -> Result<(Int64Array, Option<UInt32Array>), ArrowError> {
    let ticks = |column: &ArrayRef| -> Result<Int64Array, ArrowError> {
        Ok(cast(column, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    };
    match column.data_type() {
        DataType::Int64 => Ok((column.as_primitive().clone(), None)),
        DataType::Dictionary(_, values) => event_time_parts(&cast(column, values)?),
        integer if integer.is_integer() => Ok((ticks(column)?, None)),
        DataType::Timestamp(TimeUnit::Second, _) => {
            Ok((ticks(column)?.unary_opt(|second| second.checked_mul(1_000)), None))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => {
            Ok((ticks(column)?, None))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => Ok(parts(&ticks(column)?, 1_000)),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Ok(parts(&ticks(column)?, 1_000_000)),
        DataType::Date32 => {
            let days = cast(column, &DataType::Int32)?;
            let days = days.as_primitive::<Int32Type>();
            Ok((days.unary(|day| i64::from(day) * 86_400_000), None))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
            event_time_parts(&cast(column, &micros)?)
        }
        other => Err(ArrowError::SchemaError(format!(
            "the event time must be a timestamp, an integer of milliseconds or RFC 3339 text, not {other}"
        ))),
    }
}

/// Ticks, of which `per_ms` are a ms, as ms and what is left in ns.
fn parts(ticks: &Int64Array, per_ms: i64) -> (Int64Array, Option<UInt32Array>) {
    let nanos = 1_000_000 / per_ms;
    let rest = |tick: i64| (tick.rem_euclid(per_ms) * nanos) as u32;
    (ticks.unary(|tick| tick.div_euclid(per_ms)), Some(ticks.unary(rest)))
}
