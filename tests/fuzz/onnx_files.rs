//! Damaged models, loaded by a process of their own: ONNX Runtime is not ours, and may end it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use driftline::models::onnx::{self, Loaded, ModelSpec};
use driftline::models::runtime;
use driftline_operators::model::Model;
use indexmap::IndexMap;

use crate::campaign::run;
use crate::mutate::mutate;
use crate::random::Random;

/// Models of one process: it takes longer to start than they do to load.
const MODELS_A_PROCESS: usize = 60;
/// Address space of a process, in KiB.
const MEMORY_MAX_KIB: usize = 3 << 20;
const FOLDER: &str = "FUZZ_ONNX_FOLDER";

fn models() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights/models");
    let small = [
        "minimal",
        "logistic",
        "logistic_double",
        "logistic_zipmap",
        "multiclass",
        "mlp",
        "strings",
        "mlp_external",
    ];
    let read = |name: &str| {
        let path = folder.join(format!("{name}.onnx"));
        (name.to_owned(), std::fs::read(&path).unwrap())
    };
    small.into_iter().map(read).collect()
}

/// What the job of a model offers it.
fn features(name: &str) -> Vec<Field> {
    let n = match name {
        "minimal" => 2,
        "strings" => 6,
        _ => 16,
    };
    let strings =
        ["carrier", "origin", "dep_delay", "distance", "minute_of_day", "carrier_delay_1h"];
    (0..n)
        .map(|at| match name {
            "strings" if at < 2 => Field::new(strings[at], DataType::Utf8, true),
            "strings" => Field::new(strings[at], DataType::Float64, true),
            _ => Field::new(format!("f{at}"), DataType::Float64, true),
        })
        .collect()
}

fn rows(features: &[Field]) -> RecordBatch {
    let columns = features.iter().map(|field| -> ArrayRef {
        match field.data_type() {
            DataType::Utf8 => std::sync::Arc::new(StringArray::from(vec!["EWR", "x", ""])),
            _ => std::sync::Arc::new(Float64Array::from(vec![0.0, f64::NAN, 1e300])),
        }
    });
    let schema = std::sync::Arc::new(arrow::datatypes::Schema::new(features.to_vec()));
    RecordBatch::try_new(schema, columns.collect()).unwrap()
}

/// The bits of the scores, those of NaN alike.
fn scored(model: &mut dyn Model, features: &[Field]) -> Result<Vec<u32>, String> {
    let scores = model.score(&rows(features)).map_err(|error| error.to_string())?;
    let bits = |score: &f32| if score.is_nan() { f32::NAN } else { *score }.to_bits();
    Ok(scores.predictions.iter().map(bits).collect())
}

/// Loads the models of a folder, one after the other, saying which before and what after.
#[test]
#[ignore = "this is the process that `onnx_files` starts"]
fn loader_of_models() {
    let folder = PathBuf::from(std::env::var_os(FOLDER).expect("a folder of models"));
    let environment = runtime::load().unwrap();
    for at in 0.. {
        let path = folder.join(format!("{at}.onnx"));
        let Ok(name) = std::fs::read_to_string(folder.join(format!("{at}.name"))) else { break };
        println!("\nmodel {at}");
        let features = features(&name);
        let inputs = IndexMap::new();
        let load = |compile_trees| {
            let spec = ModelSpec {
                path: &path,
                features: &features,
                inputs: &inputs,
                output: None,
                task: None,
                compile_trees,
                keep_input: false,
                may_be_null: &[],
            };
            onnx::load(&environment, &spec)
        };
        match load(true) {
            Err(error) => println!("\nrefused {:?}", error.to_string()),
            Ok(Loaded { mut model, .. }) => {
                let scored = scored(model.as_mut(), &features);
                match &scored {
                    Ok(scores) => println!("\nscored {}", scores.len() / model.width()),
                    Err(error) => println!("\nunscored {error:?}"),
                }
                // Whatever the damage: the same as ONNX Runtime, which also runs what is not trees.
                let mut other = load(false).unwrap().model;
                assert_eq!(scored, self::scored(other.as_mut(), &features), "model {at}: {name}");
            }
        }
    }
    println!("\nend");
}

/// What became of the models in `folder`: how the process ended, and the model it was at.
fn load_all(folder: &Path) -> (Option<String>, Option<usize>, Vec<String>) {
    let program = std::env::current_exe().unwrap();
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -c 0 -v {MEMORY_MAX_KIB}; exec \"$0\" \"$@\"")])
        .arg(program)
        .args(["--exact", "onnx_files::loader_of_models", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let errors = child.stderr.take().unwrap();
    let errors = std::thread::spawn(move || std::io::read_to_string(errors).unwrap_or_default());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (mut at, mut ended, mut said) = (None, false, Vec::new());
    for line in lines.map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("model", number)) => at = number.parse().ok(),
            Some(("refused" | "scored" | "unscored", _)) => said.push(line),
            _ => ended |= line == "end",
        }
    }
    let status = child.wait().unwrap();
    let errors = errors.join().unwrap();
    if ended && status.success() {
        return (None, at, said);
    }
    let last: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).take(3).collect();
    let how = match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("{status}"),
    };
    (Some(format!("{how}: {}", last.join(" / "))), at, said)
}

fn damaged(random: &mut Random, models: &[(String, Vec<u8>)]) -> (String, Vec<u8>) {
    let (name, whole) = random.of(models);
    let mut bytes = whole.clone();
    if !random.one_in(20) {
        mutate(random, &mut bytes);
    }
    (name.clone(), bytes)
}

#[test]
fn onnx_files() {
    let models = models();
    let weights =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/flights/models/mlp_external.onnx.data");
    run("onnx_files", 4, |random, given| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(&weights, folder.path().join("mlp_external.onnx.data")).unwrap();
        let batch: Vec<_> = (0..MODELS_A_PROCESS).map(|_| damaged(random, &models)).collect();
        for (at, (name, bytes)) in batch.iter().enumerate() {
            std::fs::write(folder.path().join(format!("{at}.onnx")), bytes).unwrap();
            std::fs::write(folder.path().join(format!("{at}.name")), name).unwrap();
        }
        let (fault, at, said) = load_all(folder.path());
        let at = at.unwrap_or(0);
        given.0.clone_from(&batch[at].1);
        if let Some(fault) = fault {
            return Err(format!("model {at} of the batch ({}): {fault}", batch[at].0));
        }
        if said.len() != batch.len() {
            return Err(format!("{} answers of {} models", said.len(), batch.len()));
        }
        match said.iter().find(|line| line.starts_with("scored") && *line != "scored 3") {
            Some(line) => Err(format!("three rows, but {line}")),
            None => Ok(()),
        }
    });
}
