//! A mail server in a process of its own, `tests/sdk/mail_server.py`, that does as it is told.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::Notify;

use crate::outside::python;

/// How long a story waits for the server's word or a mail: a bound, not a measurement.
const WAIT_MAX: Duration = Duration::from_secs(45);

/// What the gateway says to log in.
pub const USER: &str = "gateway";
pub const PASSWORD: &str = "0815-pass word";

#[derive(Default)]
struct Said {
    mails: Vec<Value>,
    done: usize,
    port: Option<u16>,
}

pub struct MailServer {
    said: Arc<Mutex<Said>>,
    news: Arc<Notify>,
    stdin: ChildStdin,
    commands: usize,
    tls: &'static str,
    authority: PathBuf,
    port: u16,
    _folder: tempfile::TempDir,
    _child: Child,
}

/// A certificate authority and, signed by it, a certificate for `localhost`.
fn certificates(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("the folder takes files");
        path
    };
    (
        write("authority.pem", issuer.pem()),
        write("certificate.pem", certificate.pem()),
        write("key.pem", key.serialize_pem()),
    )
}

impl MailServer {
    /// One that takes mail only over STARTTLS and after a login, as the gateway's server would.
    pub async fn start() -> Self {
        Self::with("starttls").await
    }

    /// One whose way is protected so: `starttls`, `implicit` or `none`. Without protection there is no login.
    pub async fn with(tls: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (authority, certificate, key) = certificates(folder.path());
        let mut options = json!({ "tls": tls, "certificate": certificate, "key": key });
        if tls != "none" {
            options["user"] = USER.into();
            options["password"] = PASSWORD.into();
        }
        let mut command = python("mail_server.py");
        command.arg(options.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the mail server starts");
        let stdin = child.stdin.take().expect("it was asked for");
        let mut lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
        let (said, news) = (Arc::new(Mutex::new(Said::default())), Arc::new(Notify::new()));
        let (hearing, telling) = (Arc::clone(&said), Arc::clone(&news));
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let word: Value = serde_json::from_str(&line).expect("the mail server speaks JSON");
                {
                    let mut said = hearing.lock().expect("not poisoned");
                    match (&word["port"], &word["mail"]) {
                        (Value::Number(port), _) => said.port = port.as_u64().and_then(|port| u16::try_from(port).ok()),
                        (_, Value::Object(_)) => said.mails.push(word["mail"].clone()),
                        _ => said.done += 1,
                    }
                }
                telling.notify_waiters();
            }
        });
        let mut server =
            Self { said, news, stdin, commands: 0, tls, authority, port: 0, _folder: folder, _child: child };
        server.port = server.wait("the mail server's port", |said| said.port).await;
        server
    }

    /// What the gateway is to be told about it.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("SMTP_HOST", "localhost".to_owned()),
            ("SMTP_PORT", self.port.to_string()),
            ("SMTP_TLS", self.tls.to_owned()),
            ("SMTP_CA_FILE", self.authority.display().to_string()),
            ("MAIL_FROM", "pay@gateway.example".to_owned()),
        ];
        if self.tls != "none" {
            settings.extend([("SMTP_USER", USER.to_owned()), ("SMTP_PASSWORD", PASSWORD.to_owned())]);
        }
        settings
    }

    /// Tells it what to do from now on; returns when it has understood.
    pub async fn tell(&mut self, command: Value) {
        self.commands += 1;
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.expect("the mail server listens");
        let commands = self.commands;
        self.wait("the mail server to do as told", move |said| (said.done >= commands).then_some(())).await;
    }

    pub fn mails(&self) -> Vec<Value> {
        self.said.lock().expect("not poisoned").mails.clone()
    }

    /// The mails that arrived, once there are so many.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        self.wait("mail", move |said| (said.mails.len() >= count).then(|| said.mails.clone())).await
    }

    async fn wait<T>(&self, what: &str, look: impl Fn(&Said) -> Option<T>) -> T {
        let waiting = async {
            loop {
                let news = self.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if let Some(found) = look(&self.said.lock().expect("not poisoned")) {
                    return found;
                }
                news.await;
            }
        };
        tokio::time::timeout(WAIT_MAX, waiting).await.unwrap_or_else(|_| panic!("waited for {what}"))
    }
}

/// The value of a mail's header.
pub fn header<'m>(mail: &'m Value, name: &str) -> Option<&'m str> {
    let headers = mail["headers"].as_array().expect("headers");
    headers.iter().find(|header| header[0] == name).and_then(|header| header[1].as_str())
}
