//! The session's state: read from the server, judged by the brain, never simulated.

use super::answers::{Answer, Kind, Origin};
use super::work::Work;
use super::{Closing, End, Session, Shared, State};
use crate::cache::now_ns;
use crate::model::{Effects, ErrorFields, Reply, Request, StateRequest};
use sluice_wire::frontend::{put_bare, put_bind_plain, put_close, put_execute, put_parse};
use sluice_wire::scrub::ScrubRules;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Our own statement and portal. The control character keeps them apart from what people type.
const PROBE_NAME: &[u8] = b"sluice\x01probe";

impl Session {
    /// Send the probe as part of the client's pipeline, wait for its row, and ask the brain.
    pub(super) async fn probe_in_pipeline(&self) -> Result<(), End> {
        if self.admission.probe.is_some() {
            let seq = self.send_probe(Origin::Probe);
            put_bare(&mut self.to_server.buffer.borrow_mut(), b'H');
            self.flush_server().await;
            self.until(|shared| shared.done_seq >= seq).await;
            if !self.shared.borrow().probe_fresh {
                // It failed, and with it the client's pipeline.
                return Ok(());
            }
        }
        self.ask_state("refresh").await?;
        self.shared.borrow_mut().dirty = false;
        Ok(())
    }

    /// Put the probe's messages into the server's outbox; the number of the last one.
    pub(super) fn send_probe(&self, origin: Origin) -> u64 {
        let text = self.admission.probe.as_deref().unwrap_or_default();
        let mut out = self.to_server.buffer.borrow_mut();
        let mut shared = self.shared.borrow_mut();
        shared.probe_fresh = false;
        put_parse(&mut out, PROBE_NAME, text.as_bytes(), &[]);
        put_bind_plain(&mut out, PROBE_NAME, PROBE_NAME);
        put_execute(&mut out, PROBE_NAME, 0);
        put_close(&mut out, b'P', PROBE_NAME);
        put_close(&mut out, b'S', PROBE_NAME);
        for kind in [Kind::Parse, Kind::Bind, Kind::Execute, Kind::Close] {
            shared.push(Answer::internal(kind, origin));
        }
        let last = shared.push(Answer::internal(Kind::Close, origin));
        if origin != Origin::IdleProbe {
            return last;
        }
        put_bare(&mut out, b'S');
        shared.push(Answer::internal(Kind::Sync, origin))
    }

    /// Ask the brain what holds now, until its answer is of the present epoch.
    pub(super) async fn ask_state(&self, reason: &'static str) -> Result<(), End> {
        let _turn = self.turn.lock().await;
        let mut probed = reason == "refresh";
        let mut reason = reason;
        loop {
            let epoch = *self.core.registry.epoch.borrow();
            let (probe_row, parameter_status) = {
                let shared = self.shared.borrow();
                (shared.probe_row.clone(), shared.parameter_status.clone())
            };
            let session = self.number;
            let make = |id| {
                Request::State(StateRequest {
                    id,
                    session,
                    reason,
                    probe_row,
                    parameter_status,
                })
            };
            match self.core.brain.ask(make).await.map_err(End::fatal)? {
                Reply::State(said) => self.set_state(said),
                Reply::Error(fields) => return Err(End::fatal(fields)),
                _ => return Err(End::fatal(wrong_answer())),
            }
            self.epoch.store(epoch, Ordering::Release);
            self.shared.borrow_mut().wake();
            if *self.core.registry.epoch.borrow() != epoch {
                reason = "epoch";
                continue;
            }
            if !std::mem::take(&mut probed) || !self.take_outdated_changes() {
                return Ok(());
            }
            reason = "outdated";
        }
    }

    /// Whether the session was changed under a policy that does not hold any more. The policy may have become another one
    /// while the statement ran: what it made was not there to be seen then.
    fn take_outdated_changes(&self) -> bool {
        let changes = std::mem::take(&mut self.shared.borrow_mut().changed_under);
        let state = self.state();
        changes.iter().any(|(revision, until)| {
            *revision != state.revision || until.is_some_and(|until| until <= now_ns())
        })
    }

    fn set_state(&self, said: crate::model::SessionState) {
        let mut shared = self.shared.borrow_mut();
        let old = self.state();
        if shared.started && old.said.revision != said.revision {
            shared.names.revision_changed = true;
        }
        if let Some(fields) = &said.close {
            let after = Duration::try_from_secs_f64(said.close_after_s).unwrap_or_default();
            shared.closing.get_or_insert_with(|| Closing {
                fields: Arc::clone(fields),
                until: Instant::now() + after,
            });
            self.watched.set(true);
            self.control.notify_one();
        }
        let revision = Rc::from(said.revision.as_str());
        let keep = said.scrub.keep_primary.iter();
        let rules = ScrubRules::new(keep.map(|(sqlstate, routine)| (&**sqlstate, &**routine)));
        *self.state.borrow_mut() = Rc::new(State {
            said,
            revision,
            rules,
        });
    }
}

impl Shared {
    /// A statement was done, or began to give rows: what it does to the session may be done.
    pub(super) fn may_have_changed(&mut self, effects: &Effects) {
        self.dirty |= effects.refresh;
        self.transaction_dirty |= effects.refresh;
    }

    /// A statement that changes the session was done.
    pub(super) fn note_change(&mut self, effects: &Effects, work: &Work) {
        let change = (Rc::clone(&work.revision), work.plan.plan.valid_until_ns);
        if effects.refresh && !self.changed_under.contains(&change) {
            self.changed_under.push(change);
        }
    }
}

/// The brain mixed up its answers.
pub fn wrong_answer() -> ErrorFields {
    ErrorFields::error(
        "XX000",
        "the policy engine gave an answer of the wrong kind",
    )
}
