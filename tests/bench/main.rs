//! The benchmark: what the gateway does in a second beside what PostgreSQL does for pgbench with the
//! same rows over the same socket, in one run and in turns.
//!
//! The rule: everything is measured as it ships: release build, own process, fsync and synchronous
//! commit on, log lines written. Rates depend on the machine and on who else uses it, so they are
//! printed as ratios with their range, beside CPU time and load. No figure fails the run.

#![allow(clippy::float_arithmetic, reason = "rates and ratios, never money")]

mod base;
mod confirm;
mod database;
mod load;
mod measure;
mod process;
mod report;
mod roles;

use clap::Parser;

/// How the benchmark was called.
#[derive(Parser, Debug, Clone)]
#[command(name = "bench", about = "Measures checkstand beside pgbench; see README.md for how to read it.")]
pub struct Options {
    /// Rounds of each comparison; odd rounds go forwards, even ones backwards.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5)]
    pub seconds: u64,
    /// Connections of the load generator and of pgbench.
    #[arg(long, default_value_t = 64)]
    pub clients: u32,
    /// Deliveries to drain.
    #[arg(long, default_value_t = 30_000)]
    pub deliveries: i64,
    /// Only these of: create, page, confirm, deliver, latency.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Environment of the gateway besides its own, as NAME=VALUE.
    #[arg(long)]
    pub env: Vec<String>,
    /// Run as the gateway; used by the benchmark itself.
    #[arg(long, hide = true)]
    pub gateway: bool,
    /// Whether that gateway delivers.
    #[arg(long, hide = true)]
    pub worker: bool,
    /// Run as the receiver of webhooks; used by the benchmark itself.
    #[arg(long, hide = true)]
    pub sink: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|one| one == part)
    }
}

fn main() {
    let options = Options::parse();
    if options.gateway {
        return roles::gateway(options.worker);
    }
    if options.sink {
        return roles::sink();
    }
    let mut bench = measure::Bench::start(options.clone());
    report::print_machine(&bench);
    if options.wants("create") {
        bench.create();
    }
    if options.wants("page") {
        bench.page();
    }
    if options.wants("confirm") {
        bench.confirm();
    }
    if options.wants("deliver") {
        bench.deliver();
    }
    if options.wants("latency") {
        bench.latency();
    }
    bench.end();
}
