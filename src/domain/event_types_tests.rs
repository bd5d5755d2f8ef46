//! Holds the one list of event types against the sources and against docs/webhooks.md.

use std::path::{Path, PathBuf};

use super::*;

/// What looks like an event's name in the sources and is none: kinds of objects, and paths to expand.
const NOT_EVENTS: &[&str] = &["checkout.session", "payment_intent.latest_charge"];

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

/// What looks like an event's name, of whatever family: words in lower case with dots between them.
fn looks_like_an_event(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    text.contains('.') && text.split('.').all(is_word)
}

/// Names in a source's code that look like events and are not explained.
fn unexplained(text: &str, seen: &mut usize) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    // Points at which tests stop the process are named alike, and files are.
    let lines = code.lines().filter(|line| !line.contains("crash_point!") && !line.contains("#[path"));
    let names = lines.flat_map(|line| line.split('"').skip(1).step_by(2)).filter(|name| looks_like_an_event(name));
    let names: Vec<&str> = names.inspect(|_| *seen += 1).collect();
    names.into_iter().filter(|name| !is_listed(name) && !NOT_EVENTS.contains(name)).map(str::to_owned).collect()
}

#[test]
fn every_type_in_the_sources_is_in_the_list() {
    let mut paths = Vec::new();
    for folder in ["src/ops", "src/domain", "src/worker", "src/api", "src/hosted"] {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut paths);
    }
    let mut seen = 0;
    for path in paths.iter().filter(|path| !path.to_string_lossy().ends_with("tests.rs")) {
        if path.ends_with("event_types.rs") {
            continue;
        }
        let text = std::fs::read_to_string(path).expect("a source file");
        let unexplained = unexplained(&text, &mut seen);
        assert!(unexplained.is_empty(), "{}: EVENT_TYPES does not explain {unexplained:?}", path.display());
    }
    assert!(seen > 40, "only {seen} names were found: is the search still right?");
}

#[test]
fn a_type_of_a_family_that_nobody_knew_is_found_too() {
    let mut seen = 0;
    let source =
        "announcements.apart(&owner, \"payout.paid\", id, &payout);\n(\"refund.updated\", 1, \"1.5\", \"Say. No\")";
    assert_eq!((unexplained(source, &mut seen), seen), (vec!["payout.paid".to_owned()], 2));
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
