//! Speaks to the operator's mail server: one message at a time over a connection that is kept for the next.
//!
//! The rule: where TLS is asked for nothing is said without it, neither password nor message; every wait is
//! bounded; and a connection that was interrupted or refused anything is closed, because on a connection
//! that is out of step the answer to one message would be taken for the answer to another. When to send and
//! how often is left to the worker.

use std::fmt;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, Message};
use secrecy::{ExposeSecret, SecretString};

/// Longest wait for a connection, TLS and login included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the server to take a message. Mail filters think for a while.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);

/// All that one attempt can take.
pub const ATTEMPT_TIME_MAX: Duration = CONNECT_TIMEOUT.saturating_add(CONNECT_TIMEOUT).saturating_add(SEND_TIMEOUT);

/// Connections that are kept; mail comes in drops.
const IDLE_MAX: usize = 4;

/// How long one is kept. Servers close them after minutes.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);

/// How the way to the server is protected.
#[derive(serde::Deserialize, Debug, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Begun in the clear, then STARTTLS, without which nothing is sent (port 587).
    Starttls,
    /// TLS from the first byte (port 465, RFC 8314).
    Implicit,
    /// None: only for a server on this machine.
    None,
}

/// The operator's mail server.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Its name, which its certificate must carry.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way there is protected.
    pub tls: Tls,
    /// User and password, where it asks for them.
    pub login: Option<(String, SecretString)>,
    /// A certificate authority of the operator's own, in PEM.
    pub authority_pem: Option<Vec<u8>>,
    /// In whose name mail is sent.
    pub from: Mailbox,
}

/// A message to be sent.
#[derive(Debug)]
pub struct Letter<'a> {
    /// Makes up the Message-ID, so that a message that is sent twice is known to be one.
    pub id: &'a str,
    /// Where it goes.
    pub recipient: &'a str,
    /// Its subject.
    pub subject: &'a str,
    /// Whom the reader sees as its sender, unless the settings name somebody.
    pub sender_name: &'a str,
    /// Where answers go.
    pub reply_to: Option<&'a str>,
    /// Its plain text.
    pub text: &'a str,
    /// The same as HTML.
    pub html: &'a str,
    /// When it was written.
    pub written_at: DateTime<Utc>,
}

/// Why a message was not sent. Its text names no recipient and has no long number.
#[derive(Debug)]
pub enum SendError {
    /// The server could not be reached or spoken with; whatever the address, it would have failed.
    Server(String),
    /// The server wants it later (4xx).
    Later(String),
    /// The server will never take it (5xx), or it is no message.
    Never(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Server(text) | Self::Later(text) | Self::Never(text)) = self;
        formatter.write_str(text)
    }
}

/// The client. Cheap to share by reference; has no `Debug`, because of the password.
pub struct SmtpClient {
    settings: SmtpSettings,
    tls: Option<TlsParameters>,
    hello: ClientId,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

impl SmtpClient {
    /// Prepares for a server; does not speak to it yet.
    ///
    /// # Errors
    /// A sentence when the certificate authority cannot be read.
    pub fn new(settings: SmtpSettings) -> Result<Self, String> {
        let tls = match settings.tls {
            Tls::None => None,
            Tls::Starttls | Tls::Implicit => {
                let mut builder = TlsParameters::builder(settings.host.clone());
                if let Some(pem) = &settings.authority_pem {
                    let authority = Certificate::from_pem(pem)
                        .map_err(|error| format!("`smtp_ca_file` holds no certificate in PEM: {error}"))?;
                    builder = builder.add_root_certificate(authority);
                }
                Some(builder.build().map_err(|error| format!("TLS to the mail server cannot be prepared: {error}"))?)
            }
        };
        // What greets the server must be a name that it can look up, or an address literal.
        let domain = settings.from.email.domain();
        let hello = if domain.contains('.') {
            ClientId::Domain(domain.to_owned())
        } else {
            ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST)
        };
        Ok(Self { settings, tls, hello, idle: Mutex::new(Vec::new()) })
    }

    /// Sends a message; returns when the server has taken it.
    ///
    /// # Errors
    /// See [`SendError`]. After a timeout the server may have taken it all the same.
    pub async fn send(&self, letter: &Letter<'_>) -> Result<(), SendError> {
        let message = self.message(letter).map_err(SendError::Never)?;
        let mut connection = match self.kept().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let raw = message.formatted();
        // A connection that is not given back below is closed by being dropped.
        match tokio::time::timeout(SEND_TIMEOUT, connection.send(message.envelope(), &raw)).await {
            Err(_) => Err(SendError::Server(format!("no answer to a message within {} s", SEND_TIMEOUT.as_secs()))),
            Ok(Err(error)) => Err(judged(&error, letter.recipient)),
            Ok(Ok(_)) => {
                self.keep(connection);
                Ok(())
            }
        }
    }

    /// Closes what is kept.
    pub async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        for (mut connection, _) in idle {
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.abort()).await;
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !connection.has_broken() && idle.len() < IDLE_MAX {
            idle.push((connection, Instant::now()));
        }
    }

    async fn kept(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()?;
            if since.elapsed() < IDLE_TIME_MAX
                && tokio::time::timeout(CONNECT_TIMEOUT, connection.test_connected()).await == Ok(true)
            {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let place = format!("{}:{}", self.settings.host, self.settings.port);
        match tokio::time::timeout(CONNECT_TIMEOUT, self.connect_unbounded()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(SendError::Server(format!("{place}: {}", shown(&error, "")))),
            Err(_) => Err(SendError::Server(format!("{place}: no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }

    async fn connect_unbounded(&self) -> Result<AsyncSmtpConnection, lettre::transport::smtp::Error> {
        let SmtpSettings { host, port, tls, login, .. } = &self.settings;
        let wrapped = if *tls == Tls::Implicit { self.tls.clone() } else { None };
        let address = (host.as_str(), *port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT_TIMEOUT), &self.hello, wrapped, None).await?;
        if let (Tls::Starttls, Some(parameters)) = (tls, &self.tls) {
            // Fails where the server does not offer it.
            connection.starttls(parameters.clone(), &self.hello).await?;
        }
        if let Some((user, password)) = login {
            let credentials = Credentials::new(user.clone(), password.expose_secret().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await?;
        }
        Ok(connection)
    }

    fn message(&self, letter: &Letter<'_>) -> Result<Message, String> {
        let address = |text: &str| text.parse::<Address>().map_err(|error| format!("not an address: {error}"));
        let from = &self.settings.from;
        let sender_name = Some(on_one_line(letter.sender_name)).filter(|name| !name.is_empty());
        let name = from.name.clone().or(sender_name);
        let mut builder = Message::builder()
            .from(Mailbox::new(name, from.email.clone()))
            .to(Mailbox::new(None, address(letter.recipient)?))
            .subject(on_one_line(letter.subject))
            .date(letter.written_at.into())
            .message_id(Some(format!("<{}@{}>", letter.id, from.email.domain())));
        if let Some(reply_to) = letter.reply_to {
            builder = builder.reply_to(Mailbox::new(None, address(reply_to)?));
        }
        // Vacation notices and the like are not to answer (RFC 3834).
        for (header, value) in [("Auto-Submitted", "auto-generated"), ("X-Auto-Response-Suppress", "All")] {
            let name = HeaderName::new_from_ascii_str(header);
            builder = builder.raw_header(HeaderValue::new(name, value.to_owned()));
        }
        let parts = MultiPart::alternative_plain_html(letter.text.to_owned(), letter.html.to_owned());
        builder.multipart(parts).map_err(|error| format!("not a message: {error}"))
    }
}

/// The library refuses a name with a line break by panicking, so none gets there, whoever wrote it.
fn on_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// Whether a host name is this machine, to which mail may go without TLS.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A failure after the connection stood. 421 and 454 tell of the server, not of the message (RFC 5321 section
/// 3.8, RFC 4954 section 6).
fn judged(error: &lettre::transport::smtp::Error, recipient: &str) -> SendError {
    let text = shown(error, recipient);
    let code = error.status().map(u16::from);
    if error.is_permanent() {
        SendError::Never(text)
    } else if error.is_transient() && !matches!(code, Some(421 | 454)) {
        SendError::Later(text)
    } else {
        SendError::Server(text)
    }
}

/// The error with what lies behind it. A server may quote whatever it was sent, so the recipient and runs of
/// digits that could be a code are taken out.
fn shown(error: &lettre::transport::smtp::Error, recipient: &str) -> String {
    let mut text = error.to_string();
    if !recipient.is_empty() {
        text = text.replace(recipient, "<recipient>");
    }
    without_long_numbers(&text)
}

/// Digits in a run that is still shown: enhanced status codes and ports, no codes.
const DIGITS_SHOWN_MAX: usize = 5;

fn without_long_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    let flush = |run: &mut String, out: &mut String| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        if digits > DIGITS_SHOWN_MAX {
            out.push('#');
        } else {
            out.push_str(run);
        }
        run.clear();
    };
    for character in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        // A space between digits is how the mail itself writes a code.
        if character.is_ascii_digit() || (character == ' ' && run.ends_with(|last: char| last.is_ascii_digit())) {
            run.push(character);
        } else {
            flush(&mut run, &mut out);
            out.push(character);
        }
    }
    flush(&mut run, &mut out);
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(from: &str) -> SmtpClient {
        let from = from.parse().expect("a mailbox");
        let settings =
            SmtpSettings { host: "localhost".into(), port: 25, tls: Tls::None, login: None, authority_pem: None, from };
        SmtpClient::new(settings).expect("a client")
    }

    fn letter<'a>(subject: &'a str, sender_name: &'a str) -> Letter<'a> {
        Letter {
            id: "mail_1",
            recipient: "ada@example.com",
            subject,
            sender_name,
            reply_to: Some("help@shop.example"),
            text: "Größe",
            html: "<p>Größe</p>",
            written_at: DateTime::UNIX_EPOCH,
        }
    }

    fn headers(message: &Message) -> Vec<String> {
        let raw = String::from_utf8(message.formatted()).expect("ASCII");
        let head = raw.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ");
        head.split("\r\n").map(str::to_owned).collect()
    }

    #[test]
    fn a_message_has_the_headers_that_it_needs_and_is_ascii_on_the_wire() {
        let message = client("pay@shop.example").message(&letter("Your code", "Corner Coffee")).expect("a message");
        let headers = headers(&message);
        for expected in [
            "From: \"Corner Coffee\" <pay@shop.example>",
            "To: ada@example.com",
            "Subject: Your code",
            "Date: Thu, 01 Jan 1970 00:00:00 +0000",
            "Message-ID: <mail_1@shop.example>",
            "Reply-To: help@shop.example",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
        ] {
            assert!(headers.iter().any(|header| header == expected), "{expected} is not in {headers:#?}");
        }
        assert!(message.formatted().is_ascii());
    }

    #[test]
    fn a_name_in_the_settings_stands_before_the_merchants() {
        let message =
            client("Corner Pay <pay@shop.example>").message(&letter("x", "Corner Coffee")).expect("a message");
        assert!(headers(&message).iter().any(|header| header == "From: \"Corner Pay\" <pay@shop.example>"));
    }

    #[test]
    fn foreign_names_make_no_header_of_their_own() {
        for name in
            ["A\r\nBcc: evil@x.example", "A\nX: y", "\"><evil@x.example>", "ü\r\n\r\nbody", "a, b <c@d.example>"]
        {
            let message = client("pay@shop.example").message(&letter(name, name)).expect(name);
            let headers = headers(&message);
            let known = [
                "From",
                "To",
                "Subject",
                "Date",
                "Message-ID",
                "Reply-To",
                "Auto-Submitted",
                "X-Auto-Response-Suppress",
                "MIME-Version",
                "Content-Type",
            ];
            for header in &headers {
                let name = header.split(':').next().unwrap_or_default();
                assert!(known.contains(&name), "{header:?} in {headers:#?}");
            }
            let from: Vec<&String> = headers.iter().filter(|header| header.starts_with("From: ")).collect();
            assert!(from.len() == 1 && from[0].ends_with("<pay@shop.example>"), "{from:?}");
            assert_eq!(message.envelope().to().len(), 1);
        }
    }

    #[test]
    fn an_error_shows_no_code() {
        assert_eq!(without_long_numbers("550 5.1.1 said 12345678 no"), "550 5.1.1 said #no");
        assert_eq!(without_long_numbers("code 1234 5678\r\n"), "code #");
        assert_eq!(without_long_numbers("port 10587 refused"), "port 10587 refused");
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [("localhost", true), ("127.0.0.9", true), ("::1", true), ("mail.example", false)] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
