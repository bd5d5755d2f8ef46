//! The folder of one embedded PostgreSQL: cluster, log, lock and the socket folder that belongs to
//! it.
//!
//! Rule: whoever holds the lock may create, clean or start the cluster. Every PostgreSQL process
//! inherits the lock, so it is free only when none of them is left, whatever became of the program
//! that started them.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::EmbeddedError;
use super::account::Account;
use super::readiness::socket_path;

pub(super) const CLUSTER_FOLDER: &str = "pg";

/// Above this PostgreSQL's log is emptied at the next start, so that a forgotten installation
/// cannot fill the disk.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How much of the log's end is searched for the reason of a failure.
const LOG_TAIL_BYTES_MAX: u64 = 32 * 1024;

/// Longest piece of a log line that goes into an error.
const LOG_LINE_CHARACTERS_MAX: usize = 300;

/// Each kill leaves two files at most, and the next start removes them.
const STALE_SOCKETS_MAX: usize = 1000;

/// The shortest of the systems' limits for a socket path (macOS: 104 with the closing zero byte,
/// Linux: 108).
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// An existing, absolute data directory that the server's account can enter.
#[derive(Debug, Clone)]
pub(super) struct DataDirectory {
    root: PathBuf,
    pub(super) account: Account,
}

impl DataDirectory {
    /// Makes the folder when it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let unwritable = |source| EmbeddedError::DataDirectoryUnwritable { path: path.to_path_buf(), source };
        let absolute = std::path::absolute(path).map_err(unwritable)?;
        let account = Account::for_cluster(&absolute.join(CLUSTER_FOLDER))?;
        if account.is_handed_over
            && let Some(folder) = absolute.parent().and_then(|parent| account.closed_folder(parent))
        {
            return Err(EmbeddedError::DataDirectoryClosed { folder, user: account.name });
        }
        create_folders(&absolute, account.is_handed_over).map_err(unwritable)?;
        let root = absolute.canonicalize().map_err(unwritable)?;
        let directory = Self { root, account };
        if directory.account.is_handed_over {
            directory.let_account_in()?;
        }
        Ok(directory)
    }

    /// Root's own data directory is opened for passing through when it is plainly ours; no other
    /// folder ever is.
    fn let_account_in(&self) -> Result<(), EmbeddedError> {
        let closed = match self.account.closed_folder(&self.root) {
            None => return Ok(()),
            Some(folder) if folder == self.root && self.is_ours() => {
                let mode = fs::metadata(&folder).map(|folder| folder.mode()).unwrap_or(0o700);
                match fs::set_permissions(&folder, Permissions::from_mode((mode & 0o777) | 0o011)) {
                    Ok(()) => return Ok(()),
                    Err(_) => folder,
                }
            }
            Some(folder) => folder,
        };
        Err(EmbeddedError::DataDirectoryClosed { folder: closed, user: self.account.name.clone() })
    }

    fn is_ours(&self) -> bool {
        let is_empty = fs::read_dir(&self.root).is_ok_and(|mut entries| entries.next().is_none());
        is_empty || self.lock_path().is_file()
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.root.join(CLUSTER_FOLDER)
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn unwritable(&self, source: io::Error) -> EmbeddedError {
        EmbeddedError::DataDirectoryUnwritable { path: self.root.clone(), source }
    }

    /// Opens the lock file without locking it.
    pub(super) fn open_lock(&self) -> Result<Lock, EmbeddedError> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(self.lock_path());
        file.map(Lock).map_err(|source| self.unwritable(source))
    }

    /// The major version that made the cluster, `None` when there is no cluster yet.
    pub(super) fn cluster_major(&self) -> Result<Option<u32>, EmbeddedError> {
        match fs::read_to_string(self.cluster().join("PG_VERSION")) {
            Ok(content) => {
                let damaged = || self.unwritable(io::Error::other("pg/PG_VERSION is not a number"));
                content.trim().parse().map(Some).map_err(|_| damaged())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unwritable(error)),
        }
    }

    /// True when some PostgreSQL process works in the cluster although it does not hold our lock:
    /// started by hand, or on a file system whose locks are not inherited. Each of them has the
    /// cluster as its working directory.
    #[cfg(target_os = "linux")]
    pub(super) fn has_foreign_server(&self) -> bool {
        let cluster = self.cluster();
        let Ok(processes) = fs::read_dir("/proc") else {
            return false;
        };
        processes.flatten().map(|process| process.path()).any(|process| {
            fs::read_link(process.join("cwd")).is_ok_and(|folder| folder == cluster)
                && fs::read_to_string(process.join("comm")).is_ok_and(|name| name.starts_with("post"))
        })
    }

    /// Elsewhere PostgreSQL's own check of `postmaster.pid` has to do, so the file must stay.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn has_foreign_server(&self) -> bool {
        false
    }

    /// Removes what a killed server left. PostgreSQL would not start beside these files when their
    /// process number is in use again, which is usual in containers. Only for the holder of the
    /// lock.
    pub(super) fn remove_stale_files(&self, socket_dir: &Path) -> Result<(), EmbeddedError> {
        if !cfg!(target_os = "linux") {
            return Ok(());
        }
        let mut stale = vec![self.cluster().join("postmaster.pid")];
        let sockets = fs::read_dir(socket_dir).map_err(|source| self.unwritable(source))?;
        // All of them: a server that listened on TCP had another number in the name.
        stale.extend(sockets.flatten().map(|socket| socket.path()).take(STALE_SOCKETS_MAX));
        for path in stale {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(EmbeddedError::DataDirectoryUnwritable { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Opens the log for appending and says where this start's part begins.
    pub(super) fn open_log(&self) -> Result<(File, u64), EmbeddedError> {
        let open = || -> io::Result<(File, u64)> {
            let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.log_path())?;
            if log.metadata()?.len() > LOG_BYTES_MAX {
                log.set_len(0)?;
            }
            let begin = log.metadata()?.len();
            Ok((log, begin))
        };
        open().map_err(|source| self.unwritable(source))
    }

    /// The line after `begin` that most likely says why PostgreSQL gave up.
    pub(super) fn reason_in_log(&self, begin: u64) -> String {
        let read = || -> io::Result<String> {
            let mut log = File::open(self.log_path())?;
            let tail = log.metadata()?.len().saturating_sub(LOG_TAIL_BYTES_MAX);
            log.seek(SeekFrom::Start(begin.max(tail)))?;
            let mut bytes = Vec::new();
            log.take(LOG_TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        reason(&read().unwrap_or_default())
    }

    /// The folder for the socket: a short name in the system's folder for temporary files, because
    /// socket paths must be short. It depends on the data directory alone.
    pub(super) fn socket_dir(&self) -> PathBuf {
        let name = format!("checkstand-{}-{:016x}", self.account.uid, fnv1a(self.root.as_os_str().as_encoded_bytes()));
        let is_usable = |folder: &PathBuf| {
            folder.is_absolute()
                && socket_path(&folder.join(&name), u16::MAX).as_os_str().len() <= SOCKET_PATH_BYTES_MAX
                && (!self.account.is_handed_over || self.account.closed_folder(folder).is_none())
        };
        Some(std::env::temp_dir()).filter(is_usable).unwrap_or_else(|| PathBuf::from("/tmp")).join(&name)
    }

    /// Makes the socket folder, or takes the one that is there when nobody else can have prepared
    /// it.
    pub(super) fn create_socket_dir(&self) -> Result<PathBuf, EmbeddedError> {
        let path = self.socket_dir();
        let prepare = || -> io::Result<bool> {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            // Root owns the folder between making it and handing it over, also when it was killed
            // right there.
            if self.account.is_handed_over && fs::symlink_metadata(&path)?.uid() == 0 {
                lchown(&path, Some(self.account.uid), Some(self.account.gid))?;
            }
            let folder = fs::symlink_metadata(&path)?;
            Ok(folder.is_dir() && folder.uid() == self.account.uid && folder.mode() & 0o077 == 0)
        };
        match prepare() {
            Ok(true) => Ok(path),
            Ok(false) => Err(EmbeddedError::SocketFolderTaken { path }),
            Err(source) => Err(EmbeddedError::DataDirectoryUnwritable { path, source }),
        }
    }
}

/// The open lock file of a data directory. The lock belongs to the open file: closing the last
/// copy, here and in the processes that inherited it, frees it.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes the lock when nobody has it. Fails only where the file system knows no locks.
    pub(super) fn try_take(&self) -> io::Result<bool> {
        match self.0.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.0
    }
}

/// Makes the missing folders on the way: private ones, or passable ones when another account has to
/// get through.
fn create_folders(path: &Path, is_handed_over: bool) -> io::Result<()> {
    let mode = if is_handed_over { 0o711 } else { 0o700 };
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    DirBuilder::new().recursive(true).mode(mode).create(path)?;
    if is_handed_over {
        // The umask may have closed them.
        for folder in missing {
            fs::set_permissions(folder, Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

/// Picks the last line that names an error, else the last line with any text.
fn reason(log: &str) -> String {
    let names_error = |line: &&str| ["FATAL:", "PANIC:", "ERROR:", " error: "].iter().any(|word| line.contains(word));
    let line = log.lines().rfind(names_error).or_else(|| log.lines().rfind(|line| !line.trim().is_empty()));
    line.unwrap_or("nothing was written").trim().chars().take(LOG_LINE_CHARACTERS_MAX).collect()
}

/// FNV-1a, 64 bits: stable across builds, which the standard hasher does not promise. Only names a
/// folder.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_the_error_and_not_the_farewell() {
        let log = "LOG:  starting\n2026 [1] FATAL:  could not open file\nLOG:  database system is shut down\n\n";
        assert_eq!(reason(log), "2026 [1] FATAL:  could not open file");
        assert_eq!(reason("only this\n\n"), "only this");
        assert_eq!(reason(""), "nothing was written");
    }

    #[test]
    fn the_socket_folder_is_private_and_short() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(100)).join("y".repeat(100));
        let directory = DataDirectory::open(&deep).unwrap();
        let socket_dir = directory.create_socket_dir().unwrap();
        let metadata = fs::metadata(&socket_dir).unwrap();
        assert_eq!(metadata.mode() & 0o777, 0o700);
        assert!(socket_path(&socket_dir, 5432).as_os_str().len() <= SOCKET_PATH_BYTES_MAX);
        assert_eq!(directory.create_socket_dir().unwrap(), socket_dir);
        fs::set_permissions(&socket_dir, Permissions::from_mode(0o755)).unwrap();
        let error = directory.create_socket_dir().unwrap_err();
        assert!(matches!(error, EmbeddedError::SocketFolderTaken { .. }), "{error}");
        fs::remove_dir(socket_dir).unwrap();
    }

    #[test]
    fn an_overlong_log_is_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        File::create(directory.log_path()).unwrap().set_len(LOG_BYTES_MAX + 1).unwrap();
        let (log, begin) = directory.open_log().unwrap();
        assert_eq!((log.metadata().unwrap().len(), begin), (0, 0));
    }

    #[test]
    fn the_lock_excludes_a_second_taker_until_it_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = DataDirectory::open(folder.path()).unwrap();
        let (first, second) = (directory.open_lock().unwrap(), directory.open_lock().unwrap());
        assert!(first.try_take().unwrap());
        assert!(!second.try_take().unwrap());
        drop(first);
        assert!(second.try_take().unwrap());
    }
}
