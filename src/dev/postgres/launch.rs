//! Makes clusters, and starts and stops the server process.
//!
//! Rule: a cluster appears under its name only when it is complete and on disk, and a PostgreSQL
//! process never runs without our lock, our clean environment and an order to end when we do.
//! Finding out whether something may be started at all is left to the parent module.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::data_directory::{CLUSTER_FOLDER, DataDirectory, Lock};
use super::readiness::{PidFile, Readiness};
use super::{CHECKSTAND, EmbeddedError, EmbeddedOptions, Purpose};

/// A start takes 40 to 500 ms, so this costs next to nothing and is not noticed.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Recovery replays at most `max_wal_size` of log, which even a throttled disk does in less.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Half a second of work; a loaded machine was seen to take four.
const CREATE_TIMEOUT: Duration = Duration::from_secs(120);

/// A fast stop rolls sessions back and writes a checkpoint, which may be some hundred megabytes.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// An immediate stop writes nothing.
pub(super) const QUIT_TIMEOUT: Duration = Duration::from_secs(5);

/// The running server process, which is our child.
#[derive(Debug)]
pub(super) struct Postmaster {
    pub(super) child: Child,
    /// Lets go of the thread that started the child.
    pub(super) release: mpsc::Sender<()>,
}

impl Postmaster {
    /// Asks, then insists; false when the process is still there.
    pub(super) fn stop(&mut self) -> bool {
        let has_ended =
            self.signal_and_wait(libc::SIGINT, STOP_TIMEOUT) || self.signal_and_wait(libc::SIGQUIT, QUIT_TIMEOUT);
        if has_ended {
            // The thread may be gone only if it panicked, and then there is nothing to release.
            let _ = self.release.send(());
        }
        has_ended
    }

    fn signal_and_wait(&mut self, signal: libc::c_int, timeout: Duration) -> bool {
        // A child that was waited for has no number any more: a signal could hit a stranger.
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return true;
        }
        if let Ok(process_id) = libc::pid_t::try_from(self.child.id()) {
            // SAFETY: kill touches no memory.
            unsafe { libc::kill(process_id, signal) };
        }
        matches!(wait(&mut self.child, timeout), Ok(Some(_)))
    }
}

/// All that making a cluster and starting a server have in common.
pub(super) struct Launch<'a> {
    pub(super) directory: &'a DataDirectory,
    pub(super) bin_dir: &'a Path,
    pub(super) log: &'a File,
    pub(super) log_begin: u64,
    pub(super) lock: &'a Lock,
}

impl Launch<'_> {
    /// Makes the cluster under another name and renames it when it is complete and on disk, so that
    /// a start that was killed half way leaves nothing that looks like a cluster.
    pub(super) fn create_cluster(&self, purpose: Purpose) -> Result<(), EmbeddedError> {
        let unfinished = self.directory.root().join(format!("{CLUSTER_FOLDER}.new"));
        // Characters beyond ASCII need a UTF-8 locale for lower() and the like; some systems do not
        // have this one.
        let mut made = Ok(());
        for locale in ["C.UTF-8", "C"] {
            self.prepare_empty_folder(&unfinished).map_err(|source| self.directory.unwritable(source))?;
            let mut initdb = self.command("initdb", libc::SIGKILL);
            initdb.arg("-D").arg(&unfinished).args(["-U", CHECKSTAND, "--auth=trust", "--encoding=UTF8"]);
            initdb.args(["--no-sync", "--no-instructions"]).arg(format!("--locale={locale}"));
            initdb.arg(match purpose {
                Purpose::Disposable => "--wal-segsize=1",
                Purpose::Durable | Purpose::Benchmark => "--data-checksums",
            });
            made = self.run(initdb, None);
            if made.is_ok() {
                break;
            }
        }
        made?;
        // A single-user server needs no socket; without fsync, because the next step syncs
        // everything at once.
        let mut single_user = self.command("postgres", libc::SIGKILL);
        single_user.arg("--single").arg("-D").arg(&unfinished).args(["-F", "-c", "exit_on_error=true"]);
        single_user.args(["-c", "log_checkpoints=off", "postgres"]).stdout(Stdio::null());
        self.run(single_user, Some(&format!("create database {CHECKSTAND} strategy file_copy\n")))?;
        if purpose != Purpose::Disposable {
            let mut sync = self.command("initdb", libc::SIGKILL);
            sync.arg("--sync-only").arg("-D").arg(&unfinished);
            self.run(sync, None)?;
        }
        let finish = || -> io::Result<()> {
            fs::rename(&unfinished, self.directory.cluster())?;
            File::open(self.directory.root())?.sync_all()
        };
        finish().map_err(|source| self.directory.unwritable(source))
    }

    fn prepare_empty_folder(&self, folder: &Path) -> io::Result<()> {
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        DirBuilder::new().mode(0o700).create(folder)?;
        let account = &self.directory.account;
        if account.is_handed_over {
            lchown(folder, Some(account.uid), Some(account.gid))?;
        }
        Ok(())
    }

    /// Runs a program to its end, within bounds.
    fn run(&self, mut command: Command, input: Option<&str>) -> Result<(), EmbeddedError> {
        let program = PathBuf::from(command.get_program());
        let not_run = |source| EmbeddedError::ProgramNotRun { program: program.clone(), source };
        let failed = |reason| EmbeddedError::InitdbFailed { reason, log: self.directory.log_path() };
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(not_run)?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // A program that ended before reading says why in the log, and its exit status decides.
            let _ = stdin.write_all(input.as_bytes());
        }
        match wait(&mut child, CREATE_TIMEOUT) {
            Ok(Some(status)) if status.success() => Ok(()),
            Ok(Some(_)) => Err(failed(self.directory.reason_in_log(self.log_begin))),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(failed(format!("it took longer than {} s", CREATE_TIMEOUT.as_secs())))
            }
            Err(source) => Err(not_run(source)),
        }
    }

    /// Starts the server and waits until it answers; a server that does not is stopped again.
    pub(super) fn start(
        &self,
        options: &EmbeddedOptions,
        socket_dir: &Path,
        port: u16,
    ) -> Result<Postmaster, EmbeddedError> {
        let mut command = self.command("postgres", libc::SIGINT);
        // Ctrl-C in a terminal goes to the whole group; the program has to finish its work before
        // the database leaves.
        command.process_group(0);
        command.arg("-D").arg(self.directory.cluster());
        for (name, value) in settings(options, port) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let mut socket_setting = OsString::from("unix_socket_directories=");
        socket_setting.push(socket_dir);
        command.arg("-c").arg(socket_setting);
        let program = PathBuf::from(command.get_program());
        let mut postmaster =
            spawn_on_lasting_thread(command).map_err(|source| EmbeddedError::ProgramNotRun { program, source })?;
        let is_ready = self.wait_until_ready(&mut postmaster);
        if is_ready.is_err() {
            postmaster.stop();
        }
        is_ready.map(|()| postmaster)
    }

    fn wait_until_ready(&self, postmaster: &mut Postmaster) -> Result<(), EmbeddedError> {
        let cluster = self.directory.cluster();
        let log = self.directory.log_path();
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            match PidFile::read(&cluster).map_or(Readiness::NotYet, |found| found.probe(CHECKSTAND)) {
                Readiness::Ready => return Ok(()),
                Readiness::Refused(reason) => {
                    let data_dir = self.directory.root().to_path_buf();
                    return Err(EmbeddedError::SessionRefused { data_dir, reason });
                }
                Readiness::NotYet => {}
            }
            if !matches!(postmaster.child.try_wait(), Ok(None)) {
                return Err(EmbeddedError::DidNotStart { reason: self.directory.reason_in_log(self.log_begin), log });
            }
            thread::sleep(POLL_INTERVAL);
        }
        Err(EmbeddedError::NotReadyInTime { seconds: START_TIMEOUT.as_secs(), log })
    }

    /// A PostgreSQL program with a clean environment, as the right user, that inherits the lock and
    /// ends with us.
    fn command(&self, program: &str, signal_when_we_end: libc::c_int) -> Command {
        let mut command = Command::new(self.bin_dir.join(program));
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir(self.directory.root());
        command.stdin(Stdio::null());
        for set in [Command::stdout, Command::stderr] {
            set(&mut command, self.log.try_clone().map_or_else(|_| Stdio::null(), Stdio::from));
        }
        let account = &self.directory.account;
        if account.is_handed_over {
            command.uid(account.uid).gid(account.gid);
        }
        let lock = self.lock.file().as_raw_fd();
        let parent = std::process::id();
        // SAFETY: between fork and exec only async-signal-safe system calls are made, and nothing
        // is allocated.
        unsafe { command.pre_exec(move || before_exec(lock, parent, signal_when_we_end)) };
        command
    }
}

/// Runs in the child, after it became the right user: changing the user would take the signal back.
fn before_exec(lock: RawFd, parent: u32, signal_when_we_end: libc::c_int) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: both calls only concern this process.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, signal_when_we_end) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have been killed before the line above; then nobody would ever send
            // the signal.
            if u32::try_from(libc::getppid()).ok() != Some(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (parent, signal_when_we_end);
    // SAFETY: the descriptor is open in this copy of the process; without the flag it stays open in
    // PostgreSQL.
    if unsafe { libc::fcntl(lock, libc::F_SETFD, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Linux sends the parent's death signal when the thread that started the child ends, not the
/// process. So that thread must stay until the child is gone, also when nobody waits for it.
fn spawn_on_lasting_thread(mut command: Command) -> io::Result<Postmaster> {
    let (report, reported) = mpsc::channel();
    let (release, released) = mpsc::channel();
    thread::Builder::new().name("postgres-parent".to_owned()).spawn(move || {
        let spawned = command.spawn();
        let is_running = spawned.is_ok();
        let _ = report.send(spawned);
        while is_running && released.recv().is_err() {
            thread::park();
        }
    })?;
    let child = reported.recv().map_err(|_| io::Error::other("the thread that starts it ended"))??;
    Ok(Postmaster { child, release })
}

/// Waits for the end of a child, `None` when it is still running after `timeout`.
pub(super) fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Server settings, given on the command line so that no file has to be kept in step.
fn settings(options: &EmbeddedOptions, port: u16) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("port", port.to_string()),
        ("max_connections", options.max_connections.to_string()),
        ("cluster_name", CHECKSTAND.to_owned()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("log_line_prefix", "%m [%p] ".to_owned()),
        // Our statements are short; compiling one takes longer than running it.
        ("jit", "off".to_owned()),
    ];
    if cfg!(target_os = "linux") {
        // Recovery then asks for one sync of the file system instead of one per file.
        settings.push(("recovery_init_sync_method", "syncfs".to_owned()));
    }
    let of_purpose: &[(&'static str, &str)] = match options.purpose {
        Purpose::Durable => {
            &[("listen_addresses", ""), ("fsync", "on"), ("synchronous_commit", "on"), ("shared_buffers", "64MB")]
        }
        Purpose::Disposable => &[
            ("listen_addresses", ""),
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("autovacuum", "off"),
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            ("log_checkpoints", "off"),
            ("shared_buffers", "64MB"),
        ],
        Purpose::Benchmark => &[
            ("listen_addresses", "127.0.0.1"),
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("shared_buffers", "512MB"),
            // Otherwise a checkpoint falls into every other run and measures the disk.
            ("max_wal_size", "4GB"),
            ("checkpoint_timeout", "15min"),
        ],
    };
    settings.extend(of_purpose.iter().map(|(name, value)| (*name, (*value).to_owned())));
    settings
}
