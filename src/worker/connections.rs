//! Connections to receivers: a client, and with it a pool of connections, for each endpoint.
//! Over TLS a receiver may choose HTTP/2, on which attempts share a connection; what one receiver does to
//! its connection (an answer without end, a bound of one stream, silence) is then felt by attempts to the same endpoint
//! alone. All clients share one set of trusted certificates; every name is vetted, and a connection is never used for
//! another endpoint than the one it was made for.

use std::collections::HashMap;
use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, redirect};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use crate::worker::deliver::DeliverSettings;
use crate::worker::resolver::VettedResolver;

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

/// The largest window that HTTP/2 knows.
const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;

/// A client that was not used for this long is forgotten. Its connections have long been dropped.
const CLIENT_LIFE: Duration = Duration::from_secs(60);

/// Clients kept at once.
const CLIENTS_MAX: usize = 4096;

/// The clients of a process.
pub struct Connections {
    allow_loopback: bool,
    connection_window_bytes: u32,
    tls: ClientConfig,
    name_servers: Arc<[SocketAddr]>,
    clients: Mutex<HashMap<String, (Client, Instant)>>,
}

impl Connections {
    /// Prepares; connects to nobody.
    ///
    /// # Errors
    /// A sentence when a certificate among the settings is none that could be trusted, or no client can be made.
    pub fn new(settings: &DeliverSettings) -> Result<Connections, String> {
        // Another part of the process may have chosen the provider already.
        let _ = ring::default_provider().install_default();
        let attempts = u32::try_from(settings.concurrency_per_endpoint).unwrap_or(u32::MAX);
        let connections = Connections {
            allow_loopback: settings.allow_loopback,
            // Enough for all streams at once, so that answers nobody reads on take the window of no other.
            connection_window_bytes: STREAM_WINDOW_BYTES.saturating_mul(attempts).min(WINDOW_BYTES_MAX),
            tls: tls(&settings.authorities)?,
            name_servers: Arc::clone(&settings.name_servers),
            clients: Mutex::default(),
        };
        // What keeps one client from being made keeps all, and the operator should hear of it at the start.
        connections.client(true).map_err(|error| error.source().unwrap_or(&error).to_string())?;
        Ok(connections)
    }

    /// The client of one endpoint.
    ///
    /// # Errors
    /// When none can be made.
    pub fn to(&self, endpoint_id: &str, livemode: bool) -> Result<Client, reqwest::Error> {
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, used_at)) = clients.get_mut(endpoint_id) {
            *used_at = now;
            return Ok(client.clone());
        }
        if clients.len() >= CLIENTS_MAX {
            clients.retain(|_, (_, used_at)| now.duration_since(*used_at) < CLIENT_LIFE);
        }
        if clients.len() >= CLIENTS_MAX {
            // Attempts under way keep theirs.
            clients.clear();
        }
        let client = self.client(livemode)?;
        clients.insert(endpoint_id.to_owned(), (client.clone(), now));
        Ok(client)
    }

    /// Forgets clients that nobody uses.
    pub fn forget_idle(&self) {
        let now = Instant::now();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, (_, used_at)| now.duration_since(*used_at) < CLIENT_LIFE);
    }

    /// Live endpoints are under the strict rule for addresses, whatever test endpoints may do.
    fn client(&self, livemode: bool) -> Result<Client, reqwest::Error> {
        let allow_loopback = self.allow_loopback && !livemode;
        let resolver = VettedResolver::new(allow_loopback, Arc::clone(&self.name_servers));
        Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .referer(false)
            .https_only(!allow_loopback)
            .dns_resolver(Arc::new(resolver))
            .tls_backend_preconfigured(self.tls.clone())
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
            .http2_initial_connection_window_size(self.connection_window_bytes)
            .http2_keep_alive_interval(SIGN_OF_LIFE_AFTER)
            .http2_keep_alive_timeout(SIGN_OF_LIFE_AFTER)
            .build()
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
    let mut tls = match Verifier::new_with_extra_roots(authorities.iter().cloned(), Arc::clone(&provider)) {
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
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}
