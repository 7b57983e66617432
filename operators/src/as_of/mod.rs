//! Feature tables that change, looked up as of an event's time.
//!
//! A table is a changelog: a row is a *version* of its key, valid from its own time until the next
//! version of the key. A lookup at time t finds the version with the greatest `valid_from` ≤ t, both to
//! the precision that is stored; of equal ones that with the greatest sequence. The owner of a key keeps
//! its versions ([`TableOwner`](crate::core::tables::TableOwner)) as long as a lookup may find them.

pub mod sequence;
pub mod table;
