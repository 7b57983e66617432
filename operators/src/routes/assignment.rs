//! Which variant of a route a row is of: the same for an id always, whatever worker has it.

use twox_hash::XxHash3_64;

/// Of so many parts a variant has some.
pub const WHOLE: u32 = 10_000;

/// The part that an id is of, below [`WHOLE`]: XXH3-64 of the UTF-8 bytes of `salt`, a zero byte and
/// `id`, modulo 10,000.
pub fn bucket(salt: &str, id: &str) -> u32 {
    let mut bytes = Vec::with_capacity(salt.len() + 1 + id.len());
    bytes.extend_from_slice(salt.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(id.as_bytes());
    (XxHash3_64::oneshot(&bytes) % u64::from(WHOLE)) as u32
}

/// How many of the parts each variant has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    weights: Vec<u32>,
}

impl Weights {
    /// # Errors
    /// If they do not add up to [`WHOLE`].
    pub fn new(weights: Vec<u32>) -> Result<Self, String> {
        let sum: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
        if sum == u64::from(WHOLE) {
            return Ok(Weights { weights });
        }
        Err(format!("the weights add up to {sum}, and must to {WHOLE}"))
    }

    /// The variant of a part.
    pub fn variant_of(&self, bucket: u32) -> usize {
        let mut up_to = 0;
        let of = self.weights.iter().position(|weight| {
            up_to += weight;
            bucket < up_to
        });
        of.unwrap_or(0)
    }

    pub fn weights(&self) -> &[u32] {
        &self.weights
    }
}
