//! Connections to receivers: a client, and with it a pool of connections, for each endpoint.
//! Over TLS a receiver may choose HTTP/2, on which attempts share a connection; what one receiver does to
//! its connection (an answer without end, a bound of one stream, silence) is then felt by attempts to the same endpoint
//! alone. All clients share one set of trusted certificates; every name is vetted, and a connection is never used for
//! another endpoint than the one it was made for. No proxy is asked and no redirect followed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connection as _, HttpConnector};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;
use tower::{BoxError, Service};

use crate::worker::bounded_stream::BoundedStream;
use crate::worker::deliver::DeliverSettings;
use crate::worker::resolver::{LookUps, VettedResolver};

/// A connection, name and handshake included, takes this long at most.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are dropped before the receiver does it: Node closes them after 5 s, and a request
/// that crosses with the closing fails.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(4);

/// A connection of HTTP/2 with an answer outstanding is asked for a sign of life after this silence, and is dead when
/// none comes for as long again: before the attempts on it have waited out their time for a first byte, and so
/// that the next ones do not go the same way.
const SIGN_OF_LIFE_AFTER: Duration = Duration::from_secs(5);

/// What a receiver may send ahead on one stream (RFC 9113 section 6.9); of an answer no more is read than this.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// The longest head of an answer in HTTP/1.1, and so much is read ahead of a body at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What may come for one request besides what is read of its body: heads, early answers (1xx) and what is read ahead.
const ANSWER_BYTES_AROUND_MAX: usize = 192 * 1024;

/// The largest window that HTTP/2 knows.
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// A client that was not used for this long is forgotten. Its connections have long been dropped.
const CLIENT_LIFE: Duration = Duration::from_secs(60);

/// Clients kept at once.
const CLIENTS_MAX: usize = 4096;

/// What is sent and not acknowledged within this time ends its connection, though the peer may be there and take
/// nothing.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// A connection that is silent for so long is asked for a sign of life, so many times.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 3;

/// What requests to one endpoint are sent with.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<Connector, Full<Bytes>>,
    requests: Arc<AtomicUsize>,
}

impl HttpClient {
    /// Sends a request over a connection of this endpoint's, new or kept.
    pub fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        // Its connections may read as much again as one request allows.
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.client.request(request)
    }
}

/// No connection was made in the time for that.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
pub struct ConnectTimedOut;

/// Connects to receivers: the name vetted, TLS where the URL says so, all of it within [`CONNECT_TIMEOUT`].
#[derive(Clone)]
pub struct Connector {
    https: HttpsConnector<HttpConnector<VettedResolver>>,
    window_bytes: usize,
    requests: Arc<AtomicUsize>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<BoundedStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (connecting, window_bytes) = (self.https.call(to), self.window_bytes);
        let requests = Arc::clone(&self.requests);
        Box::pin(async move {
            let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.map_err(|_| ConnectTimedOut)??;
            // On HTTP/2 the bodies of several answers may come between two requests, and windows open again as they are
            // read.
            let is_h2 = stream.connected().is_negotiated_h2();
            let bodies = if is_h2 { window_bytes.saturating_mul(2) } else { HEAD_BYTES_MAX };
            let read_bytes_max = bodies.saturating_add(ANSWER_BYTES_AROUND_MAX);
            Ok(TokioIo::new(BoundedStream::new(stream, read_bytes_max, requests)))
        })
    }
}

/// The clients of a process.
pub struct Connections {
    allow_loopback: bool,
    connection_window_bytes: u32,
    tls: ClientConfig,
    name_servers: Arc<[SocketAddr]>,
    lookups: LookUps,
    clients: Mutex<HashMap<String, (HttpClient, Instant)>>,
}

impl Connections {
    /// Prepares; connects to nobody.
    ///
    /// # Errors
    /// A sentence when a certificate among the settings is none that could be trusted.
    pub fn new(settings: &DeliverSettings) -> Result<Connections, String> {
        // Another part of the process may have chosen the provider already.
        let _ = ring::default_provider().install_default();
        let attempts = u32::try_from(settings.concurrency_per_endpoint).unwrap_or(u32::MAX);
        Ok(Connections {
            allow_loopback: settings.allow_loopback,
            // Enough for all streams at once, so that answers nobody reads on take the window of no other.
            connection_window_bytes: STREAM_WINDOW_BYTES.saturating_mul(attempts).min(WINDOW_BYTES_MAX),
            tls: tls(&settings.authorities)?,
            name_servers: Arc::clone(&settings.name_servers),
            lookups: LookUps::default(),
            clients: Mutex::default(),
        })
    }

    /// The client of one endpoint.
    pub fn to(&self, endpoint_id: &str, livemode: bool) -> HttpClient {
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, used_at)) = clients.get_mut(endpoint_id) {
            *used_at = now;
            return client.clone();
        }
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, (_, used_at)| now.duration_since(*used_at) < CLIENT_LIFE);
        }
        if clients.len() >= CLIENTS_MAX {
            // Attempts under way keep theirs.
            clients.clear();
        }
        let client = self.client(livemode);
        clients.insert(endpoint_id.to_owned(), (client.clone(), now));
        client
    }

    /// Forgets clients that nobody uses.
    pub fn forget_idle(&self) {
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, (_, used_at)| now.duration_since(*used_at) < CLIENT_LIFE);
    }

    /// Live endpoints are under the strict rule for addresses, whatever test endpoints may do.
    fn client(&self, livemode: bool) -> HttpClient {
        let allow_loopback = self.allow_loopback && !livemode;
        let resolver = VettedResolver::new(allow_loopback, Arc::clone(&self.name_servers), self.lookups.clone());
        let mut tcp = HttpConnector::new_with_resolver(resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE_AFTER));
        tcp.set_keepalive_interval(Some(KEEPALIVE_AFTER));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX));
        let https = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone());
        let https = if allow_loopback { https.https_or_http() } else { https.https_only() };
        let window_bytes = usize::try_from(self.connection_window_bytes).unwrap_or(usize::MAX);
        let requests = Arc::new(AtomicUsize::new(0));
        let https = https.enable_all_versions().wrap_connector(tcp);
        let connector = Connector { https, window_bytes, requests: Arc::clone(&requests) };
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(self.connection_window_bytes)
            .http2_keep_alive_interval(SIGN_OF_LIFE_AFTER)
            .http2_keep_alive_timeout(SIGN_OF_LIFE_AFTER)
            .build(connector);
        HttpClient { client, requests }
    }
}

/// Trusts the machine's authorities and the operator's own.
fn tls(authorities: &[CertificateDer<'static>]) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    for authority in authorities {
        RootCertStore::empty()
            .add(authority.clone())
            .map_err(|error| format!("a certificate of `webhook_ca_file` cannot be trusted: {error}"))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let tls = match Verifier::new_with_extra_roots(authorities.iter().cloned(), Arc::clone(&provider)) {
        Ok(verifier) => builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth(),
        Err(error) => {
            // A bare container has no root certificates. That must not keep the process from starting: trusting
            // nobody, it still reaches receivers over http on the machine itself.
            tracing::error!(
                cause = %error,
                "webhooks over https will fail: TLS could not be set up; are root certificates installed?"
            );
            builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()
        }
    };
    Ok(tls)
}
