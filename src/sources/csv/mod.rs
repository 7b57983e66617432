//! CSV: records, and their fields to columns.
//!
//! | file | concept |
//! | --- | --- |
//! | `quotes` | where a record ends |
//! | `header` | the names of columns |
//! | `record` | a record to its fields |
//! | `values` | what a field says as a value of some type |
//! | `columns` | fields to columns |
//! | `learn` | which columns there are, and of which types |

pub mod columns;
pub mod header;
pub mod learn;
pub mod quotes;
pub mod record;
pub mod values;
