//! Names under which something is filed when its message is sent, before the server has said that it is so.
//!
//! A message may fail, or be skipped because one before it failed. Behind the next Sync the server goes on with what the name
//! meant before: who uses the name there waits until that is known.

use super::answers::{Answer, Undo};
use super::work::Portal;
use super::{Session, Shared};

impl Session {
    /// Wait until it is certain which statement a name means; whether that took any waiting.
    pub(super) async fn ascertain(&self, name: &[u8]) -> bool {
        let Some(seq) = self.shared.borrow().uncertain(name) else {
            return false;
        };
        self.flush_server().await;
        self.until(|shared| shared.done_seq >= seq || shared.copy_in)
            .await;
        true
    }

    /// Wait until it is certain what became of the transaction in which a portal was made; whether that took any waiting.
    pub(super) async fn ascertain_portal(&self, name: &[u8]) -> bool {
        let Some(seq) = self.shared.borrow().portal_uncertain(name) else {
            return false;
        };
        self.flush_server().await;
        self.until(|shared| shared.done_seq >= seq || shared.copy_in)
            .await;
        true
    }
}

impl Shared {
    /// The number of the last exchange that is not answered yet, when the portal was made before its end.
    fn portal_uncertain(&self, name: &[u8]) -> Option<u64> {
        if self.copy_in {
            // What is no data ends a COPY in an error; nothing is answered before.
            return None;
        }
        let mut pending = self.answers.iter().rev();
        let border = pending.find(|answer| answer.kind.ends_ready())?.seq;
        let bound = self.names.portals.get(name).map_or(0, |portal| portal.seq);
        (bound < border).then_some(border)
    }

    /// Whether the transaction of a portal has failed: the server may have freed what it would read to say so.
    pub(super) fn portal_failed(&self, portal: Option<&Portal>) -> bool {
        self.status == b'E' && portal.is_none_or(|portal| portal.seq <= self.failed_seq)
    }

    /// The number of the message, in a batch before the present one, that gave the name its meaning and is not answered yet.
    fn uncertain(&self, name: &[u8]) -> Option<u64> {
        if self.done_seq >= self.filed_seq || self.copy_in {
            return None;
        }
        let mut in_batch = true;
        for answer in self.answers.iter().rev() {
            in_batch &= !answer.kind.ends_ready();
            if files(answer, name) {
                // In the same batch its failure has the use skipped, too.
                return (!in_batch).then_some(answer.seq);
            }
        }
        None
    }

    /// What a message meant to change did not change. A later one may have filed something under the name since: then that
    /// one's failure would bring back what was there before both.
    pub(super) fn take_back(&mut self, undo: Undo) {
        match undo {
            Undo::Nothing => {}
            Undo::Statement(name, old) => {
                let later = self
                    .answers
                    .iter_mut()
                    .find_map(|answer| match &mut answer.undo {
                        Undo::Statement(known, before) if *known == name => Some(before),
                        _ => None,
                    });
                match later {
                    Some(before) => *before = old,
                    None => {
                        self.names.put_statement(name, old);
                    }
                }
            }
            Undo::Portal(name, old) => {
                let later = self
                    .answers
                    .iter_mut()
                    .find_map(|answer| match &mut answer.undo {
                        Undo::Portal(known, before) if *known == name => Some(before),
                        _ => None,
                    });
                match later {
                    Some(before) => *before = old,
                    None => {
                        self.names.put_portal(name, old);
                    }
                }
            }
        }
    }
}

fn files(answer: &Answer, name: &[u8]) -> bool {
    matches!(&answer.undo, Undo::Statement(filed, _) if filed == name)
}
