//! Processes: starting this program in another role, and what the kernel says of memory and CPU time.
//!
//! CPU time is read before and after a run; that of PostgreSQL is the postmaster's, its ended
//! children's and its living children's together. Linux only; elsewhere the figures are 0.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at a process's memory.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// This program in another role. Ends with it.
pub struct Role {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Role {
    /// Starts it and waits for its address.
    pub fn start(arguments: &[&str], environment: &[(String, String)]) -> Self {
        let program = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut address = String::new();
        out.read_line(&mut address).expect("an address");
        assert!(!address.is_empty(), "the process ended before it listened; see its message above");
        // Log lines are read and thrown away, as by a log store on another machine.
        std::thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while out.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
        });
        Self { child, address: address.trim().to_owned() }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits.
    pub fn stop(mut self) {
        terminate(&self.child);
        self.child.wait().expect("the process ends");
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        terminate(&self.child);
        let _ = self.child.wait();
    }
}

fn terminate(child: &Child) {
    if let Ok(id) = libc::pid_t::try_from(child.id()) {
        // SAFETY: kill touches no memory; the child has not been waited for, so the number is its own.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }
}

/// Resident memory of a process in kB, and its highest so far.
pub fn memory_kb(process: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// Watches a process's memory until it is dropped.
pub struct MemoryWatch {
    stop: Arc<AtomicBool>,
    highest_kb: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    /// Begins to watch.
    pub fn start(process: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let highest_kb = Arc::new(AtomicU64::new(0));
        let (told, highest) = (Arc::clone(&stop), Arc::clone(&highest_kb));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                highest.fetch_max(memory_kb(process).0, Ordering::Relaxed);
                std::thread::sleep(SAMPLE_INTERVAL);
            }
        });
        Self { stop, highest_kb, thread: Some(thread) }
    }

    /// The highest seen, in kB.
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("watching does not panic");
        }
        self.highest_kb.load(Ordering::Relaxed)
    }
}

/// CPU time in microseconds: of a process, and of its children that have ended.
fn own_and_ended(process: u32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; behind it the third field is the first.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: sysconf touches no memory.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let micros_per_tick = 1_000_000 / u64::try_from(per_second).unwrap_or(100).max(1);
    ((ticks(11) + ticks(12)) * micros_per_tick, (ticks(13) + ticks(14)) * micros_per_tick)
}

/// CPU time of a process in microseconds.
pub fn cpu_micros(process: u32) -> u64 {
    own_and_ended(process).0
}

/// CPU time of a process and all its children, ended and living, in microseconds.
pub fn cpu_micros_with_children(process: u32) -> u64 {
    let (own, ended) = own_and_ended(process);
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    own + ended + children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_micros).sum::<u64>()
}

/// CPU time of this process's ended children (wrk and pgbench) in microseconds.
pub fn cpu_micros_of_ended_children() -> u64 {
    own_and_ended(std::process::id()).1
}

/// The load average of the last minute.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}
