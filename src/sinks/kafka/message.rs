//! A message that its topic has refused, and what may be sent in its place.

use rdkafka::Message as _;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::{BorrowedMessage, Headers, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::producer::{Outgoing, Ticket};
use super::with_header;

/// A message of its own.
#[derive(Clone, Debug)]
pub struct Message {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: OwnedHeaders,
    /// In ms since 1970; now, if nothing is said.
    pub time_ms: Option<i64>,
    /// It has taken the place of what is no dead letter.
    pub is_letter: bool,
}

/// A message that was refused, be it for itself or for another of its batch.
pub struct Refused {
    pub message: Message,
    pub ticket: Ticket,
    pub code: Code,
}

/// What is sent in place of a message that its topic refuses by itself.
pub enum Next {
    /// This. `says` what was changed.
    Message { message: Message, says: &'static str },
    /// Nothing, and this is said.
    Nothing(String),
    /// The run cannot go on.
    Never,
}

/// Whether a broker answers so because of what is in a record.
pub fn is_of_a_record(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidTimestamp
            | Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidDifferentRecord
    )
}

/// Whether it is too large for what a topic or a client takes.
pub fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::MessageBatchTooLarge)
}

impl Message {
    /// One that a broker has answered for, with the time that it was sent with.
    pub fn delivered(message: &BorrowedMessage, time_ms: Option<i64>) -> Self {
        Message {
            topic: message.topic().to_owned(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map_or_else(OwnedHeaders::new, |headers| headers.detach()),
            time_ms,
            is_letter: false,
        }
    }

    /// One that the producer has not taken.
    pub fn given_back(record: &BaseRecord<[u8], [u8], Box<Ticket>>) -> Self {
        Message {
            topic: record.topic.to_owned(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.payload.map(<[u8]>::to_vec),
            headers: record.headers.clone().unwrap_or_default(),
            time_ms: record.timestamp,
            is_letter: false,
        }
    }

    /// The last header called `name`, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        let headers = self.headers.iter().filter(|header| header.key == name);
        Some(String::from_utf8_lossy(headers.last()?.value?).into_owned())
    }

    /// The same with those headers that `keeps` their places and names, and `more` behind them.
    #[must_use]
    pub fn with_headers(self, keeps: impl Fn(usize, &str) -> bool, more: &[(&str, &str)]) -> Self {
        let mut headers = OwnedHeaders::new_with_capacity(self.headers.count() + more.len());
        for (at, header) in self.headers.iter().enumerate() {
            if keeps(at, header.key) {
                headers = headers.insert(header);
            }
        }
        for (name, value) in more {
            headers = with_header(headers, name, value.as_bytes());
        }
        Message { headers, ..self }
    }

    /// The place of the last header called `name`.
    pub fn place_of_header(&self, name: &str) -> Option<usize> {
        self.headers
            .iter()
            .enumerate()
            .filter(|(_, header)| header.key == name)
            .last()
            .map(|(at, _)| at)
    }
}

impl From<Outgoing<'_>> for Message {
    fn from(message: Outgoing) -> Self {
        Message {
            topic: message.topic.to_owned(),
            key: message.key.map(<[u8]>::to_vec),
            value: message.value.map(<[u8]>::to_vec),
            headers: message.headers.unwrap_or_default(),
            time_ms: message.time_ms,
            is_letter: false,
        }
    }
}
