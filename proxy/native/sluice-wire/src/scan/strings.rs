//! Quoted things. Every function takes the offset behind the opening quote and returns the one behind the closing quote, None when
//! there is none.

use super::{DIGIT, NAME_START, is, line_comment_end};

/// `'…'` and `U&'…'`: a doubled quote stands for one.
pub(super) fn quoted(sql: &[u8], at: usize) -> Option<usize> {
    run(sql, at, |at| {
        let quote = at + memchr::memchr(b'\'', sql.get(at..)?)?;
        Some(if sql.get(quote + 1) == Some(&b'\'') {
            Stop::Doubled(quote)
        } else {
            Stop::Quote(quote)
        })
    })
}

/// `E'…'`: a backslash hides the byte after it as well.
pub(super) fn escaped(sql: &[u8], at: usize) -> Option<usize> {
    run(sql, at, |at| {
        let stop = at + memchr::memchr2(b'\'', b'\\', sql.get(at..)?)?;
        Some(match (sql[stop], sql.get(stop + 1)) {
            (b'\\', _) | (_, Some(b'\'')) => Stop::Doubled(stop),
            _ => Stop::Quote(stop),
        })
    })
}

/// `B'…'` and `X'…'`: no way to write a quote.
pub(super) fn digits(sql: &[u8], at: usize) -> Option<usize> {
    run(sql, at, |at| {
        memchr::memchr(b'\'', sql.get(at..)?).map(|length| Stop::Quote(at + length))
    })
}

/// `"…"`, which can be neither empty nor continued.
pub(super) fn identifier(sql: &[u8], open: usize) -> Option<usize> {
    let mut at = open;
    loop {
        let quote = at + memchr::memchr(b'"', sql.get(at..)?)?;
        if sql.get(quote + 1) != Some(&b'"') {
            return (quote > open).then_some(quote + 1);
        }
        at = quote + 2;
    }
}

/// `$tag$…$tag$`; takes the offset of the first dollar sign.
pub(super) fn dollar(sql: &[u8], at: usize) -> Option<usize> {
    let mut behind = at + 1;
    if is(sql, behind, NAME_START) {
        while is(sql, behind, NAME_START | DIGIT) {
            behind += 1;
        }
    }
    if sql.get(behind) != Some(&b'$') {
        return None;
    }
    let delimiter = &sql[at..=behind];
    let body = behind + 1;
    memchr::memmem::find(&sql[body..], delimiter).map(|length| body + length + delimiter.len())
}

enum Stop {
    /// Two bytes that end nothing.
    Doubled(usize),
    /// A closing quote.
    Quote(usize),
}

fn run(sql: &[u8], mut at: usize, next: impl Fn(usize) -> Option<Stop>) -> Option<usize> {
    loop {
        match next(at)? {
            Stop::Doubled(stop) => at = stop + 2,
            Stop::Quote(quote) => match continuation(sql, quote + 1) {
                Some(inside) => at = inside,
                None => return Some(quote + 1),
            },
        }
    }
}

/// Behind the opening quote of the next part, when the string that closed at `at` goes on: white space and `--` comments with at least one
/// newline among them, then a quote.
fn continuation(sql: &[u8], mut at: usize) -> Option<usize> {
    let mut newline = false;
    loop {
        match sql.get(at)? {
            b' ' | b'\t' | 0x0c => at += 1,
            b'\n' | b'\r' => {
                newline = true;
                at += 1;
            }
            b'-' if sql.get(at + 1) == Some(&b'-') => at = line_comment_end(sql, at),
            b'\'' if newline => return Some(at + 1),
            _ => return None,
        }
    }
}
