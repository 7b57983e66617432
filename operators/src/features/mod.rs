//! Features: declared once, computed over columns, the same live, in replay and in an export.

pub mod categories;
mod columns;
pub mod declaration;
pub mod functions;
pub mod plan;
pub mod sql;
pub mod sql_bounds;
pub mod table;
pub mod trip;
pub mod window;
