//! Tests that cross parts: graphs on several workers against naive evaluations.
//!
//! Inputs are random, from seeds that failures name. `DRIFTLINE_SEED=5 cargo test --test integration
//! accounts` runs these tests with that seed alone, which need not be one of theirs.

mod accounts;
mod commits;
mod decoding;
mod drift;
mod epochs;
mod features;
mod flow;
mod inference;
mod input;
mod job;
mod live;
mod lookups;
mod memory;
mod micro_batches;
mod models;
mod moves;
mod parts;
mod record;
mod repeats;
mod routes;
mod seeds;
mod stops;
mod stored;
mod support;
mod switches;
mod ways;
mod windows;
