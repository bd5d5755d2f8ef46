//! Crash points: places where a test can have this process killed, as by the machine's own death.
//!
//! The rule: a point stands on each side of what cannot be undone, such as a commit or a call to a
//! provider. `CHECKSTAND_CRASH_AT=name:n` kills the process (SIGKILL, so nothing is tidied up) when the
//! point is reached for the n-th time. Builds without debug assertions have no points at all and refuse
//! the variable as unknown. A story reads the names out of the sources and goes through all of them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A place to be killed at; the name has the scenario that leads there before its dot.
macro_rules! crash_point {
    ($name:literal) => {
        if cfg!(debug_assertions) {
            $crate::crash::reached($name);
        }
    };
}
pub(crate) use crash_point;

/// Where to die, and how often the point is still passed before.
struct Plan {
    name: String,
    left: AtomicU32,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

fn plan() -> Option<Plan> {
    let text = std::env::var("CHECKSTAND_CRASH_AT").ok()?;
    let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
    Some(Plan { name: name.to_owned(), left: AtomicU32::new(times.parse().ok()?) })
}

/// Ends the process when this is the point, and the time, that it was told.
pub fn reached(name: &str) {
    let Some(plan) = PLAN.get_or_init(plan) else { return };
    if plan.name == name && plan.left.fetch_sub(1, Ordering::SeqCst) == 1 {
        // SAFETY: both calls touch no memory of ours; the process does not go on behind them.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        loop {
            std::thread::park();
        }
    }
}
