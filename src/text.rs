//! Messages as they are told.

/// What the layers of the Parquet reader and writer put before a message, and what says nothing.
const PREFIXES: &[&str] = &[
    "External: ",
    "Parquet argument error: ",
    "Parquet error: ",
    "Arrow: ",
    "EOF: ",
    "General: ",
    "Schema error: ",
];

/// A message of the Parquet reader or writer without the names of its layers.
pub(crate) fn without_prefixes(message: &str) -> String {
    let mut rest = message;
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter;
    }
    rest.to_owned()
}
