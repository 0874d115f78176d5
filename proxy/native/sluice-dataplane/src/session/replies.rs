//! What each message of the server means for the entry that it answers.

use super::answers::{Answer, Kind, Origin, Run};
use super::{End, Session, Shared, UNPARSABLE, put_fields};
use crate::model::ErrorFields;
use bytes::BytesMut;
use sluice_wire::backend::data_row;
use sluice_wire::frame::HEADER_BYTES;
use sluice_wire::frontend::put_query;
use std::rc::Rc;
use std::sync::Arc;

/// Portals that may be bound before those of them that were not executed are recorded.
const PLANNED_MAX: usize = 256;

/// What the server loop does after a frame.
#[derive(PartialEq, Eq)]
pub enum After {
    /// Go on.
    Nothing,
    /// Something of ours waits for the server.
    Flush,
    /// `ReadyForQuery` waits: send the probe.
    Probe,
    /// `ReadyForQuery` waits and the row is here: ask the brain.
    State,
    /// A first answer waits for a look at the catalog.
    Check,
}

impl Session {
    /// Take one whole frame of the server.
    pub(super) fn reply(self: &Rc<Self>, tag: u8, frame: &[u8]) -> Result<After, End> {
        let mut shared = self.shared.borrow_mut();
        let mut out = self.to_client.buffer.borrow_mut();
        let body = &frame[HEADER_BYTES..];
        let origin = shared
            .answers
            .front()
            .map_or(Origin::Client, |head| head.origin);
        match tag {
            b'Z' => return self.ready(&mut shared, frame, &mut out),
            b'E' => self.error(&mut shared, frame, &mut out)?,
            b'N' => self.notice(&mut shared, frame, &mut out)?,
            b'S' => self.setting(&mut shared, frame, &mut out),
            b'A' => self.notification(frame, &mut out),
            // Rows of the client's are streamed; this one is ours.
            b'D' => {
                if let Ok(row) = data_row(body) {
                    shared.probe_row = Some(Arc::new(row));
                    shared.probe_fresh = true;
                }
            }
            _ if origin != Origin::Client => {
                if matches!(tag, b'1' | b'2' | b'3' | b'C' | b'I' | b's') {
                    self.pop(&mut shared);
                }
            }
            _ => self.result(&mut shared, tag, frame, &mut out)?,
        }
        Ok(After::Nothing)
    }

    /// A frame of a result, for the client's own message.
    fn result(
        self: &Rc<Self>,
        shared: &mut Shared,
        tag: u8,
        frame: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), End> {
        skip_swallowed(shared);
        let kind = shared.answers.front().map(|head| head.kind);
        let mut replaced = None;
        match tag {
            b'C' | b'I' if matches!(kind, Some(Kind::Execute | Kind::Query)) => {
                shared.copy_in = false;
                replaced = self.completed(shared, &frame[HEADER_BYTES..], out)?;
                if kind == Some(Kind::Execute) {
                    self.pop(shared);
                }
            }
            b's' => replaced = self.suspend(shared),
            b'1' | b'2' | b'3' | b'n' => {
                let head = shared.answers.front_mut();
                if let Some(portal) = head.and_then(|head| head.bound.take()) {
                    if shared.planned.len() >= PLANNED_MAX {
                        self.record_planned(shared)?;
                    }
                    shared.planned.push(portal);
                }
                self.pop(shared);
            }
            b'T' if kind == Some(Kind::Describe) => self.pop(shared),
            b'T' | b'G' | b'H' | b'W' | b'V' => {
                if let Some(Answer { run: Some(run), .. }) = shared.answers.front_mut() {
                    self.begin(run, out)?;
                    if given_up(run) {
                        return Ok(());
                    }
                }
                if matches!(tag, b'G' | b'W') {
                    enter_copy(shared);
                }
            }
            b'c' => {
                if let Some(Answer { run: Some(run), .. }) = shared.answers.front()
                    && given_up(run)
                {
                    return Ok(());
                }
            }
            _ => {}
        }
        if let Some(fields) = replaced {
            put_fields(out, &fields);
            // It was complete before the cancel request came: what the client must see is a failed transaction.
            shared.swallowing = true;
            shared.failing = true;
        } else if !shared.swallowing {
            out.extend_from_slice(frame);
        }
        Ok(())
    }

    /// The portal at the head gave as many rows as it was asked for. The limit it ran into meanwhile, if any.
    fn suspend(&self, shared: &mut Shared) -> Option<Arc<ErrorFields>> {
        let mut over = None;
        let changing = match shared.answers.front() {
            Some(Answer { run: Some(run), .. }) => {
                run.effects().cloned().zip(Some(run.work.clone()))
            }
            _ => None,
        };
        if let Some((effects, work)) = changing {
            shared.may_have_changed(&effects);
            shared.note_change(&effects, &work);
        }
        if let Some(Answer { run: Some(run), .. }) = shared.answers.front_mut()
            && let Some(execution) = run.execution.take()
        {
            over.clone_from(&execution.over);
            if let Some(portal) = &run.portal {
                portal.started.set(true);
            }
            if run.portal.is_none() {
                run.count_rows(execution.rows);
            }
            match (&over, &run.portal) {
                (Some(fields), _) => self.end(&execution, Some(&fields.sqlstate)),
                (None, Some(portal)) => *portal.suspended.borrow_mut() = Some(execution),
                (None, None) => self.end(&execution, None),
            }
        }
        self.pop(shared);
        over
    }

    /// The head was answered.
    fn pop(&self, shared: &mut Shared) {
        if let Some(head) = shared.answers.pop_front() {
            shared.done(head.seq);
        }
        self.start_clock(shared);
    }

    fn notice(&self, shared: &mut Shared, frame: &[u8], out: &mut BytesMut) -> Result<(), End> {
        if let Some(Answer {
            run: Some(run),
            origin: Origin::Client,
            ..
        }) = shared.answers.front_mut()
        {
            self.begin(run, out)?;
        }
        let work = shared.answers.front().and_then(|head| head.work.clone());
        self.put_message(b'N', frame, work.as_deref(), out);
        Ok(())
    }

    /// `ReadyForQuery`.
    fn ready(
        self: &Rc<Self>,
        shared: &mut Shared,
        frame: &[u8],
        out: &mut BytesMut,
    ) -> Result<After, End> {
        self.record_planned(shared)?;
        let status = frame.get(HEADER_BYTES).copied().unwrap_or(b'I');
        let mut origin = Origin::Client;
        let mut seq = 0;
        while let Some(head) = shared.answers.pop_front() {
            seq = head.seq;
            if let Some(execution) = head.run.and_then(|run| run.execution) {
                self.end(&execution, None);
            }
            if head.kind.ends_ready() {
                origin = head.origin;
                break;
            }
        }
        skip_copy_ends(shared);
        shared.setting_texts.clear();
        if status == b'E' && shared.status != b'E' {
            shared.failed_seq = seq;
        }
        shared.status = status;
        if origin == Origin::IdleProbe {
            return Ok(Self::probe_done(shared, seq));
        }
        if status == b'I' {
            self.end_portals(shared, seq);
        }
        shared.swallowing = false;
        if std::mem::take(&mut shared.failing) && status == b'T' && !shared.leaving {
            put_query(&mut self.to_server.buffer.borrow_mut(), UNPARSABLE);
            let mut abort = Answer::internal(Kind::Query, Origin::Abort);
            abort.seq = seq;
            shared.answers.push_front(abort);
            return Ok(After::Flush);
        }
        // Its end has put back what it changed; where the next message is on its way, that is asked in front of it.
        shared.dirty |= shared.transaction_dirty && status == b'I';
        let governed = self.state.borrow().said.level > 0 && !shared.leaving;
        if governed && shared.dirty && status != b'E' && shared.answers.is_empty() {
            shared.held_ready = Some(seq);
            shared.probe_tries = 0;
            return Ok(if self.admission.probe.is_some() {
                After::Probe
            } else {
                After::State
            });
        }
        out.extend_from_slice(frame);
        self.settle(shared, seq);
        Ok(After::Nothing)
    }

    /// The answer to our own Sync.
    fn probe_done(shared: &mut Shared, seq: u64) -> After {
        shared.done(seq);
        if shared.probe_fresh {
            return After::State;
        }
        shared.probe_tries += 1;
        // A cancel request of the client may have hit it. In a transaction that now has failed nothing can be asked.
        if shared.status != b'E' && shared.probe_tries < 3 {
            After::Probe
        } else {
            After::State
        }
    }

    /// An exchange is over.
    pub(super) fn settle(&self, shared: &mut Shared, seq: u64) {
        shared.done(seq);
        self.start_clock(shared);
        if self.watched.get() {
            self.control.notify_one();
        }
    }
}

/// Whether a cancel request for the execution is on its way: the client sees the reason and nothing else.
fn given_up(run: &Run) -> bool {
    run.execution
        .as_ref()
        .is_some_and(|execution| execution.over.is_some())
}

/// COPY reads from the client: a Sync that was sent before its end is swallowed by it.
fn enter_copy(shared: &mut Shared) {
    if shared.answers.is_empty() {
        shared.copy_in = true;
        return;
    }
    let behind = shared.answers.iter().skip(1);
    let end = behind.clone().position(|answer| answer.kind != Kind::Sync);
    let ended = end.is_some_and(|at| {
        behind
            .clone()
            .nth(at)
            .is_some_and(|answer| answer.kind == Kind::CopyEnd)
    });
    let swallowed = end.unwrap_or(behind.count());
    shared.answers.drain(1..=swallowed);
    shared.copy_in = !ended;
    if ended {
        shared.answers.remove(1);
    }
}

/// Entries that nothing answers.
pub fn skip_copy_ends(shared: &mut Shared) {
    while matches!(
        shared.answers.front(),
        Some(Answer {
            kind: Kind::CopyEnd | Kind::CopySync,
            ..
        })
    ) {
        shared.answers.pop_front();
    }
}

/// Another message is being answered: a Sync in front of it was swallowed by COPY.
pub fn skip_swallowed(shared: &mut Shared) {
    while matches!(
        shared.answers.front(),
        Some(Answer {
            kind: Kind::CopyEnd | Kind::CopySync | Kind::Sync,
            ..
        })
    ) {
        shared.answers.pop_front();
    }
}
