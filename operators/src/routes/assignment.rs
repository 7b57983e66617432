//! Which variant of a route an id gets: the same one each time, on every worker, and in any other program.
//!
//! Who knows salt, id and weights knows the variant, without the program and without a list of ids:
//!
//! ```text
//! bucket  = xxh3_64(utf8(salt) + 0x00 + utf8(id)) % 10,000        seed 0; integers as decimal text
//! variant = the first in order whose weight, added to those before it, is more than the bucket
//! ```
//!
//! Other salts give other buckets: the ids of one route's variant are spread over all variants of another.

use thiserror::Error;
use twox_hash::XxHash3_64;

/// How many buckets there are, and what the weights of a route add up to.
pub const WHOLE: u32 = 10_000;

/// The bucket of an id, below [`WHOLE`]. Of many ids under one salt: [`Buckets`].
pub fn bucket(salt: &str, id: &str) -> u32 {
    Buckets::new(salt).of(id)
}

/// The buckets of ids under one salt. Allocates for an id that is longer than all before it, and else never.
#[derive(Clone, Debug)]
pub struct Buckets {
    /// What is hashed; salt and zero byte stay in place.
    hashed: Vec<u8>,
    id_at: usize,
}

/// Room for the text of any integer.
const ID_BYTES: usize = 20;

impl Buckets {
    pub fn new(salt: &str) -> Self {
        let mut hashed = Vec::with_capacity(salt.len() + 1 + ID_BYTES);
        hashed.extend_from_slice(salt.as_bytes());
        hashed.push(0);
        Buckets { id_at: hashed.len(), hashed }
    }

    /// That of an id, below [`WHOLE`].
    pub fn of(&mut self, id: &str) -> u32 {
        self.hashed.truncate(self.id_at);
        self.hashed.extend_from_slice(id.as_bytes());
        (XxHash3_64::oneshot(&self.hashed) % u64::from(WHOLE)) as u32
    }
}

/// How buckets are shared out over the variants of a route, in their order.
///
/// A change of weights moves the buckets between the old and the new bounds of the variants, and no others: of two
/// variants exactly the share that changed. Of three and more the bounds behind a change move as well, unless
/// a neighbour gives what the other takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    weights: Vec<u32>,
    /// Of each variant the first bucket that is beyond it.
    ends: Vec<u32>,
}

/// Weights do not add up to [`WHOLE`], but to this.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the weights add up to {0}, and must to {WHOLE}")]
pub struct WrongSum(pub u64);

impl Weights {
    /// Of variants in their order; one of 0 gets no ids.
    ///
    /// # Errors
    /// If they do not add up to [`WHOLE`].
    pub fn new(weights: Vec<u32>) -> Result<Self, WrongSum> {
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if sum != u64::from(WHOLE) {
            return Err(WrongSum(sum));
        }
        let up_to = |end: &mut u32, weight: &u32| {
            *end += weight;
            Some(*end)
        };
        let ends = weights.iter().scan(0, up_to).collect();
        Ok(Weights { weights, ends })
    }

    /// The variant that has the bucket, by its place.
    pub fn variant_of(&self, bucket: u32) -> usize {
        debug_assert!(bucket < WHOLE, "{bucket} is no bucket");
        self.ends.partition_point(|&end| end <= bucket)
    }

    pub fn weights(&self) -> &[u32] {
        &self.weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(of: &[u32]) -> Weights {
        Weights::new(of.to_vec()).unwrap()
    }

    /// By xxhash 4.1.0 in Python, whose code is that of XXH3's author:
    /// `xxhash.xxh3_64_intdigest(salt.encode() + b"\0" + id.encode()) % 10_000`. Each length of input has
    /// code of its own in XXH3: up to 16, 128 and 240 bytes, and beyond.
    #[test]
    fn buckets_are_those_of_python() {
        let (long, longer) = ("x".repeat(300), "y".repeat(100));
        let cases = [
            ("", "", 1_883),
            ("rest", "u-17", 770),
            ("2026-q4", "42", 9_073),
            ("ß\u{e9}", "日本", 3_992),
            ("rest", "-9223372036854775808", 6_012),
            ("rest", "18446744073709551615", 6_995),
            ("a", &long, 3_780),
            (&"s".repeat(100), &longer, 4_182),
        ];
        for (salt, id, expected) in cases {
            assert_eq!(bucket(salt, id), expected, "{salt:?} {id:?}");
        }
    }

    #[test]
    fn integers_need_no_memory() {
        let mut buckets = Buckets::new("a salt");
        let (place, room) = (buckets.hashed.as_ptr(), buckets.hashed.capacity());
        for id in ["0", "-9223372036854775808", "18446744073709551615", "7"] {
            assert_eq!(buckets.of(id), bucket("a salt", id));
        }
        assert_eq!((buckets.hashed.as_ptr(), buckets.hashed.capacity()), (place, room));
    }

    #[test]
    fn variants_have_as_many_buckets_as_their_weight() {
        let weights = weights(&[1, 0, 8_999, 1_000]);
        let mut counted = [0; 4];
        (0..WHOLE).for_each(|bucket| counted[weights.variant_of(bucket)] += 1);
        assert_eq!(counted, [1, 0, 8_999, 1_000]);
        assert_eq!(weights.weights(), counted);
    }

    #[test]
    fn other_sums_are_refused() {
        let sums = [
            (vec![], 0),
            (vec![9_000, 999], 9_999),
            (vec![9_000, 1_001], 10_001),
            // Which come to 10,000 in 16 and in 32 bits.
            (vec![65_536 + 10_000], 75_536),
            (vec![u32::MAX, 10_001], 4_294_977_296),
        ];
        for (weights, sum) in sums {
            assert_eq!(Weights::new(weights), Err(WrongSum(sum)));
        }
        assert!(Weights::new(vec![10_000]).is_ok());
    }

    /// Three variants with any weights.
    fn any_weights(random: &mut fastrand::Rng) -> [u32; 3] {
        let mut cuts = [random.u32(..=10_000), random.u32(..=10_000)];
        cuts.sort_unstable();
        [cuts[0], cuts[1] - cuts[0], 10_000 - cuts[1]]
    }

    fn moved(before: &Weights, after: &Weights) -> usize {
        let moves = |bucket: &u32| before.variant_of(*bucket) != after.variant_of(*bucket);
        (0..WHOLE).filter(moves).count()
    }

    #[test]
    fn a_change_of_weights_moves_the_share_that_changed() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (one, other) = (random.u32(..=10_000), random.u32(..=10_000));
            let [before, after] = [one, other].map(|first| weights(&[first, 10_000 - first]));
            assert_eq!(moved(&before, &after), one.abs_diff(other) as usize, "{one} to {other}");
        }
        for _ in 0..200 {
            // Neighbours of three change among themselves; the third stays as it is.
            let [a, b, c] = any_weights(&mut random);
            let changed = random.u32(..=a + b);
            let (before, after) = (weights(&[a, b, c]), weights(&[changed, a + b - changed, c]));
            assert_eq!(
                moved(&before, &after),
                a.abs_diff(changed) as usize,
                "{a}, {b} to {changed}"
            );
        }
    }

    #[test]
    fn no_bucket_moves_that_is_not_between_bounds() {
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..200 {
            let [one, other] = [any_weights(&mut random), any_weights(&mut random)];
            let (before, after) = (weights(&one), weights(&other));
            for bucket in 0..WHOLE {
                let is_between = before
                    .ends
                    .iter()
                    .zip(&after.ends)
                    .any(|(a, b)| (*a.min(b)..*a.max(b)).contains(&bucket));
                let moves = before.variant_of(bucket) != after.variant_of(bucket);
                assert!(!moves || is_between, "{bucket}, {one:?} to {other:?}");
            }
        }
    }
}
