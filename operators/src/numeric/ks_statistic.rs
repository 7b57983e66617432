//! The Kolmogorov–Smirnov statistic, as SciPy reports it with either method.

/// The Kolmogorov–Smirnov distance of two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KsStatistic {
    /// Size of the first sample, in values.
    pub n: u64,
    /// Size of the second sample, in values.
    pub m: u64,
    /// D in `f64`, bit-equal to `ks_2samp(..., method='asymp').statistic`.
    pub d: f64,
    /// D exactly, in units of 1/lcm(n, m).
    pub h: u64,
}

/// Which distribution a p-value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KsMethod {
    /// Over all interleavings of the two samples.
    Exact,
    /// The one-sample distribution at the effective size nm/(n+m).
    Asymptotic,
}

impl KsMethod {
    pub fn name(self) -> &'static str {
        match self {
            KsMethod::Exact => "exact",
            KsMethod::Asymptotic => "asymptotic",
        }
    }
}

impl KsStatistic {
    /// D as h/lcm(n, m), bit-equal to `ks_2samp(..., method='exact').statistic`.
    pub fn d_exact(&self) -> f64 {
        let lcm = self.n / greatest_common_divisor(self.n, self.m) * self.m;
        self.h as f64 / lcm as f64
    }

    /// D as SciPy reports it with `method`.
    pub fn reported(&self, method: KsMethod) -> f64 {
        match method {
            KsMethod::Exact => self.d_exact(),
            KsMethod::Asymptotic => self.d,
        }
    }
}

pub(super) fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
