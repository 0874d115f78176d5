//! Cleaning of the server's errors and notices, whose texts hold values, and the encoding of our own.

mod conditions;

use std::collections::{HashMap, HashSet};

pub use conditions::condition;

/// Tag of an `ErrorResponse`.
pub const ERROR: u8 = b'E';
/// Tag of a `NoticeResponse`.
pub const NOTICE: u8 = b'N';

const WITHHELD: &str = "the server's message is withheld";

/// Routines by which procedural languages raise what their code says: there the names of columns and constraints
/// are free text as well.
const RAISING_ROUTINES: [&[u8]; 3] = [b"exec_stmt_raise", b"PLy_output", b"do_util_elog"];

/// What may pass. Everything else of a message's text is replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubRules {
    /// Routines by SQLSTATE. An empty routine stands for any of the server's own, where the error speaks of the client's
    /// statement itself; `*` for any of them, where the text is always the same.
    keep_primary: HashMap<Box<[u8]>, HashSet<Box<[u8]>>>,
}

impl ScrubRules {
    /// Rules that let the primary message and the hint of these (SQLSTATE, routine) pairs pass.
    pub fn new<'a>(keep_primary: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut rules = Self::default();
        for (sqlstate, routine) in keep_primary {
            let routines = rules.keep_primary.entry(sqlstate.as_bytes().into());
            routines.or_default().insert(routine.as_bytes().into());
        }
        rules
    }

    /// Whether the text passes. An error that is `inside` came up in a function or trigger: what it names may have been put
    /// together there, of values.
    fn keeps(&self, sqlstate: &[u8], routine: &[u8], inside: bool) -> bool {
        let Some(known) = self.keep_primary.get(sqlstate) else {
            return false;
        };
        // "Any routine" means the server's own: what raises for a function says what that function wants.
        let any = !RAISING_ROUTINES.contains(&routine);
        known.contains(routine)
            || any && (known.contains(&b"*"[..]) || !inside && known.contains(&b""[..]))
    }
}

/// The fields of an `ErrorResponse` or `NoticeResponse`: code and value, in order. Ends at the terminator, or where
/// the body is malformed.
pub fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (&code, behind) = rest.split_first()?;
        if code == 0 {
            return None;
        }
        let end = memchr::memchr(0, behind)?;
        rest = &behind[end + 1..];
        Some((code, &behind[..end]))
    })
}

/// The value of one field of an error or notice.
#[must_use]
pub fn field(body: &[u8], code: u8) -> Option<&[u8]> {
    fields(body)
        .find(|&(found, _)| found == code)
        .map(|(_, value)| value)
}

/// Append the cleaned message, with tag and length, to `out`. Returns false when the client is to get none.
///
/// Stay: severity, SQLSTATE, file, line, routine, and the names of schema, table, column, type and constraint. The primary
/// message is replaced by the name of the condition, and the hint dropped, unless the rules list the error; the
/// position is translated by `position` (None drops it). DETAIL, CONTEXT and the internal query always go, notices
/// below NOTICE too.
pub fn scrub(
    tag: u8,
    body: &[u8],
    rules: &ScrubRules,
    position: impl Fn(u32) -> Option<u32>,
    out: &mut Vec<u8>,
) -> bool {
    let value = |code| field(body, code).unwrap_or_default();
    let severity = field(body, b'V').unwrap_or_else(|| value(b'S'));
    if tag == NOTICE && !matches!(severity, b"NOTICE" | b"WARNING") {
        return false;
    }
    let (sqlstate, routine) = (value(b'C'), value(b'R'));
    let inside = field(body, b'W').is_some() || field(body, b'q').is_some();
    let keep = rules.keeps(sqlstate, routine, inside);
    let raised = RAISING_ROUTINES.contains(&routine);
    message(tag, out, |out| {
        for (code, value) in fields(body) {
            let passes = match code {
                b'S' | b'V' | b'C' | b'F' | b'L' | b'R' => true,
                b'M' | b'H' => keep,
                b's' | b't' | b'c' | b'd' | b'n' => !raised,
                _ => false,
            };
            match code {
                _ if passes => push_field(out, code, value),
                b'M' => push_field(out, code, withheld(sqlstate).as_bytes()),
                b'P' => push_position(out, value, &position),
                _ => {}
            }
        }
    });
    true
}

/// Append the message with its position translated and all else as it was.
pub fn translate(tag: u8, body: &[u8], position: impl Fn(u32) -> Option<u32>, out: &mut Vec<u8>) {
    message(tag, out, |out| {
        for (code, value) in fields(body) {
            if code == b'P' {
                push_position(out, value, &position);
            } else {
                push_field(out, code, value);
            }
        }
    });
}

fn withheld(sqlstate: &[u8]) -> String {
    condition(sqlstate).map_or_else(
        || WITHHELD.to_owned(),
        |condition| format!("{condition} ({WITHHELD})"),
    )
}

fn push_position(out: &mut Vec<u8>, value: &[u8], position: impl Fn(u32) -> Option<u32>) {
    let sent = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse().ok());
    if let Some(translated) = sent.and_then(position) {
        push_field(out, b'P', translated.to_string().as_bytes());
    }
}

fn push_field(out: &mut Vec<u8>, code: u8, value: &[u8]) {
    out.push(code);
    out.extend(value.iter().filter(|&&byte| byte != 0));
    out.push(0);
}

/// Append a message: tag, length, what `body` writes, terminator.
fn message(tag: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    out.push(0);
    let length = u32::try_from(out.len() - length_at).unwrap_or(u32::MAX);
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

/// An error or notice of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFields {
    /// "ERROR", "FATAL", "NOTICE" or "WARNING": the last two become a `NoticeResponse`.
    pub severity: String,
    /// Five characters.
    pub sqlstate: String,
    /// The primary message: one line, lower case, without a full stop.
    pub message: String,
    /// Facts, as sentences.
    pub detail: Option<String>,
    /// Advice, as sentences.
    pub hint: Option<String>,
}

impl ErrorFields {
    /// An error without detail and hint.
    #[must_use]
    pub fn error(sqlstate: &str, message: impl Into<String>) -> Self {
        Self {
            severity: "ERROR".to_owned(),
            sqlstate: sqlstate.to_owned(),
            message: message.into(),
            detail: None,
            hint: None,
        }
    }

    /// The same, as the end of the session.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        "FATAL".clone_into(&mut self.severity);
        self
    }

    /// With a DETAIL.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// With a HINT.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Append the message, with tag and length, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let is_notice = matches!(self.severity.as_str(), "NOTICE" | "WARNING");
        message(if is_notice { NOTICE } else { ERROR }, out, |out| {
            push_field(out, b'S', self.severity.as_bytes());
            push_field(out, b'V', self.severity.as_bytes());
            push_field(out, b'C', self.sqlstate.as_bytes());
            push_field(out, b'M', self.message.as_bytes());
            if let Some(detail) = &self.detail {
                push_field(out, b'D', detail.as_bytes());
            }
            if let Some(hint) = &self.hint {
                push_field(out, b'H', hint.as_bytes());
            }
        });
    }
}

#[cfg(test)]
mod tests;
