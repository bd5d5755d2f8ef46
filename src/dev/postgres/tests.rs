//! Starts real servers. Each test has a data directory of its own, which goes away with it.

use std::process::Command;

use super::launch::wait;
use super::*;

/// A data directory that is stopped and removed at the end of the test, also of a failing one.
struct Sandbox {
    data_dir: PathBuf,
}

impl Sandbox {
    fn new() -> Self {
        Self { data_dir: disposable_data_dir(&std::env::temp_dir()) }
    }

    fn options(&self) -> EmbeddedOptions {
        EmbeddedOptions { data_dir: self.data_dir.clone(), purpose: Purpose::Disposable, max_connections: 10 }
    }

    fn start(&self) -> EmbeddedPostgres {
        let server = EmbeddedPostgres::start(self.options()).unwrap_or_else(|error| panic!("{error}"));
        remove_data_at_exit(&server);
        server
    }

    fn cluster(&self) -> PathBuf {
        self.data_dir.canonicalize().unwrap().join(CLUSTER_FOLDER)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // The servers of a failed test are stopped at exit, and their data goes then.
        if !thread::panicking() {
            let directory = DataDirectory::open(&self.data_dir).unwrap();
            let _ = fs::remove_dir_all(directory.socket_dir());
            fs::remove_dir_all(&self.data_dir).unwrap();
        }
    }
}

/// Runs a statement and returns what it printed.
fn query(server: &EmbeddedPostgres, database: &str, sql: &str) -> String {
    let output = Command::new(server.bin_dir().join("psql"))
        .args(["--no-psqlrc", "--tuples-only", "--no-align", "-c", sql, &server.url(database)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn data_survives_an_orderly_stop() {
    let sandbox = Sandbox::new();
    let server = sandbox.start();
    assert!(!server.attached());
    assert_eq!(query(&server, "checkstand", "create table kept as select 7 as n"), "SELECT 1");
    let socket_dir = server.socket_dir().to_path_buf();
    server.stop().unwrap();
    assert!(!socket_dir.exists());
    let server = sandbox.start();
    assert_eq!(query(&server, "checkstand", "select n from kept"), "7");
    server.stop().unwrap();
}

#[test]
fn letters_beyond_ascii_have_two_cases() {
    let sandbox = Sandbox::new();
    let server = sandbox.start();
    assert_eq!(query(&server, "checkstand", "select lower('ÄÖÉ'), current_setting('timezone')"), "äöé|UTC");
    server.stop().unwrap();
}

#[test]
fn a_second_start_attaches_and_leaves_the_server_alone() {
    let sandbox = Sandbox::new();
    let server = sandbox.start();
    let second = sandbox.start();
    assert!(second.attached());
    assert_eq!((second.url("checkstand"), second.bin_dir()), (server.url("checkstand"), server.bin_dir()));
    second.stop().unwrap();
    assert_eq!(query(&server, "checkstand", "select 1"), "1");
    server.stop().unwrap();
}

#[test]
fn of_many_starts_at_once_exactly_one_owns_the_server() {
    let sandbox = Sandbox::new();
    let servers: Vec<EmbeddedPostgres> = thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| sandbox.start())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!(servers.iter().filter(|server| !server.attached()).count(), 1);
    for server in servers {
        server.stop().unwrap();
    }
}

#[test]
fn a_killed_server_is_cleaned_up_and_recovers_what_was_committed() {
    let sandbox = Sandbox::new();
    let mut server = sandbox.start();
    query(&server, "checkstand", "set synchronous_commit = on; create table kept as select 7 as n");
    let postmaster = server.postmaster.as_mut().unwrap();
    postmaster.child.kill().unwrap();
    postmaster.child.wait().unwrap();
    disposable::forget(&server);
    let server = sandbox.start();
    assert!(!server.attached());
    assert_eq!(query(&server, "checkstand", "select n from kept"), "7");
    server.stop().unwrap();
}

#[test]
fn files_that_name_a_living_stranger_do_not_prevent_a_start() {
    let sandbox = Sandbox::new();
    let server = sandbox.start();
    let socket_dir = server.socket_dir().to_path_buf();
    let pid_file = fs::read_to_string(sandbox.cluster().join("postmaster.pid")).unwrap();
    server.stop().unwrap();
    // This test's own process stands for whoever got the old number.
    let stale = pid_file.split_once('\n').map(|(_, rest)| format!("{}\n{rest}", std::process::id())).unwrap();
    fs::write(sandbox.cluster().join("postmaster.pid"), &stale).unwrap();
    DataDirectory::open(&sandbox.data_dir).unwrap().create_socket_dir().unwrap();
    // Another port's files are those of a killed benchmark.
    fs::write(socket_dir.join(".s.PGSQL.5432"), "").unwrap();
    fs::write(socket_dir.join(".s.PGSQL.40000"), "").unwrap();
    fs::write(socket_dir.join(".s.PGSQL.5432.lock"), &stale).unwrap();
    let server = sandbox.start();
    assert!(!server.attached());
    server.stop().unwrap();
    assert!(!socket_dir.exists());
}

#[test]
#[cfg(target_os = "linux")]
fn the_server_ends_with_the_thread_that_stands_for_the_program() {
    let sandbox = Sandbox::new();
    let mut server = sandbox.start();
    let postmaster = server.postmaster.as_mut().unwrap();
    postmaster.release.send(()).unwrap();
    let status = wait(&mut postmaster.child, QUIT_TIMEOUT).unwrap();
    disposable::forget(&server);
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
    assert!(!sandbox.cluster().join("postmaster.pid").exists());
}

#[test]
fn a_half_made_cluster_is_made_again() {
    let sandbox = Sandbox::new();
    fs::create_dir_all(sandbox.data_dir.join("pg.new/base")).unwrap();
    fs::write(sandbox.data_dir.join("pg.new/PG_VERSION"), "15").unwrap();
    fs::write(sandbox.data_dir.join("lock"), "").unwrap();
    let server = sandbox.start();
    assert!(!sandbox.data_dir.join("pg.new").exists());
    server.stop().unwrap();
}

#[test]
fn data_of_another_major_version_is_refused_and_left_as_it_was() {
    let sandbox = Sandbox::new();
    sandbox.start().stop().unwrap();
    fs::write(sandbox.cluster().join("PG_VERSION"), "9999\n").unwrap();
    let error = EmbeddedPostgres::start(sandbox.options()).unwrap_err();
    assert!(matches!(error, EmbeddedError::OtherMajorVersion { cluster_major: 9999, .. }), "{error}");
    assert!(sandbox.cluster().join("base").exists());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    let sandbox = Sandbox::new();
    sandbox.start().stop().unwrap();
    let options = EmbeddedOptions { max_connections: 0, ..sandbox.options() };
    let error = EmbeddedPostgres::start(options).unwrap_err();
    assert!(
        matches!(&error, EmbeddedError::DidNotStart { reason, .. } if reason.contains("max_connections")),
        "{error}"
    );
    sandbox.start().stop().unwrap();
}

#[test]
fn only_a_benchmark_listens_on_tcp() {
    let sandbox = Sandbox::new();
    let server = sandbox.start();
    assert_eq!(
        (server.tcp_url("checkstand"), query(&server, "checkstand", "show listen_addresses")),
        (None, String::new())
    );
    server.stop().unwrap();
    let options = EmbeddedOptions { purpose: Purpose::Benchmark, ..sandbox.options() };
    let server = EmbeddedPostgres::start(options).unwrap();
    remove_data_at_exit(&server);
    let url = server.tcp_url("checkstand").unwrap();
    let output = Command::new(server.bin_dir().join("psql")).args(["-Atc", "show fsync", &url]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "on\n");
    assert_eq!(sandbox.start().tcp_url("checkstand"), Some(url));
    server.stop().unwrap();
}

#[test]
fn what_dead_test_runs_left_is_swept_and_what_living_ones_use_is_not() {
    let sandbox = Sandbox::new();
    let server = sandbox.start();
    // Above the largest number a process can have on Linux.
    let dead = sandbox.data_dir.with_file_name("checkstand-test-1999999999-0");
    fs::create_dir_all(dead.join("pg")).unwrap();
    let next = disposable_data_dir(&std::env::temp_dir());
    assert!(!dead.exists());
    assert!(!next.exists());
    assert_eq!(query(&server, "checkstand", "select 1"), "1");
    server.stop().unwrap();
}

#[test]
fn odd_names_are_encoded_in_addresses() {
    assert_eq!(percent_encode("/tmp/a b&c=d?é".as_bytes()), "%2Ftmp%2Fa%20b%26c%3Dd%3F%C3%A9");
}
