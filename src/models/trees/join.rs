//! Chains of branches that ask for one number after the other, as LightGBM's sets of categories are
//! exported: they become one branch that asks for a set.

use super::{Branch, Node, Test, Tree};

impl Tree {
    /// The tree with one branch for each chain; what followed the first of a chain may be left where
    /// nothing comes to.
    #[must_use]
    pub fn joined(mut self) -> Self {
        let mut is_joined = vec![false; self.nodes.len()];
        for at in 0..self.nodes.len() {
            while !is_joined[at]
                && let Some((joined, next)) = self.join(at).filter(|(_, next)| !is_joined[*next])
            {
                is_joined[next] = next != at;
                self.nodes[at] = Node::Branch(joined);
            }
        }
        self
    }

    /// The branch at a position and the next of its chain as one, and where the next is.
    fn join(&mut self, at: usize) -> Option<(Branch, usize)> {
        let Node::Branch(branch) = &self.nodes[at] else { return None };
        let next = branch.high;
        let Some(Node::Branch(second)) = self.nodes.get(next).filter(|_| next != at) else {
            return None;
        };
        let (Test::OneOf(numbers), Test::OneOf(more)) = (&branch.test, &second.test) else {
            return None;
        };
        if second.feature != branch.feature || second.low != branch.low {
            return None;
        }
        let test = Test::OneOf([&numbers[..], &more[..]].concat());
        let nan_goes_low = branch.nan_goes_low || second.nan_goes_low;
        Some((Branch { test, nan_goes_low, high: second.high, ..*branch }, next))
    }
}
