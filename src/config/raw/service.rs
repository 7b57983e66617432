//! The section `[service]`.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSection {
    /// The address at which a live run answers `/metrics`, `/healthz` and `/readyz`, and takes the hint
    /// `POST /v1/models/refresh`: the registry of its model is asked at once. Port 0 is any free one.
    #[serde(default = "listen")]
    pub listen: String,
}

impl Default for ServiceSection {
    fn default() -> Self {
        ServiceSection { listen: listen() }
    }
}

fn listen() -> String {
    "127.0.0.1:0".to_owned()
}
