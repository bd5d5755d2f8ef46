//! Receivers that behave as badly as they can, by the path that is asked for: silence, resets, no HTTP at all, answers without
//! end, and bodies that are a thousand times as large as they look.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Between two bytes of the dripping receiver.
const DRIP_EVERY: Duration = Duration::from_millis(100);

/// What the bomb unpacks to: a gigabyte and a few zeros.
pub const BOMB_BYTES: u64 = 1 + LONGEST_MATCH * MATCHES;
const LONGEST_MATCH: u64 = 258;
const MATCHES: u64 = 4_161_792;

/// See [`pack_bomb`].
pub static BOMB: LazyLock<Vec<u8>> = LazyLock::new(pack_bomb);

/// A server of them on this machine.
pub struct HostileReceiver {
    pub address: String,
    written: Arc<AtomicU64>,
}

impl HostileReceiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let written = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&written);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let mut one = Misbehaviour { socket, written: Arc::clone(&counting) };
                tokio::spawn(async move { one.begin().await });
            }
        });
        Self { address, written }
    }

    /// The URL of one of its manners.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What senders let it write of answers without end, and of bombs.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

struct Misbehaviour {
    socket: TcpStream,
    written: Arc<AtomicU64>,
}

impl Misbehaviour {
    /// Reads one request to the end of its body and gives its path.
    async fn read_request(&mut self) -> std::io::Result<String> {
        let mut read = Vec::new();
        let mut chunk = [0_u8; 8192];
        loop {
            // The first byte of a TLS handshake, which never looks like a request.
            if read.first() == Some(&0x16) {
                return Ok("/tls".to_owned());
            }
            if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
                let length: usize = length.and_then(|text| text.parse().ok()).unwrap_or(0);
                if read.len() >= end + 4 + length {
                    return Ok(head.split(' ').nth(1).unwrap_or_default().to_owned());
                }
            }
            match self.socket.read(&mut chunk).await? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => read.extend_from_slice(&chunk[..count]),
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes).await?;
        self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn repeat(&mut self, head: &[u8], piece: &[u8]) -> std::io::Result<()> {
        self.write(head).await?;
        loop {
            self.write(piece).await?;
        }
    }

    async fn begin(&mut self) -> std::io::Result<()> {
        let path = self.read_request().await?;
        match path.as_str() {
            "/hang" => std::future::pending().await,
            "/close" => Ok(()),
            "/reset" => self.socket.set_zero_linger(),
            "/garbage" => self.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n").await,
            "/half" => self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await,
            "/drip" => {
                self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await?;
                let mut beat = tokio::time::interval(DRIP_EVERY);
                loop {
                    beat.tick().await;
                    self.write(b"x").await?;
                }
            }
            "/endless-head" => {
                self.repeat(b"HTTP/1.1 200 OK\r\n", b"x-more: and more and more and more and more\r\n").await
            }
            // Answers before the answer (RFC 9110 section 15.2), and no end of them.
            "/early-answers" => {
                let early = b"HTTP/1.1 103 Early Hints\r\nlink: </more>; rel=preload\r\n\r\n".repeat(1024);
                self.repeat(b"", &early).await
            }
            // Each byte of the body with five others around it.
            "/crumbs" => {
                let crumbs = b"1\r\nx\r\n".repeat(4096);
                self.repeat(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &crumbs).await
            }
            // Longer than any head need be, in few lines, and well formed.
            "/large-head" => {
                let line = format!("x-more: {}\r\n", "more ".repeat(1600));
                self.write(format!("HTTP/1.1 200 OK\r\n{}", line.repeat(20)).as_bytes()).await?;
                self.write(b"content-length: 0\r\n\r\n").await
            }
            "/endless-refusal" => {
                let mut piece = b"10000\r\n".to_vec();
                piece.extend([b'z'; 65536]);
                piece.extend(b"\r\n");
                self.repeat(b"HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n", &piece).await
            }
            "/huge" => self.repeat(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n", &[b'y'; 65536]).await,
            "/bomb" => {
                // Said to be compressed, which was not asked for.
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                    BOMB.len()
                );
                self.write(head.as_bytes()).await?;
                self.write(&BOMB).await?;
                std::future::pending().await
            }
            _ => self.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await,
        }
    }
}

/// A gigabyte of zeros as gzip (RFC 1952) in a megabyte: one deflate block (RFC 1951) whose codes are chosen so that
/// "the last byte, 258 times" takes two bits, which are both zero.
fn pack_bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = Vec::new();
    let number = |bits: &mut Vec<bool>, value: u32, count: u32| {
        bits.extend((0..count).map(|place| value >> place & 1 == 1));
    };
    // The last block, with codes of its own: 286 for literals and lengths, one for distances, 18 for the lengths of codes.
    for (value, count) in [(1, 1), (2, 2), (286 - 257, 5), (0, 5), (18 - 4, 4)] {
        number(&mut bits, value, count);
    }
    // The order is fixed: 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1. "18" has one bit, "2" and "1" have two.
    for length in [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2] {
        number(&mut bits, length, 3);
    }
    let zeros = |bits: &mut Vec<bool>, count: u32| {
        bits.push(false);
        number(bits, count - 11, 7);
    };
    let (one, two) = ([true, false], [true, true]);
    // The byte 0 has two bits, the end two, a match of 258 one; the only distance has one.
    bits.extend(two);
    zeros(&mut bits, 138);
    zeros(&mut bits, 117);
    bits.extend(two);
    zeros(&mut bits, 28);
    bits.extend(one);
    bits.extend(one);
    // One zero, all matches, the end.
    bits.extend([true, false]);
    bits.extend(std::iter::repeat_n(false, 2 * MATCHES as usize));
    bits.extend([true, true]);
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    packed.extend(
        bits.chunks(8)
            .map(|bits| bits.iter().enumerate().fold(0_u8, |byte, (place, bit)| byte | u8::from(*bit) << place)),
    );
    packed.extend(checksum_of_zeros(BOMB_BYTES).to_le_bytes());
    packed.extend((BOMB_BYTES as u32).to_le_bytes());
    packed
}

/// The checksum of so many zeros, made of those of 1, 2, 4, … of them.
fn checksum_of_zeros(count: u64) -> u32 {
    let mut whole = crc32fast::Hasher::new();
    let mut piece = crc32fast::Hasher::new();
    piece.update(&[0]);
    let mut left = count;
    while left > 0 {
        if left & 1 == 1 {
            whole.combine(&piece);
        }
        left >>= 1;
        let same = piece.clone();
        piece.combine(&same);
    }
    whole.finalize()
}
