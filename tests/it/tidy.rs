//! The rules of the house, read out of the sources: who names whom, which words stay where, what is
//! never left behind. Each complaint names the file and the word. What is complained about is mended
//! there, or gets its reason here, in a table.

use std::fs;
use std::path::Path;

/// Who may name whom, lowest first. A module may name its own parts; one that is not listed has no place yet.
#[rustfmt::skip]
const MAY_NAME: &[(&str, &str)] = &[
    // Decides, and knows nothing of the world.
    ("domain", ""),
    // What all stand on.
    ("clock", ""), ("headers", ""), ("telemetry", ""),
    ("error", "domain"), ("i18n", "domain"), ("keyring", "domain"), ("server", "telemetry"),
    // Speak, remember, ask those who move money. A mail is a row and reads in the payer's language.
    ("wire", "domain"), ("vault", "domain"), ("providers", "domain vault"), ("store", "domain error"),
    ("mailer", "domain error i18n store"),
    ("app", "clock keyring providers store vault"),
    // Does.
    ("ops", "domain clock error i18n keyring telemetry wire vault providers store mailer app"),
    // Doors: the payer's is the one that card numbers come in by. None names another.
    ("api", "domain error headers i18n server telemetry wire store app ops"),
    ("hosted", "domain error headers i18n keyring server telemetry vault store app ops"),
    ("worker", "domain error server telemetry wire store app ops"),
    // Put together: a process, the development set-up, the command line.
    ("config", "server telemetry app"),
    ("gateway", "domain clock error headers keyring server telemetry vault providers store app ops api hosted worker config"),
    ("dev", "domain error headers i18n server telemetry wire store app ops config gateway"),
    ("cli", "domain clock error keyring server telemetry wire store app ops api config gateway dev"),
    ("main", "error telemetry config gateway dev cli"), ("lib", ""),
];

const CARD_DOORS: &[&str] = &["src/domain/card", "src/vault.rs", "src/providers/", "src/hosted/checkout.rs"];

/// Words that stay at home: the word, and what the paths of its files begin with. Tests are free.
const AT_HOME: &[(&str, &[&str])] = &[
    ("sqlx", &["src/store/", "src/providers/simulator"]),
    ("Utc::now", &["src/clock.rs"]),
    ("SystemTime", &["src/clock.rs"]),
    ("card::CardNumber", CARD_DOORS),
    ("CardNumber::parse", CARD_DOORS),
    ("card::CardCvc", CARD_DOORS),
    ("CardCvc::parse", CARD_DOORS),
    (".unwrap()", &[]),
    ("super::super", &[]), // Written `crate::`, which the table above can read.
];

/// What is never left behind, tests and comments included.
const LEFTOVERS: &[&str] =
    &["todo!", "unimplemented!", "dbg!", "#[ignore", "#[should_panic", "FIXME", "TODO", "XXX", "HACK"];

/// Names that do not say what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "service", "misc"];

/// Longest file: what one reads in one sitting.
const LINES_MAX: usize = 600;

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder can be read to its end").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(project()).expect("it is inside").to_string_lossy().into_owned();
            found.push((name, fs::read_to_string(&path).expect("sources are text")));
        }
    }
}

/// Path and text of every source below a folder. A walk that found next to nothing must not pass.
fn sources(folder: &str, at_least: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect(&project().join(folder), &mut found);
    assert!(found.len() >= at_least, "only {} sources in {folder}", found.len());
    found.sort();
    found
}

/// What runs outside of tests, without whole-line comments; nothing of a file that is all tests.
fn code(path: &str, text: &str) -> String {
    if path.ends_with("/tests.rs") || path.ends_with("_tests.rs") {
        return String::new();
    }
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    before_tests.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]).collect()
}

/// Whether the word stands there by itself, not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = word.starts_with(is_part) && text[..at].ends_with(is_part);
        let after = word.ends_with(is_part) && text[at + word.len()..].starts_with(is_part);
        !before && !after
    })
}

/// The names that follow a path's beginning, such as `store` and `wire` after `crate::` in `crate::{store::Page, wire}`.
fn named_after(code: &str, beginning: &str) -> Vec<String> {
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut names = Vec::new();
    for (at, _) in code.match_indices(beginning) {
        let rest = &code[at + beginning.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.push(name(rest));
            continue;
        };
        let mut depth = 0;
        let parts = group.split_inclusive(['{', '}', ',']).take_while(|part| {
            depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
            depth >= 0
        });
        names.extend(parts.map(|part| name(part.trim_start())));
        names.push(name(group.split('}').next().and_then(|part| part.rsplit(',').next()).unwrap_or("").trim_start()));
    }
    names
}

#[track_caller]
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn each_layer_names_only_what_is_below_it() {
    let mut complaints = Vec::new();
    for (path, text) in sources("src", 80) {
        let inside = path.strip_prefix("src/").expect("it is below src");
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            complaints.push(format!("{path}: the module `{module}` has no place in the table of layers"));
            continue;
        };
        let code = code(&path, &text);
        let mut names = named_after(&code, "crate::");
        if matches!(module, "main" | "cli") {
            names.extend(named_after(&code, "checkstand::"));
        }
        if !inside.contains('/') || inside.ends_with("/mod.rs") {
            names.extend(named_after(&code, "super::"));
        }
        for name in names.iter().filter(|name| MAY_NAME.iter().any(|(known, _)| known == name)) {
            if name != module && !allowed.split(' ').any(|one| one == name) {
                complaints.push(format!("{path}: `{module}` names `{name}`, which is not below it"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn words_stay_at_home() {
    let mut complaints = Vec::new();
    for (path, text) in sources("src", 80) {
        let code = code(&path, &text);
        for (word, homes) in AT_HOME {
            if has_word(&code, word) && !homes.iter().any(|home| path.starts_with(home)) {
                complaints.push(format!("{path}: `{word}` belongs in {homes:?} only"));
            }
        }
    }
    none(&complaints);
}

#[test]
fn nothing_is_left_behind_and_every_file_says_what_it_is_for() {
    let mut complaints = Vec::new();
    let stories = sources("tests", 8);
    for (path, text) in stories.iter().filter(|(path, _)| path != "tests/it/tidy.rs") {
        if has_word(text, "sleep") {
            complaints.push(format!("{path}: a story that sleeps is slow or wrong; wait for what must happen"));
        }
        let left = LEFTOVERS.iter().filter(|word| has_word(text, word));
        complaints.extend(left.map(|word| format!("{path}: `{word}` is left over")));
    }
    for (path, text) in sources("src", 80) {
        let left = LEFTOVERS.iter().filter(|word| has_word(&text, word));
        complaints.extend(left.map(|word| format!("{path}: `{word}` is left over")));
    }
    for (path, text) in sources("src", 80).iter().chain(&stories) {
        if !text.starts_with("//! ") {
            complaints.push(format!("{path}: does not begin with `//!` and what it is for"));
        }
        if text.lines().count() > LINES_MAX {
            complaints.push(format!("{path}: has {} lines, more than {LINES_MAX}", text.lines().count()));
        }
        let modules =
            text.lines().filter_map(|line| line.split("mod ").nth(1)).filter(|rest| rest.ends_with([';', '{']));
        let names = path.split('/').chain(modules).flat_map(|name| name.split(['_', '.', ' ', ';']));
        for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
            complaints.push(format!("{path}: the name `{name}` does not say what is inside"));
        }
    }
    none(&complaints);
}

#[test]
fn migrations_are_numbered_without_gaps_and_go_forward() {
    let folder = fs::read_dir(project().join("migrations")).expect("there are migrations");
    let mut names: Vec<String> =
        folder.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(!names.is_empty());
    for (number, name) in (1..).zip(&names) {
        let words = name.strip_prefix(&format!("{number:04}_")).and_then(|rest| rest.strip_suffix(".sql"));
        let is_plain = words.is_some_and(|words| words.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        assert!(is_plain, "migrations/{name}: expected {number:04}_<lower_case_words>.sql, and nothing that goes back");
    }
}
