//! Floats as whole numbers of the same order, and how they are sorted.

/// The bits of a float as an integer of the same order.
#[inline]
pub(super) fn ordered(bits: u64) -> i64 {
    flipped(bits as i64)
}

/// The bits of the float whose [`ordered`] integer this is.
#[inline]
pub(super) fn unordered(key: i64) -> u64 {
    flipped(key) as u64
}

fn flipped(bits: i64) -> i64 {
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// How many keys are sorted by digits: fewer pay for no table, more share their digits.
const BY_DIGITS: std::ops::Range<usize> = 128..131_072;

/// Keys that move further than this on average, where many share their digits, are left to comparisons.
const MOVES_MAX: usize = 8;

/// Sorts keys: first by the upper 16 of the bits in which they differ, in two passes (D. E. Knuth, The
/// Art of Computer Programming 3, 5.2.5), then what is out of order still by insertion.
pub(super) fn sort_keys(keys: &mut Vec<i64>) {
    let ends = keys.iter().fold(None, |ends, &key| match ends {
        None => Some((key, key)),
        Some((least, greatest)) => Some((key.min(least), key.max(greatest))),
    });
    let Some((least, greatest)) = ends.filter(|_| BY_DIGITS.contains(&keys.len())) else {
        return keys.sort_unstable();
    };
    let bits = u64::BITS - greatest.abs_diff(least).leading_zeros();
    let shift = bits.saturating_sub(16);
    let digits = |key: i64| (key.wrapping_sub(least) as u64 >> shift) as u16;
    let mut next = [[0u32; 256]; 2];
    for &key in keys.iter() {
        let [low, high] = digits(key).to_le_bytes();
        next[0][usize::from(low)] += 1;
        next[1][usize::from(high)] += 1;
    }
    let mut sorted = vec![0; keys.len()];
    for (byte, next) in next.iter_mut().enumerate() {
        let mut start = 0;
        for count in next.iter_mut() {
            start += std::mem::replace(count, start);
        }
        for &key in keys.iter() {
            let place = &mut next[usize::from(digits(key).to_le_bytes()[byte])];
            sorted[*place as usize] = key;
            *place += 1;
        }
        std::mem::swap(keys, &mut sorted);
    }
    if !insert_each(keys) {
        keys.sort_unstable();
    }
}

/// Sorts keys that are hardly out of order; `false`, and not sorted, if they are more than that.
fn insert_each(keys: &mut [i64]) -> bool {
    let mut moves = MOVES_MAX * keys.len();
    for end in 1..keys.len() {
        let key = keys[end];
        let mut at = end;
        while at > 0 && keys[at - 1] > key {
            keys[at] = keys[at - 1];
            at -= 1;
        }
        keys[at] = key;
        let Some(left) = moves.checked_sub(end - at) else { return false };
        moves = left;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_floats() {
        let floats = [f64::NEG_INFINITY, -2.5, -1e-310, 0.0, 5e-324, 1.0, 1.5, f64::INFINITY];
        let keys = floats.map(|float| ordered(float.to_bits()));
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(keys.map(|key| f64::from_bits(unordered(key))), floats);
    }

    #[test]
    fn sorted_keys_are_those_that_comparisons_sort() {
        let mut state = 1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for case in 0..400 {
            let size = [0, 1, 127, 128, 300, 1_000, 9_000][case % 7];
            let key = |bits: u64| match case / 7 % 6 {
                0 => bits as i64,
                1 => (bits % 5) as i64 - 2,
                2 => ordered((bits as u32 as f64 / 4e9).to_bits()),
                3 => ordered((bits as i32 as f64).to_bits()),
                // Nearly all in one place, so that their upper bits are the same.
                4 if bits % 100 == 0 => i64::MIN + (bits % 7) as i64,
                4 => i64::MAX - (bits >> 40) as i64,
                _ => ordered((bits % 3_000) as f64 as u64),
            };
            let mut keys: Vec<i64> = (0..size).map(|_| key(next())).collect();
            let mut expected = keys.clone();
            expected.sort();
            sort_keys(&mut keys);
            assert_eq!(keys, expected, "case {case}");
        }
    }
}
