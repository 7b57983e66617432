//! Where rows stand among rows of the same time.

/// Where a row stands among rows of the same time: its id, or its origin where there is none. Rows
/// without an id come first, as in [`RowOrder`](crate::sort::RowOrder).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place<'a> {
    /// Partition and offset.
    Origin(u32, u64),
    Number(i64),
    Count(u64),
    Text(&'a str),
}

/// Kinds of places, in their order.
const ORIGIN: u8 = 0;
const NUMBER: u8 = 1;
const COUNT: u8 = 2;
const TEXT: u8 = 3;

/// What is gone is let be up to this number.
const GONE_KEPT: usize = 4;
/// Room in bytes that is let be.
const ROOM_KEPT: usize = 1_024;

/// A queue of places, in one piece: what comes costs no allocation of its own.
#[derive(Default)]
pub(super) struct Places {
    /// A byte that says which kind it is, and the place itself; one after the other.
    bytes: Vec<u8>,
    /// Where each but the first one starts.
    starts: Vec<usize>,
    /// How many of the first ones are gone.
    gone: usize,
}

impl Places {
    pub(super) fn len(&self) -> usize {
        self.written() - self.gone
    }

    /// Whether the place at `at` comes no later than another.
    pub(super) fn is_up_to(&self, at: usize, other: Place) -> bool {
        let (kind, place) = self.bytes(at);
        match (kind, other) {
            // Texts are in the order of their bytes.
            (TEXT, Place::Text(other)) => place <= other.as_bytes(),
            (NUMBER, Place::Number(other)) => eight(place).cast_signed() <= other,
            (COUNT, Place::Count(other)) => eight(place) <= other,
            (ORIGIN, Place::Origin(partition, offset)) => {
                let (of, at) = place.split_at(4);
                (u32::from_le_bytes(fixed(of)), eight(at)) <= (partition, offset)
            }
            (kind, other) => kind < kind_of(other),
        }
    }

    pub(super) fn get(&self, at: usize) -> Place<'_> {
        let (kind, place) = self.bytes(at);
        match kind {
            NUMBER => Place::Number(eight(place).cast_signed()),
            COUNT => Place::Count(eight(place)),
            // What was written was text.
            TEXT => Place::Text(std::str::from_utf8(place).unwrap_or_default()),
            _ => {
                let (partition, offset) = place.split_at(4);
                Place::Origin(u32::from_le_bytes(fixed(partition)), eight(offset))
            }
        }
    }

    /// The kind of the place at `at`, and the place itself.
    fn bytes(&self, at: usize) -> (u8, &[u8]) {
        let at = self.gone + at;
        let end = self.starts.get(at).copied().unwrap_or(self.bytes.len());
        let (kind, place) = self.bytes[self.start(at)..end].split_at(1);
        (kind[0], place)
    }

    /// Puts a place before the one at `at`, or at the end.
    pub(super) fn insert(&mut self, at: usize, place: Place) {
        let at = self.gone + at;
        let before = self.bytes.len();
        if at == self.written() {
            self.starts.extend((before > 0).then_some(before));
            return write(&mut self.bytes, place);
        }
        write(&mut self.bytes, place);
        let (start, added) = (self.start(at), self.bytes.len() - before);
        self.bytes[start..].rotate_right(added);
        self.starts.insert(at, start);
        self.starts[at..].iter_mut().for_each(|start| *start += added);
    }

    pub(super) fn pop_front(&mut self) {
        self.gone += 1;
        if self.len() == 0 {
            self.bytes.clear();
            self.starts.clear();
            self.gone = 0;
            self.trim();
        } else if self.gone > self.len() + GONE_KEPT {
            let gone = self.start(self.gone);
            self.bytes.drain(..gone);
            self.starts.drain(..self.gone);
            self.starts.iter_mut().for_each(|start| *start -= gone);
            self.gone = 0;
            self.trim();
        }
    }

    /// How many there are, those that are gone among them: none is without bytes.
    fn written(&self) -> usize {
        if self.bytes.is_empty() { 0 } else { self.starts.len() + 1 }
    }

    fn start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.starts[before])
    }

    /// Gives back half the room where it is mostly empty; amortised constant.
    fn trim(&mut self) {
        let room = self.bytes.capacity();
        if room > ROOM_KEPT && self.bytes.len() < room / 4 {
            self.bytes.shrink_to(room / 2);
            self.starts.shrink_to(self.starts.capacity() / 2);
        }
    }
}

fn kind_of(place: Place) -> u8 {
    match place {
        Place::Origin(..) => ORIGIN,
        Place::Number(_) => NUMBER,
        Place::Count(_) => COUNT,
        Place::Text(_) => TEXT,
    }
}

fn write(bytes: &mut Vec<u8>, place: Place) {
    // Room for most places at once.
    bytes.reserve(32);
    bytes.push(kind_of(place));
    match place {
        Place::Number(number) => bytes.extend_from_slice(&number.to_le_bytes()),
        Place::Count(count) => bytes.extend_from_slice(&count.to_le_bytes()),
        Place::Origin(partition, offset) => {
            bytes.extend_from_slice(&partition.to_le_bytes());
            bytes.extend_from_slice(&offset.to_le_bytes());
        }
        Place::Text(text) => bytes.extend_from_slice(text.as_bytes()),
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
    fn a_queue_is_in_the_order_of_a_vector() {
        let texts = texts();
        for seed in 1..=30 {
            let mut random = Random::new(seed);
            let (mut places, mut wanted) = (Places::default(), Vec::<Place>::new());
            for step in 0..1_500 {
                let place = match random.below(6) {
                    0 => Place::Origin(random.below(3) as u32, random.below(3)),
                    1 => Place::Number(random.below(7) as i64 - 3),
                    2 => Place::Count(u64::MAX - random.below(5)),
                    _ => Place::Text(&texts[random.below(texts.len() as u64) as usize]),
                };
                let at = random.below(wanted.len() as u64 + 1) as usize;
                // Now it grows, and now it shrinks.
                match random.below(if step / 300 % 2 == 0 { 5 } else { 9 }) {
                    0..3 => {
                        places.insert(at, place);
                        wanted.insert(at, place);
                    }
                    3 => {
                        places.insert(wanted.len(), place);
                        wanted.push(place);
                    }
                    5.. if !wanted.is_empty() => {
                        places.pop_front();
                        wanted.remove(0);
                    }
                    _ => {}
                }
                assert_eq!(places.len(), wanted.len());
                assert!((0..places.len()).map(|at| places.get(at)).eq(wanted.iter().copied()));
                let found = (0..places.len()).map(|at| places.is_up_to(at, place));
                let expected = wanted.iter().map(|&other| other <= place);
                assert!(found.eq(expected), "seed {seed}, step {step}: {place:?} in {wanted:?}");
            }
        }
    }

    #[test]
    fn room_is_given_back() {
        let mut places = Places::default();
        for row in 0..10_000 {
            places.insert(places.len(), Place::Count(row));
        }
        let full = places.bytes.capacity();
        for row in 10_000..60_000 {
            places.insert(places.len(), Place::Count(row));
            places.pop_front();
        }
        assert!(places.bytes.capacity() <= 4 * full);
        for _ in 0..9_900 {
            places.pop_front();
        }
        assert_eq!(places.len(), 100);
        assert!(places.is_up_to(99, Place::Count(59_999)));
        assert!(!places.is_up_to(99, Place::Count(59_998)));
        assert!(places.bytes.capacity() < full / 4, "{}", places.bytes.capacity());
    }
}
