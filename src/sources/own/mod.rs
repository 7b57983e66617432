//! Events that the program hands over itself.

pub mod stream;

use std::error::Error;
use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use driftline_operators::wake::Wake;

/// A program's own source of events: one partition, read on the first worker's thread.
pub trait EventSource: Send {
    /// What has come since the last time; it must not block.
    ///
    /// # Errors
    /// Whatever keeps events from being read; it ends the run.
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>>;

    /// `wake` has [`EventSource::next`] asked at once, from any thread. Without it the source is
    /// asked about every millisecond.
    fn wake_with(&mut self, _wake: Wake) {}

    /// Whether it wakes for whatever comes, the end too: then it is asked when it does, and beside
    /// that seldom.
    fn wakes(&self) -> bool {
        false
    }
}

pub enum Next {
    /// Events in order, with the columns that were declared, in any order.
    Events(RecordBatch),
    /// Nothing at the moment.
    Nothing,
    /// Nothing any more.
    End,
}

/// A source of events, until a run takes it, and the columns of its batches.
#[derive(Clone)]
pub struct OwnEvents {
    schema: SchemaRef,
    is_arranged: bool,
    source: Arc<Mutex<Option<Box<dyn EventSource>>>>,
}

impl OwnEvents {
    pub fn new(schema: SchemaRef, source: impl EventSource + 'static) -> Self {
        OwnEvents {
            schema,
            is_arranged: false,
            source: Arc::new(Mutex::new(Some(Box::new(source)))),
        }
    }

    /// The same, whose batches have been brought into the form of the job's stream already.
    pub(crate) fn arranged(schema: SchemaRef, source: impl EventSource + 'static) -> Self {
        OwnEvents { is_arranged: true, ..OwnEvents::new(schema, source) }
    }

    pub(crate) fn is_arranged(&self) -> bool {
        self.is_arranged
    }

    /// The batches of an iterator.
    pub fn batches<I>(schema: SchemaRef, batches: I) -> Self
    where
        I: IntoIterator<Item = RecordBatch>,
        I::IntoIter: Send + 'static,
    {
        OwnEvents::new(schema, Batches(batches.into_iter()))
    }

    /// The columns of the batches, as they were declared.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The source, if no run has taken it yet.
    pub fn take(&self) -> Option<Box<dyn EventSource>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Debug for OwnEvents {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnEvents").field("schema", &self.schema).finish_non_exhaustive()
    }
}

struct Batches<I>(I);

impl<I: Iterator<Item = RecordBatch> + Send> EventSource for Batches<I> {
    fn next(&mut self) -> Result<Next, Box<dyn Error + Send + Sync>> {
        Ok(self.0.next().map_or(Next::End, Next::Events))
    }
}
