//! Messages of servers, read and written.

use crate::error::FrameError;
use crate::frame::{put_cstr, put_frame, take_cstr, take_i32, take_u16, take_u32};
use bytes::{BufMut, BytesMut};

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
    let pid = take_u32(&mut body)?;
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

/// The channel of a `NotificationResponse`.
///
/// # Errors
///
/// `FrameError` when it is cut.
pub fn notification_channel(mut body: &[u8]) -> Result<&[u8], FrameError> {
    take_i32(&mut body)?;
    take_cstr(&mut body)
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

    #[test]
    fn rows_with_nulls_are_read_and_short_ones_refused() {
        let body = b"\0\x02\0\0\0\x01a\xff\xff\xff\xff";
        assert_eq!(data_row(body), Ok(vec![Some(b"a".to_vec()), None]));
        assert!(data_row(&body[..6]).is_err());
    }
}
