//! Features: declared once, computed over columns, the same live, in replay and in an export.

pub mod bounded;
pub mod categories;
pub mod columns;
pub mod declaration;
pub mod functions;
pub mod missing;
pub mod plan;
pub mod refusals;
pub mod rules;
pub mod sql;
pub mod sql_bounds;
mod sql_checked;
pub mod table;
pub mod trip;
pub mod validity;
pub mod window;
