//! Job files: the shipped ones with damage, values exchanged, and SQL made of its own pieces.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use driftline::Job;
use driftline::run::check::describe;
use driftline_operators::features::functions::Functions;
use driftline_operators::features::sql::Expression;
use parquet::arrow::ArrowWriter;

use crate::campaign::run;
use crate::mutate::mutate;
use crate::random::Random;

fn jobs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs")
}

fn shipped() -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(jobs().join(name)).unwrap();
    vec![read("flights.toml"), read("minimal.toml"), EVERY_KEY.to_owned()]
}

/// Keys that the shipped jobs leave at their defaults.
const EVERY_KEY: &str = r#"
[job]
name = "every"
order = "epoch"
shard_by = "id"
epoch_rows_max = 100
epochs_in_flight_max = 3
gate_rows_max = 1000
[event]
time = "t"
id = "i"
key = "k"
filter = "x > 1"
allowed_lateness_ms = 10
late = "dead_letter"
late_horizon_ms = 1000
idle_timeout_ms = 5
[event.columns]
t = "int64"
x = "float64"
[sources.a]
path = "a.jsonl"
format = "json"
[tables.w]
path = "w.parquet"
key = "k"
time = "t"
sequence = "s"
delete = "x IS NULL"
max_age_ms = 1000
allowed_lateness_ms = 5
eager = true
[features.a]
column = "x"
default = 1.5
[features.b]
sql = "x * 2"
allow_null = true
[features.c]
window = { key = "k", value = "x", aggregate = "std", length = "7 days" }
[features.d]
window = { key = "k", aggregate = "time_since_last", within = "1h" }
[features.e]
lookup = { table = "w", key = "k", column = "x" }
[features.f]
lookup = { table = "w", key = "k", age = true }
[features.g]
encode = { column = "k", unseen = -1, categories = ["a", "b"] }
[model]
name = "m"
version = "2"
path = "m.onnx"
features = ["a", "b"]
output = "p"
task = "binary"
[model.inputs]
in = ["a", "b"]
[realtime_ml]
max_batch_size = 10
batch_timeout_ms = 5
max_latency_ms = 50
throughput_target_per_second = 1000
[drift]
baseline = "b.parquet"
windows = ["1mo", "7d/1d", "90s"]
mode = "profile"
profile_bins = 16
revision_horizon_ms = 10
revision_interval_ms = 10
ks_p_value = 0.05
min_effect = 0.1
mean_shift_sd = 0.5
z_test = 3
share_beyond_3 = "off"
share_out_of_range = 0.05
null_share = 0.1
min_rows = 30
baseline_sample_max = 100
[sinks.predictions]
path = "p"
format = "json"
"#;

const VALUES: &[&str] = &[
    "0",
    "-1",
    "1",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "1e400",
    "nan",
    "-inf",
    "0.0",
    "\"\"",
    "\"-\"",
    "\"1mo\"",
    "\"1d/1ns\"",
    "\"584942417355y\"",
    "\"9223372036854775807ms\"",
    "\"9223372036854775807ms/1ms\"",
    "\"1ms\"",
    "[]",
    "{}",
    "true",
    "[[]]",
    "1979-05-27T07:32:00Z",
    "[\"1d\", \"1001ms\"]",
    "\"\\u0000\"",
    "\"a.b\"",
    "\"/\"",
    "[\"292277024y\", \"1ms\"]",
    "[\"99999999d\", \"1h\"]",
    "{ x = 1 }",
    "\"x AND\"",
    "[\"a\"]",
];

/// A job with lines left out, doubled or exchanged, and other values.
fn rearranged(random: &mut Random, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..1 + random.below(4) {
        let (at, other) = (random.below(lines.len()), random.below(lines.len()));
        match random.below(6) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[other].clone()),
            2 => lines.swap(at, other),
            _ => {
                if let Some((key, _)) = lines[at].clone().split_once('=') {
                    lines[at] = format!("{key}= {}", random.of(VALUES));
                }
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.join("\n")
}

/// What is nested too deep, or much too long.
fn excessive(random: &mut Random) -> String {
    let n = 1 << random.below(17);
    match random.below(6) {
        0 => format!("a = {}{}", "[".repeat(n), "]".repeat(n)),
        1 => format!("a = {}1{}", "{ a = ".repeat(n), " }".repeat(n)),
        2 => format!("[{}]", vec!["a"; n].join(".")),
        3 => format!("{} = 1", vec!["a"; n].join(".")),
        4 => format!("a = \"{}\"", "x".repeat(n)),
        _ => (0..n.min(4_096)).map(|at| format!("[features.f{at}]\ncolumn = \"x\"\n")).collect(),
    }
}

fn one_line(error: &str) -> Result<(), String> {
    match error.lines().count() {
        1 => Ok(()),
        _ => Err(format!("the error is not one line: {error:?}")),
    }
}

#[test]
fn job_files() {
    let shipped = shipped();
    let folder = jobs();
    run("job_files", 6_000, |random, given| {
        let text = random.of(&shipped).clone();
        given.0 = match random.below(8) {
            0 => excessive(random).into_bytes(),
            1..4 => {
                let mut bytes = text.into_bytes();
                mutate(random, &mut bytes);
                bytes
            }
            _ => rearranged(random, &text).into_bytes(),
        };
        let text = String::from_utf8_lossy(&given.0);
        match Job::parse(&text, &folder) {
            Ok(_) => Ok(()),
            Err(error) => one_line(&error.to_string()),
        }
    });
}

/// A file that is no UTF-8 is refused as such, whatever is in it.
#[test]
fn a_job_that_is_no_text_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.toml");
    std::fs::write(&path, b"[job]\nname = \"\xff\xfe\"\n").unwrap();
    let error = Job::load(&path).unwrap_err().to_string();
    assert!(error.contains("not UTF-8"), "{error}");
}

const WORDS: &[&str] = &[
    "x",
    "n",
    "k",
    "t",
    "1",
    "0",
    "-9223372036854775808",
    "1.5",
    "'a'",
    "''",
    "NULL",
    "TRUE",
    "+",
    "-",
    "*",
    "/",
    "%",
    "(",
    ")",
    "AND",
    "OR",
    "NOT",
    "IS NULL",
    "=",
    "<",
    ">",
    "BETWEEN",
    "IN",
    "(1, 2)",
    "LIKE",
    "CASE WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(",
    "AS BIGINT)",
    "AS TIMESTAMP)",
    "date_part('dow',",
    "abs(",
    "power(",
    "substr(",
    "upper(",
    "regexp_like(",
    ",",
    "coalesce(",
    "||",
    "::int",
    "[1]",
    "SELECT",
    "FROM",
    ";",
    "--",
    "/*",
    "$1",
    "?",
    "INTERVAL '1 day'",
    "DISTINCT",
    "date_trunc('month',",
    "to_timestamp(",
    "round(",
    "nullif(",
    "sqrt(",
    "ln(",
    "x.y",
    "\"x\"",
    "*",
];

fn expression(random: &mut Random) -> String {
    let n = 1 << random.below(14);
    match random.below(10) {
        0 => format!("{}x{}", "(".repeat(n), ")".repeat(n)),
        1 => format!("{} x", "NOT ".repeat(n)),
        2 => format!("{}x", "- ".repeat(n)),
        3 => vec!["x"; n.min(2_048)].join(random.pick(&[" + ", " AND ", " || ", " = "])),
        4 => format!("{}x{}", "abs(".repeat(n), ")".repeat(n)),
        5 => format!("{}1{}", "CASE WHEN x > 0 THEN ".repeat(n), " END".repeat(n)),
        6 => random.pick(CALLS).to_string(),
        7 => {
            let (call, other) = (random.pick(CALLS), random.pick(CALLS));
            match random.below(4) {
                0 => format!("concat({call}, {other})"),
                1 => format!("CASE WHEN n > 0 THEN {call} END IS NULL OR {other} IS NULL"),
                2 => format!("coalesce(CAST({call} AS VARCHAR), CAST({other} AS VARCHAR))"),
                _ => format!("character_length(CAST({call} AS VARCHAR)) + {other}"),
            }
        }
        _ => {
            let words = (0..1 + random.below(9)).map(|_| random.pick(WORDS)).collect::<Vec<_>>();
            words.join(" ")
        }
    }
}

/// Texts that functions refuse: hex of odd length, no date, no number, no regular expression.
const REFUSED_TEXTS: [&str; 8] = ["a", "", "é", "abc", "2024-02-31", "1e999", "(", "2024-01-01"];

fn refused_numbers() -> Vec<Option<f64>> {
    let infinite = f64::INFINITY;
    vec![
        Some(1.5),
        None,
        Some(f64::NAN),
        Some(infinite),
        Some(-infinite),
        Some(1e308),
        Some(-0.0),
        Some(-7.5),
    ]
}

/// Months, positions and counts that there are not, and the ends of the numbers.
fn refused_integers() -> Vec<Option<i64>> {
    vec![Some(i64::MIN), Some(0), None, Some(13), Some(-1), Some(i64::MAX), Some(2), Some(100_000)]
}

/// Calls of functions that refuse some of their arguments.
const CALLS: &[&str] = &[
    "date_part('month', make_date(2024, n, 1))",
    "split_part(k, 'b', n)",
    "character_length(decode(k, 'hex'))",
    "CAST(k AS BIGINT)",
    "CAST(k AS DATE) = DATE '2024-01-01'",
    "CAST(x AS INT)",
    "CAST(n AS SMALLINT)",
    "character_length(repeat(k, n))",
    "character_length(lpad(k, n, 'é'))",
    "character_length(rpad(k, n % 1000, k))",
    "chr(n)",
    "to_hex(n)",
    "factorial(n)",
    "substr(k, n)",
    "substr(k, n, n)",
    "left(k, n)",
    "right(k, n)",
    "regexp_like('abc', k)",
    "regexp_replace(k, '[a-c]', k, 'g')",
    "replace(k, 'a', repeat('b', n % 1000))",
    "translate(k, 'ab', 'é')",
    "overlay(k PLACING 'zz' FROM n)",
    "levenshtein(k, 'abc')",
    "power(n, n)",
    "log(n, x)",
    "round(x, n)",
    "trunc(x, n)",
    "gcd(n, n - 1)",
    "lcm(n, 3)",
    "n / (n - 13)",
    "n % n",
    "n * n",
    "abs(n)",
    "- n",
    "date_part('epoch', t + INTERVAL '1 day')",
    "date_part('month', date_trunc('month', t))",
    "date_part('hour', t AT TIME ZONE 'America/New_York')",
    "to_char(t, k)",
    "date_part('year', to_timestamp(k))",
    "date_part('year', from_unixtime(n))",
    "k || k || n",
    "concat_ws(k, k, n)",
    "ascii(k)",
    "find_in_set(k, 'a,b')",
    "substr_index(k, 'b', n)",
    "nullif(n, 13)",
    "k LIKE k",
    "k ~ k",
    "n << n",
];

fn strange_rows() -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("t", Arc::new(TimestampMillisecondArray::from(vec![0, i64::MAX, -1, 1, 2, 3, 4, 5]))),
        ("x", Arc::new(Float64Array::from(refused_numbers()))),
        ("n", Arc::new(Int64Array::from(refused_integers()))),
        ("k", Arc::new(StringArray::from(REFUSED_TEXTS.to_vec()))),
    ];
    let columns = columns.map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn events(path: &Path) {
    let batch = strange_rows();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Values of an expression do not depend on what other rows hold.
fn rows_alone_are_as_together(sql: &str) -> Result<(), String> {
    let batch = strange_rows();
    let schema = batch.schema();
    let columns = schema.fields().iter().map(|f| (f.name().clone(), f.data_type().clone()));
    let compiled = Expression::compile(sql, &columns.collect::<Vec<_>>(), &Functions::default());
    let Ok(expression) = compiled else { return Ok(()) };
    let evaluate = |rows: &RecordBatch| expression.evaluate(rows.columns(), rows.num_rows());
    let together = evaluate(&batch).map_err(|error| format!("together: {error}"))?;
    if expression.refused().rows > batch.num_rows() as u64 {
        return Err(format!("{} rows refused", expression.refused().rows));
    }
    for row in 0..batch.num_rows() {
        let alone = evaluate(&batch.slice(row, 1)).map_err(|error| format!("alone: {error}"))?;
        if alone.to_data() != together.slice(row, 1).to_data() {
            return Err(format!("row {row}: {alone:?} alone, {together:?} together"));
        }
    }
    Ok(())
}

/// Expressions of jobs are compiled against the columns, or are an error in one line.
#[test]
fn job_expressions() {
    let folder = tempfile::tempdir().unwrap();
    events(&folder.path().join("a.parquet"));
    run("job_expressions", 2_000, |random, given| {
        let sql = expression(random);
        given.0 = sql.clone().into_bytes();
        let quoted = toml::Value::String(sql.clone()).to_string();
        let filter = random.one_in(4);
        let (event, feature) = match filter {
            true => (format!("filter = {quoted}\n"), "column = \"x\"".to_owned()),
            false => (String::new(), format!("sql = {quoted}")),
        };
        let text = format!(
            "[job]\nname = \"e\"\n[event]\ntime = \"t\"\n{event}[sources.a]\npath = \"a.parquet\"\n\
             [features.f]\n{feature}\n"
        );
        let job = match Job::parse(&text, folder.path()) {
            Ok(job) => Arc::new(job),
            Err(error) => return one_line(&error.to_string()),
        };
        match describe(&job).problem {
            None => rows_alone_are_as_together(&sql),
            Some(error) => one_line(&format!("{error:#}")),
        }
    });
}
