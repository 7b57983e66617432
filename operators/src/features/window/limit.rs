//! A bound on how many keys are held: where nothing expires, the keys that have not been seen for the
//! longest are forgotten.
//!
//! It is a bound on the keys of each key group, which are all on one worker: what is forgotten does not
//! depend on how many workers there are.

use std::collections::VecDeque;

use crate::key_group::KEY_GROUPS;

/// Entries of a queue that are let be, whatever they are.
const QUEUE_KEPT: usize = 32;

pub(super) struct KeyLimit {
    /// Keys of a key group at most; at least one.
    of_group: usize,
    groups: Vec<Group>,
    /// When the key in each place was last seen: a number that rises.
    last_seen: Vec<u64>,
    seen: u64,
    forgotten: u64,
}

#[derive(Default)]
struct Group {
    keys: usize,
    /// Keys that were forgotten.
    forgotten: u64,
    /// Places of keys and when they were seen, the oldest first; those seen again later are stale.
    seen: VecDeque<(usize, u64)>,
}

impl KeyLimit {
    /// At most `keys_max` keys, evenly over the key groups (rounded up).
    pub(super) fn new(keys_max: u64) -> Self {
        KeyLimit {
            of_group: keys_max.div_ceil(KEY_GROUPS).max(1) as usize,
            groups: (0..KEY_GROUPS).map(|_| Group::default()).collect(),
            last_seen: Vec::new(),
            seen: 0,
            forgotten: 0,
        }
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Of one key group.
    pub(super) fn forgotten_of(&self, group: u64) -> u64 {
        self.groups[group as usize].forgotten
    }

    /// Others have forgotten keys of a group before.
    pub(super) fn forgot(&mut self, group: u64, keys: u64) {
        self.groups[group as usize].forgotten += keys;
        self.forgotten += keys;
    }

    /// When the key in a place was seen: a number that rises.
    pub(super) fn last_seen(&self, place: usize) -> u64 {
        self.last_seen.get(place).copied().unwrap_or(0)
    }

    /// The key in a place was seen. The place of the key to forget for it, if there is one.
    pub(super) fn see(&mut self, place: usize, group: u64, is_new: bool) -> Option<usize> {
        let KeyLimit { of_group, groups, last_seen, seen, forgotten } = self;
        let group = &mut groups[group as usize];
        if last_seen.len() <= place {
            last_seen.resize(place + 1, 0);
        }
        *seen += 1;
        last_seen[place] = *seen;
        group.seen.push_back((place, *seen));
        group.keys += usize::from(is_new);
        let mut oldest = None;
        while group.keys > *of_group && oldest.is_none() {
            let (place, at) = group.seen.pop_front()?;
            if last_seen[place] == at {
                oldest = Some(place);
                last_seen[place] = 0;
                group.keys -= 1;
                group.forgotten += 1;
                *forgotten += 1;
            }
        }
        if group.seen.len() > 2 * group.keys + QUEUE_KEPT {
            group.seen.retain(|&(place, at)| last_seen[place] == at);
        }
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_seen_least_lately_go_first_and_groups_are_apart() {
        let mut limit = KeyLimit::new(2 * KEY_GROUPS);
        assert_eq!(limit.see(0, 7, true), None);
        assert_eq!(limit.see(1, 7, true), None);
        assert_eq!(limit.see(2, 8, true), None);
        assert_eq!(limit.see(0, 7, false), None);
        assert_eq!(limit.see(3, 7, true), Some(1));
        assert_eq!(limit.see(1, 7, true), Some(0));
        assert_eq!(limit.forgotten(), 2);
        for _ in 0..1_000 {
            assert_eq!(limit.see(3, 7, false), None);
        }
        assert!(limit.groups[7].seen.len() <= 2 * 2 + QUEUE_KEPT + 1);
        assert_eq!(limit.see(4, 7, true), Some(1));
    }
}
