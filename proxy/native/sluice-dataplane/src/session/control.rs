//! The watchman: policy changes, time limits, the end of sessions.

use super::{End, Session};
use crate::model::ErrorFields;
use crate::registry::Mode;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// From the cancel request to the end of a session whose time is over.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

impl Session {
    /// Watch until the session has to end.
    pub(super) async fn control_loop(self: &Rc<Self>) -> Result<Infallible, End> {
        let mut epochs = self.core.registry.epoch.subscribe();
        let mut modes = self.core.registry.mode.subscribe();
        self.until(|shared| shared.started).await;
        loop {
            epochs.borrow_and_update();
            if self.epoch_behind() {
                self.ask_state("epoch").await?;
            }
            self.close_when_idle(*modes.borrow_and_update())?;
            let wake_at = self.next_deadline();
            tokio::select! {
                changed = epochs.changed() => changed.map_err(|_| shutdown())?,
                changed = modes.changed() => changed.map_err(|_| shutdown())?,
                () = self.control.notified() => {}
                () = sleep_until(wake_at.unwrap_or_else(Instant::now)), if wake_at.is_some() => self.deadline_passed().await?,
            }
        }
    }

    /// No answer is owed.
    fn is_idle(&self) -> bool {
        let shared = self.shared.borrow();
        shared.answers.is_empty() && shared.held_ready.is_none()
    }

    fn close_when_idle(&self, mode: Mode) -> Result<(), End> {
        let idle = self.is_idle();
        if let Some(closing) = &self.shared.borrow().closing
            && idle
        {
            return Err(End::Fatal(closing.fields.clone()));
        }
        match mode {
            Mode::Serving => {}
            Mode::Draining => {
                self.watched.set(true);
                if idle && self.shared.borrow().status == b'I' {
                    return Err(shutdown());
                }
            }
            Mode::Stopped => return Err(shutdown()),
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let shared = self.shared.borrow();
        let closing = shared.closing.as_ref().map(|closing| closing.until);
        [closing, shared.deadline].into_iter().flatten().min()
    }

    async fn deadline_passed(self: &Rc<Self>) -> Result<(), End> {
        let now = Instant::now();
        if self
            .shared
            .borrow()
            .deadline
            .is_some_and(|deadline| deadline <= now)
        {
            self.time_over();
        }
        let over = {
            let mut shared = self.shared.borrow_mut();
            match &shared.closing {
                Some(closing) if closing.until <= now => {
                    let fields = closing.fields.clone();
                    self.cancel_server(&mut shared);
                    Some(fields)
                }
                _ => None,
            }
        };
        match over {
            Some(fields) => {
                sleep(CANCEL_GRACE).await;
                Err(End::Fatal(fields))
            }
            None => Ok(()),
        }
    }
}

fn shutdown() -> End {
    End::fatal(ErrorFields::error(
        "57P01",
        "terminating connection due to administrator command",
    ))
}
