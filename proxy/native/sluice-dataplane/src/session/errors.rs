//! Errors of the server: replaced, cleaned or passed on, and what they take back.

use super::answers::{Answer, Kind, Origin};
use super::catalog::catalog_changed;
use super::judge::all_edits;
use super::replies::skip_copy_ends;
use super::work::Work;
use super::{End, Session, Shared, put_fields};
use crate::model::ErrorFields;
use bytes::BytesMut;
use sluice_wire::frame::HEADER_BYTES;
use sluice_wire::scrub::{field, scrub, translate};
use sluice_wire::splice::PositionMap;
use std::rc::Rc;
use std::sync::Arc;

impl Session {
    /// `ErrorResponse`.
    pub(super) fn error(
        self: &Rc<Self>,
        shared: &mut Shared,
        frame: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), End> {
        let body = &frame[HEADER_BYTES..];
        let severity = field(body, b'V')
            .or_else(|| field(body, b'S'))
            .unwrap_or(b"ERROR");
        let fatal = severity != b"ERROR";
        let sqlstate = String::from_utf8_lossy(field(body, b'C').unwrap_or(b"XX000")).into_owned();
        if let Some(head) = shared.answers.front()
            && head.kind == Kind::CopyEnd
        {
            skip_copy_ends(shared);
        }
        shared.copy_in = false;
        let Some(mut head) = shared.answers.pop_front() else {
            self.put_message(b'E', frame, None, out);
            return Ok(());
        };
        shared.probe_failed |= head.origin == Origin::Probe;
        let mut shown =
            !matches!(head.origin, Origin::IdleProbe | Origin::Abort) && !shared.swallowing;
        let raised = head.work.as_deref().and_then(|work| raised(body, work));
        let over = self.failed(
            shared,
            &mut head,
            raised.as_ref().map_or(&sqlstate, |fields| &fields.sqlstate),
            out,
        )?;
        if let Some(portal) = head.bound.take() {
            self.record_bound(&portal, Some(&sqlstate))?;
        }
        if let Some(denied) = head.denied.take().filter(|_| !fatal) {
            self.record_denied(&denied);
            if shown {
                put_fields(out, &denied.fields);
            }
            shown = false;
        }
        if shown {
            match over.or(raised.map(Arc::new)).filter(|_| !fatal) {
                Some(fields) => put_fields(out, &fields),
                None => self.put_message(b'E', frame, head.work.as_deref(), out),
            }
        }
        if head.kind.ends_ready() {
            shared.answers.push_front(head);
        } else {
            shared.take_back_all(head);
        }
        shared.wake();
        self.start_clock(shared);
        Ok(())
    }

    /// What the head ran has failed: its record, and what it may have changed. The limit it ran into, if any.
    fn failed(
        &self,
        shared: &mut Shared,
        head: &mut Answer,
        sqlstate: &str,
        out: &mut BytesMut,
    ) -> Result<Option<Arc<ErrorFields>>, End> {
        let Some(mut run) = head.run.take() else {
            return Ok(None);
        };
        self.begin(&mut run, out)?;
        let over = run
            .execution
            .as_ref()
            .and_then(|execution| execution.over.clone());
        if let Some(execution) = run.execution.take() {
            self.end(
                &execution,
                Some(
                    over.as_ref()
                        .map_or(sqlstate, |fields| fields.sqlstate.as_str()),
                ),
            );
        }
        let refreshes = run
            .work
            .plan
            .plan
            .statements
            .iter()
            .filter_map(|statement| statement.effects.as_ref());
        if refreshes.clone().any(|effects| effects.refresh) {
            shared.dirty = true;
            shared.transaction_dirty = true;
        }
        Ok(over)
    }

    /// Forward an error or notice of the server: positions moved back, values taken out.
    pub(super) fn put_message(
        &self,
        tag: u8,
        frame: &[u8],
        work: Option<&Work>,
        out: &mut BytesMut,
    ) {
        let state = self.state();
        let body = &frame[HEADER_BYTES..];
        let edited = work.filter(|work| work.plan.edited && !state.said.observe);
        if edited.is_none() && !state.said.scrub.enabled {
            out.extend_from_slice(frame);
            return;
        }
        let map = edited
            .filter(|_| field(body, b'P').is_some())
            .and_then(|work| PositionMap::new(&work.text, &all_edits(&work.plan)).ok());
        let position = |sent: u32| match (&map, edited) {
            (Some(map), _) => map.to_client(sent),
            (None, Some(_)) => None,
            (None, None) => Some(sent),
        };
        let mut cleaned = Vec::new();
        if !state.said.scrub.enabled {
            translate(tag, body, position, &mut cleaned);
        } else if !scrub(tag, body, &state.rules, position, &mut cleaned) {
            return;
        }
        out.extend_from_slice(&cleaned);
    }
}

/// What our own edits raise: they have no other way to speak than a cast that fails.
fn raised(body: &[u8], work: &Work) -> Option<ErrorFields> {
    if !work.plan.edited || field(body, b'C') != Some(b"22P02") {
        return None;
    }
    let message = String::from_utf8_lossy(field(body, b'M')?).into_owned();
    if message.contains("sluice: catalog changed") {
        return Some(catalog_changed());
    }
    if message.contains("sluice: row outside the row filter") {
        let fields = ErrorFields::error("42501", "new row violates the row filter of a policy");
        return Some(fields.hint("Write only rows that you may read, or ask the policy's owner."));
    }
    None
}

impl Shared {
    /// The server skips to the next Sync: what was sent and is skipped was never done. From the last to the first.
    fn take_back_all(&mut self, head: Answer) {
        let sync = self
            .answers
            .iter()
            .position(|answer| matches!(answer.kind, Kind::Sync | Kind::CopySync));
        self.skipping = sync.is_none();
        let skipped: Vec<Answer> = self
            .answers
            .drain(..sync.unwrap_or(self.answers.len()))
            .collect();
        let last = skipped.last().map_or(head.seq, |answer| answer.seq);
        for answer in skipped.into_iter().rev() {
            self.take_back(answer.undo);
        }
        self.take_back(head.undo);
        self.done(last);
    }
}
