use super::*;

fn scanned(sql: &str) -> Vec<(TokenKind, &str)> {
    let mut tokens = Vec::new();
    scan(sql.as_bytes(), &mut tokens);
    let pair = |token: &Token| (token.kind, &sql[token.start as usize..token.end as usize]);
    tokens.iter().map(pair).collect()
}

#[test]
fn every_kind_is_told_by_its_number() {
    let sql = "a \"b\" U&\"c\" 1 1.5 'd' E'e' U&'f' N'g' B'0' X'1' $$h$$ $1 + , \\";
    let kinds: Vec<usize> = scanned(sql)
        .iter()
        .map(|(kind, _)| *kind as usize)
        .collect();
    // The text of N'g' is a token of its own.
    assert_eq!(
        kinds,
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 5, 9, 10, 11, 12, 13, 14, 15]
    );
    assert_eq!(TOKEN_KINDS.len(), TokenKind::Invalid as usize + 1);
}

#[test]
fn a_string_goes_on_behind_a_newline() {
    for sql in ["'a'\n'b'", "'a' -- c\n\t'b'", "'a'\r\n--'\n'b'"] {
        assert_eq!(scanned(sql), [(TokenKind::String, sql)]);
    }
    for sql in [
        "'a' 'b'",
        "'a' /*\n*/ 'b'",
        "'a'\n/**/'b'",
        "$$a$$\n'b'",
        "B'1''1'",
    ] {
        assert_eq!(scanned(sql).len(), 2, "{sql}");
    }
}

#[test]
fn operators_end_as_in_postgresql() {
    for (sql, expected) in [
        ("a<-1", &["a", "<", "-", "1"][..]),
        ("a@-1", &["a", "@-", "1"]),
        ("+-", &["+", "-"]),
        ("*/*c*/", &["*"]),
        ("~--x", &["~"]),
        ("<=-", &["<=", "-"]),
        ("||/**/", &["||"]),
    ] {
        let texts: Vec<&str> = scanned(sql).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, expected, "{sql}");
    }
}

#[test]
fn what_cannot_be_scanned_is_one_token_to_the_end() {
    for sql in [
        "'a", "\"a", "\"\"", "/* /* */", "1a", "$1a", "$a$ b", "$65536", "\u{b}", "\0", "0x",
    ] {
        let text = format!("a {sql} b, c");
        let tokens = scanned(&text);
        assert_eq!(tokens.len(), 2, "{sql:?}");
        assert_eq!(tokens[1], (TokenKind::Invalid, &text[2..]), "{sql:?}");
    }
}

#[test]
fn any_bytes_can_be_scanned() {
    // A small generator of bytes that matter to the scanner; tokens must be in order, whole and inside the text.
    let alphabet = b"a'\"$\\/*-+1.e0x_&UEN \n(;:\xc3\xff\0";
    let mut state = 1u64;
    let mut tokens = Vec::new();
    for _ in 0..20_000 {
        let mut sql = Vec::new();
        for _ in 0..16 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            sql.push(alphabet[(state >> 33) as usize % alphabet.len()]);
        }
        scan(&sql, &mut tokens);
        let mut at = 0;
        for token in &tokens {
            assert!(token.start >= at && token.end > token.start, "{sql:?}");
            at = token.end;
        }
        assert!(at as usize <= sql.len());
    }
}
