//! How what waits is told that it need not any more.

use std::sync::Arc;

/// Has something done at once, from any thread.
pub type Wake = Arc<dyn Fn() + Send + Sync>;
