//! Sockets of both families, and the buffers in front of them.

use bytes::BytesMut;
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// Bytes asked for with one read.
pub const READ_BYTES: usize = 64 << 10;

/// A connection.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    Unix(UnixStream),
}

/// The reading side.
pub enum ReadHalf {
    /// Over TCP.
    Tcp(tcp::OwnedReadHalf),
    /// Over a unix socket.
    Unix(unix::OwnedReadHalf),
}

/// The writing side.
pub enum WriteHalf {
    /// Over TCP.
    Tcp(tcp::OwnedWriteHalf),
    /// Over a unix socket.
    Unix(unix::OwnedWriteHalf),
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

impl AsyncRead for ReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            Self::Unix(half) => Pin::new(half).poll_read(cx, buf),
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
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Self::Unix(half) => Pin::new(half).poll_shutdown(cx),
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
            Poll::Ready(Ok(()))
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
