//! The way to the server.

use crate::Core;
use crate::model::ErrorFields;
use crate::names::Names;
use crate::registry::CancelTarget;
use crate::tls::UpstreamTls;
use crate::transport::Stream;
use bytes::BytesMut;
use sluice_wire::frontend::put_cancel;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout, timeout_at};

/// Seconds that a cancel request may take from connecting to the server's hanging up.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A server that was reached.
pub struct Reached {
    /// The connection.
    pub stream: Stream,
    /// Where it leads: a cancel request must go to the very same server.
    pub address: String,
}

/// Connect to the first address of an upstream that answers.
///
/// # Errors
///
/// What the client gets: libpq's own words for it, and a hint that names the upstream.
pub async fn connect(
    core: &Core,
    address: &str,
    tls: Option<&UpstreamTls>,
    name: &str,
) -> Result<Reached, ErrorFields> {
    let deadline = Instant::now() + core.connect_timeout();
    if let Some(path) = address.strip_prefix("unix:") {
        let opened = timeout_at(deadline, UnixStream::connect(path)).await;
        return match in_words(opened) {
            Ok(stream) => Ok(Reached {
                stream: Stream::Unix(stream),
                address: address.to_owned(),
            }),
            Err(words) => Err(unreachable(
                format!("connection to server on socket \"{path}\" failed: {words}"),
                name,
                None,
            )),
        };
    }
    let (host, port) = split(address);
    let found = timeout_at(deadline, core.names.addresses(host, port)).await;
    let addresses = match found {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err(no_address(host, &error, &core.names, name)),
        Err(_) => return Err(no_address(host, &timed_out(), &core.names, name)),
    };
    let (mut failures, mut of_tls) = (Vec::new(), false);
    for (at, &target) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let words = if core.listens_at(target) {
            "it is an address of the proxy itself".to_owned()
        } else {
            let opened = timeout(share, open(target, tls)).await;
            match opened.unwrap_or_else(|_| Err(Failure::of(&timed_out()))) {
                Ok(stream) => {
                    return Ok(Reached {
                        stream,
                        address: target.to_string(),
                    });
                }
                Err(failure) => {
                    of_tls |= failure.of_tls;
                    failure.words
                }
            }
        };
        let spelled = target.ip().to_string();
        let exact = if spelled == host {
            String::new()
        } else {
            format!(" ({spelled})")
        };
        failures.push(format!(
            "connection to server at \"{host}\"{exact}, port {port} failed: {words}"
        ));
    }
    core.names.forget();
    let advice = tls.filter(|_| of_tls).and_then(UpstreamTls::advice);
    Err(unreachable(failures.join("\n"), name, advice))
}

/// Host and port; an IPv6 host comes in brackets.
fn split(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_matches(['[', ']']), port.parse().unwrap_or(5432))
}

/// Why an address was not reached.
struct Failure {
    words: String,
    /// Somebody answered there, and is not whom TLS asks for.
    of_tls: bool,
}

impl Failure {
    fn of(error: &io::Error) -> Self {
        Self {
            words: system_words(error),
            of_tls: false,
        }
    }
}

async fn open(target: SocketAddr, tls: Option<&UpstreamTls>) -> Result<Stream, Failure> {
    let stream = plain(target).await.map_err(|error| Failure::of(&error))?;
    let Some(tls) = tls else {
        return Ok(Stream::Tcp(stream));
    };
    match tls.begin(stream).await {
        Ok(stream) => Ok(stream),
        // What went wrong may be TLS itself, which nobody insists on.
        Err(_) if tls.optional() => {
            let stream = plain(target).await.map_err(|error| Failure::of(&error))?;
            Ok(Stream::Tcp(stream))
        }
        Err(error) => Err(Failure {
            of_tls: true,
            ..Failure::of(&error)
        }),
    }
}

async fn plain(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timeout expired")
}

fn in_words<T>(opened: Result<io::Result<T>, tokio::time::error::Elapsed>) -> Result<T, String> {
    opened
        .unwrap_or_else(|_| Err(timed_out()))
        .map_err(|error| system_words(&error))
}

fn unreachable(message: String, name: &str, advice: Option<&str>) -> ErrorFields {
    let advice = advice.unwrap_or("Is the server running there, and does it accept connections?");
    ErrorFields::error("08006", message).hint(format!(
        "The proxy reached for upstream \"{name}\". {advice}"
    ))
}

fn no_address(host: &str, error: &io::Error, names: &Names, name: &str) -> ErrorFields {
    let message = format!(
        "could not translate host name \"{host}\" to address: {}",
        system_words(error)
    );
    let asked = if names.asks_dns() {
        "It asks DNS and never the hosts file: is the name known there?"
    } else {
        "Is the name right?"
    };
    ErrorFields::error("08001", message).hint(format!(
        "The proxy reached for upstream \"{name}\". {asked}"
    ))
}

/// The system's words for an error, as PostgreSQL prints them.
pub fn system_words(error: &io::Error) -> String {
    let words = error.to_string();
    match words.find(" (os error") {
        Some(end) => words[..end].to_owned(),
        None => words,
    }
}

/// Ask the server to cancel, and wait until it hung up: by then the signal was sent.
///
/// The address is one that was reached: no name is asked for. The key goes as the session's bytes go.
pub async fn cancel(target: &CancelTarget) {
    let mut request = BytesMut::new();
    put_cancel(&mut request, target.upstream_pid, &target.upstream_key);
    let exchange = async {
        let stream = if let Some(path) = target.upstream.strip_prefix("unix:") {
            Stream::Unix(UnixStream::connect(path).await?)
        } else {
            let address = target.upstream.parse().map_err(io::Error::other)?;
            let opened = open(address, target.tls.as_deref()).await;
            opened.map_err(|failure| io::Error::other(failure.words))?
        };
        let (mut inbox, outbox) = stream.split();
        outbox.buffer.borrow_mut().extend_from_slice(&request);
        outbox.flush().await?;
        inbox.fill().await
    };
    // A cancel that does not arrive is as PostgreSQL's own: without an answer.
    let _ = timeout(CANCEL_TIMEOUT, exchange).await;
}
