//! Tests that cross parts: graphs on several workers against naive evaluations.

mod drift;
mod live;
mod support;
mod windows;
