//! No operator keeps the others of its worker waiting for long.

use std::time::Duration;

use driftline::Pipeline;

use crate::support::{departures, flights, write_parquet};

/// CPU time that a turn may take; where others share caches and cores it takes up to twice as much.
const TURN_MAX: Duration = Duration::from_millis(5);

#[test]
fn turns_are_short() {
    let folder = tempfile::tempdir().unwrap();
    let parquet = folder.path().join("departures.parquet");
    write_parquet(&parquet, &departures());
    let lines = folder.path().join("departures.jsonl");
    let file = std::fs::File::create(&lines).unwrap();
    let mut writer = arrow::json::LineDelimitedWriter::new(file);
    writer.write(&departures()).unwrap();
    writer.finish().unwrap();
    for (input, workers) in [(&parquet, 1), (&parquet, 2), (&lines, 1), (&lines, 2)] {
        let pipeline = Pipeline::new(flights()).workers(workers).input(input);
        let summary = pipeline.out(folder.path().join("out")).run().unwrap();
        let name = format!("{}, {workers} workers", input.display());
        assert!(summary.turns.len() > 1 && summary.to_string().contains("longest turn"), "{name}");
        for (operator, took) in &summary.turns {
            assert!(*took <= 2 * TURN_MAX, "{name}: {operator} took {took:?}");
        }
    }
}
