//! The PostgreSQL server that `checkstand dev` and the tests start by themselves, from the programs
//! installed here.
//!
//! Rule: nothing of it outlives its program. The postmaster is asked to stop when the program ends
//! in any way, and what a killed one leaves is cleaned up by the next start. All calls block and
//! may be made from any thread. Migrations and connection pools are left to the caller.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

mod account;
mod binaries;
mod data_directory;
mod disposable;
mod error;
mod launch;
mod readiness;

pub use account::default_data_dir;
pub use disposable::{disposable_data_dir, remove_data_at_exit};
pub use error::EmbeddedError;

use binaries::Binaries;
use data_directory::{CLUSTER_FOLDER, DataDirectory, Lock};
use launch::{Launch, POLL_INTERVAL, Postmaster, QUIT_TIMEOUT, START_TIMEOUT, STOP_TIMEOUT};
use readiness::{PidFile, Readiness};

/// Superuser and first database of every embedded cluster.
const CHECKSTAND: &str = "checkstand";

/// Names the socket file; nothing listens on this number unless TCP was asked for.
const SOCKET_PORT: u16 = 5432;

/// What to start, and where.
#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    /// Holds `pg` (the cluster), `postgres.log` (emptied at a start when above 16 MiB) and `lock`;
    /// made when missing.
    pub data_dir: PathBuf,
    /// Which settings the server gets. A data directory should keep the purpose it was made for.
    pub purpose: Purpose,
    /// Sessions the server accepts; PostgreSQL keeps three of them for superusers and needs at
    /// least four.
    pub max_connections: u32,
}

/// What the data is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Survives crashes of program, server and machine: fsync, synchronous commit, data checksums.
    Durable,
    /// For tests: no fsync, no autovacuum, small log segments. Survives a killed program, not a
    /// lost machine.
    Disposable,
    /// As durable as `Durable`, with more memory, and reachable on a free TCP port of 127.0.0.1
    /// without a password: every local user is superuser there while it runs, so only for
    /// measurements.
    Benchmark,
}

/// A server that runs, started by us or found running.
///
/// Dropping this stops nothing: the server ends with `stop`, or on Linux when the program ends.
/// Elsewhere a server whose program was killed keeps running and the next start attaches to it.
#[derive(Debug)]
pub struct EmbeddedPostgres {
    directory: DataDirectory,
    bin_dir: PathBuf,
    socket_dir: PathBuf,
    port: u16,
    listens_on_tcp: bool,
    postmaster: Option<Postmaster>,
}

impl EmbeddedPostgres {
    /// Returns once sessions can be opened: at once when a server already runs on this data
    /// directory, else after starting one, and making the cluster first when there is none. Waits
    /// at most a minute for other starts and stops, two for making the cluster and one for the
    /// server.
    pub fn start(options: EmbeddedOptions) -> Result<Self, EmbeddedError> {
        let directory = DataDirectory::open(&options.data_dir)?;
        let lock = directory.open_lock()?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let is_ours = lock.try_take().map_err(|source| directory.unwritable(source))?;
            if is_ours && !directory.has_foreign_server() {
                return Self::start_postmaster(directory, lock, &options);
            }
            if let Some(attached) = Self::attach(&directory)? {
                return Ok(attached);
            }
            if Instant::now() >= deadline {
                return Err(EmbeddedError::DataDirectoryBusy {
                    data_dir: directory.root().to_path_buf(),
                    lock: directory.lock_path(),
                    seconds: START_TIMEOUT.as_secs(),
                });
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The folder of the server's socket, which only the server's account and root may enter.
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The number in the socket's name, and the TCP port when the server listens on one.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser, who needs no password.
    pub fn user(&self) -> &str {
        CHECKSTAND
    }

    /// Where `psql`, `pg_dump` and `pgbench` of the same version are, if they are installed.
    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The address of a database on this server, through the socket. The database `checkstand`
    /// always exists.
    pub fn url(&self, database: &str) -> String {
        let socket_dir = percent_encode(self.socket_dir.as_os_str().as_encoded_bytes());
        let database = percent_encode(database.as_bytes());
        format!("postgres://{CHECKSTAND}@localhost/{database}?host={socket_dir}&port={}", self.port)
    }

    /// The address of a database through TCP, `None` unless the server listens there.
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        let database = percent_encode(database.as_bytes());
        self.listens_on_tcp.then(|| format!("postgres://{CHECKSTAND}@127.0.0.1:{}/{database}", self.port))
    }

    /// True when the server was running before and is somebody else's to stop.
    pub fn attached(&self) -> bool {
        self.postmaster.is_none()
    }

    /// The server's own log.
    pub fn log_path(&self) -> PathBuf {
        self.directory.log_path()
    }

    /// True when a server that we started has ended without being asked to.
    pub fn has_ended(&mut self) -> bool {
        self.postmaster.as_mut().is_some_and(|postmaster| matches!(postmaster.child.try_wait(), Ok(Some(_))))
    }

    /// Stops the server: open transactions are rolled back, everything committed is on disk. After
    /// 30 s it is cut off, which loses nothing either but makes the next start recover. Does
    /// nothing to a server that is not ours.
    pub fn stop(mut self) -> Result<(), EmbeddedError> {
        let Some(mut postmaster) = self.postmaster.take() else {
            return Ok(());
        };
        if !postmaster.stop() {
            return Err(EmbeddedError::DidNotStop {
                process_id: postmaster.child.id(),
                seconds: (STOP_TIMEOUT + QUIT_TIMEOUT).as_secs(),
                log: self.directory.log_path(),
            });
        }
        disposable::forget(&self);
        // Under the lock, because the next start may already want the folder. A leftover empty
        // folder harms nobody.
        if let Ok(lock) = self.directory.open_lock()
            && lock.try_take().unwrap_or(false)
        {
            let _ = fs::remove_dir(&self.socket_dir);
        }
        Ok(())
    }

    /// Joins the server that runs on this data directory, `None` when none is ready.
    fn attach(directory: &DataDirectory) -> Result<Option<Self>, EmbeddedError> {
        let cluster = directory.cluster();
        // A copied data directory brings the pid file of the server it was copied from.
        let Some(found) = PidFile::read(&cluster).filter(|found| found.cluster == cluster) else {
            return Ok(None);
        };
        match found.probe(CHECKSTAND) {
            Readiness::NotYet => Ok(None),
            Readiness::Refused(reason) => {
                Err(EmbeddedError::SessionRefused { data_dir: directory.root().to_path_buf(), reason })
            }
            Readiness::Ready => Ok(Some(Self {
                directory: directory.clone(),
                bin_dir: bin_dir_in_use(&cluster),
                socket_dir: found.socket_dir,
                port: found.port,
                listens_on_tcp: found.listens_on_tcp,
                postmaster: None,
            })),
        }
    }

    /// For the holder of the lock, when no server is left.
    fn start_postmaster(
        directory: DataDirectory,
        lock: Lock,
        options: &EmbeddedOptions,
    ) -> Result<Self, EmbeddedError> {
        let (log, log_begin) = directory.open_log()?;
        let cluster_major = directory.cluster_major()?;
        let Binaries { bin_dir, .. } = binaries::find(&directory.cluster(), cluster_major, &directory.account)?;
        let launch = Launch { directory: &directory, bin_dir: &bin_dir, log: &log, log_begin, lock: &lock };
        if cluster_major.is_none() {
            launch.create_cluster(options.purpose)?;
        }
        let port = match options.purpose {
            Purpose::Benchmark => free_tcp_port().map_err(|source| directory.unwritable(source))?,
            Purpose::Durable | Purpose::Disposable => SOCKET_PORT,
        };
        let socket_dir = directory.create_socket_dir()?;
        directory.remove_stale_files(&socket_dir)?;
        let postmaster = launch.start(options, &socket_dir, port)?;
        let listens_on_tcp = options.purpose == Purpose::Benchmark;
        Ok(Self { directory, bin_dir, socket_dir, port, listens_on_tcp, postmaster: Some(postmaster) })
    }
}

/// The server writes its own command line there, program first, every argument after it in quotes.
fn bin_dir_in_use(cluster: &Path) -> PathBuf {
    let command_line = fs::read_to_string(cluster.join("postmaster.opts")).unwrap_or_default();
    let program = command_line.split(" \"").next().unwrap_or_default();
    Path::new(program.trim()).parent().unwrap_or(Path::new("")).to_path_buf()
}

/// Asks the system for a port nobody has. Somebody may take it before the server does; then the
/// start fails and says so.
fn free_tcp_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Leaves only what RFC 3986 calls unreserved.
fn percent_encode(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
