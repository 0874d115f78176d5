//! Where clients connect. Listeners come and go while the plane runs: databases are classified at any time.

use crate::transport::Stream;
use crate::{Core, startup};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::{JoinHandle, spawn_local};

/// Connections beyond the sessions: those that are still greeting, and cancel requests.
const GREETING_MAX: usize = 256;
/// From a failed accept to the next: no descriptor is left, those who wait are served when one is.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// All listeners, by the address bound.
pub struct Listeners {
    core: Rc<Core>,
    open: HashMap<String, (JoinHandle<()>, Option<SocketAddr>)>,
}

impl Listeners {
    /// None yet.
    pub fn new(core: &Rc<Core>) -> Self {
        Self {
            core: Rc::clone(core),
            open: HashMap::new(),
        }
    }

    /// Open one; the address bound.
    ///
    /// # Errors
    ///
    /// It cannot be bound.
    pub async fn open(&mut self, name: &str, address: &str) -> io::Result<String> {
        let (core, name) = (Rc::clone(&self.core), Rc::from(name));
        if let Some(path) = address.strip_prefix("unix:") {
            remove_stale(path)?;
            let listener = UnixListener::bind(path)?;
            let unlink = Unlink(path_of(&listener));
            let task = spawn_local(accept_unix(core, name, listener, unlink));
            self.open.insert(address.to_owned(), (task, None));
            return Ok(address.to_owned());
        }
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        self.core.listening.borrow_mut().push(bound);
        let task = spawn_local(accept_tcp(core, name, listener));
        self.open.insert(bound.to_string(), (task, Some(bound)));
        Ok(bound.to_string())
    }

    /// Close the one at this address; whether there was one.
    pub async fn close(&mut self, address: &str) -> bool {
        let Some((task, bound)) = self.open.remove(address) else {
            return false;
        };
        task.abort();
        // By then its socket is closed.
        let _ = task.await;
        let mut listening = self.core.listening.borrow_mut();
        if let Some(at) = listening.iter().position(|one| Some(*one) == bound) {
            listening.swap_remove(at);
        }
        true
    }

    /// Close all.
    pub async fn close_all(&mut self) {
        let all: Vec<String> = self.open.keys().cloned().collect();
        for address in all {
            self.close(&address).await;
        }
    }
}

async fn accept_tcp(core: Rc<Core>, name: Rc<str>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                accepted(&core, &name, Stream::Tcp(stream), peer.to_string());
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn accept_unix(core: Rc<Core>, name: Rc<str>, listener: UnixListener, _unlink: Unlink) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => accepted(&core, &name, Stream::Unix(stream), "unix".to_owned()),
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn accepted(core: &Rc<Core>, name: &Rc<str>, stream: Stream, peer: String) {
    if core.connections.get() >= core.config.sessions_max + GREETING_MAX {
        // More connections than sessions and patience: closed without a word, as a full backlog would be.
        return;
    }
    let connection = Connection::new(Rc::clone(core));
    let name = Rc::clone(name);
    spawn_local(async move {
        startup::serve(Rc::clone(&connection.0), stream, name, peer).await;
    });
}

/// Counted from the accept to the end.
struct Connection(Rc<Core>);

impl Connection {
    fn new(core: Rc<Core>) -> Self {
        core.connections.set(core.connections.get() + 1);
        Self(core)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
    }
}

fn path_of(listener: &UnixListener) -> Option<std::path::PathBuf> {
    listener.local_addr().ok()?.as_pathname().map(Into::into)
}

/// A socket that nobody listens on any more is in the way.
fn remove_stale(path: &str) -> io::Result<()> {
    let is_socket =
        std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Removes the socket's file when the listener is closed.
struct Unlink(Option<std::path::PathBuf>);

impl Drop for Unlink {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
