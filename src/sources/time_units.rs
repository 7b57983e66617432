//! Integer times whose unit nobody named: milliseconds, unless by their year they look like another.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::Int64Array;
use arrow::datatypes::TimeUnit;
use driftline_operators::admit::{END_OF_TIME, event_times};
use driftline_operators::ingest::{Allowance, Polled, Source, SourceError};
use driftline_operators::wake::Wake;

use crate::instant::instant;

/// 2001 and 2100, in s since 1970: where times of events are.
const FROM: i64 = 978_307_200;
const TO: i64 = 4_102_444_800;

/// The unit that an integer time looks as if it were of, if that is not milliseconds.
fn other_unit(time: i64) -> Option<(TimeUnit, &'static str, &'static str)> {
    let is_of = |per_second: i64| (FROM * per_second..TO * per_second).contains(&time);
    match time {
        _ if is_of(1) => Some((TimeUnit::Second, "s", "seconds")),
        _ if is_of(1_000_000) => Some((TimeUnit::Microsecond, "us", "microseconds")),
        _ if is_of(1_000_000_000) => Some((TimeUnit::Nanosecond, "ns", "nanoseconds")),
        _ => None,
    }
}

/// What is to be said of integers that were taken for milliseconds, such as `typical`; `key` is that of
/// their column, such as `event.time`.
fn doubt(key: &str, typical: i64) -> Option<String> {
    let (unit, word, words) = other_unit(typical)?;
    let millis = match unit {
        TimeUnit::Second => typical * 1_000,
        TimeUnit::Microsecond => typical / 1_000,
        _ => typical / 1_000_000,
    };
    let date = |millis: i64| {
        let text = instant(millis);
        text.split_once('T').map_or(text.clone(), |(date, _)| date.to_owned())
    };
    Some(format!(
        "{key}: {typical} is taken for milliseconds, which makes it a time of {}; as {words} it is \
         of {}: say {key}_unit = \"{word}\", or \"ms\" if that is what it is",
        // Beyond its calendar there is no date.
        if unit == TimeUnit::Nanosecond {
            "no year that there is".to_owned()
        } else {
            date(typical)
        },
        date(millis)
    ))
}

/// The time in the middle.
fn median(times: impl Iterator<Item = i64>) -> Option<i64> {
    let mut times: Vec<i64> = times.filter(|&time| time != END_OF_TIME).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// What integer times of no named unit have been found to look like.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By stream, the key of its time and the column, as long as no time was seen.
    open: Vec<(usize, String, String)>,
    found: Vec<String>,
}

impl Doubts {
    /// The times of a stream are integers of no named unit: its first ones will tell.
    pub fn expect(&self, stream: usize, key: &str, column: &str) {
        self.shared().open.push((stream, key.to_owned(), column.to_owned()));
    }

    /// The first times (ms) of a stream, if they have not been looked at.
    pub fn look(&self, stream: usize, times: impl Iterator<Item = i64>) -> Option<String> {
        let typical = median(times)?;
        let mut shared = self.shared();
        let at = shared.open.iter().position(|(open, ..)| *open == stream)?;
        let (_, key, _) = shared.open.remove(at);
        let found = doubt(&key, typical);
        shared.found.extend(found.clone());
        found
    }

    pub fn found(&self) -> Vec<String> {
        self.shared().found.clone()
    }

    /// Whether no stream's times are still to be looked at.
    pub fn are_settled(&self) -> bool {
        self.shared().open.is_empty()
    }

    fn column(&self, stream: usize) -> Option<String> {
        let shared = self.shared();
        let open = shared.open.iter().find(|(open, ..)| *open == stream);
        open.map(|(.., column)| column.clone())
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source whose first times are looked at as they come, as nobody knew them before.
pub struct Watched {
    source: Box<dyn Source>,
    doubts: Doubts,
}

impl Watched {
    pub fn new(source: Box<dyn Source>, doubts: Doubts) -> Self {
        Watched { source, doubts }
    }
}

impl Source for Watched {
    fn next_epoch(&self) -> Option<u64> {
        self.source.next_epoch()
    }

    fn poll(&mut self, allowance: &Allowance) -> Result<Polled, SourceError> {
        let polled = self.source.poll(allowance)?;
        if let Polled::Chunk(chunk) = &polled
            && !self.doubts.are_settled()
            && let Some(column) = self.doubts.column(chunk.stream)
            && let Some(times) = chunk.rows.column_by_name(&column)
            && let Ok(times) = event_times(times)
            && let Some(found) = self.doubts.look(chunk.stream, valid(&times))
        {
            say!("warning: {found}");
        }
        Ok(polled)
    }

    fn counts_epochs(&self) -> bool {
        self.source.counts_epochs()
    }

    fn epoch_seen(&mut self, epoch: u64) {
        self.source.epoch_seen(epoch);
    }

    fn wake_with(&mut self, wake: Wake) {
        self.source.wake_with(wake);
    }
}

/// The times that are there.
pub fn valid(times: &Int64Array) -> impl Iterator<Item = i64> + '_ {
    times.iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_told_by_the_year() {
        // 2024-01-01T00:00:00Z.
        let second = 1_704_067_200;
        let word = |time: i64| other_unit(time).map(|(_, word, _)| word);
        assert_eq!(word(second), Some("s"));
        assert_eq!(word(second * 1_000), None);
        assert_eq!(word(second * 1_000_000), Some("us"));
        assert_eq!(word(second * 1_000_000_000), Some("ns"));
        // 1995 and 1970 in ms, small numbers of a test, and the ends of what there is.
        for time in [788_918_400_000, 86_400_000, 1, 0, -5, i64::MIN, i64::MAX, TO, FROM - 1] {
            assert_eq!(word(time), None, "{time}");
        }
    }

    #[test]
    fn a_doubt_names_the_key_both_dates_and_what_to_say() {
        let text = doubt("event.time", 1_704_067_200).unwrap();
        for part in ["event.time: ", "of 1970-01-20", "of 2024-01-01", "event.time_unit = \"s\""] {
            assert!(text.contains(part), "{text}");
        }
        let text = doubt("tables.t.time", 1_704_067_200_000_000).unwrap();
        for part in ["55969", "2024-01-01", "tables.t.time_unit = \"us\""] {
            assert!(text.contains(part), "{text}");
        }
        assert!(doubt("event.time", 1_704_067_200_000_000_000).unwrap().contains("= \"ns\""));
    }

    #[test]
    fn the_middle_one_of_the_first_times_tells_and_only_once() {
        let doubts = Doubts::default();
        doubts.expect(1, "tables.t.time", "at");
        let second = 1_704_067_200;
        assert_eq!(doubts.look(0, [second].into_iter()), None);
        assert_eq!(doubts.look(1, std::iter::empty()), None);
        assert!(!doubts.are_settled());
        let times = [0, second, second + 1, END_OF_TIME, second * 1_000];
        assert!(doubts.look(1, times.into_iter()).is_some());
        assert_eq!(doubts.look(1, times.into_iter()), None);
        assert_eq!((doubts.found().len(), doubts.are_settled()), (1, true));
    }
}
