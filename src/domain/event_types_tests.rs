//! Holds the one list of event types against the sources and against docs/webhooks.md.

use std::path::{Path, PathBuf};

use super::*;

/// What looks like an event's name in the sources and is none: kinds of objects, and paths to expand.
const NOT_EVENTS: &[&str] = &["checkout.session", "checkout.payer_session", "payment_intent.latest_charge"];

const BEGIN: &str = "<!-- event types: made from src/domain/event_types.rs -->\n";
const END: &str = "<!-- end of event types -->\n";

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

#[test]
fn every_type_in_the_sources_is_in_the_list() {
    let families: Vec<&str> = EVENT_TYPES.iter().filter_map(|event| event.name.split('.').next()).collect();
    let is_name = |text: &str| {
        let mut words = text.split('.');
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        text.contains('.') && words.clone().all(is_word) && words.next().is_some_and(|first| families.contains(&first))
    };
    let mut paths = Vec::new();
    for folder in ["src/ops", "src/domain", "src/worker"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut paths);
    }
    let mut seen = 0;
    for path in paths.iter().filter(|path| !path.to_string_lossy().contains("event_types")) {
        let text = std::fs::read_to_string(path).expect("a source file");
        // Points at which tests stop the process are named alike.
        for line in text.lines().filter(|line| !line.contains("crash_point!")) {
            for name in line.split('"').skip(1).step_by(2).filter(|name| is_name(name)) {
                seen += 1;
                let known = EVENT_TYPES.iter().any(|event| event.name == name) || NOT_EVENTS.contains(&name);
                assert!(known, "{} says \"{name}\", which EVENT_TYPES does not explain", path.display());
            }
        }
    }
    assert!(seen > 40, "only {seen} names were found: is the search still right?");
}

#[test]
fn the_page_is_the_list() {
    let mut table = String::from("| type | when |\n|---|---|\n");
    for EventType { name, when } in EVENT_TYPES {
        table.push_str(&format!("| `{name}` | {when} |\n"));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/webhooks.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let (before, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where the table ends");
    let expected = format!("{before}{BEGIN}{table}{END}{after}");
    if std::env::var_os("CHECKSTAND_WRITE_REFERENCE").is_some() {
        std::fs::write(path, &expected).expect("docs/webhooks.md is writable");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == expected,
        "docs/webhooks.md is not the list: run CHECKSTAND_WRITE_REFERENCE=1 cargo test --lib the_page_is_the_list"
    );
}
