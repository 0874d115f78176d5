//! From a client's first byte to its session.

use crate::Core;
use crate::auth;
use crate::model::{ErrorFields, OpenRequest, Reply, Request, SessionAdmission};
use crate::session::{End, Opening, Session, put_fields};
use crate::tls::ClientTls;
use crate::transport::{Inbox, Outbox, Stream};
use crate::upstream;
use bytes::{Buf, BufMut};
use sluice_wire::frontend::{
    CANCEL_REQUEST, GSSENC_REQUEST, SSL_REQUEST, STARTUP_BYTES_MAX, put_startup, startup_parameters,
};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::timeout;

/// Seconds for an error to reach a client that may not be reading.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that said who it is.
struct Hello {
    version: u32,
    parameters: Vec<(String, String)>,
}

/// What a client's first packets came to.
enum Greeting {
    /// It wants a session.
    Hello(Hello),
    /// It was told to begin with TLS.
    Tls,
    /// It wanted something else, which is done.
    Done,
}

/// Serve one connection from its first byte to its last.
pub async fn serve(core: Rc<Core>, stream: Stream, listener: Rc<str>, peer: String) {
    let limit = core.startup_timeout();
    let greeted = timeout(limit, meet(&core, stream, &listener)).await;
    let Ok(Some((hello, mut inbox, outbox))) = greeted else {
        return;
    };
    let hello = match hello {
        Ok(hello) => hello,
        Err(fields) => return refuse(&outbox, &fields).await,
    };
    let Some((number, epoch)) = core.registry.enter(core.config.sessions_max) else {
        let fields =
            ErrorFields::error("53300", "sorry, too many clients already").detail(format!(
                "The proxy serves at most {} sessions at a time.",
                core.config.sessions_max
            ));
        return refuse(&outbox, &fields).await;
    };
    let _leave = Leave {
        core: Rc::clone(&core),
        number,
    };
    let caller = Caller {
        number,
        epoch,
        listener: &listener,
        peer: &peer,
    };
    let opened = timeout(limit, open(&core, caller, &hello, &mut inbox, outbox));
    let (session, server) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err((outbox, End::Fatal(fields)))) => return refuse(&outbox, &fields).await,
        Ok(Err((_, End::Quiet))) | Err(_) => return,
    };
    session.run_guarded(inbox, server).await;
}

/// Who is at the door.
struct Caller<'a> {
    number: u64,
    epoch: Arc<AtomicU64>,
    listener: &'a str,
    peer: &'a str,
}

/// Takes the session out of the registry and tells the brain, however it ends.
struct Leave {
    core: Rc<Core>,
    number: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.core.registry.leave(self.number);
        self.core.brain.tell(Request::Closed(self.number));
    }
}

async fn refuse(outbox: &Outbox, fields: &ErrorFields) {
    put_fields(&mut outbox.buffer.borrow_mut(), &fields.clone().fatal());
    let _ = timeout(FAREWELL_TIMEOUT, outbox.flush()).await;
    let _ = outbox.shutdown().await;
}

/// Greet a client, over TLS when it asks for it and there is a certificate to show. None: it wanted something else, which is
/// done, or broke off.
async fn meet(
    core: &Core,
    stream: Stream,
    listener: &str,
) -> Option<(Result<Hello, Arc<ErrorFields>>, Inbox, Outbox)> {
    let over_tcp = matches!(stream, Stream::Tcp(_));
    let certificate = core.registry.certificate(listener).filter(|_| over_tcp);
    let mut asked = Asked {
        tls: certificate.is_some(),
        ..Asked::default()
    };
    let (mut inbox, mut outbox) = match &certificate {
        Some(tls) if ClientTls::is_direct(&stream).await => {
            (asked.tls, asked.ssl) = (false, true);
            tls.accept(stream, true).await.ok()?.split()
        }
        _ => stream.split(),
    };
    loop {
        match greet(core, &mut inbox, &outbox, &mut asked).await {
            Ok(Greeting::Hello(hello)) => return Some((Ok(hello), inbox, outbox)),
            Err(End::Fatal(fields)) => return Some((Err(fields), inbox, outbox)),
            Ok(Greeting::Tls) => {
                (inbox, outbox) = certificate.as_ref()?.upgrade(inbox, outbox).await.ok()?;
            }
            Ok(Greeting::Done) | Err(End::Quiet) => return None,
        }
    }
}

/// What a client may ask for once.
#[derive(Default)]
struct Asked {
    /// There is a certificate to show.
    tls: bool,
    ssl: bool,
    gss: bool,
}

/// Read packets until one asks for a session or for TLS.
async fn greet(
    core: &Core,
    inbox: &mut Inbox,
    outbox: &Outbox,
    had: &mut Asked,
) -> Result<Greeting, End> {
    loop {
        if !inbox.need(4).await? {
            return Ok(Greeting::Done);
        }
        // A TLS hello reads as a length of more than 16 MiB: without a certificate TLS is not spoken here.
        let length = (&inbox.buffer[..4]).get_u32() as usize;
        if !(8..=STARTUP_BYTES_MAX).contains(&length) || !inbox.need(length).await? {
            return Ok(Greeting::Done);
        }
        let mut packet = inbox.buffer.split_to(length);
        packet.advance(4);
        let asked = packet.get_u32();
        let mut answer = b'N';
        match asked {
            SSL_REQUEST if !had.ssl => {
                had.ssl = true;
                if had.tls {
                    answer = b'S';
                }
            }
            GSSENC_REQUEST if !had.gss => had.gss = true,
            CANCEL_REQUEST => {
                cancel(core, &packet).await;
                return Ok(Greeting::Done);
            }
            _ => return hello(asked, &packet).map(Greeting::Hello),
        }
        outbox.buffer.borrow_mut().put_u8(answer);
        outbox.flush().await?;
        if answer == b'S' {
            return Ok(Greeting::Tls);
        }
    }
}

fn hello(version: u32, body: &[u8]) -> Result<Hello, End> {
    let (major, minor) = (version >> 16, version & 0xffff);
    if major != 3 {
        let message =
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2");
        return Err(End::fatal(ErrorFields::error("0A000", message)));
    }
    let raw = startup_parameters(body)
        .map_err(|error| End::fatal(ErrorFields::error("08P01", error.to_string())))?;
    let mut parameters = Vec::with_capacity(raw.len());
    for (name, value) in raw {
        let pair = String::from_utf8(name).and_then(|name| Ok((name, String::from_utf8(value)?)));
        parameters.push(pair.map_err(|_| {
            End::fatal(
                ErrorFields::error(
                    "0A000",
                    "startup parameters that are not valid UTF-8 are not supported",
                )
                .hint("Use names and values in UTF-8."),
            )
        })?);
    }
    Ok(Hello {
        version,
        parameters,
    })
}

async fn cancel(core: &Core, body: &[u8]) {
    let Some((pid, key)) = body.split_first_chunk::<4>() else {
        return;
    };
    if let Some(target) = core.registry.find_cancel(u32::from_be_bytes(*pid), key)
        && !target.judging.cancel()
    {
        upstream::cancel(&target).await;
    }
}

/// The last value of a parameter: PostgreSQL takes that one, too.
fn last<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let found = parameters.iter().rev().find(|(known, _)| known == name);
    found
        .map(|(_, value)| value.as_str())
        .filter(|value| !value.is_empty())
}

async fn admit(core: &Core, caller: &Caller<'_>, hello: &Hello) -> Result<SessionAdmission, End> {
    let Some(user) = last(&hello.parameters, "user") else {
        let message = "no PostgreSQL user name specified in startup packet";
        return Err(End::fatal(ErrorFields::error("28000", message)));
    };
    let database = last(&hello.parameters, "database").unwrap_or(user);
    let request = |id| {
        Request::Open(OpenRequest {
            id,
            session: caller.number,
            listener: caller.listener.to_owned(),
            database: database.to_owned(),
            user: user.to_owned(),
            parameters: hello.parameters.clone(),
            peer: caller.peer.to_owned(),
        })
    };
    match core.brain.ask(request).await.map_err(End::fatal)? {
        Reply::Admission(admission) => Ok(admission),
        Reply::Error(fields) => Err(End::fatal(fields)),
        _ => Err(End::fatal(crate::session::wrong_answer())),
    }
}

async fn open(
    core: &Rc<Core>,
    caller: Caller<'_>,
    hello: &Hello,
    client: &mut Inbox,
    to_client: Outbox,
) -> Result<(Rc<Session>, Inbox), (Outbox, End)> {
    let admission = match admit(core, &caller, hello).await {
        Ok(admission) => admission,
        Err(end) => return Err((to_client, end)),
    };
    let asked = admission.tls.as_deref();
    let reached =
        upstream::connect(core, &admission.upstream, asked, &admission.upstream_name).await;
    let reached = match reached {
        Ok(reached) => reached,
        Err(fields) => return Err((to_client, End::fatal(fields))),
    };
    let tls = admission.tls.as_ref();
    let tls = tls.filter(|_| matches!(reached.stream, Stream::ToServer(_)));
    let upstream = reached.address;
    let (mut server, to_server) = reached.stream.split();
    put_startup(
        &mut to_server.buffer.borrow_mut(),
        hello.version,
        &admission.parameters,
    );
    let relay = auth::Relay {
        core,
        upstream: &upstream,
        tls,
        to_client: &to_client,
        to_server: &to_server,
    };
    let greeted = match relay.run(client, &mut server).await {
        Ok(greeted) => greeted,
        Err(end) => {
            let _ = to_client.flush().await;
            return Err((to_client, end));
        }
    };
    core.audit.session(
        caller.number,
        &admission.audit,
        caller.peer,
        &admission.upstream_name,
    );
    let opening = Opening {
        number: caller.number,
        admission,
        cancel: greeted.cancel,
        epoch: caller.epoch,
        parameter_status: greeted.parameter_status,
        to_client,
        to_server,
    };
    Ok((Session::new(Rc::clone(core), opening), server))
}
