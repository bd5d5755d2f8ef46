//! The real program, told at which crash point to die, and the points that the sources have.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::world::World;

/// Processes that are started and killed side by side.
pub const AT_ONCE: usize = 3;

/// How long a process may take to start or to die.
const PROCESS_WAIT_MAX: Duration = Duration::from_secs(60);

/// Every crash point in the sources.
pub fn points() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("readable").path();
            if path.is_dir() {
                walk(&path, found);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("sources are text");
            for piece in text.split("crash_point!(\"").skip(1) {
                let name = piece.split('"').next().expect("a name").to_owned();
                assert!(found.insert(name.clone()), "two crash points are called {name}");
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 40, "only {found:?}");
    found
}

/// The scenario in a point's name.
pub fn family(point: &str) -> &str {
    point.split('.').next().unwrap_or_default()
}

/// What a doomed process has beside the settings of its world.
#[derive(Default)]
pub struct Doom<'a> {
    /// Whether it runs the worker.
    pub worker: bool,
    /// Variables, without their prefix.
    pub settings: &'a [(&'a str, &'a str)],
    /// The text of a settings file.
    pub file: &'a str,
}

/// A gateway process that dies when it reaches its point.
pub struct Doomed {
    child: Child,
    /// Where it listens; empty when it died before it could tell.
    pub base: String,
    _file: NamedTempFile,
}

impl Doomed {
    /// Starts one. `point` may end in `:2` for the second time that it is reached.
    pub async fn start(world: &World, point: &str, doom: Doom<'_>) -> Self {
        let file = NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), doom.file).expect("the file can be written");
        let point = if point.contains(':') { point.to_owned() } else { format!("{point}:1") };
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkstand"));
        command.args(["serve", "--listen", "127.0.0.1:0"]).args((!doom.worker).then_some("--no-worker"));
        command.envs(world.variables().await).env("CHECKSTAND_CONFIG", file.path());
        command.env("CHECKSTAND_CRASH_AT", point).env("CHECKSTAND_DATABASE_CONNECTIONS_MAX", "4");
        // Its payers meet the bank of a process that lives on.
        command.env("CHECKSTAND_SIMULATOR_BANK_URL", &world.replicas[0].bank).env("CHECKSTAND_LOG_FORMAT", "json");
        command.envs(doom.settings.iter().map(|(name, value)| (format!("CHECKSTAND_{name}"), value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its log is read")).lines();
        let base = tokio::time::timeout(PROCESS_WAIT_MAX, async {
            while let Some(line) = lines.next_line().await.expect("its log is text") {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if let Some(url) = line["public_url"].as_str() {
                    return url.to_owned();
                }
            }
            // One with a worker may have died before it told where it listens.
            String::new()
        })
        .await
        .expect("it starts in time");
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, base, _file: file }
    }

    /// Waits until it is dead, killed and nothing else.
    pub async fn died_at(mut self, point: &str) {
        let ended = tokio::time::timeout(PROCESS_WAIT_MAX, self.child.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("nothing led to {point}")).expect("it is waited for");
        assert_eq!(ended.signal(), Some(9), "{point}: {ended}");
    }

    /// Does something that it dies of.
    pub async fn dies_of<T: Send + 'static>(self, point: &str, doing: impl Future<Output = T> + Send + 'static) {
        assert!(tokio::spawn(doing).await.is_err(), "{point}: it answered");
        self.died_at(point).await;
    }
}
