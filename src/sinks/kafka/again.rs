//! Sends again what topics have refused, on a thread and with a producer of its own.
//!
//! A broker that does not take a record refuses all of its batch, and the client cannot always tell
//! which it was. So what was refused is sent again in ever smaller parts; nothing else is under way
//! here, so a message that is the only one of its part to be refused is to blame itself: it is
//! changed as its [`Messages::instead`](super::Messages::instead) says. Times are looked for faster: a
//! broker that refuses one refuses all that are further from its clock, so the limit is found as by
//! halving, with one message at a time.
//!
//! What is sent again comes behind what was sent meanwhile.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, ProducerContext};
use rdkafka::{ClientContext, Message as _};

use super::dead_letters::instead_of_letter;
use super::message::{Message, Next, Refused, is_of_a_record};
use super::producer::{not_taken, settings};
use crate::kafka::Cluster;
use crate::kafka::health::Told;

/// How long to wait for others that were refused with one.
const GATHER_INTERVAL: Duration = Duration::from_millis(5);
/// So many are settled together at most.
const TOGETHER_MAX: usize = 10_000;
/// How long to hear of deliveries before looking whether these are all: the client hears for all of it.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Where to send what was refused. Dropped, it ends the thread.
pub struct Again {
    errands: Sender<Refused>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    resent: Resent,
    is_over: AtomicBool,
}

/// What became of messages that topics had refused.
#[derive(Default)]
pub struct Resent {
    waiting: AtomicU64,
    /// By topic and by what was changed.
    changed: Mutex<BTreeMap<(String, &'static str), u64>>,
}

impl Resent {
    /// Messages that were refused, and of which nothing has become yet.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Relaxed)
    }

    /// Messages by topic and by what was changed of them.
    pub fn changed(&self) -> Vec<(String, &'static str, u64)> {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.iter().map(|((topic, what), count)| (topic.clone(), *what, *count)).collect()
    }

    /// Counts one, and says so of the first of a kind.
    fn count(&self, topic: &str, what: &'static str, why: &str) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let count = changed.entry((topic.to_owned(), what)).or_default();
        *count += 1;
        if *count == 1 {
            let done = match what {
                "time" => {
                    "sent with the time of now, with its own in the header __streams.errors.timestamp"
                }
                "value" => "sent without its value",
                "key" => "sent with where it came from as its key",
                "all" => "sent without its key, value and headers",
                _ => "a dead letter",
            };
            say!(
                "warning: {topic}: a message was refused ({why}): it is {done}, and so are others; \
                 driftline_refused_messages_total counts them"
            );
        }
    }
}

impl Again {
    pub fn start(cluster: &Cluster) -> Self {
        let (errands, refused) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        let (cluster, working) = (cluster.clone(), shared.clone());
        std::thread::spawn(move || {
            let Ok(first) = refused.recv() else { return };
            let told = Told(cluster.health.clone());
            match Resending::new(&cluster, working) {
                Ok(mut resending) => resending.work(first, &refused),
                Err(error) => told.0.refused(format!("kafka: {error}")),
            }
        });
        Again { errands, shared }
    }

    pub fn send(&self, refused: Refused) {
        self.shared.resent.waiting.fetch_add(1, Relaxed);
        // The thread lives as long as this.
        let _ = self.errands.send(refused);
    }

    pub fn resent(&self) -> &Resent {
        &self.shared.resent
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
    }
}

/// What hears of deliveries: by the place in what was sent together, what became of it.
struct Answers {
    told: Told,
    by_place: Mutex<Vec<(usize, Option<Code>)>>,
}

impl ClientContext for Answers {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.told.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.told.error(error, reason);
    }
}

impl ProducerContext for Answers {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, place: usize) {
        let code = match result {
            Ok(_) => None,
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                if !is_of_a_record(code) && !matches!(code, Code::PurgeQueue | Code::PurgeInflight)
                {
                    self.told.0.refused(not_taken(message.topic(), Some(code), error));
                }
                Some(code)
            }
        };
        self.by_place.lock().unwrap_or_else(PoisonError::into_inner).push((place, code));
    }
}

/// The thread, and what it has found out.
struct Resending {
    producer: BaseProducer<Answers>,
    shared: Arc<Shared>,
    /// Topics that take no message without a key.
    keyed: HashSet<String>,
}

/// The times that a topic refuses: those up to the one, and those from the other on.
#[derive(Clone, Copy)]
struct Limits {
    up_to: i64,
    from: i64,
}

impl Limits {
    fn refuse(self, message: &Message) -> bool {
        message.time_ms.is_some_and(|time| time <= self.up_to || time >= self.from)
    }
}

impl Resending {
    fn new(cluster: &Cluster, shared: Arc<Shared>) -> Result<Self, KafkaError> {
        let told = Told(cluster.health.clone());
        let answers = Answers { told, by_place: Mutex::default() };
        // Not idempotent: each refusal would have it ask for a new epoch, which takes longer than all else.
        let mut settings = settings(cluster);
        settings.set("enable.idempotence", "false").set("acks", "all");
        let producer = BaseProducer::from_config_and_context(&settings, answers)?;
        Ok(Resending { producer, shared, keyed: HashSet::new() })
    }

    fn is_over(&self) -> bool {
        self.shared.is_over.load(Relaxed) || self.producer_told().0.refusal().is_some()
    }

    fn producer_told(&self) -> &Told {
        use rdkafka::producer::Producer;
        &self.producer.context().told
    }

    fn work(&mut self, first: Refused, others: &Receiver<Refused>) {
        let mut next = Some(first);
        loop {
            let first = match next.take() {
                Some(first) => first,
                None => match others.recv() {
                    Ok(first) => first,
                    Err(_) => return,
                },
            };
            let mut all = vec![first];
            while all.len() < TOGETHER_MAX
                && let Ok(more) = others.recv_timeout(GATHER_INTERVAL)
            {
                all.push(more);
            }
            self.settle(all);
            if self.is_over() {
                return;
            }
        }
    }

    /// Sends until nothing is left.
    fn settle(&mut self, refused: Vec<Refused>) {
        // Of parts the last is the next.
        let mut parts = Vec::new();
        self.push(&mut parts, refused);
        while let Some(part) = parts.pop() {
            if self.is_over() {
                return;
            }
            let part = part.into_iter().filter_map(|refused| self.with_key(refused)).collect();
            let mut left = self.send(part);
            match left.len() {
                0 => {}
                1 => parts.extend(left.pop().and_then(|one| self.change(one)).map(|one| vec![one])),
                _ => self.push(&mut parts, left),
            }
        }
    }

    /// Makes the next parts of what was refused together: all of it without the times that are refused,
    /// or halves, the first of which is the next.
    fn push(&mut self, parts: &mut Vec<Vec<Refused>>, refused: Vec<Refused>) {
        let mut topics: HashMap<String, Vec<Refused>> = HashMap::new();
        let mut part = Vec::new();
        for one in refused {
            match one.code == Code::InvalidTimestamp && one.message.time_ms.is_some() {
                true => topics.entry(one.message.topic.clone()).or_default().push(one),
                false => part.push(one),
            }
        }
        let is_timed = !topics.is_empty();
        for (_, mut timed) in topics {
            let limits = self.limits(&mut timed);
            part.extend(timed.into_iter().filter_map(|one| {
                if limits.refuse(&one.message) { self.change(one) } else { Some(one) }
            }));
        }
        let rest = if is_timed { Vec::new() } else { part.split_off(part.len().div_ceil(2)) };
        parts.extend([rest, part].into_iter().filter(|part| !part.is_empty()));
    }

    /// Which times of messages their topic refuses; those with which it was tried and that it took are
    /// sent.
    fn limits(&mut self, timed: &mut Vec<Refused>) -> Limits {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = now.as_millis() as i64;
        let mut limits = Limits { up_to: i64::MIN, from: i64::MAX };
        for is_old in [true, false] {
            // The nearest to now first.
            let times = timed.iter().filter_map(|one| one.message.time_ms);
            let mut times: Vec<i64> = times.filter(|&time| (time <= now) == is_old).collect();
            times.sort_unstable_by_key(|time| time.abs_diff(now));
            times.dedup();
            // Of all before the first none is refused, of all from the second on each is.
            let (mut taken, mut denied) = (0, times.len());
            let mut at = 0;
            while taken < denied && !self.is_over() {
                match self.is_refused(timed, times[at]) {
                    true => denied = at,
                    false => taken = at + 1,
                }
                // The nearest, then the furthest, then those between.
                let is_first = at == 0 && taken == 1;
                at = if is_first { times.len() - 1 } else { usize::midpoint(taken, denied) };
            }
            match times.get(denied) {
                Some(&time) if is_old => limits.up_to = time,
                Some(&time) => limits.from = time,
                None => {}
            }
        }
        limits
    }

    /// Whether the first of the messages with a time is refused for it. If not it is sent, without what
    /// else is refused of it.
    fn is_refused(&mut self, timed: &mut Vec<Refused>, time: i64) -> bool {
        let Some(at) = timed.iter().position(|one| one.message.time_ms == Some(time)) else {
            return false;
        };
        let mut next = Some(timed.remove(at));
        while let Some(one) = next {
            let Some(left) = self.send(vec![one]).pop() else { return false };
            if left.code == Code::InvalidTimestamp {
                timed.insert(at, left);
                return true;
            }
            next = self.change(left);
        }
        false
    }

    /// With a key, if its topic is known to take none without.
    fn with_key(&mut self, mut refused: Refused) -> Option<Refused> {
        let message = &refused.message;
        if message.key.is_some() || !self.keyed.contains(&message.topic) {
            return Some(refused);
        }
        refused.code = Code::InvalidRecord;
        self.change(refused)
    }

    /// What is sent in place of a message that is refused for itself, if anything is.
    fn change(&mut self, refused: Refused) -> Option<Refused> {
        let (topic, code) = (refused.message.topic.clone(), refused.code);
        let next = match refused.ticket.batch.messages() {
            _ if refused.message.is_letter => Ok(instead_of_letter(&refused.message, code)),
            Some(messages) => messages.instead(&refused),
            None => Ok(Next::Never),
        };
        let health = &self.producer_told().0;
        match next {
            Ok(Next::Message { message, says }) => {
                self.shared.resent.count(&topic, says, &code.to_string());
                if says == "key" {
                    self.keyed.insert(topic);
                }
                return Some(Refused { message, ..refused });
            }
            Ok(Next::Nothing(said)) => {
                self.shared.resent.count(&topic, "nothing", &code.to_string());
                say!("warning: {said}");
                self.over(&refused);
            }
            // Its batch is never acknowledged: what it holds is not settled, and the run ends.
            Ok(Next::Never) => {
                let error = KafkaError::MessageProduction(code);
                health.refused(not_taken(&topic, Some(code), &error));
            }
            Err(error) => health.refused(error.to_string()),
        }
        None
    }

    /// Nothing more is to be done of a message.
    fn over(&self, refused: &Refused) {
        self.shared.resent.waiting.fetch_sub(1, Relaxed);
        refused.ticket.batch.done();
    }

    /// Sends messages and waits for what becomes of them. Those that were refused.
    fn send(&mut self, part: Vec<Refused>) -> Vec<Refused> {
        use rdkafka::producer::Producer;
        let mut answers: Vec<Option<Option<Code>>> = vec![None; part.len()];
        let mut waiting = 0;
        for (place, Refused { message, .. }) in part.iter().enumerate() {
            let mut record = BaseRecord::with_opaque_to(&message.topic, place);
            record = record.headers(message.headers.clone());
            record.key = message.key.as_deref();
            record.payload = message.value.as_deref();
            record.timestamp = message.time_ms;
            match self.producer.send(record) {
                Ok(()) => waiting += 1,
                Err((error, _)) => {
                    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                    answers[place] = Some(Some(code));
                    if !is_of_a_record(code) {
                        let said = not_taken(&message.topic, Some(code), &error);
                        self.producer_told().0.refused(said);
                    }
                }
            }
        }
        while waiting > 0 && !self.is_over() {
            self.producer.poll(LOOK_INTERVAL);
            let heard = &self.producer.context().by_place;
            for (place, code) in heard.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                answers[place] = Some(code);
                waiting -= 1;
            }
        }
        let mut left = Vec::new();
        for (mut refused, answer) in part.into_iter().zip(answers) {
            match answer {
                Some(None) => self.over(&refused),
                Some(Some(code)) => {
                    refused.code = code;
                    left.push(refused);
                }
                // The run is over.
                None => {}
            }
        }
        left
    }
}
