//! Paths of the machine that a model was exported on.

use super::{Parsed, Trap};

/// Where PyTorch's exporter (2.5 and later) writes from which lines of source a node comes.
const STACK_TRACE: &str = "pkg.torch.onnx.stack_trace";

/// Stack traces with paths, in the metadata of nodes.
pub(super) fn find(model: &Parsed) -> Option<Trap> {
    let traces = model.notes.iter().filter(|(key, _)| key == STACK_TRACE);
    let paths: Vec<&str> = traces.filter_map(|(_, trace)| path_in(trace)).collect();
    let first = paths.first()?;
    Some(Trap {
        code: "source-paths",
        what: format!(
            "{} of its nodes hold stack traces of the exporter, with paths such as {first:?}; take metadata_props out of the nodes before you show the file to others",
            paths.len()
        ),
        is_of_scores: false,
    })
}

/// The last path that a stack trace of Python names.
fn path_in(trace: &str) -> Option<&str> {
    let (_, after) = trace.rsplit_once("File \"")?;
    after.split_once('"').map(|(path, _)| path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_trace_names_the_file_of_the_model() {
        let trace = "File \"/lib/torch/nn.py\", line 1, in call\n  File \"/home/me/net.py\", line 7, in forward\n    return x";
        assert_eq!(path_in(trace), Some("/home/me/net.py"));
        assert_eq!(path_in("return x"), None);
    }
}
