//! `checkstand audit`: whether the books are right, for a person at night and for a timer.
//!
//! The rule: it reads one moment of the database and writes nothing. The exit code is 0 when every rule
//! holds, 1 when one is broken, and 2 when the audit could not be made, so that a silent failure is
//! never taken for a clean ledger.

use std::fmt::Write as _;
use std::path::Path;

use checkstand::ops::audit::{self, Audit, Options, Rule};
use clap::Args;
use secrecy::ExposeSecret as _;

use super::admin::{AdminOptions, with_database};
use super::output::Failure;

/// The exit code of an audit that could not be made.
const COULD_NOT_RUN: u8 = 2;

/// Options of `checkstand audit`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  checkstand audit                                    0: clean, 1: something is broken, 2: could not look
  checkstand audit --json | jq '.rules[] | select(.broken > 0)'

It may run beside a busy gateway, and against a replica or a restored backup.")]
pub struct AuditOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Findings shown of each rule; all of them are counted
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
    /// Also tell what has been in doubt for so many minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 10, value_parser = clap::value_parser!(i32).range(0..=10080))]
    doubts_after: i32,
}

/// Makes the audit and prints what it found.
///
/// # Errors
/// When a rule is broken, and when the audit could not be made; the exit codes differ.
pub async fn run(file: Option<&Path>, options: AuditOptions) -> Result<(), Failure> {
    let judged = Options { findings_max: options.limit, doubts_after_minutes: options.doubts_after };
    let mut broken = Vec::new();
    let ran = with_database(file, &options.admin, async |config| {
        let found = audit::run(config.database_url.expose_secret(), judged).await?;
        options.admin.output().show(&in_words(&found), &found)?;
        broken.extend(found.rules.iter().filter(|rule| rule.broken > 0).map(|rule| rule.name));
        Ok(())
    })
    .await;
    ran.map_err(|failure| failure.exits_with(COULD_NOT_RUN))?;
    match broken.len() {
        0 => Ok(()),
        1 => Err(format!("a rule is broken: {}", broken.join(", ")).into()),
        count => Err(format!("{count} rules are broken: {}", broken.join(", ")).into()),
    }
}

fn in_words(found: &Audit) -> String {
    let mut text = String::new();
    for rule in &found.rules {
        tell(&mut text, if rule.broken == 0 { "ok" } else { "BROKEN" }, rule);
    }
    tell(&mut text, if found.doubts.broken == 0 { "ok" } else { "note" }, &found.doubts);
    text
}

fn tell(text: &mut String, verdict: &str, rule: &Rule) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{verdict:<6}  {}: {}", rule.name, rule.rule);
    for finding in &rule.findings {
        let _ = writeln!(text, "        - {}.", finding.sentence);
    }
    let more = rule.broken - i64::try_from(rule.findings.len()).unwrap_or(i64::MAX);
    if more > 0 {
        let _ = writeln!(text, "        and {more} more; --limit shows up to 1000.");
    }
}
