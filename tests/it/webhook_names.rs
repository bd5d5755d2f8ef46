//! Names that lead astray: a name server that says one thing now and another a moment later gains
//! nothing, because it is asked once, all it says is judged, and the connection goes to what was judged.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::net::{TcpListener, UdpSocket};

use crate::merchant::Merchant;
use crate::world::{World, WorldOptions, eventually};

const HOST: &str = "shop.example";

/// What is said to one question for addresses; `Liar` answers a question nobody asked.
#[derive(Clone)]
enum Say {
    Addresses(Vec<IpAddr>),
    Alias(&'static str, Vec<IpAddr>),
    Nothing,
    Liar,
}

/// A name server that says one thing after the other; the last one for ever.
struct NameServer {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("short"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1, 0, 0, 0, 0]);
    bytes.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
    bytes.extend(data);
    bytes
}

fn answer(question: &[u8], say: &Say) -> Option<Vec<u8>> {
    let asked_for = u16::from_be_bytes([question[question.len() - 4], question[question.len() - 3]]);
    let (alias, addresses) = match say {
        Say::Nothing => return None,
        Say::Liar => (None, &Vec::new()),
        Say::Addresses(addresses) => (None, addresses),
        Say::Alias(alias, addresses) => (Some(labels(alias)), addresses),
    };
    let owner = alias.clone().unwrap_or(vec![0xc0, 12]);
    let mut records: Vec<Vec<u8>> = alias.iter().map(|alias| record(&[0xc0, 12], 5, alias)).collect();
    for address in addresses {
        match address {
            IpAddr::V4(ip) if asked_for == 1 => records.push(record(&owner, 1, &ip.octets())),
            IpAddr::V6(ip) if asked_for == 28 => records.push(record(&owner, 28, &ip.octets())),
            _ => {}
        }
    }
    let mut message = question.to_vec();
    message[2] = 0x81;
    message[3] = 0x80;
    message[7] = u8::try_from(records.len()).expect("few");
    if matches!(say, Say::Liar) {
        message[0] ^= 0xff;
    }
    message.extend(records.concat());
    Some(message)
}

impl NameServer {
    async fn start(says: Vec<Say>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&asked);
        tokio::spawn(async move {
            // Each attempt asks for both kinds; what it is told is one thing, and the next is told the next.
            let turns: Mutex<[usize; 2]> = Mutex::default();
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                counting.fetch_add(1, Ordering::SeqCst);
                let question = &buffer[..length];
                let kind = usize::from(question[length - 3] == 28);
                let turn = {
                    let mut turns = turns.lock().expect("not poisoned");
                    turns[kind] += 1;
                    turns[kind] - 1
                };
                if let Some(message) = answer(question, &says[turn.min(says.len() - 1)]) {
                    let _ = socket.send_to(&message, from).await;
                }
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Something on this machine that must not be reached, or only where it was judged: counts who comes.
struct Canary {
    port: u16,
    visitors: Arc<AtomicUsize>,
}

impl Canary {
    async fn at(ip: &str, port: u16) -> Self {
        let listener = TcpListener::bind(format!("{ip}:{port}")).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let visitors = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&visitors);
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counting.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { port, visitors }
    }

    fn visitors(&self) -> usize {
        self.visitors.load(Ordering::SeqCst)
    }
}

/// A merchant whose endpoint has this name, and its first event.
async fn told(says: Vec<Say>, loopback: bool, port: u16) -> (World, Merchant, NameServer, String) {
    let server = NameServer::start(says).await;
    let settings =
        vec![("WEBHOOK_NAME_SERVERS", server.address.to_string()), ("LOOPBACK_WEBHOOKS", loopback.to_string())];
    let world = World::with(WorldOptions { settings, ..WorldOptions::default() }).await;
    let merchant = world.merchant().await;
    let url = format!("https://{HOST}:{port}/hooks");
    merchant.post("/v1/webhook_endpoints", &[("url", &url), ("enabled_events[]", "*")]).await.ok();
    merchant.session().await;
    let event = merchant.event("checkout.session.created").await["id"].as_str().expect("an id").to_owned();
    (world, merchant, server, event)
}

fn error_of(attempt: &Value) -> &str {
    attempt["error"].as_str().expect("it failed")
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().expect(text)).collect()
}

#[tokio::test]
async fn a_name_is_asked_once_and_the_connection_goes_to_what_was_judged() {
    let canary = Canary::at("127.0.0.1", 0).await;
    let elsewhere = Canary::at("127.0.0.9", canary.port).await;
    let says = vec![
        Say::Addresses(ips(&["127.0.0.1"])),
        Say::Addresses(ips(&["10.0.0.1"])),
        Say::Addresses(ips(&["127.0.0.9"])),
    ];
    let (world, merchant, server, event) = told(says, true, canary.port).await;
    let log = merchant.attempts_of(&event, 1).await;
    assert!(!error_of(&log["attempts"][0]).contains("public internet"), "{log}");
    assert_eq!((server.asked(), canary.visitors(), elsewhere.visitors()), (2, 1, 0));

    // The next attempt asks anew, and what it is told now is refused before anything is sent.
    world.advance(chrono::Duration::seconds(90));
    let log = merchant.attempts_of(&event, 2).await;
    assert!(error_of(&log["attempts"][0]).contains("not on the public internet"), "{log}");
    assert_eq!((server.asked(), canary.visitors(), elsewhere.visitors()), (4, 1, 0));
    world.end().await;
}

#[tokio::test]
async fn one_address_that_must_not_be_reached_refuses_the_whole_name() {
    for (loopback, say) in [
        (true, Say::Addresses(ips(&["127.0.0.1", "10.0.0.1"]))),
        (true, Say::Addresses(ips(&["127.0.0.1", "fd00::1"]))),
        (true, Say::Addresses(ips(&["127.0.0.1", "::ffff:192.168.0.1"]))),
        (true, Say::Addresses(ips(&["127.0.0.1", "64:ff9b::a9fe:a9fe"]))),
        (true, Say::Addresses(ips(&["127.0.0.1", "2002:a00:1::1"]))),
        (true, Say::Alias("metadata.internal", ips(&["127.0.0.1", "169.254.169.254"]))),
        (false, Say::Addresses(ips(&["127.0.0.1"]))),
        (false, Say::Addresses(ips(&["::1"]))),
        (false, Say::Addresses(ips(&["::ffff:127.0.0.1"]))),
        (false, Say::Addresses(ips(&["0.0.0.0"]))),
    ] {
        let canary = Canary::at("127.0.0.1", 0).await;
        let (world, merchant, _, event) = told(vec![say], loopback, canary.port).await;
        let log = merchant.attempts_of(&event, 1).await;
        assert!(error_of(&log["attempts"][0]).contains("not on the public internet"), "{log}");
        assert_eq!(canary.visitors(), 0, "{log}");
        world.end().await;
    }
}

#[tokio::test]
async fn a_forged_answer_is_not_believed_and_silence_is_a_failed_attempt() {
    for say in [Say::Liar, Say::Nothing, Say::Addresses(Vec::new())] {
        let canary = Canary::at("127.0.0.1", 0).await;
        let (world, merchant, server, event) = told(vec![say], true, canary.port).await;
        let log = merchant.attempts_of(&event, 1).await;
        assert!(error_of(&log["attempts"][0]).starts_with("no connection"), "{log}");
        eventually("both questions", async || (server.asked() == 2).then_some(())).await;
        assert_eq!(canary.visitors(), 0);
        world.end().await;
    }
}
