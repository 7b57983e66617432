//! The engine as a library, on the flights of the first two months: a program's own events, sinks
//! and functions, and predictions on request, each against a replay of the job file.

mod end_of_time;
mod functions;
mod in_code;
mod own_model;
mod panics;
mod predictor;
mod routes;
mod rules;
mod skew;
mod streams;
mod support;
mod switching;
mod turns;
