use super::*;

const GOLDEN: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/numeric/exact_sum_golden.txt"));

/// 2⁻¹⁰⁷⁴, which `powi` cannot reach.
const SMALLEST: f64 = f64::from_bits(1);

/// xorshift64*: enough randomness for test data, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// A finite value whose exponent field lies in `exponents`.
    fn value(&mut self, exponents: std::ops::Range<u64>) -> f64 {
        let exponent = exponents.start + self.below(exponents.end - exponents.start);
        f64::from_bits((self.bits() & !(0x7ff << 52)) | exponent << 52)
    }
}

/// A naive oracle: one signed counter per bit of the range, carried once at the end.
struct BitCounters(Vec<i64>);

impl BitCounters {
    fn new() -> Self {
        Self(vec![0; 4400])
    }

    /// Adds `weight · mantissa · 2^(exponent − 2148)`: room for products of subnormals.
    fn add(&mut self, mantissa: u128, exponent: usize, weight: i64) {
        for bit in (0..128).filter(|bit| mantissa >> bit & 1 == 1) {
            self.0[exponent + bit] += weight;
        }
    }

    fn add_value(&mut self, value: f64, weight: i64) {
        let (mantissa, exponent) = split(value);
        self.add(mantissa.into(), exponent + 1074, if value < 0.0 { -weight } else { weight });
    }

    fn add_product(&mut self, a: f64, b: f64, weight: i64) {
        let ((mantissa_a, exponent_a), (mantissa_b, exponent_b)) = (split(a), split(b));
        let weight = if (a < 0.0) != (b < 0.0) { -weight } else { weight };
        let product = u128::from(mantissa_a) * u128::from(mantissa_b);
        self.add(product, exponent_a + exponent_b, weight);
    }

    fn value(&self) -> f64 {
        let is_negative = self.carried(1).1 < 0;
        let (digits, _) = self.carried(if is_negative { -1 } else { 1 });
        let Some(top) = digits.iter().rposition(|&digit| digit) else {
            return 0.0;
        };
        // Down to bit 1074 (the smallest subnormal), or 53 bits, whichever is shorter.
        let low = top.saturating_sub(52).max(1074);
        let mut mantissa =
            (low..=top).fold(0u64, |sum, bit| sum | u64::from(digits[bit]) << (bit - low));
        let half = digits[low - 1];
        let is_more = digits[..low - 1].contains(&true);
        if half && (is_more || mantissa & 1 == 1) {
            mantissa += 1;
        }
        let exponent = low as i32 - 2148;
        let magnitude = if exponent > 971 {
            f64::INFINITY
        } else {
            // Two exact steps: 2^-1074 alone would be fine, 2^971 · 2^53 must be able to
            // overflow.
            mantissa as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
        };
        if is_negative { -magnitude } else { magnitude }
    }

    fn carried(&self, sign: i64) -> (Vec<bool>, i64) {
        let mut carry = 0;
        let digits = self.0.iter().map(|count| {
            let total = sign * count + carry;
            carry = total >> 1;
            total & 1 == 1
        });
        (digits.collect(), carry)
    }
}

fn split(value: f64) -> (u64, usize) {
    let exponent = (value.to_bits() >> 52 & 0x7ff) as usize;
    let fraction = value.to_bits() & ((1 << 52) - 1);
    if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) }
}

fn sum_of(values: &[f64]) -> ExactSum {
    let mut sum = ExactSum::new();
    values.iter().for_each(|&value| sum.add(value));
    sum
}

#[track_caller]
fn assert_same(actual: f64, expected: f64, context: &str) {
    let same = actual.to_bits() == expected.to_bits() || (actual.is_nan() && expected.is_nan());
    assert!(same, "{context}: got {actual:e}, expected {expected:e}");
}

fn roundtrip(sum: &ExactSum) -> ExactSum {
    let mut bytes = Vec::new();
    sum.encode(&mut bytes);
    let mut input = bytes.as_slice();
    let decoded = ExactSum::decode(&mut input).expect("own bytes decode");
    assert!(input.is_empty());
    let mut again = Vec::new();
    decoded.encode(&mut again);
    assert_eq!(bytes, again, "the encoding is canonical");
    decoded
}

#[test]
fn equals_python_fsum() {
    let mut random = Random::new(1);
    let mut cases = 0;
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        let mut numbers = line
            .split_whitespace()
            .map(|hex| f64::from_bits(u64::from_str_radix(hex, 16).unwrap()));
        let expected = numbers.next().unwrap();
        let values: Vec<f64> = numbers.collect();
        let mut sum = sum_of(&values);
        assert_same(sum.value(), expected, line);
        assert_same(roundtrip(&sum).value(), expected, line);

        // What joins and leaves again must leave no trace, whatever its size.
        let noise: Vec<f64> = (0..70).map(|_| random.value(0..2047)).collect();
        noise.iter().for_each(|&value| sum.add(value));
        noise.iter().for_each(|&value| sum.sub(value));
        assert_same(sum.value(), expected, line);
        assert_eq!(sum, sum_of(&values));
        cases += 1;
    }
    assert!(cases > 300, "only {cases} golden cases");
}

#[test]
fn sliding_windows_equal_the_oracle() {
    // Exponent fields: all alike, as features are, wide, everything, subnormals, near overflow.
    let ranges = [1020..1026, 1010..1040, 900..1100, 0..2047, 0..60, 2000..2047, 950..951];
    for (seed, range) in (0..70).zip(ranges.iter().cycle()) {
        let mut random = Random::new(seed);
        let mut sum = ExactSum::new();
        let mut window = std::collections::VecDeque::new();
        let mut oracle = BitCounters::new();
        for step in 0..400 {
            let is_outlier = random.below(50) == 0;
            let value = random.value(if is_outlier { 0..2047 } else { range.clone() });
            let value = if random.below(20) == 0 { value.trunc() } else { value };
            sum.add(value);
            oracle.add_value(value, 1);
            window.push_back(value);
            while window.len() > 40 || (random.below(3) == 0 && !window.is_empty()) {
                let old = window.pop_front().unwrap();
                sum.sub(old);
                oracle.add_value(old, -1);
            }
            assert_same(sum.value(), oracle.value(), &format!("seed {seed}, step {step}"));
            let rebuilt = sum_of(window.make_contiguous());
            assert_eq!(sum, rebuilt, "seed {seed}, step {step}");
        }
        assert_eq!(roundtrip(&sum), sum);
    }
}

#[test]
fn products_equal_the_oracle() {
    let ranges = [1020..1030, 1000..1050, 560..1500, 520..1534];
    for (seed, range) in (0..40).zip(ranges.iter().cycle()) {
        let mut random = Random::new(seed);
        let mut sum = ExactSum::new();
        let mut oracle = BitCounters::new();
        let mut held = Vec::new();
        for step in 0..200 {
            let (a, b) = (random.value(range.clone()), random.value(range.clone()));
            sum.add_product(a, b);
            oracle.add_product(a, b, 1);
            held.push((a, b));
            if step % 3 == 0 {
                let (a, b) = held.swap_remove(random.below(held.len() as u64) as usize);
                sum.sub_product(a, b);
                oracle.add_product(a, b, -1);
            }
            assert_same(sum.value(), oracle.value(), &format!("seed {seed}, step {step}"));
        }
        held.iter().for_each(|&(a, b)| sum.sub_product(a, b));
        assert!(sum.is_zero(), "seed {seed}");
    }
}

#[test]
fn products_out_of_range_count_as_their_rounded_value() {
    for (a, b) in [
        (1e200, 1e200),
        (-1e200, 1e200),
        (f64::INFINITY, 0.0),
        (f64::NAN, 1.0),
        (1e-200, 1e-200),
        (3e-170, 7e-150),
    ] {
        let mut sum = ExactSum::new();
        sum.add_product(a, b);
        assert_same(sum.value(), a * b, &format!("{a} * {b}"));
        sum.sub_product(a, b);
        assert!(sum.is_zero());
    }
    let mut exact = ExactSum::new();
    exact.add_product(SMALLEST, 2f64.powi(900));
    exact.add_product(2f64.powi(-537), 2f64.powi(-537));
    exact.sub(2f64.powi(-174));
    assert_same(exact.value(), SMALLEST, "multiples of the unit stay exact");
}

#[test]
fn merging_and_unmerging_equal_adding() {
    let ranges = [1020..1026, 0..2047, 0..60, 1500..1550, 2000..2047];
    for seed in 0..60 {
        let mut random = Random::new(seed);
        let parts: Vec<Vec<f64>> = (0..4)
            .map(|_| {
                let range = ranges[random.below(5) as usize].clone();
                (0..random.below(30)).map(|_| random.value(range.clone())).collect()
            })
            .collect();
        let whole = sum_of(&parts.concat());
        let mut merged = ExactSum::new();
        parts.iter().for_each(|part| merged.merge(&sum_of(part)));
        assert_eq!(merged, whole, "seed {seed}");
        assert_same(merged.value(), whole.value(), &format!("seed {seed}"));
        merged.unmerge(&sum_of(&parts[1]));
        assert_eq!(merged, sum_of(&[&parts[0][..], &parts[2], &parts[3]].concat()), "seed {seed}");
    }
}

#[test]
fn nonfinite_values_can_be_taken_out_again() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let mut sum = sum_of(&[1.5, inf]);
    assert_same(sum.value(), inf, "one infinity");
    assert_eq!(roundtrip(&sum), sum);
    sum.add(-inf);
    assert_same(sum.value(), nan, "both infinities");
    sum.sub(inf);
    assert_same(sum.value(), -inf, "the negative one remains");
    sum.add(nan);
    assert_same(roundtrip(&sum).value(), nan, "NaN wins");
    assert!(!sum.is_zero());
    let mut other = sum_of(&[2.0]);
    other.merge(&sum);
    other.sub(-inf);
    other.sub(nan);
    assert_same(other.value(), 3.5, "all finite again");
    assert_eq!(other, sum_of(&[3.5]));
    let mut early = ExactSum::new();
    early.sub(inf);
    assert_same(early.value(), nan, "an infinity still owed");
    early.add(inf);
    assert!(early.is_zero());
}

#[test]
fn zero_is_positive() {
    for values in
        [&[][..], &[0.0], &[-0.0], &[-0.0, -0.0], &[1.0, -1.0], &[1e300, -1e-300, -1e300, 1e-300]]
    {
        let sum = sum_of(values);
        assert_same(sum.value(), 0.0, &format!("{values:?}"));
        assert!(sum.is_zero());
        assert_eq!(sum, ExactSum::default());
    }
}

#[test]
fn sums_beyond_the_range_come_back() {
    let mut sum = sum_of(&[f64::MAX; 5000]);
    assert_same(sum.value(), f64::INFINITY, "overflow");
    (0..4999).for_each(|_| sum.sub(f64::MAX));
    assert_same(sum.value(), f64::MAX, "back in range");
    sum.add(2f64.powi(970));
    assert_same(sum.value(), f64::INFINITY, "halfway to 2^1024 rounds up");
    sum.sub(SMALLEST);
    assert_same(sum.value(), f64::MAX, "a hair below halfway");
}

#[test]
fn the_window_keeps_room_for_growth() {
    let mut sum = ExactSum::new();
    let mut oracle = BitCounters::new();
    for _ in 0..100_000 {
        sum.add(3.7e19);
        sum.add(-1.1e-38);
    }
    oracle.add_value(3.7e19, 100_000);
    oracle.add_value(-1.1e-38, 100_000);
    assert_same(sum.value(), oracle.value(), "many values at the window's end");
    assert!(sum.window[WINDOW_WORDS - 1] != 0 || sum.wide.is_some());
}

#[test]
fn similar_values_stay_off_the_heap() {
    assert!(size_of::<ExactSum>() <= 48);
    for scale in [1.0, 0.1, 1e-30, 1e60, 1e-300] {
        let mut sum = ExactSum::new();
        for value in -60..1300 {
            sum.add(f64::from(value) * scale);
        }
        sum.add(1e12 * scale);
        assert_eq!(sum.heap_bytes(), 0, "scale {scale}");
    }
    let mut sum = sum_of(&[0.1, 1e300]);
    assert!(sum.heap_bytes() > 0);
    sum.sub(1e300);
    (0..NARROW_INTERVAL_OPS).for_each(|_| sum.add(0.1));
    assert_eq!(sum.heap_bytes(), 0, "an outlier that left");
}

#[test]
fn foreign_bytes_are_refused() {
    let decode = |mut bytes: &[u8]| ExactSum::decode(&mut bytes);
    assert_eq!(decode(&[]), Err(DecodeError::Truncated));
    assert_eq!(decode(&[7, 0, 0]), Err(DecodeError::UnknownFormat(7)));
    assert_eq!(decode(&[FORMAT_FINITE, 3, 1, 0, 0]), Err(DecodeError::Truncated));
    let expected = DecodeError::OutOfRange { first_word: 20, words: 15 };
    assert_eq!(decode(&[FORMAT_FINITE, 20, 15]), Err(expected));
}

#[test]
fn many_times_is_as_often_one_by_one() {
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let exponents = [1000..1060, 0..3, 2040..2047, 1..2047][seed as usize % 4].clone();
        let (mut found, mut expected) = (ExactSum::new(), ExactSum::new());
        for _ in 0..30 {
            let value = random.value(exponents.clone());
            let times = [0, 1, 2, 255, 256, 257, random.below(900)][random.below(7) as usize];
            found.add_times(value, times);
            (0..times).for_each(|_| expected.add(value));
            assert_eq!(found, expected, "seed {seed}: {times} times {value:e}");
        }
        assert_eq!(found.value().to_bits(), expected.value().to_bits());
    }
}
