//! A connection on which a receiver may send so much and no more before it is asked again.
//! The body of an answer is read to a bound by whoever asked, but heads, early answers (1xx) and frames that belong
//! to no answer are read below him: without a bound here, a receiver could keep a processor busy for as long as an
//! attempt may last.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// A write of so many bytes is a request; answers to pings and other frames of HTTP/2 are smaller.
const REQUEST_BYTES_MIN: usize = 256;

/// Where the bytes come from.
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connection.
pub struct BoundedStream {
    stream: TokioIo<Stream>,
    /// Read since the last request was written.
    read_bytes: usize,
    read_bytes_max: usize,
}

impl BoundedStream {
    /// Fails when more than `read_bytes_max` come between two requests.
    pub fn new(stream: Stream, read_bytes_max: usize) -> BoundedStream {
        BoundedStream { stream: TokioIo::new(stream), read_bytes: 0, read_bytes_max }
    }

    fn wrote(&mut self, bytes: usize) {
        if bytes >= REQUEST_BYTES_MIN {
            self.read_bytes = 0;
        }
    }
}

impl Connection for BoundedStream {
    fn connected(&self) -> Connected {
        self.stream.inner().connected()
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.read_bytes = self.read_bytes.saturating_add(buffer.filled().len() - before);
        if self.read_bytes > self.read_bytes_max {
            let problem = format!("the answer and what came around it had more than {} bytes", self.read_bytes_max);
            return Poll::Ready(Err(io::Error::other(problem)));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, buffer))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, buffers))?;
        self.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
