//! From the client to the server: frames, and the messages that need no plan.

use super::answers::{Answer, Kind, Undo};
use super::work::{Denied, RESERVED_PREFIX};
use super::{End, Session, Shared, UNPARSABLE};
use crate::model::ErrorFields;
use crate::transport::{Inbox, READ_BYTES};
use bytes::Buf;
use sluice_wire::frame::{HEADER_BYTES, Header, header};
use sluice_wire::frontend::{SMALL_BYTES_MAX, filed_name, put_bare, put_parse, put_query, target};
use std::convert::Infallible;
use std::rc::Rc;

/// Answers that may be due. Their bytes are more than the server holds back without a Flush, so that waiting ends.
const ANSWERS_MAX: usize = 10_000;
/// A `Parse` holds, besides its text, a name and the types of at most 65,535 parameters.
const PARSE_EXTRA_BYTES: usize = 512 << 10;
/// Portal and statement name of a `Bind` must come within this.
const BIND_NAMES_BYTES_MAX: usize = 64 << 10;

impl Session {
    /// Take the client's messages until it hangs up.
    pub(super) async fn client_loop(self: &Rc<Self>, mut inbox: Inbox) -> Result<Infallible, End> {
        self.until(|shared| shared.started).await;
        loop {
            if !self.need(&mut inbox, HEADER_BYTES).await? {
                return self.client_gone().await;
            }
            let limit = self.core.config.frame_bytes_max;
            let Ok(Some(head)) = header(&inbox.buffer, limit) else {
                return Err(bad_length(inbox.buffer[0], limit));
            };
            if head.tag == b'X' {
                put_bare(&mut self.to_server.buffer.borrow_mut(), b'X');
                return self.client_gone().await;
            }
            if self.shared.borrow().answers.len() >= ANSWERS_MAX {
                self.flush_server().await;
                self.until(|shared| shared.answers.len() < ANSWERS_MAX)
                    .await;
            }
            if !self.message(head, &mut inbox).await? {
                return self.client_gone().await;
            }
        }
    }

    /// Read until so many bytes are there; what waits for the server is sent before waiting for the client.
    pub(super) async fn need(&self, inbox: &mut Inbox, bytes: usize) -> Result<bool, End> {
        while inbox.buffer.len() < bytes {
            self.flush_server().await;
            if !inbox.fill().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The client said goodbye or hung up: the server is told, and what it still sends is forwarded.
    async fn client_gone(&self) -> Result<Infallible, End> {
        self.shared.borrow_mut().leaving = true;
        self.flush_server().await;
        self.to_server.shutdown().await?;
        std::future::pending().await
    }

    /// One message; false when the stream ends inside it.
    async fn message(self: &Rc<Self>, head: Header, inbox: &mut Inbox) -> Result<bool, End> {
        let statement_max = self.core.config.statement_bytes_max;
        match head.tag {
            b'Q' if head.body > statement_max.saturating_add(1) => {
                self.oversized(head, inbox).await
            }
            b'P' if head.body > statement_max.saturating_add(PARSE_EXTRA_BYTES) => {
                self.oversized(head, inbox).await
            }
            b'B' => self.bind_message(head, inbox).await,
            b'F' => self.function_call(head, inbox).await,
            b'd' => self.stream(head.frame_bytes(), inbox, true).await,
            b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' if head.body > SMALL_BYTES_MAX => {
                Err(bad_length(head.tag, SMALL_BYTES_MAX))
            }
            b'Q' | b'P' | b'C' | b'D' | b'E' | b'H' | b'S' | b'c' | b'f' => {
                if !self.need(inbox, head.frame_bytes()).await? {
                    return Ok(false);
                }
                let frame = inbox.buffer.split_to(head.frame_bytes());
                self.whole(head.tag, &frame).await?;
                Ok(true)
            }
            tag => {
                // The server says what PostgreSQL says of it, behind the answers that are still due.
                self.to_server
                    .buffer
                    .borrow_mut()
                    .extend_from_slice(&[tag, 0, 0, 0, 4]);
                inbox.buffer.clear();
                self.flush_server().await;
                std::future::pending::<()>().await;
                Ok(false)
            }
        }
    }

    async fn whole(self: &Rc<Self>, tag: u8, frame: &[u8]) -> Result<(), End> {
        let body = &frame[HEADER_BYTES..];
        match tag {
            b'Q' => self.on_query(frame, body).await,
            b'P' => self.on_parse(frame, body).await,
            b'E' => self.on_execute(frame, body).await,
            b'C' | b'D' => {
                self.on_target(tag, frame, body);
                Ok(())
            }
            b'S' => {
                self.on_sync(frame);
                Ok(())
            }
            _ => {
                self.on_bare(tag, frame);
                Ok(())
            }
        }
    }

    /// `Describe` or `Close`.
    fn on_target(&self, tag: u8, frame: &[u8], body: &[u8]) {
        let mut shared = self.shared.borrow_mut();
        if shared.skipping {
            return;
        }
        let mut answer = Answer::new(if tag == b'C' {
            Kind::Close
        } else {
            Kind::Describe
        });
        if let Ok((kind, name)) = target(body) {
            if name.starts_with(RESERVED_PREFIX) {
                let denied = Denied::plain(reserved_name());
                drop(shared);
                self.send_denied(answer.kind, denied);
                return;
            }
            let name = filed_name(name);
            if tag == b'C' && kind == b'S' && !name.is_empty() {
                let old = shared.names.put_statement(name.to_vec(), None);
                answer.undo = Undo::Statement(name.to_vec(), old);
            } else if tag == b'C' && kind == b'P' {
                let old = shared.names.put_portal(name.to_vec(), None);
                if let Some(execution) = old.as_ref().and_then(|portal| portal.suspended.take()) {
                    self.end(&execution, None);
                }
                answer.undo = Undo::Portal(name.to_vec(), old);
            } else if tag == b'D' && kind == b'S' {
                answer.work = shared
                    .names
                    .statements
                    .get(name)
                    .map(|made| Rc::clone(&made.work));
            }
        }
        shared.push(answer);
        self.to_server.buffer.borrow_mut().extend_from_slice(frame);
    }

    fn on_sync(&self, frame: &[u8]) {
        let mut shared = self.shared.borrow_mut();
        shared.skipping = false;
        shared.probe_failed = false;
        self.to_server.buffer.borrow_mut().extend_from_slice(frame);
        if shared.copy_in {
            push_once(&mut shared, Kind::CopySync);
            return;
        }
        let seq = shared.push(Answer::new(Kind::Sync));
        shared.synced_seq = seq;
        if shared.barrier.is_some() || shared.dirty || shared.transaction_dirty {
            shared.barrier = Some(super::Barrier { seq, flush: false });
        }
    }

    /// `Flush`, `CopyDone`, `CopyFail`.
    fn on_bare(&self, tag: u8, frame: &[u8]) {
        let mut shared = self.shared.borrow_mut();
        if tag != b'H' {
            if !shared.copy_in && !shared.answers.is_empty() {
                push_once(&mut shared, Kind::CopyEnd);
            }
            shared.copy_in = false;
        }
        self.to_server.buffer.borrow_mut().extend_from_slice(frame);
    }

    /// Pass so many bytes on as they come, or drop them.
    pub(super) async fn stream(
        &self,
        bytes: usize,
        inbox: &mut Inbox,
        forward: bool,
    ) -> Result<bool, End> {
        let mut left = bytes;
        loop {
            let part = left.min(inbox.buffer.len());
            if forward {
                self.to_server
                    .buffer
                    .borrow_mut()
                    .extend_from_slice(&inbox.buffer[..part]);
            }
            inbox.buffer.advance(part);
            left -= part;
            if left == 0 {
                return Ok(true);
            }
            if self.to_server.buffer.borrow().len() >= READ_BYTES {
                self.flush_server().await;
            }
            if !self.need(inbox, 1).await? {
                return Ok(false);
            }
        }
    }

    /// A statement above the bound: read past it, and refuse it as PostgreSQL would refuse any.
    async fn oversized(self: &Rc<Self>, head: Header, inbox: &mut Inbox) -> Result<bool, End> {
        if !self.stream(head.frame_bytes(), inbox, false).await? {
            return Ok(false);
        }
        if self.gate().await? {
            let limit = self.core.config.statement_bytes_max;
            let fields = ErrorFields::error(
                "54000",
                format!("statement of {} bytes is too long", head.body),
            )
            .detail(format!(
                "The proxy reads statements of at most {limit} bytes."
            ))
            .hint("Send less in one statement, or raise the limit.");
            let kind = if head.tag == b'Q' {
                Kind::Query
            } else {
                Kind::Parse
            };
            self.send_denied(kind, Denied::plain(fields));
        } else if head.tag == b'Q' {
            self.end_skipping();
        }
        Ok(true)
    }

    async fn bind_message(self: &Rc<Self>, head: Header, inbox: &mut Inbox) -> Result<bool, End> {
        let frame = head.frame_bytes();
        let prefix = frame.min(HEADER_BYTES + BIND_NAMES_BYTES_MAX);
        let mut bytes = HEADER_BYTES;
        let names = loop {
            if !self.need(inbox, bytes).await? {
                return Ok(false);
            }
            let seen = &inbox.buffer[HEADER_BYTES..inbox.buffer.len().min(prefix)];
            if let Some((portal, statement)) = sluice_wire::frontend::bind_names(seen) {
                break Some((portal.to_vec(), statement.to_vec()));
            }
            if inbox.buffer.len() >= prefix {
                break None;
            }
            bytes = inbox.buffer.len() + 1;
        };
        let forward = if let Some((portal, statement)) = names {
            self.on_bind(&portal, &statement).await?
        } else {
            if self.gate().await? {
                self.send_denied(Kind::Bind, Denied::plain(bad_format()));
            }
            false
        };
        self.stream(frame, inbox, forward).await
    }

    /// The fast path to functions: it names no statement that could be judged.
    async fn function_call(self: &Rc<Self>, head: Header, inbox: &mut Inbox) -> Result<bool, End> {
        if !self.gate().await? {
            self.end_skipping();
            return self.stream(head.frame_bytes(), inbox, false).await;
        }
        let state = self.state();
        if state.said.level == 0 || state.said.observe {
            self.push_function();
            return self.stream(head.frame_bytes(), inbox, true).await;
        }
        let fields = ErrorFields::error(
            "42501",
            "permission denied for function calls by the fast-path protocol",
        )
        .detail("A FunctionCall message names no statement that a policy could judge.")
        .hint("Call the function with SELECT.");
        self.send_denied(Kind::Function, Denied::plain(fields));
        self.stream(head.frame_bytes(), inbox, false).await
    }

    /// The server skips a message that it would answer by `ReadyForQuery`, and no Sync is to come. Where a question of ours in
    /// front of the message made it skip, the client waits for that answer.
    pub(super) fn end_skipping(&self) {
        let mut shared = self.shared.borrow_mut();
        if !std::mem::take(&mut shared.probe_failed) {
            return;
        }
        shared.skipping = false;
        put_bare(&mut self.to_server.buffer.borrow_mut(), b'S');
        let seq = shared.push(Answer::new(Kind::Sync));
        shared.synced_seq = seq;
    }

    /// Send what cannot be parsed in place of a message, so that PostgreSQL itself fails.
    pub(super) fn send_denied(&self, kind: Kind, denied: Denied) {
        let mut out = self.to_server.buffer.borrow_mut();
        if matches!(kind, Kind::Query | Kind::Function) {
            put_query(&mut out, UNPARSABLE);
        } else {
            put_parse(&mut out, RESERVED_PREFIX, UNPARSABLE, &[]);
        }
        self.shared.borrow_mut().push(Answer::denied(kind, denied));
    }
}

/// Expect what may never be answered; one entry stands for any number of them.
fn push_once(shared: &mut Shared, kind: Kind) {
    if shared.answers.back().is_none_or(|last| last.kind != kind) {
        shared.push(Answer::new(kind));
    }
}

/// Our names are not the client's to use.
pub fn reserved_name() -> ErrorFields {
    ErrorFields::error(
        "42602",
        "names that start with \"sluice\\001\" are reserved",
    )
}

/// PostgreSQL's own words.
pub fn bad_format() -> ErrorFields {
    ErrorFields::error("08P01", "invalid message format")
}

fn bad_length(tag: u8, limit: usize) -> End {
    let fields = ErrorFields::error("08P01", "invalid message length").detail(format!(
        "The length of message type {tag} is below 4 or above {limit} bytes."
    ));
    End::fatal(fields)
}
