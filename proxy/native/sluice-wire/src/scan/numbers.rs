//! Numbers and parameters. What PostgreSQL calls junk (`1a`, `0x`, `1__0`, `$1a`) is None.

use super::{DIGIT, NAME, NAME_START, TokenKind, is, skip};

/// The largest parameter number that the protocol can bind.
const PARAM_MAX: u32 = 65535;

/// `$1`; takes the offset of the dollar sign.
pub(super) fn param(sql: &[u8], at: usize) -> Option<(TokenKind, usize)> {
    let end = skip(sql, at + 1, DIGIT);
    if is(sql, end, NAME_START) {
        return None;
    }
    // PostgreSQL 15 wraps larger ones around, so that `$4294967297` is its `$1`.
    let fits = value(&sql[at + 1..end], 10).is_some_and(|number| number <= PARAM_MAX);
    fits.then_some((TokenKind::Param, end))
}

/// A number that starts at `at` with a digit, or with a dot and a digit.
pub(super) fn number(sql: &[u8], at: usize) -> Option<(TokenKind, usize)> {
    if sql[at] == b'0' {
        let radix = match sql.get(at + 1) {
            Some(b'x' | b'X') => 16,
            Some(b'o' | b'O') => 8,
            Some(b'b' | b'B') => 2,
            _ => 10,
        };
        if radix != 10 {
            return radix_integer(sql, at + 2, radix);
        }
    }
    decimal(sql, at)
}

fn radix_integer(sql: &[u8], at: usize, radix: u32) -> Option<(TokenKind, usize)> {
    let end = digits(sql, at, radix);
    if end == at || is(sql, end, NAME) {
        return None;
    }
    Some((integer_kind(&sql[at..end], radix), end))
}

fn decimal(sql: &[u8], at: usize) -> Option<(TokenKind, usize)> {
    let mut end = if sql[at] == b'.' {
        at
    } else {
        first_digits(sql, at)
    };
    let whole = end;
    if sql.get(end) == Some(&b'.') && (end == at || sql.get(end + 1) != Some(&b'.')) {
        end = first_digits(sql, end + 1);
    }
    if matches!(sql.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(sql.get(end + 1), Some(b'+' | b'-')));
        let exponent = first_digits(sql, end + 1 + sign);
        if exponent == end + 1 + sign {
            return None;
        }
        end = exponent;
    }
    if is(sql, end, junk_class(&sql[at..end])) {
        return None;
    }
    let kind = if end == whole {
        integer_kind(&sql[at..end], 10)
    } else {
        TokenKind::Float
    };
    Some((kind, end))
}

/// What may not follow this number. A dollar sign may, unless there are letters or underscores since the last dot or sign:
/// `1$1` is a number and a parameter, in `1_0$1` and `1e5$1` PostgreSQL takes the end for a name.
fn junk_class(number: &[u8]) -> u8 {
    let mut parts = number.rsplit(|byte| matches!(byte, b'.' | b'+' | b'-'));
    let last = parts.next().unwrap_or(number);
    let named = last.iter().any(|byte| !byte.is_ascii_digit());
    if named { NAME } else { NAME_START }
}

/// Digits with single underscores between them, none before the first.
fn first_digits(sql: &[u8], at: usize) -> usize {
    if is(sql, at, DIGIT) {
        digits(sql, at, 10)
    } else {
        at
    }
}

/// Digits, each with at most one underscore before it.
fn digits(sql: &[u8], mut at: usize, radix: u32) -> usize {
    let is_digit = |at: usize| {
        sql.get(at)
            .is_some_and(|&byte| char::from(byte).is_digit(radix))
    };
    loop {
        if is_digit(at) {
            at += 1;
        } else if sql.get(at) == Some(&b'_') && is_digit(at + 1) {
            at += 2;
        } else {
            return at;
        }
    }
}

/// What does not fit 32 bits is of another type to PostgreSQL.
fn integer_kind(digits: &[u8], radix: u32) -> TokenKind {
    match value(digits, radix) {
        Some(number) if i32::try_from(number).is_ok() => TokenKind::Integer,
        _ => TokenKind::Float,
    }
}

fn value(digits: &[u8], radix: u32) -> Option<u32> {
    let mut sum = 0u32;
    for digit in digits
        .iter()
        .filter_map(|&byte| char::from(byte).to_digit(radix))
    {
        sum = sum.checked_mul(radix)?.checked_add(digit)?;
    }
    Some(sum)
}
