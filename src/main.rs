//! The `checkstand` program: reads its arguments, runs one command and says how it went.
//!
//! The rule: standard output is for what was asked for (and, in servers, the log); a failure is one
//! sentence on standard error. The exit code is 0 when all went well, 1 when not, and 2 when the
//! arguments make no sense or an audit could not be made. What the commands do is `cli`'s, and what
//! that rests on is the library's.

mod cli;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;

/// How long the end of the program waits for its last log lines. A reader that is stuck for longer
/// must not keep a supervisor waiting.
const LAST_LOG_LINES_WAIT: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    // Fails only when a provider is installed already, and then there is one, which is all that counts.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(cli::run(arguments));
            // Dropping the runtime would wait for name look-ups that nobody needs any more.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(format!("the system gives no threads to work with: {error}").into()),
    };
    checkstand::telemetry::flush_log(LAST_LOG_LINES_WAIT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With standard error closed there is nobody left to tell; the exit code still says it.
            let _ = writeln!(std::io::stderr(), "checkstand: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}
