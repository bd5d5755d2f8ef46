//! Why the embedded PostgreSQL could not be started or stopped.
//!
//! Rule: each error is one sentence that says what happened and what to do about it.

use std::io;
use std::path::PathBuf;

/// Everything that can go wrong between a data directory and a running server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// No usable PostgreSQL anywhere.
    #[error(
        "PostgreSQL {min} or newer is not installed here: run `apt-get install postgresql`, or \
         point CHECKSTAND_PG_BIN to the folder with its programs, or DATABASE_URL to a database \
         of yours",
        min = super::binaries::MAJOR_MIN
    )]
    BinariesNotFound,
    /// `CHECKSTAND_PG_BIN` does not lead to a usable PostgreSQL.
    #[error(
        "CHECKSTAND_PG_BIN names {}, where no working `postgres` and `initdb` of version {min} or \
         newer are: correct it or unset it to search the usual places",
        bin_dir.display(),
        min = super::binaries::MAJOR_MIN
    )]
    NamedBinariesNotFound {
        /// The folder that was named.
        bin_dir: PathBuf,
    },
    /// Root found programs that the account which has to run them cannot reach.
    #[error(
        "PostgreSQL in {} cannot be run by the user {user}, which root has to use for it: install \
         it with `apt-get install postgresql` or move it to a folder that everybody may enter",
        bin_dir.display()
    )]
    BinariesClosed {
        /// Where the programs are.
        bin_dir: PathBuf,
        /// The account that would run them.
        user: String,
    },
    /// The cluster was made by a version that is not installed.
    #[error(
        "the data in {} was made by PostgreSQL {cluster_major}, but version {found_major} is \
         installed: install version {cluster_major} (or point CHECKSTAND_PG_BIN to it), or name \
         a new folder with --data-dir to begin with an empty database",
        cluster.display()
    )]
    OtherMajorVersion {
        /// The cluster's folder.
        cluster: PathBuf,
        /// The version that made it.
        cluster_major: u32,
        /// The best version found instead.
        found_major: u32,
    },
    /// A file or folder could not be made, read or changed.
    #[error(
        "{} cannot be used for the database ({source}): give this user the right to write there, \
         or name another folder with --data-dir",
        path.display()
    )]
    DataDirectoryUnwritable {
        /// What could not be used.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A parent folder keeps the server's account out.
    #[error(
        "the folder {} is closed to the user {user}, which root has to use for PostgreSQL: name \
         one that everybody may enter with --data-dir, such as /var/lib/checkstand",
        folder.display()
    )]
    DataDirectoryClosed {
        /// The outermost closed folder.
        folder: PathBuf,
        /// The account that is kept out.
        user: String,
    },
    /// Something that is not ours sits at the name of the socket folder.
    #[error(
        "{} exists and does not belong to the database's user alone, so it cannot be trusted with \
         the socket: remove it and start again",
        path.display()
    )]
    SocketFolderTaken {
        /// The folder in question.
        path: PathBuf,
    },
    /// PostgreSQL looks its own user up and there is none.
    #[error(
        "the user id {uid} has no entry in the system's user database, which PostgreSQL insists \
         on: add one to /etc/passwd, run as another user, or set DATABASE_URL to a database of \
         yours"
    )]
    NoPasswdEntry {
        /// The id without a name.
        uid: u32,
    },
    /// A program was found but could not be executed.
    #[error(
        "{} could not be run ({source}): check that this user may execute it",
        program.display()
    )]
    ProgramNotRun {
        /// The program.
        program: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The cluster could not be made.
    #[error(
        "PostgreSQL could not set up its data directory (\"{reason}\"): correct that and start \
         again, the details are in {}",
        log.display()
    )]
    InitdbFailed {
        /// The line of the log that says why.
        reason: String,
        /// The whole story.
        log: PathBuf,
    },
    /// The server ended before it could be used.
    #[error(
        "PostgreSQL ended while it was starting (\"{reason}\"): correct that and start again, the \
         details are in {}",
        log.display()
    )]
    DidNotStart {
        /// The line of the log that says why.
        reason: String,
        /// The whole story.
        log: PathBuf,
    },
    /// The server never became usable.
    #[error(
        "PostgreSQL was not ready after {seconds} s and has been stopped: read {}, then start \
         again (a recovery goes on where it was)",
        log.display()
    )]
    NotReadyInTime {
        /// How long we waited.
        seconds: u64,
        /// What the server did meanwhile.
        log: PathBuf,
    },
    /// Somebody else works on the data directory and does not finish.
    #[error(
        "another process has been starting or stopping PostgreSQL in {} for {seconds} s: end it \
         (`fuser {}` names it) and start again",
        data_dir.display(),
        lock.display()
    )]
    DataDirectoryBusy {
        /// The data directory.
        data_dir: PathBuf,
        /// The lock it holds.
        lock: PathBuf,
        /// How long we waited.
        seconds: u64,
    },
    /// The server runs and rejects the user `checkstand`.
    #[error(
        "PostgreSQL runs in {} but does not let us in ({reason}): this data directory was not \
         made by checkstand, name a new folder with --data-dir",
        data_dir.display()
    )]
    SessionRefused {
        /// The data directory.
        data_dir: PathBuf,
        /// What the server said.
        reason: String,
    },
    /// The server ignored both kinds of request to end.
    #[error(
        "PostgreSQL (process {process_id}) did not end after {seconds} s: end it with `kill -QUIT \
         {process_id}`, nothing committed is lost, and read {}",
        log.display()
    )]
    DidNotStop {
        /// The postmaster.
        process_id: u32,
        /// How long we waited.
        seconds: u64,
        /// What the server did meanwhile.
        log: PathBuf,
    },
}
