//! The thread, and what is asked of it from outside.

use crate::audit::Audit;
use crate::brain::{Brain, lock};
use crate::cache::Cache;
use crate::listeners::Listeners;
use crate::model::{Config, Reply, Request};
use crate::names::Names;
use crate::registry::{Counters, Mode, Registry};
use crate::spool::{Limits, Status};
use crate::tls::ClientTls;
use crate::{Core, seconds};
use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as queue;
use tokio::task::{LocalSet, spawn_local};

/// Between two looks at whether everything has drained.
const DRAIN_LOOK: Duration = Duration::from_millis(10);
/// From telling the sessions to stop to ending the thread.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What the thread is told.
enum Order {
    Listen {
        name: String,
        address: String,
        bound: mpsc::Sender<io::Result<String>>,
    },
    Close {
        address: String,
        done: mpsc::Sender<bool>,
    },
    StopListening(mpsc::Sender<()>),
}

/// See the module.
pub struct Plane {
    brain: Arc<Brain>,
    registry: Arc<Registry>,
    audit: Arc<Audit>,
    orders: Mutex<Option<queue::UnboundedSender<Order>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Plane {
    /// Open the spool and start the thread.
    ///
    /// # Errors
    ///
    /// The spool cannot be opened, or the system has no thread or descriptor left.
    pub fn start(config: Config) -> io::Result<Self> {
        let limits = Limits {
            spool_bytes_max: config.spool_bytes_max,
            segment_bytes_max: config.segment_bytes_max,
        };
        let audit = Arc::new(Audit::open(&config.spool_directory, limits)?);
        let brain = Arc::new(Brain::new(
            config.queue_max,
            seconds(config.brain_timeout_s),
        )?);
        let registry = Arc::new(Registry::default());
        let cache = Cache::new(config.cache_entries_max)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (orders, received) = queue::unbounded_channel();
        let (core_brain, core_registry, core_audit) = (
            Arc::clone(&brain),
            Arc::clone(&registry),
            Arc::clone(&audit),
        );
        let thread = std::thread::Builder::new()
            .name("sluice-dataplane".into())
            .spawn(move || {
                let core = Rc::new(Core {
                    names: Names::new(config.names.clone()),
                    listening: RefCell::default(),
                    config,
                    brain: core_brain,
                    registry: core_registry,
                    audit: core_audit,
                    cache: RefCell::new(cache),
                    connections: Cell::new(0),
                });
                let local = LocalSet::new();
                local.block_on(&runtime, serve(core, received));
                drop(local);
                runtime.shutdown_timeout(Duration::from_millis(500));
            })?;
        Ok(Self {
            brain,
            registry,
            audit,
            orders: Mutex::new(Some(orders)),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Open a listener; the address bound.
    ///
    /// # Errors
    ///
    /// It cannot be bound, or the plane is stopped.
    pub fn listen(&self, name: String, address: String) -> io::Result<String> {
        let (bound, answer) = mpsc::channel();
        self.order(Order::Listen {
            name,
            address,
            bound,
        })?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Show clients of a listener this certificate from now on; None: they are told that there is no TLS.
    pub fn present(&self, listener: String, certificate: Option<Arc<ClientTls>>) {
        self.registry.present(listener, certificate);
    }

    /// Close the listener at an address that `listen` returned; its sessions go on. False when there is none.
    pub fn close_listener(&self, address: String) -> bool {
        let (done, answer) = mpsc::channel();
        self.order(Order::Close { address, done }).is_ok() && answer.recv().unwrap_or(false)
    }

    /// Close all listeners.
    pub fn stop_listening(&self) {
        let (done, answer) = mpsc::channel();
        if self.order(Order::StopListening(done)).is_ok() {
            let _ = answer.recv();
        }
    }

    fn order(&self, order: Order) -> io::Result<()> {
        let orders = lock(&self.orders);
        orders
            .as_ref()
            .ok_or_else(stopped)?
            .send(order)
            .map_err(|_| stopped())
    }

    /// The descriptor that becomes readable when there are requests.
    pub fn event_fd(&self) -> RawFd {
        self.brain.event_fd()
    }

    /// Take everything that waits.
    pub fn requests(&self) -> Vec<Request> {
        self.brain.take()
    }

    /// Answer a request.
    pub fn complete(&self, id: u64, reply: Reply) {
        self.brain.complete(id, reply);
    }

    /// Begin the next epoch.
    pub fn advance_epoch(&self) -> u64 {
        self.registry.advance_epoch()
    }

    /// The lowest epoch that a live session works under.
    pub fn epoch_reached(&self) -> u64 {
        self.registry.epoch_reached()
    }

    /// Close idle sessions and wait for the others; how many were cut.
    pub fn drain(&self, limit: Duration) -> usize {
        self.registry.mode.send_replace(Mode::Draining);
        let deadline = Instant::now() + limit;
        while self.registry.sessions() > 0 && Instant::now() < deadline {
            std::thread::sleep(DRAIN_LOOK);
        }
        let cut = self.registry.sessions();
        self.registry.mode.send_replace(Mode::Stopped);
        cut
    }

    /// Cut what is left, close the spool, end the thread.
    ///
    /// # Errors
    ///
    /// Records of the audit are missing from the disk.
    pub fn stop(&self) -> io::Result<()> {
        let Some(thread) = lock(&self.thread).take() else {
            return Ok(());
        };
        self.registry.mode.send_replace(Mode::Stopped);
        lock(&self.orders).take();
        let _ = thread.join();
        self.audit.close()
    }

    /// How the audit spool does.
    pub fn spool_status(&self) -> Status {
        self.audit.status()
    }

    /// Counters and gauges by name.
    pub fn metrics(&self) -> Vec<(&'static str, u64)> {
        let counters: &Counters = &self.registry.counters;
        let mut all = counters.all();
        all.push(("queue_length", self.brain.queue_length() as u64));
        all.push(("spool_records_total", self.audit.status().records));
        all
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Errors show in the spool's own status; nobody is left to be told here.
        let _ = self.stop();
    }
}

fn stopped() -> io::Error {
    io::Error::other("the data plane is stopped")
}

/// Take orders until the plane is stopped.
async fn serve(core: Rc<Core>, mut orders: queue::UnboundedReceiver<Order>) {
    let keeper = {
        let audit = Arc::clone(&core.audit);
        spawn_local(async move { audit.keep().await })
    };
    let mut listeners = Listeners::new(&core);
    while let Some(order) = orders.recv().await {
        match order {
            Order::Listen {
                name,
                address,
                bound,
            } => {
                let _ = bound.send(listeners.open(&name, &address).await);
            }
            Order::Close { address, done } => {
                let _ = done.send(listeners.close(&address).await);
            }
            Order::StopListening(done) => {
                listeners.close_all().await;
                let _ = done.send(());
            }
        }
    }
    listeners.close_all().await;
    let deadline = tokio::time::Instant::now() + STOP_GRACE;
    while core.registry.sessions() > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    keeper.abort();
}
