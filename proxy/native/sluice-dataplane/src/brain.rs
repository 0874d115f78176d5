//! The way to the brain: a bounded queue, a descriptor that wakes its loop, and answers by number.

use crate::model::{ErrorFields, Reply, Request};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Requests that wait, and who waits for them.
pub struct Brain {
    waiting: Mutex<Waiting>,
    bell: UnixStream,
    ear: UnixStream,
    queue_max: usize,
    timeout: Duration,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<Request>,
    answers: HashMap<u64, oneshot::Sender<Reply>>,
    last_id: u64,
}

/// Lock without a care for panics elsewhere: what is guarded is whole between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Brain {
    /// Make one.
    ///
    /// # Errors
    ///
    /// No descriptors are left.
    pub fn new(queue_max: usize, timeout: Duration) -> io::Result<Self> {
        let (bell, ear) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Self {
            waiting: Mutex::default(),
            bell,
            ear,
            queue_max,
            timeout,
        })
    }

    /// The descriptor to watch.
    pub fn event_fd(&self) -> RawFd {
        self.ear.as_raw_fd()
    }

    /// Requests that wait to be taken.
    pub fn queue_length(&self) -> usize {
        lock(&self.waiting).queue.len()
    }

    /// Take everything that waits.
    pub fn take(&self) -> Vec<Request> {
        let mut sink = [0; 64];
        while matches!((&self.ear).read(&mut sink), Ok(count) if count > 0) {}
        lock(&self.waiting).queue.drain(..).collect()
    }

    /// Answer; nobody may wait any more.
    pub fn complete(&self, id: u64, reply: Reply) {
        let sender = lock(&self.waiting).answers.remove(&id);
        if let Some(sender) = sender {
            let _ = sender.send(reply);
        }
    }

    /// Tell, without an answer. The number of such requests is bounded by the number of sessions.
    pub fn tell(&self, request: Request) {
        let mut waiting = lock(&self.waiting);
        let first = waiting.queue.is_empty();
        waiting.queue.push_back(request);
        drop(waiting);
        self.ring(first);
    }

    /// Ask, and wait for the answer.
    ///
    /// # Errors
    ///
    /// What the client gets when the queue is full or no answer comes in time.
    pub async fn ask(&self, make: impl FnOnce(u64) -> Request) -> Result<Reply, ErrorFields> {
        let (sender, receiver) = oneshot::channel();
        let id = self.enter(make, sender)?;
        let _forget = Forget { brain: self, id };
        match tokio::time::timeout(self.timeout, receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(ErrorFields::error("57P01", "the proxy is shutting down")),
            Err(_) => Err(ErrorFields::error(
                "57P03",
                format!("no policy decision within {} s", self.timeout.as_secs_f64()),
            )
            .hint("Try again in a moment; the proxy's health page says what it waits for.")),
        }
    }

    /// Put a request into the queue; the number that its answer comes under.
    fn enter(
        &self,
        make: impl FnOnce(u64) -> Request,
        sender: oneshot::Sender<Reply>,
    ) -> Result<u64, ErrorFields> {
        let mut waiting = lock(&self.waiting);
        if waiting.answers.len() >= self.queue_max {
            let fields =
                ErrorFields::error("57P03", "too many statements wait for a policy decision");
            return Err(fields.hint("Try again in a moment."));
        }
        let first = waiting.queue.is_empty();
        waiting.last_id += 1;
        let id = waiting.last_id;
        waiting.answers.insert(id, sender);
        waiting.queue.push_back(make(id));
        drop(waiting);
        self.ring(first);
        Ok(id)
    }

    fn ring(&self, first: bool) {
        if first {
            // A full socket buffer is as good as another byte in it.
            let _ = (&self.bell).write(&[1]);
        }
    }
}

/// Takes the waiter away when its future is dropped.
struct Forget<'a> {
    brain: &'a Brain,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.brain.waiting).answers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_requests_are_taken_once() {
        let brain = Brain::new(4, Duration::from_secs(1)).unwrap();
        brain.tell(Request::Closed(1));
        brain.tell(Request::Closed(2));
        assert_eq!(brain.take().len(), 2);
        assert!(brain.take().is_empty());
    }
}
