use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use driftline::model::{Model, ModelError, Scores, Task};
use driftline::run::prepare::read_parquet;
use driftline::{FunctionSink, Job, Pipeline};

/// Departures that the tests read.
pub const ROWS: usize = 50_000;

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn flights() -> Job {
    Job::load(&root().join("jobs/flights.toml")).unwrap()
}

/// The first departures, in order of event time.
pub fn departures() -> RecordBatch {
    static ALL: OnceLock<RecordBatch> = OnceLock::new();
    let path = root().join("data/flights/departures.parquet");
    ALL.get_or_init(|| read_parquet(&path).unwrap().slice(0, ROWS)).clone()
}

/// A job file of `text` in a folder of its own, where DATA is the folder of the flights.
pub fn job(text: &str) -> Job {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("job.toml");
    let data = root().join("data/flights").display().to_string();
    std::fs::write(&path, text.replace("DATA", &data)).unwrap();
    Job::load(&path).unwrap()
}

/// Makes a model that gives its first feature as the score.
pub fn first_feature() -> impl Fn(&[Field]) -> Result<Box<dyn Model>, ModelError> + Send + Sync {
    |_features| Ok(Box::new(FirstFeature))
}

struct FirstFeature;

impl Model for FirstFeature {
    fn score(&mut self, features: &RecordBatch) -> Result<Scores, ModelError> {
        let first = features.column(0).as_primitive::<Float64Type>();
        let predictions = first.values().iter().map(|&value| value as f32).collect();
        Ok(Scores { predictions, input: None })
    }

    fn width(&self) -> usize {
        1
    }

    fn task(&self) -> Task {
        Task::Regression
    }
}

/// Far longer than a run takes.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// What `run` gives, which must not take for ever.
#[track_caller]
pub fn in_time<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, ended) = channel();
    std::thread::spawn(move || done.send(run()));
    match ended.recv_timeout(HANGS_AFTER) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what}: panics"),
    }
}

/// Batches that sinks of all workers have been given.
#[derive(Clone, Default)]
pub struct Collected(Arc<Mutex<Vec<RecordBatch>>>);

impl Collected {
    pub fn take(&self, batch: RecordBatch) {
        self.0.lock().unwrap().push(batch);
    }

    pub fn all(&self) -> RecordBatch {
        let batches = self.0.lock().unwrap();
        concat_batches(batches[0].schema_ref(), &*batches).unwrap()
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

/// The pipeline with predictions, dead letters and drift collected.
pub fn collecting(pipeline: Pipeline) -> (Pipeline, Collected, Collected, Collected) {
    let (predictions, letters, drift) =
        (Collected::default(), Collected::default(), Collected::default());
    let to = |name: &'static str, collected: &Collected| {
        let collected = collected.clone();
        move |_worker: usize, _schema: &_| {
            let collected = collected.clone();
            let take = move |batch| {
                collected.take(batch);
                Ok(())
            };
            Ok(Box::new(FunctionSink::new(name, take)) as Box<dyn driftline::Sink>)
        }
    };
    let pipeline = pipeline
        .predictions(to("predictions", &predictions))
        .dead_letters(to("dead letters", &letters))
        .drift(to("drift", &drift));
    (pipeline, predictions, letters, drift)
}

/// Status and the bits of the score by event id.
pub type Scored = BTreeMap<String, (String, u32)>;

pub fn scores(predictions: &RecordBatch) -> Scored {
    let text = |name| predictions.column_by_name(name).unwrap().as_string::<i32>();
    let (ids, status) = (text("event_id"), text("status"));
    let score = predictions.column_by_name("score").unwrap().as_primitive::<Float32Type>();
    (0..predictions.num_rows())
        .map(|row| {
            let result = (status.value(row).to_owned(), score.value(row).to_bits());
            (ids.value(row).to_owned(), result)
        })
        .collect()
}

/// What a replay of the flights gives for the first departures.
pub fn replayed() -> &'static Scored {
    static SCORES: OnceLock<Scored> = OnceLock::new();
    SCORES.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("departures.parquet");
        write_parquet(&path, &departures());
        let (pipeline, predictions, ..) = collecting(Pipeline::new(flights()).input(path));
        pipeline.run().unwrap();
        let scores = scores(&predictions.all());
        assert_eq!(scores.len(), ROWS);
        scores
    })
}

pub fn write_parquet(path: &Path, batch: &RecordBatch) {
    let file = std::fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[track_caller]
pub fn assert_as_replayed(found: &Scored, name: &str) {
    let expected = replayed();
    assert_eq!(found.len(), expected.len(), "{name}");
    let differing = expected.iter().filter(|(id, score)| found.get(*id) != Some(score));
    let differing: Vec<_> = differing.map(|(id, score)| (id, score, found.get(id))).collect();
    let (count, first) = (differing.len(), differing.first());
    assert_eq!(count, 0, "{name}: id, replayed, found of the first: {first:?}");
}

pub fn ids(batch: &RecordBatch) -> Vec<String> {
    let ids = arrow::compute::cast(batch.column_by_name("event_id").unwrap(), &DataType::Utf8);
    ids.unwrap().as_string::<i32>().iter().map(|id| id.unwrap().to_owned()).collect()
}
