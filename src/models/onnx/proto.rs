//! Field numbers of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

pub const MODEL_GRAPH: u64 = 7;
pub const MODEL_FUNCTIONS: u64 = 25;
pub const GRAPH_NODE: u64 = 1;
pub const GRAPH_INITIALIZER: u64 = 5;
pub const GRAPH_SPARSE_INITIALIZER: u64 = 15;
pub const FUNCTION_NODE: u64 = 7;
pub const NODE_INPUT: u64 = 1;
pub const NODE_OUTPUT: u64 = 2;
pub const NODE_OPERATOR: u64 = 4;
pub const NODE_ATTRIBUTE: u64 = 5;
pub const ATTRIBUTE_NAME: u64 = 1;
pub const ATTRIBUTE_INTEGER: u64 = 3;
pub const ATTRIBUTE_TEXT: u64 = 4;
pub const ATTRIBUTE_TENSOR: u64 = 5;
pub const ATTRIBUTE_GRAPH: u64 = 6;
pub const ATTRIBUTE_FLOATS: u64 = 7;
pub const ATTRIBUTE_INTEGERS: u64 = 8;
pub const ATTRIBUTE_TEXTS: u64 = 9;
pub const ATTRIBUTE_TENSORS: u64 = 10;
pub const ATTRIBUTE_GRAPHS: u64 = 11;
pub const TENSOR_EXTERNAL_DATA: u64 = 13;
