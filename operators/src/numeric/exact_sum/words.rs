//! Fixed-point numbers as two's complement words, lowest first, in units of 2⁻¹⁰⁷⁴.
//!
//! A number is a slice of words and the index of its first one in the whole range; above the slice
//! its sign goes on.

/// Words of the inline window. The window starts at word `base`; a term touches two neighbouring
/// words of it.
pub(super) const WINDOW_WORDS: usize = 4;

/// Words of the whole range: the highest bit of the largest `f64` is bit 2097 of word 32, and what
/// is above it holds the carries and the sign of 2⁷⁷ such values.
pub(super) const WIDE_WORDS: usize = 34;

/// The top word stays within ±2⁶² between operations, so that no single operation can overflow it.
const TOP_LIMIT: u64 = 1 << 62;

/// `mantissa` · 2^(`position` − 1074), negated if `negative`.
#[derive(Clone, Copy)]
pub(super) struct Term {
    pub(super) mantissa: u64,
    pub(super) position: u32,
    pub(super) negative: bool,
}

impl Term {
    /// Takes a finite value apart. For NaN and infinities the term is not zero, and lies in the
    /// last word.
    #[inline]
    pub(super) fn of(value: f64) -> Self {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as u32 & 0x7ff;
        let is_normal = u32::from(exponent != 0);
        Self {
            mantissa: (bits & ((1 << 52) - 1)) | u64::from(is_normal) << 52,
            position: exponent - is_normal,
            negative: bits >> 63 == 1,
        }
    }

    #[inline]
    pub(super) fn negated(self) -> Self {
        Self { negative: !self.negative, ..self }
    }

    /// Index of its first word in the whole range.
    #[inline]
    pub(super) fn word(self) -> usize {
        (self.position / 64) as usize
    }

    /// Index of its first word in a window, or something huge.
    #[inline]
    pub(super) fn slot(self, base: u8) -> usize {
        self.word().wrapping_sub(base.into())
    }
}

/// Adds a term to two neighbouring words; the carry rarely goes further. `slot + 1` must be inside.
#[inline]
pub(super) fn add_term_at<const N: usize>(words: &mut [u64; N], slot: usize, term: Term) {
    let mask = if term.negative { u128::MAX } else { 0 };
    let shifted = u128::from(term.mantissa) << (term.position % 64);
    let addend = (shifted ^ mask).wrapping_sub(mask);
    // Zero has no minus sign in two's complement, so its upper words are zeros as well.
    let extension = (addend >> 64) as i64 >> 63;
    let pair = u128::from(words[slot]) | u128::from(words[slot + 1]) << 64;
    let (sum, carry) = pair.overflowing_add(addend);
    words[slot] = sum as u64;
    words[slot + 1] = (sum >> 64) as u64;
    let step = extension + i64::from(carry);
    if step != 0 {
        propagate(&mut words[slot + 2..], step);
    }
}

/// Adds ±1 to what lies above a term.
fn propagate(words: &mut [u64], step: i64) {
    for word in words {
        *word = word.wrapping_add(step as u64);
        let stops = if step > 0 { *word != 0 } else { *word != u64::MAX };
        if stops {
            return;
        }
    }
}

/// Adds a two's complement number that starts at word `first`, extending its sign to the end.
pub(super) fn add_words_at(words: &mut [u64], first: usize, addend: &[u64]) {
    let extension = sign_extension(addend);
    let mut carry = false;
    for (index, word) in words.iter_mut().skip(first).enumerate() {
        let (sum, carry_a) = word.overflowing_add(addend.get(index).copied().unwrap_or(extension));
        let (sum, carry_b) = sum.overflowing_add(carry.into());
        *word = sum;
        carry = carry_a | carry_b;
    }
}

pub(super) fn negate(words: &mut [u64]) {
    let mut carry = true;
    for word in words {
        (*word, carry) = (!*word).overflowing_add(carry.into());
    }
}

fn sign_extension(words: &[u64]) -> u64 {
    words.last().map_or(0, |&top| ((top as i64) >> 63) as u64)
}

#[inline]
pub(super) fn is_within_limit(top: u64) -> bool {
    top.wrapping_add(TOP_LIMIT) < 2 * TOP_LIMIT
}

/// The canonical part of a number: without zero words below and copies of the sign above. Zero is
/// `(0, [])`.
pub(super) fn trimmed(words: &[u64], first: usize) -> (usize, &[u64]) {
    let Some(low) = words.iter().position(|&word| word != 0) else {
        return (0, &[]);
    };
    let mut high = words.len();
    while high - low > 1 && words[high - 1] == sign_extension(&words[..high - 1]) {
        high -= 1;
    }
    (first + low, &words[low..high])
}

/// The number `words`, which starts at word `first`, as a window at `base`; `None` if it does not
/// fit within the limit.
pub(super) fn windowed(words: &[u64], first: usize, base: usize) -> Option<[u64; WINDOW_WORDS]> {
    let (first, words) = trimmed(words, first);
    let mut window = [0; WINDOW_WORDS];
    if words.is_empty() {
        return Some(window);
    }
    let offset = first.checked_sub(base)?;
    let target = window.get_mut(offset..)?;
    if target.len() < words.len() {
        return None;
    }
    target.fill(sign_extension(words));
    target[..words.len()].copy_from_slice(words);
    is_within_limit(window[WINDOW_WORDS - 1]).then_some(window)
}

/// The two's complement number `words` · 2^(64·first − 1074), rounded to nearest, ties to even.
///
/// Written on scalars and without data-dependent branches: a vector load of words just stored one
/// by one stalls, and whether a sum rounds up is a coin toss to the branch predictor.
#[inline]
pub(super) fn rounded(words: [u64; WINDOW_WORDS], first: usize) -> f64 {
    let sign = words[WINDOW_WORDS - 1] & (1 << 63);
    let mut low = u128::from(words[0]) | u128::from(words[1]) << 64;
    let mut high = u128::from(words[2]) | u128::from(words[3]) << 64;
    if sign != 0 {
        high = (!high).wrapping_add(u128::from(low == 0));
        low = low.wrapping_neg();
    }
    // The highest word that is not zero with its lower neighbour, and whether anything lies below
    // the two.
    let (top, pair, is_more_below) = if high >> 64 != 0 {
        (3, high, low != 0)
    } else if high != 0 {
        (2, high << 64 | low >> 64, low as u64 != 0)
    } else if low >> 64 != 0 {
        (1, low, false)
    } else {
        (0, low << 64, false)
    };
    if pair == 0 {
        return 0.0;
    }
    let shift = pair.leading_zeros();
    let top_bit = 64 * (first + top) as u64 + 63 - u64::from(shift);
    if top_bit < 52 {
        // A subnormal: its bits are the count of units, and never need rounding.
        return f64::from_bits(sign | low as u64);
    }
    let exponent = top_bit - 51;
    if exponent > 2046 {
        return f64::from_bits(sign | f64::INFINITY.to_bits());
    }
    let normalized = pair << shift;
    let is_inexact = (normalized as u64 != 0) | is_more_below;
    let significant = (normalized >> 64) as u64 | u64::from(is_inexact);
    let mantissa = significant >> 11;
    let round_up = ((significant & 0x7ff) + 0x3ff + (mantissa & 1)) >> 11;
    // The mantissa's top bit adds one to the exponent field, and a carry out of it gives the next
    // power of two or ∞.
    f64::from_bits(sign | (((exponent - 1) << 52) + mantissa + round_up))
}
