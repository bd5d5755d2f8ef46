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
    ("clock", ""), ("crash", ""), ("headers", ""), ("smtp", ""), ("telemetry", ""),
    ("error", "domain"), ("i18n", "domain"), ("keyring", "domain"), ("server", "telemetry"),
    // Speak, remember, ask those who move money. A mail is a row and reads in the payer's language.
    ("wire", "domain"), ("vault", "domain"), ("providers", "domain headers i18n vault"), ("store", "domain clock error"),
    ("mailer", "domain i18n"),
    // Waits, to do together.
    ("queue", "domain error store"),
    ("app", "domain clock error keyring providers queue store vault"),
    // Does.
    ("ops", "domain queue clock crash error i18n keyring telemetry wire vault providers store mailer app"),
    // Doors: card numbers come in by the payer's, and by the one file of the API that a merchant's own page
    // sends them to. None names another.
    ("api", "domain error headers i18n server telemetry vault wire store app ops"),
    ("hosted", "domain error headers i18n keyring server telemetry vault store app ops"),
    ("callbacks", "error telemetry app ops"),
    ("worker", "domain error server smtp telemetry wire store app ops"),
    // Put together: a process, the development set-up, the command line.
    ("config", "domain providers server smtp telemetry app"),
    ("gateway", "domain clock error headers keyring server smtp telemetry vault providers store app ops api hosted callbacks worker config"),
    ("dev", "domain error headers i18n server telemetry wire store app ops config gateway"),
    ("cli", "domain clock error keyring server telemetry vault wire store app ops api config gateway dev"),
    ("main", "error telemetry config gateway dev cli"), ("lib", ""),
];

const CARD_DOORS: &[&str] =
    &["src/domain/card", "src/vault", "src/providers/", "src/hosted/checkout.rs", "src/api/payer_card.rs"];

/// Words that stay at home: the word, and what the paths of its files begin with. Tests are free.
const AT_HOME: &[(&str, &[&str])] = &[
    ("sqlx", &["src/store/", "src/providers/simulator"]),
    ("Utc::now", &["src/clock.rs"]),
    // A log line is stamped by the machine it is written on, as its neighbours' lines are.
    ("SystemTime", &["src/clock.rs", "src/telemetry/json_lines.rs"]),
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

/// A source: its path, its text, and its code outside of tests and whole-line comments.
struct Source {
    path: String,
    text: String,
    code: String,
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder can be read to its end").path();
        if path.is_dir() && !path.ends_with("node_modules") {
            collect(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).expect("sources are text");
            let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).expect("it is inside").display().to_string();
            let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            let is_code = |line: &&str| !line.trim_start().starts_with("//") && !path.ends_with("tests.rs");
            let code = before_tests.lines().filter(is_code).flat_map(|line| [line, "\n"]).collect();
            found.push(Source { path, text, code });
        }
    }
}

/// Reads every source below a folder and fails with all complaints at once. A walk that found next to
/// nothing must not pass.
#[track_caller]
fn walk(folder: &str, at_least: usize, judge: impl Fn(&Source, &mut dyn FnMut(String))) {
    let (mut sources, mut complaints) = (Vec::new(), Vec::new());
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut sources);
    assert!(sources.len() >= at_least, "only {} sources in {folder}", sources.len());
    for source in &sources {
        judge(source, &mut |complaint| complaints.push(format!("{}: {complaint}", source.path)));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn is_part_of_a_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Whether the word stands there by itself, not as a part of a longer one.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = word.starts_with(is_part_of_a_word) && text[..at].ends_with(is_part_of_a_word);
        let after = word.ends_with(is_part_of_a_word) && text[at + word.len()..].starts_with(is_part_of_a_word);
        !before && !after
    })
}

/// The names that follow a path's beginning, such as `store` and `wire` after `crate::` in `crate::{store::Page, wire}`.
fn named_after<'c>(code: &'c str, beginning: &str) -> Vec<&'c str> {
    let name = |text: &'c str| text.trim_start().split(|c| !is_part_of_a_word(c)).next().unwrap_or_default();
    let mut names = Vec::new();
    for (at, _) in code.match_indices(beginning) {
        let rest = &code[at + beginning.len()..];
        let mut depth = 0;
        names.push(name(rest));
        // Of a group each part at its first level.
        for part in rest.split_inclusive(['{', '}', ',', ';']).take_while(|_| rest.starts_with('{')) {
            if depth == 1 {
                names.push(name(part));
            }
            depth += i32::from(part.ends_with('{')) - i32::from(part.ends_with('}'));
            if depth == 0 {
                break;
            }
        }
    }
    names
}

#[test]
fn each_layer_names_only_what_is_below_it() {
    walk("src", 80, |source, complain| {
        let inside = source.path.trim_start_matches("src/");
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        let Some((_, allowed)) = MAY_NAME.iter().find(|(name, _)| *name == module) else {
            return complain(format!("the module `{module}` has no place in the table of layers"));
        };
        let mut names = named_after(&source.code, "crate::");
        if matches!(module, "main" | "cli") {
            names.extend(named_after(&source.code, "checkstand::"));
        }
        if !inside.contains('/') || inside.ends_with("/mod.rs") {
            names.extend(named_after(&source.code, "super::"));
        }
        for name in names.into_iter().filter(|name| MAY_NAME.iter().any(|(known, _)| known == name)) {
            if name != module && !allowed.split(' ').any(|one| one == name) {
                complain(format!("`{module}` names `{name}`, which is not below it"));
            }
        }
    });
}

#[test]
fn words_stay_at_home() {
    walk("src", 80, |source, complain| {
        for (word, homes) in AT_HOME {
            if has_word(&source.code, word) && !homes.iter().any(|home| source.path.starts_with(home)) {
                complain(format!("`{word}` belongs in {homes:?} only"));
            }
        }
    });
}

fn judge_as_a_whole(source: &Source, complain: &mut dyn FnMut(String)) {
    let Source { path, text, .. } = source;
    for word in LEFTOVERS.iter().filter(|word| has_word(text, word) && path != "tests/it/tidy.rs") {
        complain(format!("`{word}` is left over"));
    }
    if !text.starts_with("//! ") {
        complain("does not begin with `//!` and what it is for".to_owned());
    }
    if text.lines().count() > LINES_MAX {
        complain(format!("has {} lines, more than {LINES_MAX}", text.lines().count()));
    }
    let modules = text.lines().filter_map(|line| line.split_once("mod ")).map(|(_, name)| name);
    let names = path.split('/').chain(modules).flat_map(|name| name.split(['_', '.', ' ', ';']));
    for name in names.filter(|name| EMPTY_NAMES.contains(name)) {
        complain(format!("the name `{name}` does not say what is inside"));
    }
}

#[test]
fn nothing_is_left_behind_and_every_file_says_what_it_is_for() {
    walk("src", 80, judge_as_a_whole);
    walk("tests", 8, judge_as_a_whole);
}

#[test]
fn stories_wait_for_what_must_happen_and_never_by_the_clock() {
    walk("tests/it", 8, |source, complain| {
        if has_word(&source.code, "sleep") && source.path != "tests/it/tidy.rs" {
            complain("`sleep`: wait for what must happen".to_owned());
        }
    });
}

#[test]
fn migrations_are_numbered_without_gaps_and_go_forward() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let entries = fs::read_dir(folder).expect("there are migrations").map(|entry| entry.expect("readable").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(!names.is_empty());
    for (number, name) in (1..).zip(&names) {
        let words = name.strip_prefix(&format!("{number:04}_")).and_then(|rest| rest.strip_suffix(".sql"));
        let is_plain = words.is_some_and(|words| words.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        assert!(is_plain, "migrations/{name}: expected {number:04}_<lower_case_words>.sql, and nothing that goes back");
    }
}
