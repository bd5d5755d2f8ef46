//! pgbench, the measure of what PostgreSQL can do here: prepared statements over the same socket.
//!
//! Values of a row go over the wire with each transaction, as they do from the gateway; only ids are
//! made of the client's number and a counter.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::database::{DATABASE, Database, EVENT_PREFIX, ID_DIGITS, SESSION_PREFIX};

/// A script with its variables.
#[derive(Clone)]
pub struct Script {
    file: PathBuf,
    variables: Vec<(String, String)>,
}

/// A sample row of each table that a creation writes.
pub struct Samples {
    /// `checkout_session`.
    pub session: Vec<(String, String)>,
    /// `event`.
    pub event: Vec<(String, String)>,
    /// `idempotency_key`.
    pub reply: Vec<(String, String)>,
    /// `delivery`.
    pub delivery: Vec<(String, String)>,
}

fn id(prefix: &str) -> String {
    format!("'{prefix}' || lpad(:n, {ID_DIGITS}, '0')")
}

fn insert(table: &str, sample: &[(String, String)], variables: &mut Vec<(String, String)>) -> String {
    let mut names = Vec::new();
    let mut values = Vec::new();
    for (name, value) in sample {
        let made = match (table, name.as_str()) {
            ("checkout_session", "id") | ("event", "session_id" | "object_id") => Some(id(SESSION_PREFIX)),
            ("event", "id") | ("delivery", "event_id") => Some(id(EVENT_PREFIX)),
            ("idempotency_key", "key") => Some("lpad(:n, 36, '0')".to_owned()),
            _ => None,
        };
        names.push(name.as_str());
        values.push(made.unwrap_or_else(|| {
            let variable = format!("{table}_{name}");
            variables.push((variable.clone(), value.clone()));
            format!(":{variable}")
        }));
    }
    format!("insert into {table} ({}) values ({});\n", names.join(", "), values.join(", "))
}

impl Script {
    /// Writes a session in one transaction: with its event only, or with all that a creation writes.
    pub fn creation(folder: &Path, samples: &Samples, clients: u32, all_rows: bool) -> Self {
        let mut variables = vec![("i".to_owned(), "0".to_owned())];
        let mut text = format!("\\set i :i + 1\n\\set n :i * {clients} + :client_id\nbegin;\n");
        text += &insert("checkout_session", &samples.session, &mut variables);
        text += &insert("event", &samples.event, &mut variables);
        if all_rows {
            text += &insert("idempotency_key", &samples.reply, &mut variables);
            text += &insert("delivery", &samples.delivery, &mut variables);
        }
        text += "commit;\n";
        Self::write(folder, if all_rows { "create-all.sql" } else { "create.sql" }, &text, variables)
    }

    /// Reads `columns` of one of `sessions` sessions by its primary key.
    pub fn selection(folder: &Path, sessions: u32, columns: &str) -> Self {
        let mut text = String::new();
        let id = id(SESSION_PREFIX);
        writeln!(text, "\\set n random(1, {sessions})\nselect {columns} from checkout_session where id = {id};")
            .expect("a string takes everything");
        Self::write(folder, &format!("select-{}.sql", columns.len()), &text, Vec::new())
    }

    /// A script of its own.
    pub fn write(folder: &Path, name: &str, text: &str, variables: Vec<(String, String)>) -> Self {
        let file = folder.join(name);
        std::fs::write(&file, text).expect("the temporary folder takes files");
        Self { file, variables }
    }
}

/// Transactions a second with `clients` clients over the unix socket.
pub fn pgbench(database: &Database, script: &Script, clients: u32, seconds: u64) -> f64 {
    let server = database.server();
    let mut command = Command::new(program(server.bin_dir()));
    command
        .args(["-n", "-M", "prepared", "-j", "2", "-U", server.user(), "-p", &server.port().to_string()])
        .args(["-c", &clients.to_string(), "-T", &seconds.to_string()])
        .arg("-h")
        .arg(server.socket_dir())
        .arg("-f")
        .arg(&script.file);
    for (name, value) in &script.variables {
        command.arg("-D").arg(format!("{name}={value}"));
    }
    let output = command.arg(DATABASE).output().expect("pgbench starts; run scripts/install-prerequisites bench");
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
    match rate {
        Some(rate) if output.status.success() => rate,
        _ => panic!("pgbench failed: {text}{}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// pgbench of the server's own version, or the one on the path.
fn program(bin_dir: &Path) -> PathBuf {
    let own = bin_dir.join("pgbench");
    if own.exists() { own } else { PathBuf::from("pgbench") }
}

/// pgbench's version.
pub fn version(database: &Database) -> String {
    let output = Command::new(program(database.server().bin_dir())).arg("--version").output();
    output.map_or_else(|_| "pgbench ?".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
