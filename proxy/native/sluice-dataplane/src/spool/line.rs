//! Lines and the chain of their hashes.

use std::io;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::members::Members;

/// Begins the text whose hash is the head of an empty chain.
const CHAIN_NAME: &str = "sluice-audit/1";
const HEX: &[u8; 16] = b"0123456789abcdef";
/// The hash in hex and a space.
const HEAD_BYTES: usize = 65;

pub(super) type Hash = [u8; 32];

/// Where the chain of this incarnation stands.
#[derive(Debug)]
pub(super) struct Chain {
    incarnation: String,
    sequence: u64,
    head: Hash,
}

impl Chain {
    /// A chain under a new name: the time in milliseconds, so that names sort by age, and 80 random bits.
    pub(super) fn new() -> io::Result<Self> {
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let incarnation = format!(
            "{:012x}{}",
            now.as_millis() & 0xffff_ffff_ffff,
            hex(&random)
        );
        let head = Sha256::new()
            .chain_update(CHAIN_NAME)
            .chain_update(&incarnation)
            .finalize();
        Ok(Self {
            incarnation,
            sequence: 0,
            head: head.into(),
        })
    }

    pub(super) fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// Number of the last record, and so the number of records.
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) const fn next(&self) -> u64 {
        self.sequence + 1
    }

    pub(super) fn head_hex(&self) -> String {
        hex(&self.head)
    }

    pub(super) const fn advance(&mut self, head: Hash) {
        self.head = head;
        self.sequence += 1;
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(HEX[usize::from(digit)]))
        .collect()
}

/// One record: the hash in hex, a space, a JSON object, a newline. The buffer is used again.
#[derive(Debug, Default)]
pub(super) struct Line {
    buffer: Vec<u8>,
    members_start: usize,
    members_end: usize,
}

impl Line {
    pub(super) fn start(&mut self, sequence: u64, at: &str, kind: &str) -> Members<'_> {
        self.buffer.clear();
        self.buffer.resize(HEAD_BYTES, b' ');
        // Writing to a vector cannot fail.
        let _ = write!(
            self.buffer,
            "{{\"v\":1,\"seq\":{sequence},\"at\":\"{at}\",\"kind\":\"{kind}\""
        );
        self.members_start = self.buffer.len();
        self.members_end = 0;
        Members::new(&mut self.buffer)
    }

    /// What was written between the fixed members and the closing brace.
    pub(super) fn members(&self) -> &[u8] {
        let end = if self.members_end == 0 {
            self.buffer.len()
        } else {
            self.members_end
        };
        &self.buffer[self.members_start..end]
    }

    /// Bytes of the whole line, before it is finished.
    pub(super) fn length_finished(&self) -> u64 {
        self.buffer.len() as u64 + 2
    }

    /// Close the object and write the hash that follows the chain's head; returns it.
    pub(super) fn finish(&mut self, chain: &Chain) -> Hash {
        self.members_end = self.buffer.len();
        self.buffer.push(b'}');
        let json = &self.buffer[HEAD_BYTES..];
        let hash: Hash = Sha256::new()
            .chain_update(chain.head)
            .chain_update(json)
            .finalize()
            .into();
        for (place, byte) in self.buffer.chunks_exact_mut(2).zip(hash) {
            place[0] = HEX[usize::from(byte >> 4)];
            place[1] = HEX[usize::from(byte & 15)];
        }
        self.buffer.push(b'\n');
        hash
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}
