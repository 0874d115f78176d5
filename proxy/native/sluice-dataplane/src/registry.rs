//! What all sessions share: cancel keys, epochs, the mode of the process, counters.

use crate::brain::lock;
use crate::tls::{ClientTls, UpstreamTls};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use tokio::sync::watch;

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sessions come and go.
    Serving,
    /// Idle sessions are closed.
    Draining,
    /// All are cut.
    Stopped,
}

/// The server's side of a session, for cancel requests.
#[derive(Debug, Clone)]
pub struct CancelTarget {
    /// Secret that we gave to the client.
    pub key: Vec<u8>,
    /// Address of the server.
    pub upstream: String,
    /// How the hop there is encrypted, if it is.
    pub tls: Option<Arc<UpstreamTls>>,
    /// The server's process.
    pub upstream_pid: u32,
    /// The server's secret.
    pub upstream_key: Vec<u8>,
    /// Whether a statement is still with the brain.
    pub judging: Arc<Judging>,
}

/// Whether a statement is being judged while nothing runs at the server: a cancel request would find nothing there, and the
/// statement would run as if nobody had asked.
#[derive(Debug, Default)]
pub struct Judging(AtomicU8);

impl Judging {
    const NOT: u8 = 0;
    const UNDER_WAY: u8 = 1;
    const CANCELLED: u8 = 2;

    /// A statement came.
    pub fn begin(&self) {
        self.0.store(Self::UNDER_WAY, Ordering::Release);
    }

    /// It was judged: whether it was cancelled meanwhile.
    pub fn end(&self) -> bool {
        self.0.swap(Self::NOT, Ordering::AcqRel) == Self::CANCELLED
    }

    /// Take a cancel request; false when it is for the server.
    pub fn cancel(&self) -> bool {
        let (from, to) = (Self::UNDER_WAY, Self::CANCELLED);
        let taken = self
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok() || taken == Err(Self::CANCELLED)
    }
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// Counters and gauges by name.
        #[derive(Default)]
        pub struct Counters { $(#[doc = stringify!($name)] pub $name: AtomicU64,)* }

        impl Counters {
            /// All of them.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters!(
    sessions_open,
    sessions_total,
    statements_total,
    denied_total,
    plan_hits_total,
    plan_misses_total,
    cache_entries,
    rows_total,
    result_bytes_total,
    panics_total
);

/// Add to a counter.
pub fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// See the module.
pub struct Registry {
    sessions: Mutex<HashMap<u64, Arc<AtomicU64>>>,
    cancels: Mutex<HashMap<u32, CancelTarget>>,
    certificates: Mutex<HashMap<String, Arc<ClientTls>>>,
    last_session: AtomicU64,
    /// The present epoch.
    pub epoch: watch::Sender<u64>,
    /// The present mode.
    pub mode: watch::Sender<Mode>,
    /// What was counted.
    pub counters: Counters,
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            sessions: Mutex::default(),
            cancels: Mutex::default(),
            certificates: Mutex::default(),
            last_session: AtomicU64::new(0),
            epoch: watch::Sender::new(1),
            mode: watch::Sender::new(Mode::Serving),
            counters: Counters::default(),
        }
    }
}

impl Registry {
    /// Enter a session, unless there are `sessions_max`; its number and the epoch it works under.
    pub fn enter(&self, sessions_max: usize) -> Option<(u64, Arc<AtomicU64>)> {
        let mut sessions = lock(&self.sessions);
        if sessions.len() >= sessions_max {
            return None;
        }
        let number = self.last_session.fetch_add(1, Ordering::Relaxed) + 1;
        let epoch = Arc::new(AtomicU64::new(*self.epoch.borrow()));
        sessions.insert(number, Arc::clone(&epoch));
        count(&self.counters.sessions_total, 1);
        self.counters
            .sessions_open
            .store(sessions.len() as u64, Ordering::Relaxed);
        Some((number, epoch))
    }

    /// Take a session out.
    pub fn leave(&self, number: u64) {
        let mut sessions = lock(&self.sessions);
        sessions.remove(&number);
        self.counters
            .sessions_open
            .store(sessions.len() as u64, Ordering::Relaxed);
    }

    /// Live sessions.
    pub fn sessions(&self) -> usize {
        lock(&self.sessions).len()
    }

    /// Begin the next epoch.
    pub fn advance_epoch(&self) -> u64 {
        self.epoch.send_modify(|epoch| *epoch += 1);
        *self.epoch.borrow()
    }

    /// The lowest epoch that a live session works under.
    pub fn epoch_reached(&self) -> u64 {
        let present = *self.epoch.borrow();
        let sessions = lock(&self.sessions);
        sessions
            .values()
            .map(|epoch| epoch.load(Ordering::Acquire))
            .min()
            .unwrap_or(present)
    }

    /// File a cancel target under a new process id, which is returned. The key is made up here, as long as the server's.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn add_cancel(&self, mut target: CancelTarget) -> Result<(u32, Vec<u8>), getrandom::Error> {
        target.key = vec![0; target.upstream_key.len()];
        getrandom::fill(&mut target.key)?;
        let mut cancels = lock(&self.cancels);
        loop {
            let mut pid = [0; 4];
            getrandom::fill(&mut pid)?;
            let pid = u32::from_be_bytes(pid) >> 1;
            if pid != 0 && !cancels.contains_key(&pid) {
                let key = target.key.clone();
                cancels.insert(pid, target);
                return Ok((pid, key));
            }
        }
    }

    /// Show clients of a listener this from now on; None: they are told that there is no TLS.
    pub fn present(&self, listener: String, certificate: Option<Arc<ClientTls>>) {
        let mut certificates = lock(&self.certificates);
        match certificate {
            Some(certificate) => certificates.insert(listener, certificate),
            None => certificates.remove(&listener),
        };
    }

    /// What clients of a listener are shown.
    pub fn certificate(&self, listener: &str) -> Option<Arc<ClientTls>> {
        lock(&self.certificates).get(listener).map(Arc::clone)
    }

    /// Take a cancel target out.
    pub fn drop_cancel(&self, pid: u32) {
        lock(&self.cancels).remove(&pid);
    }

    /// The target of a client's cancel request, when its key is right.
    pub fn find_cancel(&self, pid: u32, key: &[u8]) -> Option<CancelTarget> {
        let cancels = lock(&self.cancels);
        let target = cancels.get(&pid)?;
        let same = target.key.len() == key.len()
            && target
                .key
                .iter()
                .zip(key)
                .fold(0, |bits, (ours, theirs)| bits | (ours ^ theirs))
                == 0;
        same.then(|| target.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cancel_needs_the_right_key() {
        let registry = Registry::default();
        let target = CancelTarget {
            key: Vec::new(),
            upstream: "unix:/x".into(),
            tls: None,
            upstream_pid: 7,
            upstream_key: vec![1, 2, 3, 4],
            judging: Arc::default(),
        };
        let (pid, key) = registry.add_cancel(target).unwrap();
        assert_eq!(registry.find_cancel(pid, &key).unwrap().upstream_pid, 7);
        assert!(registry.find_cancel(pid, &key[1..]).is_none());
        assert!(registry.find_cancel(pid ^ 1, &key).is_none());
        registry.drop_cancel(pid);
        assert!(registry.find_cancel(pid, &key).is_none());
    }

    #[test]
    fn cancel_is_kept_for_a_statement_that_is_being_judged() {
        let judging = Judging::default();
        assert!(!judging.cancel(), "nothing is judged: it is for the server");
        judging.begin();
        assert!(judging.cancel());
        assert!(judging.cancel(), "asked twice");
        assert!(judging.end());
        assert!(!judging.cancel(), "it was taken");
        judging.begin();
        assert!(!judging.end(), "the next statement is another one");
    }

    #[test]
    fn sessions_are_bounded_and_epochs_wait_for_the_slowest() {
        let registry = Registry::default();
        let (first, epoch) = registry.enter(1).unwrap();
        assert!(registry.enter(1).is_none());
        assert_eq!(registry.advance_epoch(), 2);
        assert_eq!(registry.epoch_reached(), 1);
        epoch.store(2, Ordering::Release);
        assert_eq!(registry.epoch_reached(), 2);
        registry.leave(first);
        assert_eq!(registry.sessions(), 0);
    }
}
