//! `checkstand listen`: brings a merchant's events to a program on the developer's machine.
//!
//! The rule: what the program gets is what an endpoint would get, byte for byte and signed; only the
//! secret is one of this run's own. Events go one after the other, so a program that is stopped in a
//! debugger holds them back and loses none: the gateway is asked to go on where it was left.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use checkstand::clock::machine_now;
use checkstand::domain::signature::{SigningSecret, standard_webhooks_signature, stripe_signature_header};
use chrono::SecondsFormat;
use clap::Args;
use reqwest::{Client, Method, Response, redirect};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::admin::event_name;
use super::api_client::{ApiClient, ApiOptions, said};
use super::output::{self, Failure, cut};
use super::process::stop_signal;

/// How long the program may take to answer, as an endpoint may.
const FORWARD_TIMEOUT: Duration = Duration::from_secs(15);

/// How long nothing may come from the gateway: three of its heartbeats.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Between two tries to connect, from the first to the longest.
const RECONNECT_FIRST: Duration = Duration::from_millis(500);
const RECONNECT_MAX: Duration = Duration::from_secs(10);

/// Longest line of the stream: an event's body, with room.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Ids remembered: after a reconnection the last moments come again.
const REMEMBERED_MAX: usize = 4096;

/// Options of `checkstand listen`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  checkstand listen --forward-to http://localhost:3000/webhooks
  checkstand listen --forward-to http://localhost:3000/webhooks --events 'checkout.session.*,charge.refunded'
  checkstand listen                                   only print what happens

The merchant's key is taken from CHECKSTAND_API_KEY or --api-key.")]
pub struct ListenOptions {
    /// Where events are posted to; they are only printed unless given
    #[arg(long, value_name = "URL", value_parser = web_address)]
    forward_to: Option<Url>,
    /// Events, separated by commas: names, families such as checkout.session.*, or * for all
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "*", value_parser = event_name)]
    events: Vec<String>,
    /// The secret to sign with, whsec_…; a new one unless given
    #[arg(long, value_name = "SECRET", env = "CHECKSTAND_LISTEN_SECRET", hide_env_values = true)]
    secret: Option<String>,
    /// Take a live key too: real payers' data then reaches this machine
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    api: ApiOptions,
}

fn web_address(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() {
        return Ok(url);
    }
    Err("it must begin with http:// or https:// and name a host".to_owned())
}

/// Listens until it is stopped.
///
/// # Errors
/// When the key is refused or the first connection cannot be made.
pub async fn run(file: Option<&Path>, options: ListenOptions) -> Result<(), Failure> {
    let ListenOptions { forward_to, events, secret, live, api } = options;
    let refusal = "this is a live key: real payers' data would reach this machine; give --live if that is meant";
    let client = ApiClient::new(file, api, if live { Ok(()) } else { Err(refusal) })?;
    let secret = match secret {
        Some(text) => {
            SigningSecret::parse(text.trim()).ok_or("the secret must be whsec_ and padded base64 of 24 to 64 bytes")?
        }
        None => SigningSecret::generate(),
    };
    let local = Client::builder()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(FORWARD_TIMEOUT)
        .build()
        .map_err(|error| format!("no HTTP client can be made: {error}"))?;
    let mode = if client.livemode() { "live" } else { "test" };
    let destination = forward_to.as_ref().map_or_else(|| "this terminal".to_owned(), Url::to_string);
    output::print(&format!(
        "Events of {} ({mode} mode) go to {destination}.\nSigning secret: {}\n",
        client.base(),
        secret.expose()
    ))?;
    let stop = stop_signal()?;
    let listener = Listener { client, local, forward_to, kinds: kinds(events), secret, seen: Seen::default() };
    listener.run(&stop).await
}

/// The types to ask for; none for all.
fn kinds(events: Vec<String>) -> Vec<String> {
    if events.iter().any(|name| name == "*") { Vec::new() } else { events }
}

/// The ids that were handed on lately.
#[derive(Default)]
struct Seen {
    ids: BTreeSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Remembers an id; false when it was known.
    fn add(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }

    fn last(&self) -> Option<&str> {
        self.ids.last().map(String::as_str)
    }
}

struct Listener {
    client: ApiClient,
    local: Client,
    forward_to: Option<Url>,
    kinds: Vec<String>,
    secret: SigningSecret,
    seen: Seen,
}

impl Listener {
    async fn run(mut self, stop: &CancellationToken) -> Result<(), Failure> {
        let mut pause = RECONNECT_FIRST;
        let mut was_connected = false;
        loop {
            let session = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                session = self.follow(&mut was_connected, &mut pause) => session,
            };
            if let Err(failure) = session {
                if !was_connected {
                    return Err(failure);
                }
                output::print(&format!("{failure}; trying again\n"))?;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(pause) => pause = RECONNECT_MAX.min(pause * 2),
            }
        }
    }

    /// Follows one connection to its end.
    async fn follow(&mut self, was_connected: &mut bool, pause: &mut Duration) -> Result<(), Failure> {
        let mut response = self.connect().await?;
        if !*was_connected {
            output::print("Ready.\n")?;
        }
        (*was_connected, *pause) = (true, RECONNECT_FIRST);
        let mut lines = Lines::default();
        loop {
            // The body is read only when all that came before has been handed on.
            let piece = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(self.client.unreachable(&error)),
                Err(_) => return Err("nothing has come from the gateway for half a minute".into()),
            };
            for message in lines.take(&piece)? {
                self.hand_on(message).await?;
            }
        }
    }

    async fn connect(&self) -> Result<Response, Failure> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.kinds.iter().map(|kind| ("types[]", kind)));
        let path = format!("/v1/events/stream?{}", query.finish());
        let mut request = self.client.request(Method::GET, path.trim_end_matches('?'));
        if let Some(last) = self.seen.last() {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.map_err(|error| self.client.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let answer: Value = response.json().await.unwrap_or_default();
        Err(format!("the gateway at {} answered {status}: {}", self.client.base(), said(&answer)).into())
    }

    async fn hand_on(&mut self, Message { id, data }: Message) -> Result<(), Failure> {
        if id.is_empty() || !self.seen.add(&id) {
            return Ok(());
        }
        let event: Value = serde_json::from_str(&data).unwrap_or_default();
        let kind = cut(event["type"].as_str().unwrap_or("?"), 100);
        let time = machine_now().to_rfc3339_opts(SecondsFormat::Secs, true);
        let result = match &self.forward_to {
            None => String::new(),
            Some(url) => self.forward(url.clone(), &id, data).await,
        };
        output::print(format!("{time}  {kind}  {id}  {result}").trim_end())?;
        output::print("\n")
    }

    async fn forward(&self, url: Url, id: &str, body: String) -> String {
        let timestamp = machine_now().timestamp();
        let secrets = std::slice::from_ref(&self.secret);
        let request = self
            .local
            .post(url)
            .header("content-type", "application/json; charset=utf-8")
            .header("user-agent", "Checkstand/1 (+webhooks)")
            .header("stripe-signature", stripe_signature_header(secrets, timestamp, &body))
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", standard_webhooks_signature(secrets, id, timestamp, &body))
            .body(body);
        let started = Instant::now();
        match request.send().await {
            Ok(response) => format!("{}  {} ms", response.status().as_u16(), started.elapsed().as_millis()),
            Err(error) if error.is_timeout() => format!("no answer within {} s", FORWARD_TIMEOUT.as_secs()),
            Err(error) if error.is_connect() => "no connection: does your program listen there?".to_owned(),
            Err(_) => "the connection broke".to_owned(),
        }
    }
}

/// One event of the stream.
struct Message {
    id: String,
    data: String,
}

/// Puts the pieces of a stream together (the server-sent events of the HTML standard, as far as this gateway uses
/// them).
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    id: String,
    data: Vec<String>,
}

impl Lines {
    fn take(&mut self, piece: &[u8]) -> Result<Vec<Message>, Failure> {
        self.rest.extend_from_slice(piece);
        let mut messages = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() {
                let (id, data) = (std::mem::take(&mut self.id), std::mem::take(&mut self.data));
                if !data.is_empty() {
                    messages.push(Message { id, data: data.join("\n") });
                }
            } else if let Some((name, value)) = line.split_once(':') {
                let value = value.strip_prefix(' ').unwrap_or(value);
                match name {
                    "id" => self.id = value.to_owned(),
                    "data" => self.data.push(value.to_owned()),
                    _ => {}
                }
            }
        }
        if self.rest.len() > LINE_BYTES_MAX {
            return Err("the stream is not one of events: a line of it does not end".into());
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_any_pieces_is_the_same_stream() {
        let stream =
            "retry: 1000\n\n: still here\n\nid: evt_1\ndata: {\"a\":1}\n\nid: evt_2\r\ndata: x\r\ndata: y\r\n\r\n";
        for size in [1, 2, 7, stream.len()] {
            let mut lines = Lines::default();
            let pieces = stream.as_bytes().chunks(size);
            let read: Vec<Message> = pieces.flat_map(|piece| lines.take(piece).expect("short lines")).collect();
            let read: Vec<(&str, &str)> = read.iter().map(|one| (one.id.as_str(), one.data.as_str())).collect();
            assert_eq!(read, [("evt_1", "{\"a\":1}"), ("evt_2", "x\ny")], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        assert!(Lines::default().take(&vec![b'x'; LINE_BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn an_id_counts_once_and_the_newest_is_where_to_go_on() {
        let mut seen = Seen::default();
        assert!(seen.add("evt_2") && seen.add("evt_1") && !seen.add("evt_2"));
        assert_eq!(seen.last(), Some("evt_2"));
    }
}
