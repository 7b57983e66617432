//! JSON lines with damage in random places through the whole program, on several workers, against
//! what was written.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Float32Type, UInt64Type};
use driftline::run::options::{Exchange, RunOptions};
use driftline::run::replay;
use driftline::{Feature, FunctionSink, Job, JobBuilder, Model, Sink, Summary};
use driftline_operators::accounting::Account;
use driftline_operators::model::Task;

use crate::models::{Calls, RowByRow};
use crate::seeds::{all_are_run, seeds};
use crate::support::Random;

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Blank,
    /// An event, and its score: of the others the filter has nothing to say, or no.
    Scored(f32),
    Skipped,
    /// A dead letter, and the reason.
    Dead(&'static str),
}

struct Line {
    bytes: Vec<u8>,
    kind: Kind,
}

/// Lines that are no events: cut short, two in one, of other types, no JSON, no UTF-8.
fn damaged(id: usize, random: &mut Random) -> Vec<u8> {
    let whole = format!("{{\"t\": {id}, \"id\": \"e{id}\", \"x\": 1.5, \"ok\": true}}");
    let at = 1 + random.below(whole.len() as u64 - 2) as usize;
    match random.below(9) {
        0 => whole[..at].into(),
        1 => format!("{whole}{whole}").into(),
        2 => whole[at..].into(),
        3 => format!("{{\"t\": {id}, \"id\": \"e{id}\", \"x\": \"one\", \"ok\": true}}").into(),
        4 => format!("{{\"t\": {id}.5, \"id\": \"e{id}\", \"x\": 1.5, \"ok\": true}}").into(),
        5 => format!("[{whole}]").into(),
        6 => format!("{{\"t\": {id}, \"id\": \"e{id}\", \"x\": 1.5, \"ok\": 1e}}").into(),
        7 => b"nonsense \xff\xfe".into(),
        _ => format!("{whole}]").into(),
    }
}

/// A line of an event; some have no time, no `x`, or other columns, in any order.
fn event(id: usize, random: &mut Random) -> Line {
    let x = random.below(400) as f32 / 4.0;
    let ok = random.below(8) != 0;
    let mut columns = vec![format!("\"id\": \"e{id}\"")];
    let mut put = |name: &str, value: Option<String>, random: &mut Random| match value {
        Some(value) => columns.push(format!("\"{name}\": {value}")),
        // Null is said, or not.
        None if random.below(2) == 0 => columns.push(format!("\"{name}\": null")),
        None => {}
    };
    let has = [14, 9, 9].map(|one_in| random.below(one_in) != 0);
    put("t", has[0].then(|| (1_000 + id / 3).to_string()), random);
    put("x", has[1].then(|| x.to_string()), random);
    put("ok", has[2].then(|| ok.to_string()), random);
    put("more", Some("[{\"deep\": [1, \"}\\\"{\"]}]".to_owned()), random);
    let turn = random.below(columns.len() as u64) as usize;
    columns.rotate_left(turn);
    let kind = match has {
        [false, ..] => Kind::Dead("no_event_time"),
        [_, _, false] => Kind::Skipped,
        [..] if !ok => Kind::Skipped,
        [_, false, _] => Kind::Dead("missing_feature"),
        _ => Kind::Scored(x * 2.0),
    };
    Line { bytes: format!("{{{}}}", columns.join(", ")).into(), kind }
}

/// Lines of which one in `one_in` is damaged; some are blank. Damage comes in runs, too.
fn lines(seed: u64, one_in: u64) -> Vec<Line> {
    let mut random = Random::new(seed);
    let (mut lines, mut run) = (Vec::new(), 0);
    // The first lines tell the columns.
    lines.extend((0..3).map(|id| Line {
        bytes: format!("{{\"t\": {}, \"id\": \"e{id}\", \"x\": 1, \"ok\": true}}", 1_000).into(),
        kind: Kind::Scored(2.0),
    }));
    for id in 3..400 {
        if random.below(60) == 0 {
            run = random.below(40);
        }
        run = u64::saturating_sub(run, 1);
        lines.push(if random.below(25) == 0 {
            Line { bytes: b" \t".into(), kind: Kind::Blank }
        } else if run > 0 || random.below(one_in) == 0 {
            Line { bytes: damaged(id, &mut random), kind: Kind::Dead("decode_failed") }
        } else {
            event(id, &mut random)
        });
    }
    lines
}

/// Writes the lines as two files of a folder; the second one may be compressed.
fn write(folder: &Path, lines: &[Line], compressed: bool) {
    let text = |lines: &[Line], end: &[u8]| {
        lines.iter().map(|line| line.bytes.as_slice()).collect::<Vec<_>>().join(end)
    };
    let (first, second) = lines.split_at(lines.len() / 3);
    // The last line of a file needs no end.
    std::fs::write(folder.join("a.jsonl"), text(first, b"\n")).unwrap();
    let second = text(second, b"\r\n");
    if compressed {
        let file = std::fs::File::create(folder.join("b.jsonl.gz")).unwrap();
        let mut file = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        file.write_all(&second).unwrap();
        file.finish().unwrap();
    } else {
        std::fs::write(folder.join("b.jsonl"), second).unwrap();
    }
}

fn job(folder: &Path, epoch_rows_max: i64) -> Job {
    let job = JobBuilder::new("lines", "t")
        .id("id")
        .source(folder.to_str().unwrap())
        .set("event.filter", "ok")
        .set("job.epoch_rows_max", epoch_rows_max)
        .feature("x", Feature::column("x"))
        .model(Model::own("double", ["x"]));
    job.build(".".as_ref()).unwrap()
}

type Batches = Arc<Mutex<Vec<RecordBatch>>>;

/// Predictions and dead letters of a run, and its summary.
fn run(job: &Arc<Job>, workers: usize, exchange: Exchange) -> ([Vec<RecordBatch>; 2], Summary) {
    let into = |kept: &Batches| {
        let kept = kept.clone();
        move |_worker: usize, _schema: &_| {
            let kept = kept.clone();
            let keep = move |batch| {
                kept.lock().unwrap().push(batch);
                Ok(())
            };
            Ok(Box::new(FunctionSink::new("kept", keep)) as Box<dyn Sink>)
        }
    };
    let (predictions, letters) = (Batches::default(), Batches::default());
    let mut options = RunOptions { workers, exchange, ..RunOptions::default() };
    options.sinks.predictions = Some(Arc::new(into(&predictions)));
    options.sinks.dead_letters = Some(Arc::new(into(&letters)));
    options.model = Some(Arc::new(|_features| {
        let score = |row: &[Option<f64>]| Ok(vec![row[0].unwrap_or(0.0) as f32 * 2.0]);
        Ok(Box::new(RowByRow::new(0, Task::Regression, score, Calls::default())))
    }));
    let summary = replay(job, &options).unwrap();
    ([predictions, letters].map(|kept| std::mem::take(&mut *kept.lock().unwrap())), summary)
}

/// The score by event id.
fn scores(predictions: &[RecordBatch], name: &str) -> BTreeMap<String, f32> {
    let mut scores = BTreeMap::new();
    for batch in predictions {
        let ids = batch.column_by_name("event_id").unwrap().as_string::<i32>();
        let score = batch.column_by_name("score").unwrap().as_primitive::<Float32Type>();
        for (id, score) in ids.iter().zip(score) {
            let before = scores.insert(id.unwrap().to_owned(), score.unwrap());
            assert_eq!(before, None, "{name}: {id:?} was predicted twice");
        }
    }
    scores
}

/// Reason and payload by the number of the line, of all lines.
fn dead(letters: &[RecordBatch], name: &str) -> BTreeMap<u64, (String, Vec<u8>)> {
    let mut dead = BTreeMap::new();
    for batch in letters {
        let column = |name| batch.column_by_name(name).unwrap();
        let reasons = column("reason").as_string::<i32>();
        let payloads = column("payload").as_binary::<i32>();
        let offsets = column("offset").as_primitive::<UInt64Type>();
        for row in 0..batch.num_rows() {
            let letter = (reasons.value(row).to_owned(), payloads.value(row).to_vec());
            let before = dead.insert(offsets.value(row), letter);
            assert_eq!(before, None, "{name}: line {} is dead twice", offsets.value(row));
        }
    }
    dead
}

#[test]
fn damage_in_any_place_harms_no_other_line() {
    let ways = [
        (1, Exchange::Threads),
        (2, Exchange::Threads),
        (4, Exchange::Threads),
        (2, Exchange::Bytes),
        (4, Exchange::Bytes),
    ];
    for seed in seeds(1..=8) {
        let lines = lines(seed, [2, 20, 1_000][seed as usize % 3]);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &lines, seed % 2 == 0);
        let rows = [7, 1, 50, 8_192][seed as usize % 4];
        let job = Arc::new(job(folder.path(), rows));
        let scored = lines.iter().enumerate().filter_map(|(number, line)| match line.kind {
            Kind::Scored(score) => Some((format!("e{number}"), score)),
            _ => None,
        });
        let scored: BTreeMap<String, f32> = scored.collect();
        let letters = (0..).zip(&lines).filter_map(|(number, line)| match line.kind {
            Kind::Dead(reason) => Some((number, (reason.to_owned(), line.bytes.clone()))),
            _ => None,
        });
        let letters: BTreeMap<u64, (String, Vec<u8>)> = letters.collect();
        let count = |kind: Kind| lines.iter().filter(|line| line.kind == kind).count() as u64;
        let account = Account {
            read: lines.len() as u64 - count(Kind::Blank),
            predictions: scored.len() as u64,
            skipped: count(Kind::Skipped),
            dead_letters: letters.len() as u64,
            pending: 0,
        };
        for (workers, exchange) in ways {
            let name = format!("seed {seed}, {workers} workers, {exchange:?}, {rows} rows");
            let ([predictions, found], summary) = run(&job, workers, exchange);
            assert_eq!(scores(&predictions, &name), scored, "{name}");
            let found = dead(&found, &name);
            for (line, letter) in &letters {
                assert_eq!(found.get(line), Some(letter), "{name}: line {line}");
            }
            assert_eq!(found.len(), letters.len(), "{name}: dead letters");
            assert_eq!(summary.account, account, "{name}");
        }
        assert!(!all_are_run() || account.dead_letters > 20, "seed {seed}: {account:?}");
    }
}
