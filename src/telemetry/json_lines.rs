//! One JSON object for each log line: time, level, the event's fields, where it comes from, its span.
//!
//! Rule: what a span was given is turned into JSON once, when the span begins, and copied into each
//! line after that; the subscriber's own form parses it anew for each line, which costs a busy server
//! more than a query. Which lines there are, and where they go, is left to the sibling modules.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The form of the lines.
pub(super) struct JsonLines;

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let metadata = event.metadata();
        write!(writer, "\",\"level\":\"{}\"", metadata.level())?;
        let mut fields = Fields { writer: writer.by_ref(), result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        member(&mut writer, "target")?;
        text(&mut writer, metadata.target())?;
        if let Some(span) = context.lookup_current() {
            member(&mut writer, "span")?;
            let extensions = span.extensions();
            let given = extensions.get::<FormattedFields<JsonFields>>().map_or("", |given| given.fields.as_str());
            // An object without its brackets; nothing, when the span was given nothing.
            let inside = given.strip_prefix('{').and_then(|given| given.strip_suffix('}')).unwrap_or_default();
            writer.write_char('{')?;
            writer.write_str(inside)?;
            writer.write_str(if inside.is_empty() { "\"name\":" } else { ",\"name\":" })?;
            text(&mut writer, span.name())?;
            writer.write_char('}')?;
        }
        writer.write_str("}\n")
    }
}

/// Writes an event's fields, each with a comma before it.
struct Fields<'w> {
    writer: Writer<'w>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn write(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_ok() {
            self.result = member(&mut self.writer, field.name()).and_then(|()| value(&mut self.writer));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, |writer| text(writer, value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.write(field, |writer| text(writer, &value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, |writer| text(writer, &format!("{value:?}")));
    }
}

/// A comma and a name. Names are ours: identifiers, some with a raw prefix.
fn member(writer: &mut Writer<'_>, name: &str) -> fmt::Result {
    write!(writer, ",\"{}\":", name.strip_prefix("r#").unwrap_or(name))
}

/// A JSON string (RFC 8259 section 7).
fn text(writer: &mut Writer<'_>, value: &str) -> fmt::Result {
    writer.write_char('"')?;
    let mut rest = value;
    while let Some(place) = rest.find(|letter: char| letter < ' ' || letter == '"' || letter == '\\') {
        let (plain, special) = rest.split_at(place);
        writer.write_str(plain)?;
        match special.as_bytes()[0] {
            b'"' => writer.write_str("\\\"")?,
            b'\\' => writer.write_str("\\\\")?,
            b'\n' => writer.write_str("\\n")?,
            b'\r' => writer.write_str("\\r")?,
            b'\t' => writer.write_str("\\t")?,
            control => write!(writer, "\\u{control:04x}")?,
        }
        // All of these are one byte long.
        rest = &special[1..];
    }
    writer.write_str(rest)?;
    writer.write_char('"')
}
