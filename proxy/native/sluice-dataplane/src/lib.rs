//! The data plane.
mod audit;
mod auth;
mod brain;
mod cache;
pub mod model;
mod plane;
mod registry;
mod session;
pub mod spool;
mod startup;
mod transport;
mod upstream;

use audit::Audit;
use brain::Brain;
use cache::Cache;
pub use plane::Plane;
use registry::Registry;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

/// What every session of the thread uses.
struct Core {
    config: model::Config,
    brain: Arc<Brain>,
    registry: Arc<Registry>,
    audit: Arc<Audit>,
    cache: RefCell<Cache>,
    /// Accepted and not yet closed.
    connections: Cell<usize>,
}

impl Core {
    fn startup_timeout(&self) -> Duration {
        seconds(self.config.startup_timeout_s)
    }

    fn connect_timeout(&self) -> Duration {
        seconds(self.config.connect_timeout_s)
    }
}

/// A time in seconds; none at all when it is negative or not a number.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}
