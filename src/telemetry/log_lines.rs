//! Where log lines go: through the card number net, into a bounded queue, and from one thread to standard output.
//!
//! Rule: a payment never waits for whoever reads the log. When the queue is full a line is dropped and counted. Which lines are
//! written, and what they may hold, is left to the code that writes them.

use std::io::{IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;

use super::catalogue::LOG_LINES_DROPPED_TOTAL;
use super::json_lines::JsonLines;
use super::masking::mask_card_numbers;

/// Lines that may wait for the writer: at 300 bytes each some two seconds of a busy server in 3 MB.
const QUEUE_LINES_MAX: usize = 10_000;

/// A longer line is cut here. Fields are short by choice, so only a foreign error message can come near; with it the queue is
/// bounded in bytes as well.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// Lines are gathered for this long and written together: nobody reads faster.
const GATHERING_TIME: Duration = Duration::from_millis(5);

/// Lines written together at most: some 150 kB.
const LINES_PER_WRITE_MAX: usize = 512;

/// How much of a panic's message is logged. It can quote data, so it gets room for a reason, not for a dump.
const PANIC_MESSAGE_CHARS_MAX: usize = 200;

/// How long a panic that ends the process waits for its own line to be written.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(500);

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One line for people, in colour on a terminal.
    Pretty,
    /// One JSON object a line, for a log store.
    Json,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one; see the syntax of `RUST_LOG`.
    #[error(
        "the log filter {filter:?} is not valid, write for instance \"info\" or \"info,checkstand::server=debug\": {source}"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The operating system gave no thread for the writer.
    #[error("cannot start the thread that writes the log: {0}")]
    WriterThread(#[from] std::io::Error),
}

static LINES: OnceLock<LineQueue> = OnceLock::new();

/// Starts logging to standard output in `format`, keeps what `filter` lets through (syntax of `RUST_LOG`), and installs the panic
/// hook. If this process logs already, by an earlier call or by a subscriber of a test, nothing changes.
///
/// # Errors
/// [`TelemetryError`] if the filter is not valid or there is no thread to be had.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let filter =
        EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    if LINES.get().is_some() || tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    let (sender, receiver) = mpsc::sync_channel(QUEUE_LINES_MAX);
    std::thread::Builder::new()
        .name("log-writer".to_owned())
        .spawn(move || write_lines(&receiver, std::io::stdout()))?;
    let queue = LINES.get_or_init(|| LineQueue(sender)).clone();

    // A subscriber that somebody else installs in this very moment wins; there is no state in which both would log.
    let _ = match format {
        LogFormat::Pretty => tracing::subscriber::set_global_default(
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_ansi(std::io::stdout().is_terminal())
                .with_writer(queue)
                .finish(),
        ),
        LogFormat::Json => tracing::subscriber::set_global_default(json_lines(filter, queue)),
    };
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Waits until the lines logged so far are written, for `wait` at most; true if they are. Call it as the last thing before the
/// process ends; it blocks the thread.
pub fn flush_log(wait: Duration) -> bool {
    let Some(queue) = LINES.get() else {
        return true;
    };
    let deadline = Instant::now() + wait;
    let (done, is_done) = mpsc::sync_channel(1);
    let mut message = Message::Flush(done);
    loop {
        match queue.0.try_send(message) {
            Ok(()) => {
                return is_done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok();
            }
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(_)) if Instant::now() >= deadline => return false,
            Err(TrySendError::Full(back)) => message = back,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn json_lines(filter: EnvFilter, queue: LineQueue) -> impl tracing::Subscriber + Send + Sync {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue)
        .fmt_fields(JsonFields::new())
        .event_format(JsonLines)
        .finish()
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The sending end of the queue. The subscriber hands it one whole line at a time.
#[derive(Clone)]
struct LineQueue(SyncSender<Message>);

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        if self.0.try_send(Message::Line(prepare_line(line))).is_err() {
            metrics::counter!(LOG_LINES_DROPPED_TOTAL).increment(1);
        }
        // A dropped line is not an error to the subscriber: it would print one to standard error, where it could block.
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn prepare_line(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let mut line = mask_card_numbers(&text).into_owned();
    if line.len() > LINE_BYTES_MAX {
        line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
        line.push_str(" [cut]\n");
    }
    line.into_bytes()
}

fn write_lines(queue: &Receiver<Message>, mut output: impl Write) {
    let mut lines = Vec::new();
    while let Ok(first) = queue.recv() {
        if matches!(first, Message::Line(_)) {
            // Asleep, not waiting at the queue: waking this thread for each line costs more than the line.
            std::thread::sleep(GATHERING_TIME);
        }
        let mut flushes = Vec::new();
        for message in std::iter::once(first).chain(queue.try_iter()).take(LINES_PER_WRITE_MAX) {
            match message {
                Message::Line(line) => lines.extend_from_slice(&line),
                Message::Flush(done) => flushes.push(done),
            }
        }
        // Nothing can be done about an output that is gone, and there is nowhere left to say so.
        let _ = output.write_all(&lines);
        lines.clear();
        for done in flushes {
            let _ = output.flush();
            let _ = done.try_send(());
        }
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(location, thread, panic = panic_message(panic.payload()), "a thread panicked; this is a defect");
    // A panic on the main thread ends the process, and the writer thread with it.
    if thread == "main" {
        flush_log(LAST_WORDS_WAIT);
    }
}

/// The message of a panic, cut and masked, fit for a log line.
fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let message = match (payload.downcast_ref::<&'static str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "(not text)",
    };
    // Masked before it is cut: half a card number would not be recognised.
    mask_card_numbers(message).chars().take(PANIC_MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::LOG_FIELDS;

    #[test]
    fn a_panic_message_is_cut_and_masked() {
        assert_eq!(panic_message(&"card 4242424242424242 is bad"), "card **************** is bad");
        assert_eq!(panic_message(&7_u8), "(not text)");
        let long = format!("{}4242424242424242", "é".repeat(192));
        assert_eq!(panic_message(&long), format!("{}********", "é".repeat(192)));
    }

    #[test]
    fn a_line_is_masked_and_cut() {
        assert_eq!(prepare_line(b"name=\"4242 4242 4242 4242\"\n"), b"name=\"**** **** **** ****\"\n");
        let long = prepare_line("é".repeat(LINE_BYTES_MAX).as_bytes());
        assert!(long.len() < LINE_BYTES_MAX + 10 && long.ends_with(" [cut]\n".as_bytes()));
    }

    #[test]
    fn a_full_queue_drops_lines_and_never_waits() {
        let (sender, receiver) = mpsc::sync_channel(2);
        let mut queue = LineQueue(sender);
        for line in ["one\n", "two\n", "three\n"] {
            assert_eq!(queue.write(line.as_bytes()).expect("never fails"), line.len());
        }
        drop(queue);
        let mut written = Vec::new();
        write_lines(&receiver, &mut written);
        assert_eq!(written, b"one\ntwo\n");
    }

    #[test]
    fn a_json_line_is_one_object_with_documented_fields_only() {
        let (sender, receiver) = mpsc::sync_channel(2);
        let subscriber = json_lines(EnvFilter::new("info"), LineQueue(sender));
        tracing::subscriber::with_default(subscriber, || {
            let span =
                tracing::error_span!("request", request_id = "req_a", door = "api", method = "GET", route = "/v1/x");
            span.in_scope(|| tracing::error!(status = 500, duration_ms = 7, "answered"));
            tracing::error!(error = %"a \"quoted\"\n\u{1}line\\é", "outside of a span");
        });
        let mut written = Vec::new();
        write_lines(&receiver, &mut written);
        let lines = String::from_utf8(written).expect("text");
        let (line, other) = lines.split_once('\n').expect("two lines");
        let other: serde_json::Value = serde_json::from_str(other).expect("one object");
        assert_eq!(other["error"], "a \"quoted\"\n\u{1}line\\é");
        assert_eq!((&other["span"], &other["level"]), (&serde_json::Value::Null, &"ERROR".into()));
        let line: serde_json::Value = serde_json::from_str(line).expect("one object");
        assert_eq!((&line["message"], &line["status"]), (&"answered".into(), &500.into()));
        assert_eq!(line["span"]["request_id"], "req_a");
        let is_documented = |name: &String| LOG_FIELDS.iter().any(|field| field.name == name);
        let fields = line.as_object().expect("an object");
        let span_fields = line["span"].as_object().expect("an object");
        for name in fields.keys().chain(span_fields.keys()) {
            assert!(is_documented(name), "{name}");
        }
    }

    #[test]
    fn a_bad_filter_is_named_in_the_error() {
        let error = init(LogFormat::Json, "info,=,").expect_err("not a filter");
        assert!(error.to_string().contains("\"info,=,\""), "{error}");
    }
}
