//! How much there may be of an SQL expression: what compiles and evaluates it goes down into it by
//! recursion, so one that is nested without bound ends the stack.

use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Operators of an expression. Parentheses, functions and signs are bounded by the parser.
pub const OPERATORS_MAX: usize = 250;

/// How many operators there are in `sql`; none in what has no tokens, which the parser refuses.
pub fn operators(sql: &str) -> usize {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    tokens.iter().filter(|token| is_operator(token)).count()
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::BETWEEN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::AT
                | Keyword::COLLATE
                | Keyword::DIV
        ),
        Token::EOF
        | Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nests_counts() {
        assert_eq!(operators("x + y * 2 IS NOT NULL"), 4);
        assert_eq!(operators("x::double::int > 1 AND abs(x) BETWEEN 1 AND 2"), 6);
        assert_eq!(operators("k IN ('a', 'b', 'c')"), 1);
        assert_eq!(operators("CASE k WHEN 'a' THEN 1 WHEN 'b' THEN 2 ELSE 3 END"), 0);
        assert_eq!(operators("'no end"), 0);
    }
}
