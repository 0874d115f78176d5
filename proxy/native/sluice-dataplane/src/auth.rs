//! Authentication, relayed: no credential stays here.

use crate::Core;
use crate::model::ErrorFields;
use crate::registry::{CancelTarget, Registry};
use crate::session::{End, note_status};
use crate::tls::UpstreamTls;
use crate::transport::{Inbox, Outbox};
use bytes::{Buf, BytesMut};
use sluice_wire::backend::{key_data, parameter_status, put_key_data, put_sasl, sasl_mechanisms};
use sluice_wire::frame::{HEADER_BYTES, header};
use std::rc::Rc;
use std::sync::Arc;

/// PostgreSQL's own bound on what a client sends (`PG_MAX_AUTH_TOKEN_LENGTH`), and ours on what a server sends.
const FRAME_BYTES_MAX: usize = 65_535;

/// What the server told before its first `ReadyForQuery`.
#[derive(Default)]
pub struct Greeted {
    /// For cancel requests.
    pub cancel: Option<CancelKey>,
    /// What it reported.
    pub parameter_status: Vec<(String, String)>,
}

/// The server's side of a session, filed under a key of ours as long as this lives.
pub struct CancelKey {
    /// The server's side.
    pub target: CancelTarget,
    pid: u32,
    registry: Arc<Registry>,
}

impl Drop for CancelKey {
    fn drop(&mut self) {
        self.registry.drop_cancel(self.pid);
    }
}

/// See the module.
pub struct Relay<'a> {
    /// Shared.
    pub core: &'a Rc<Core>,
    /// Address of the server.
    pub upstream: &'a str,
    /// How its hop is encrypted, if it is.
    pub tls: Option<&'a Arc<UpstreamTls>>,
    /// To the client.
    pub to_client: &'a Outbox,
    /// To the server.
    pub to_server: &'a Outbox,
}

impl Relay<'_> {
    /// Relay until the first `ReadyForQuery`, which is kept back.
    pub async fn run(&self, client: &mut Inbox, server: &mut Inbox) -> Result<Greeted, End> {
        let mut greeted = Greeted::default();
        loop {
            self.to_server.flush().await?;
            let (tag, frame) = self.server_frame(server).await?;
            let body = &frame[HEADER_BYTES..];
            match tag {
                b'R' => {
                    if self.authentication(&frame)? {
                        self.to_client.flush().await?;
                        self.client_answer(client).await?;
                    }
                    continue;
                }
                b'K' => {
                    self.key(body, &mut greeted)?;
                    continue;
                }
                b'S' => {
                    if let Ok((name, value)) = parameter_status(body) {
                        note_status(&mut greeted.parameter_status, name, value);
                    }
                }
                b'Z' => return Ok(greeted),
                b'E' => {
                    self.to_client.buffer.borrow_mut().extend_from_slice(&frame);
                    self.to_client.flush().await?;
                    return Err(End::Quiet);
                }
                b'N' | b'v' | b'A' => {}
                other => {
                    let message =
                        format!("unexpected message type {other} of the server during startup");
                    return Err(End::fatal(ErrorFields::error("08P01", message)));
                }
            }
            self.to_client.buffer.borrow_mut().extend_from_slice(&frame);
        }
    }

    async fn server_frame(&self, server: &mut Inbox) -> Result<(u8, BytesMut), End> {
        loop {
            let head = header(&server.buffer, FRAME_BYTES_MAX).map_err(|error| {
                End::fatal(ErrorFields::error(
                    "08P01",
                    format!("the server's answer is refused: {error}"),
                ))
            })?;
            if let Some(head) = head
                && server.buffer.len() >= head.frame_bytes()
            {
                return Ok((head.tag, server.buffer.split_to(head.frame_bytes())));
            }
            if !server.fill().await? {
                self.to_client.flush().await?;
                let message = "the server closed the connection during startup";
                return Err(End::fatal(ErrorFields::error("08006", message)));
            }
        }
    }

    /// One authentication message; whether the client has to answer it.
    fn authentication(&self, frame: &[u8]) -> Result<bool, End> {
        let mut body = &frame[HEADER_BYTES..];
        if body.len() < 4 {
            return Err(End::fatal(ErrorFields::error(
                "08P01",
                "invalid authentication request of the server",
            )));
        }
        let code = body.get_u32();
        let mut out = self.to_client.buffer.borrow_mut();
        match code {
            // Ok, SASLFinal.
            0 | 12 => out.extend_from_slice(frame),
            // Cleartext, MD5, SASLContinue.
            3 | 5 | 11 => {
                out.extend_from_slice(frame);
                return Ok(true);
            }
            10 => {
                let mut offer = sasl_mechanisms(body);
                // Channel binding would bind to the other hop's TLS.
                offer.retain(|name| !name.ends_with(b"-PLUS"));
                if offer.is_empty() {
                    let fields = ErrorFields::error(
                        "0A000",
                        "the server offers authentication with channel binding alone, which cannot be relayed",
                    );
                    return Err(End::fatal(
                        fields.hint("Let the server offer SCRAM-SHA-256 as well."),
                    ));
                }
                put_sasl(&mut out, &offer);
                return Ok(true);
            }
            other => {
                let fields = ErrorFields::error("0A000", format!("authentication method {other} of the server cannot be relayed"))
                    .hint("The proxy relays password, md5 and scram-sha-256; change the server's pg_hba.conf for it.");
                return Err(End::fatal(fields));
            }
        }
        Ok(false)
    }

    async fn client_answer(&self, client: &mut Inbox) -> Result<(), End> {
        loop {
            let head = header(&client.buffer, FRAME_BYTES_MAX);
            if let Some(tag) = client.buffer.first().filter(|tag| **tag != b'p') {
                let message = format!("expected password response, got message type {tag}");
                return Err(End::fatal(ErrorFields::error("08P01", message)));
            }
            let head = head
                .map_err(|_| End::fatal(ErrorFields::error("08P01", "invalid message length")))?;
            if let Some(head) = head
                && client.buffer.len() >= head.frame_bytes()
            {
                let frame = client.buffer.split_to(head.frame_bytes());
                if self.tls.is_some() && binds_channel(&frame[HEADER_BYTES..]) {
                    return Err(End::fatal(channel_bound()));
                }
                self.to_server.buffer.borrow_mut().extend_from_slice(&frame);
                return Ok(());
            }
            if !client.fill().await? {
                return Err(End::Quiet);
            }
        }
    }

    /// The client gets a key of ours, which says nothing of the server's.
    fn key(&self, body: &[u8], greeted: &mut Greeted) -> Result<(), End> {
        let refused = |what: String| End::fatal(ErrorFields::error("08P01", what));
        let (upstream_pid, upstream_key) =
            key_data(body).map_err(|error| refused(error.to_string()))?;
        let target = CancelTarget {
            key: Vec::new(),
            upstream: self.upstream.to_owned(),
            tls: self.tls.map(Arc::clone),
            upstream_pid,
            upstream_key: upstream_key.to_vec(),
            judging: Arc::default(),
        };
        let filed = self.core.registry.add_cancel(target.clone());
        let (pid, key) = filed.map_err(|error| refused(error.to_string()))?;
        put_key_data(&mut self.to_client.buffer.borrow_mut(), pid, &key);
        let registry = Arc::clone(&self.core.registry);
        greeted.cancel = Some(CancelKey {
            target,
            pid,
            registry,
        });
        Ok(())
    }
}

/// Whether the first message of SCRAM says that the client could bind the channel and saw no server that can (RFC 5802,
/// gs2-cbind-flag "y"). A server with TLS takes that for somebody between them, which is true.
fn binds_channel(body: &[u8]) -> bool {
    body.strip_prefix(b"SCRAM-SHA-256\0")
        .and_then(|rest| rest.get(4..))
        .is_some_and(|message| message.starts_with(b"y,"))
}

fn channel_bound() -> ErrorFields {
    let message = "SCRAM channel binding cannot be relayed from one TLS connection to another";
    ErrorFields::error("0A000", message)
        .detail("The client and the server both use TLS, each with the proxy.")
        .hint("Add channel_binding=disable to the client's connection string, or sslmode=disable: its way to the proxy does not leave the pod.")
}

#[cfg(test)]
mod tests {
    use super::binds_channel;

    #[test]
    fn only_the_flag_y_binds() {
        assert!(binds_channel(b"SCRAM-SHA-256\0\0\0\0\x20y,,n=,r=abc"));
        assert!(!binds_channel(b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abc"));
        assert!(!binds_channel(b"md5yyy\0"));
        assert!(!binds_channel(b"SCRAM-SHA-256\0\0"));
        assert!(!binds_channel(b"c=biws,r=abc,p=y,"));
    }
}
