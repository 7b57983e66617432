//! From the sums of a row to the columns of its prediction.

/// What is done to the sums; the arithmetic is that of ONNX Runtime, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    None,
    /// 1 / (1 + e^-s) of each sum.
    Logistic,
    /// e^s of each sum, divided by their total.
    Softmax,
}

/// What the columns of a prediction are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// The sums.
    Sums,
    /// Of one sum s: 1 − s and s.
    Complement,
    /// Of one sum s: −s and s, each through the link.
    Opposites,
}

impl Columns {
    /// How many there are for so many sums.
    pub fn count(self, sums: usize) -> usize {
        match self {
            Columns::Sums => sums,
            Columns::Complement | Columns::Opposites => 2,
        }
    }

    /// Adds the columns of a row to `answer`.
    pub fn write(self, link: Link, sums: &[f32], answer: &mut Vec<f32>) {
        let first = answer.len();
        match (self, sums) {
            (Columns::Complement, [sum]) => answer.extend([1.0 - sum, *sum]),
            (Columns::Opposites, [sum]) => answer.extend([-sum, *sum]),
            _ => answer.extend_from_slice(sums),
        }
        link.apply(&mut answer[first..]);
    }
}

impl Link {
    fn apply(self, row: &mut [f32]) {
        match self {
            Link::None => {}
            Link::Logistic => row.iter_mut().for_each(|value| *value = logistic(*value)),
            Link::Softmax => softmax(row),
        }
    }
}

/// Of a large negative number the exponential would be infinite: hence its absolute value.
fn logistic(value: f32) -> f32 {
    let upper = 1.0 / (1.0 + (-value.abs()).exp());
    if value < 0.0 { 1.0 - upper } else { upper }
}

fn softmax(row: &mut [f32]) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for value in row.iter_mut() {
        *value = (*value - largest).exp();
        total += *value;
    }
    row.iter_mut().for_each(|value| *value /= total);
}
