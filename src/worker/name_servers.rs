//! Asks name servers of the operator's choice for the addresses of webhook hosts, so that names which only
//! the machine's own resolver knows (those of the network it stands in) lead nowhere.
//!
//! The rule: DNS as RFC 1035 has it and no more: one question, a recursive server, UDP and then TCP when
//! the answer does not fit. An answer counts when it comes from the server that was asked, to the port
//! and with the number of the question, and repeats it. Whether an address may be used is not judged here.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// How long one server may take for one question; with two servers it is still within a connection's time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer over UDP that is asked for (RFC 1035 section 4.2.1), with room for servers that send more.
const UDP_BYTES_MAX: usize = 4096;

/// Largest answer over TCP that is read: far more records than anybody's host has.
const TCP_BYTES_MAX: usize = 16 * 1024;

/// Records looked at in one answer, and links of a chain of aliases.
const RECORDS_MAX: u16 = 256;
const ALIASES_MAX: usize = 16;

/// Pointers followed while one name is read: a name has 127 labels at most.
const POINTERS_MAX: usize = 127;

/// Longest name in text (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 253;

const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// Bits of the second header word: it is an answer, it was cut off.
const IS_ANSWER: u16 = 0x8000;
const IS_TRUNCATED: u16 = 0x0200;

/// The question in its header: recursion is desired.
const RECURSION_DESIRED: u16 = 0x0100;

/// The addresses of a host, IPv4 and IPv6, by the first server that answers. None for a name that does not exist.
///
/// # Errors
/// When no server answers, or the name is none.
pub async fn look_up(servers: &[SocketAddr], host: &str) -> io::Result<Vec<IpAddr>> {
    // These names are the machine's own and are asked of nobody (RFC 6761 section 6.3).
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let (v4, v6) = tokio::join!(ask_all(servers, host, TYPE_A), ask_all(servers, host, TYPE_AAAA));
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(v4.into_iter().chain(v6).collect()),
        // Half an answer is one that might hide what would be refused.
        (Err(error), _) | (_, Err(error)) => Err(error),
    }
}

async fn ask_all(servers: &[SocketAddr], host: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::other("no name server is configured");
    for server in servers {
        match tokio::time::timeout(ANSWER_TIMEOUT, ask(*server, host, kind)).await {
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "the name server did not answer"),
        }
    }
    Err(last)
}

async fn ask(server: SocketAddr, host: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let id: u16 = rand::random();
    let question = question(host, kind)?;
    let mut message = Vec::with_capacity(12 + question.len());
    for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    message.extend_from_slice(&question);
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    // A port of its own for each question, and connected, so that the kernel drops what others send.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&message).await?;
    let mut buffer = vec![0; UDP_BYTES_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let answer = Answer(&buffer[..length]);
        // Whatever is not the answer to this question may be a forger's try; the true one may still come.
        if !answer.is_to(id, &question) {
            continue;
        }
        if !answer.is_truncated() {
            return answer.addresses(host, kind);
        }
        let whole = ask_over_tcp(server, &message).await?;
        let answer = Answer(&whole);
        if answer.is_to(id, &question) {
            return answer.addresses(host, kind);
        }
        return Err(malformed());
    }
}

async fn ask_over_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(server).await?;
    let length = u16::try_from(message.len()).map_err(|_| malformed())?;
    socket.write_all(&length.to_be_bytes()).await?;
    socket.write_all(message).await?;
    let length = usize::from(socket.read_u16().await?);
    if length > TCP_BYTES_MAX {
        return Err(malformed());
    }
    let mut answer = vec![0; length];
    socket.read_exact(&mut answer).await?;
    Ok(answer)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the name server's answer makes no sense")
}

/// The question section: labels, type, class.
fn question(host: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut question = Vec::with_capacity(host.len() + 6);
    for label in host.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length));
        question.push(length.filter(|_| host.len() <= NAME_BYTES_MAX && host.is_ascii()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the host's name is not one that can be asked for")
        })?);
        question.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    question.push(0);
    question.extend_from_slice(&kind.to_be_bytes());
    question.extend_from_slice(&CLASS_IN.to_be_bytes());
    Ok(question)
}

struct Answer<'a>(&'a [u8]);

impl Answer<'_> {
    fn word(&self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes([*self.0.get(at)?, *self.0.get(at + 1)?]))
    }

    fn is_to(&self, id: u16, question: &[u8]) -> bool {
        let repeated = self.0.get(12..12 + question.len());
        self.word(0) == Some(id)
            && self.word(2).is_some_and(|flags| flags & IS_ANSWER != 0)
            && self.word(4) == Some(1)
            && repeated.is_some_and(|repeated| repeated.eq_ignore_ascii_case(question))
    }

    fn is_truncated(&self) -> bool {
        self.word(2).is_some_and(|flags| flags & IS_TRUNCATED != 0)
    }

    /// The addresses of `host` and of what it is an alias of.
    fn addresses(&self, host: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
        match self.word(2).map(|flags| flags & 0xf) {
            Some(0) => {}
            // There is no such name.
            Some(3) => return Ok(Vec::new()),
            _ => return Err(io::Error::other("the name server could not answer")),
        }
        let (mut aliases, mut found) = (Vec::new(), Vec::new());
        let mut at = self.name(12).ok_or_else(malformed)?.1 + 4;
        for _ in 0..self.word(6).unwrap_or(0).min(RECORDS_MAX) {
            let (owner, behind) = self.name(at).ok_or_else(malformed)?;
            let (record, class) = (self.word(behind), self.word(behind + 2));
            let length = usize::from(self.word(behind + 8).ok_or_else(malformed)?);
            let data = self.0.get(behind + 10..behind + 10 + length).ok_or_else(malformed)?;
            at = behind + 10 + length;
            if class != Some(CLASS_IN) {
                continue;
            }
            if record == Some(TYPE_CNAME) {
                aliases.push((owner, self.name(behind + 10).ok_or_else(malformed)?.0));
            } else if record == Some(kind) {
                let address = match kind {
                    TYPE_A => <[u8; 4]>::try_from(data).map(IpAddr::from),
                    _ => <[u8; 16]>::try_from(data).map(IpAddr::from),
                };
                found.push((owner, address.map_err(|_| malformed())?));
            }
        }
        let mut names = BTreeSet::from([host.to_ascii_lowercase()]);
        for _ in 0..ALIASES_MAX {
            let known = names.len();
            let more: Vec<String> =
                aliases.iter().filter(|(from, _)| names.contains(from)).map(|(_, to)| to.clone()).collect();
            names.extend(more);
            if names.len() == known {
                break;
            }
        }
        Ok(found.into_iter().filter(|(owner, _)| names.contains(owner)).map(|(_, address)| address).collect())
    }

    /// The name at a place, in lower case, and the place behind it.
    fn name(&self, mut at: usize) -> Option<(String, usize)> {
        let (mut name, mut behind) = (String::new(), None);
        for _ in 0..POINTERS_MAX * 2 {
            let length = usize::from(*self.0.get(at)?);
            match length {
                0 => return Some((name, behind.unwrap_or(at + 1))),
                1..=63 => {
                    if !name.is_empty() {
                        name.push('.');
                    }
                    let label = self.0.get(at + 1..at + 1 + length)?;
                    name.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
                    if name.len() > 2 * NAME_BYTES_MAX {
                        return None;
                    }
                    at += 1 + length;
                }
                0xc0.. => {
                    behind.get_or_insert(at + 2);
                    at = usize::from(self.word(at)? & 0x3fff);
                }
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer about `shop.example`: an alias and an address behind it, with pointers as servers write them.
    fn answer() -> Vec<u8> {
        let mut message: Vec<u8> = [7_u16, IS_ANSWER, 1, 2, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect();
        message.extend(question("shop.example", TYPE_A).expect("a name"));
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 6, 3, b'c', b'd', b'n', 0xc0, 17]);
        message.extend([0xc0, 42, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
        message
    }

    #[test]
    fn an_address_behind_an_alias_is_the_hosts() {
        let message = answer();
        let read = Answer(&message);
        assert!(read.is_to(7, &question("SHOP.example", TYPE_A).expect("a name")));
        assert_eq!(read.addresses("shop.example", TYPE_A).expect("sense"), [IpAddr::from([10, 0, 0, 1])]);
        assert!(read.addresses("other.example", TYPE_A).expect("sense").is_empty(), "somebody else's address");
    }

    #[test]
    fn answers_to_other_questions_are_passed_over() {
        let message = answer();
        let read = Answer(&message);
        assert!(!read.is_to(8, &question("shop.example", TYPE_A).expect("a name")));
        assert!(!read.is_to(7, &question("shop.example", TYPE_AAAA).expect("a name")));
        assert!(!read.is_to(7, &question("evil.example", TYPE_A).expect("a name")));
    }

    #[test]
    fn an_answer_cut_anywhere_or_leading_in_circles_is_an_error_and_not_a_crash() {
        let message = answer();
        for length in 0..message.len() {
            let read = Answer(&message[..length]);
            assert!(read.addresses("shop.example", TYPE_A).is_err(), "cut at {length}");
        }
        let mut circle = answer();
        circle[42] = 0xc0;
        circle[43] = 42;
        assert!(Answer(&circle).addresses("shop.example", TYPE_A).is_err());
    }

    #[test]
    fn names_that_cannot_be_asked_for_are_refused() {
        for name in ["", "a..b", &"a".repeat(64), &"a.".repeat(200), "ü.example"] {
            assert!(question(name, TYPE_A).is_err(), "{name}");
        }
    }
}
