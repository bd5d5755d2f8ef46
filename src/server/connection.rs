//! One accepted socket: which part of a request it is in, since when, and how long that part may last.
//!
//! Rule: a peer that is slow or silent in any part of an exchange loses its connection after a bounded time. The clock restarts
//! when a part begins and never at a byte, so that a drip-feed gains nothing. What a request means is left to the router; how
//! many sockets there may be is left to the accept loop.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::ServerLimits;

/// How long a connection that has sent nothing yet is spared at shutdown, so that a client which connected just before the
/// stop still gets its first answer. Longer than a round trip between continents, far shorter than the shutdown wait.
const FRESH_CONNECTION_GRACE: Duration = Duration::from_millis(500);

/// Added to the request timeout before the connection itself is cut: the handler's own timeout answers first.
const HANDLING_MARGIN: Duration = Duration::from_secs(5);

/// The part of an exchange a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted; no byte has come.
    Fresh,
    /// The first byte of a request head has come, its end has not.
    Head,
    /// The router has the request. Its body may still be arriving: the body has a deadline of its own.
    Handling,
    /// The router has answered and hyper is taking the body.
    Answering,
    /// hyper has all of the answer in its buffer, the kernel has not. The time is still that of `Answering`.
    Flushing,
    /// The answer is out, and nothing of a next request has come.
    Idle,
}

impl Phase {
    /// The label used in metrics and log lines.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Phase::Fresh => "fresh",
            Phase::Head => "head",
            Phase::Handling => "handling",
            Phase::Answering | Phase::Flushing => "answering",
            Phase::Idle => "idle",
        }
    }

    fn time_allowed(self, limits: &ServerLimits) -> Duration {
        match self {
            Phase::Fresh | Phase::Head => limits.header_read_timeout,
            Phase::Handling => limits.request_timeout.saturating_add(HANDLING_MARGIN),
            Phase::Answering | Phase::Flushing => limits.response_write_timeout,
            Phase::Idle => limits.idle_timeout,
        }
    }
}

/// The phase of one connection and when it began, shared by the socket wrapper, the service and the driver. All three run
/// inside one task, so the lock is never contended.
#[derive(Debug)]
pub(super) struct PhaseClock(Mutex<(Phase, Instant)>);

impl PhaseClock {
    pub(super) fn start() -> Arc<Self> {
        Arc::new(Self(Mutex::new((Phase::Fresh, Instant::now()))))
    }

    pub(super) fn enter(&self, phase: Phase) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (phase, Instant::now());
    }

    fn current(&self) -> (Phase, Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_arrived(&self) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Bytes in any other phase belong to a body, to the rest of a head, or to a pipelined request that hyper keeps for later.
        if matches!(current.0, Phase::Fresh | Phase::Idle) {
            *current = (Phase::Head, Instant::now());
        }
    }

    fn answer_taken(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = Phase::Flushing;
    }

    fn flushed(&self) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if current.0 == Phase::Flushing {
            *current = (Phase::Idle, Instant::now());
        }
    }

    fn deadline(&self, limits: &ServerLimits) -> (Phase, Instant) {
        let (phase, since) = self.current();
        (phase, since + phase.time_allowed(limits))
    }
}

/// A socket that tells the phase clock when bytes have arrived and when an answer is out.
#[derive(Debug)]
pub(super) struct WatchedSocket {
    socket: TcpStream,
    clock: Arc<PhaseClock>,
}

impl WatchedSocket {
    pub(super) fn new(socket: TcpStream, clock: Arc<PhaseClock>) -> Self {
        Self { socket, clock }
    }
}

impl AsyncRead for WatchedSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let bytes_before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        if buffer.filled().len() > bytes_before {
            this.clock.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    // hyper flushes the socket only after its own buffer has run empty, so this is the moment when an answer is out.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_flush(context))?;
        this.clock.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// The error a request body ends with when it has not arrived in time. The door that meets it answers 408 in its own form; find
/// it with [`super::body_read_timed_out`], because extractors wrap it.
#[derive(Debug, thiserror::Error)]
#[error("the request body did not arrive in time")]
pub struct BodyReadTimeout;

/// A request body that must end before a fixed moment, however its bytes are spread.
#[derive(Debug)]
pub(super) struct DeadlineBody {
    incoming: Incoming,
    deadline: Instant,
    /// Made at the first wait: most bodies arrive in the same segment as the head and never need a timer.
    timer: Option<Pin<Box<Sleep>>>,
    timed_out: Arc<AtomicBool>,
}

impl DeadlineBody {
    /// `timed_out` turns true when the deadline has ended the body.
    pub(super) fn new(incoming: Incoming, deadline: Instant, timed_out: Arc<AtomicBool>) -> Self {
        Self { incoming, deadline, timer: None, timed_out }
    }

    fn end_by_timeout(&self) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        self.timed_out.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(Box::new(BodyReadTimeout))))
    }
}

impl HttpBody for DeadlineBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        // The timer goes first, or a sender that always has one more byte ready would never be stopped.
        if let Some(timer) = &mut this.timer
            && timer.as_mut().poll(context).is_ready()
        {
            return this.end_by_timeout();
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if this.timer.is_none() {
            let timer = this.timer.insert(Box::pin(tokio::time::sleep_until(this.deadline)));
            if timer.as_mut().poll(context).is_ready() {
                return this.end_by_timeout();
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A response body that tells the phase clock when hyper has taken the last of it.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    clock: Arc<PhaseClock>,
    is_open_ended: bool,
}

impl TrackedBody {
    pub(super) fn new(body: Body, clock: Arc<PhaseClock>) -> Self {
        Self { body, clock, is_open_ended: false }
    }

    /// A body that may go on for long: the time runs anew with each piece that hyper takes. It takes none while the peer
    /// does not read, so who does not read is cut like anybody else.
    pub(super) fn new_open_ended(body: Body, clock: Arc<PhaseClock>) -> Self {
        Self { body, clock, is_open_ended: true }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if self.is_open_ended && frame.is_some() {
            self.clock.enter(Phase::Answering);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for TrackedBody {
    // hyper drops the body once its last frame is in the write buffer, also when it never had to poll it (HEAD, 204, empty).
    fn drop(&mut self) {
        self.clock.answer_taken();
    }
}

/// What [`drive`] needs of a hyper connection; a trait only so that its long type is named in one place.
pub(super) trait Connection: Future<Output = hyper::Result<()>> {
    /// Answers what is in hand, then closes.
    fn stop_after_current_request(self: Pin<&mut Self>);
}

impl<S> Connection for hyper::server::conn::http1::Connection<hyper_util::rt::TokioIo<WatchedSocket>, S>
where
    S: hyper::service::HttpService<Incoming, ResBody = TrackedBody>,
    S::Error: Into<axum::BoxError>,
{
    fn stop_after_current_request(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum Ending {
    /// Closed by the peer or by the rules of HTTP.
    Closed,
    /// The socket failed, or the peer sent what is not HTTP/1.1.
    Failed(hyper::Error),
    /// The phase lasted too long.
    TimedOut(Phase),
    /// The shutdown wait was over.
    Aborted,
}

/// Runs one connection to its end. Returning drops the socket, and with it whatever was still in hand.
pub(super) async fn drive(
    connection: impl Connection,
    clock: &PhaseClock,
    limits: &ServerLimits,
    shutdown: &CancellationToken,
    abort: &CancellationToken,
) -> Ending {
    let mut connection = pin!(connection);
    let mut shutdown = pin!(shutdown.cancelled());
    let mut abort = pin!(abort.cancelled());
    let mut timer = pin!(tokio::time::sleep_until(clock.deadline(limits).1));
    let mut shutdown_seen_at: Option<Instant> = None;
    let mut told_to_stop = false;

    std::future::poll_fn(move |context| {
        loop {
            // First, so that bytes which are already here count before any deadline does.
            if let Poll::Ready(result) = connection.as_mut().poll(context) {
                return Poll::Ready(match result {
                    Ok(()) => Ending::Closed,
                    Err(error) => Ending::Failed(error),
                });
            }
            if abort.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ending::Aborted);
            }
            if shutdown_seen_at.is_none() && shutdown.as_mut().poll(context).is_ready() {
                shutdown_seen_at = Some(Instant::now());
            }

            let (phase, deadline) = clock.deadline(limits);
            let mut wake_at = deadline;
            if let (false, Some(seen_at)) = (told_to_stop, shutdown_seen_at) {
                let grace_ends = seen_at + FRESH_CONNECTION_GRACE;
                if phase == Phase::Fresh && Instant::now() < grace_ends {
                    wake_at = deadline.min(grace_ends);
                } else {
                    connection.as_mut().stop_after_current_request();
                    told_to_stop = true;
                    continue;
                }
            }

            // An armed timer that fires too early costs one wake-up; one that is moved at each phase costs each request. So it
            // is moved only to make it earlier, or once it has fired.
            if wake_at < timer.deadline() {
                timer.as_mut().reset(wake_at);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if now >= deadline {
                return Poll::Ready(Ending::TimedOut(phase));
            }
            if now < wake_at {
                timer.as_mut().reset(wake_at);
            }
        }
    })
    .await
}
