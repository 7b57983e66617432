//! Room that state once needed and does not need any more.

use std::collections::VecDeque;
use std::hash::Hash;

use crate::key_map::KeyMap;

/// A queue of this room or less keeps it.
const ROOM_KEPT: usize = 32;

/// Gives back half the room of a queue that is mostly empty; amortised constant.
pub(super) fn trim_queue<T>(queue: &mut VecDeque<T>) {
    let room = queue.capacity();
    if room > ROOM_KEPT && queue.len() < room / 4 {
        queue.shrink_to(room / 2);
    }
}

/// Gives back half the room of a map that is mostly empty; amortised constant.
pub(super) fn trim_map<K: Eq + Hash, V>(map: &mut KeyMap<K, V>) {
    let room = map.capacity();
    if room > ROOM_KEPT && map.len() < room / 4 {
        map.shrink_to(room / 2);
    }
}
