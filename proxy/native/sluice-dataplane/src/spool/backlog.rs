//! Ends that wait in memory while the spool cannot be written.

use std::collections::VecDeque;

/// Each end is of an execution that began before the failure, so that few bytes hold them all.
const BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Time and members of each.
    ends: VecDeque<(String, Vec<u8>)>,
    bytes: usize,
    lost: u64,
}

impl Backlog {
    pub(super) fn push(&mut self, at: &str, members: &[u8]) {
        if self.bytes + members.len() > BYTES_MAX {
            self.lost += 1;
            return;
        }
        self.bytes += members.len();
        self.ends.push_back((at.to_owned(), members.to_vec()));
    }

    pub(super) fn first(&self) -> Option<(&str, &[u8])> {
        self.ends
            .front()
            .map(|(at, members)| (at.as_str(), members.as_slice()))
    }

    pub(super) fn remove_first(&mut self) {
        if let Some((_, members)) = self.ends.pop_front() {
            self.bytes -= members.len();
        }
    }

    /// Ends that did not fit and will never be written.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) const fn forget_lost(&mut self) {
        self.lost = 0;
    }
}
