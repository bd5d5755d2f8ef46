//! The HTTP server: an accept loop over hyper that serves one router over HTTP/1.1 and bounds what a peer may take.
//!
//! Rule: every wait and every count a peer can drive has a limit in [`ServerLimits`]; whoever passes one loses the connection and
//! nobody else notices. HTTP/2 is not spoken in clear text. Panics, body sizes, logging and response headers are left to the
//! router's layers, and TLS to the proxy in front.
//!
//! hyper's own `header_read_timeout` stays off. It starts when hyper begins to wait for a request, so on a kept-alive connection
//! it ends the idle wait as well, and one number would have to be right for both. `connection` keeps the two apart.

mod connection;
mod open_connections;

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use futures_util::StreamExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::telemetry::{CONNECTIONS_REFUSED_TOTAL, CONNECTIONS_TIMED_OUT_TOTAL};
pub use connection::BodyReadTimeout;
use connection::{DeadlineBody, Ending, Phase, PhaseClock, TrackedBody, WatchedSocket};
use open_connections::OpenConnections;

/// What one peer, and all peers together, may take of the server.
#[derive(Clone, Debug)]
pub struct ServerLimits {
    /// From the first byte of a request head to its end; also from accepting a socket to its first byte.
    pub header_read_timeout: Duration,
    /// From the end of the head to the end of the request body, in all, not between bytes. See [`BodyReadTimeout`].
    pub body_read_timeout: Duration,
    /// How long a kept-alive connection may wait between an answer and the first byte of the next request.
    pub idle_timeout: Duration,
    /// From the end of the head to the head of the answer. Then the handler is dropped and a bare 503 is sent: a last net, so
    /// a door that wants its own error form keeps a shorter timeout of its own.
    pub request_timeout: Duration,
    /// From the head of the answer until its last byte is in the kernel's hands; a peer that does not read is cut here.
    pub response_write_timeout: Duration,
    /// From the stop signal until connections that are still open are cut.
    pub shutdown_wait: Duration,
    /// Open sockets in all.
    pub connections_max: usize,
    /// Open sockets per IPv4 address or IPv6 /64 network. Loopback is exempt, because a proxy on the same host speaks for
    /// everybody, and so does a load test. With a proxy on another host set this to `connections_max` and let the proxy count.
    pub connections_per_ip_max: usize,
    /// Header lines in a request; one more is answered with 431.
    pub header_count_max: usize,
    /// Bytes of request line and headers together; more is answered with 431.
    pub head_bytes_max: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            // A head fits in a few segments: even a bad mobile link with two lost packets delivers it in this time.
            header_read_timeout: Duration::from_secs(5),
            // 64 KiB, the largest body any door takes, at 52 kbit/s.
            body_read_timeout: Duration::from_secs(10),
            // Longer than the pause between two calls of a busy shop, short enough to free sockets of closed tabs.
            idle_timeout: Duration::from_secs(30),
            // Above the slowest wait a handler has, a card authorisation, and below the 60 s after which common proxies give up.
            request_timeout: Duration::from_secs(30),
            // The largest answers are lists of some 100 kB; see `body_read_timeout` for the speed.
            response_write_timeout: Duration::from_secs(30),
            // Below the 30 s that common supervisors wait between SIGTERM and SIGKILL.
            shutdown_wait: Duration::from_secs(10),
            // Some 16 KiB each when idle, so 256 MiB at worst. Leaves room for honest clients beside ten thousand slow ones.
            connections_max: 16_384,
            // A browser opens six, an office behind one address some dozens, a shop's server pool some hundreds at worst.
            connections_per_ip_max: 256,
            // Browsers send about 20, a chain of proxies adds some 10.
            header_count_max: 64,
            // Twice what common servers allow for one line; cookies of sibling hosts are the only thing that comes near.
            head_bytes_max: 16 * 1024,
        }
    }
}

/// hyper's buffers per connection and direction. It must hold a whole head; the rest is room for one read of a body.
const CONNECTION_BUFFER_BYTES: usize = 64 * 1024;

/// The shortest and the longest pause after `accept` failed for want of something on our side, such as file descriptors.
const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(50);
const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long cut connections may take to fall before `serve` returns without them. Cutting is a drop, so this is scheduling time.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// Sent to a socket that is over a limit. Best effort: a peer whose request is already on its way may see a reset instead.
const TOO_MANY_CONNECTIONS: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    cache-control: no-store\r\n\
    retry-after: 1\r\n\
    connection: close\r\n\
    content-length: 21\r\n\r\n\
    too many connections\n";

/// The address at the other end of the socket, put into the extensions of each request. It is the proxy's address when there is
/// one; whoever wants the payer's address weighs forwarding headers against the configured number of trusted hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Put by a handler into the extensions of an answer that goes on as long as it has something to say: each piece of it gets
/// [`ServerLimits::response_write_timeout`] for itself, and it ends when the server stops.
#[derive(Clone, Copy, Debug)]
pub struct OpenEnded;

/// Whether a body error, or anything it was wrapped in, is [`BodyReadTimeout`]; the answer to it is 408.
pub fn body_read_timed_out(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<BodyReadTimeout>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// Accepts connections from `listener` and serves `router` on them until `shutdown` is cancelled. Then it takes what the kernel
/// had already accepted, closes the listener, lets requests in hand finish for [`ServerLimits::shutdown_wait`], cuts the rest
/// and returns. Dropping the returned future cuts nothing: connections live in tasks of their own.
pub async fn serve(listener: TcpListener, router: Router, limits: ServerLimits, shutdown: CancellationToken) {
    let server = Arc::new(Server {
        router,
        open: Arc::new(OpenConnections::default()),
        http: http_settings(&limits),
        limits,
        shutdown: shutdown.clone(),
        abort: CancellationToken::new(),
        connections: TaskTracker::new(),
    });
    let mut backoff = ACCEPT_BACKOFF_MIN;

    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                backoff = ACCEPT_BACKOFF_MIN;
                server.admit(socket, peer);
            }
            Err(error) if is_the_peers_fault(&error) => {
                tracing::debug!(%error, "a connection broke off before it was accepted")
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    retry_in_ms = u64::try_from(backoff.as_millis()).unwrap_or(u64::MAX),
                    connections_open = server.connections.len(),
                    "cannot accept connections; if files ran out, raise the limit (ulimit -n) or lower the connection limit"
                );
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = tokio::time::sleep(backoff) => {}
                }
                backoff = backoff.saturating_mul(2).min(ACCEPT_BACKOFF_MAX);
            }
        }
    }

    // The kernel has told these clients that they are connected; closing the listener over them would reset them.
    while let Poll::Ready(Ok((socket, peer))) =
        std::future::poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await
    {
        server.admit(socket, peer);
    }
    drop(listener);
    server.drain().await;
}

fn http_settings(limits: &ServerLimits) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.header_read_timeout(None)
        .max_headers(limits.header_count_max)
        .max_header_size(limits.head_bytes_max)
        .max_buf_size(CONNECTION_BUFFER_BYTES.max(limits.head_bytes_max));
    http
}

/// accept(2) hands over errors of the new socket as if they were its own; they say nothing about the next connection.
fn is_the_peers_fault(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}

struct Server {
    router: Router,
    limits: ServerLimits,
    http: http1::Builder,
    open: Arc<OpenConnections>,
    shutdown: CancellationToken,
    abort: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    fn admit(self: &Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        match self.open.take_slot(peer.ip(), &self.limits) {
            Ok(slot) => {
                let server = Arc::clone(self);
                self.connections.spawn(async move {
                    server.run_connection(socket, peer).await;
                    drop(slot);
                });
            }
            Err(reason) => {
                metrics::counter!(CONNECTIONS_REFUSED_TOTAL, "reason" => reason).increment(1);
                tracing::debug!(%peer, reason, "refused a connection over the limit");
                refuse(socket);
            }
        }
    }

    async fn run_connection(&self, socket: TcpStream, peer: SocketAddr) {
        // Answers are written whole, so Nagle's algorithm could only delay their last segment. A failure costs time, not truth.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let clock = PhaseClock::start();
        let service = hyper::service::service_fn(|request| self.answer(request, peer, Arc::clone(&clock)));
        let socket = TokioIo::new(WatchedSocket::new(socket, Arc::clone(&clock)));
        let connection = self.http.serve_connection(socket, service);

        // Child tokens, because each poll of a connection asks both and a shared token would be one lock for all connections.
        let (shutdown, abort) = (self.shutdown.child_token(), self.abort.child_token());
        match connection::drive(connection, &clock, &self.limits, &shutdown, &abort).await {
            Ending::Closed => {}
            Ending::Failed(error) => {
                tracing::debug!(%peer, %error, "connection ended with an error")
            }
            Ending::TimedOut(phase) => {
                metrics::counter!(CONNECTIONS_TIMED_OUT_TOTAL, "phase" => phase.as_str()).increment(1);
                tracing::debug!(%peer, phase = phase.as_str(), "cut a connection that was too slow");
            }
            Ending::Aborted => {
                tracing::warn!(%peer, "cut a connection that was still open when the shutdown wait ended")
            }
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        clock: Arc<PhaseClock>,
    ) -> Result<Response<TrackedBody>, Infallible> {
        clock.enter(Phase::Handling);
        // hyper silently lets chunked coding win over a Content-Length beside it. RFC 9112 section 6.1 then demands that the
        // connection ends with this answer, or the bytes that follow could be a smuggled request.
        let body_is_chunked = request.headers().contains_key(header::TRANSFER_ENCODING);
        let body_timed_out = Arc::new(AtomicBool::new(false));
        let (mut head, incoming) = request.into_parts();
        head.extensions.insert(Peer(peer));
        let body = if incoming.is_end_stream() {
            Body::empty()
        } else {
            let deadline = Instant::now() + self.limits.body_read_timeout;
            Body::new(DeadlineBody::new(incoming, deadline, Arc::clone(&body_timed_out)))
        };

        let handled = self.router.clone().call(Request::from_parts(head, body));
        let mut response = match tokio::time::timeout(self.limits.request_timeout, handled).await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            Err(_) => {
                tracing::error!(%peer, "a handler took longer than the request timeout; answered 503");
                handler_too_slow()
            }
        };
        // At a stop hyper says so too, but not to the request that arrived in the very step in which it learned of the stop.
        if body_is_chunked || body_timed_out.load(Ordering::Relaxed) || self.shutdown.is_cancelled() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        clock.enter(Phase::Answering);
        if response.extensions().get::<OpenEnded>().is_none() {
            return Ok(response.map(|body| TrackedBody::new(body, clock)));
        }
        // A child token for the same reason as above.
        let stop = self.shutdown.child_token();
        Ok(response.map(|body| {
            let until_stop = body.into_data_stream().take_until(stop.cancelled_owned());
            TrackedBody::new_open_ended(Body::from_stream(until_stop), clock)
        }))
    }

    async fn drain(&self) {
        self.connections.close();
        tracing::info!(connections_open = self.connections.len(), "stopped accepting; letting requests in hand finish");
        if tokio::time::timeout(self.limits.shutdown_wait, self.connections.wait()).await.is_ok() {
            tracing::info!("all connections are closed");
            return;
        }
        tracing::warn!(connections_open = self.connections.len(), "the shutdown wait is over; cutting the rest");
        self.abort.cancel();
        if tokio::time::timeout(ABORT_WAIT, self.connections.wait()).await.is_err() {
            tracing::error!(
                connections_open = self.connections.len(),
                "some connections do not end; a handler blocks its thread"
            );
        }
    }
}

fn handler_too_slow() -> Response<Body> {
    let mut response = Response::new(Body::from("the server took too long to answer\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn refuse(socket: TcpStream) {
    // One write that cannot block: a new socket's send buffer is empty. Failing to be polite is no reason to do more work.
    if let Ok(socket) = socket.into_std() {
        let _ = (&socket).write(TOO_MANY_CONNECTIONS);
    }
}

#[cfg(test)]
mod tests;
