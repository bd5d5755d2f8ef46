//! Finds the PostgreSQL programs on this machine.
//!
//! Rule: an existing cluster is only ever opened by its own major version; a new one gets the
//! highest that is found in the first place that has any. Nothing is downloaded here; installing is
//! left to the set-up script.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::EmbeddedError;
use super::account::Account;

/// The oldest major version the schema is written for (Debian 12).
pub(super) const MAJOR_MIN: u32 = 15;

/// Version folders looked at in one place; more would be a folder that is not what we take it for.
const VERSION_FOLDERS_MAX: usize = 64;

/// Folder and major version of a usable set of programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binaries {
    pub(super) bin_dir: PathBuf,
    pub(super) major: u32,
}

/// The programs to run a cluster with. `cluster_major` is the content of its PG_VERSION, `None` for
/// a new cluster.
pub(super) fn find(cluster: &Path, cluster_major: Option<u32>, account: &Account) -> Result<Binaries, EmbeddedError> {
    let named = std::env::var_os("CHECKSTAND_PG_BIN").filter(|value| !value.is_empty()).map(PathBuf::from);
    let candidates = match &named {
        // Whoever names a folder means that folder: falling back to another server would hide the
        // typing mistake.
        Some(bin_dir) => vec![bin_dir.clone()],
        None => candidates(),
    };
    choose(candidates, cluster, cluster_major, account).map_err(|error| match (error, named) {
        (EmbeddedError::BinariesNotFound, Some(bin_dir)) => EmbeddedError::NamedBinariesNotFound { bin_dir },
        (error, _) => error,
    })
}

fn choose(
    candidates: Vec<PathBuf>,
    cluster: &Path,
    cluster_major: Option<u32>,
    account: &Account,
) -> Result<Binaries, EmbeddedError> {
    let mut closed = None;
    let mut other_major = None;
    for bin_dir in candidates {
        let Some(major) = major_of(&bin_dir).filter(|major| *major >= MAJOR_MIN) else {
            continue;
        };
        if cluster_major.is_some_and(|wanted| wanted != major) {
            other_major.get_or_insert(major);
            continue;
        }
        if account.is_handed_over && account.closed_folder(&bin_dir).is_some() {
            closed.get_or_insert(bin_dir);
            continue;
        }
        return Ok(Binaries { bin_dir, major });
    }
    if let Some(bin_dir) = closed {
        return Err(EmbeddedError::BinariesClosed { bin_dir, user: account.name.clone() });
    }
    match (cluster_major, other_major) {
        (Some(cluster_major), Some(found_major)) => {
            Err(EmbeddedError::OtherMajorVersion { cluster: cluster.to_path_buf(), cluster_major, found_major })
        }
        _ => Err(EmbeddedError::BinariesNotFound),
    }
}

/// Every place worth a look, best first.
fn candidates() -> Vec<PathBuf> {
    let environment = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut found = version_folders(Path::new("/usr/lib/postgresql"), "", "bin");
    if let Some(path) = std::env::var_os("PATH") {
        found.extend(std::env::split_paths(&path).filter(|folder| folder.is_absolute()));
    }
    for homebrew in ["/opt/homebrew/opt", "/usr/local/opt"] {
        found.extend(version_folders(Path::new(homebrew), "postgresql@", "bin"));
    }
    found.extend(version_folders(Path::new("/usr"), "pgsql-", "bin"));
    let caches = [
        environment("XDG_CACHE_HOME").filter(|path| path.is_absolute()),
        environment("HOME").map(|home| home.join(".cache")),
        // Root's own cache is usually closed to the account that runs the server, so root's set-up
        // puts them here.
        Some(PathBuf::from("/var/cache")),
    ];
    for cache in caches.into_iter().flatten() {
        found.extend(version_folders(&cache.join("checkstand/pg"), "", "bin"));
    }
    found
}

/// `<parent>/<prefix><number>/<leaf>` for every number there is, highest number first.
fn version_folders(parent: &Path, prefix: &str, leaf: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut versions: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()).collect();
    versions.sort_unstable_by(|left, right| right.cmp(left));
    versions.truncate(VERSION_FOLDERS_MAX);
    versions.into_iter().map(|version| parent.join(format!("{prefix}{version}")).join(leaf)).collect()
}

/// The major version of the server in a folder, `None` unless both programs we need are there and
/// run.
fn major_of(bin_dir: &Path) -> Option<u32> {
    let server = bin_dir.join("postgres");
    if !bin_dir.join("initdb").is_file() || !server.is_file() {
        return None;
    }
    let output = Command::new(server).arg("--version").env_clear().env("LC_ALL", "C").output().ok()?;
    parse_major(std::str::from_utf8(&output.stdout).ok()?)
}

/// Reads "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "... 19beta1".
fn parse_major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.find(|character: char| !character.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_the_server_prints() {
        assert_eq!(parse_major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_major("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_major("something else"), None);
    }

    #[test]
    fn version_folders_come_highest_first_by_number() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["pgsql-9", "pgsql-18", "pgsql-15", "pgsql-old", "other"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let found = version_folders(folder.path(), "pgsql-", "bin");
        let expected = ["pgsql-18/bin", "pgsql-15/bin", "pgsql-9/bin"].map(|name| folder.path().join(name));
        assert_eq!(found, expected);
    }

    #[test]
    fn a_cluster_of_another_major_version_is_named_in_the_error() {
        let cluster = Path::new("/data/pg");
        let account = Account::for_cluster(cluster).unwrap();
        let found = find(cluster, None, &account).unwrap();
        let error = find(cluster, Some(found.major + 1), &account).unwrap_err();
        assert!(matches!(error, EmbeddedError::OtherMajorVersion { found_major, .. } if found_major == found.major));
    }

    #[test]
    fn an_empty_machine_is_told_what_to_install() {
        let cluster = Path::new("/data/pg");
        let account = Account::for_cluster(cluster).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error = choose(vec![folder.path().to_path_buf()], cluster, None, &account).unwrap_err();
        assert!(error.to_string().contains("apt-get install postgresql"), "{error}");
    }
}
