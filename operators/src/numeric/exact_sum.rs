//! An exact sum of `f64` values: rounded once, independent of order, and able to forget.
//!
//! A running `f64` sum depends on the order of its additions, so two workers, a restart or a
//! sliding window would each give another last digit. [`ExactSum`] keeps the sum as a fixed-point
//! integer in units of 2⁻¹⁰⁷⁴, the smallest subnormal: every finite `f64` is a whole number of
//! them, so adding, subtracting and merging are integer operations that commute and cancel exactly.
//! The only rounding happens in [`ExactSum::value`]. This is Kulisch's long accumulator (U.
//! Kulisch, *Computer Arithmetic and Validity*, 2nd ed., 2013, ch. 8); the result equals Python's
//! `math.fsum` over the values that remain.
//!
//! The full integer needs 34 words of 64 bits, yet real columns touch a few neighbouring ones. So
//! the sum is held in four words inside the struct, a window that moves to where the values are,
//! and goes to the heap only while the values span more than about 190 bits (58 decimal digits), or
//! while a NaN or an infinity is among them.

mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use words::{
    Term, WIDE_WORDS, WINDOW_WORDS, add_term_at, add_words_at, is_within_limit, negate, rounded,
    trimmed, windowed,
};

/// Where an empty window starts: it takes full-precision values from 2⁻¹²⁶ to 2⁶⁶, and products of
/// values from 2⁻³⁷ to 2³³, without moving.
const BASE_DEFAULT: u8 = 14;

/// The highest window. Values from 2⁹⁶² on, NaN and infinities (all in word 31) therefore never
/// pass the window's test.
const BASE_MAX: u8 = 28;

/// The base while the sum is on the heap: no term can pass the window's test.
const BASE_WIDE: u8 = u8::MAX;

/// How often, in operations, a sum on the heap checks whether it would fit the window again.
const NARROW_INTERVAL_OPS: u32 = 64;

/// So many times a value's mantissa is below 2⁶¹, and a term's high word below 2⁶⁰ wherever it starts
/// in its low one: no more than the top word's limit leaves room for.
const TIMES_OF_ONE_TERM: u64 = 1 << 8;

/// First byte of [`ExactSum::encode`]'s output; the low bit says that counts of non-finite values
/// follow.
const FORMAT_FINITE: u8 = 0x10;
const FORMAT_NONFINITE: u8 = 0x11;

/// The exact sum of a multiset of `f64` values, 48 bytes in the common case.
///
/// *Range.* Every finite `f64` may be added and subtracted, in any order and 2⁶⁰ times; partial
/// sums beyond `f64::MAX` are kept exactly.
///
/// *NaN and infinities* are counted beside the finite sum, not added to it: subtracting one that
/// was added restores the finite sum. While some remain, [`value`](Self::value) is what IEEE 754
/// gives for the multiset: NaN if a NaN or both infinities remain, else the infinity.
///
/// *Equality* compares what was summed, exactly: equal sums are equal however they were reached,
/// and sums that differ by less than a rounding are not.
///
/// ```
/// use driftline_operators::numeric::ExactSum;
///
/// let mut window = ExactSum::new();
/// for value in [1e100, 0.1, 0.2] {
///     window.add(value);
/// }
/// window.sub(1e100);
/// assert_eq!(window.value(), 0.1 + 0.2);
/// ```
#[derive(Clone)]
pub struct ExactSum {
    /// Two's complement, lowest word first, in units of 2^(64·base − 1074). All zero while `wide`
    /// is in use.
    window: [u64; WINDOW_WORDS],
    /// Index of the window's first word in the whole range, or `BASE_WIDE`.
    base: u8,
    /// The sum, when the window cannot hold it.
    wide: Option<Box<Wide>>,
}

/// The whole range, and what is not finite.
#[derive(Clone)]
struct Wide {
    /// Two's complement, lowest word first, in units of 2⁻¹⁰⁷⁴.
    words: [u64; WIDE_WORDS],
    nonfinite: Nonfinite,
    ops_since_check: u32,
}

/// How many of each non-finite kind were added, less those subtracted.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Nonfinite {
    nan: i64,
    positive: i64,
    negative: i64,
}

/// Why bytes are not an [`ExactSum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The input ends inside a sum.
    Truncated,
    /// The first byte is none of the known formats.
    UnknownFormat(u8),
    /// The words lie outside the range of a sum: the first one's index, and how many there are.
    OutOfRange { first_word: u8, words: u8 },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => write!(f, "exact sum is cut short"),
            Self::UnknownFormat(byte) => write!(f, "exact sum has unknown format {byte:#04x}"),
            Self::OutOfRange { first_word, words } => {
                write!(
                    f,
                    "exact sum of {words} words at word {first_word} exceeds {WIDE_WORDS} words"
                )
            }
        }
    }
}

impl std::error::Error for DecodeError {}

impl ExactSum {
    /// The sum of nothing: +0.0.
    pub const fn new() -> Self {
        Self { window: [0; WINDOW_WORDS], base: BASE_DEFAULT, wide: None }
    }

    /// Adds `value` to the multiset.
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.apply(Term::of(value), value, 1);
    }

    /// Takes `value` out of the multiset.
    ///
    /// A finite value need not have been added before: the sum then simply falls by it. For NaN and
    /// infinities the counts may pass through negative ones, and [`value`](Self::value) is NaN
    /// while one is negative.
    #[inline]
    pub fn sub(&mut self, value: f64) {
        self.apply(Term::of(value).negated(), value, -1);
    }

    /// Adds the exact product `a · b`, unrounded.
    ///
    /// Exact while the product is a multiple of 2⁻¹⁰⁷⁴ below 2¹⁰²⁴ in magnitude, hence for any
    /// factors with 2⁻⁹⁶⁸ ≤ |a·b| < 2¹⁰²⁴. Outside, the product counts as the `f64` product `a * b`
    /// would: rounded near zero, an infinity above.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64) {
        self.apply_product(a, b, false);
    }

    /// Adds `value` `times` times (fewer than 2⁵³).
    #[inline]
    pub fn add_times(&mut self, value: f64, times: u64) {
        if times == 0 {
            return;
        }
        if !value.is_finite() {
            self.widen().nonfinite.count(value, times as i64);
            return self.narrow_if_due();
        }
        let Term { mantissa, position, negative } = Term::of(value);
        if times < TIMES_OF_ONE_TERM {
            let term = Term { mantissa: mantissa * times, position, negative };
            return self.apply(term, value, 0);
        }
        self.apply_split(u128::from(mantissa) * u128::from(times), position, negative);
    }

    /// Adds `integer` · 2^(`position` − 1074), negated if `negative`. It must be below 2¹⁰²⁴·2⁷⁰ in magnitude.
    pub(super) fn add_integer(&mut self, integer: u128, position: u32, negative: bool) {
        let (mut rest, mut position) = (integer, position);
        while rest > 0 {
            let mantissa = rest as u64 & ((1 << 53) - 1);
            self.apply(Term { mantissa, position, negative }, 0.0, 0);
            rest >>= 53;
            position += 53;
        }
    }

    /// Takes the exact product `a · b` out again; the same limits as
    /// [`add_product`](Self::add_product).
    #[inline]
    pub fn sub_product(&mut self, a: f64, b: f64) {
        self.apply_product(a, b, true);
    }

    /// Adds everything `other` holds: the sum of the two multisets.
    pub fn merge(&mut self, other: &Self) {
        self.merge_words(other.words(), other.first_word(), other.nonfinite());
    }

    /// Takes out everything `other` holds, as when a pane leaves a window.
    pub fn unmerge(&mut self, other: &Self) {
        let mut words = [0; WIDE_WORDS];
        let negated = &mut words[..other.words().len()];
        negated.copy_from_slice(other.words());
        negate(negated);
        self.merge_words(negated, other.first_word(), other.nonfinite().negated());
    }

    /// The sum, rounded once to nearest, ties to even; ±infinity from 2¹⁰²⁴ − 2⁹⁷⁰ on; +0.0 when it
    /// is zero.
    #[inline]
    pub fn value(&self) -> f64 {
        match &self.wide {
            None => rounded(self.window, self.base.into()),
            Some(wide) => wide.value(),
        }
    }

    /// Whether the sum is exactly zero, with no NaN or infinity left.
    pub fn is_zero(&self) -> bool {
        self.words().iter().all(|&word| word == 0) && self.nonfinite() == Nonfinite::default()
    }

    /// Bytes on the heap, beside the struct's own 48.
    pub fn heap_bytes(&self) -> usize {
        self.wide.as_ref().map_or(0, |_| size_of::<Wide>())
    }

    /// Appends the sum to `out` in a canonical form: equal sums give equal bytes, 3 to 35 in the
    /// common case.
    ///
    /// Layout, little-endian: a format byte; with non-finite values three `i64` counts (NaN, +∞,
    /// −∞); the index of the first word `u8`; the number of words `u8`; the words, `u64` each,
    /// two's complement.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let nonfinite = self.nonfinite();
        if nonfinite == Nonfinite::default() {
            out.push(FORMAT_FINITE);
        } else {
            out.push(FORMAT_NONFINITE);
            for count in [nonfinite.nan, nonfinite.positive, nonfinite.negative] {
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
        let (first_word, words) = trimmed(self.words(), self.first_word());
        out.extend_from_slice(&[first_word as u8, words.len() as u8]);
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads a sum that [`encode`](Self::encode) wrote and moves `input` past it.
    ///
    /// # Errors
    /// When the bytes end early, or are not such a sum; `input` is then left somewhere inside.
    pub fn decode(input: &mut &[u8]) -> Result<Self, DecodeError> {
        let [format] = take(input)?;
        let nonfinite = match format {
            FORMAT_FINITE => Nonfinite::default(),
            FORMAT_NONFINITE => Nonfinite {
                nan: i64::from_le_bytes(take(input)?),
                positive: i64::from_le_bytes(take(input)?),
                negative: i64::from_le_bytes(take(input)?),
            },
            other => return Err(DecodeError::UnknownFormat(other)),
        };
        let [first_word, count] = take(input)?;
        if usize::from(first_word) + usize::from(count) > WIDE_WORDS {
            return Err(DecodeError::OutOfRange { first_word, words: count });
        }
        let mut words = [0; WIDE_WORDS];
        let words = &mut words[..count.into()];
        for word in words.iter_mut() {
            *word = u64::from_le_bytes(take(input)?);
        }
        let mut sum = Self::new();
        sum.merge_words(words, first_word.into(), nonfinite);
        Ok(sum)
    }

    /// Adds a term to the window if it lies there; `value` and `weight` are only for what is not
    /// finite.
    #[inline]
    fn apply(&mut self, term: Term, value: f64, weight: i64) {
        let slot = term.slot(self.base);
        if slot < WINDOW_WORDS - 1 {
            self.add_in_window(slot, term);
        } else if term.mantissa != 0 {
            self.apply_outside(term, value, weight);
        }
    }

    #[inline]
    fn add_in_window(&mut self, slot: usize, term: Term) {
        add_term_at(&mut self.window, slot, term);
        if !is_within_limit(self.window[WINDOW_WORDS - 1]) {
            self.make_headroom();
        }
    }

    #[cold]
    fn apply_outside(&mut self, term: Term, value: f64, weight: i64) {
        if !value.is_finite() {
            self.widen().nonfinite.count(value, weight);
            return self.narrow_if_due();
        }
        if self.wide.is_none() && self.move_window_to(term.word()) {
            return self.add_in_window(term.slot(self.base), term);
        }
        let word = term.word();
        add_term_at(&mut self.widen().words, word, term);
        self.narrow_if_due();
    }

    #[inline]
    fn apply_product(&mut self, a: f64, b: f64, subtract: bool) {
        let (factor_a, factor_b) = (Term::of(a), Term::of(b));
        let product = u128::from(factor_a.mantissa) * u128::from(factor_b.mantissa);
        let position = i64::from(factor_a.position) + i64::from(factor_b.position) - 1074;
        let rounded = a * b;
        // Lost bits below the unit, and everything that is or becomes infinite or NaN.
        let is_exact = position >= 0 || product.trailing_zeros() as i64 >= -position;
        if !is_exact || !rounded.is_finite() {
            return if subtract { self.sub(rounded) } else { self.add(rounded) };
        }
        let (product, position) = if position < 0 {
            (product.checked_shr(position.unsigned_abs() as u32).unwrap_or(0), 0)
        } else {
            (product, position as u32)
        };
        let negative = (factor_a.negative != factor_b.negative) != subtract;
        self.apply_split(product, position, negative);
    }

    /// Applies a product below 2¹⁰⁶ as two terms.
    #[inline]
    fn apply_split(&mut self, product: u128, position: u32, negative: bool) {
        let low = Term { mantissa: product as u64 & ((1 << 53) - 1), position, negative };
        let high = Term { mantissa: (product >> 53) as u64, position: position + 53, negative };
        self.apply(low, 0.0, 0);
        self.apply(high, 0.0, 0);
    }

    /// Moves the window so that a term starting in `word` fits, if what it holds allows that.
    fn move_window_to(&mut self, word: usize) -> bool {
        // First with a word to spare below, so that slightly smaller values do not move it again.
        let candidates = [word.saturating_sub(1), word, word.saturating_sub(2)];
        candidates.into_iter().any(|base| self.move_window(base))
    }

    fn move_window(&mut self, base: usize) -> bool {
        if base > BASE_MAX.into() {
            return false;
        }
        let Some(window) = windowed(&self.window, self.base.into(), base) else {
            return false;
        };
        self.window = window;
        self.base = base as u8;
        true
    }

    /// Called when the top word passes its limit: one operation more and the sign could be lost.
    #[cold]
    fn make_headroom(&mut self) {
        if !self.move_window(usize::from(self.base) + 1) {
            self.widen();
        }
    }

    fn widen(&mut self) -> &mut Wide {
        let (window, first) = (self.window, self.first_word());
        self.window = [0; WINDOW_WORDS];
        self.base = BASE_WIDE;
        self.wide.get_or_insert_with(|| {
            let mut wide = Wide {
                words: [0; WIDE_WORDS],
                nonfinite: Nonfinite::default(),
                ops_since_check: 0,
            };
            add_words_at(&mut wide.words, first, &window);
            Box::new(wide)
        })
    }

    fn narrow_if_due(&mut self) {
        if let Some(wide) = &mut self.wide {
            wide.ops_since_check += 1;
            if wide.ops_since_check >= NARROW_INTERVAL_OPS {
                wide.ops_since_check = 0;
                self.narrow();
            }
        }
    }

    /// Goes back to the window if the sum fits one.
    fn narrow(&mut self) {
        let Some(wide) = &self.wide else { return };
        if wide.nonfinite != Nonfinite::default() {
            return;
        }
        let (lowest, _) = trimmed(&wide.words, 0);
        let candidates = [BASE_DEFAULT.into(), lowest.saturating_sub(1), lowest];
        for base in candidates.into_iter().filter(|&base| base <= BASE_MAX.into()) {
            if let Some(window) = windowed(&wide.words, 0, base) {
                *self = Self { window, base: base as u8, wide: None };
                return;
            }
        }
    }

    fn merge_words(&mut self, words: &[u64], first: usize, nonfinite: Nonfinite) {
        if self.wide.is_none() && nonfinite == Nonfinite::default() {
            if self.is_zero() {
                // An empty sum has no reason to keep its window where it is.
                self.move_window(first.min(BASE_MAX.into()));
            }
            if let Some(addend) = windowed(words, first, self.base.into()) {
                add_words_at(&mut self.window, 0, &addend);
                if !is_within_limit(self.window[WINDOW_WORDS - 1]) {
                    self.make_headroom();
                }
                return;
            }
        }
        let wide = self.widen();
        add_words_at(&mut wide.words, first, words);
        wide.nonfinite.merge(nonfinite);
        self.narrow();
    }

    fn words(&self) -> &[u64] {
        self.wide.as_ref().map_or(&self.window, |wide| &wide.words)
    }

    /// Index of `words()[0]` in the whole range.
    fn first_word(&self) -> usize {
        if self.wide.is_some() { 0 } else { self.base.into() }
    }

    fn nonfinite(&self) -> Nonfinite {
        self.wide.as_ref().map_or(Nonfinite::default(), |wide| wide.nonfinite)
    }
}

impl Default for ExactSum {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        trimmed(self.words(), self.first_word()) == trimmed(other.words(), other.first_word())
            && self.nonfinite() == other.nonfinite()
    }
}

impl Eq for ExactSum {}

impl fmt::Debug for ExactSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first_word, words) = trimmed(self.words(), self.first_word());
        f.debug_struct("ExactSum")
            .field("value", &self.value())
            .field("first_word", &first_word)
            .field("words", &words)
            .finish_non_exhaustive()
    }
}

impl Wide {
    fn value(&self) -> f64 {
        if self.nonfinite != Nonfinite::default() {
            return self.nonfinite.value();
        }
        let (first, words) = trimmed(&self.words, 0);
        // All words below the top three only matter as a sticky bit.
        let skipped = words.len().saturating_sub(WINDOW_WORDS - 1);
        let is_negative = words.last().is_some_and(|&top| top >> 63 == 1);
        let mut top = [if is_negative { u64::MAX } else { 0 }; WINDOW_WORDS];
        top[..words.len() - skipped].copy_from_slice(&words[skipped..]);
        // A trimmed slice starts with a non-zero word, so whatever is skipped is not zero.
        if skipped > 0 {
            top[0] |= 1;
        }
        rounded(top, first + skipped)
    }
}

impl Nonfinite {
    fn count(&mut self, value: f64, weight: i64) {
        if value.is_nan() {
            self.nan += weight;
        } else if value > 0.0 {
            self.positive += weight;
        } else {
            self.negative += weight;
        }
    }

    fn merge(&mut self, other: Self) {
        self.nan += other.nan;
        self.positive += other.positive;
        self.negative += other.negative;
    }

    fn negated(self) -> Self {
        Self { nan: -self.nan, positive: -self.positive, negative: -self.negative }
    }

    fn value(self) -> f64 {
        match (self.nan, self.positive, self.negative) {
            (0, 1.., 0) => f64::INFINITY,
            (0, 0, 1..) => f64::NEG_INFINITY,
            _ => f64::NAN,
        }
    }
}

/// Splits `N` bytes off the front.
fn take<const N: usize>(input: &mut &[u8]) -> Result<[u8; N], DecodeError> {
    let (head, rest) = input.split_first_chunk().ok_or(DecodeError::Truncated)?;
    *input = rest;
    Ok(*head)
}
