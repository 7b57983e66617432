//! Models from files; ONNX Runtime is the one engine.

pub mod onnx;
pub mod runtime;
