//! The job file's JSON Schema: editors complete and check by it.

use schemars::generate::SchemaSettings;

use super::raw::RawJob;

/// The schema, as JSON. Draft 7 is what TOML editors know.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn job_schema() -> serde_json::Result<String> {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<RawJob>();
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}
