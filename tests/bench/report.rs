//! What is printed: a line for each run as it ends, then medians, ratios with their range, and
//! whether the targets are reached.

use crate::measure::{Bench, Run};
use crate::{base, load, process};

/// The middle of some figures, or the mean of the two in the middle.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}

/// The share `per_mille` of sorted figures lies at or below the answer.
pub fn percentile(sorted: &[f64], per_mille: usize) -> f64 {
    let place = (sorted.len() * per_mille).div_ceil(1000).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0.0)
}

/// Says on what machine this runs.
pub fn print_machine(bench: &Bench) {
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("checkstand {} beside {}", env!("CARGO_PKG_VERSION"), bench.server_version());
    println!("{}, {}", base::version(&bench.database), load::version());
    println!("{} cores ({}), load average {:.2}", cores, model.unwrap_or("?").trim(), process::load_average());
    println!(
        "fsync and synchronous_commit on; unix socket for both; {} clients; {} rounds of {} s, in turns\n",
        bench.options.clients, bench.options.rounds, bench.options.seconds
    );
}

/// Tells of one run as soon as it has ended.
pub fn print_run(name: &str, run: &Run) {
    println!("  {name:<44} {:>9.0}/s   load {:.1}", run.rate, run.load);
}

/// Medians of each contestant, and its ratio to the first.
pub fn print_table(title: &str, names: &[&str], runs: &[Vec<Run>]) {
    println!("\n{title}");
    println!(
        "  {:<44} {:>9}  {:>18}  {:>8} {:>8}  {:>5} {:>5} {:>5} {:>6}",
        "", "per s", "ratio (range)", "p50 ms", "p99 ms", "pg", "app", "load", "us/op"
    );
    for (name, own) in names.iter().zip(runs) {
        let of = |field: fn(&Run) -> f64| median(&own.iter().map(field).collect::<Vec<_>>());
        let (middle, low, high) = ratio(own, &runs[0]);
        let latency = |ms: f64| if ms > 0.0 { format!("{ms:.1}") } else { "-".to_owned() };
        println!(
            "  {name:<44} {:>9.0}  {:>18}  {:>8} {:>8}  {:>5.0} {:>5.0} {:>5.0} {:>6.0}",
            of(|run| run.rate),
            format!("{middle:.2} ({low:.2}-{high:.2})"),
            latency(of(|run| run.p50_ms)),
            latency(of(|run| run.p99_ms)),
            of(|run| run.postgres_us),
            of(|run| run.gateway_us),
            of(|run| run.client_us),
            of(|run| run.postgres_us + run.gateway_us + run.client_us),
        );
    }
}

/// Round by round: median, least and greatest.
pub fn ratio(own: &[Run], base: &[Run]) -> (f64, f64, f64) {
    let ratios: Vec<f64> = own.iter().zip(base).map(|(own, base)| own.rate / base.rate).collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    (median(&ratios), low, high)
}

/// Says whether a target is reached.
pub fn print_target(what: &str, figure: f64, target: f64, at_most: bool) {
    let reached = if at_most { figure <= target } else { figure >= target };
    let sign = if at_most { "<=" } else { ">=" };
    println!("target {what} {sign} {target}: {figure:.2}, reached: {}", if reached { "yes" } else { "no" });
}
