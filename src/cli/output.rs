//! What commands print: tables for people, JSON for programs, and failures as one sentence.
//!
//! The rule: with `--json` standard output holds one JSON value and nothing else, in the API's shapes
//! where the API has one. Tables are aligned text without colours. Text from outside cannot move the
//! cursor, and money is put into digits without any rounding.

use std::fmt;
use std::io::{ErrorKind, Write as _};

use checkstand::config::ConfigError;
use checkstand::dev::postgres::EmbeddedError;
use checkstand::domain::money::{Currency, Money};
use checkstand::error::Error;
use checkstand::telemetry::TelemetryError;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;

/// What stands in a table for a value that is not there.
const ABSENT: &str = "-";

/// Space between columns.
const GAP: &str = "  ";

/// Why a command failed, as one sentence, and the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    exit_code: u8,
}

impl Failure {
    /// The same with an exit code of its own; it is 1 unless a command promises more.
    pub fn exits_with(self, exit_code: u8) -> Self {
        Self { exit_code, ..self }
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.sentence)
    }
}

impl From<String> for Failure {
    /// Brings the sentence onto one line: parsers like to draw pictures.
    fn from(sentence: String) -> Self {
        let lines = sentence.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "|");
        Self { sentence: harmless(&lines.collect::<Vec<_>>().join(", ")), exit_code: 1 }
    }
}

impl From<&str> for Failure {
    fn from(sentence: &str) -> Self {
        sentence.to_owned().into()
    }
}

impl From<Error> for Failure {
    /// Whoever is at this terminal runs the gateway, so the inside half is said as well.
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(inside) | Error::Internal(inside) => inside.into(),
            other => other.to_string().into(),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        error.to_string().into()
    }
}

impl From<EmbeddedError> for Failure {
    fn from(error: EmbeddedError) -> Self {
        error.to_string().into()
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        error.to_string().into()
    }
}

/// Prints text to standard output. A reader that has seen enough, such as `head`, is no failure.
///
/// # Errors
/// When standard output takes nothing, as on a full disk.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(format!("standard output cannot be written: {error}").into())
        }
        _ => Ok(()),
    }
}

/// How a command's result is printed.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
}

impl Output {
    /// Prints `text`, or `value` where JSON was asked for.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn show(self, text: &str, value: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return print(&format!("{}\n", text.trim_end()));
        }
        let json = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::from(format!("the result cannot be put into JSON: {error}")))?;
        print(&format!("{json}\n"))
    }
}

/// A table with a heading for each column.
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the last column are not shown.
    pub fn push(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| or_absent(cell)).collect());
    }

    /// The table as text, or `when_empty` when it has no rows.
    pub fn render(&self, when_empty: &str) -> String {
        if self.rows.is_empty() {
            return format!("{when_empty}\n");
        }
        let mut widths: Vec<usize> = self.columns.iter().map(|column| width(column)).collect();
        for row in &self.rows {
            for (widest, cell) in widths.iter_mut().zip(row) {
                *widest = (*widest).max(width(cell));
            }
        }
        let headings: Vec<String> = self.columns.iter().map(|column| column.to_uppercase()).collect();
        let mut text = String::new();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (cell, widest) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', widest - width(cell)));
                line.push_str(GAP);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// One object as lines of name and value.
pub fn fields(fields: &[(&str, String)]) -> String {
    let widest = fields.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    fields.iter().map(|(name, value)| format!("{name:widest$}{GAP}{}\n", or_absent(value))).collect()
}

/// A moment in UTC, to the second (RFC 3339).
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A moment given in Unix seconds, to the second (RFC 3339); nothing for `None`.
pub fn unix_time(seconds: impl Into<Option<i64>>) -> String {
    let at = seconds.into().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    at.map(time).unwrap_or_default()
}

/// An amount with all its digits and its currency, as in `19.99 EUR`.
pub fn money(amount: Money) -> String {
    let code = amount.currency.code().to_ascii_uppercase();
    let exponent = usize::from(amount.currency.exponent());
    let sign = if amount.minor < 0 { "-" } else { "" };
    let digits = format!("{:0>width$}", amount.minor.unsigned_abs(), width = exponent + 1);
    let (whole, fraction) = digits.split_at(digits.len() - exponent);
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{whole}{point}{fraction} {code}")
}

/// An amount as it stands in the API's JSON; nothing for what is no amount.
pub fn wire_money(minor: Option<i64>, currency: Option<&str>) -> String {
    match (minor, currency.and_then(Currency::parse)) {
        (Some(minor), Some(currency)) => money(Money { minor, currency }),
        _ => String::new(),
    }
}

/// A mode in a word.
pub fn mode(livemode: bool) -> &'static str {
    if livemode { "live" } else { "test" }
}

/// Yes or no.
pub fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// The text under a key of a JSON object; nothing when there is none.
pub fn text_of(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

/// The text, cut to `chars_max` characters.
pub fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn or_absent(text: &str) -> String {
    if text.is_empty() { ABSENT.to_owned() } else { harmless(text) }
}

/// Replaces what a terminal would obey instead of show: control characters, and the marks that turn
/// the direction of writing round (Unicode's Bidi_Control).
fn harmless(text: &str) -> String {
    let obeyed = |character: char| {
        character.is_control()
            || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.replace(obeyed, "\u{fffd}")
}

/// Columns on the screen, if every character takes one. Good enough to line up what we make ourselves.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_shows_every_digit_and_no_more() {
        let cases = [
            (1999, "eur", "19.99 EUR"),
            (5, "eur", "0.05 EUR"),
            (0, "usd", "0.00 USD"),
            (1999, "jpy", "1999 JPY"),
            (0, "jpy", "0 JPY"),
            (12_345, "kwd", "12.345 KWD"),
            (7, "kwd", "0.007 KWD"),
            (-150, "eur", "-1.50 EUR"),
        ];
        for (minor, code, expected) in cases {
            let currency = Currency::parse(code).expect(code);
            assert_eq!(money(Money { minor, currency }), expected);
        }
        assert_eq!(wire_money(Some(1), Some("zzz")), "");
    }

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let mut table = Table::new(&["id", "name"]);
        table.push(vec!["acct_1".to_owned(), "Bäcker".to_owned()]);
        table.push(vec![String::new(), "x".to_owned()]);
        assert_eq!(table.render("none"), "ID      NAME\nacct_1  Bäcker\n-       x\n");
        assert_eq!(Table::new(&["id"]).render("There are none."), "There are none.\n");
        assert_eq!(fields(&[("id", "1".to_owned()), ("name", String::new())]), "id    1\nname  -\n");
    }

    #[test]
    fn foreign_text_cannot_command_the_terminal() {
        let mut table = Table::new(&["excerpt"]);
        table.push(vec!["\u{1b}[2Jgone\n\u{202e}".to_owned()]);
        assert_eq!(table.render(""), "EXCERPT\n\u{fffd}[2Jgone\u{fffd}\u{fffd}\n");
    }

    #[test]
    fn a_failure_is_one_line() {
        let failure = Failure::from("TOML parse error\n  |\n1 | x\n".to_owned());
        assert_eq!(failure.to_string(), "TOML parse error, 1 | x");
    }

    #[test]
    fn times_are_utc_to_the_second() {
        assert_eq!(unix_time(0), "1970-01-01T00:00:00Z");
        assert_eq!(unix_time(None), "");
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöü", 2), "äö…");
    }
}
