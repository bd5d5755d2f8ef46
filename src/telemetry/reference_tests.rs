//! Holds the one list of metrics and log fields against the sources and against docs/telemetry.md.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{LOG_FIELDS, METRICS};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a source folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn all_sources() -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).expect("a source file"))).collect()
}

#[test]
fn every_metric_in_the_sources_is_in_the_list() {
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    for (path, text) in all_sources() {
        for rest in text.split(concat!("!(\"", "checkstand_")).skip(1) {
            let name = ["checkstand_", rest.split('"').next().unwrap_or("")].concat();
            assert!(known.contains(name.as_str()), "{} counts {name}, which METRICS does not explain", path.display());
        }
    }
}

/// The fields of one call of a log macro: what stands before its message.
fn fields(arguments: &str) -> Vec<String> {
    let mut fields = Vec::new();
    for argument in arguments.split(',').map(str::trim) {
        if argument.starts_with('"') || argument.contains('(') && !argument.contains('=') {
            break;
        }
        let name = argument.split('=').next().unwrap_or("").trim().trim_start_matches(['%', '?']);
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            break;
        }
        fields.push(name.to_owned());
    }
    fields
}

#[test]
fn every_log_field_in_the_sources_is_in_the_list() {
    let known: BTreeSet<&str> = LOG_FIELDS.iter().map(|field| field.name).collect();
    let mut seen = 0;
    for (path, text) in all_sources() {
        for level in ["error", "warn", "info", "debug", "trace"] {
            for rest in text.split(&format!("tracing::{level}!(")).skip(1) {
                for field in fields(rest) {
                    seen += 1;
                    assert!(
                        known.contains(field.as_str()),
                        "{} logs {field}, which LOG_FIELDS does not explain",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(seen > 20, "only {seen} fields were found: is the search still right?");
}

#[test]
fn the_reference_is_the_list() {
    let mut text = String::from(
        "# Metrics and log fields\n\nMade from `src/telemetry/catalogue.rs`; a test compares them.\n\n## Metrics\n\n\
         | name | kind | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels = metric.labels.join(", ");
        writeln!(text, "| `{}` | {} | {labels} | {} |", metric.name, metric.kind.as_str(), metric.meaning)
            .expect("a string");
    }
    text.push_str("\n## Log fields\n\n| field | meaning |\n|---|---|\n");
    for field in LOG_FIELDS {
        writeln!(text, "| `{}` | {} |", field.name, field.meaning).expect("a string");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/telemetry.md");
    if std::env::var_os("CHECKSTAND_WRITE_REFERENCE").is_some() {
        std::fs::write(path, &text).expect("docs/telemetry.md is writable");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == text,
        "docs/telemetry.md is not the list: run CHECKSTAND_WRITE_REFERENCE=1 cargo test --lib the_reference_is_the_list"
    );
}
