//! The job file's JSON Schema: editors complete and check by it.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::{Value, json};

use super::raw::RawJob;

/// The schema, as JSON. Draft 7 is what TOML editors know.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn job_schema() -> serde_json::Result<String> {
    let settings = SchemaSettings::draft07().with_transform(for_toml);
    let schema = settings.into_generator().into_root_schema_for::<RawJob>();
    serde_json::to_string_pretty(&schema).map(|text| text + "\n")
}

/// TOML has no null, Rust's sizes of integers are nobody's concern, and editors break lines.
fn for_toml(schema: &mut Schema) {
    transform_subschemas(&mut for_toml, schema);
    schema.remove("format");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace('\n', " ");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let is_null = |schema: &Value| *schema == json!({"type": "null"});
    if let Some(Value::Array(any)) = schema.get_mut("anyOf")
        && any.iter().any(is_null)
    {
        any.retain(|schema| !is_null(schema));
        let rest = Value::Array(std::mem::take(any));
        schema.remove("anyOf");
        schema.insert("allOf".to_owned(), rest);
    }
}
