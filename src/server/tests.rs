//! The server over real sockets, with limits small enough that nothing waits long. A test asserts what happens (answered,
//! closed), never how fast: the only clock is a bound after which the test has failed.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::routing::{get, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::*;

/// After this a test has hung. Generous, because machines that run tests are busy.
const TEST_PATIENCE: Duration = Duration::from_secs(20);

/// A limit that a test waits for.
const SHORT: Duration = Duration::from_millis(100);

/// A limit that a test must not meet.
const LONG: Duration = Duration::from_secs(60);

/// More than the socket buffers of both sides hold, so that a peer who does not read stops the server's writing.
const LARGE_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A streamed answer that is never complete.
struct EndlessBody;

impl hyper::body::Body for EndlessBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::from_static(&[b'a'; 16 * 1024])))))
    }
}

struct Started {
    address: SocketAddr,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
    /// Told when the handler of `/held` has begun; the handler answers when `release` is told.
    held: Arc<Notify>,
    release: Arc<Notify>,
}

fn patient_limits() -> ServerLimits {
    ServerLimits {
        header_read_timeout: LONG,
        body_read_timeout: LONG,
        idle_timeout: LONG,
        request_timeout: LONG,
        response_write_timeout: LONG,
        shutdown_wait: LONG,
        ..ServerLimits::default()
    }
}

async fn start(limits: ServerLimits) -> Started {
    let (held, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell_held, wait_release) = (Arc::clone(&held), Arc::clone(&release));
    let router = Router::new()
        .route("/", get(|axum::Extension(Peer(peer)): axum::Extension<Peer>| async move { peer.to_string() }))
        .route("/echo", post(echo))
        .route("/large", get(|| async { vec![b'a'; LARGE_ANSWER_BYTES] }))
        .route("/endless", get(|| async { Body::new(EndlessBody) }))
        .route("/never", get(std::future::pending::<()>))
        .route(
            "/held",
            get(move || async move {
                tell_held.notify_one();
                wait_release.notified().await;
                "released"
            }),
        );
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
    Started { address, shutdown, serving, held, release }
}

async fn echo(body: Result<Bytes, BytesRejection>) -> Response<Body> {
    let (status, body) = match body {
        Ok(bytes) => (StatusCode::OK, bytes),
        Err(rejection) if body_read_timed_out(&rejection) => {
            (StatusCode::REQUEST_TIMEOUT, Bytes::from_static(b"too slow"))
        }
        Err(_) => (StatusCode::BAD_REQUEST, Bytes::new()),
    };
    Response::builder().status(status).body(Body::from(body)).expect("a response")
}

impl Started {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    async fn finish(self) {
        self.shutdown.cancel();
        patiently(self.serving).await.expect("the server does not panic");
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TEST_PATIENCE, future).await.expect("the server hangs")
}

async fn send(socket: &mut TcpStream, bytes: &str) {
    patiently(socket.write_all(bytes.as_bytes())).await.expect("the server still reads");
}

/// All that comes until the server closes. A reset counts as closed.
async fn read_until_closed(socket: &mut TcpStream) -> String {
    let mut received = Vec::new();
    let _ = patiently(socket.read_to_end(&mut received)).await;
    String::from_utf8(received).expect("text")
}

/// What comes until it ends with `ending`.
async fn read_until(socket: &mut TcpStream, ending: &str) -> String {
    let mut received = Vec::new();
    while !received.ends_with(ending.as_bytes()) {
        let byte = patiently(socket.read_u8()).await.unwrap_or_else(|error| panic!("{error} after {received:?}"));
        received.push(byte);
    }
    String::from_utf8(received).expect("text")
}

/// One request and its whole answer, after which the connection is idle.
async fn complete_one_request(socket: &mut TcpStream) -> String {
    send(socket, GET_ROOT).await;
    let own_address = socket.local_addr().expect("an address").to_string();
    read_until(socket, &own_address).await
}

/// Sends a piece now and then until the server has cut the connection.
async fn drip_until_cut(mut writer: impl tokio::io::AsyncWrite + Unpin, piece: &[u8]) {
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while writer.write_all(piece).await.is_ok() {
        tick.tick().await;
    }
}

const GET_ROOT: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn serves_requests_one_after_another_and_names_the_peer() {
    let server = start(patient_limits()).await;
    let mut socket = server.connect().await;
    let me = socket.local_addr().expect("an address").to_string();
    for _ in 0..3 {
        let answer = complete_one_request(&mut socket).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
        assert!(answer.contains(&format!("\r\ncontent-length: {}\r\n", me.len())), "{answer}");
        assert!(answer.contains("\r\ndate: ") && !answer.contains("\r\nserver:"), "{answer}");
    }
    server.finish().await;
}

#[tokio::test]
async fn answers_pipelined_requests_in_order() {
    let server = start(patient_limits()).await;
    let mut socket = server.connect().await;
    send(&mut socket, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nonePOST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ntwo").await;
    read_until(&mut socket, "\r\n\r\none").await;
    read_until(&mut socket, "\r\n\r\ntwo").await;
    server.finish().await;
}

#[tokio::test]
async fn closes_a_socket_that_sends_nothing() {
    let server = start(ServerLimits { header_read_timeout: SHORT, ..patient_limits() }).await;
    assert_eq!(read_until_closed(&mut server.connect().await).await, "");
    server.finish().await;
}

#[tokio::test]
async fn closes_a_socket_whose_head_drips() {
    let server = start(ServerLimits { header_read_timeout: SHORT, ..patient_limits() }).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    writer.write_all(b"GET / HTTP/1.1\r\nx: ").await.expect("the server reads");
    let dripping = tokio::spawn(drip_until_cut(writer, b"a"));
    let mut received = Vec::new();
    let _ = patiently(reader.read_to_end(&mut received)).await;
    assert_eq!(received, b"");
    patiently(dripping).await.expect("no panic");
    server.finish().await;
}

#[tokio::test]
async fn the_head_timeout_does_not_end_an_idle_connection() {
    let server = start(ServerLimits { header_read_timeout: SHORT, ..patient_limits() }).await;
    let mut idle = server.connect().await;
    complete_one_request(&mut idle).await;
    // A socket that is cut by the head timeout, opened after the other went idle, shows that this time has passed.
    read_until_closed(&mut server.connect().await).await;
    complete_one_request(&mut idle).await;
    // The next head does fall under it.
    send(&mut idle, "GET / HT").await;
    assert_eq!(read_until_closed(&mut idle).await, "");
    server.finish().await;
}

#[tokio::test]
async fn closes_an_idle_connection() {
    let server = start(ServerLimits { idle_timeout: SHORT, ..patient_limits() }).await;
    let mut socket = server.connect().await;
    send(&mut socket, GET_ROOT).await;
    let answer = read_until_closed(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.finish().await;
}

#[tokio::test]
async fn a_body_that_stalls_or_drips_is_answered_with_408_and_the_connection_closed() {
    for is_chunked in [false, true] {
        let server = start(ServerLimits { body_read_timeout: SHORT, ..patient_limits() }).await;
        let (mut reader, mut writer) = server.connect().await.into_split();
        let head = if is_chunked { "transfer-encoding: chunked" } else { "content-length: 100000" };
        let head = format!("POST /echo HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n");
        writer.write_all(head.as_bytes()).await.expect("the server reads");
        let dripping = tokio::spawn(drip_until_cut(writer, b"1\r\na\r\n"));
        let mut answer = String::new();
        while !answer.ends_with("too slow") {
            answer.push(char::from(
                patiently(reader.read_u8()).await.unwrap_or_else(|error| panic!("{error} after {answer}")),
            ));
        }
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        patiently(dripping).await.expect("no panic");
        server.finish().await;
    }
}

#[tokio::test]
async fn cuts_a_peer_that_does_not_read_the_answer() {
    // An answer in one piece, which hyper takes at once, and a streamed one.
    for path in ["/large", "/endless"] {
        let limits = ServerLimits { response_write_timeout: SHORT, ..patient_limits() };
        let server = start(limits).await;
        let mut socket = server.connect().await;
        send(&mut socket, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await;
        patiently(drip_until_cut(socket, b"x")).await;
        server.finish().await;
    }
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_dropped() {
    let server = start(ServerLimits { request_timeout: SHORT, ..patient_limits() }).await;
    let mut socket = server.connect().await;
    send(&mut socket, "GET /never HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = read_until_closed(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    server.finish().await;
}

#[tokio::test]
async fn refuses_sockets_over_the_limit_and_takes_new_ones_when_others_close() {
    let server = start(ServerLimits { connections_max: 1, ..patient_limits() }).await;
    let mut first = server.connect().await;
    complete_one_request(&mut first).await;

    let answer = read_until_closed(&mut server.connect().await).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ntoo many connections\n"), "{answer}");

    drop(first);
    // The server learns of the close in its own time, so the next socket may still be refused.
    patiently(async {
        loop {
            let mut socket = server.connect().await;
            let _ = socket.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            if read_until_closed(&mut socket).await.starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    })
    .await;
    server.finish().await;
}

#[tokio::test]
async fn a_stop_lets_the_request_in_hand_finish_and_closes_the_rest() {
    let server = start(patient_limits()).await;
    let mut idle = server.connect().await;
    complete_one_request(&mut idle).await;
    let mut busy = server.connect().await;
    send(&mut busy, "GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    patiently(server.held.notified()).await;

    server.shutdown.cancel();
    assert_eq!(read_until_closed(&mut idle).await, "");
    TcpStream::connect(server.address).await.expect_err("the listener is closed");
    server.release.notify_one();
    let answer = read_until_closed(&mut busy).await;
    assert!(answer.contains("connection: close") && answer.ends_with("released"), "{answer}");
    patiently(server.serving).await.expect("the server does not panic");
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let server = start(ServerLimits { shutdown_wait: SHORT, ..patient_limits() }).await;
    let mut socket = server.connect().await;
    send(&mut socket, "GET /held HTTP/1.1\r\nhost: x\r\n\r\n").await;
    patiently(server.held.notified()).await;
    server.shutdown.cancel();
    assert_eq!(read_until_closed(&mut socket).await, "");
    patiently(server.serving).await.expect("the server does not panic");
}

#[tokio::test]
async fn a_stop_still_answers_who_connected_before_it() {
    let server = start(patient_limits()).await;
    let mut socket = server.connect().await;
    server.shutdown.cancel();
    send(&mut socket, GET_ROOT).await;
    let answer = read_until_closed(&mut socket).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    // One that says nothing does not hold up the stop.
    patiently(server.serving).await.expect("the server does not panic");
}

#[tokio::test]
async fn heads_that_are_too_large_malformed_or_not_http_1_end_the_connection() {
    let server = start(patient_limits()).await;
    let many_lines = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(64));
    let long_line = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(17 * 1024));
    for (head, expected) in [
        (many_lines.as_str(), "HTTP/1.1 431 "),
        (long_line.as_str(), "HTTP/1.1 431 "),
        ("GET\r\n\r\n", "HTTP/1.1 400 "),
        ("POST /echo HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "HTTP/1.1 400 "),
        ("POST /echo HTTP/1.1\r\ncontent-length: -1\r\n\r\n", "HTTP/1.1 400 "),
        ("POST /echo HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", "HTTP/1.1 400 "),
        ("POST /echo HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", "HTTP/1.1 400 "),
        ("GET / HTTP/1.1\r\nbad name: y\r\n\r\n", "HTTP/1.1 400 "),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
    ] {
        let mut socket = server.connect().await;
        send(&mut socket, head).await;
        let answer = read_until_closed(&mut socket).await;
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{head}\n{answer}");
    }
    server.finish().await;
}

#[tokio::test]
async fn nothing_is_read_after_a_chunked_request() {
    let server = start(patient_limits()).await;
    for lengths in [
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "transfer-encoding: chunked",
    ] {
        let mut socket = server.connect().await;
        send(&mut socket, &format!("POST /echo HTTP/1.1\r\nhost: x\r\n{lengths}\r\n\r\n0\r\n\r\n{GET_ROOT}")).await;
        let answer = read_until_closed(&mut socket).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    }
    server.finish().await;
}
