//! Programs outside of Rust that use the gateway as others do: Node, Python, Chromium.
//!
//! The rule: a missing program fails the story with the command that installs it, a program that
//! hangs is stopped, and a program that fails shows everything it said. What a script found out is
//! the JSON object on its last line.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::Semaphore;

/// How long one script may run. The scripts give up by themselves after two minutes and say where
/// they were; this is for one that cannot even do that.
const SCRIPT_TIME_MAX: Duration = Duration::from_secs(150);

/// Programs that run at once: each is several processes, and the gateway needs a core as well.
const PROGRAMS_AT_ONCE: usize = 2;

static TURNS: Semaphore = Semaphore::const_new(PROGRAMS_AT_ONCE);

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn scripts() -> PathBuf {
    project().join("tests/sdk")
}

#[track_caller]
fn missing(what: &str) -> ! {
    panic!("{what} was not found: run scripts/install-prerequisites test")
}

fn on_the_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// A program of the project's own, else the one that a variable names, else the machine's.
fn find(own: &str, variable: &str, program: Option<&str>) -> Option<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .or_else(|| Some(project().join(own)).filter(|path| path.is_file()))
        .or_else(|| on_the_path(program?))
}

/// A Node script of `tests/sdk`.
pub fn node(script: &str) -> Command {
    let Some(node) = find("target/node/bin/node", "CHECKSTAND_NODE", Some("node")) else { missing("Node") };
    if !scripts().join("node_modules/stripe").is_dir() {
        missing("the folder tests/sdk/node_modules");
    }
    let mut command = Command::new(node);
    command.arg(scripts().join(script));
    command
}

/// A Python script of `tests/sdk`, run by the Python that has the SDKs.
pub fn python(script: &str) -> Command {
    let Some(python) = find("target/python/bin/python", "CHECKSTAND_PYTHON", None) else {
        missing("a Python with the SDKs (target/python, or the program that CHECKSTAND_PYTHON names)")
    };
    let mut command = Command::new(python);
    command.arg(scripts().join(script));
    command
}

/// The browser's script, told where Chromium is.
pub fn chromium(story: &str, argument: &Value) -> Command {
    let Some(chromium) = find("target/chromium/chromium", "CHROMIUM", Some("chromium")) else { missing("Chromium") };
    let mut command = node("browser.mjs");
    command.env("CHROMIUM", chromium).arg(story).arg(argument.to_string());
    command
}

/// Runs a script to its end with `input` on its standard input, and gives the facts of its last line.
#[track_caller]
pub fn run(mut command: Command, input: String) -> impl Future<Output = Value> {
    let caller = std::panic::Location::caller();
    async move {
        let _turn = TURNS.acquire().await.expect("turns are never closed");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let name = command.as_std().get_args().next().map(|script| script.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{caller}: {name} does not start: {error}"));
        let mut stdin = child.stdin.take().expect("it was asked for");
        let talking = async {
            let writing = async {
                // A script that ends early closes its input; what it said then tells more than the broken pipe.
                let _ = stdin.write_all(input.as_bytes()).await;
                drop(stdin);
            };
            tokio::join!(child.wait_with_output(), writing).0
        };
        let output = tokio::time::timeout(SCRIPT_TIME_MAX, talking)
            .await
            .unwrap_or_else(|_| panic!("{caller}: {name} did not end within {} s", SCRIPT_TIME_MAX.as_secs()))
            .unwrap_or_else(|error| panic!("{caller}: {name} cannot be heard: {error}"));
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{caller}: {name}: {}\n{said}\n{complained}", output.status);
        let facts: Value =
            said.lines().next_back().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        assert_eq!(facts["ok"], true, "{caller}: {name} ended without its facts:\n{said}\n{complained}");
        facts
    }
}
