//! wrk, the load generator: closed loop, kept-alive connections, on the same cores as everything else.
//!
//! Each creation has an idempotency key of its own. An answer that is not a success fails the run:
//! a refusal costs less than what is to be measured.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Threads of wrk.
const THREADS: u32 = 2;

/// Two line items, metadata, the ways back: what a shop sends.
pub const FORM: &str = "mode=payment\
    &line_items[0][price_data][currency]=eur\
    &line_items[0][price_data][product_data][name]=House%20blend%2C%20whole%20beans\
    &line_items[0][price_data][product_data][description]=250%20g%2C%20roasted%20on%20Monday\
    &line_items[0][price_data][unit_amount]=1299\
    &line_items[0][quantity]=2\
    &line_items[1][price_data][currency]=eur\
    &line_items[1][price_data][product_data][name]=Stoneware%20mug\
    &line_items[1][price_data][unit_amount]=1800\
    &line_items[1][quantity]=1\
    &success_url=https%3A%2F%2Fshop.example%2Fthanks%3Fsession%3D%7BCHECKOUT_SESSION_ID%7D\
    &cancel_url=https%3A%2F%2Fshop.example%2Fcart\
    &client_reference_id=order-1047\
    &metadata[order]=1047\
    &metadata[channel]=web";

/// What a payer types, behind the token of the form.
pub const FORM_FIELDS: &str = "attempt_key=0123456789abcdef0123456789abcdef&email=ada%40example.com\
    &card_name=Ada+Lovelace&card_number=4242+4242+4242+4242&card_expiry=12+%2F+49&card_cvc=123";

const CONFIRM: &str = r#"
local counter, thread_number = 0, 0
function setup(thread)
  thread:set("thread_number", counter)
  counter = counter + 1
end
local requests, at = {}, 0
function init(arguments)
  local headers = {}
  headers["Content-Type"] = "application/x-www-form-urlencoded"
  headers["Sec-Fetch-Site"] = "same-origin"
  headers["Cookie"] = "cs=" .. arguments[2]
  local line_number = 0
  for line in io.lines(arguments[1]) do
    if line_number % THREADS == thread_number then
      local path, token = line:match("^(%S+) (%S+)$")
      requests[#requests + 1] = wrk.format("POST", path, headers, "csrf_token=" .. token .. "&" .. arguments[3])
    end
    line_number = line_number + 1
  end
end
function request()
  at = at + 1
  return requests[at] or wrk.format("GET", "/there-are-too-few-sessions")
end
"#;

const CREATE: &str = r#"
local counter, thread_number = 0, 0
function setup(thread)
  thread:set("thread_number", counter)
  counter = counter + 1
end
local headers, body, requests, run = {}, "", 0, ""
function init(arguments)
  headers["Content-Type"] = "application/x-www-form-urlencoded"
  headers["Authorization"] = "Bearer " .. arguments[1]
  body, run = arguments[2], arguments[3]
end
function request()
  requests = requests + 1
  headers["Idempotency-Key"] = string.format("%s-%04d-%020d", run, thread_number, requests)
  return wrk.format("POST", "/v1/checkout/sessions", headers, body)
end
"#;

const PAGE: &str = r#"
local counter, thread_number = 0, 0
function setup(thread)
  thread:set("thread_number", counter)
  counter = counter + 1
end
local paths = {}
function init(arguments)
  for line in io.lines(arguments[1]) do paths[#paths + 1] = wrk.format("GET", line) end
  math.randomseed(os.time() + 7919 * thread_number)
end
function request()
  return paths[math.random(#paths)]
end
"#;

/// A webhook with the headers of one that the worker posts, its signatures made up.
const DELIVER: &str = r#"
local headers, body, requests = {}, "", 0
function init(arguments)
  headers["Content-Type"] = "application/json; charset=utf-8"
  headers["Accept"] = "*/*"
  headers["Accept-Encoding"] = "identity"
  headers["User-Agent"] = "Checkstand/1 (+webhooks)"
  headers["Stripe-Signature"] = "t=1760000000,v1=" .. string.rep("0", 64)
  headers["webhook-timestamp"] = "1760000000"
  headers["webhook-signature"] = "v1," .. string.rep("A", 43) .. "="
  body = arguments[1]
end
function request()
  requests = requests + 1
  headers["webhook-id"] = string.format("evt_%026d", requests)
  return wrk.format("POST", "/webhooks", headers, body)
end
"#;

/// Figures that wrk would print for people.
const DONE: &str = r#"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status + errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// What one run gave.
#[derive(Clone, Copy)]
pub struct Answers {
    /// Answers in all.
    pub count: u64,
    /// Answers a second.
    pub rate: f64,
    /// Half of the answers came within this time, in milliseconds.
    pub p50_ms: f64,
    /// 99 of a hundred came within this time, in milliseconds.
    pub p99_ms: f64,
}

/// Scripts for wrk.
pub struct Wrk {
    create: PathBuf,
    page: PathBuf,
    confirm: PathBuf,
    deliver: PathBuf,
}

impl Wrk {
    /// Writes the scripts.
    pub fn new(folder: &Path) -> Self {
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, format!("{text}{DONE}")).expect("the temporary folder takes files");
            file
        };
        let confirm = CONFIRM.replace("THREADS", &THREADS.to_string());
        Self {
            create: write("create.lua", CREATE),
            page: write("page.lua", PAGE),
            confirm: write("confirm.lua", &confirm),
            deliver: write("deliver.lua", DELIVER),
        }
    }

    /// Makes sessions; `run` makes the idempotency keys of this run its own.
    pub fn create(&self, address: &str, clients: u32, seconds: u64, key: &str, run: &str) -> Answers {
        wrk(&self.create, address, clients, seconds, &[key, FORM, run])
    }

    /// Pays sessions, each once; paths and tokens of their forms stand in a file.
    pub fn confirm(&self, address: &str, clients: u32, seconds: u64, forms: &Path, browser: &str) -> Answers {
        wrk(&self.confirm, address, clients, seconds, &[&forms.to_string_lossy(), browser, FORM_FIELDS])
    }

    /// Posts webhooks to the receiver, without a gateway.
    pub fn deliver(&self, address: &str, clients: u32, seconds: u64, event: &str) -> Answers {
        wrk(&self.deliver, address, clients, seconds, &[event])
    }

    /// Gets pages at random, whose paths stand in a file.
    pub fn page(&self, address: &str, clients: u32, seconds: u64, paths: &Path) -> Answers {
        wrk(&self.page, address, clients, seconds, &[&paths.to_string_lossy()])
    }
}

fn wrk(script: &Path, address: &str, clients: u32, seconds: u64, arguments: &[&str]) -> Answers {
    let output = Command::new("wrk")
        .args(["-t", &THREADS.to_string(), "-c", &clients.to_string(), "-d", &format!("{seconds}s")])
        .arg("-s")
        .arg(script)
        .arg(format!("http://{address}/"))
        .arg("--")
        .args(arguments)
        .output()
        .expect("wrk starts; run scripts/install-prerequisites bench");
    let text = String::from_utf8_lossy(&output.stdout);
    let result = text.lines().find_map(|line| line.strip_prefix("RESULT "));
    let figures: Vec<u64> =
        result.unwrap_or_default().split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
    let [count, micros, failed, timed_out, p50, p99] = figures[..] else {
        panic!("wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    };
    assert!(failed == 0 && timed_out == 0, "{failed} of {count} answers were failures, {timed_out} timed out");
    Answers { count, rate: count as f64 * 1e6 / micros as f64, p50_ms: p50 as f64 / 1e3, p99_ms: p99 as f64 / 1e3 }
}

/// wrk's version.
pub fn version() -> String {
    let output = Command::new("wrk").arg("-v").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
