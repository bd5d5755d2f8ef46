//! A merchant's endpoint behind TLS, with a certificate of the story's own authority: it speaks HTTP/2 or HTTP/1.1 as it is
//! told, counts connections, requests and resets, and misbehaves on a connection as only HTTP/2 lets it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::http::{Request, Response};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};
use tokio_rustls::server::TlsStream;

use crate::world::eventually;

/// An authority that nobody knows unless he is given its file.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: NamedTempFile,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let file = NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), issuer.pem()).expect("the file can be written");
        Self { issuer, file }
    }

    /// What makes a gateway trust it.
    pub fn setting(&self) -> (&'static str, String) {
        ("WEBHOOK_CA_FILE", self.file.path().display().to_string())
    }

    /// TLS with a certificate for this name, changed as told before it is signed.
    pub fn tls(&self, name: &str, protocols: &[&str], change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        acceptor(certificate.der().clone(), &key, protocols)
    }

    /// TLS with a certificate that only its owner vouches for.
    pub fn self_signed(name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        acceptor(params.self_signed(&key).expect("a certificate").der().clone(), &key, &["h2", "http/1.1"])
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair, protocols: &[&str]) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the usual versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a certificate with its key");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// What a receiver does on a connection of HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Answers each request as soon as the gate lets it.
    #[default]
    Good,
    /// Never answers the first request; all others at once.
    FirstHangs,
    /// Answers all with 200 and a body without end.
    Endless,
    /// Says after every fifth request that it will take no more on this connection (GOAWAY), and answers those it took.
    GoesAway,
    /// Takes in nothing more from the second request of a connection on, once, and leaves the socket open.
    FallsSilent,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The protocol of each connection that spoke TLS to the end of its handshake.
    pub connections: Vec<String>,
    /// The events of each request, in the order in which they came, and the place of its connection.
    pub requests: Vec<(String, usize)>,
    /// Most requests that were open at once on one connection.
    pub at_once_max: usize,
    /// Streams that the sender took back.
    pub resets: usize,
    /// Connections that were closed by the sender.
    pub closed: usize,
    /// Handshakes that failed.
    pub refused: usize,
    /// Bytes of answers that were handed to connections.
    pub written: u64,
    /// Whether a connection has fallen silent.
    pub is_silent: bool,
}

struct Inner {
    manner: Manner,
    seen: Mutex<Seen>,
    gate: Semaphore,
    silence: Notify,
}

impl Inner {
    fn note<T>(&self, what: impl FnOnce(&mut Seen) -> T) -> T {
        what(&mut self.seen.lock().expect("not poisoned"))
    }
}

/// The endpoint.
pub struct TlsReceiver {
    pub address: SocketAddr,
    inner: Arc<Inner>,
}

impl TlsReceiver {
    /// Listens on this machine. Answers wait until [`TlsReceiver::answer`] lets them.
    pub async fn start(tls: TlsAcceptor, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let inner = Arc::new(Inner { manner, seen: Mutex::default(), gate: Semaphore::new(0), silence: Notify::new() });
        let serving = Arc::clone(&inner);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&serving), tls.clone(), socket));
            }
        });
        Self { address, inner }
    }

    /// Its URL under this name.
    pub fn url(&self, name: &str) -> String {
        format!("https://{name}:{}/webhooks", self.address.port())
    }

    /// Lets so many answers go.
    pub fn answer(&self, count: usize) {
        self.inner.gate.add_permits(count);
    }

    pub fn seen(&self) -> Seen {
        self.inner.note(|seen| seen.clone())
    }

    /// Waits until what was seen satisfies a condition, and gives it.
    #[track_caller]
    pub fn sees<'r, F>(&'r self, what: &str, condition: F) -> impl Future<Output = Seen> + use<'r, F>
    where
        F: Fn(&Seen) -> bool,
    {
        eventually(what, async move || Some(self.seen()).filter(&condition))
    }
}

async fn serve(inner: Arc<Inner>, tls: TlsAcceptor, socket: TcpStream) {
    let Ok(stream) = tls.accept(socket).await else {
        return inner.note(|seen| seen.refused += 1);
    };
    let protocol = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
    let place = inner.note(|seen| {
        seen.connections.push(String::from_utf8_lossy(&protocol).into_owned());
        seen.connections.len() - 1
    });
    if protocol == b"h2" {
        let _ = speak_http_2(&inner, place, stream).await;
    } else {
        let _ = speak_http_1(&inner, place, stream).await;
    }
    inner.note(|seen| seen.closed += 1);
}

async fn speak_http_2(
    inner: &Arc<Inner>,
    place: usize,
    stream: TlsStream<TcpStream>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut connection = h2::server::handshake(stream).await?;
    let open = Arc::new(Mutex::new(0_usize));
    let mut taken = 0;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        taken += 1;
        if inner.manner == Manner::FallsSilent && taken == 2 {
            let is_first = inner.note(|seen| !std::mem::replace(&mut seen.is_silent, true));
            if is_first {
                // The socket stays open, and nothing is read from it any more.
                inner.silence.notified().await;
            }
        }
        if inner.manner == Manner::GoesAway && taken == 5 {
            connection.graceful_shutdown();
        }
        let (inner, open) = (Arc::clone(inner), Arc::clone(&open));
        tokio::spawn(async move {
            let at_once = {
                let mut open = open.lock().expect("not poisoned");
                *open += 1;
                *open
            };
            let number = inner.note(|seen| {
                seen.at_once_max = seen.at_once_max.max(at_once);
                seen.requests.push((event_of(&request), place));
                seen.requests.len()
            });
            let _ = answer(&inner, number, request, respond).await;
            *open.lock().expect("not poisoned") -= 1;
        });
    }
    Ok(())
}

fn event_of(request: &Request<RecvStream>) -> String {
    request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned()
}

async fn answer(
    inner: &Inner,
    number: usize,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
    }
    let ok = Response::builder().status(200).body(()).expect("an answer");
    match inner.manner {
        Manner::FirstHangs if number == 1 => {
            std::future::poll_fn(|context| respond.poll_reset(context)).await?;
            inner.note(|seen| seen.resets += 1);
            Ok(())
        }
        Manner::Endless => {
            let stream = respond.send_response(ok, false)?;
            if write_without_end(inner, stream).await.is_err() {
                inner.note(|seen| seen.resets += 1);
            }
            Ok(())
        }
        Manner::Good => {
            inner.gate.acquire().await.expect("the gate lives").forget();
            respond.send_response(ok, true).map(drop)
        }
        _ => respond.send_response(ok, true).map(drop),
    }
}

/// Ends when the sender takes the stream back.
async fn write_without_end(inner: &Inner, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        stream.reserve_capacity(16 * 1024);
        let granted = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
        let Some(granted) = granted else { return Err(Reason::CANCEL.into()) };
        let granted = granted?;
        stream.send_data(Bytes::from(vec![b'e'; granted]), false)?;
        inner.note(|seen| seen.written += granted as u64);
    }
}

async fn speak_http_1(inner: &Arc<Inner>, place: usize, mut stream: TlsStream<TcpStream>) -> std::io::Result<()> {
    let (mut read, mut chunk) = (Vec::new(), [0_u8; 8192]);
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            match stream.read(&mut chunk).await? {
                0 => return Ok(()),
                count => read.extend_from_slice(&chunk[..count]),
            }
        };
        let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
        let header = |name: &str| text.split(&format!("\r\n{name}: ")).nth(1)?.split("\r\n").next();
        let length: usize = header("content-length").and_then(|length| length.parse().ok()).expect("a length");
        let event = header("webhook-id").expect("an id").to_owned();
        while read.len() < head + length {
            let count = stream.read(&mut chunk).await?;
            read.extend_from_slice(&chunk[..count]);
        }
        read.drain(..head + length);
        inner.note(|seen| {
            seen.at_once_max = seen.at_once_max.max(1);
            seen.requests.push((event, place));
        });
        inner.gate.acquire().await.expect("the gate lives").forget();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    }
}
