//! From the server to the client.

use super::answers::Origin;
use super::replies::After;
use super::{End, Session};
use crate::model::ErrorFields;
use crate::transport::Inbox;
use bytes::{Buf, BufMut};
use sluice_wire::frame::{Header, header};
use std::convert::Infallible;
use std::rc::Rc;

/// The frame whose bytes are being streamed.
#[derive(Default)]
struct Streamed {
    left: usize,
    shown: bool,
}

impl Session {
    /// Forward answers until a side hangs up.
    pub(super) async fn server_loop(self: &Rc<Self>, mut inbox: Inbox) -> Result<Infallible, End> {
        self.start().await?;
        let mut streamed = Streamed::default();
        loop {
            match self.take_frames(&mut inbox, &mut streamed)? {
                After::Nothing => {
                    self.to_client.flush().await?;
                    if !inbox.fill().await? {
                        return Err(End::Quiet);
                    }
                }
                After::Flush => self.to_server.flush().await?,
                After::Probe => {
                    self.send_probe(Origin::IdleProbe);
                    self.to_server.flush().await?;
                }
                After::State => self.release().await?,
                After::Check => {
                    self.to_client.flush().await?;
                    self.check_answer().await?;
                }
            }
        }
    }

    /// Ask for the state before the client sees its first `ReadyForQuery`.
    async fn start(&self) -> Result<(), End> {
        self.shared.borrow_mut().held_ready = Some(0);
        if self.admission.probe.is_some() {
            self.send_probe(Origin::IdleProbe);
            self.to_server.flush().await?;
            return Ok(());
        }
        self.release().await
    }

    /// The probe is over: ask the brain, and let `ReadyForQuery` go.
    async fn release(&self) -> Result<(), End> {
        let (started, fresh) = {
            let shared = self.shared.borrow();
            (
                shared.started,
                shared.probe_fresh || self.admission.probe.is_none(),
            )
        };
        if fresh {
            self.ask_state(if started { "refresh" } else { "start" })
                .await?;
        } else if !started {
            let fields = ErrorFields::error(
                "XX000",
                "the state of the session could not be read from the server",
            );
            return Err(End::fatal(
                fields.hint("The server's log has the error of the probe."),
            ));
        }
        {
            let mut shared = self.shared.borrow_mut();
            shared.dirty = !fresh;
            shared.transaction_dirty &= shared.status != b'I';
            shared.started = true;
            let seq = shared.held_ready.take().unwrap_or_default();
            self.to_client
                .buffer
                .borrow_mut()
                .put_slice(&[b'Z', 0, 0, 0, 5, shared.status]);
            shared.wake();
            self.settle(&mut shared, seq);
        }
        self.control.notify_one();
        Ok(())
    }

    fn take_frames(
        self: &Rc<Self>,
        inbox: &mut Inbox,
        streamed: &mut Streamed,
    ) -> Result<After, End> {
        loop {
            if streamed.left > 0 {
                let part = streamed.left.min(inbox.buffer.len());
                if streamed.shown {
                    self.to_client
                        .buffer
                        .borrow_mut()
                        .extend_from_slice(&inbox.buffer[..part]);
                }
                inbox.buffer.advance(part);
                streamed.left -= part;
                self.inside_frame.set(streamed.shown && streamed.left > 0);
                if streamed.left > 0 {
                    return Ok(After::Nothing);
                }
            }
            let Some(head) = self.server_header(&inbox.buffer)? else {
                return Ok(After::Nothing);
            };
            if self.must_check(head.tag) {
                return Ok(After::Check);
            }
            if matches!(head.tag, b'D' | b'd') && !self.internal_row() {
                streamed.left = head.frame_bytes();
                let mut shared = self.shared.borrow_mut();
                let mut out = self.to_client.buffer.borrow_mut();
                streamed.shown = self.row(&mut shared, head.body, &mut out)?;
                continue;
            }
            if inbox.buffer.len() < head.frame_bytes() {
                return Ok(After::Nothing);
            }
            let frame = inbox.buffer.split_to(head.frame_bytes());
            let after = self.reply(head.tag, &frame)?;
            if after != After::Nothing {
                return Ok(after);
            }
        }
    }

    fn server_header(&self, buffer: &[u8]) -> Result<Option<Header>, End> {
        header(buffer, self.core.config.frame_bytes_max).map_err(|error| {
            End::fatal(
                ErrorFields::error("08P01", format!("the server's answer is refused: {error}"))
                    .hint(format!(
                        "Frames are limited to {} bytes.",
                        self.core.config.frame_bytes_max
                    )),
            )
        })
    }

    fn internal_row(&self) -> bool {
        self.shared
            .borrow()
            .answers
            .front()
            .is_some_and(|head| head.origin != Origin::Client)
    }
}
