//! The client's messages that run something: `Query`, `Parse`, `Bind`, `Execute`.

use super::answers::{Answer, Kind, Origin, Run, Undo};
use super::catalog;
use super::client::{bad_format, reserved_name};
use super::judge::{Judged, Revival};
use super::work::{Denied, Portal, RESERVED_PREFIX, Statement, Work};
use super::{Barrier, End, Session, Shared};
use crate::model::ErrorFields;
use sluice_wire::frontend::{execute, filed_name, parse, put_close, put_parse, put_query, query};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

impl Session {
    /// `Query`.
    pub(super) async fn on_query(self: &Rc<Self>, frame: &[u8], body: &[u8]) -> Result<(), End> {
        let Ok(text) = query(body) else {
            return self.refuse(Kind::Query, bad_format()).await;
        };
        let (work, edited) = match self.judge_to_run(text).await? {
            None => {
                self.end_skipping();
                return Ok(());
            }
            Some(Judged::Deny(denied)) => {
                self.send_denied(Kind::Query, denied);
                return Ok(());
            }
            Some(Judged::Go(work, edited)) => (work, edited),
        };
        let mut out = self.to_server.buffer.borrow_mut();
        match edited {
            Some(edited) => put_query(&mut out, &edited),
            None => out.extend_from_slice(frame),
        }
        let mut shared = self.shared.borrow_mut();
        let run = Run::new(Rc::clone(&work), shared.names.subjects(&work));
        let answer = Answer {
            run: Some(run),
            work: Some(Rc::clone(&work)),
            ..Answer::new(Kind::Query)
        };
        // The server runs it in the portal without a name.
        let gone = shared.names.put_portal(Vec::new(), None);
        if let Some(execution) = gone.and_then(|portal| portal.suspended.take()) {
            self.end(&execution, None);
        }
        let seq = shared.push(answer);
        shared.synced_seq = seq;
        self.after_run(&mut shared, &work, seq, false);
        Ok(())
    }

    /// `Parse`.
    pub(super) async fn on_parse(self: &Rc<Self>, frame: &[u8], body: &[u8]) -> Result<(), End> {
        let Ok(message) = parse(body) else {
            return self.refuse(Kind::Parse, bad_format()).await;
        };
        if message.name.starts_with(RESERVED_PREFIX) {
            return self.refuse(Kind::Parse, reserved_name()).await;
        }
        let (work, edited) = match self.judge(message.text, false, &message.types).await? {
            None => return Ok(()),
            Some(Judged::Deny(denied)) => {
                self.send_denied(Kind::Parse, denied);
                return Ok(());
            }
            Some(Judged::Go(work, edited)) => (work, edited),
        };
        let name = filed_name(message.name);
        let full = self
            .shared
            .borrow()
            .names
            .statements_full(message.text.len());
        if let Some(fields) = full.filter(|_| self.state().said.level > 0 && !name.is_empty()) {
            self.send_denied(Kind::Parse, Denied::plain(fields));
            return Ok(());
        }
        let mut out = self.to_server.buffer.borrow_mut();
        match edited {
            Some(edited) => put_parse(&mut out, message.name, &edited, &message.types),
            None => out.extend_from_slice(frame),
        }
        let mut shared = self.shared.borrow_mut();
        file(&mut shared, name, work, Origin::Client);
        Ok(())
    }

    /// `Bind`; whether the message is to be forwarded.
    pub(super) async fn on_bind(
        self: &Rc<Self>,
        portal: &[u8],
        statement: &[u8],
    ) -> Result<bool, End> {
        loop {
            if !self.gate().await? {
                return Ok(false);
            }
            if portal.starts_with(RESERVED_PREFIX) || statement.starts_with(RESERVED_PREFIX) {
                self.send_denied(Kind::Bind, Denied::plain(reserved_name()));
                return Ok(false);
            }
            if self.ascertain(filed_name(statement)).await {
                continue;
            }
            let state = self.state();
            let made = self
                .shared
                .borrow()
                .names
                .statements
                .get(filed_name(statement))
                .cloned();
            let old = made
                .as_ref()
                .filter(|made| state.said.level > 0 && made.work.is_stale(state.said.context));
            let Some(old) = old else {
                return Ok(self.file_portal(filed_name(portal), made));
            };
            match self.renew(filed_name(statement), old).await? {
                Renewal::Skipped => return Ok(false),
                Renewal::Denied(denied) => {
                    self.send_denied(Kind::Bind, denied);
                    return Ok(false);
                }
                Renewal::Sent => {}
            }
        }
    }

    fn file_portal(&self, name: &[u8], made: Option<Rc<Statement>>) -> bool {
        let mut shared = self.shared.borrow_mut();
        if let Some(fields) = shared.names.portals_full() {
            drop(shared);
            self.send_denied(Kind::Bind, Denied::plain(fields));
            return false;
        }
        let work = made.as_ref().map(|made| Rc::clone(&made.work));
        let portal = Rc::new(Portal {
            seq: shared.last_seq + 1,
            started: Cell::new(false),
            recorded: Cell::new(false),
            fetched: Rc::default(),
            made,
            suspended: RefCell::default(),
        });
        // Where the name means a cursor that is open, the server refuses this.
        shared.names.cursors.remove(name);
        let bound = Some(Rc::clone(&portal));
        let old = shared.names.put_portal(name.to_vec(), Some(portal));
        if name.is_empty()
            && let Some(execution) = old.as_ref().and_then(|portal| portal.suspended.take())
        {
            self.end(&execution, None);
        }
        let undo = Undo::Portal(name.to_vec(), old);
        shared.push(Answer {
            undo,
            work,
            bound,
            ..Answer::new(Kind::Bind)
        });
        true
    }

    /// Make a statement of another context anew from the client's own text, under the same name.
    async fn renew(self: &Rc<Self>, name: &[u8], stale: &Statement) -> Result<Renewal, End> {
        if stale.sql {
            let fields = ErrorFields::error(
                "55000",
                "prepared statement was made under another policy or session state",
            );
            return Ok(Renewal::Denied(Denied::plain(
                fields.hint("DEALLOCATE it and PREPARE it again."),
            )));
        }
        let text = Rc::clone(&stale.work.text);
        let (work, edited) = match self.judge(&text, false, &stale.work.types).await? {
            None => return Ok(Renewal::Skipped),
            Some(Judged::Deny(denied)) => return Ok(Renewal::Denied(denied)),
            Some(Judged::Go(work, edited)) => (work, edited),
        };
        let mut out = self.to_server.buffer.borrow_mut();
        let mut shared = self.shared.borrow_mut();
        if !name.is_empty() {
            put_close(&mut out, b'S', name);
            shared.push(Answer::internal(Kind::Close, Origin::Renewal));
        }
        put_parse(
            &mut out,
            name,
            edited.as_deref().unwrap_or(&text),
            &stale.work.types,
        );
        file(&mut shared, name, work, Origin::Renewal);
        Ok(Renewal::Sent)
    }

    /// `Execute`.
    pub(super) async fn on_execute(self: &Rc<Self>, frame: &[u8], body: &[u8]) -> Result<(), End> {
        let name = execute(body).map(filed_name).ok();
        if !self
            .pass_gate(name.is_some_and(|name| self.bound_in_batch(name)))
            .await?
        {
            return Ok(());
        }
        let Some(name) = name else {
            self.send_denied(Kind::Execute, Denied::plain(bad_format()));
            return Ok(());
        };
        let governed = self.state().said.level > 0;
        while governed && self.ascertain_portal(name).await {
            if !self.gate().await? {
                return Ok(());
            }
        }
        if let Some(work) = self.portal_work(name) {
            while self.revive(&work.plan).await? == Revival::Again {
                if !self.gate().await? {
                    return Ok(());
                }
            }
        }
        let run = match self.executable(name) {
            Ok(found) => found,
            Err(denied) => {
                self.send_denied(Kind::Execute, denied);
                return Ok(());
            }
        };
        let work = Rc::clone(&run.work);
        let refused = if self.checks_sending(&work) {
            self.flush_server().await;
            self.drifted(&work, false).await?
        } else {
            None
        };
        if self.shared.borrow().skipping {
            return Ok(());
        }
        if let Some(fields) = refused {
            self.send_denied(Kind::Execute, catalog::refusal(&work, fields));
            return Ok(());
        }
        let mut shared = self.shared.borrow_mut();
        let answer = Answer {
            run: Some(run),
            work: Some(Rc::clone(&work)),
            ..Answer::new(Kind::Execute)
        };
        let seq = shared.push(answer);
        self.to_server.buffer.borrow_mut().extend_from_slice(frame);
        self.after_run(&mut shared, &work, seq, true);
        Ok(())
    }

    /// `FunctionCall` in an open session.
    pub(super) fn push_function(&self) {
        let state = self.state();
        let work = Work::unknown(
            "function_call",
            state.said.context,
            Rc::clone(&state.revision),
        );
        let run = Run::new(work, Rc::from([]));
        self.shared.borrow_mut().push(Answer {
            run: Some(run),
            ..Answer::new(Kind::Function)
        });
    }

    async fn refuse(self: &Rc<Self>, kind: Kind, fields: ErrorFields) -> Result<(), End> {
        if self.gate().await? {
            self.send_denied(kind, Denied::plain(fields));
        } else if kind == Kind::Query {
            self.end_skipping();
        }
        Ok(())
    }

    /// Something was sent that runs: what follows waits for it when it may change the session.
    fn after_run(&self, shared: &mut Shared, work: &Work, seq: u64, flush: bool) {
        if (work.plan.changes || shared.transaction_dirty) && self.state.borrow().said.level > 0 {
            shared.barrier = Some(Barrier { seq, flush });
        }
        if shared.answers.len() == 1 {
            self.start_clock(shared);
        }
    }
}

/// What became of a statement that had to be made anew.
enum Renewal {
    /// The server skips to the next Sync.
    Skipped,
    /// The new plan refuses it.
    Denied(Denied),
    /// The messages are on their way.
    Sent,
}

/// File a statement under its name, and expect the answer to its `Parse`.
fn file(shared: &mut Shared, name: &[u8], work: Rc<Work>, origin: Origin) {
    let made = Statement {
        work: Rc::clone(&work),
        index: 0,
        sql: false,
    };
    let old = shared
        .names
        .put_statement(name.to_vec(), Some(Rc::new(made)));
    let undo = Undo::Statement(name.to_vec(), old);
    shared.push(Answer {
        undo,
        work: Some(work),
        origin,
        ..Answer::new(Kind::Parse)
    });
}
