//! What the server still owes: one entry for each message that was sent and has an answer.

use super::subjects::Subject;
use super::work::{Denied, Portal, Statement, Work};
use crate::model::ErrorFields;
use crate::spool::Event;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// The message that is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Parse`.
    Parse,
    /// `Bind`.
    Bind,
    /// `Describe`.
    Describe,
    /// `Execute`.
    Execute,
    /// `Close`.
    Close,
    /// `Sync`.
    Sync,
    /// A `Sync` sent while COPY was reading: swallowed by COPY, or answered when COPY had failed by then.
    CopySync,
    /// The end of a COPY: no answer, but a `Sync` behind it is a real one.
    CopyEnd,
    /// `Query`.
    Query,
    /// `FunctionCall`.
    Function,
}

impl Kind {
    /// Whether it is answered by `ReadyForQuery` in the end.
    pub fn ends_ready(self) -> bool {
        matches!(
            self,
            Self::Sync | Self::CopySync | Self::Query | Self::Function
        )
    }
}

/// On whose behalf a message was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The client's: answers are forwarded.
    Client,
    /// Ours, making a statement anew: answers are swallowed, an error is the client's.
    Renewal,
    /// Ours, asking for the session's state inside the client's pipeline: as `Renewal`, and the row is kept.
    Probe,
    /// Ours, between two of the client's exchanges: everything is swallowed.
    IdleProbe,
    /// Ours, to fail a transaction: the error is swallowed, `ReadyForQuery` is the client's.
    Abort,
}

/// How to take back what was assumed when the message was sent.
pub enum Undo {
    /// Nothing was.
    Nothing,
    /// The name meant this statement.
    Statement(Vec<u8>, Option<Rc<Statement>>),
    /// The name meant this portal.
    Portal(Vec<u8>, Option<Rc<Portal>>),
}

/// The state of an execution's `begin` record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Not due.
    NotYet,
    /// Due, and the spool refused it: there will be no `end` either.
    Refused,
    /// Written.
    Written(Event),
}

/// One execution: of a statement of a `Query`, or of a portal.
pub struct Execution {
    /// Since when.
    pub started: Instant,
    /// Whether its `begin` record is written.
    pub begun: Begun,
    /// Rows seen, also those not forwarded.
    pub rows: u64,
    /// Bytes of the rows forwarded.
    pub bytes: u64,
    /// The limit that it ran into.
    pub over: Option<Arc<ErrorFields>>,
    /// The catalog was looked at since it ran, or need not be.
    pub checked: bool,
}

impl Execution {
    /// One that starts now.
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            begun: Begun::NotYet,
            rows: 0,
            bytes: 0,
            over: None,
            checked: false,
        }
    }
}

/// What a `Query` or `Execute` runs.
pub struct Run {
    /// The plan.
    pub work: Rc<Work>,
    /// Which of its statements is running.
    pub index: usize,
    /// The portal, for an `Execute`.
    pub portal: Option<Rc<Portal>>,
    /// Present while the statement at `index` runs.
    pub execution: Option<Execution>,
    /// It was run before, as SQL's PREPARE or DECLARE, and this is what that made.
    pub again: bool,
    /// What its EXECUTE and FETCH run, by place; empty without any.
    pub named: Rc<[Option<Subject>]>,
}

impl Run {
    /// One that starts with the first statement of a text.
    pub fn new(work: Rc<Work>, named: Rc<[Option<Subject>]>) -> Self {
        Self {
            work,
            index: 0,
            portal: None,
            execution: None,
            again: false,
            named,
        }
    }
}

/// One entry.
pub struct Answer {
    /// Increasing.
    pub seq: u64,
    /// What was sent.
    pub kind: Kind,
    /// On whose behalf.
    pub origin: Origin,
    /// When the message fails.
    pub undo: Undo,
    /// What it runs.
    pub run: Option<Run>,
    /// Sent in place of something denied: the error that comes is replaced.
    pub denied: Option<Denied>,
    /// The plan whose edits move the position in an error.
    pub work: Option<Rc<Work>>,
    /// What a `Bind` makes.
    pub bound: Option<Rc<Portal>>,
}

impl Answer {
    /// An entry of the client's own.
    pub fn new(kind: Kind) -> Self {
        Self {
            seq: 0,
            kind,
            origin: Origin::Client,
            undo: Undo::Nothing,
            run: None,
            denied: None,
            work: None,
            bound: None,
        }
    }

    /// An entry of ours.
    pub fn internal(kind: Kind, origin: Origin) -> Self {
        Self {
            origin,
            ..Self::new(kind)
        }
    }

    /// An entry for what is sent in place of something denied.
    pub fn denied(kind: Kind, denied: Denied) -> Self {
        Self {
            denied: Some(denied),
            ..Self::new(kind)
        }
    }
}
