//! Which windows hold all that there was to see of them.

use crate::watermark::Span;

/// Which event times (ms) a run looks at, and which there are beside those that it reads.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    /// What is scored: [from, to).
    pub scored: (i64, i64),
    /// Times of events that are there and may be passed over unread.
    pub known: Span,
}

impl Coverage {
    /// Everything that is read is scored, and nothing is there beside it.
    pub const ALL: Coverage = Coverage { scored: (i64::MIN, i64::MAX), known: Span::NONE };

    /// Whether the window [start, end) may hold less than it would have held: it reaches beyond what is
    /// scored, or the events, of which `seen` was read, begin after its first instant or end before its
    /// last one.
    pub fn is_partial(&self, (start, end): (i64, i64), seen: Span) -> bool {
        let (from, to) = self.scored;
        let there = seen.and(self.known);
        start < from || end > to || there.first > start || there.last < end.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: i64, last: i64) -> Span {
        Span { first, last }
    }

    #[test]
    fn a_window_is_whole_if_events_reach_from_its_first_instant_to_its_last() {
        let window = (10, 20);
        for (seen, is_partial) in [
            (span(10, 19), false),
            (span(11, 19), true),
            (span(10, 18), true),
            (span(-5, 70), false),
            (span(12, 15), true),
        ] {
            assert_eq!(Coverage::ALL.is_partial(window, seen), is_partial, "{seen:?}");
        }
    }

    #[test]
    fn what_is_passed_over_counts_and_what_is_not_scored_cuts() {
        let known = Coverage { scored: (10, 20), known: span(3, 44) };
        assert!(!known.is_partial((10, 20), span(12, 15)));
        let unknown = Coverage { known: Span::NONE, ..known };
        assert!(unknown.is_partial((10, 20), span(12, 15)));
        // That events reach further does not help a window that is cut.
        for window in [(9, 20), (10, 21), (0, 30)] {
            assert!(known.is_partial(window, span(-100, 100)), "{window:?}");
        }
    }
}
