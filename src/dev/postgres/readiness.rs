//! Tells whether a PostgreSQL server answers, by its pid file and by opening a real session.
//!
//! Rule: a server that still recovers accepts connections on its socket but refuses sessions, so
//! only a completed start-up exchange of protocol 3.0 counts as ready. No queries are sent here.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A running server answers the start-up message within milliseconds; a stopped process never does.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Start-up answers are a few hundred bytes; more is not PostgreSQL.
const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What the server said to a start-up message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Sessions can be opened.
    Ready,
    /// Nobody listens, or the server is starting, recovering or stopping.
    NotYet,
    /// The server runs but will not let us in; asking again does not help.
    Refused(String),
}

/// The content of `postmaster.pid`, as far as we need it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PidFile {
    pub(super) cluster: PathBuf,
    pub(super) port: u16,
    pub(super) socket_dir: PathBuf,
    pub(super) listens_on_tcp: bool,
    pub(super) says_ready: bool,
}

impl PidFile {
    /// Reads the file of a cluster, `None` when it is missing or not completely written yet.
    pub(super) fn read(cluster: &Path) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(cluster.join("postmaster.pid")).ok()?)
    }

    /// The eight lines are described in PostgreSQL's `src/include/utils/pidfile.h`.
    fn parse(content: &str) -> Option<Self> {
        let lines: Vec<&str> = content.lines().collect();
        let [_pid, cluster, _started, port, socket_dir, listen_address, _shared_memory, status] = lines[..] else {
            return None;
        };
        Some(Self {
            cluster: PathBuf::from(cluster),
            port: port.parse().ok()?,
            socket_dir: PathBuf::from(socket_dir),
            listens_on_tcp: !listen_address.is_empty(),
            says_ready: status.trim_end() == "ready",
        })
    }

    /// Asks the server behind this file. While the file itself does not say "ready" nothing is
    /// sent, because the server would log every refused session.
    pub(super) fn probe(&self, user: &str) -> Readiness {
        if !self.says_ready {
            return Readiness::NotYet;
        }
        probe(&socket_path(&self.socket_dir, self.port), user)
    }
}

/// The name PostgreSQL gives its socket.
pub(super) fn socket_path(socket_dir: &Path, port: u16) -> PathBuf {
    socket_dir.join(format!(".s.PGSQL.{port}"))
}

/// Opens a session with the maintenance database and closes it again.
fn probe(socket: &Path, user: &str) -> Readiness {
    match UnixStream::connect(socket).and_then(|stream| open_session(stream, user)) {
        Ok(readiness) => readiness,
        Err(_) => Readiness::NotYet,
    }
}

fn open_session(mut stream: UnixStream, user: &str) -> io::Result<Readiness> {
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.write_all(&startup_message(user))?;
    while Instant::now() < deadline {
        let (kind, body) = read_message(&mut stream)?;
        match kind {
            b'Z' => {
                // Terminate; whether it arrives does not change the answer.
                let _ = stream.write_all(&[b'X', 0, 0, 0, 4]);
                return Ok(Readiness::Ready);
            }
            b'E' => return Ok(judge_refusal(&body)),
            b'R' if body != [0, 0, 0, 0] => {
                return Ok(Readiness::Refused("it asks for a password".to_owned()));
            }
            _ => {}
        }
    }
    Ok(Readiness::NotYet)
}

/// Protocol 3.0: length, version, then name and value pairs that each end with a zero byte.
fn startup_message(user: &str) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for text in ["user", user, "database", "postgres", "application_name", "checkstand start"] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).expect("the start-up message is under a kilobyte");
    [length.to_be_bytes().to_vec(), body].concat()
}

fn read_message(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let body_bytes = length.checked_sub(4).filter(|bytes| *bytes <= MESSAGE_BYTES_MAX);
    let body_bytes = body_bytes.ok_or_else(|| io::Error::other("the answer is not PostgreSQL's"))?;
    let mut body = vec![0; body_bytes];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}

/// Sorts an ErrorResponse by its SQLSTATE:
/// <https://www.postgresql.org/docs/15/errcodes-appendix.html>
fn judge_refusal(body: &[u8]) -> Readiness {
    let field = |wanted: u8| {
        let text = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&wanted))?;
        Some(String::from_utf8_lossy(&text[1..]).into_owned())
    };
    match field(b'C').as_deref() {
        // cannot_connect_now, admin_shutdown, crash_shutdown.
        Some("57P03" | "57P01" | "57P02") => Readiness::NotYet,
        // too_many_connections and invalid_catalog_name: the server works, this one session does
        // not.
        Some("53300" | "3D000") => Readiness::Ready,
        _ => Readiness::Refused(field(b'M').unwrap_or_else(|| "it gave no reason".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID_FILE: &str = "4711\n/data/pg\n1790000000\n5432\n/tmp/checkstand-1-2\n\n  123 456\nready   \n";

    #[test]
    fn the_pid_file_is_understood() {
        let parsed = PidFile::parse(PID_FILE).unwrap();
        assert_eq!(parsed.cluster, Path::new("/data/pg"));
        assert_eq!((parsed.port, parsed.listens_on_tcp, parsed.says_ready), (5432, false, true));
        assert_eq!(parsed.socket_dir, Path::new("/tmp/checkstand-1-2"));
        assert!(!PidFile::parse(&PID_FILE.replace("ready", "stopping")).unwrap().says_ready);
    }

    #[test]
    fn a_half_written_pid_file_is_not_there_yet() {
        assert_eq!(PidFile::parse("4711\n/data/pg\n1790000000\n5432\n"), None);
    }

    #[test]
    fn a_recovering_server_is_not_ready_and_a_stranger_is_refused() {
        assert_eq!(judge_refusal(b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"), Readiness::NotYet);
        assert_eq!(judge_refusal(b"SFATAL\0C53300\0Msorry, too many clients already\0\0"), Readiness::Ready);
        let refused = judge_refusal(b"SFATAL\0C28000\0Mrole \"checkstand\" does not exist\0\0");
        assert_eq!(refused, Readiness::Refused("role \"checkstand\" does not exist".to_owned()));
    }

    #[test]
    fn an_absurd_length_is_not_allocated() {
        assert!(read_message(&mut &b"E\xff\xff\xff\xff"[..]).is_err());
        assert!(read_message(&mut &b"E\x00\x00\x00\x00"[..]).is_err());
    }

    #[test]
    fn nobody_listening_means_not_yet() {
        assert_eq!(probe(Path::new("/nonexistent/.s.PGSQL.5432"), "checkstand"), Readiness::NotYet);
    }
}
