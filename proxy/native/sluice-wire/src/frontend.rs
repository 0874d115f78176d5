//! Messages of clients, read and written.

use crate::error::FrameError;
use crate::frame::{put_cstr, put_frame, take_cstr, take_i32, take_u16, take_u32};
use bytes::{BufMut, BytesMut};

/// Request code of an `SSLRequest`.
pub const SSL_REQUEST: u32 = 80_877_103;
/// Request code of a `GSSENCRequest`.
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// Request code of a `CancelRequest`.
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
pub const STARTUP_BYTES_MAX: usize = 10_000;
/// PostgreSQL's `PQ_SMALL_MESSAGE_LIMIT`, for messages that are never large.
pub const SMALL_BYTES_MAX: usize = 10_000;
/// PostgreSQL cuts identifiers here (`NAMEDATALEN - 1`).
pub const NAME_BYTES_MAX: usize = 63;

/// Name and value.
pub type Parameter = (Vec<u8>, Vec<u8>);

/// Read the parameters of a startup packet (behind the version).
///
/// # Errors
///
/// `FrameError::StartupLayout` when the list does not end in an empty name as its last byte.
pub fn startup_parameters(mut body: &[u8]) -> Result<Vec<Parameter>, FrameError> {
    let mut parameters = Vec::new();
    loop {
        let name = take_cstr(&mut body).map_err(|_| FrameError::StartupLayout)?;
        if name.is_empty() {
            break;
        }
        let value = take_cstr(&mut body).map_err(|_| FrameError::StartupLayout)?;
        parameters.push((name.to_vec(), value.to_vec()));
    }
    if body.is_empty() {
        Ok(parameters)
    } else {
        Err(FrameError::StartupLayout)
    }
}

/// Append a startup packet.
pub fn put_startup(out: &mut BytesMut, version: u32, parameters: &[(String, String)]) {
    let at = out.len();
    out.put_i32(0);
    out.put_u32(version);
    for (name, value) in parameters {
        put_cstr(out, name.as_bytes());
        put_cstr(out, value.as_bytes());
    }
    out.put_u8(0);
    let length = i32::try_from(out.len() - at).unwrap_or(i32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Append a cancel request.
pub fn put_cancel(out: &mut BytesMut, pid: u32, key: &[u8]) {
    out.put_u32(u32::try_from(12 + key.len()).unwrap_or(u32::MAX));
    out.put_u32(CANCEL_REQUEST);
    out.put_u32(pid);
    out.put_slice(key);
}

/// The text of a `Query`.
///
/// # Errors
///
/// `FrameError::Format` when the first NUL is not the body's last byte.
pub fn query(mut body: &[u8]) -> Result<&[u8], FrameError> {
    let text = take_cstr(&mut body)?;
    if body.is_empty() {
        Ok(text)
    } else {
        Err(FrameError::Format)
    }
}

/// A `Parse` message.
#[derive(Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the statement as sent; empty is the unnamed one.
    pub name: &'a [u8],
    /// The statement.
    pub text: &'a [u8],
    /// Types of parameters; 0 is unspecified.
    pub types: Vec<u32>,
}

/// Read a `Parse`.
///
/// # Errors
///
/// `FrameError` when fields are missing or bytes are left over.
pub fn parse(mut body: &[u8]) -> Result<Parse<'_>, FrameError> {
    let name = take_cstr(&mut body)?;
    let text = take_cstr(&mut body)?;
    let count = take_u16(&mut body)?;
    let mut types = Vec::with_capacity(usize::from(count).min(body.len() / 4));
    for _ in 0..count {
        types.push(take_u32(&mut body)?);
    }
    if body.is_empty() {
        Ok(Parse { name, text, types })
    } else {
        Err(FrameError::Format)
    }
}

/// Portal and statement of a `Bind`, from a prefix of its body; `None` when more bytes are needed.
#[must_use]
pub fn bind_names(mut prefix: &[u8]) -> Option<(&[u8], &[u8])> {
    let portal = take_cstr(&mut prefix).ok()?;
    let statement = take_cstr(&mut prefix).ok()?;
    Some((portal, statement))
}

/// Kind (`S` or `P`) and name of a `Describe` or `Close`.
///
/// # Errors
///
/// `FrameError` when fields are missing or bytes are left over.
pub fn target(body: &[u8]) -> Result<(u8, &[u8]), FrameError> {
    let (kind, mut rest) = body.split_first().ok_or(FrameError::Short)?;
    let name = take_cstr(&mut rest)?;
    if rest.is_empty() {
        Ok((*kind, name))
    } else {
        Err(FrameError::Format)
    }
}

/// The portal of an `Execute`.
///
/// # Errors
///
/// `FrameError` when fields are missing or bytes are left over.
pub fn execute(mut body: &[u8]) -> Result<&[u8], FrameError> {
    let portal = take_cstr(&mut body)?;
    take_i32(&mut body)?;
    if body.is_empty() {
        Ok(portal)
    } else {
        Err(FrameError::Format)
    }
}

/// The name as PostgreSQL files it: cut at 63 bytes.
#[must_use]
pub fn filed_name(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_BYTES_MAX)]
}

/// Append a `Query`.
pub fn put_query(out: &mut BytesMut, text: &[u8]) {
    put_frame(out, b'Q', |body| put_cstr(body, text));
}

/// Append a `Parse`.
pub fn put_parse(out: &mut BytesMut, name: &[u8], text: &[u8], types: &[u32]) {
    put_frame(out, b'P', |body| {
        put_cstr(body, name);
        put_cstr(body, text);
        body.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        for oid in types.iter().take(usize::from(u16::MAX)) {
            body.put_u32(*oid);
        }
    });
}

/// Append a `Bind` without parameters, all results as text.
pub fn put_bind_plain(out: &mut BytesMut, portal: &[u8], statement: &[u8]) {
    put_frame(out, b'B', |body| {
        put_cstr(body, portal);
        put_cstr(body, statement);
        body.put_slice(&[0; 6]);
    });
}

/// Append an `Execute` of at most `rows` rows; 0 is all.
pub fn put_execute(out: &mut BytesMut, portal: &[u8], rows: i32) {
    put_frame(out, b'E', |body| {
        put_cstr(body, portal);
        body.put_i32(rows);
    });
}

/// Append a `Close` of a statement (`S`) or portal (`P`).
pub fn put_close(out: &mut BytesMut, kind: u8, name: &[u8]) {
    put_frame(out, b'C', |body| {
        body.put_u8(kind);
        put_cstr(body, name);
    });
}

/// Append a `CopyFail` of a client that sent something else than data.
pub fn put_copy_fail(out: &mut BytesMut) {
    put_frame(out, b'f', |body| {
        put_cstr(body, b"unexpected message during COPY from stdin");
    });
}

/// Append a message without a body: `S` Sync, `H` Flush, `X` Terminate.
pub fn put_bare(out: &mut BytesMut, tag: u8) {
    put_frame(out, tag, |_| {});
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HEADER_BYTES;

    #[test]
    fn startup_lists_must_end_in_a_terminator() {
        assert_eq!(startup_parameters(b"user\0a\0\0").unwrap().len(), 1);
        assert!(startup_parameters(b"user\0a\0").is_err());
        assert!(startup_parameters(b"user\0a\0\0x").is_err());
        assert!(startup_parameters(b"user").is_err());
    }

    #[test]
    fn a_nul_inside_a_query_is_refused() {
        assert_eq!(query(b"select 1\0"), Ok(&b"select 1"[..]));
        assert!(query(b"select 1\0; drop table t\0").is_err());
        assert!(query(b"select 1").is_err());
    }

    #[test]
    fn parse_reads_what_was_written() {
        let mut out = BytesMut::new();
        put_parse(&mut out, b"s1", b"select $1", &[23]);
        let read = parse(&out[HEADER_BYTES..]).unwrap();
        assert_eq!(
            (read.name, read.text, &read.types[..]),
            (&b"s1"[..], &b"select $1"[..], &[23][..])
        );
        assert!(parse(&out[HEADER_BYTES..out.len() - 1]).is_err());
    }

    #[test]
    fn names_are_cut_where_postgresql_cuts_them() {
        assert_eq!(filed_name(&[b'a'; 70]).len(), 63);
        assert_eq!(bind_names(b"p\0s\0..."), Some((&b"p"[..], &b"s"[..])));
        assert_eq!(bind_names(b"p\0s"), None);
    }
}
