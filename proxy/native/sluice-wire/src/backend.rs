//! Messages of servers, read and written.

use crate::error::FrameError;
use crate::frame::{put_cstr, put_frame, take_cstr, take_i32, take_u16};
use bytes::{BufMut, BytesMut};

/// Fields of an `ErrorResponse` or `NoticeResponse` that we write.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// `ERROR`, `FATAL`, `NOTICE` …
    pub severity: &'a str,
    /// Five characters.
    pub sqlstate: &'a str,
    /// One line.
    pub message: &'a str,
    /// What happened, in sentences.
    pub detail: Option<&'a str>,
    /// What to do.
    pub hint: Option<&'a str>,
}

/// Append an `ErrorResponse` (`E`) or `NoticeResponse` (`N`).
pub fn put_report(out: &mut BytesMut, tag: u8, report: Report<'_>) {
    put_frame(out, tag, |body| {
        let fields = [
            (b'S', Some(report.severity)),
            (b'V', Some(report.severity)),
            (b'C', Some(report.sqlstate)),
            (b'M', Some(report.message)),
            (b'D', report.detail),
            (b'H', report.hint),
        ];
        for (code, value) in fields {
            if let Some(value) = value {
                body.put_u8(code);
                put_cstr(body, value.as_bytes());
            }
        }
        body.put_u8(0);
    });
}

/// The fields of an `ErrorResponse` or `NoticeResponse` body, as (code, value).
pub fn report_fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (code, tail) = rest.split_first()?;
        if *code == 0 {
            return None;
        }
        rest = tail;
        Some((*code, take_cstr(&mut rest).ok()?))
    })
}

/// One field of an `ErrorResponse` body.
#[must_use]
pub fn report_field(body: &[u8], code: u8) -> Option<&[u8]> {
    report_fields(body)
        .find(|(found, _)| *found == code)
        .map(|(_, value)| value)
}

/// The mechanisms of an `AuthenticationSASL` (behind the code).
#[must_use]
pub fn sasl_mechanisms(mut body: &[u8]) -> Vec<&[u8]> {
    let mut mechanisms = Vec::new();
    while let Ok(name) = take_cstr(&mut body) {
        if name.is_empty() {
            break;
        }
        mechanisms.push(name);
    }
    mechanisms
}

/// Append an `AuthenticationSASL` that offers these mechanisms.
pub fn put_sasl(out: &mut BytesMut, mechanisms: &[&[u8]]) {
    put_frame(out, b'R', |body| {
        body.put_i32(10);
        for name in mechanisms {
            put_cstr(body, name);
        }
        body.put_u8(0);
    });
}

/// Process id and secret key of a `BackendKeyData`.
///
/// # Errors
///
/// `FrameError::Short` when the body is too short.
pub fn key_data(mut body: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    let pid = take_i32(&mut body)?.cast_unsigned();
    if body.len() < 4 {
        Err(FrameError::Short)
    } else {
        Ok((pid, body))
    }
}

/// Append a `BackendKeyData`.
pub fn put_key_data(out: &mut BytesMut, pid: u32, key: &[u8]) {
    put_frame(out, b'K', |body| {
        body.put_u32(pid);
        body.put_slice(key);
    });
}

/// Name and value of a `ParameterStatus`.
///
/// # Errors
///
/// `FrameError::Format` when a NUL is missing.
pub fn parameter_status(mut body: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    Ok((take_cstr(&mut body)?, take_cstr(&mut body)?))
}

/// The fields of a `DataRow`.
///
/// # Errors
///
/// `FrameError` when a field reaches behind the end.
pub fn data_row(mut body: &[u8]) -> Result<Vec<Option<Vec<u8>>>, FrameError> {
    let count = take_u16(&mut body)?;
    let mut row = Vec::with_capacity(usize::from(count).min(body.len() / 4));
    for _ in 0..count {
        let length = take_i32(&mut body)?;
        let Ok(length) = usize::try_from(length) else {
            row.push(None);
            continue;
        };
        let value = body.get(..length).ok_or(FrameError::Short)?;
        row.push(Some(value.to_vec()));
        body = &body[length..];
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HEADER_BYTES;

    #[test]
    fn reports_read_back() {
        let mut out = BytesMut::new();
        let report = Report {
            severity: "ERROR",
            sqlstate: "42501",
            message: "no",
            detail: None,
            hint: Some("ask"),
        };
        put_report(&mut out, b'E', report);
        let body = &out[HEADER_BYTES..];
        assert_eq!(report_field(body, b'C'), Some(&b"42501"[..]));
        assert_eq!(report_field(body, b'D'), None);
        assert_eq!(report_field(body, b'H'), Some(&b"ask"[..]));
    }

    #[test]
    fn rows_with_nulls_are_read_and_short_ones_refused() {
        let body = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff";
        assert_eq!(data_row(body), Ok(vec![Some(b"a".to_vec()), None]));
        assert!(data_row(&body[..6]).is_err());
    }
}
