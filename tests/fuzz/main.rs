//! Damaged and strange input, made from a seed: no panic, no hang, no unbounded memory, and good rows
//! beside bad ones unharmed. `scripts/fuzz.sh` runs the same for as long as one likes.

mod allocation;
mod baseline_files;
mod campaign;
mod csv_files;
mod job_files;
mod json_lines;
mod mutate;
mod onnx_files;
mod parquet_files;
mod parquet_made;
mod random;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;
