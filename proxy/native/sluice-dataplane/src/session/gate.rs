//! What must be settled before the next statement of the client is planned.

use super::answers::Kind;
use super::{End, Session};
use sluice_wire::frontend::{put_bare, put_copy_fail};
use std::sync::atomic::Ordering;

/// What to do before going on.
enum Step {
    Go,
    Skip,
    BreakCopy,
    Flush(u64),
    Wait(u64),
    Held,
    Probe,
    Epoch,
    Cancels,
    Close,
}

impl Session {
    /// Wait until the next statement may be planned; false when the server skips it anyway.
    pub(super) async fn gate(&self) -> Result<bool, End> {
        self.pass_gate(false).await
    }

    /// As `gate`; what was judged in this very batch of messages is not held up by a policy change in between.
    pub(super) async fn pass_gate(&self, judged: bool) -> Result<bool, End> {
        loop {
            match self.next_step(judged) {
                Step::Go => return Ok(true),
                Step::Skip => return Ok(false),
                Step::BreakCopy => {
                    put_copy_fail(&mut self.to_server.buffer.borrow_mut());
                    return Ok(false);
                }
                Step::Flush(seq) => {
                    put_bare(&mut self.to_server.buffer.borrow_mut(), b'H');
                    self.flush_server().await;
                    self.until(|shared| shared.done_seq >= seq).await;
                }
                Step::Wait(seq) => {
                    self.flush_server().await;
                    self.until(|shared| shared.done_seq >= seq).await;
                }
                Step::Held => self.until(|shared| shared.held_ready.is_none()).await,
                Step::Probe => self.probe_in_pipeline().await?,
                Step::Epoch => {
                    self.control.notify_one();
                    self.flush_server().await;
                    self.until(|_| !self.epoch_behind()).await;
                }
                Step::Cancels => self.until(|shared| shared.cancels == 0).await,
                Step::Close => return Err(self.close_after_answers().await),
            }
        }
    }

    fn next_step(&self, judged: bool) -> Step {
        let mut shared = self.shared.borrow_mut();
        if shared.closing.is_some() {
            return Step::Close;
        }
        if shared.skipping {
            return Step::Skip;
        }
        if shared.held_ready.is_some() {
            return Step::Held;
        }
        if let Some(barrier) = shared.barrier {
            if shared.done_seq < barrier.seq && shared.copy_in {
                // What is no data ends a COPY in an error and is swallowed by it, whoever sends it.
                shared.copy_in = false;
                return Step::BreakCopy;
            }
            if shared.done_seq < barrier.seq {
                return if barrier.flush {
                    Step::Flush(barrier.seq)
                } else {
                    Step::Wait(barrier.seq)
                };
            }
            shared.barrier = None;
        }
        if shared.cancels > 0 {
            return Step::Cancels;
        }
        if !judged && self.epoch_behind() {
            self.watched.set(true);
            return Step::Epoch;
        }
        // In a failed transaction only what PostgreSQL refuses can come, until it is rolled back.
        if shared.dirty
            && shared.started
            && shared.status != b'E'
            && self.state.borrow().said.level > 0
        {
            return Step::Probe;
        }
        Step::Go
    }

    /// Whether the brain's side changed since the session's state was given.
    pub(super) fn epoch_behind(&self) -> bool {
        self.epoch.load(Ordering::Relaxed) < *self.core.registry.epoch.borrow()
    }

    /// The session is to end: let what runs finish first. The watchman bounds this.
    async fn close_after_answers(&self) -> End {
        let open = self
            .shared
            .borrow()
            .answers
            .iter()
            .any(|answer| !answer.kind.ends_ready());
        if open {
            put_bare(&mut self.to_server.buffer.borrow_mut(), b'H');
        }
        self.flush_server().await;
        self.until(|shared| {
            shared
                .answers
                .iter()
                .all(|answer| answer.kind == Kind::CopyEnd)
        })
        .await;
        if self.to_client.flush().await.is_err() {
            return End::Quiet;
        }
        match &self.shared.borrow().closing {
            Some(closing) => End::Fatal(closing.fields.clone()),
            None => End::Quiet,
        }
    }
}
