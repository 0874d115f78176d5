//! Sockets of both families, and the buffers in front of them.

use bytes::BytesMut;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};
use tokio_rustls::{client, server};

/// Bytes asked for with one read.
pub const READ_BYTES: usize = 64 << 10;

/// A connection.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
    /// Over TLS, to a server.
    ToServer(Box<client::TlsStream<TcpStream>>),
    /// Over TLS, to a client.
    ToClient(Box<server::TlsStream<TcpStream>>),
}

/// The reading side.
pub enum ReadHalf {
    /// Over TCP.
    Tcp(tcp::OwnedReadHalf),
    /// Over a unix socket.
    Unix(unix::OwnedReadHalf),
    /// Over TLS, to a server.
    ToServer(tokio::io::ReadHalf<Box<client::TlsStream<TcpStream>>>),
    /// Over TLS, to a client.
    ToClient(tokio::io::ReadHalf<Box<server::TlsStream<TcpStream>>>),
}

/// The writing side.
pub enum WriteHalf {
    /// Over TCP.
    Tcp(tcp::OwnedWriteHalf),
    /// Over a unix socket.
    Unix(unix::OwnedWriteHalf),
    /// Over TLS, to a server.
    ToServer(tokio::io::WriteHalf<Box<client::TlsStream<TcpStream>>>),
    /// Over TLS, to a client.
    ToClient(tokio::io::WriteHalf<Box<server::TlsStream<TcpStream>>>),
}

impl Stream {
    /// Split it, with buffers.
    pub fn split(self) -> (Inbox, Outbox) {
        let (read, write) = match self {
            Self::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Self::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
            Self::ToServer(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::ToServer(read), WriteHalf::ToServer(write))
            }
            Self::ToClient(stream) => {
                let (read, write) = tokio::io::split(stream);
                (ReadHalf::ToClient(read), WriteHalf::ToClient(write))
            }
        };
        let inbox = Inbox {
            half: read,
            buffer: BytesMut::new(),
        };
        (
            inbox,
            Outbox {
                half: RefCell::new(write),
                buffer: RefCell::default(),
            },
        )
    }
}

/// Both sides of a plain TCP connection, in one again; None for another. What the inbox holds is lost.
pub fn reunite(inbox: Inbox, outbox: Outbox) -> Option<Stream> {
    match (inbox.half, outbox.half.into_inner()) {
        (ReadHalf::Tcp(read), WriteHalf::Tcp(write)) => read.reunite(write).ok().map(Stream::Tcp),
        _ => None,
    }
}

/// A peer that hangs up without a word, as one that ended: who means to end says so in PostgreSQL's protocol.
fn ended(read: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    match read {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Poll::Ready(Ok(()))
        }
        other => other,
    }
}

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Self::Unix(half) => Pin::new(half).poll_read(cx, buf),
            Self::ToServer(half) => ended(Pin::new(half).poll_read(cx, buf)),
            Self::ToClient(half) => ended(Pin::new(half).poll_read(cx, buf)),
        }
    }
}

impl AsyncWrite for WriteHalf {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_write(cx, buf),
            Self::Unix(half) => Pin::new(half).poll_write(cx, buf),
            Self::ToServer(half) => Pin::new(half).poll_write(cx, buf),
            Self::ToClient(half) => Pin::new(half).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::ToServer(half) => Pin::new(half).poll_flush(cx),
            Self::ToClient(half) => Pin::new(half).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Self::Unix(half) => Pin::new(half).poll_shutdown(cx),
            Self::ToServer(half) => Pin::new(half).poll_shutdown(cx),
            Self::ToClient(half) => Pin::new(half).poll_shutdown(cx),
        }
    }
}

/// What was read and not yet looked at.
pub struct Inbox {
    half: ReadHalf,
    /// The bytes.
    pub buffer: BytesMut,
}

impl Inbox {
    /// Read once; false at the end of the stream.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(READ_BYTES);
        Ok(self.half.read_buf(&mut self.buffer).await? > 0)
    }

    /// Read until `bytes` are there; false when the stream ends before.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn need(&mut self, bytes: usize) -> io::Result<bool> {
        while self.buffer.len() < bytes {
            if !self.fill().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What is to be written. Both directions of a session may add to it.
pub struct Outbox {
    half: RefCell<WriteHalf>,
    /// The bytes.
    pub buffer: RefCell<BytesMut>,
}

impl Outbox {
    /// Write everything.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn flush(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| {
            let mut buffer = self.buffer.borrow_mut();
            let mut half = self.half.borrow_mut();
            while !buffer.is_empty() {
                let written = ready!(Pin::new(&mut *half).poll_write(cx, &buffer))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                if written == buffer.len() {
                    buffer.clear();
                } else {
                    bytes::Buf::advance(&mut *buffer, written);
                }
            }
            Pin::new(&mut *half).poll_flush(cx)
        })
        .await
    }

    /// Say that nothing follows.
    ///
    /// # Errors
    ///
    /// The connection broke.
    pub async fn shutdown(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| Pin::new(&mut *self.half.borrow_mut()).poll_shutdown(cx)).await
    }
}
