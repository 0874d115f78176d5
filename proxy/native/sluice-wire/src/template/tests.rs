use super::*;

const KEY: TemplateKey = TemplateKey(7, 9);

#[test]
fn literals_are_free_and_all_else_counts() {
    let mut scanner = Scanner::default();
    let hash = scanner.fingerprint(b"select 1, 'a' from t", KEY);
    assert_eq!(
        hash,
        scanner.fingerprint(b"select/**/22,'it''s'from t -- x", KEY)
    );
    for other in [
        &b"select 1, 'a' from T"[..],
        b"select 1., 'a' from t",
        b"select 1, E'a' from t",
    ] {
        assert_ne!(hash, scanner.fingerprint(other, KEY));
    }
    assert_ne!(
        hash,
        scanner.fingerprint(b"select 1, 'a' from t", TemplateKey(7, 8))
    );
}

#[test]
fn bound_literals_are_told_apart_by_position_and_length() {
    let mut scanner = Scanner::default();
    let mut bound = |sql: &[u8], positions: &[u32]| {
        scanner.scan(sql);
        scanner.bound_fingerprint(sql, positions, KEY)
    };
    let hash = bound(b"limit 1, 23", &[1, 3]);
    assert!(hash.is_some());
    assert_eq!(hash, bound(b"LIMIT  1 , 23", &[1, 3]));
    assert_ne!(hash, bound(b"limit 12, 3", &[1, 3]));
    assert_eq!(bound(b"limit 1, 2", &[1]), bound(b"limit 1, 3", &[1]));
    assert_eq!(bound(b"limit 1", &[2]), None);
}

#[test]
fn a_text_that_cannot_be_scanned_is_known() {
    let mut scanner = Scanner::default();
    for (sql, valid) in [(&b""[..], true), (b"select 1", true), (b"select '1", false)] {
        scanner.scan(sql);
        assert_eq!(scanner.is_valid(), valid);
    }
}

#[test]
fn the_key_is_not_printed() {
    assert_eq!(format!("{KEY:?}"), "TemplateKey(…)");
}
