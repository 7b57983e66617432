//! Which features a model reads.

use crate::features::plan::FeaturePlan;
use crate::layout::EventLayout;

/// A feature that the model reads.
#[derive(Clone)]
pub struct ModelInput {
    /// Its position among the columns of an enriched batch.
    pub column: usize,
    pub name: String,
    pub allow_null: bool,
}

/// The model's inputs of an enriched batch: positions and names in tensor order.
///
/// # Errors
/// The name that is not a feature of the plan.
pub fn model_inputs(
    plan: &FeaturePlan,
    layout: &EventLayout,
    names: &[String],
) -> Result<Vec<ModelInput>, String> {
    let first = layout.schema.fields().len();
    let position = |name: &String| {
        let feature = plan.fields().iter().position(|field| field.name() == name);
        let feature = feature.ok_or_else(|| name.clone())?;
        let allow_null = plan.allows_null(feature);
        Ok(ModelInput { column: first + feature, name: name.clone(), allow_null })
    };
    names.iter().map(position).collect()
}
