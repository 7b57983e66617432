//! Where rows stand among rows of the same time.

use super::Place;

/// Where a row stands among rows of the same time: its id, or its origin where there is none. Rows
/// without an id come first, as in [`RowOrder`](crate::sort::RowOrder).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowPlace<'a> {
    /// Partition and offset.
    Origin(u32, u64),
    Number(i64),
    Count(u64),
    Text(&'a str),
}

impl<'a> From<&'a Place> for RowPlace<'a> {
    fn from(place: &'a Place) -> Self {
        match place {
            Place::Origin(partition, offset) => RowPlace::Origin(*partition, *offset),
            Place::Number(number) => RowPlace::Number(*number),
            Place::Count(count) => RowPlace::Count(*count),
            Place::Text(text) => RowPlace::Text(text),
        }
    }
}

const ORIGIN: u8 = 0;
const NUMBER: u8 = 1;
const COUNT: u8 = 2;
const TEXT: u8 = 3;

/// What is gone is let be up to this number.
const GONE_KEPT: usize = 32;
/// Room in bytes that is let be.
const ROOM_KEPT: usize = 1_024;

/// A queue of places, in one piece: what comes costs no allocation of its own.
#[derive(Default)]
pub(super) struct Places {
    /// A byte that says which kind it is, and the place itself; one after the other.
    bytes: Vec<u8>,
    /// Where each one ends.
    ends: Vec<usize>,
    /// How many of the first ones are gone.
    gone: usize,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.ends.len() - self.gone
    }

    pub(super) fn get(&self, at: usize) -> RowPlace<'_> {
        let at = self.gone + at;
        let (kind, place) = self.bytes[self.start(at)..self.ends[at]].split_at(1);
        match kind[0] {
            ORIGIN => {
                let (partition, offset) = place.split_at(4);
                RowPlace::Origin(u32::from_le_bytes(fixed(partition)), eight(offset))
            }
            NUMBER => RowPlace::Number(eight(place).cast_signed()),
            COUNT => RowPlace::Count(eight(place)),
            // It was text when it was written.
            _ => RowPlace::Text(std::str::from_utf8(place).unwrap_or_default()),
        }
    }

    pub(super) fn push(&mut self, place: RowPlace) {
        write(&mut self.bytes, place);
        self.ends.push(self.bytes.len());
    }

    /// Puts a place before the one at `at`.
    pub(super) fn insert(&mut self, at: usize, place: RowPlace) {
        let at = self.gone + at;
        let start = self.start(at);
        let before = self.bytes.len();
        write(&mut self.bytes, place);
        let added = self.bytes.len() - before;
        self.bytes[start..].rotate_right(added);
        self.ends.insert(at, start);
        self.ends[at..].iter_mut().for_each(|end| *end += added);
    }

    pub(super) fn replace(&mut self, at: usize, place: RowPlace) {
        let from = self.gone + at;
        let (start, end) = (self.start(from), self.ends[from]);
        self.bytes.drain(start..end);
        self.ends.remove(from);
        self.ends[from..].iter_mut().for_each(|other| *other -= end - start);
        self.insert(at, place);
    }

    pub(super) fn pop_front(&mut self) {
        self.gone += 1;
        if self.gone == self.ends.len() {
            self.clear();
        } else if self.gone > GONE_KEPT && self.gone > self.len() {
            let gone = self.start(self.gone);
            self.bytes.drain(..gone);
            self.ends.drain(..self.gone);
            self.ends.iter_mut().for_each(|end| *end -= gone);
            self.gone = 0;
            self.trim();
        }
    }

    /// Lets go of all of them.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.gone = 0;
        self.trim();
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Gives back half the room where it is mostly empty; amortised constant.
    fn trim(&mut self) {
        let room = self.bytes.capacity();
        if room > ROOM_KEPT && self.bytes.len() < room / 4 {
            self.bytes.shrink_to(room / 2);
            self.ends.shrink_to(self.ends.capacity() / 2);
        }
    }
}

fn write(bytes: &mut Vec<u8>, place: RowPlace) {
    let mut number = |kind: u8, number: [u8; 8]| {
        let mut of = [kind; 9];
        of[1..].copy_from_slice(&number);
        bytes.extend_from_slice(&of);
    };
    match place {
        RowPlace::Number(value) => number(NUMBER, value.to_le_bytes()),
        RowPlace::Count(value) => number(COUNT, value.to_le_bytes()),
        RowPlace::Origin(partition, offset) => {
            bytes.push(ORIGIN);
            bytes.extend_from_slice(&partition.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        RowPlace::Text(text) => {
            bytes.push(TEXT);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
}

fn eight(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(fixed(bytes))
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut fixed = [0; N];
    fixed.copy_from_slice(bytes);
    fixed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::window::naive::Random;

    /// Ids that share beginnings, one of which is the beginning of another.
    fn texts() -> Vec<String> {
        let long = "UA-1545-2013-01-01T10:00Z";
        let ends = ["", "0", "1", "é", "\u{0}", "\u{10ffff}"];
        let mut texts: Vec<String> = (0..=long.len()).map(|end| long[..end].to_owned()).collect();
        texts.extend(ends.iter().map(|end| format!("{long}{end}")));
        texts
    }

    #[test]
    fn a_queue_gives_back_what_a_vector_does() {
        let texts = texts();
        for seed in 1..=30 {
            let mut random = Random::new(seed);
            let (mut places, mut wanted) = (Places::default(), Vec::<RowPlace>::new());
            for step in 0..1_500 {
                let place = match random.below(6) {
                    0 => RowPlace::Origin(random.bits() as u32, random.bits()),
                    1 => RowPlace::Number(random.bits().cast_signed()),
                    2 => RowPlace::Count(random.bits()),
                    _ => RowPlace::Text(&texts[random.below(texts.len() as u64) as usize]),
                };
                let at = random.below(wanted.len() as u64 + 1) as usize;
                // Now it grows, and now it shrinks.
                match random.below(if step / 300 % 2 == 0 { 5 } else { 9 }) {
                    0 | 1 => {
                        places.push(place);
                        wanted.push(place);
                    }
                    2 => {
                        places.insert(at, place);
                        wanted.insert(at, place);
                    }
                    3 if at < wanted.len() => {
                        places.replace(at, place);
                        wanted[at] = place;
                    }
                    4 if step % 700 == 0 => {
                        places.clear();
                        wanted.clear();
                    }
                    5.. if !wanted.is_empty() => {
                        places.pop_front();
                        wanted.remove(0);
                    }
                    _ => {}
                }
                let found: Vec<RowPlace> = (0..places.len()).map(|at| places.get(at)).collect();
                assert_eq!(found, wanted, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn room_is_given_back() {
        let mut places = Places::default();
        for row in 0..10_000 {
            places.push(RowPlace::Count(row));
        }
        let full = places.bytes.capacity();
        for row in 10_000..60_000 {
            places.push(RowPlace::Count(row));
            places.pop_front();
        }
        assert!(places.bytes.capacity() <= 4 * full);
        for _ in 0..9_900 {
            places.pop_front();
        }
        assert_eq!((places.len(), places.get(99)), (100, RowPlace::Count(59_999)));
        assert!(places.bytes.capacity() < full / 4, "{}", places.bytes.capacity());
    }
}
