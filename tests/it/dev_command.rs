//! `checkstand dev` as a stranger meets it: the real program, started from nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::merchant::{Merchant, coffee};
use crate::payer::{GOOD_CARD, Payer};

/// The first start makes a database cluster; on a busy machine that takes its time.
const START_MAX: Duration = Duration::from_secs(120);

/// How long a stop may take, and how long the inbox may wait for a webhook.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// A running `checkstand dev` and what it printed.
struct Dev {
    child: Child,
    printed: String,
}

impl Dev {
    fn command(data_dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_checkstand"));
        command
            .arg("dev")
            .arg("--data-dir")
            .arg(data_dir)
            .args(arguments)
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn start(data_dir: &Path, arguments: &[&str]) -> Self {
        let mut child = Self::command(data_dir, arguments).spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("its output is read");
        let mut lines = BufReader::new(stdout).lines();
        let mut printed = String::new();
        let reading = async {
            while let Some(line) = lines.next_line().await.expect("its output is text") {
                printed.push_str(&line);
                printed.push('\n');
                if line.contains("Pay with card") {
                    return;
                }
            }
            panic!("checkstand dev ended before it was ready: {printed}");
        };
        tokio::time::timeout(START_MAX, reading).await.expect("checkstand dev is ready in time");
        // What it logs from now on must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut stderr = child.stderr.take().expect("its log is read");
        tokio::spawn(async move {
            let mut sink = Vec::new();
            let _ = stderr.read_to_end(&mut sink).await;
        });
        Self { child, printed }
    }

    /// What stands behind a label in the welcome.
    fn told(&self, label: &str) -> String {
        let line = self.printed.lines().find(|line| line.trim_start().starts_with(label)).expect(label);
        line.trim_start().trim_start_matches(label).split_whitespace().next().expect("a value").to_owned()
    }

    /// Ctrl-C.
    async fn interrupt(mut self) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status().await.expect("kill runs");
        assert!(sent.success());
        let ended = tokio::time::timeout(WAIT_MAX, self.child.wait()).await.expect("it stops in time");
        assert!(ended.expect("it ends").success());
    }
}

fn fresh_folder(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_path_buf() } else { PathBuf::from(env!("CARGO_TARGET_TMPDIR")) };
    base.join(format!("checkstand-{name}-{}-{:x}", std::process::id(), rand::random::<u32>()))
}

/// The sentence that a start which cannot work ends with.
async fn complaint(data_dir: &Path, arguments: &[&str]) -> String {
    let output = Dev::command(data_dir, arguments).output();
    let output = tokio::time::timeout(START_MAX, output).await.expect("it ends in time").expect("it runs");
    assert!(!output.status.success(), "it started: {}", String::from_utf8_lossy(&output.stdout));
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(text.trim_end().lines().count(), 1, "one sentence, not: {text}");
    text
}

#[tokio::test]
async fn one_command_leads_from_nothing_to_a_paid_session_and_a_verified_webhook() {
    let data_dir = fresh_folder("dev");
    let dev = Dev::start(&data_dir, &["--listen", "127.0.0.1:0"]).await;
    let (api, key, shop) = (dev.told("API base"), dev.told("Secret key"), dev.told("Demo shop"));
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&key), "the README prints another key than {key}");

    // A merchant of one's own, with nothing but what was printed.
    let merchant = Merchant::new(&api, &key, "", "");
    let tools = shop.trim_end_matches("/shop").to_owned();
    let thanks = format!("{tools}/shop/thanks?session_id={{CHECKOUT_SESSION_ID}}");
    let mut fields = coffee();
    fields.retain(|(name, _)| !name.ends_with("_url"));
    fields.extend([("success_url", thanks.as_str()), ("cancel_url", shop.as_str())]);
    let session = merchant.post("/v1/checkout/sessions", &fields).await.ok();
    let page = Payer::new(&api).pay(&session, GOOD_CARD).await;
    page.says("Payment complete");
    assert!(page.refresh_url().expect("a way back").starts_with(&format!("{tools}/shop/thanks?")));

    // The sample session of the welcome, by its printed URL.
    let sample = dev.told("Checkout page");
    let path = sample.strip_prefix(&api).expect("the gateway's own page").to_owned();
    assert!(Payer::new(&api).visit(&path).await.has_card_form());

    // The inbox is a merchant's backend: it has verified what arrived.
    let id = session["id"].as_str().expect("an id").to_owned();
    let inbox = merchant.at(&tools);
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    let arrived = async {
        loop {
            beat.tick().await;
            let seen = inbox.send(inbox.request(Method::GET, "/inbox.json")).await.ok();
            let found = seen.as_array().expect("a list").iter().find(|delivery| {
                delivery["type"] == "checkout.session.completed" && delivery["body"].to_string().contains(&id)
            });
            if let Some(delivery) = found {
                return delivery.clone();
            }
        }
    };
    let delivery = tokio::time::timeout(WAIT_MAX, arrived).await.expect("the webhook arrives");
    assert_eq!(delivery["verified"], true, "{delivery}");

    // Ctrl-C keeps the data; a second start finds it; --reset begins anew.
    dev.interrupt().await;
    let listen = api.trim_start_matches("http://").to_owned();
    let dev = Dev::start(&data_dir, &["--listen", &listen]).await;
    assert_eq!(merchant.read(&session).await["payment_status"], "paid");
    dev.interrupt().await;
    let dev = Dev::start(&data_dir, &["--listen", &listen, "--reset"]).await;
    merchant.get(&format!("/v1/checkout/sessions/{id}")).await.refused(404);

    // Without its database it does not go on as if it could serve.
    let mut dev = dev;
    let pid_file = std::fs::read_to_string(data_dir.join("pg/postmaster.pid")).expect("the server runs");
    let pid = pid_file.lines().next().expect("its number");
    assert!(Command::new("kill").args(["-INT", pid]).status().await.expect("kill runs").success());
    let ended = tokio::time::timeout(WAIT_MAX, dev.child.wait()).await.expect("it stops in time");
    assert!(!ended.expect("it ends").success(), "it called this a success");
    std::fs::remove_dir_all(&data_dir).expect("nothing holds the data any more");
}

#[tokio::test]
async fn a_start_that_cannot_work_says_in_one_sentence_what_to_do() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let data_dir = fresh_folder("dev-refused");
    let text = complaint(&data_dir, &["--listen", &address]).await;
    assert!(text.contains("in use") && text.contains("--listen"), "{text}");

    let foreign = fresh_folder("dev-foreign");
    std::fs::create_dir_all(foreign.join("pg")).expect("a folder");
    std::fs::write(foreign.join("pg/PG_VERSION"), "9\n").expect("a version");
    let text = complaint(&foreign, &["--listen", "127.0.0.1:0"]).await;
    assert!(text.contains('9') && text.contains("PostgreSQL"), "{text}");
    std::fs::remove_dir_all(&foreign).expect("it is ours");

    let file = fresh_folder("dev-file");
    std::fs::write(&file, "").expect("a file");
    let text = complaint(&file, &["--listen", "127.0.0.1:0"]).await;
    assert!(text.contains(file.to_str().expect("text")), "{text}");
    std::fs::remove_file(&file).expect("it is ours");
}
