//! The way to the server.

use crate::model::ErrorFields;
use crate::transport::Stream;
use bytes::BytesMut;
use sluice_wire::frontend::put_cancel;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Seconds that a cancel request may take from connecting to the server's hanging up.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// Connect.
///
/// # Errors
///
/// What the client gets: libpq's own words for it, and a hint that names the upstream.
pub async fn connect(address: &str, name: &str, limit: Duration) -> Result<Stream, ErrorFields> {
    let reached = match timeout(limit, open(address)).await {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => system_words(&error),
        Err(_) => "timeout expired".to_owned(),
    };
    let server = if let Some(path) = address.strip_prefix("unix:") {
        format!("connection to server on socket \"{path}\" failed: {reached}")
    } else {
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let host = host.trim_matches(['[', ']']);
        format!("connection to server at \"{host}\", port {port} failed: {reached}")
    };
    let hint = format!(
        "The proxy reached for upstream \"{name}\". Is the server running there, and does it accept connections?"
    );
    Err(ErrorFields::error("08006", server).hint(hint))
}

async fn open(address: &str) -> io::Result<Stream> {
    if let Some(path) = address.strip_prefix("unix:") {
        return Ok(Stream::Unix(UnixStream::connect(path).await?));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(Stream::Tcp(stream))
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
pub async fn cancel(address: &str, pid: u32, key: &[u8]) {
    let mut request = BytesMut::new();
    put_cancel(&mut request, pid, key);
    let exchange = async {
        match open(address).await? {
            Stream::Tcp(mut stream) => {
                stream.write_all(&request).await?;
                stream.read(&mut [0; 1]).await
            }
            Stream::Unix(mut stream) => {
                stream.write_all(&request).await?;
                stream.read(&mut [0; 1]).await
            }
        }
    };
    // A cancel that does not arrive is as PostgreSQL's own: without an answer.
    let _ = timeout(CANCEL_TIMEOUT, exchange).await;
}
