//! A connection on which a receiver may send so much and no more before it is asked again.
//! The body of an answer is read to a bound by whoever asked, but heads, early answers (1xx) and frames that belong
//! to no answer are read below him: without a bound here, a receiver could keep a processor busy for as long as an
//! attempt may last.

use std::error::Error;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use hyper_rustls::MaybeHttpsStream;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// More came than may come for one request.
#[derive(Debug, thiserror::Error)]
#[error("the answer and what came around it had more than {read_bytes_max} bytes")]
pub struct AnswerTooLong {
    read_bytes_max: usize,
}

impl AnswerTooLong {
    /// Whether this is what an error or one behind it says.
    pub fn is_in(error: &(dyn Error + 'static)) -> bool {
        std::iter::successors(Some(error), |&error| error.source()).any(|error| {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            inner.is_some_and(|inner| inner.is::<AnswerTooLong>())
        })
    }
}

/// Where the bytes come from.
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The connection.
pub struct BoundedStream {
    stream: TokioIo<Stream>,
    /// Requests to this receiver so far, and how many there were when something was last read.
    requests: Arc<AtomicUsize>,
    requests_seen: usize,
    /// Read since then.
    read_bytes: usize,
    read_bytes_max: usize,
}

impl BoundedStream {
    /// Fails when more than `read_bytes_max` come between two of `requests`, which whoever sends them counts.
    pub fn new(stream: Stream, read_bytes_max: usize, requests: Arc<AtomicUsize>) -> BoundedStream {
        BoundedStream { stream: TokioIo::new(stream), requests, requests_seen: 0, read_bytes: 0, read_bytes_max }
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
        let requests = self.requests.load(Ordering::Relaxed);
        if requests != self.requests_seen {
            (self.requests_seen, self.read_bytes) = (requests, 0);
        }
        self.read_bytes = self.read_bytes.saturating_add(buffer.filled().len() - before);
        if self.read_bytes > self.read_bytes_max {
            let read_bytes_max = self.read_bytes_max;
            return Poll::Ready(Err(io::Error::other(AnswerTooLong { read_bytes_max })));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_comes_between_two_requests_is_bounded_and_no_answer_of_ours_changes_that() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connected");
        let (mut far, _) = listener.accept().await.expect("accepted");
        let requests = Arc::new(AtomicUsize::new(1));
        let mut stream = BoundedStream::new(MaybeHttpsStream::Http(TokioIo::new(near)), 8, Arc::clone(&requests));
        let mut read = [0; 8];
        for _ in 0..2 {
            far.write_all(b"12345678").await.expect("written");
            stream.read_exact(&mut read).await.expect("no more than may come");
            requests.fetch_add(1, Ordering::Relaxed);
        }
        far.write_all(b"12345678").await.expect("written");
        stream.read_exact(&mut read).await.expect("no more than may come");
        // As the answers to pings are, many of which go out together.
        stream.write_all(&[0; 1024]).await.expect("written");
        far.write_all(b"9").await.expect("written");
        let error = stream.read(&mut read).await.expect_err("one byte more");
        assert!(AnswerTooLong::is_in(&error), "{error}");
    }
}
