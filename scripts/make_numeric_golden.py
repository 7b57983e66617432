#!/usr/bin/env python3
"""Writes the golden files of operators/src/numeric into operators/testdata/numeric (or the folder given).

Made with Python 3.11.7, numpy 2.4.6 and SciPy 1.17.0:
    pip install scipy==1.17.0 numpy==2.4.6 && scripts/make_numeric_golden.py
"""
import math
import random
import struct
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.stats import ks_2samp, kstwo
from scipy.stats._stats_py import _attempt_exact_2kssamp


def bits(value):
    """The 16 hex digits of a float64's bit pattern."""
    return struct.pack(">d", value).hex()


def write(path, header, lines):
    path.write_text("".join(f"{line}\n" for line in [f"# {header}", *lines]))
    print(f"{path}: {len(lines)} lines, {path.stat().st_size} bytes")


# --- exact_sum_golden.txt -------------------------------------------------------------------------


def exact_sum(values):
    """math.fsum, and beyond its range the correctly rounded sum."""
    try:
        return math.fsum(values)
    except OverflowError:
        total = sum(map(Fraction, values))
        try:
            return float(total)
        except OverflowError:
            return math.inf if total > 0 else -math.inf


def exact_sum_cases():
    rng = random.Random(20240601)
    tiny, largest = 5e-324, sys.float_info.max

    def wide(low, high):
        return rng.choice([-1, 1]) * rng.uniform(1, 10) * 10.0 ** rng.uniform(low, high)

    yield from ([], [0.0], [-0.0], [-0.0, -0.0], [0.0, -0.0], [0.1] * 10, [1e100, 1.0, -1e100])
    yield from ([tiny], [-tiny], [tiny, tiny], [tiny, -tiny], [2.0**-1022, -tiny], [2.0**-1022] * 3)
    yield from ([largest], [largest, largest], [-largest, -largest], [largest, largest, -largest])
    yield from ([largest, 2.0**970], [largest, 2.0**969], [largest, 2.0**970, -tiny], [-largest, -(2.0**970)])
    yield from ([2.0**1023, 2.0**1023], [2.0**1023, 2.0**1023, -tiny], [-(2.0**1023)] * 2 + [2.0**970, tiny])
    for exponent in (-1074, -1022, -600, -64, 0, 1, 63, 64, 500, 970):
        # Ties, and a hair to either side of them.
        one = 2.0**exponent if exponent >= -1022 else tiny * 2**53
        for base in (one, one * (1 + 2**-52), one * (2 - 2**-52)):
            half = math.ulp(base) / 2
            if half:
                yield from ([base, half], [-base, -half], [base, -half], [base, half, tiny], [base, half, -tiny])
                yield [base, half / 2, half / 2, one, -one]
    for _ in range(40):
        yield [float(rng.randint(-60, 1300)) for _ in range(rng.randint(1, 30))]
        yield [rng.randint(-60, 1300) * 0.1 for _ in range(rng.randint(1, 30))]
        yield [wide(-300, 300) for _ in range(rng.randint(1, 30))]
        yield [wide(-5, 5) for _ in range(rng.randint(1, 30))]
        yield [wide(-323, -300) for _ in range(rng.randint(1, 15))]
        yield [wide(300, 307) for _ in range(rng.randint(1, 15))]
        yield [rng.choice([-1, 1]) * rng.randint(1, 1000) * tiny for _ in range(rng.randint(1, 15))]
        # Nearly all of it cancels.
        values = [wide(-300, 300) for _ in range(rng.randint(1, 10))]
        mixed = values + [-value for value in values] + [wide(-300, -280)]
        rng.shuffle(mixed)
        yield mixed
        # Random signs and bit patterns of the whole range.
        yield [struct.unpack(">d", rng.randbytes(8))[0] for _ in range(rng.randint(1, 20))]


def write_exact_sum(folder):
    cases = [case for case in exact_sum_cases() if all(map(math.isfinite, case))]
    lines = [" ".join(map(bits, [exact_sum(case), *case])) for case in cases]
    header = "Bit patterns of float64: math.fsum of the numbers that follow (their correctly rounded sum on overflow)."
    write(folder / "exact_sum_golden.txt", header, lines)


# --- kolmogorov_golden.txt ------------------------------------------------------------------------


def neighbours(x):
    """x, the two float64 next to it, and two a little further off."""
    return [x, math.nextafter(x, 0), math.nextafter(x, 2), x * (1 - 1e-6), x * (1 + 1e-6)]


def kolmogorov_points():
    """(d, n) over the whole range, and on both sides of every cut between SciPy's formulas."""
    rng = random.Random(20240602)
    sizes = [1, 2, 3, 4, 5, 7, 10, 16, 25, 40, 70, 100, 139, 140, 141, 150, 200, 365, 500, 1000, 2000, 5000, 10_000]
    large = [30_000, 99_999, 100_000, 100_001, 300_000, 999_999, 1_000_000, 1_000_001, 1_500_000, 2_000_000]
    for n in sizes + large:
        for step in (0.5, 1.0, n - 1.0):
            yield from ((d, n) for d in neighbours(step / n))
        yield from ((d, n) for d in neighbours(0.5) if n <= 1000 or d >= 0.5)
        for n_d_squared in (0.754693, 4.0) if n <= 140 else (2.2, 18.0, 370.0):
            is_slow = 2.2 < n_d_squared < 370 and 50_000 < n <= 1_000_000
            if not is_slow:
                yield from ((d, n) for d in neighbours(math.sqrt(n_d_squared / n)))
        # The power 1.5 may round differently elsewhere: not nearer to the cut than this.
        yield from ((((1.4 / n) ** (2 / 3)) * (1 + off), n) for off in (-1e-6, -1e-12, 1e-12, 1e-6))
        for z_squared in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0):
            yield math.sqrt(z_squared / n), n
    for n in [n for n in sizes if n > 100] + [1_000_001, 2_000_000]:
        for n_d_squared in (2.3, 3, 4, 6, 10, 20, 50, 100, 200, 300, 330, 333, 340, 350, 369):
            yield math.sqrt(n_d_squared / n), n
    for n in (30_000, 100_000, 300_000, 1_000_000):
        # SciPy needs about a second for each of these.
        for n_d_squared in (2.21, 3, 8, 30, 330):
            yield math.sqrt(n_d_squared / n), n
    for _ in range(500):
        n = int(math.exp(rng.uniform(0, math.log(141))))
        yield rng.random(), n
        yield math.sqrt(rng.uniform(0, 8) / n), n
        yield rng.randint(1, 2 * n) / (2 * n), n
    for _ in range(500):
        n = int(math.exp(rng.uniform(math.log(141), math.log(20_000))))
        yield math.sqrt(rng.uniform(0, 3) / n), n
        yield math.exp(rng.uniform(math.log(0.4 / n), 0)), n


def write_kolmogorov(folder):
    points = dict.fromkeys((float(d), n) for d, n in kolmogorov_points() if 0 < d < 1)
    lines = [f"{bits(d)} {n} {bits(kstwo.sf(d, n))}" for d, n in points]
    header = "scipy.stats.kstwo.sf: bit pattern of d, n, bit pattern of the result."
    write(folder / "kolmogorov_golden.txt", header, lines)


# --- ks_exact_golden.txt --------------------------------------------------------------------------


def path_count_p_value(h, n, m):
    """The same p-value in whole numbers, for where SciPy gives up."""
    gap, row = h * math.gcd(n, m), [0] * (m + 1)
    for i in range(n + 1):
        for j in range(m + 1):
            paths = 1 if i == j == 0 else (row[j] if i else 0) + (row[j - 1] if j else 0)
            row[j] = paths if abs(i * m - j * n) < gap else 0
    return float(1 - Fraction(row[m], math.comb(n + m, n)))


def exact_p_value(h, n, m):
    gcd = math.gcd(n, m)
    is_success, _, p_value = _attempt_exact_2kssamp(n, m, gcd, h / (n // gcd * m), "two-sided")
    return float(p_value) if is_success else path_count_p_value(h, n, m)


def exact_cases():
    rng = random.Random(20240603)
    for n in range(1, 13):
        for m in range(1, 13):
            yield from ((h, n, m) for h in range(math.lcm(n, m) + 1) if n <= m or h % 5 == 0)
    pairs = [(rng.randint(2, 1000), rng.randint(2, 1000)) for _ in range(150)]
    pairs += [(n, n) for n in (13, 20, 50, 170, 365, 1000, 4999, 10_000)]
    pairs += [(10_000, 9_973), (10_000, 9_999), (9_000, 431), (10_000, 50), (10_000, 5_000), (10_000, 1)]
    for n, m in pairs:
        for scaled in (0.01, 0.3, 1.0, 4.0, 25.0, 120.0):
            d = math.sqrt(scaled * (n + m) / (n * m))
            if d <= 1:
                yield int(d * math.lcm(n, m)), n, m


def write_exact(folder):
    lines = [f"{h} {n} {m} {bits(exact_p_value(h, n, m))}" for h, n, m in exact_cases()]
    header = "scipy.stats.ks_2samp, exact: D as a multiple of 1/lcm(n, m), n, m, bit pattern of the p-value."
    write(folder / "ks_exact_golden.txt", header, lines)


# --- ks_2samp_golden.txt --------------------------------------------------------------------------


def sample_pairs():
    """Pairs of samples as {value: count}: tiny, with ties, equal and unequal sizes, beyond the exact rule."""
    rng = random.Random(20240604)

    def sample(size, values, shift=0):
        counts = {}
        for _ in range(size):
            value = rng.randrange(values) + shift
            counts[value / 10] = counts.get(value / 10, 0) + 1
        return counts

    for _ in range(150):
        values = rng.choice([2, 5, 1000])
        yield sample(rng.randint(1, 12), values), sample(rng.randint(1, 12), values, rng.choice([0, 0, 1, 3]))
    for _ in range(120):
        n, values = rng.randint(13, 120), rng.choice([10, 30, 1000])
        m = n if rng.random() < 0.3 else rng.randint(13, 120)
        yield sample(n, values), sample(m, values, rng.choice([0, 0, 2, values // 3, values]))
    for _ in range(60):
        # Large samples of few distinct values.
        n, m = rng.randint(100, 9_000), rng.randint(100, 9_000)
        yield sample(n, 12), sample(m, 12, rng.choice([0, 0, 1]))
    for _ in range(40):
        n, m = rng.randint(10_001, 60_000), rng.randint(10, 60_000)
        yield sample(n, 15), sample(m, 15, rng.choice([0, 0, 0, 1]))
    yield {1.0: 10_000}, {1.0: 9_999, 2.0: 1}
    yield {1.0: 10_000, 2.0: 1}, {1.0: 9_999, 2.0: 2}
    for size in (1, 2, 9, 60, 500, 10_500):
        # Infinities are values like others.
        ends = {-math.inf: rng.randint(1, size), math.inf: rng.randint(1, size)}
        yield sample(size, 20) | ends, sample(size, 20)
        yield sample(size, 20), {math.inf: size}
        yield sample(size, 20) | ends, sample(2 * size, 20) | {math.inf: size}


def runs(sample):
    return ",".join(f"{value}:{sample[value]}" for value in sorted(sample))


def two_sample_line(a, b):
    x, y = (np.repeat(list(sample), list(sample.values())) for sample in (a, b))
    asymptotic = ks_2samp(x, y, method="asymp")
    fields = [bits(asymptotic.statistic), bits(asymptotic.pvalue)]
    if max(len(x), len(y)) > 10_000:
        assert ks_2samp(x, y).pvalue == asymptotic.pvalue or np.isnan(asymptotic.pvalue)
        fields += ["-", "-"]
    else:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            exact = ks_2samp(x, y)
        h = round(float(exact.statistic) * math.lcm(len(x), len(y)))
        # SciPy warns where its exact sum exceeds 1 and it returns the asymptotic p-value.
        p_value = path_count_p_value(h, len(x), len(y)) if warned else exact.pvalue
        fields += [bits(exact.statistic), bits(p_value)]
    return " ".join([*fields, runs(a), runs(b)])


def write_two_sample(folder):
    header = (
        "scipy.stats.ks_2samp: bit patterns of statistic and p-value with method='asymp', of both with method='auto' "
        "where that is exact, then both samples as value:count."
    )
    write(folder / "ks_2samp_golden.txt", header, [two_sample_line(a, b) for a, b in sample_pairs()])


# --- ks_scipy_fails.txt ---------------------------------------------------------------------------


def reflection_p_value(h, n):
    """P(D >= h/n) for two samples of n values in whole numbers (Gnedenko and Korolyuk 1951)."""
    terms = ((-1) ** (k - 1) * math.comb(2 * n, n - k * h) for k in range(1, n // h + 1))
    return float(Fraction(2 * sum(terms), math.comb(2 * n, n)))


def scipy_failures():
    """Where SciPy's exact sum exceeds 1 by rounding, so that it warns and returns the asymptotic p-value."""
    for n in [*range(1, 1001), 2000, 3000, 5000, 7000, 10_000]:
        for h in range(1, n + 1):
            is_success, _, p_value = _attempt_exact_2kssamp(n, n, n, h / n, "two-sided")
            if not is_success:
                yield h, n
            elif p_value < 1 - 1e-9:
                break


def write_scipy_failures(folder):
    for n in range(1, 40):
        assert all(reflection_p_value(h, n) == path_count_p_value(h, n, n) for h in range(1, n + 1)), n
    lines = [f"{h} {n} {bits(reflection_p_value(h, n))}" for h, n in scipy_failures()]
    header = (
        "Where SciPy's exact method fails (ks_2samp warns): D as a multiple of 1/n and the size n of both samples, all of "
        "n up to 1,000 and some larger, then the bit pattern of the p-value in whole numbers."
    )
    write(folder / "ks_scipy_fails.txt", header, lines)


# --- ks_missing_golden.txt ------------------------------------------------------------------------


def with_missing(rng, size, values, shift):
    """Values in no order, some of them null (None), some NaN."""

    def value():
        draw = rng.random()
        return None if draw < 0.1 else math.nan if draw < 0.2 else (rng.randrange(values) + shift) / 4

    return [value() for _ in range(size)]


def missing_cases():
    rng = random.Random(20240605)
    for size in (1, 2, 5, 30, 200):
        for _ in range(6):
            values, other = rng.choice([2, 10, 1000]), rng.randint(1, 2 * size)
            yield with_missing(rng, size, values, 0), with_missing(rng, other, values, rng.choice([0, 1, values // 3]))
    yield [None, math.nan], [1.0]
    yield [-0.0, math.nan, 0.0, None], [0.0, math.inf, -math.inf]


def missing_line(current, reference):
    """ks_2samp without what is missing: method='auto', NaN left out, and null before that."""
    x, y = ([value for value in sample if value is not None] for sample in (current, reference))
    known = [sum(not math.isnan(value) for value in sample) for sample in (x, y)]
    fields = ["-", "-"]
    if all(known):
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            result = ks_2samp(x, y, nan_policy="omit")
        fields = [bits(result.statistic), bits(result.pvalue)]
    texts = [",".join("null" if value is None else str(value) for value in sample) for sample in (current, reference)]
    return " ".join([*fields, *texts])


def write_missing(folder):
    lines = []
    for current, reference in missing_cases():
        try:
            lines.append(missing_line(current, reference))
        except RuntimeWarning:
            continue  # Equal sizes a step apart: see ks_scipy_fails.txt.
    header = "scipy.stats.ks_2samp, nan_policy='omit': bit patterns of statistic and p-value, then both samples."
    write(folder / "ks_missing_golden.txt", header, lines)


def main():
    default = Path(__file__).resolve().parent.parent / "operators" / "testdata" / "numeric"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    write_exact_sum(folder)
    write_kolmogorov(folder)
    write_exact(folder)
    write_two_sample(folder)
    write_scipy_failures(folder)
    write_missing(folder)


if __name__ == "__main__":
    main()
