//! One client and its server connection: two loops and a watchman over one shared state.

mod answers;
mod asides;
mod catalog;
mod client;
mod control;
mod errors;
mod execution;
mod filing;
mod gate;
mod judge;
mod portals;
mod refresh;
mod replies;
mod server;
mod statements;
mod subjects;
mod work;

use crate::Core;
use crate::auth::CancelKey;
use crate::model::{ErrorFields, Row, SessionAdmission, SessionState};
use crate::registry::count;
use crate::transport::{Inbox, Outbox};
use answers::{Answer, Undo};
pub use asides::note_status;
use bytes::BytesMut;
pub use refresh::wrong_answer;
use sluice_wire::frontend::put_bare;
use sluice_wire::scrub::ScrubRules;
use sluice_wire::template::Scanner;
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Poll, Waker};
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout};
use work::{Names, Portal};

/// Seconds for the last words to a client that may not be reading.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);
/// A text that no version of PostgreSQL can parse.
const UNPARSABLE: &[u8] = b") sluice";

/// Why a session ends.
#[derive(Debug)]
pub enum End {
    /// A side hung up, or said goodbye.
    Quiet,
    /// The client is told.
    Fatal(Arc<ErrorFields>),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Quiet
    }
}

impl End {
    /// The client is told.
    pub fn fatal(fields: ErrorFields) -> Self {
        Self::Fatal(Arc::new(fields))
    }
}

/// Append an error or notice of ours.
pub fn put_fields(out: &mut BytesMut, fields: &ErrorFields) {
    let mut message = Vec::new();
    fields.encode(&mut message);
    out.extend_from_slice(&message);
}

/// New statements are refused until the end.
struct Closing {
    fields: Arc<ErrorFields>,
    until: Instant,
}

/// What follows waits until the answer with this number came.
#[derive(Clone, Copy)]
struct Barrier {
    seq: u64,
    /// The server has to be told to answer.
    flush: bool,
}

/// The part of a session that both directions change.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools)] // Independent facts.
struct Shared {
    answers: VecDeque<Answer>,
    last_seq: u64,
    done_seq: u64,
    /// Number of the last message that files a statement under a name.
    filed_seq: u64,
    names: Names,
    /// Bound since the last `ReadyForQuery`.
    planned: Vec<Rc<Portal>>,
    /// Number of the last Sync or Query.
    synced_seq: u64,
    /// Status byte of the last `ReadyForQuery`.
    status: u8,
    /// Number of the exchange in which the transaction failed, when it has.
    failed_seq: u64,
    /// The server skips to the next Sync, and so do we.
    skipping: bool,
    /// It does so because a question of ours failed.
    probe_failed: bool,
    /// COPY reads from the client.
    copy_in: bool,
    /// What is left until the next `ReadyForQuery` is not shown to the client.
    swallowing: bool,
    /// The transaction is to be failed at the next `ReadyForQuery`.
    failing: bool,
    /// The session's state is not known.
    dirty: bool,
    /// It was changed inside the present transaction.
    transaction_dirty: bool,
    barrier: Option<Barrier>,
    /// Number of the exchange whose `ReadyForQuery` waits for the probe.
    held_ready: Option<u64>,
    /// Under which policies, and until when those hold, the session was changed since its state was asked last.
    changed_under: Vec<(Rc<str>, Option<u64>)>,
    probe_tries: u8,
    probe_row: Option<Arc<Row>>,
    probe_fresh: bool,
    parameter_status: Vec<(String, String)>,
    /// Settings that the client knows of.
    told: VecDeque<(String, String)>,
    /// Texts since the last `ReadyForQuery` that may have changed settings.
    setting_texts: Vec<Rc<[u8]>>,
    started: bool,
    /// The client said goodbye: nothing of ours can be asked behind that.
    leaving: bool,
    cancels: usize,
    closing: Option<Closing>,
    /// When the statement that runs is ended.
    deadline: Option<Instant>,
    wakers: Vec<Waker>,
}

impl Shared {
    fn push(&mut self, mut answer: Answer) -> u64 {
        self.last_seq += 1;
        answer.seq = self.last_seq;
        if matches!(answer.undo, Undo::Statement(..)) {
            self.filed_seq = self.last_seq;
        }
        self.answers.push_back(answer);
        self.last_seq
    }

    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    fn done(&mut self, seq: u64) {
        self.done_seq = self.done_seq.max(seq);
        if !self.wakers.is_empty() {
            self.wake();
        }
    }
}

/// What is needed to start one.
pub struct Opening {
    /// Of this incarnation.
    pub number: u64,
    /// Where it goes.
    pub admission: SessionAdmission,
    /// For cancel requests.
    pub cancel: Option<CancelKey>,
    /// The epoch that it works under.
    pub epoch: Arc<AtomicU64>,
    /// What the server reported.
    pub parameter_status: Vec<(String, String)>,
    /// To the client.
    pub to_client: Outbox,
    /// To the server.
    pub to_server: Outbox,
}

/// See the module.
pub struct Session {
    core: Rc<Core>,
    number: u64,
    admission: SessionAdmission,
    cancel: Option<CancelKey>,
    epoch: Arc<AtomicU64>,
    to_client: Outbox,
    to_server: Outbox,
    state: RefCell<Rc<State>>,
    shared: RefCell<Shared>,
    scanner: RefCell<Scanner>,
    /// One question about the state at a time.
    turn: Mutex<()>,
    control: Notify,
    /// The watchman wants to know when the session is idle.
    watched: Cell<bool>,
    /// The client has seen the beginning of a frame and not its end.
    inside_frame: Cell<bool>,
}

/// A `SessionState` and the revision as the works carry it.
struct State {
    said: SessionState,
    revision: Rc<str>,
    rules: ScrubRules,
}

impl Session {
    /// Make one. Nothing runs yet.
    pub fn new(core: Rc<Core>, opening: Opening) -> Rc<Self> {
        let said = SessionState {
            context: 0,
            level: 2,
            revision: String::new(),
            sequence: 0,
            scrub: crate::model::Scrub {
                enabled: true,
                ..Default::default()
            },
            channels: Some(HashSet::new()),
            close: None,
            close_after_s: 0.0,
            observe: false,
        };
        let shared = Shared {
            told: opening.parameter_status.iter().cloned().collect(),
            parameter_status: opening.parameter_status,
            status: b'I',
            dirty: true,
            ..Shared::default()
        };
        Rc::new(Self {
            core,
            number: opening.number,
            admission: opening.admission,
            cancel: opening.cancel,
            epoch: opening.epoch,
            to_client: opening.to_client,
            to_server: opening.to_server,
            state: RefCell::new(Rc::new(State {
                said,
                revision: Rc::from(""),
                rules: ScrubRules::default(),
            })),
            shared: RefCell::new(shared),
            scanner: RefCell::default(),
            turn: Mutex::new(()),
            control: Notify::new(),
            watched: Cell::new(false),
            inside_frame: Cell::new(false),
        })
    }

    /// Run it to its end. A panic ends this session alone.
    pub async fn run_guarded(self: Rc<Self>, client: Inbox, server: Inbox) {
        let mut running = Box::pin(self.run(client, server));
        let caught = std::future::poll_fn(|cx| {
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
                Ok(Poll::Ready(())) => Poll::Ready(true),
                Ok(Poll::Pending) => Poll::Pending,
                Err(_) => Poll::Ready(false),
            }
        });
        if !caught.await {
            count(&self.core.registry.counters.panics_total, 1);
            let fields =
                ErrorFields::error("XX000", "the proxy failed in this session; it is closed");
            self.finish(End::fatal(
                fields.hint("Please report this with the proxy's log."),
            ))
            .await;
        }
    }

    /// Run it to its end, and take leave of both sides.
    pub async fn run(self: &Rc<Self>, client: Inbox, server: Inbox) {
        let end = tokio::select! {
            end = self.client_loop(client) => end,
            end = self.server_loop(server) => end,
            end = self.control_loop() => end,
        };
        self.finish(end.err().unwrap_or(End::Quiet)).await;
    }

    /// Take leave of both sides, and write the ends of what ran.
    pub async fn finish(&self, end: End) {
        self.end_everything();
        // Inside a frame our words would be read as part of it.
        if let End::Fatal(fields) = end
            && !self.inside_frame.get()
        {
            let fields = ErrorFields::clone(&fields).fatal();
            put_fields(&mut self.to_client.buffer.borrow_mut(), &fields);
        }
        let _ = timeout(FAREWELL_TIMEOUT, self.to_client.flush()).await;
        put_bare(&mut self.to_server.buffer.borrow_mut(), b'X');
        let _ = timeout(Duration::from_secs(1), self.to_server.flush()).await;
    }

    fn state(&self) -> Rc<State> {
        Rc::clone(&self.state.borrow())
    }

    /// Send what waits for the server. When the server is gone its last words may still be on their way to the client:
    /// the other loop takes them there, and ends the session.
    async fn flush_server(&self) {
        if self.to_server.flush().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Wait until something holds of the shared part.
    async fn until(&self, mut holds: impl FnMut(&Shared) -> bool) {
        std::future::poll_fn(|cx| {
            let mut shared = self.shared.borrow_mut();
            if holds(&shared) {
                return Poll::Ready(());
            }
            if !shared
                .wakers
                .iter()
                .any(|known| known.will_wake(cx.waker()))
            {
                shared.wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
