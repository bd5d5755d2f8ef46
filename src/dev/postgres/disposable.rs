//! Data directories for tests: where they go, and how they disappear.
//!
//! Rule: a test run removes its own data when it ends, and what killed runs left when it begins.
//! Only folders whose name and lock say that nobody uses them are removed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::Instant;

use super::account::effective_uid;
use super::data_directory::DataDirectory;
use super::{EmbeddedPostgres, POLL_INTERVAL, QUIT_TIMEOUT};

const FOLDER_PREFIX: &str = "checkstand-test-";

/// Memory is the fastest place for test databases, where there is enough that tests cannot use it
/// up.
const MEMORY_FOLDER: &str = "/dev/shm";
const MEMORY_FREE_BYTES_MIN: u64 = 2 * 1024 * 1024 * 1024;

/// A new name for a data directory of this process: in memory when more than 2 GiB are free there,
/// else in `fallback` (the build's folder for temporary files). Removes what killed test runs left
/// in the same place.
pub fn disposable_data_dir(fallback: &Path) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let memory = Path::new(MEMORY_FOLDER);
    let parent = if free_bytes(memory) > MEMORY_FREE_BYTES_MIN { memory } else { fallback };
    sweep(parent);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    parent.join(format!("{FOLDER_PREFIX}{}-{number}", std::process::id()))
}

/// Arranges that this server is stopped and its data directory deleted when the program ends in an
/// orderly way, for servers that live in a static and are therefore never dropped. Does nothing to
/// a server that is not ours.
pub fn remove_data_at_exit(server: &EmbeddedPostgres) {
    static REGISTER: Once = Once::new();
    let Some(postmaster) = &server.postmaster else {
        return;
    };
    let Ok(process_id) = libc::pid_t::try_from(postmaster.child.id()) else {
        return;
    };
    REGISTER.call_once(|| {
        // SAFETY: the function is valid for the whole life of the program. On failure the next
        // run's sweep remains.
        unsafe { libc::atexit(remove_all) };
    });
    let leftover = Leftover { process_id, directory: server.directory.clone(), socket_dir: server.socket_dir.clone() };
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner).push(leftover);
}

/// To be called when a server has been stopped, because its process number may belong to another
/// process from now on.
pub(super) fn forget(server: &EmbeddedPostgres) {
    let mut leftovers = LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner);
    leftovers.retain(|leftover| leftover.directory.root() != server.directory.root());
}

struct Leftover {
    process_id: libc::pid_t,
    directory: DataDirectory,
    socket_dir: PathBuf,
}

static LEFTOVERS: Mutex<Vec<Leftover>> = Mutex::new(Vec::new());

extern "C" fn remove_all() {
    let Ok(mut leftovers) = LEFTOVERS.try_lock() else {
        return;
    };
    for leftover in leftovers.drain(..) {
        // SAFETY: kill touches no memory, and a child nobody has waited for cannot have lost its
        // number.
        unsafe { libc::kill(leftover.process_id, libc::SIGQUIT) };
        // The lock is free when the last process of the server is gone.
        let deadline = Instant::now() + QUIT_TIMEOUT;
        let Ok(lock) = leftover.directory.open_lock() else {
            continue;
        };
        while !lock.try_take().unwrap_or(true) && Instant::now() < deadline {
            thread::sleep(POLL_INTERVAL);
        }
        let _ = fs::remove_dir_all(leftover.directory.root());
        let _ = fs::remove_dir_all(&leftover.socket_dir);
    }
}

/// Removes the data directories of test runs that are no longer alive.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process_id =
            name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)?.split('-').next()?.parse().ok());
        let Some(process_id) = process_id else {
            continue;
        };
        let is_own_folder = entry.metadata().is_ok_and(|folder| folder.is_dir() && folder.uid() == effective_uid());
        if !is_own_folder || is_alive(process_id) {
            continue;
        }
        let is_unused = match File::open(entry.path().join("lock")) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_unused {
            if let Ok(directory) = DataDirectory::open(&entry.path()) {
                let _ = fs::remove_dir_all(directory.socket_dir());
            }
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_alive(process_id: libc::pid_t) -> bool {
    // SAFETY: signal 0 only asks whether the process exists.
    unsafe { libc::kill(process_id, 0) == 0 }
}

/// Bytes an ordinary user may still write in a file system; 0 when there is no such folder.
fn free_bytes(folder: &Path) -> u64 {
    let Ok(folder) = CString::new(folder.as_os_str().as_bytes()) else {
        return 0;
    };
    // SAFETY: statvfs is a plain C struct of integers; all zeroes is a valid value of it.
    let mut space: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    if unsafe { libc::statvfs(folder.as_ptr(), &raw mut space) } != 0 {
        return 0;
    }
    // The types of these fields differ between systems.
    #[allow(clippy::unnecessary_cast)]
    (space.f_bavail as u64).saturating_mul(space.f_frsize as u64)
}
