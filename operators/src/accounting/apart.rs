//! Counters that workers do not take from one another.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

/// Something that shares no cache line with anything else: two lines, as processors fetch them in
/// pairs.
#[repr(align(128))]
#[derive(Default)]
pub struct Apart<T> {
    value: T,
}

impl<T> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Threads that count without meeting another.
const STRIPES: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static STRIPE: Cell<usize> = Cell::new(THREADS.fetch_add(1, Relaxed) % STRIPES);
}

/// A sum to which each thread adds in a place of its own.
#[derive(Default)]
pub struct Sum([Apart<AtomicI64>; STRIPES]);

impl Sum {
    pub fn add(&self, more: i64) {
        if more != 0 {
            self.0[STRIPE.get()].fetch_add(more, Relaxed);
        }
    }

    pub fn get(&self) -> i64 {
        self.0.iter().map(|stripe| stripe.load(Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_that_of_all_threads() {
        let sum = Sum::default();
        std::thread::scope(|scope| {
            for thread in 1..=2 * STRIPES as i64 {
                let sum = &sum;
                scope.spawn(move || (0..1_000).for_each(|at| sum.add(thread - at % 3)));
            }
        });
        let threads = 2 * STRIPES as i64;
        // Of 1,000 numbers 333 are one more than a multiple of 3, and 333 two more.
        assert_eq!(sum.get(), 1_000 * threads * (threads + 1) / 2 - threads * (333 + 2 * 333));
    }

    #[test]
    fn neighbours_are_apart() {
        let two = [Apart { value: 0u8 }, Apart { value: 1u8 }];
        let places = two.each_ref().map(|place| std::ptr::from_ref(place).addr());
        assert_eq!(places[1] - places[0], 128);
    }
}
