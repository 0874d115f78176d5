//! Frames: one tag byte, a length that counts itself, a body.

use crate::error::FrameError;
use bytes::{BufMut, BytesMut};

/// Bytes before the body of every frame but a startup packet.
pub const HEADER_BYTES: usize = 5;

/// Tag and body length of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The frame's type.
    pub tag: u8,
    /// Length of the body in bytes, the length field not counted.
    pub body: usize,
}

impl Header {
    /// Bytes of the whole frame.
    #[must_use]
    pub fn frame_bytes(self) -> usize {
        HEADER_BYTES + self.body
    }
}

/// Read a header; `None` when fewer than five bytes are there.
///
/// # Errors
///
/// `FrameError::Length` when the declared length is below 4 or the frame is larger than `frame_bytes_max`.
pub fn header(buffer: &[u8], frame_bytes_max: usize) -> Result<Option<Header>, FrameError> {
    let Some(head) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let declared = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let body = usize::try_from(i64::from(declared) - 4).map_err(|_| FrameError::Length)?;
    if body > frame_bytes_max {
        return Err(FrameError::Length);
    }
    Ok(Some(Header { tag: head[0], body }))
}

/// Append a frame whose body is written by `body`.
pub fn put_frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_i32(0);
    body(out);
    let length = i32::try_from(out.len() - at).unwrap_or(i32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Append a string and its closing NUL. A NUL inside would end it early, so it is cut there.
pub fn put_cstr(out: &mut BytesMut, text: &[u8]) {
    let end = text
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(text.len());
    out.put_slice(&text[..end]);
    out.put_u8(0);
}

/// Split a NUL-terminated string off the front.
///
/// # Errors
///
/// `FrameError::Format` when there is no NUL.
pub fn take_cstr<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], FrameError> {
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(FrameError::Format)?;
    let text = &rest[..end];
    *rest = &rest[end + 1..];
    Ok(text)
}

/// Split a big-endian `i32` off the front.
///
/// # Errors
///
/// `FrameError::Short` when fewer than four bytes are there.
pub fn take_i32(rest: &mut &[u8]) -> Result<i32, FrameError> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(FrameError::Short)?;
    *rest = tail;
    Ok(i32::from_be_bytes(*head))
}

/// Split a big-endian `u32` off the front.
///
/// # Errors
///
/// `FrameError::Short` when fewer than four bytes are there.
pub fn take_u32(rest: &mut &[u8]) -> Result<u32, FrameError> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(FrameError::Short)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head))
}

/// Split a big-endian `u16` off the front.
///
/// # Errors
///
/// `FrameError::Short` when fewer than two bytes are there.
pub fn take_u16(rest: &mut &[u8]) -> Result<u16, FrameError> {
    let (head, tail) = rest.split_first_chunk::<2>().ok_or(FrameError::Short)?;
    *rest = tail;
    Ok(u16::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_below_four_or_above_the_bound_are_refused() {
        assert_eq!(header(b"Q\0\0\0\x03", 100), Err(FrameError::Length));
        assert_eq!(header(b"Q\xff\xff\xff\xff", 100), Err(FrameError::Length));
        assert_eq!(header(b"Q\0\0\0\xff", 100), Err(FrameError::Length));
        assert_eq!(header(b"Q\0\0\0", 100), Ok(None));
        assert_eq!(
            header(b"S\0\0\0\x04", 100),
            Ok(Some(Header { tag: b'S', body: 0 }))
        );
    }

    #[test]
    fn a_written_frame_reads_back() {
        let mut out = BytesMut::new();
        put_frame(&mut out, b'Q', |body| put_cstr(body, b"select 1"));
        let head = header(&out, 100).unwrap().unwrap();
        assert_eq!(head.frame_bytes(), out.len());
        let mut body = &out[HEADER_BYTES..];
        assert_eq!(take_cstr(&mut body), Ok(&b"select 1"[..]));
        assert!(body.is_empty());
    }
}
