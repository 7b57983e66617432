//! What is said of late rows: which lateness would have them in time, and what they were behind.

use arrow::temporal_conversions::timestamp_ms_to_datetime;
use driftline_operators::lateness::{Culprit, LateRows};
use driftline_operators::partition_names::PartitionNames;

use super::numbers::thousands;
use super::prepare::Prepared;
use crate::config::job::Event;

/// Lines of the summary.
pub fn lines(
    event: &Event,
    names: &PartitionNames,
    late: &LateRows,
) -> Vec<(&'static str, String)> {
    if late.rows == 0 {
        return Vec::new();
    }
    let (rows, needed) = (thousands(late.rows), late.behind_ms_most);
    let horizon = match event.late_horizon_ms < needed {
        true => format!(" with event.late_horizon_ms = {needed}"),
        false => String::new(),
    };
    let are =
        if late.rows == 1 { "1 row was late".to_owned() } else { format!("{rows} rows were late") };
    let enough = format!(
        "{are}, up to {needed} ms; event.allowed_lateness_ms = {needed}{horizon} would have all of them in time"
    );
    let culprit = late.culprit().map(|culprit| ("behind", behind(&culprit, names)));
    std::iter::once(("lateness", enough)).chain(culprit).collect()
}

fn behind(culprit: &Culprit, names: &PartitionNames) -> String {
    let name = names.get(culprit.partition).unwrap_or_default();
    let time = shown(culprit.time);
    let jump = match culprit.ahead.jump_ms {
        Some(jump) => format!("{jump} ms ahead of all before it"),
        None => "the first".to_owned(),
    };
    let rows = if culprit.rows == 1 {
        "1 row".to_owned()
    } else {
        format!("{} rows", thousands(culprit.rows))
    };
    format!("{rows} of them behind {name}, row {} ({time}, {jump})", culprit.ahead.offset)
}

fn shown(time_ms: i64) -> String {
    match timestamp_ms_to_datetime(time_ms) {
        Some(time) => time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        None => format!("{time_ms} ms"),
    }
}

/// What is to be said before a run of files of the events that are not in order of time, as far as
/// their footers tell.
pub fn foreseen(prepared: &Prepared) -> Option<String> {
    let (name, behind_ms) = prepared.inputs.disorder()?;
    let allowed = prepared.job.event.allowed_lateness_ms;
    (behind_ms > allowed).then(|| {
        format!(
            "{name} is not in order of time: a row group begins {behind_ms} ms behind the ones before it, \
             and event.allowed_lateness_ms is {allowed}; for no row to be late it has to be at least {behind_ms}"
        )
    })
}

#[cfg(test)]
mod tests {
    use driftline_operators::lateness::Ahead;

    use super::*;

    #[test]
    fn the_row_that_others_are_behind_is_named() {
        let ahead = Ahead { offset: 239, jump_ms: Some(3_600_000) };
        let culprit = Culprit { partition: 0, time: 860_400_000, ahead, rows: 1_215 };
        let names = ["events.parquet".to_owned()].into();
        assert_eq!(
            behind(&culprit, &names),
            "1,215 rows of them behind events.parquet, row 239 (1970-01-10T23:00:00.000Z, 3600000 ms ahead of all before it)"
        );
        assert_eq!(shown(i64::MAX), format!("{} ms", i64::MAX));
    }
}
