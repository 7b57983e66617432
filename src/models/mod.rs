//! Models: from ONNX files, which ONNX Runtime runs, or the program's own.

pub mod onnx;
pub mod own;
pub mod runtime;
