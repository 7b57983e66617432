//! Streams of Kafka topics: which partitions there are, where each begins, and who reads it.
//!
//! | file | concept |
//! | --- | --- |
//! | `begin` | where each partition begins: what is committed, an end, an instant, an offset |
//! | `commit_note` | what is committed beside an offset |
//! | `back` | how far before that windows have to be fed from |
//! | `ends` | how far partitions go |
//! | `empty` | whether partitions of which nothing ever came stay empty |
//! | `history` | whether anything ever came of a partition before it begins |
//! | `queue` | the messages of one partition, without an allocation for each |
//! | `reader` | messages to rows |
//! | `joins` | partitions that come while a run reads the topic |
//! | `instant` | which message is the first of an instant |
//! | `look` | messages that are looked at before a run |
//! | `passed` | where there is nothing to read: markers, and what was aborted |
//! | `live` | what all partitions of a run share: whether the end has come |

pub mod back;
pub mod begin;
pub mod commit_note;
pub mod empty;
pub mod ends;
pub mod history;
pub mod instant;
pub mod joins;
pub mod live;
pub mod look;
pub mod passed;
pub mod queue;
pub mod reader;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use driftline_operators::too_early::FutureHorizon;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use self::begin::Place;
use self::live::{Live, Of, Reach};
use self::queue::Queue;
use self::reader::{Client, Decoding, KafkaReader, Tombstones};
use super::columns::{ColumnUses, check_time};
use super::json::decoder::event_schema;
use super::json::learn::declared_alone;
use super::one_partition::{OnePartition, Place as InStream};
use super::stream::{Partition, StreamSpec, TopicSpec};
use super::{SourceError, failed};
use crate::kafka::health::Told;

/// A stream of topics. Its columns are those that the job declares: topics are not looked into.
pub struct KafkaStream {
    pub partitions: Vec<Partition>,
    /// Where each partition begins.
    pub places: Vec<Place>,
    pub form: Form,
}

/// What all partitions of a stream have in common.
#[derive(Clone)]
pub struct Form {
    stream: usize,
    read_as: Vec<Field>,
    schema: SchemaRef,
    uses: ColumnUses,
    tombstones: Option<Tombstones>,
    is_eager: bool,
    idle_timeout: Option<Duration>,
    future: Option<FutureHorizon>,
}

impl KafkaStream {
    /// # Errors
    /// If the column of event time is not declared, or cannot be a time.
    pub fn open(spec: &StreamSpec, topics: &TopicSpec, stream: usize) -> Result<Self, SourceError> {
        let name = topics.names.join(", ");
        let read_as: Vec<Field> = declared_alone(&spec.columns);
        let time = read_as.iter().find(|field| *field.name() == spec.time).ok_or_else(|| {
            let columns = &spec.columns_key;
            let (time, key) = (&spec.time, &spec.time_key);
            failed(&name, format!("column {time:?} ({key}) is not declared; declare the columns of messages in {columns}, such as {time} = \"int64\" for ms since 1970"))
        })?;
        let cannot =
            |why: &str| failed(&name, format!("column {:?} ({}){why}", spec.time, spec.time_key));
        check_time(time.data_type(), spec.time_unit).map_err(|_| match time.data_type() {
            DataType::Float64 | DataType::Boolean => {
                cannot(": a time is int64 (ms since 1970) or utf8 (RFC 3339)")
            }
            _ => cannot(" cannot be a time"),
        })?;
        let uses = spec.uses();
        let schema = event_schema(&read_as, &uses).map_err(|error| failed(&name, error))?;
        let places = match topics.places.as_slice() {
            [] => topics.names.iter().map(|topic| Place::unknown(topic)).collect(),
            places => places.to_vec(),
        };
        let partitions = places.iter().map(|place: &Place| Partition {
            stream,
            name: place.name(),
            floor: i64::MIN,
        });
        let tombstones = topics.table_key.as_ref();
        let form = Form {
            stream,
            schema,
            read_as,
            uses,
            tombstones: tombstones
                .map(|key| Tombstones { key: key.clone(), time: spec.time.clone() }),
            is_eager: topics.is_eager,
            idle_timeout: spec.idle_timeout_ms.map(Duration::from_millis),
            future: spec
                .future
                .as_ref()
                .map(|future| FutureHorizon { horizon_ms: future.horizon_ms, sent_column: None }),
        };
        Ok(KafkaStream { partitions: partitions.collect(), places, form })
    }
}

impl Form {
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What the event time is read as.
    pub fn stored_time(&self) -> Option<&DataType> {
        let is_time = |field: &&Field| Some(field.name()) == self.uses.time.as_ref();
        self.read_as.iter().find(is_time).map(Field::data_type)
    }

    pub fn is_eager(&self) -> bool {
        self.is_eager
    }

    /// Reads only `columns`, by position in the schema.
    pub fn project(&mut self, columns: &[usize]) {
        self.read_as = columns.iter().map(|&column| self.read_as[column].clone()).collect();
        self.schema = Arc::new(self.schema.project(columns).expect("positions in the schema"));
    }

    /// What reads a partition of the stream, whose number in the run is `number`.
    ///
    /// # Errors
    /// If there can be no queue of it.
    pub fn feed(
        &self,
        place: &Place,
        number: u32,
        client: &Rc<Client>,
        live: &Arc<Live>,
        rows_max: usize,
    ) -> Result<OnePartition<KafkaReader>, SourceError> {
        let name = place.name();
        let queue = Queue::split(&client.consumer, &place.topic, place.partition)
            .ok_or_else(|| failed(&name, "there can be no queue of it"))?;
        let decoding = Decoding {
            read_as: Arc::new(Schema::new(self.read_as.clone())),
            schema: self.schema.clone(),
            uses: self.uses.clone(),
            rows_max,
            tombstones: self.tombstones.clone(),
        };
        let time = self.uses.time.as_deref().unwrap_or_default();
        let in_stream = InStream {
            time_column: self.schema.index_of(time).map_err(|error| failed(&name, error))?,
            future: self.future,
            name: name.clone(),
            stream: self.stream,
            partition: number,
        };
        let of = match (&self.tombstones, self.is_eager) {
            (None, _) => Of::Events,
            (Some(_), false) => Of::Table,
            (Some(_), true) => Of::EagerTable,
        };
        let reach = match of {
            Of::Events => Reach::new(live.clone(), of, place).from(number, place.read_from),
            _ => Reach::new(live.clone(), of, place),
        };
        let reader = KafkaReader::new(name, client.clone(), queue, decoding, reach)?;
        let partition = OnePartition::new(in_stream, reader, self.idle_timeout, Instant::now());
        Ok(partition.with_history(place.has_history))
    }
}

/// Has `client` read partitions, each from where it begins.
///
/// # Errors
/// If the client refuses.
pub fn assign<'a>(
    client: &BaseConsumer<Told>,
    places: impl Iterator<Item = &'a Place>,
) -> Result<(), SourceError> {
    let mut list = TopicPartitionList::new();
    for place in places {
        let offset = Offset::Offset(place.read_from as i64);
        let added = list.add_partition_offset(&place.topic, place.partition, offset);
        added.map_err(|error| failed(place.name(), error))?;
    }
    client.assign(&list).map_err(|error| failed("kafka", error))
}
