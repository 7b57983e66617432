//! Where results go: Parquet files, JSON lines, CSV, standard output, topics.

pub mod apart;
pub mod csv;
pub mod folder;
pub mod function;
pub mod json_lines;
mod json_rows;
pub mod kafka;
pub mod overheard;
pub mod own;
pub mod parquet;
pub mod rolling;
pub mod some_columns;
pub mod standard_output;
pub mod text_file;

pub use driftline_operators::sinks::SinkError;

use crate::text::without_prefixes;

pub(crate) fn failed(output: impl std::fmt::Display, error: impl std::fmt::Display) -> SinkError {
    let message = without_prefixes(&error.to_string());
    // No space on the device, over a quota, larger than a file may be.
    let is_full =
        ["28", "122", "27"].iter().any(|code| message.ends_with(&format!("(os error {code})")));
    let what_to_do = if is_full { "; make room, or write elsewhere" } else { "" };
    let temporary = output.to_string();
    let output = folder::final_name(&temporary);
    // Standard output may have been given rows.
    let left = if output == temporary { "" } else { "; nothing was written" };
    SinkError { output, message: format!("{message}{what_to_do}{left}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_by_the_name_of_the_result() {
        let error = "External: No space left on device (os error 28)";
        assert_eq!(
            failed("out/.part-00000.parquet.tmp-17", error).to_string(),
            "out/part-00000.parquet: No space left on device (os error 28); make room, or write elsewhere; nothing was written"
        );
        let error = failed("standard output", "External: Arrow: broken").to_string();
        assert_eq!(error, "standard output: broken");
    }
}
