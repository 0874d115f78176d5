//! The data plane: listeners, sessions, plan cache and audit spool on one thread. No policy is in it.
//!
//! A connection comes in through `plane`, is greeted in `startup` (over `tls`, where that is asked for), logs in through `auth`
//! and then is a `session`: one loop from the client to the server, one back, and a watchman. What joins them is the queue of
//! answers that the server still owes (`session/answers`): every message that has an answer leaves an entry, and every answer
//! is judged by the entry at the head. What a message assumes (a name now means this statement) is taken back when it fails
//! or is skipped.
//!
//! - `gate`: what must be settled before the next statement is planned: policy epoch, session state, cancel requests.
//! - `judge`: from a text to its plan, by the `cache` or the `brain`; `statements` sends it, edited or denied.
//! - `replies`, `errors`: from an answer to what the client sees; `execution`: records, rows, limits.
//! - `refresh`: the session's state, read by a probe and judged by the brain; `control`: policy changes and deadlines.
mod audit;
mod auth;
mod brain;
mod cache;
mod listeners;
pub mod model;
mod names;
mod plane;
mod registry;
mod session;
pub mod spool;
mod startup;
pub mod tls;
mod transport;
mod upstream;

use audit::Audit;
use brain::Brain;
use cache::Cache;
pub use plane::Plane;
use registry::Registry;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What every session of the thread uses.
struct Core {
    config: model::Config,
    brain: Arc<Brain>,
    registry: Arc<Registry>,
    audit: Arc<Audit>,
    cache: RefCell<Cache>,
    names: names::Names,
    /// Accepted and not yet closed.
    connections: Cell<usize>,
    /// Bound by us.
    listening: RefCell<Vec<SocketAddr>>,
}

impl Core {
    fn startup_timeout(&self) -> Duration {
        seconds(self.config.startup_timeout_s)
    }

    /// Whether a connection to this address would come back to us.
    fn listens_at(&self, target: SocketAddr) -> bool {
        let local = target.ip().to_canonical();
        let reaches = |bound: &SocketAddr| {
            let all = bound.ip().is_unspecified() && local.is_loopback();
            bound.port() == target.port() && (all || bound.ip().to_canonical() == local)
        };
        self.listening.borrow().iter().any(reaches)
    }

    fn connect_timeout(&self) -> Duration {
        seconds(self.config.connect_timeout_s)
    }
}

/// A time in seconds; none at all when it is negative or not a number.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
