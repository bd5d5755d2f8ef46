//! Every metric and every log field there is, and the Prometheus recorder behind the metrics.
//!
//! Rule: a name that is not in the tables is not used, so the tables can be printed as the reference. Labels have a small, fixed
//! set of values; nothing a peer can choose becomes a label. Counting itself is left to the code that knows what happened.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// How a metric behaves over time, in the words of the Prometheus text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only ever grows, and starts at zero with the process.
    Counter,
    /// A level that goes up and down.
    Gauge,
    /// Observations sorted into [`DURATION_BUCKETS_SECONDS`].
    Histogram,
}

impl MetricKind {
    /// The name of the kind in the text format.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One row of the metric reference.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The full name, unit last.
    pub name: &'static str,
    /// How it behaves.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it counts, for the one who reads the graph.
    pub meaning: &'static str,
}

/// One row of the log reference.
#[derive(Clone, Copy, Debug)]
pub struct LogField {
    /// The key. With JSON lines, fields of the request span are inside the object `span`.
    pub name: &'static str,
    /// What it holds.
    pub meaning: &'static str,
}

macro_rules! metric_names {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)*

        /// Every metric, in the order of the reference.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], meaning: $meaning },)*
        ];
    };
}

metric_names! {
    HTTP_REQUESTS_TOTAL = "checkstand_http_requests_total", Counter, ["door", "route", "method", "status"],
        "Requests that ended. The status is 499 if the client left, or the request timeout passed, before the answer.";
    HTTP_REQUEST_DURATION_SECONDS = "checkstand_http_request_duration_seconds", Histogram, ["door", "route", "method"],
        "Time from the end of the request head to the answer, without the time to send it.";
    CONNECTIONS_OPEN = "checkstand_connections_open", Gauge, [],
        "Sockets the HTTP server holds open now.";
    CONNECTIONS_REFUSED_TOTAL = "checkstand_connections_refused_total", Counter, ["reason"],
        "Sockets closed at once because a connection limit was reached. The reason is the name of the limit.";
    CONNECTIONS_TIMED_OUT_TOTAL = "checkstand_connections_timed_out_total", Counter, ["phase"],
        "Sockets cut because the peer was too slow: fresh (sent nothing), head, handling, answering, idle (normal end of keep-alive).";
    SESSIONS_CREATED_TOTAL = "checkstand_sessions_created_total", Counter, [],
        "Checkout sessions created; a replayed idempotent request does not count again.";
    SESSIONS_ENDED_TOTAL = "checkstand_sessions_ended_total", Counter, ["state"],
        "Checkout sessions that reached a final state: completed, expired, cancelled, failed.";
    CHARGES_TOTAL = "checkstand_charges_total", Counter, ["provider", "outcome"],
        "Charges a provider was asked for, by what came of it.";
    FRAUD_ASSESSMENTS_TOTAL = "checkstand_fraud_assessments_total", Counter, ["rule", "action"],
        "Payments that a fraud rule matched, by the rule that decided and what it did: allow, challenge, review, block.";
    CALLBACKS_TOTAL = "checkstand_callbacks_total", Counter, ["provider", "outcome"],
        "Messages from providers by what they were: taken, unrelated, not_authentic, malformed, no_such_provider.";
    FAILOVERS_TOTAL = "checkstand_failovers_total", Counter, ["provider", "cause"],
        "Charges that were taken on to the next provider, by the one that did not make them and why: declined, unavailable.";
    PROVIDER_BREAKER_OPEN = "checkstand_provider_breaker_open", Gauge, ["provider"],
        "1 while this process sends a payment provider no charges because it did not answer the last ones, else 0.";
    PROVIDER_BREAKER_CHANGES_TOTAL = "checkstand_provider_breaker_changes_total", Counter, ["provider", "state"],
        "Times that changed: open, closed.";
    WEBHOOK_ATTEMPTS_TOTAL = "checkstand_webhook_attempts_total", Counter, ["outcome"],
        "Attempts to deliver an event to an endpoint, by what came of it: delivered, retry, dead.";
    WEBHOOK_ATTEMPT_DURATION_SECONDS = "checkstand_webhook_attempt_duration_seconds", Histogram, [],
        "Time one delivery attempt took, failed ones included.";
    WEBHOOK_FIRST_ATTEMPT_DELAY_SECONDS = "checkstand_webhook_first_attempt_delay_seconds", Histogram, [],
        "Time from the event to the beginning of its first attempt at an endpoint; what waits for a place is in it, \
         resends and replays are not.";
    WEBHOOK_IN_FLIGHT = "checkstand_webhook_in_flight", Gauge, [],
        "Delivery attempts that this process has under way now.";
    WEBHOOK_WAITING = "checkstand_webhook_waiting", Gauge, [],
        "Deliveries that this process holds in memory and has not started.";
    WEBHOOK_OWED = "checkstand_webhook_owed", Gauge, [],
        "Deliveries owed by all processes, whenever they are due; dead ones are not counted.";
    WEBHOOK_OLDEST_DUE_SECONDS = "checkstand_webhook_oldest_due_seconds", Gauge, [],
        "How long the oldest due delivery has been waiting whose endpoint is neither disabled nor paused, throttled ones included.";
    REDIRECT_HOLDS_TOTAL = "checkstand_redirect_holds_total", Counter, ["ended_by"],
        "Payers whose way back waited for webhooks, by what ended it: acknowledged, deadline, crowd (too many at once), failure (no database).";
    EVENT_STREAMS_OPEN = "checkstand_event_streams_open", Gauge, [],
        "Event streams that this process serves now.";
    EVENT_REPLAYS_DELIVERIES_TOTAL = "checkstand_event_replay_deliveries_total", Counter, [],
        "Deliveries that replays of events have put into the queue.";
    WEBHOOK_ENDPOINTS_DISABLED_TOTAL = "checkstand_webhook_endpoints_disabled_total", Counter, ["reason"],
        "Endpoints that were disabled because they answered 410 (gone) or took nothing for days (failing).";
    WEBHOOK_ENDPOINT_PAUSES_TOTAL = "checkstand_webhook_endpoint_pauses_total", Counter, [],
        "Pauses of endpoints that failed too often in a row. Nothing is sent meanwhile and no attempt is used up.";
    WEBHOOK_STALE_RESULTS_TOTAL = "checkstand_webhook_stale_results_total", Counter, [],
        "Results that were dropped because somebody else had taken the delivery over. Growth means that leases run out.";
    WEBHOOK_RELEASED_TOTAL = "checkstand_webhook_released_total", Counter, ["reason"],
        "Deliveries that this process gave back without an attempt, by why.";
    IDENTITY_CODES_TOTAL = "checkstand_identity_codes_total", Counter, ["outcome"],
        "Wishes for a code: made, too_soon, spent (the session's codes), or the budget that was used up: address, merchant, network.";
    IDENTITY_GUESSES_TOTAL = "checkstand_identity_guesses_total", Counter, ["outcome"],
        "Typed codes: right, wrong, malformed, not_judged (none was out for that browser). Many wrong ones: somebody guesses.";
    MAILS_TOTAL = "checkstand_mails_total", Counter, ["kind", "outcome"],
        "Attempts to send a mail: sent, retry, refused (for good), given_up (too late to be of use).";
    MAILS_OWED = "checkstand_mails_owed", Gauge, [],
        "Mails owed by all processes.";
    MAIL_OLDEST_OWED_SECONDS = "checkstand_mail_oldest_owed_seconds", Gauge, [],
        "How long the oldest owed mail has been waiting. Above a minute: the mail server is away, or no worker runs.";
    CSP_REPORTS_TOTAL = "checkstand_csp_reports_total", Counter, [],
        "Reports of browsers that something on a payer's page was blocked. More than a trickle: look at the pages.";
    SESSIONS_OVERDUE = "checkstand_sessions_overdue", Gauge, [],
        "Sessions more than a few seconds past their deadline that have not ended. Above zero for long: the worker is down.";
    DATABASE_POOL_CONNECTIONS = "checkstand_database_pool_connections", Gauge, ["state"],
        "Database connections of this process: idle or busy.";
    LOG_LINES_DROPPED_TOTAL = "checkstand_log_lines_dropped_total", Counter, [],
        "Log lines thrown away because whoever reads the log was too slow.";
    PROCESS_RESIDENT_BYTES = "checkstand_process_resident_bytes", Gauge, [],
        "Memory of this process that is in RAM. Read when the metrics are asked for; absent where /proc is.";
}

/// Every field a log line can carry. Anything else in a line is a defect, because fields are chosen, never dumped.
pub const LOG_FIELDS: &[LogField] = &[
    LogField { name: "timestamp", meaning: "When the line was written: UTC, RFC 3339." },
    LogField {
        name: "level",
        meaning: "ERROR: somebody should look. WARN: somebody may look. INFO, DEBUG, TRACE: for tracing one case.",
    },
    LogField { name: "target", meaning: "The module that wrote the line." },
    LogField { name: "message", meaning: "What happened, in words that do not change between lines of the same kind." },
    LogField { name: "span", meaning: "JSON lines only: the object that holds the request fields." },
    LogField { name: "name", meaning: "JSON lines only, inside span: always request." },
    LogField { name: "request_id", meaning: "Request field. The value of the Request-Id response header." },
    LogField {
        name: "door",
        meaning: "Request field. The surface the request came in by: api, hosted, callbacks, assets, operations, tools.",
    },
    LogField { name: "method", meaning: "Request field. The HTTP method, OTHER if it is not a standard one." },
    LogField {
        name: "route",
        meaning: "Request field. The route template, never the path: a payer's path holds the secret token.",
    },
    LogField {
        name: "status",
        meaning: "The status of the answer; 499 if the client left, or the request timeout passed, before it. Of a dispute, where it stands.",
    },
    LogField { name: "duration_ms", meaning: "Whole milliseconds from the end of the request head to the answer." },
    LogField { name: "peer", meaning: "Address and port at the other end of the socket, possibly a proxy's." },
    LogField {
        name: "phase",
        meaning: "What a connection that was cut was waiting in; see checkstand_connections_timed_out_total.",
    },
    LogField {
        name: "reason",
        meaning: "The limit a refused connection met; of a dispute, why the payer says he disputes; of a refund that came back, Stripe's word for why.",
    },
    LogField { name: "connections_open", meaning: "Sockets of the HTTP server open at that moment." },
    LogField { name: "retry_in_ms", meaning: "How long the process waits before it tries again." },
    LogField { name: "error", meaning: "What went wrong, in the words of the layer that failed." },
    LogField { name: "location", meaning: "File and line of a panic." },
    LogField { name: "panic", meaning: "The first 200 characters of a panic's message." },
    LogField { name: "thread", meaning: "The name of the thread that panicked." },
    LogField { name: "cause", meaning: "What lies behind an error, in the words of the library." },
    LogField { name: "inside", meaning: "The half of a failure that the caller is not shown." },
    LogField { name: "session", meaning: "The id of a checkout session." },
    LogField { name: "sessions", meaning: "How many checkout sessions a statement was about." },
    LogField { name: "review", meaning: "The id of a review." },
    LogField { name: "rule", meaning: "The name of the fraud rule that decided." },
    LogField { name: "action", meaning: "What a fraud rule did: allow, challenge, review, block." },
    LogField { name: "voided", meaning: "Whether reserved money was let go." },
    LogField { name: "refund", meaning: "The id of a refund." },
    LogField { name: "dispute", meaning: "The id of a dispute." },
    LogField { name: "escrow", meaning: "The id of an escrow." },
    LogField { name: "charge", meaning: "The id of a charge." },
    LogField { name: "customer", meaning: "The id of a customer." },
    LogField { name: "payment_method", meaning: "The id of a kept card." },
    LogField { name: "answer", meaning: "What a payer told the simulated bank." },
    LogField { name: "state", meaning: "Where the object stood." },
    LogField { name: "provider", meaning: "The name of the payment provider." },
    LogField { name: "reference", meaning: "The provider's own id of a charge, reversal or dispute." },
    LogField { name: "detail", meaning: "What the provider's side said or did." },
    LogField { name: "amount", meaning: "Minor units that were taken, or that came back." },
    LogField { name: "asked", meaning: "Minor units that a capture was to take." },
    LogField { name: "taken", meaning: "Minor units that the provider says it took." },
    LogField { name: "event_id", meaning: "The id of an event." },
    LogField { name: "replay", meaning: "The id of a replay of events." },
    LogField { name: "deliveries", meaning: "Deliveries that a replay has put into the queue." },
    LogField { name: "seconds", meaning: "How long something took, in whole seconds." },
    LogField { name: "endpoint_id", meaning: "The id of a webhook endpoint." },
    LogField { name: "host", meaning: "The host of a webhook endpoint's URL." },
    LogField { name: "address", meaning: "A resolved address, or the one that the service listens on." },
    LogField { name: "interrupted", meaning: "Deliveries whose attempt was cut off by the stop." },
    LogField { name: "unstarted", meaning: "Deliveries that were given back without an attempt." },
    LogField { name: "marks", meaning: "Results of deliveries that wait to be written." },
    LogField { name: "rows", meaning: "Rows that a write was about." },
    LogField { name: "stale", meaning: "Results that came after somebody else had taken the delivery over." },
    LogField { name: "public_url", meaning: "The origin under which payers reach the gateway." },
    LogField { name: "roles", meaning: "What the process does: serve, worker." },
    LogField { name: "version", meaning: "The version of the program." },
    LogField { name: "signal", meaning: "The signal that asked the process to stop." },
    LogField { name: "partition", meaning: "The name of a daily partition." },
];

/// Upper bounds of the duration histograms. Fine between 1 and 100 ms, where an answer belongs; up to 30 s, where every wait is
/// over.
pub const DURATION_BUCKETS_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];

/// Between two rounds in which the recorder folds new observations into the buckets. Without them a process that nobody scrapes
/// would keep every single observation.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

static PROMETHEUS: OnceLock<PrometheusHandle> = OnceLock::new();

/// The Prometheus recorder, installed by the first call; later calls, also concurrent ones, return the same handle.
pub fn prometheus() -> &'static PrometheusHandle {
    PROMETHEUS.get_or_init(|| {
        let mut builder = PrometheusBuilder::new();
        for metric in METRICS.iter().filter(|metric| metric.kind == MetricKind::Histogram) {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), DURATION_BUCKETS_SECONDS)
                .expect("the list of buckets is not empty");
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Fails only if the process has another recorder. Ours then stays empty, which is visible, and nothing else breaks.
        if metrics::set_global_recorder(recorder).is_err() {
            tracing::error!("another metrics recorder is installed in this process; /metrics will be empty");
        }
        from_zero();
        for metric in METRICS {
            match metric.kind {
                MetricKind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
                MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
                MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.meaning),
            }
        }
        let upkeep = handle.clone();
        let spawned = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(move || {
            loop {
                std::thread::sleep(UPKEEP_INTERVAL);
                upkeep.run_upkeep();
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "cannot start the metrics upkeep thread; memory grows until /metrics is read");
        }
        handle
    })
}

/// Series with labels that alerts look at (docs/operations.md): metric, label, its values.
const ALERTED_SERIES: &[(&str, &str, &[&str])] = &[
    (WEBHOOK_ATTEMPTS_TOTAL, "outcome", &["delivered", "retry", "dead"]),
    (WEBHOOK_ENDPOINTS_DISABLED_TOTAL, "reason", &["gone", "failing"]),
    (REDIRECT_HOLDS_TOTAL, "ended_by", &["acknowledged", "deadline", "crowd", "failure"]),
];

/// Begins series at zero. One that appears with its first event is a rate of nothing to Prometheus, so the first dead
/// delivery after a restart would alert nobody.
fn from_zero() {
    for metric in METRICS.iter().filter(|metric| metric.labels.is_empty()) {
        match metric.kind {
            MetricKind::Counter => metrics::counter!(metric.name).increment(0),
            MetricKind::Histogram => drop(metrics::histogram!(metric.name)),
            // What is not measured yet is not zero.
            MetricKind::Gauge => {}
        }
    }
    for (name, label, values) in ALERTED_SERIES {
        for value in *values {
            metrics::counter!(*name, *label => *value).increment(0);
        }
    }
}

/// All metrics in the Prometheus text format, version 0.0.4.
pub fn render() -> String {
    let handle = prometheus();
    if let Some(bytes) = resident_bytes() {
        metrics::gauge!(PROCESS_RESIDENT_BYTES).set(bytes as f64);
    }
    handle.render()
}

fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_the_text_format() {
        for metric in METRICS {
            assert!(metric.name.starts_with("checkstand_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{}", metric.name);
            assert!(metric.kind != MetricKind::Histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
            assert!(metric.meaning.ends_with('.'), "{}", metric.name);
        }
    }

    #[test]
    fn no_name_appears_twice() {
        let mut names: Vec<_> =
            METRICS.iter().map(|metric| metric.name).chain(LOG_FIELDS.iter().map(|field| field.name)).collect();
        names.sort_unstable();
        let in_all = names.len();
        names.dedup();
        assert_eq!(names.len(), in_all);
    }

    #[test]
    fn renders_kinds_meanings_buckets_and_the_size_of_the_process() {
        assert!(std::ptr::eq(prometheus(), prometheus()));
        metrics::histogram!(WEBHOOK_ATTEMPT_DURATION_SECONDS).record(Duration::from_millis(3));
        let text = render();
        assert!(text.contains("# TYPE checkstand_webhook_attempt_duration_seconds histogram"), "{text}");
        assert!(text.contains("# HELP checkstand_webhook_attempt_duration_seconds Time one delivery"), "{text}");
        assert!(text.contains("checkstand_webhook_attempt_duration_seconds_bucket{le=\"0.005\"}"), "{text}");
        assert!(!cfg!(target_os = "linux") || text.contains("checkstand_process_resident_bytes "), "{text}");
    }
}
