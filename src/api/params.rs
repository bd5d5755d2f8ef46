//! Decodes the parameters of one request, from a form body, a query string or a JSON body, into a
//! typed struct. The rule it keeps: every refusal names the parameter in bracket notation and
//! carries a code and a sentence as Stripe's API does, and nothing that was sent is dropped
//! silently (parameter structs carry `deny_unknown_fields`). Bytes become one bounded tree first;
//! `params_form` reads forms, `params_reader` feeds the tree to serde. It leaves the size of the
//! body to the door and the meaning of the values to the operations.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize;

use super::params_failure::Failure;
use super::params_form::tree_from_form;
use super::params_reader::NodeReader;

/// Name/value pairs read from one form or query string. A session with 100 line items of eight
/// fields each fits.
pub const PARAMETER_PAIRS_MAX: usize = 1000;
/// Levels in one form parameter's name. The API's deepest name has seven; more is not a request of
/// ours.
pub const FORM_DEPTH_MAX: usize = 10;
/// Nested lists and objects in one JSON body, the body itself counted. Far below what the parser's
/// own recursion allows.
pub const JSON_DEPTH_MAX: usize = 32;
/// Bytes of one decoded parameter name: the longest path of ours plus a metadata key of 40
/// four-byte characters.
pub const PARAMETER_NAME_BYTES_MAX: usize = 256;
/// Entries in one list or object; also the exclusive bound of an index such as `line_items[999]`.
pub const LIST_ENTRIES_MAX: usize = 1000;

/// Why a parameter was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamCode {
    /// The endpoint has no parameter of this name.
    Unknown,
    /// A required parameter is absent.
    Missing,
    /// An empty value or JSON null for a parameter that cannot be unset.
    InvalidEmpty,
    /// Not a decimal integer, or outside the range of its type.
    InvalidInteger,
    /// Not `true` or `false`.
    InvalidBoolean,
    /// A list, an object or a bare JSON number or boolean where text is wanted.
    InvalidString,
    /// Not a list.
    InvalidArray,
    /// Not an object.
    InvalidObject,
    /// Not one of the allowed values, or refused by the type's own check.
    InvalidValue,
    /// The bytes are not a form, or not a JSON object.
    Malformed,
    /// Nested beyond [`FORM_DEPTH_MAX`] or [`JSON_DEPTH_MAX`].
    TooDeep,
    /// Beyond [`PARAMETER_PAIRS_MAX`] or [`LIST_ENTRIES_MAX`].
    TooMany,
    /// U+0000 in a name or a value; PostgreSQL's text type cannot hold it.
    NulCharacter,
    /// Another control character: any in a name (C0, DEL, C1); in a value any of C0 except tab,
    /// line feed and carriage return.
    ControlCharacter,
}

impl ParamCode {
    /// The `code` of the error body: Stripe's word where Stripe has one, a word of the same pattern
    /// otherwise.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "parameter_unknown",
            Self::Missing => "parameter_missing",
            Self::InvalidEmpty => "parameter_invalid_empty",
            Self::InvalidInteger => "parameter_invalid_integer",
            Self::InvalidBoolean => "parameter_invalid_boolean",
            Self::InvalidString => "parameter_invalid_string",
            Self::InvalidArray => "parameter_invalid_array",
            Self::InvalidObject => "parameter_invalid_object",
            Self::InvalidValue => "parameter_invalid_value",
            Self::Malformed => "parameters_malformed",
            Self::TooDeep => "parameters_too_deep",
            Self::TooMany => "parameters_too_many",
            Self::NulCharacter => "parameter_nul_character",
            Self::ControlCharacter => "parameter_control_character",
        }
    }
}

/// One refused parameter, ready for the `error` object of a 400 answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParamError {
    /// Why.
    pub code: ParamCode,
    /// The parameter's bracket path such as `line_items[0][price_data][currency]`; empty when the
    /// body as a whole is refused.
    pub param: String,
    /// A sentence for the developer who called. It repeats a sent value only for integers and
    /// booleans, at most 40 characters of it, and never one that may be a secret or a card number.
    pub message: String,
}

/// Where the tree came from: form text is coerced to integers and booleans, JSON types are taken as
/// they are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Form,
    Json,
}

/// One decoded value. It has no `Debug`, so that no log line can hold a parameter by accident.
/// Forms produce `Text`, `List` and `Map` only, and keep numeric names as a `Map` until a list is
/// asked for, because `metadata[0]=x` is an object.
#[derive(Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn wipe(&mut self) {
        match self {
            Self::Text(text) => text.zeroize(),
            Self::List(nodes) => nodes.iter_mut().for_each(Self::wipe),
            Self::Map(entries) => entries.iter_mut().for_each(|(_, node)| node.wipe()),
            Self::Null | Self::Bool(_) | Self::Number(_) => {}
        }
    }
}

/// Decodes an `application/x-www-form-urlencoded` body. Brackets may be literal or percent-encoded,
/// an empty body has no parameters, an empty value unsets, a name that repeats takes its last
/// value. Fails with the first refusal.
pub fn decode_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParamError> {
    decode_tree(&tree_from_form(bytes)?, Source::Form)
}

/// Decodes a query string without its `?`, by the rules of [`decode_form`].
pub fn decode_query<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParamError> {
    decode_form(bytes)
}

/// Decodes a JSON object (RFC 8259, UTF-8). Types are strict: `"5"` and `5.0` are not integers and
/// `5` is not text. Null and the empty string unset, a name that repeats takes its last value, an
/// empty body has no parameters. Fails with the first refusal.
pub fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParamError> {
    decode_tree(&tree_from_json(bytes)?, Source::Json)
}

/// As [`decode_json`], and wipes the texts that it made of the body on the way: for bodies that hold card data.
/// The body itself is the caller's to wipe, and so is what it asks for.
pub fn decode_json_and_wipe<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ParamError> {
    let mut tree = tree_from_json(bytes)?;
    let decoded = decode_tree(&tree, Source::Json);
    tree.wipe();
    decoded
}

fn decode_tree<T: DeserializeOwned>(tree: &Node, source: Source) -> Result<T, ParamError> {
    T::deserialize(NodeReader { node: tree, source }).map_err(Failure::into_param_error)
}

/// A parameter of an update: left alone, unset, or given a new value. The field needs
/// `#[serde(default)]`; without it an absent parameter is refused as missing, never taken for
/// [`Patch::Clear`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Not sent: keep what is stored.
    #[default]
    Absent,
    /// Sent empty, or as JSON null: remove what is stored.
    Clear,
    /// Sent with a value.
    Set(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PatchVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for PatchVisitor<T> {
            type Value = Patch<T>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a value, or nothing to unset it")
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Patch<T>, D::Error> {
                Ok(Option::<T>::deserialize(deserializer)?.map_or(Patch::Clear, Patch::Set))
            }
        }
        // Serde answers deserialize_option for an absent field with "none", which would clear what
        // the caller never named.
        deserializer.deserialize_newtype_struct("Patch", PatchVisitor(PhantomData))
    }
}

/// The `metadata` parameter. Use it with `#[serde(default)]` and without `Option`, which would
/// swallow [`MetadataParam::Clear`]. How many entries, how long and which characters are the
/// operation's to check: it knows what is stored already.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MetadataParam {
    /// Not sent.
    #[default]
    Absent,
    /// `metadata=` or JSON null: remove every entry.
    Clear,
    /// The entries sent, in order, each name once; `None` (an empty value or JSON null) removes
    /// that entry.
    Entries(Vec<(String, Option<String>)>),
}

impl<'de> Deserialize<'de> for MetadataParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        struct Entries(Vec<(String, Option<String>)>);
        impl<'de> Deserialize<'de> for Entries {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_map(EntriesVisitor)
            }
        }
        Ok(match Patch::<Entries>::deserialize(deserializer)? {
            Patch::Absent => Self::Absent,
            Patch::Clear => Self::Clear,
            Patch::Set(Entries(entries)) => Self::Entries(entries),
        })
    }
}

/// Parses a JSON body into a tree within the bounds of this module.
pub(super) fn tree_from_json(bytes: &[u8]) -> Result<Node, ParamError> {
    if bytes.is_empty() {
        return Ok(Node::Map(Vec::new()));
    }
    // Before the parser sees a byte, so that a body of brackets costs one pass and no memory.
    if json_depth(bytes) > JSON_DEPTH_MAX {
        return Err(param_error(
            ParamCode::TooDeep,
            &[],
            format!("The JSON body is nested more than {JSON_DEPTH_MAX} levels deep."),
        ));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        // The parser's own text may quote the body; the position is enough to find the fault.
        let (line, column) = (error.line(), error.column());
        param_error(
            ParamCode::Malformed,
            &[],
            format!("The body is not valid JSON: parsing stopped at line {line}, column {column}."),
        )
    })?;
    if !value.is_object() {
        return Err(param_error(ParamCode::Malformed, &[], "The JSON body must be an object.".to_owned()));
    }
    node_from_value(value, &mut Vec::new())
}

/// The deepest nesting of lists and objects, told from the brackets outside of strings. For valid
/// JSON it is exact.
fn json_depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn node_from_value(value: Value, path: &mut Vec<String>) -> Result<Node, ParamError> {
    let entries = match &value {
        Value::Array(entries) => entries.len(),
        Value::Object(entries) => entries.len(),
        _ => 0,
    };
    if entries > LIST_ENTRIES_MAX {
        let message = format!("Too many entries in {}: at most {LIST_ENTRIES_MAX} are allowed.", place(path));
        return Err(param_error(ParamCode::TooMany, path, message));
    }
    Ok(match value {
        Value::Null => Node::Null,
        Value::Bool(flag) => Node::Bool(flag),
        Value::Number(number) => Node::Number(number),
        Value::String(text) => {
            check_value(&text, path)?;
            Node::Text(text)
        }
        Value::Array(values) => {
            let mut nodes = Vec::with_capacity(values.len());
            for (index, value) in values.into_iter().enumerate() {
                path.push(index.to_string());
                nodes.push(node_from_value(value, path)?);
                path.pop();
            }
            Node::List(nodes)
        }
        Value::Object(values) => {
            let mut nodes = Vec::with_capacity(values.len());
            for (name, value) in values {
                check_name(&name)?;
                path.push(name);
                let node = node_from_value(value, path)?;
                nodes.push((path.pop().expect("pushed three lines above"), node));
            }
            Node::Map(nodes)
        }
    })
}

/// Refuses a name that is too long or holds control characters. The name itself is not repeated: it
/// would carry them into logs.
pub(super) fn check_name(name: &str) -> Result<(), ParamError> {
    let (code, message) = if name.len() > PARAMETER_NAME_BYTES_MAX {
        (ParamCode::Malformed, format!("A parameter name is longer than {PARAMETER_NAME_BYTES_MAX} bytes."))
    } else if name.contains('\0') {
        (ParamCode::NulCharacter, "A parameter name contains the NUL character (U+0000).".to_owned())
    } else if name.contains(char::is_control) {
        (ParamCode::ControlCharacter, "A parameter name contains a control character.".to_owned())
    } else {
        return Ok(());
    };
    Err(param_error(code, &[], message))
}

/// Refuses text that holds NUL, or a C0 control character that is not tab, line feed or carriage
/// return.
pub(super) fn check_value(text: &str, path: &[String]) -> Result<(), ParamError> {
    if text.contains('\0') {
        let message = format!("The value of {} contains the NUL character (U+0000).", place(path));
        return Err(param_error(ParamCode::NulCharacter, path, message));
    }
    let control = text.bytes().find(|byte| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r'));
    control.map_or(Ok(()), |byte| {
        let message = format!("The value of {} contains the control character U+{byte:04X}.", place(path));
        Err(param_error(ParamCode::ControlCharacter, path, message))
    })
}

/// Builds an error for the parameter at `path`, outermost name first; an empty path is the whole
/// body.
pub(super) fn param_error(code: ParamCode, path: &[String], message: String) -> ParamError {
    ParamError { code, param: bracket_path(path), message }
}

/// Writes `["line_items", "0", "price"]` as `line_items[0][price]`.
pub(super) fn bracket_path(path: &[String]) -> String {
    let mut written = String::new();
    for (level, name) in path.iter().enumerate() {
        if level == 0 {
            written.push_str(name);
        } else {
            written.extend(["[", name, "]"]);
        }
    }
    written
}

fn place(path: &[String]) -> String {
    if path.is_empty() { "the body".to_owned() } else { bracket_path(path) }
}

#[cfg(test)]
#[path = "params_tests.rs"]
mod tests;
