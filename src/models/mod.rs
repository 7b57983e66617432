//! Models: from ONNX files, run by ONNX Runtime or compiled, or the program's own.

pub mod card;
pub mod onnx;
pub mod own;
pub mod runtime;
pub mod trees;
