//! The queue of one partition, read many messages at a time and without an allocation for each, which
//! the safe interface does not offer.

use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;

use driftline_operators::wake::Wake;
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::events::EventQueue;
use crate::kafka::health::Told;

/// Messages that are taken at once.
const TAKEN_AT_ONCE: usize = 1_024;

/// Messages of one partition that a client has fetched.
pub struct Queue {
    messages: EventQueue,
    /// Messages of ours that have not been looked at.
    taken: VecDeque<*mut sys::rd_kafka_message_t>,
    /// Where messages are put by the client.
    room: Vec<*mut sys::rd_kafka_message_t>,
    /// The queue must not outlive its client, and is dropped before it.
    _client: Arc<BaseConsumer<Told>>,
}

/// What comes out of a queue.
pub enum Item<'a> {
    Message(Message<'a>),
    /// There is nothing more at the moment; the offset of what comes next.
    End(u64),
    Error(RDKafkaErrorCode),
}

/// A message, as long as it is looked at.
pub struct Message<'a>(&'a sys::rd_kafka_message_t);

impl Queue {
    /// The queue of a partition that `client` will be assigned: its messages come here and nowhere
    /// else.
    pub fn split(client: &Arc<BaseConsumer<Told>>, topic: &str, partition: i32) -> Option<Self> {
        let messages = EventQueue::of_partition(client.client(), topic, partition)?;
        let (taken, room) = (VecDeque::new(), Vec::with_capacity(TAKEN_AT_ONCE));
        Some(Queue { messages, taken, room, _client: client.clone() })
    }

    /// `wake` is called when there is something in the queue, from any thread.
    pub fn wake_with(&mut self, wake: Wake) {
        self.messages.wake_with(wake);
    }

    /// Takes what is there, at most `most` messages, and hands each to `look` until it has seen enough,
    /// which it says by `false`; a call may take fewer.
    pub fn take(&mut self, most: usize, mut look: impl FnMut(Item) -> bool) {
        if self.taken.is_empty() {
            self.fetch(most);
        }
        for _ in 0..most {
            let Some(message) = self.taken.pop_front() else { return };
            // SAFETY: each is a message of ours, destroyed once, after it was looked at.
            let goes_on = unsafe {
                let goes_on = look(item(&*message));
                sys::rd_kafka_message_destroy(message);
                goes_on
            };
            if !goes_on {
                return;
            }
        }
    }

    fn fetch(&mut self, most: usize) {
        // SAFETY: there is room for as many pointers; so many as it says are written.
        let count = unsafe {
            let (queue, room) = (self.messages.as_ptr(), self.room.as_mut_ptr());
            sys::rd_kafka_consume_batch_queue(queue, 0, room, most.min(TAKEN_AT_ONCE))
        };
        let count = usize::try_from(count).unwrap_or(0);
        // SAFETY: see above.
        unsafe { self.room.set_len(count) };
        self.taken.extend(self.room.drain(..));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        for message in self.taken.drain(..) {
            // SAFETY: each is a message of ours that nobody has destroyed.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
    }
}

fn item(message: &sys::rd_kafka_message_t) -> Item<'_> {
    match RDKafkaErrorCode::from(message.err) {
        RDKafkaErrorCode::NoError => Item::Message(Message(message)),
        RDKafkaErrorCode::PartitionEOF => Item::End(message.offset.max(0) as u64),
        code => Item::Error(code),
    }
}

impl<'a> Message<'a> {
    pub fn offset(&self) -> u64 {
        self.0.offset.max(0) as u64
    }

    /// `None` for a message without a value.
    pub fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: the message owns so many bytes there.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    pub fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: as above.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    /// In ms since 1970; 0 if the message has no time.
    pub fn time_ms(&self) -> i64 {
        self.sent_ms().unwrap_or(0)
    }

    /// In ms since 1970, if the message has a time.
    pub fn sent_ms(&self) -> Option<i64> {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive.
        let time = unsafe { sys::rd_kafka_message_timestamp(self.0, &mut kind) };
        (time >= 0).then_some(time)
    }

    /// Names and values.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is alive, and its headers live as long as it does.
        let found = unsafe { sys::rd_kafka_message_headers(self.0, &mut headers) };
        let are_there = RDKafkaErrorCode::from(found) == RDKafkaErrorCode::NoError;
        let mut next = 0;
        std::iter::from_fn(move || {
            let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) =
                (ptr::null(), ptr::null(), 0);
            if !are_there {
                return None;
            }
            // SAFETY: as above; the name ends with a zero.
            unsafe {
                let found =
                    sys::rd_kafka_header_get_all(headers, next, &mut name, &mut value, &mut size);
                if RDKafkaErrorCode::from(found) != RDKafkaErrorCode::NoError {
                    return None;
                }
                next += 1;
                Some((std::ffi::CStr::from_ptr(name).to_bytes(), bytes(value, size)))
            }
        })
    }
}

/// # Safety
/// There are `size` bytes at `start`, unless it is null, for as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller sees to it.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast(), size) })
}
