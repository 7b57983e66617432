//! Tests that cross parts: graphs on several workers against naive evaluations.

mod drift;
mod flow;
mod live;
mod lookups;
mod support;
mod windows;
