//! The scanner of PostgreSQL 15 to 18 (its `scan.l`), for `standard_conforming_strings` on and UTF-8 text.
//!
//! Where the majors read a text differently, or a text can be no statement at all, the rest is one `Invalid` token, so
//! that nothing is ever cut in places where the server would not cut. The one exception: `0x1F` and `1_000` are numbers
//! from 16 on and errors on 15. Servers before 15 read them as a number and an alias: they are not supported.

mod numbers;
mod strings;

/// What a token is. The numbers are those of [`TOKEN_KINDS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TokenKind {
    /// A bare word: keyword or name, in the spelling of the client.
    Ident,
    /// `"name"`.
    QuotedIdent,
    /// `U&"name"`; a UESCAPE that follows is a token of its own.
    UnicodeIdent,
    /// A whole number that fits 32 bits.
    Integer,
    /// Any other number.
    Float,
    /// `'text'`.
    String,
    /// `E'text'`.
    EscapeString,
    /// `U&'text'`.
    UnicodeString,
    /// The `N` of `N'text'`; a `String` follows, as in PostgreSQL's own scanner.
    NationalString,
    /// `B'01'`.
    BitString,
    /// `X'1f'`.
    HexString,
    /// `$$text$$` or `$tag$text$tag$`.
    DollarString,
    /// `$1`.
    Param,
    /// Anything made of operator characters.
    Operator,
    /// `, ( ) [ ] . ; : :: := ..`
    Punctuation,
    /// From here on the text cannot be scanned, or not with certainty. Always the last token.
    Invalid,
}

/// Names of the kinds, by number.
pub const TOKEN_KINDS: [&str; 16] = [
    "ident",
    "quoted_ident",
    "unicode_ident",
    "integer",
    "float",
    "string",
    "escape_string",
    "unicode_string",
    "national_string",
    "bit_string",
    "hex_string",
    "dollar_string",
    "param",
    "operator",
    "punctuation",
    "invalid",
];

impl TokenKind {
    /// Whether the token is a constant, whose text a template leaves out.
    #[must_use]
    pub const fn is_literal(self) -> bool {
        matches!(
            self,
            Self::Integer
                | Self::Float
                | Self::String
                | Self::EscapeString
                | Self::UnicodeString
                | Self::BitString
                | Self::HexString
                | Self::DollarString
        )
    }
}

/// One token; comments and white space are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: TokenKind,
    /// Byte offset of its first byte.
    pub start: u32,
    /// Byte offset behind its last byte.
    pub end: u32,
}

impl Token {
    /// The bytes of the token in the text that it was scanned from.
    #[must_use]
    pub fn text(self, sql: &[u8]) -> &[u8] {
        &sql[self.start as usize..self.end as usize]
    }
}

/// Replace the content of `tokens` by the tokens of `sql`.
///
/// A text of 4 GiB or more is one invalid token, whose end is then not its own.
pub fn scan(sql: &[u8], tokens: &mut Vec<Token>) {
    tokens.clear();
    let Ok(length) = u32::try_from(sql.len()) else {
        tokens.push(Token {
            kind: TokenKind::Invalid,
            start: 0,
            end: u32::MAX,
        });
        return;
    };
    let invalid = |start| Token {
        kind: TokenKind::Invalid,
        start: offset(start),
        end: length,
    };
    let mut at = 0;
    loop {
        at = skip(sql, at, SPACE);
        let Some(&byte) = sql.get(at) else { return };
        if matches!(byte, b'-' | b'/') {
            match comment_end(sql, at) {
                Comment::No => {}
                Comment::Closed(end) => {
                    at = end;
                    continue;
                }
                Comment::Open => return tokens.push(invalid(at)),
            }
        }
        let Some((kind, end)) = token_at(sql, at, byte) else {
            return tokens.push(invalid(at));
        };
        tokens.push(Token {
            kind,
            start: offset(at),
            end: offset(end),
        });
        at = end;
    }
}

#[allow(clippy::cast_possible_truncation)] // `scan` checked that the whole text fits.
const fn offset(at: usize) -> u32 {
    at as u32
}

const SPACE: u8 = 1;
const NAME_START: u8 = 2;
const NAME: u8 = 4;
const DIGIT: u8 = 8;
const OPERATOR: u8 = 16;
const SELF: u8 = 32;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0u8;
    loop {
        table[byte as usize] = match byte {
            // \v is space from 16 on, an error before: left out, hence invalid.
            b' ' | b'\t' | b'\n' | b'\r' | 0x0c => SPACE,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => NAME_START | NAME,
            b'0'..=b'9' => NAME | DIGIT,
            b'$' => NAME,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
            | b'/' | b'%' | b'<' | b'>' | b'=' => OPERATOR,
            b',' | b'(' | b')' | b'[' | b']' | b';' => SELF,
            _ => 0,
        };
        if byte == 0xff {
            return table;
        }
        byte += 1;
    }
}

/// Whether the byte at `at` is of one of the classes; no byte is of none.
fn is(sql: &[u8], at: usize, class: u8) -> bool {
    sql.get(at)
        .is_some_and(|&byte| CLASSES[byte as usize] & class != 0)
}

fn skip(sql: &[u8], at: usize, class: u8) -> usize {
    let outside = |byte: &u8| CLASSES[*byte as usize] & class == 0;
    let rest = sql.get(at..).unwrap_or_default();
    rest.iter()
        .position(outside)
        .map_or(sql.len(), |length| at + length)
}

/// The end of the `--` comment whose dashes are at `at`: its newline, or the end of the text.
fn line_comment_end(sql: &[u8], at: usize) -> usize {
    memchr::memchr2(b'\n', b'\r', &sql[at..]).map_or(sql.len(), |length| at + length)
}

enum Comment {
    No,
    /// It ends before this byte.
    Closed(usize),
    /// A block comment without an end.
    Open,
}

fn comment_end(sql: &[u8], at: usize) -> Comment {
    match sql.get(at..at + 2) {
        Some(b"--") => Comment::Closed(line_comment_end(sql, at)),
        Some(b"/*") => block_comment_end(sql, at).map_or(Comment::Open, Comment::Closed),
        _ => Comment::No,
    }
}

/// The end of the block comment that opens at `at`. Comments nest.
fn block_comment_end(sql: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        at += memchr::memchr2(b'/', b'*', sql.get(at..)?)?;
        match sql.get(at..at + 2)? {
            b"/*" => {
                depth += 1;
                at += 2;
            }
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => {
                depth -= 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
}

/// Kind and end of the token at `at`, which is neither white space nor a comment; None when there is none.
fn token_at(sql: &[u8], at: usize, byte: u8) -> Option<(TokenKind, usize)> {
    let class = CLASSES[byte as usize];
    if class & NAME_START != 0 {
        return word(sql, at);
    }
    if class & SELF != 0 {
        return Some((TokenKind::Punctuation, at + 1));
    }
    if class & DIGIT != 0 {
        return numbers::number(sql, at);
    }
    if class & OPERATOR != 0 {
        return operator(sql, at).map(|end| (TokenKind::Operator, end));
    }
    match byte {
        b'\'' => strings::quoted(sql, at + 1).map(|end| (TokenKind::String, end)),
        b'"' => strings::identifier(sql, at + 1).map(|end| (TokenKind::QuotedIdent, end)),
        b'$' if is(sql, at + 1, DIGIT) => numbers::param(sql, at),
        b'$' => strings::dollar(sql, at).map(|end| (TokenKind::DollarString, end)),
        b'.' if is(sql, at + 1, DIGIT) => numbers::number(sql, at),
        b'.' if sql.get(at + 1) == Some(&b'.') => Some((TokenKind::Punctuation, at + 2)),
        b':' if matches!(sql.get(at + 1), Some(b':' | b'=')) => {
            Some((TokenKind::Punctuation, at + 2))
        }
        b'.' | b':' => Some((TokenKind::Punctuation, at + 1)),
        _ => None,
    }
}

/// A name or keyword, or a constant that starts with a letter.
fn word(sql: &[u8], at: usize) -> Option<(TokenKind, usize)> {
    let next = sql.get(at + 1);
    if !matches!(next, Some(b'\'' | b'&')) {
        return Some((TokenKind::Ident, skip(sql, at + 1, NAME)));
    }
    match (sql[at], next) {
        (b'e' | b'E', Some(b'\'')) => {
            strings::escaped(sql, at + 2).map(|end| (TokenKind::EscapeString, end))
        }
        (b'b' | b'B', Some(b'\'')) => {
            strings::digits(sql, at + 2).map(|end| (TokenKind::BitString, end))
        }
        (b'x' | b'X', Some(b'\'')) => {
            strings::digits(sql, at + 2).map(|end| (TokenKind::HexString, end))
        }
        (b'n' | b'N', Some(b'\'')) => Some((TokenKind::NationalString, at + 1)),
        (b'u' | b'U', Some(b'&')) if sql.get(at + 2) == Some(&b'\'') => {
            strings::quoted(sql, at + 3).map(|end| (TokenKind::UnicodeString, end))
        }
        (b'u' | b'U', Some(b'&')) if sql.get(at + 2) == Some(&b'"') => {
            strings::identifier(sql, at + 3).map(|end| (TokenKind::UnicodeIdent, end))
        }
        _ => Some((TokenKind::Ident, skip(sql, at + 1, NAME))),
    }
}

/// PostgreSQL's NAMEDATALEN: operators of this length and more are errors.
const NAME_BYTES: usize = 64;

/// The end of the operator at `at`. A comment ends it; a `+` or `-` at its end is only its own when it has a character
/// that SQL's operators have not, so that `1=-1` is three tokens and a number.
fn operator(sql: &[u8], at: usize) -> Option<usize> {
    let run = &sql[at..skip(sql, at, OPERATOR)];
    let comment = run
        .windows(2)
        .position(|pair| pair == b"/*" || pair == b"--");
    let run = &run[..comment.unwrap_or(run.len())];
    let mut length = run.len();
    let own = |byte: &u8| {
        matches!(
            byte,
            b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'%'
        )
    };
    if !run[..length - 1].iter().any(own) {
        while length > 1 && matches!(run[length - 1], b'+' | b'-') {
            length -= 1;
        }
    }
    (length < NAME_BYTES).then_some(at + length)
}

#[cfg(test)]
mod tests;
