//! Executions: their records in the audit, their rows, their limits.

use super::answers::{Answer, Begun, Execution, Kind, Origin, Run};
use super::judge::spool_refusal;
use super::replies::skip_swallowed;
use super::subjects::Subject;
use super::work::{Denied, Portal};
use super::{End, Session, Shared, put_fields};
use crate::audit::{Outcome, Who};
use crate::model::ErrorFields;
use crate::registry::count;
use crate::upstream;
use bytes::BytesMut;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Session {
    /// The first byte of a result is about to be forwarded: record that, and say what policies in mode warn have to say.
    pub(super) fn begin(&self, run: &mut Run, out: &mut BytesMut) -> Result<(), End> {
        let execution = run.execution.get_or_insert_with(Execution::new);
        if execution.begun != Begun::NotYet {
            return Ok(());
        }
        let (Some(statement), Some(facts)) = (run.statement(), run.facts()) else {
            return Ok(());
        };
        let runs = run.subject().and_then(Subject::facts);
        let begun = match self.core.audit.begin(&self.who(), facts, runs, "allow") {
            Ok(event) => Begun::Written(event),
            Err(reason) if run.is_governed() => return Err(End::fatal(spool_refusal(&reason))),
            // Ungoverned statements go on.
            Err(_) => Begun::Refused,
        };
        count(&self.core.registry.counters.statements_total, 1);
        for notice in &statement.notices {
            put_fields(out, notice);
        }
        run.execution.get_or_insert_with(Execution::new).begun = begun;
        if let Some(portal) = &run.portal {
            portal.recorded.set(true);
        }
        Ok(())
    }

    fn who(&self) -> Who<'_> {
        Who {
            session: self.number,
            identity: &self.admission.audit,
            level: self.state.borrow().said.level,
        }
    }

    /// An execution ended, in an error or not.
    pub(super) fn end(&self, execution: &Execution, sqlstate: Option<&str>) {
        if execution.begun == Begun::NotYet {
            return;
        }
        let counters = &self.core.registry.counters;
        count(&counters.rows_total, execution.rows);
        count(&counters.result_bytes_total, execution.bytes);
        if let Begun::Written(event) = execution.begun {
            self.core.audit.end(
                event,
                &Outcome {
                    rows: execution.rows,
                    bytes: execution.bytes,
                    duration: execution.started.elapsed(),
                    sqlstate,
                    denied: false,
                },
            );
        }
    }

    /// Record what was denied: a begin and an end for each statement.
    pub(super) fn record_denied(&self, denied: &Denied) {
        count(&self.core.registry.counters.denied_total, 1);
        for facts in &denied.facts {
            // Nothing was run, so nothing is lost when it cannot be written.
            if let Ok(event) = self.core.audit.begin(&self.who(), facts, None, "deny") {
                let sqlstate = Some(&*denied.fields.sqlstate);
                self.core.audit.end(
                    event,
                    &Outcome {
                        sqlstate,
                        denied: true,
                        ..Outcome::default()
                    },
                );
            }
        }
    }

    /// Count a row of the head's execution; false when it is not forwarded.
    pub(super) fn row(
        self: &Rc<Self>,
        shared: &mut Shared,
        bytes: usize,
        out: &mut BytesMut,
    ) -> Result<bool, End> {
        skip_swallowed(shared);
        let visible = !shared.swallowing;
        let Some(Answer { run: Some(run), .. }) = shared.answers.front_mut() else {
            return Ok(visible
                && shared
                    .answers
                    .front()
                    .is_none_or(|head| head.origin == Origin::Client));
        };
        if run
            .execution
            .as_ref()
            .is_none_or(|execution| execution.begun == Begun::NotYet)
        {
            self.begin(run, out)?;
        }
        let (rows_max, before) = (run.rows_max(), run.rows_before());
        let Some(execution) = run.execution.as_mut() else {
            return Ok(visible);
        };
        execution.rows += 1;
        if execution.over.is_some() {
            return Ok(false);
        }
        if let Some(rows_max) = rows_max
            && before.saturating_add(execution.rows) > rows_max
            && !self.state.borrow().said.observe
        {
            execution.over = Some(Arc::new(rows_over(rows_max)));
            self.cancel_server(shared);
            return Ok(false);
        }
        execution.bytes += bytes as u64;
        Ok(visible)
    }

    /// The statement that runs took longer than it may.
    pub(super) fn time_over(self: &Rc<Self>) {
        let mut shared = self.shared.borrow_mut();
        shared.deadline = None;
        let Some(Answer { run: Some(run), .. }) = shared.answers.front_mut() else {
            return;
        };
        let seconds = run.seconds_max();
        let execution = run.execution.get_or_insert_with(Execution::new);
        if execution.over.is_none() {
            execution.over = Some(Arc::new(time_over(seconds.unwrap_or_default())));
            self.cancel_server(&mut shared);
        }
    }

    /// Start the clock of the statement that is now at the head.
    pub(super) fn start_clock(&self, shared: &mut Shared) {
        let seconds = match shared.answers.front_mut() {
            Some(Answer { run: Some(run), .. }) => {
                let seconds = run.seconds_max();
                if run.execution.is_none() {
                    let suspended = run
                        .portal
                        .as_ref()
                        .and_then(|portal| portal.suspended.take());
                    run.execution = Some(suspended.unwrap_or_else(Execution::new));
                }
                seconds
            }
            _ => None,
        };
        let deadline = seconds
            .filter(|_| !self.state.borrow().said.observe)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|seconds| Instant::now() + seconds);
        if deadline.is_some() || shared.deadline.is_some() {
            shared.deadline = deadline.map(Into::into);
            self.control.notify_one();
        }
    }

    /// Ask the server to cancel what runs. No new statement is sent before the request arrived there.
    pub(super) fn cancel_server(self: &Rc<Self>, shared: &mut Shared) {
        let Some(target) = self.cancel.as_ref().map(|key| key.target.clone()) else {
            return;
        };
        shared.cancels += 1;
        let session = Rc::clone(self);
        tokio::task::spawn_local(async move {
            upstream::cancel(&target).await;
            let mut shared = session.shared.borrow_mut();
            shared.cancels -= 1;
            shared.wake();
        });
    }

    /// The session is over: so is what ran, and what was suspended.
    pub(super) fn end_everything(&self) {
        let mut shared = self.shared.borrow_mut();
        // As below: its client hears nothing more.
        let _ = self.record_planned(&mut shared);
        for answer in std::mem::take(&mut shared.answers) {
            if let Some(portal) = &answer.bound {
                let _ = self.record_bound(portal, Some("08006"));
            }
            if let Some(denied) = &answer.denied {
                self.record_denied(denied);
            }
            if let Some(run) = answer.run {
                self.break_off(run);
            }
        }
        let last = shared.last_seq;
        self.end_portals(&mut shared, last);
    }

    /// It was sent and never answered: nobody knows whether the server has done it, so it is recorded.
    fn break_off(&self, mut run: Run) {
        while run.statement().is_some() {
            // The session is over whatever the spool says, and its client hears nothing more.
            let _ = self.begin(&mut run, &mut BytesMut::new());
            if let Some(execution) = run.execution.take() {
                self.end(&execution, Some("08006"));
            }
            if run.again {
                return;
            }
            run.index += 1;
        }
    }

    /// What was bound and not executed is recorded, too: planning it has run the functions that are said to be immutable.
    pub(super) fn record_planned(&self, shared: &mut Shared) -> Result<(), End> {
        for portal in std::mem::take(&mut shared.planned) {
            if !portal.recorded.get() {
                self.record_bound(&portal, None)?;
            }
        }
        Ok(())
    }

    /// Record a `Bind` by itself.
    pub(super) fn record_bound(&self, portal: &Portal, sqlstate: Option<&str>) -> Result<(), End> {
        let Some(made) = &portal.made else {
            return Ok(());
        };
        let mut run = Run {
            index: made.index,
            ..Run::new(Rc::clone(&made.work), Rc::from([]))
        };
        self.begin(&mut run, &mut BytesMut::new())?;
        if let Some(execution) = run.execution.take() {
            self.end(&execution, sqlstate);
        }
        Ok(())
    }

    /// Portals that were bound before this message are gone; those that were suspended have ended now.
    pub(super) fn end_portals(&self, shared: &mut Shared, seq: u64) {
        shared.names.portals.retain(|_, portal| {
            let gone = portal.seq <= seq;
            if gone && let Some(execution) = portal.suspended.take() {
                self.end(&execution, None);
            }
            !gone
        });
    }

    /// The statement at the head was completed. What is to be forwarded in place of its completion, if anything.
    pub(super) fn completed(
        &self,
        shared: &mut Shared,
        tag: &[u8],
        out: &mut BytesMut,
    ) -> Result<Option<Arc<ErrorFields>>, End> {
        let Some(head) = shared.answers.front_mut() else {
            return Ok(None);
        };
        let simple = head.kind == Kind::Query;
        let Some(mut run) = head.run.take() else {
            return Ok(None);
        };
        self.begin(&mut run, out)?;
        let execution = run.execution.take().unwrap_or_else(Execution::new);
        let over = execution.over.clone();
        self.end(
            &execution,
            over.as_ref().map(|fields| fields.sqlstate.as_str()),
        );
        run.count_rows(execution.rows);
        if let Some(effects) = run.effects() {
            shared.note_change(effects, &run.work);
            shared.names.apply(effects, &run.work, run.index);
            // The end of a transaction puts back what was changed inside it, and nothing else.
            if shared.transaction_dirty || !ends_transaction(tag) {
                shared.may_have_changed(effects);
            }
            if effects.refresh {
                shared.setting_texts.push(Rc::clone(&run.work.text));
            }
        }
        if shared.transaction_dirty && ends_transaction(tag) {
            shared.dirty = true;
        }
        if tag.starts_with(b"ROLLBACK") && shared.status == b'E' {
            // What follows in the same message is run; the next ReadyForQuery says the truth.
            shared.status = b'T';
        }
        if simple {
            run.index += 1;
            if let Some(head) = shared.answers.front_mut() {
                head.run = Some(run);
            }
            self.start_clock(shared);
        }
        Ok(over)
    }
}

/// Whether a command of this tag may have put the session's settings back.
fn ends_transaction(tag: &[u8]) -> bool {
    [&b"ROLLBACK"[..], b"COMMIT", b"PREPARE TRANSACTION"]
        .iter()
        .any(|start| tag.starts_with(start))
}

fn rows_over(rows_max: u64) -> ErrorFields {
    ErrorFields::error(
        "54000",
        format!("statement exceeded its limit of {rows_max} rows"),
    )
    .detail(format!(
        "A policy limits statements like this one to {rows_max} rows."
    ))
    .hint("Ask for fewer rows, or ask the policy's owner for a higher limit.")
}

fn time_over(seconds: f64) -> ErrorFields {
    ErrorFields::error(
        "57014",
        format!("statement exceeded its limit of {seconds} seconds"),
    )
    .detail(format!(
        "A policy limits statements like this one to {seconds} seconds."
    ))
    .hint("Make the statement cheaper, or ask the policy's owner for a higher limit.")
}
