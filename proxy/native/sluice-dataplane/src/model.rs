//! What the brain says, as values. `_native.pyi` documents each.

use std::collections::HashSet;
use std::sync::Arc;

pub use crate::names::Source;
pub use crate::tls::UpstreamTls;
pub use sluice_wire::scrub::ErrorFields;
pub use sluice_wire::splice::Edit;

/// What a statement does to the state of its session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Ask server and brain anew.
    pub refresh: bool,
    /// PREPARE name.
    pub prepare: Option<String>,
    /// EXECUTE name.
    pub execute: Option<String>,
    /// DEALLOCATE name.
    pub deallocate: Option<String>,
    /// DEALLOCATE ALL.
    pub deallocate_all: bool,
    /// DECLARE name.
    pub declare: Option<String>,
    /// FETCH or MOVE name.
    pub fetch: Option<String>,
    /// CLOSE name.
    pub close_cursor: Option<String>,
    /// CLOSE ALL.
    pub close_all_cursors: bool,
}

impl Effects {
    /// Whether what follows must wait until the statement is done.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.refresh
            || self.prepare.is_some()
            || self.deallocate.is_some()
            || self.deallocate_all
            || self.declare.is_some()
            || self.close_cursor.is_some()
            || self.close_all_cursors
    }
}

/// When the catalog is looked at, for what no condition in the text can hold: views, parents, functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CatalogCheck {
    /// Not at all.
    #[default]
    None,
    /// When the answer is there, before the client sees any of it.
    Answer,
    /// Before the statement is sent, and before its first row.
    Sending,
}

/// One statement of a text.
#[derive(Debug, Clone)]
pub struct PlannedStatement {
    /// Range of its tokens in the whole text.
    pub tokens: (u32, u32),
    /// JSON object of the audit facts.
    pub audit: Vec<u8>,
    /// Positions count from the start of the whole text.
    pub edits: Vec<Edit>,
    /// Not run at all.
    pub denial: Option<Arc<ErrorFields>>,
    /// What it does to the session.
    pub effects: Option<Effects>,
    /// Sent before the first answer.
    pub notices: Vec<ErrorFields>,
    /// More rows than this end it.
    pub rows_max: Option<u64>,
    /// Longer than this ends it.
    pub seconds_max: Option<f64>,
    /// Refused while the spool cannot be written.
    pub governed: bool,
    /// When the catalog has to be the plan's still.
    pub catalog_check: CatalogCheck,
}

/// How a plan may be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// For every text of the template whose bound literals are the same.
    Template,
    /// For this text alone.
    Exact,
    /// Not at all.
    None,
}

/// The answer to a `PlanRequest`.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In order.
    pub statements: Vec<PlannedStatement>,
    /// How it may be kept.
    pub keep: Keep,
    /// Positions of tokens whose text is part of the key.
    pub bound: Vec<u32>,
    /// Nanoseconds since 1970 after which it is void.
    pub valid_until_ns: Option<u64>,
    /// Of the decision.
    pub revision: String,
    /// A transaction ends inside the text, and what follows was judged as if nothing were put back by that.
    pub settled: bool,
}

/// Where a session goes.
#[derive(Debug, Clone)]
pub struct SessionAdmission {
    /// `HOST:PORT` or `unix:PATH`.
    pub upstream: String,
    /// How the hop there is encrypted; None: not at all.
    pub tls: Option<Arc<UpstreamTls>>,
    /// One SELECT.
    pub probe: Option<String>,
    /// The startup packet to send.
    pub parameters: Vec<(String, String)>,
    /// JSON object with identity, database, role.
    pub audit: Vec<u8>,
    /// For messages.
    pub upstream_name: String,
}

/// How the server's messages are cleaned.
#[derive(Debug, Clone, Default)]
pub struct Scrub {
    /// False: bytes unchanged.
    pub enabled: bool,
    /// (SQLSTATE, routine) pairs whose primary text holds no values.
    pub keep_primary: HashSet<(String, String)>,
}

/// What holds for a session from now on.
#[derive(Debug, Clone)]
pub struct SessionState {
    /// Key of the plan cache.
    pub context: u64,
    /// 0 open, 1 guarded, 2 restricted.
    pub level: u8,
    /// Of the policy.
    pub revision: String,
    /// Of the policy.
    pub sequence: u64,
    /// How messages are cleaned.
    pub scrub: Scrub,
    /// Notifications of other channels are dropped. `None`: all pass.
    pub channels: Option<HashSet<String>>,
    /// The session ends with this.
    pub close: Option<Arc<ErrorFields>>,
    /// Seconds until a running statement is cancelled as well.
    pub close_after_s: f64,
    /// Nothing is denied or changed.
    pub observe: bool,
}

/// A client sent its startup packet.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// To answer under.
    pub id: u64,
    /// Number of the session.
    pub session: u64,
    /// Name of the listener.
    pub listener: String,
    /// Named or implied.
    pub database: String,
    /// Named.
    pub user: String,
    /// In order.
    pub parameters: Vec<(String, String)>,
    /// Address of the client.
    pub peer: String,
}

/// Fields of a row; `None` is SQL's NULL.
pub type Row = Vec<Option<Vec<u8>>>;

/// Asks what holds for a session.
#[derive(Debug, Clone)]
pub struct StateRequest {
    /// To answer under.
    pub id: u64,
    /// Number of the session.
    pub session: u64,
    /// `start`, `refresh`, `epoch` or `outdated`.
    pub reason: &'static str,
    /// The probe's row.
    pub probe_row: Option<Arc<Row>>,
    /// What the server reported.
    pub parameter_status: Vec<(String, String)>,
}

/// No plan is known for a text.
#[derive(Debug, Clone)]
pub struct PlanRequest {
    /// To answer under.
    pub id: u64,
    /// Number of the session.
    pub session: u64,
    /// What the plan may depend on.
    pub context: u64,
    /// As the client sent it.
    pub text: Vec<u8>,
    /// A `Query`; else a `Parse`.
    pub simple: bool,
    /// OIDs given in the `Parse`.
    pub parameter_types: Vec<u32>,
}

/// Is the catalog still the one that plans of a context are made for?
#[derive(Debug, Clone, Copy)]
pub struct CatalogRequest {
    /// To answer under.
    pub id: u64,
    /// Number of the session.
    pub session: u64,
    /// Of the plan.
    pub context: u64,
}

/// What the brain is asked or told.
#[derive(Debug, Clone)]
pub enum Request {
    /// May this session be?
    Open(OpenRequest),
    /// What holds for it?
    State(StateRequest),
    /// What becomes of this text?
    Plan(PlanRequest),
    /// Did the catalog change?
    Catalog(CatalogRequest),
    /// It is gone. No answer.
    Closed(u64),
}

/// What the brain answers.
#[derive(Debug)]
pub enum Reply {
    /// To `Open`.
    Admission(SessionAdmission),
    /// To `State`.
    State(SessionState),
    /// To `Plan`.
    Plan(Plan),
    /// To `Catalog`: whether it is the same, by a look that began after the question.
    Catalog(bool),
    /// To any.
    Error(ErrorFields),
}

/// Bounds and times.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the audit goes.
    pub spool_directory: String,
    /// Bytes of all its segments.
    pub spool_bytes_max: u64,
    /// Bytes of one.
    pub segment_bytes_max: u64,
    /// Sessions at a time.
    pub sessions_max: usize,
    /// Bytes of a statement.
    pub statement_bytes_max: usize,
    /// Bytes of any frame.
    pub frame_bytes_max: usize,
    /// Requests that may wait for the brain.
    pub queue_max: usize,
    /// Plans kept.
    pub cache_entries_max: usize,
    /// Who knows the addresses of upstreams.
    pub names: Source,
    /// Seconds to reach the server.
    pub connect_timeout_s: f64,
    /// Seconds from a client's first byte to its first `ReadyForQuery`.
    pub startup_timeout_s: f64,
    /// Seconds for an answer of the brain.
    pub brain_timeout_s: f64,
}
