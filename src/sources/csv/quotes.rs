//! Where a record of CSV ends: a line break within quotes is a part of it.

/// Whether quotes are open behind what was passed, as RFC 4180 has them: a quote opens at the beginning
/// of a field alone, and two of them within one are a quote of its text.
pub struct Quotes {
    delimiter: u8,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    FieldBegins,
    Plain,
    Quoted,
    /// Behind a quote in a quoted field: its end, or the first of two.
    Quote,
}

impl Quotes {
    pub fn new(delimiter: u8) -> Self {
        Quotes { delimiter, state: State::FieldBegins }
    }

    pub fn are_open(&self) -> bool {
        self.state == State::Quoted
    }

    /// A line with its end, if it has one.
    pub fn pass(&mut self, line: &[u8]) {
        if !self.are_open() && !line.contains(&b'"') {
            return;
        }
        for &byte in line {
            self.state = match (self.state, byte) {
                (State::FieldBegins | State::Quote, b'"') | (State::Quoted, 0..b'"' | b'#'..) => {
                    State::Quoted
                }
                (State::Quoted, b'"') => State::Quote,
                (_, b'\n') => State::FieldBegins,
                (_, byte) if byte == self.delimiter => State::FieldBegins,
                _ => State::Plain,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_open_at_the_beginning_of_a_field() {
        for (text, open) in [
            ("a,b", false),
            ("\"a", true),
            ("\"a,\n", true),
            ("\"a\"", false),
            ("\"a\"\"", true),
            ("\"\"\"", true),
            ("\"\"", false),
            ("\"a\"b\"", false),
            ("a\"b,c", false),
            ("a\",\"c", true),
            ("a, \"b", false),
        ] {
            let mut quotes = Quotes::new(b',');
            quotes.pass(text.as_bytes());
            assert_eq!(quotes.are_open(), open, "{text}");
        }
    }
}
