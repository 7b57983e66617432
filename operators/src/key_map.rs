//! Maps by the keys of events.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// A map with a quick hash that is seeded at random, so that nobody can choose keys that collide.
pub type KeyMap<K, V> = HashMap<K, V, RandomState>;
