//! A worked example for each command. They are run by the tests, line by line, in a copy of the
//! project's folders; lines below a command are lines of what it prints, or parts of such lines.

pub const PROGRAM: &str = "\
Example, in the project's folder:
  $ driftline check jobs/minimal.toml
  the job is sound
  $ driftline replay jobs/minimal.toml --limit 1000 --out out/first
  account       1,000 = 1,000 predictions + 0 skipped + 0 dead letters + 0 pending

The README explains job files, commands and results.";

pub const CHECK: &str = "\
Example:
  $ driftline check jobs/flights.toml
  input \"X\" (float [rows, 16])
  the job is sound";

pub const PLAN: &str = "\
Example:
  $ driftline plan jobs/flights.toml --format mermaid > out/flights.mmd
  $ driftline plan jobs/flights.toml
  windows by carrier  (owner of each key or column)";

pub const MODELS: &str = "\
Example:
  $ driftline models jobs/flights.toml
  model arrival-delay version 1";

pub const REPLAY: &str = "\
Example:
  $ driftline replay jobs/flights.toml --from 2013-06-01 --to 2013-06-02 --out out/day
  predictions   out/day/predictions
  $ driftline replay jobs/flights.toml --limit 2 --out - > out/two.jsonl";

pub const RUN: &str = "\
Example; `driftline run jobs/flights-live.toml` needs a broker, which scripts/demo-live.sh brings:
  $ driftline check jobs/flights-live.toml
  source departures: topic analytics-events (JSON messages, rows not known beforehand)
  the job is sound";

pub const EXPORT: &str = "\
Example, the features of January:
  $ driftline export jobs/flights.toml --to 2013-02-01 --out out/january
  26,308 feature rows + 0 skipped + 0 dead letters + 0 pending
  $ driftline export jobs/flights.toml --limit 1000 --format csv --out - | head -n 3 > out/rows.csv";

pub const BACKTEST: &str = "\
Example, two models of the flights beside each other:
  $ driftline backtest jobs/flights.toml --limit 9000 --models data/flights/models/trees.onnx,data/flights/models/logistic.onnx
  candidate  version   rows  failed";

pub const BASELINE: &str = "\
Example, the three months that the model was trained on:
  $ driftline baseline jobs/flights.toml --to 2013-04-01
  next: `driftline replay` measures drift against it";

pub const PARITY: &str = "\
Example, a model of exports that agrees, and one whose exporter got it wrong:
  $ driftline parity data/exports/lightgbm_binary.onnx
  rows beyond         0
  $ driftline parity data/exports/catboost_binary_biased.onnx || echo refused
  warning: reversed-scores: its trees have weights of both classes
  refused";

pub const SCHEMA: &str = "\
Example:
  $ driftline schema > jobs/driftline.schema.json";

pub const COMPLETIONS: &str = "\
Example:
  $ driftline completions bash > out/driftline.bash
  $ source out/driftline.bash

To have them in each session: for bash put that file into ~/.local/share/bash-completion/completions
under the name driftline; for zsh write _driftline into a folder of $fpath; for fish driftline.fish
into ~/.config/fish/completions.";
