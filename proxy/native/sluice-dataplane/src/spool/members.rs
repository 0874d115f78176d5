//! The members of a record's JSON object.

use std::io::Write;

/// Appends members, each with a comma before it. Names are ours and need no escapes.
#[derive(Debug)]
pub struct Members<'a>(&'a mut Vec<u8>);

impl<'a> Members<'a> {
    /// Write to the end of this buffer.
    pub(super) const fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// A string.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.0.push(b'"');
        let mut rest = value;
        while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
            self.0.extend_from_slice(&rest.as_bytes()[..at]);
            match rest.as_bytes()[at] {
                byte @ (b'"' | b'\\') => self.0.extend_from_slice(&[b'\\', byte]),
                b'\n' => self.0.extend_from_slice(b"\\n"),
                byte => self.print(format_args!("\\u{byte:04x}")),
            }
            rest = &rest[at + 1..];
        }
        self.0.extend_from_slice(rest.as_bytes());
        self.0.push(b'"');
    }

    /// A whole number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.print(format_args!("{value}"));
    }

    /// True or false.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.name(name);
        self.print(format_args!("{value}"));
    }

    /// JSON that somebody else has written; `null` when it is empty.
    pub fn object(&mut self, name: &str, json: &[u8]) {
        self.name(name);
        let start = self.0.len();
        self.0
            .extend_from_slice(if json.is_empty() { b"null" } else { json });
        // In JSON a bare newline is white space; in the spool it ends the record.
        for byte in &mut self.0[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }

    /// Members that were made before: JSON without newlines, a comma in front of each.
    pub fn append(&mut self, members: &[u8]) {
        self.0.extend_from_slice(members);
    }

    fn print(&mut self, value: std::fmt::Arguments<'_>) {
        // Writing to a vector cannot fail.
        let _ = self.0.write_fmt(value);
    }
}
