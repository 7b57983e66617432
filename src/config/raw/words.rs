//! Values of which only some are allowed.

use std::borrow::Cow;
use std::fmt::{self, Formatter};

use arrow::datatypes::TimeUnit;
use driftline_operators::admit::LatePolicy;
use driftline_operators::features::declaration::Literal;
use driftline_operators::features::validity::{OnFail, ValueType};
use driftline_operators::features::window::Aggregate;
use driftline_operators::gate::Order;
use driftline_operators::model::Task;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Words as job files have them, and what each stands for.
macro_rules! words {
    ($(#[$about:meta])* $name:ident for $meaning:ty {
        $($(#[$about_word:meta])* $word:ident => $means:expr,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum $name {
            $($(#[$about_word])* $word,)+
        }

        impl $name {
            /// The word in job files.
            pub fn as_typed(self) -> String {
                serde_json::to_value(self)
                    .ok()
                    .and_then(|word| word.as_str().map(str::to_owned))
                    .unwrap_or_default()
            }
        }

        impl From<$name> for $meaning {
            fn from(word: $name) -> Self {
                match word {
                    $($name::$word => $means,)+
                }
            }
        }
    };
}

words! {
    /// What integers of a time count since 1970.
    TimeUnitWord for TimeUnit {
        /// Seconds.
        S => TimeUnit::Second,
        /// Milliseconds.
        Ms => TimeUnit::Millisecond,
        /// Microseconds.
        Us => TimeUnit::Microsecond,
        /// Nanoseconds.
        Ns => TimeUnit::Nanosecond,
    }
}

/// How predictions of an ensemble's members become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyWord {
    /// Σ weight · prediction / Σ weight, number by number; the confidence likewise, 0 of a failed member.
    WeightedAverage,
    /// The prediction of the member that is surest; of regressions the largest. The first of equals.
    Max,
    /// Each member votes with its weight for its most probable class; the prediction is how votes are shared.
    Majority,
    /// What the model `by` says of members' scores.
    Stacking,
}

words! {
    /// An order of rows.
    #[derive(Default)]
    OrderWord for Order {
        /// By event time and id, across all files; rows wait for the watermark. The same result for
        /// the same data, however it arrives.
        #[default]
        EventTime => Order::EventTime,
        /// By event time and id within a chunk of the input. The same result for the same chunks.
        Epoch => Order::Epoch,
        /// As they come; nothing waits. Not reproducible.
        Arrival => Order::Arrival,
    }
}

words! {
    /// What becomes of late rows.
    #[derive(Default)]
    LateWord for LatePolicy {
        /// Scored and marked degraded; in no window of other rows.
        #[default]
        Score => LatePolicy::Score,
        /// Written to the dead letters.
        DeadLetter => LatePolicy::DeadLetter,
        /// Left out and counted.
        Skip => LatePolicy::Skip,
    }
}

words! {
    /// The figure of a window.
    AggregateWord for Aggregate {
        /// Of values that are not null, or of rows without `value`.
        Count => Aggregate::Count,
        /// The correctly rounded sum.
        Sum => Aggregate::Sum,
        /// The correctly rounded sum divided by the count.
        Mean => Aggregate::Mean,
        /// The least value.
        Min => Aggregate::Min,
        /// The greatest value.
        Max => Aggregate::Max,
        /// The sample standard deviation (ddof = 1).
        Std => Aggregate::Std,
        /// ms since the key's previous row, null beyond `within`.
        TimeSinceLast => Aggregate::TimeSinceLast,
    }
}

words! {
    /// What values are.
    ValueTypeWord for ValueType {
        /// Whole numbers.
        Integer => ValueType::Integer,
        /// Numbers.
        Number => ValueType::Number,
        /// Texts.
        Text => ValueType::Text,
    }
}

words! {
    /// What becomes of a row whose value fails a rule.
    #[derive(Default)]
    FailWord for OnFail {
        /// It is a dead letter.
        #[default]
        DeadLetter => OnFail::DeadLetter,
        /// The feature's `default` takes the place of the value.
        Default => OnFail::Default,
        /// The bound that is nearest takes the place of the value: of `min` and `max` alone.
        Clip => OnFail::Clip,
        /// It is scored, marked degraded, and its metadata names the rule.
        Flag => OnFail::Flag,
    }
}

words! {
    /// What becomes of a row that fails a rule.
    #[derive(Default)]
    CheckFailWord for OnFail {
        /// It is a dead letter.
        #[default]
        DeadLetter => OnFail::DeadLetter,
        /// It is scored, marked degraded, and its metadata names the rule.
        Flag => OnFail::Flag,
    }
}

words! {
    /// What a prediction is.
    #[derive(clap::ValueEnum)]
    TaskWord for Task {
        /// Probabilities of two classes; the score is that of the second.
        Binary => Task::Binary,
        /// Probabilities of more classes; the score is the largest.
        Multiclass => Task::Multiclass,
        /// A number.
        Regression => Task::Regression,
    }
}

words! {
    /// A column that every prediction has.
    PredictionColumn for &'static str {
        EventId => "event_id",
        Key => "key",
        EventTime => "event_time",
        ModelName => "model_name",
        ModelVersion => "model_version",
        Status => "status",
        Prediction => "prediction",
        Score => "score",
        Confidence => "confidence",
        Error => "error",
        Metadata => "metadata",
        /// Of jobs with several models.
        Route => "route",
        /// Of jobs with several models.
        Variant => "variant",
    }
}

/// What runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineWord {
    /// Ensembles of trees are compiled if they then score as ONNX Runtime does, to the bit.
    #[default]
    Auto,
    /// ONNX Runtime.
    Onnxruntime,
}

/// How files are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FileFormat {
    /// Parquet.
    #[default]
    Parquet,
    /// JSON lines: an object a line.
    Json,
    /// CSV as in RFC 4180, with a header.
    Csv,
}

/// How files of text are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Whole numbers.
    Int64,
    /// Numbers.
    Float64,
    /// Text.
    Utf8,
    /// true or false.
    Boolean,
}

/// What is kept of a window of drift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModeWord {
    /// All values; figures are SciPy's.
    #[default]
    Exact,
    /// Counts in bins of the reference, however many rows come, with a bound of the error.
    Profile,
}

/// What turns a threshold off.
const OFF: &str = "off";

/// A number that is not negative, or `off`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold(pub Option<f64>);

impl<'de> Deserialize<'de> for Threshold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrOff;
        impl Visitor<'_> for NumberOrOff {
            type Value = Threshold;

            fn expecting(&self, f: &mut Formatter) -> fmt::Result {
                write!(f, "a number of at least 0, or {OFF:?}")
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Threshold, E> {
                if number >= 0.0 {
                    Ok(Threshold(Some(number)))
                } else {
                    Err(E::invalid_value(Unexpected::Float(number), &self))
                }
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Threshold, E> {
                self.visit_f64(number as f64)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Threshold, E> {
                if text == OFF {
                    Ok(Threshold(None))
                } else {
                    Err(E::invalid_value(Unexpected::Str(text), &self))
                }
            }
        }
        deserializer.deserialize_any(NumberOrOff)
    }
}

impl Serialize for Threshold {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(number) => serializer.serialize_f64(number),
            None => serializer.serialize_str(OFF),
        }
    }
}

impl JsonSchema for Threshold {
    fn schema_name() -> Cow<'static, str> {
        "Threshold".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of at least 0, or \"off\".",
            "anyOf": [{"type": "number", "minimum": 0}, {"const": OFF}]
        })
    }
}

/// A number that a float holds exactly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNumber;
        impl Visitor<'_> for AnyNumber {
            type Value = Number;

            fn expecting(&self, f: &mut Formatter) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                match number as f64 as i128 == i128::from(number) {
                    true => Ok(Number(number as f64)),
                    false => Err(E::custom(format!(
                        "{number} is no float64: near it are {} and others, not all whole numbers",
                        number as f64 as i128
                    ))),
                }
            }
        }
        deserializer.deserialize_any(AnyNumber)
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "A number.", "type": "number"})
    }
}

/// What null becomes: a number or a text.
#[derive(Clone, Debug, PartialEq)]
pub struct NullDefault(pub Literal);

impl<'de> Deserialize<'de> for NullDefault {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = NullDefault;

            fn expecting(&self, f: &mut Formatter) -> fmt::Result {
                f.write_str("a number or a text")
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<NullDefault, E> {
                Ok(NullDefault(Literal::Number(number)))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<NullDefault, E> {
                self.visit_f64(number as f64)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<NullDefault, E> {
                Ok(NullDefault(Literal::Text(text.to_owned())))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

impl JsonSchema for NullDefault {
    fn schema_name() -> Cow<'static, str> {
        "NullDefault".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "A number or a text.", "type": ["number", "string"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_number_or_off() {
        #[derive(Deserialize)]
        struct Holder {
            value: Threshold,
        }
        let read = |text: &str| {
            toml::from_str::<Holder>(&format!("value = {text}")).map(|holder| holder.value.0)
        };
        assert_eq!(read("3"), Ok(Some(3.0)));
        assert_eq!(read("0.05"), Ok(Some(0.05)));
        assert_eq!(read("\"off\""), Ok(None));
        for wrong in ["\"none\"", "-1", "nan", "false"] {
            assert!(read(wrong).unwrap_err().message().contains("\"off\""), "{wrong}");
        }
    }
}
