//! A proxy before a server of another company that does to requests what networks do, and writes down
//! each one as it was sent.
//!
//! It can also leave out parameters that the server refuses, and turn an authentication by script into
//! one by redirect, so that the connector under test speaks as to the real one.

use std::sync::{Arc, Mutex};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::merchant::http_client;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks; the server never hears of it.
    CutBefore,
    /// The server does it, and its answer is lost.
    CutAfter,
    /// The answer is kept back until [`FaultProxy::release`].
    HoldAfter,
    /// The proxy answers itself, and the server never hears of it.
    Instead(u16, &'static str),
    /// The server does it, and the proxy answers with this status and text.
    AnswerAfter(u16, &'static str),
}

/// A request as it was sent.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub method: Method,
    /// With its query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub form: Vec<(String, String)>,
}

impl Recorded {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

struct Rule {
    method: Method,
    path_ends: &'static str,
    fault: Fault,
    times: usize,
}

/// Answers what the server behind knows nothing of.
pub type OwnAnswer = Arc<dyn Fn(&Recorded) -> Option<(u16, String)> + Send + Sync>;

struct State {
    own_answer: Mutex<Option<OwnAnswer>>,
    upstream: String,
    left_out: Vec<&'static str>,
    rules: Mutex<Vec<Rule>>,
    recorded: Mutex<Vec<Recorded>>,
    released: Semaphore,
}

/// A running proxy; it ends with its story.
pub struct FaultProxy {
    pub base: String,
    state: Arc<State>,
}

impl FaultProxy {
    /// Before that server, which is not told these parameters.
    pub async fn start(upstream: &str, left_out: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let state = Arc::new(State {
            own_answer: Mutex::default(),
            upstream: upstream.to_owned(),
            left_out: left_out.to_vec(),
            rules: Mutex::default(),
            recorded: Mutex::default(),
            released: Semaphore::new(0),
        });
        let serving = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(Arc::clone(&serving), socket));
            }
        });
        Self { base, state }
    }

    /// From now on the next so many requests of that method whose path ends so meet that fault.
    pub fn strike(&self, method: Method, path_ends: &'static str, fault: Fault, times: usize) {
        self.state.rules.lock().expect("nobody panicked").push(Rule { method, path_ends, fault, times });
    }

    /// Has these requests answered here; faults strike them all the same.
    pub fn answer_with(&self, answer: OwnAnswer) {
        *self.state.own_answer.lock().expect("nobody panicked") = Some(answer);
    }

    /// Lets one answer go that is kept back.
    pub fn release(&self) {
        self.state.released.add_permits(1);
    }

    /// The requests so far.
    pub fn recorded(&self) -> Vec<Recorded> {
        self.state.recorded.lock().expect("nobody panicked").clone()
    }

    /// How many requests of that method had a path that ends so.
    pub fn count(&self, method: &Method, path_ends: &str) -> usize {
        self.recorded().iter().filter(|sent| sent.method == *method && sent.path().ends_with(path_ends)).count()
    }
}

/// One request, one answer, and the connection is closed.
async fn serve(state: Arc<State>, mut socket: TcpStream) {
    let Some(request) = receive(&mut socket).await else { return };
    let fault = {
        let mut rules = state.rules.lock().expect("nobody panicked");
        let hit = rules
            .iter_mut()
            .find(|rule| rule.times > 0 && rule.method == request.method && request.path().ends_with(rule.path_ends));
        hit.map(|rule| {
            rule.times -= 1;
            rule.fault
        })
    };
    state.recorded.lock().expect("nobody panicked").push(request.clone());
    let (status, body) = match fault {
        Some(Fault::CutBefore) => return,
        Some(Fault::Instead(status, body)) => (status, body.to_owned()),
        _ => {
            let own = state.own_answer.lock().expect("nobody panicked").clone();
            match own.and_then(|answer| answer(&request)) {
                Some(answer) => answer,
                None => forward(&state, &request).await,
            }
        }
    };
    let (status, body) = match fault {
        Some(Fault::CutAfter) => return,
        Some(Fault::HoldAfter) => {
            state.released.acquire().await.expect("it is never closed").forget();
            (status, body)
        }
        Some(Fault::AnswerAfter(status, body)) => (status, body.to_owned()),
        _ => (status, body),
    };
    let head = format!(
        "HTTP/1.1 {status} As told\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    // Who has gone away meanwhile misses nothing that a story looks at.
    let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
}

async fn receive(socket: &mut TcpStream) -> Option<Recorded> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.parse().ok()?, first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Some(0), |(_, value)| value.parse().ok())?;
    while bytes.len() < end + 4 + length {
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let form = url::form_urlencoded::parse(&bytes[end + 4..]).into_owned().collect();
    Some(Recorded { method, target, headers, form })
}

async fn forward(state: &State, request: &Recorded) -> (u16, String) {
    let told = request.form.iter().filter(|(name, _)| !state.left_out.contains(&name.as_str()));
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(told).finish();
    let mut passed_on = http_client().request(request.method.clone(), format!("{}{}", state.upstream, request.target));
    for name in ["authorization", "content-type", "idempotency-key", "stripe-version"] {
        if let Some(value) = request.header(name) {
            passed_on = passed_on.header(name, value);
        }
    }
    let response = passed_on.body(body).send().await.expect("the server answers");
    let status = response.status().as_u16();
    let text = response.text().await.expect("a whole answer");
    let by_redirect = serde_json::from_str(&text).ok().and_then(|object| ask_by_redirect(&state.upstream, object));
    (status, by_redirect.unwrap_or(text))
}

/// An intent that wants its payer asked by a script, with an address to go to instead; see [`answer_bank`].
fn ask_by_redirect(upstream: &str, mut object: Value) -> Option<String> {
    if object["next_action"]["type"] != "use_stripe_sdk" {
        return None;
    }
    let id = object["id"].as_str()?;
    let secret = object["client_secret"].as_str()?;
    let url = format!("{upstream}/v1/payment_intents/{id}/_authenticate?client_secret={secret}");
    object["next_action"] = json!({ "type": "redirect_to_url", "redirect_to_url": { "url": url } });
    Some(object.to_string())
}

/// Is the payer at the address that [`ask_by_redirect`] made. Gives the server's status.
pub async fn answer_bank(redirect_url: &str, approve: bool) -> u16 {
    let url = url::Url::parse(redirect_url).expect("a URL");
    let secret = url.query_pairs().find(|(name, _)| name == "client_secret").expect("its secret").1.into_owned();
    let body = format!("key=pk_test_12345&client_secret={secret}&success={approve}");
    let mut address = url.clone();
    address.set_query(None);
    let request = http_client().post(address).header("Content-Type", "application/x-www-form-urlencoded").body(body);
    request.send().await.expect("the bank answers").status().as_u16()
}
