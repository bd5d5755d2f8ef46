//! The real program as a process of its own, for what cannot be done to a gateway inside the story:
//! killing it, stopping it in its tracks, reading what it prints.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::world::World;

/// How long a story waits for a line: a bound, not a measurement.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A running program and what it prints.
pub struct Program {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
    printed: Vec<String>,
}

fn read_lines(source: impl AsyncRead + Unpin + Send + 'static, lines: mpsc::UnboundedSender<String>) {
    tokio::spawn(async move {
        let mut source = BufReader::new(source).lines();
        while let Ok(Some(line)) = source.next_line().await {
            let _ = lines.send(line);
        }
    });
}

impl Program {
    /// Starts it with these arguments and variables, and nothing of this process's own settings.
    pub fn start(arguments: &[&str], variables: &[(String, String)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkstand"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHECKSTAND_") || name == "DATABASE_URL")
        {
            command.env_remove(name);
        }
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().expect("the program starts");
        let (sender, lines) = mpsc::unbounded_channel();
        read_lines(child.stdout.take().expect("it is read"), sender.clone());
        read_lines(child.stderr.take().expect("it is read"), sender);
        Self { child, lines, printed: Vec::new() }
    }

    /// A gateway on the world's database, once it listens, and where.
    pub async fn serve(world: &World, more: &[(&str, &str)]) -> (Self, String) {
        let mut variables = world.variables().await;
        variables.push(("CHECKSTAND_LISTEN".to_owned(), "127.0.0.1:0".to_owned()));
        variables.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut program = Self::start(&["serve"], &variables);
        let line = program.line_with("the gateway is listening").await;
        let told: Value = serde_json::from_str(&line).expect("log lines are JSON");
        let address = told["address"].as_str().or(told["fields"]["address"].as_str());
        let base = format!("http://{}", address.unwrap_or_else(|| panic!("no address in {line}")));
        (program, base)
    }

    /// Waits for a line that holds these words.
    #[track_caller]
    pub fn line_with<'p>(&'p mut self, words: &str) -> impl Future<Output = String> + use<'p> {
        let (caller, words) = (std::panic::Location::caller(), words.to_owned());
        async move {
            let reading = async {
                while let Some(line) = self.lines.recv().await {
                    self.printed.push(line.clone());
                    if line.contains(&words) {
                        return Some(line);
                    }
                }
                None
            };
            match tokio::time::timeout(WAIT_MAX, reading).await {
                Ok(Some(line)) => line,
                _ => panic!("{caller}: waited for “{words}”; it printed:\n{}", self.printed.join("\n")),
            }
        }
    }

    /// Waits for its end; whether all went well, and all it printed.
    pub async fn ended(mut self) -> (bool, String) {
        let status = tokio::time::timeout(WAIT_MAX, self.child.wait()).await.expect("it ends in time").expect("it ran");
        while let Some(line) = self.lines.recv().await {
            self.printed.push(line);
        }
        (status.success(), self.printed.join("\n"))
    }

    /// Sends it a signal, such as `CONT`.
    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([format!("-{name}"), pid]).status().await.expect("kill runs");
        assert!(sent.success());
    }

    /// Stops it in its tracks: none of its threads does anything before `CONT`.
    pub async fn stand_still(&self) {
        self.signal("STOP").await;
        // The signal is on its way until each thread has been scheduled to take it.
        let tasks = format!("/proc/{}/task", self.child.id().expect("it runs"));
        crate::world::eventually("all threads standing still", async || {
            let threads = std::fs::read_dir(&tasks).expect("the kernel tells");
            let states = threads.map(|thread| {
                // One that has just ended is looked for again.
                let stat = std::fs::read_to_string(thread.ok()?.path().join("stat")).ok()?;
                stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
            });
            states.into_iter().all(|state| state == Some('T')).then_some(())
        })
        .await;
    }

    /// The most memory that it ever had resident, in kB.
    pub fn peak_memory_kb(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id().expect("it runs"));
        let status = std::fs::read_to_string(path).expect("the kernel tells");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak.expect("a peak")
    }

    /// Ends it as a power failure would (SIGKILL).
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}
