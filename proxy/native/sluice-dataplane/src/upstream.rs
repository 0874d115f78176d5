//! The way to the server.

use crate::Core;
use crate::model::ErrorFields;
use crate::names::Names;
use crate::transport::Stream;
use bytes::BytesMut;
use sluice_wire::frontend::put_cancel;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
pub async fn connect(core: &Core, address: &str, name: &str) -> Result<Reached, ErrorFields> {
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
    let mut failures = Vec::new();
    for (at, &target) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let words = if core.listens_at(target) {
            "it is an address of the proxy itself".to_owned()
        } else {
            match in_words(timeout(share, open(target)).await) {
                Ok(stream) => {
                    return Ok(Reached {
                        stream,
                        address: target.to_string(),
                    });
                }
                Err(words) => words,
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
    Err(unreachable(failures.join("\n"), name))
}

/// Host and port; an IPv6 host comes in brackets.
fn split(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_matches(['[', ']']), port.parse().unwrap_or(5432))
}

async fn open(target: SocketAddr) -> io::Result<Stream> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timeout expired")
}

fn in_words<T>(opened: Result<io::Result<T>, tokio::time::error::Elapsed>) -> Result<T, String> {
    opened
        .unwrap_or_else(|_| Err(timed_out()))
        .map_err(|error| system_words(&error))
}

fn unreachable(message: String, name: &str) -> ErrorFields {
    ErrorFields::error("08006", message).hint(format!(
        "The proxy reached for upstream \"{name}\". Is the server running there, and does it accept connections?"
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
/// The address is one that was reached: no name is asked for.
pub async fn cancel(address: &str, pid: u32, key: &[u8]) {
    let mut request = BytesMut::new();
    put_cancel(&mut request, pid, key);
    let exchange = async {
        if let Some(path) = address.strip_prefix("unix:") {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(&request).await?;
            return stream.read(&mut [0; 1]).await;
        }
        let target: SocketAddr = address.parse().map_err(io::Error::other)?;
        let mut stream = TcpStream::connect(target).await?;
        stream.write_all(&request).await?;
        stream.read(&mut [0; 1]).await
    };
    // A cancel that does not arrive is as PostgreSQL's own: without an answer.
    let _ = timeout(CANCEL_TIMEOUT, exchange).await;
}
