//! What the tokens of an SQL expression tell before it is compiled: its names, and how much there is of
//! it. What compiles and evaluates it goes down into it by recursion, so one that is nested without
//! bound ends the stack.

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

/// Whether `sql` calls `log` with one argument, which is base 10.
pub fn takes_log_of_one(sql: &str) -> bool {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let tokens: Vec<&Token> =
        tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    let is_log = |pair: &[&Token]| {
        *pair[1] == Token::LParen
            && matches!(pair[0], Token::Word(word) if word.value.eq_ignore_ascii_case("log"))
    };
    let calls = tokens.windows(2).enumerate().filter(|(_, pair)| is_log(pair));
    calls.into_iter().any(|(at, _)| {
        let mut depth = 0;
        for token in &tokens[at + 1..] {
            match token {
                Token::LParen => depth += 1,
                Token::RParen => depth -= 1,
                Token::Comma if depth == 1 => return false,
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        true
    })
}

/// A column that `sql` names, whose name begins with `prefix`; members of objects may have any name.
pub fn column_with(sql: &str, prefix: &str) -> Option<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let mut behind_point = false;
    for token in tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))) {
        match token {
            Token::Word(word) if !behind_point && word.value.starts_with(prefix) => {
                return Some(word.value.clone());
            }
            _ => behind_point = *token == Token::Period,
        }
    }
    None
}

/// The names in `sql` that may be of columns: all words but those of functions.
pub fn identifiers(sql: &str) -> Vec<String> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let tokens: Vec<&Token> =
        tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect();
    let names = tokens.iter().enumerate().filter_map(|(at, token)| match token {
        Token::Word(word) if tokens.get(at + 1) != Some(&&Token::LParen) => {
            Some(word.value.clone())
        }
        _ => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_functions_and_texts() {
        let sql = "concat(CAST(user AS VARCHAR), 'item', \"the item\", a.b)";
        let names = identifiers(sql);
        for name in ["user", "the item", "a"] {
            assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
        }
        assert!(!names.iter().any(|name| name == "item" || name == "concat"), "{names:?}");
        assert!(identifiers("'no end").is_empty());
    }

    #[test]
    fn logarithms_of_one_argument_are_told() {
        for sql in ["log(x)", "1 + LOG (abs(x, 1))", "log(2, log(x))", "log(log(2, x))"] {
            assert!(takes_log_of_one(sql), "{sql}");
        }
        for sql in ["log(2, x)", "ln(x)", "log10(x)", "log", "'log(x)'", "log(f(1, 2), x)"] {
            assert!(!takes_log_of_one(sql), "{sql}");
        }
    }

    #[test]
    fn columns_are_found_by_how_they_begin() {
        let found = |sql| column_with(sql, "__");
        for sql in ["__x", "1 + __x", "\"__x\" IS NULL", "abs(__x)", "__x.a", "a.b + __x"] {
            assert_eq!(found(sql).as_deref(), Some("__x"), "{sql}");
        }
        for sql in ["x__", "_x", "'__x'", "payload['__x']", "payload.__x", "'no end"] {
            assert_eq!(found(sql), None, "{sql}");
        }
    }

    #[test]
    fn only_what_nests_counts() {
        assert_eq!(operators("x + y * 2 IS NOT NULL"), 4);
        assert_eq!(operators("x::double::int > 1 AND abs(x) BETWEEN 1 AND 2"), 6);
        assert_eq!(operators("k IN ('a', 'b', 'c')"), 1);
        assert_eq!(operators("CASE k WHEN 'a' THEN 1 WHEN 'b' THEN 2 ELSE 3 END"), 0);
        assert_eq!(operators("'no end"), 0);
    }
}
