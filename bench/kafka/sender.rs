//! Sends events at a fixed rate.

use std::time::{Duration, Instant};

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use crate::broker::Broker;
use crate::events::Messages;
use crate::run::{EVENTS, PATIENCE};

/// Events a second above which the sender waits for others to join.
const LINGER_ABOVE: u64 = 5_000;

/// Events that are due one after the other. Event time goes on from year to year, so that none is late;
/// ids repeat with every year.
pub struct Paced {
    years: Vec<Messages>,
    count: u64,
    rate: u64,
}

impl Paced {
    /// So many, and so many a second.
    pub fn new(count: u64, rate: u64) -> Result<Self> {
        let in_year = Messages::of_year(0, true)?.len() as u64;
        let years = (0..count.div_ceil(in_year)).map(|year| Messages::of_year(year as i64, true));
        Ok(Paced { years: years.collect::<Result<_>>()?, count, rate })
    }

    /// Events of a year.
    pub fn in_year(&self) -> u64 {
        self.years.first().map_or(1, Messages::len) as u64
    }

    /// When an event is due.
    pub fn due(&self, begins: Instant, event: u64) -> Instant {
        begins + Duration::from_secs_f64(event as f64 / self.rate as f64)
    }

    /// Sends them, each when it is due; `each` is called before.
    pub fn send(&self, broker: &Broker, begins: Instant, mut each: impl FnMut(u64)) -> Result<()> {
        let mut config = ClientConfig::new();
        // A sender of many events a second sends them together, if they come within a millisecond.
        let linger_ms = if self.rate > LINGER_ABOVE { "1" } else { "0" };
        config.set("bootstrap.servers", &broker.servers).set("linger.ms", linger_ms);
        config.set("queue.buffering.max.messages", "10000000").set("compression.type", "lz4");
        // As the program does.
        config.set("max.in.flight", "1");
        let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
        for event in 0..self.count {
            let wait = self.due(begins, event).saturating_duration_since(Instant::now());
            if wait > Duration::from_micros(50) {
                std::thread::sleep(wait);
            }
            each(event);
            let (year, at) =
                (&self.years[(event / self.in_year()) as usize], event % self.in_year());
            let mut record = BaseRecord::to(EVENTS).payload(year.value(at as usize));
            record.key = year.key(at as usize);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(PATIENCE)?;
        Ok(())
    }
}
