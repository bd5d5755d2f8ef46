//! What can be wrong with a parameter, and the sentence that says so. The rule it keeps: an error
//! is structured from the start, its path is gathered while it travels outwards, and the sentence
//! is written last, when the path is known. A sent value is repeated only if it is short and cannot
//! be a secret or a card number. It leaves finding the fault to `params_reader` and to serde's
//! derived code.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use super::params::{LIST_ENTRIES_MAX, ParamCode, ParamError, bracket_path, param_error};

/// Characters of a sent value that a message repeats: enough to recognise it.
const ECHO_CHARACTERS_MAX: usize = 40;
/// Digits from which a value may be a card number (ISO/IEC 7812 numbers have 8 to 19; nobody issues
/// below 12).
const CARD_NUMBER_DIGITS_MIN: usize = 12;
/// Words in a name that keep its value out of messages.
const SECRET_WORDS: [&str; 10] =
    ["secret", "password", "passphrase", "token", "key", "number", "cvc", "cvv", "pin", "signature"];
/// Characters of a message that a type's own check may supply.
const CUSTOM_MESSAGE_CHARACTERS_MAX: usize = 300;
/// Edits between an unknown name and the name that is suggested for it.
const SUGGESTION_EDITS_MAX: usize = 2;
/// Names longer than this get no suggestion; it bounds the comparison's work.
const SUGGESTION_CHARACTERS_MAX: usize = 64;

/// What went wrong, before the sentence is written.
#[derive(Debug)]
pub(super) enum Fault {
    Unknown { allowed: &'static [&'static str] },
    Missing,
    Empty,
    Null,
    Integer { given: Option<String>, hint: Option<String> },
    Boolean { given: Option<String>, hint: Option<String> },
    Text { found: &'static str },
    Array { found: &'static str },
    Object { found: &'static str },
    Choice { allowed: &'static [&'static str] },
    IndexTooHigh,
    Custom(String),
}

/// A fault and its path, innermost name first.
#[derive(Debug)]
pub(super) struct Failure {
    fault: Fault,
    path: Vec<String>,
}

impl Failure {
    pub(super) fn new(fault: Fault) -> Self {
        Self { fault, path: Vec::new() }
    }

    pub(super) fn at(fault: Fault, name: &str) -> Self {
        Self { fault, path: vec![name.to_owned()] }
    }

    pub(super) fn under(mut self, name: impl fmt::Display) -> Self {
        self.path.push(name.to_string());
        self
    }

    /// Writes the sentence.
    pub(super) fn into_param_error(self) -> ParamError {
        let Self { fault, mut path } = self;
        path.reverse();
        let param = bracket_path(&path);
        let (code, message) = match fault {
            Fault::Unknown { allowed } => {
                let mut message = format!("Received unknown parameter: {param}");
                if let Some(name) = path.last().and_then(|name| closest(name, allowed)) {
                    let mut meant = path.clone();
                    meant.pop();
                    meant.push(name.to_owned());
                    message.push_str(&format!(". Did you mean {}?", bracket_path(&meant)));
                }
                (ParamCode::Unknown, message)
            }
            Fault::Missing => (ParamCode::Missing, format!("Missing required param: {param}.")),
            Fault::Empty => (
                ParamCode::InvalidEmpty,
                format!(
                    "You passed an empty string for '{param}'. We assume empty values are an attempt to unset a parameter; \
                     however '{param}' cannot be unset. You should remove '{param}' from your request or supply a non-empty value."
                ),
            ),
            Fault::Null => (
                ParamCode::InvalidEmpty,
                format!(
                    "You passed null for '{param}', but '{param}' cannot be unset. \
                     You should remove '{param}' from your request or supply a value."
                ),
            ),
            Fault::Integer { given, hint } => (ParamCode::InvalidInteger, invalid("integer", &path, given, hint)),
            Fault::Boolean { given, hint } => (ParamCode::InvalidBoolean, invalid("boolean", &path, given, hint)),
            Fault::Text { found } => {
                (ParamCode::InvalidString, format!("Invalid string: {param} must be a string, not {found}."))
            }
            Fault::Array { found } => {
                (ParamCode::InvalidArray, format!("Invalid array: {param} must be a list, not {found}."))
            }
            Fault::Object { found } => {
                (ParamCode::InvalidObject, format!("Invalid object: {param} must be an object, not {found}."))
            }
            Fault::Choice { allowed } => {
                (ParamCode::InvalidValue, format!("Invalid {param}: must be {}", one_of(allowed)))
            }
            Fault::IndexTooHigh => (
                ParamCode::TooMany,
                format!("Invalid index: {param}. Lists are numbered from 0 to {}.", LIST_ENTRIES_MAX - 1),
            ),
            Fault::Custom(message) => (ParamCode::InvalidValue, format!("Invalid {param}: {message}")),
        };
        param_error(code, &path, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a parameter was refused")
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<M: fmt::Display>(message: M) -> Self {
        let message = message.to_string();
        let shown = message.chars().filter(|character| !character.is_control());
        Self::new(Fault::Custom(shown.take(CUSTOM_MESSAGE_CHARACTERS_MAX).collect()))
    }
    // Serde's own sentences for the next two repeat the value.
    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("must be {expected}."))
    }
    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::custom(format_args!("must be {expected}."))
    }
    fn unknown_variant(_: &str, allowed: &'static [&'static str]) -> Self {
        Self::new(Fault::Choice { allowed })
    }
    fn unknown_field(name: &str, allowed: &'static [&'static str]) -> Self {
        Self::at(Fault::Unknown { allowed }, name)
    }
    fn missing_field(name: &'static str) -> Self {
        Self::at(Fault::Missing, name)
    }
    fn duplicate_field(name: &'static str) -> Self {
        Self::at(Fault::Custom("given twice, under two names.".to_owned()), name)
    }
}

fn invalid(kind: &str, path: &[String], given: Option<String>, hint: Option<String>) -> String {
    let secret = path.iter().any(|name| name.split(['_', '-']).any(|word| SECRET_WORDS.contains(&word)));
    let given = given.filter(|given| {
        let digits = given.chars().filter(char::is_ascii_digit).count();
        !secret && digits < CARD_NUMBER_DIGITS_MIN
    });
    match (given, hint) {
        (Some(given), None) => format!("Invalid {kind}: {given}"),
        (Some(given), Some(hint)) => format!("Invalid {kind}: {given}. {hint}"),
        (None, Some(hint)) => format!("Invalid {kind}. {hint}"),
        (None, None) => format!("Invalid {kind}."),
    }
}

/// Cuts a value for a message. Control characters are gone already, see `check_value`; line breaks
/// become spaces.
pub(super) fn shorten(text: &str) -> String {
    let mut shown: String =
        text.chars().take(ECHO_CHARACTERS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(ECHO_CHARACTERS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// `one of a, b, or c`, as Stripe lists them.
fn one_of(allowed: &[&str]) -> String {
    match allowed {
        [] => "absent".to_owned(),
        [only] => (*only).to_owned(),
        [first, second] => format!("one of {first} or {second}"),
        [first @ .., last] => format!("one of {}, or {last}", first.join(", ")),
    }
}

/// The allowed name nearest to `name`, if it is near enough to be a slip of the keyboard.
fn closest(name: &str, allowed: &'static [&'static str]) -> Option<&'static str> {
    let characters = name.chars().count();
    if characters > SUGGESTION_CHARACTERS_MAX {
        return None;
    }
    // Of a short name, two edits leave little; a third of it must stand.
    let edits_max = SUGGESTION_EDITS_MAX.min(characters / 3);
    let nearest =
        allowed.iter().map(|candidate| (edits(name, candidate), *candidate)).min_by_key(|(distance, _)| *distance)?;
    (nearest.0 <= edits_max).then_some(nearest.1)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one text into the other
/// (optimal string alignment).
fn edits(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut before_previous: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for row in 1..=from.len() {
        let mut current = vec![row];
        for column in 1..=to.len() {
            let replaced = previous[column - 1] + usize::from(from[row - 1] != to[column - 1]);
            let mut best = replaced.min(previous[column] + 1).min(current[column - 1] + 1);
            if row > 1 && column > 1 && from[row - 1] == to[column - 2] && from[row - 2] == to[column - 1] {
                best = best.min(before_previous[column - 2] + 1);
            }
            current.push(best);
        }
        before_previous = std::mem::replace(&mut previous, current);
    }
    previous[to.len()]
}
