//! What is done to the features of a row before trees see them, in single precision as ONNX Runtime
//! does it.

/// One step; it has a number for each feature, or one for all.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    Add(Vec<f32>),
    Subtract(Vec<f32>),
    Multiply(Vec<f32>),
    Divide(Vec<f32>),
    /// Puts numbers in the place of one, or of NaN.
    Replace {
        number: f32,
        by: Vec<f32>,
    },
}

/// The step for one feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BeforeOne {
    Add(f32),
    Subtract(f32),
    Multiply(f32),
    Divide(f32),
    Replace { number: f32, by: f32 },
}

impl Before {
    /// Of the features of a row, one after the other.
    ///
    /// # Errors
    /// If it has numbers for other features than these.
    pub fn of_each(&self, features: usize) -> Result<Vec<BeforeOne>, String> {
        let (make, numbers): (&dyn Fn(f32) -> BeforeOne, _) = match self {
            Before::Add(numbers) => (&BeforeOne::Add, numbers),
            Before::Subtract(numbers) => (&BeforeOne::Subtract, numbers),
            Before::Multiply(numbers) => (&BeforeOne::Multiply, numbers),
            Before::Divide(numbers) => (&BeforeOne::Divide, numbers),
            Before::Replace { number, by } => {
                (&|by| BeforeOne::Replace { number: *number, by }, by)
            }
        };
        match numbers[..] {
            [one] => Ok(vec![make(one); features]),
            _ if numbers.len() == features => Ok(numbers.iter().map(|one| make(*one)).collect()),
            _ => Err(format!("it prepares {} of {features} features", numbers.len())),
        }
    }
}

impl BeforeOne {
    #[inline]
    pub fn of(self, value: f32) -> f32 {
        match self {
            BeforeOne::Add(number) => value + number,
            BeforeOne::Subtract(number) => value - number,
            BeforeOne::Multiply(number) => value * number,
            BeforeOne::Divide(number) => value / number,
            BeforeOne::Replace { number, by } => {
                let is_it = value == number || value.is_nan() && number.is_nan();
                if is_it { by } else { value }
            }
        }
    }

    /// About the value that becomes this one.
    pub fn undone(self, value: f32) -> f32 {
        match self {
            BeforeOne::Add(number) => value - number,
            BeforeOne::Subtract(number) => value + number,
            BeforeOne::Multiply(number) => value / number,
            BeforeOne::Divide(number) => value * number,
            BeforeOne::Replace { .. } => value,
        }
    }
}
