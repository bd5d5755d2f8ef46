//! Which operating system account runs PostgreSQL, and which folders that account can enter.
//!
//! Rule: PostgreSQL refuses to run as root, so root hands over to `postgres`, or to `nobody` where
//! that is missing. Folders of other people are never opened up for it. Making the cluster is left
//! to the parent module.

use std::ffi::{CStr, CString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::EmbeddedError;

/// Room for one line of the user database; glibc suggests 1024, directory services can need more.
const PASSWD_ENTRY_BYTES_MAX: usize = 64 * 1024;

/// The accounts root hands over to, best first.
const ACCOUNTS_FOR_ROOT: [&str; 2] = ["postgres", "nobody"];

/// Where root keeps the data when its home folder is closed to the account that runs PostgreSQL.
const SYSTEM_DATA_DIR: &str = "/var/lib/checkstand";

/// The account that owns the cluster and runs the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    home: PathBuf,
    /// True when we are root and the server runs as somebody else.
    pub(super) is_handed_over: bool,
}

impl Account {
    /// The account for a cluster folder, which may not exist yet. A cluster stays with the account
    /// that made it.
    pub(super) fn for_cluster(cluster: &Path) -> Result<Self, EmbeddedError> {
        let uid = effective_uid();
        if uid != 0 {
            return look_up(&Who::Uid(uid)).ok_or(EmbeddedError::NoPasswdEntry { uid });
        }
        let owner = fs::metadata(cluster).map(|cluster| cluster.uid()).unwrap_or(0);
        let account = if owner == 0 {
            ACCOUNTS_FOR_ROOT.iter().find_map(|name| look_up(&Who::Name(name)))
        } else {
            look_up(&Who::Uid(owner))
        };
        let account = account.ok_or(EmbeddedError::NoPasswdEntry { uid: owner })?;
        Ok(Self { is_handed_over: true, ..account })
    }

    /// The outermost existing folder on the way to `path`, itself included, that this account may
    /// not enter.
    pub(super) fn closed_folder(&self, path: &Path) -> Option<PathBuf> {
        let existing = path.ancestors().find_map(|folder| folder.canonicalize().ok())?;
        existing.ancestors().filter(|folder| !self.may_enter(folder)).last().map(Path::to_path_buf)
    }

    fn may_enter(&self, folder: &Path) -> bool {
        let Ok(folder) = fs::metadata(folder) else {
            return false;
        };
        let search_bit = if folder.uid() == self.uid {
            0o100
        } else if folder.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        folder.mode() & search_bit != 0
    }
}

/// The folder for the embedded database when nobody names one: `$CHECKSTAND_DATA_DIR`, else
/// `checkstand` under `$XDG_DATA_HOME` or `~/.local/share`. Root with a closed home folder gets
/// `/var/lib/checkstand`, because the account that runs PostgreSQL could not enter the other. A
/// folder that was named explicitly is never replaced.
pub fn default_data_dir() -> PathBuf {
    let environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = environment("CHECKSTAND_DATA_DIR") {
        return named;
    }
    // The XDG specification says that a relative path here is to be ignored.
    let data_home = environment("XDG_DATA_HOME").filter(|path| path.is_absolute()).or_else(|| {
        let home = environment("HOME").or_else(|| look_up(&Who::Uid(effective_uid())).map(|account| account.home))?;
        Some(home.join(".local/share"))
    });
    let Some(data_dir) = data_home.map(|folder| folder.join("checkstand")) else {
        return PathBuf::from(SYSTEM_DATA_DIR);
    };
    match Account::for_cluster(&data_dir.join(super::CLUSTER_FOLDER)) {
        Ok(account) if account.is_handed_over && account.closed_folder(&data_dir).is_some() => {
            PathBuf::from(SYSTEM_DATA_DIR)
        }
        _ => data_dir,
    }
}

/// The user id this process acts with.
pub(super) fn effective_uid() -> u32 {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

enum Who<'a> {
    Uid(u32),
    Name(&'a str),
}

/// Asks the C library rather than /etc/passwd, so that accounts from a directory service are found
/// as well.
fn look_up(who: &Who<'_>) -> Option<Account> {
    let mut strings = vec![0; PASSWD_ENTRY_BYTES_MAX];
    let mut found: *mut libc::passwd = std::ptr::null_mut();
    // SAFETY: passwd is a plain C struct of integers and pointers; all zeroes is a valid value of
    // it.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let status = match who {
        // SAFETY: every pointer is valid for the call and `strings` is as long as we say.
        Who::Uid(uid) => unsafe {
            libc::getpwuid_r(*uid, &raw mut entry, strings.as_mut_ptr(), strings.len(), &raw mut found)
        },
        Who::Name(name) => {
            let name = CString::new(*name).ok()?;
            // SAFETY: as above; `name` ends with a zero byte and lives through the call.
            unsafe {
                libc::getpwnam_r(name.as_ptr(), &raw mut entry, strings.as_mut_ptr(), strings.len(), &raw mut found)
            }
        }
    };
    if status != 0 || found.is_null() {
        return None;
    }
    // SAFETY: on success both point to strings inside `strings`, which is still alive.
    let (name, home) = unsafe { (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir)) };
    Some(Account {
        name: name.to_string_lossy().into_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        home: PathBuf::from(home.to_string_lossy().into_owned()),
        is_handed_over: false,
    })
}
