//! Reads `application/x-www-form-urlencoded` bytes with bracketed names into the parameter tree.
//! The rule it keeps: nothing is guessed. Broken percent-encoding, invalid UTF-8, unbalanced
//! brackets and a name used both as a value and as an object are refused; work and memory are
//! bounded by the constants in `params` before anything is allocated. Numeric names stay names
//! here; `params_reader` turns them into a list where a list is wanted.

use super::params::{
    FORM_DEPTH_MAX, Node, PARAMETER_PAIRS_MAX, ParamCode, ParamError, bracket_path, check_name, check_value,
    param_error,
};

/// One step of a bracketed name: `[name]`, or `[]` for the next entry of a list.
enum Step {
    Name(String),
    Append,
}

/// Parses a form body or a query string; empty bytes are an empty object.
pub(super) fn tree_from_form(bytes: &[u8]) -> Result<Node, ParamError> {
    let pairs = || bytes.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    if pairs().count() > PARAMETER_PAIRS_MAX {
        let message = format!("Too many parameters: at most {PARAMETER_PAIRS_MAX} are read from one request.");
        return Err(param_error(ParamCode::TooMany, &[], message));
    }
    let mut entries = Vec::new();
    for pair in pairs() {
        let (name_bytes, value_bytes) = match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &[][..]),
        };
        let name = decode_component(name_bytes)
            .map_err(|fault| param_error(ParamCode::Malformed, &[], format!("A parameter name {fault}.")))?;
        check_name(&name)?;
        let (root, steps) = parse_name(&name)?;
        let mut path = vec![root];
        path.extend(steps.iter().map(|step| match step {
            Step::Name(name) => name.clone(),
            Step::Append => String::new(),
        }));
        let value = decode_component(value_bytes).map_err(|fault| {
            let message = format!("The value of {} {fault}.", bracket_path(&path));
            param_error(ParamCode::Malformed, &path, message)
        })?;
        check_value(&value, &path)?;
        insert(slot(&mut entries, &path[0]), &steps, value).map_err(|Conflict| {
            let message =
                format!("{} is used in more than one way: as a value, an object or a list.", bracket_path(&path));
            param_error(ParamCode::Malformed, &path, message)
        })?;
    }
    Ok(Node::Map(entries.into_iter().map(|(name, slot)| (name, slot.into_node())).collect()))
}

/// Percent-decodes once and turns `+` into a space. The error is the end of a sentence.
fn decode_component(bytes: &[u8]) -> Result<String, &'static str> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        decoded.push(match first {
            b'+' => b' ',
            b'%' => {
                let digits = match tail {
                    [high, low, ..] => hex_digit(*high).zip(hex_digit(*low)),
                    _ => None,
                };
                let (high, low) = digits.ok_or("has a % that is not followed by two hexadecimal digits")?;
                rest = &tail[2..];
                high << 4 | low
            }
            other => *other,
        });
    }
    String::from_utf8(decoded).map_err(|_| "is not valid UTF-8")
}

fn hex_digit(byte: u8) -> Option<u8> {
    // to_digit(16) is at most 15, so the narrowing keeps the value.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Splits `a[b][]` into its root `a` and its steps.
fn parse_name(name: &str) -> Result<(String, Vec<Step>), ParamError> {
    let malformed = || {
        let message = "A parameter name must look like name, name[key], name[0] or name[].".to_owned();
        param_error(ParamCode::Malformed, &[], message)
    };
    let root_end = name.find('[').unwrap_or(name.len());
    let (root, mut rest) = name.split_at(root_end);
    if root.is_empty() || root.contains(']') {
        return Err(malformed());
    }
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let (key, tail) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')).ok_or_else(malformed)?;
        // `[][]` would not say which list an entry belongs to.
        let unclear = key.is_empty() && matches!(steps.last(), Some(Step::Append));
        if key.contains('[') || unclear {
            return Err(malformed());
        }
        if steps.len() + 2 > FORM_DEPTH_MAX {
            let message = format!("A parameter name is nested more than {FORM_DEPTH_MAX} levels deep.");
            return Err(param_error(ParamCode::TooDeep, &[root.to_owned()], message));
        }
        steps.push(if key.is_empty() { Step::Append } else { Step::Name(key.to_owned()) });
        rest = tail;
    }
    Ok((root.to_owned(), steps))
}

/// A place in the growing tree.
enum Slot {
    Vacant,
    Text(String),
    List(Vec<Slot>),
    Map(Vec<(String, Slot)>),
}

impl Slot {
    fn into_node(self) -> Node {
        match self {
            Self::Vacant => Node::Null,
            Self::Text(text) => Node::Text(text),
            Self::List(entries) => Node::List(entries.into_iter().map(Self::into_node).collect()),
            Self::Map(entries) => Node::Map(entries.into_iter().map(|(name, slot)| (name, slot.into_node())).collect()),
        }
    }

    /// Whether `steps` leads to something already, so that an entry of `name[]` that repeats it is
    /// the next entry.
    fn holds(&self, steps: &[Step]) -> bool {
        match (steps, self) {
            ([], _) => true,
            // A list inside the entry can always take one more.
            ([Step::Append, ..], _) => false,
            ([Step::Name(name), rest @ ..], Self::Map(entries)) => {
                entries.iter().any(|(entry, slot)| entry == name && slot.holds(rest))
            }
            _ => false,
        }
    }
}

/// One name was used in two ways that exclude each other.
struct Conflict;

fn slot<'a>(entries: &'a mut Vec<(String, Slot)>, name: &str) -> &'a mut Slot {
    // A linear search: PARAMETER_PAIRS_MAX bounds it, and requests have a dozen names at a level.
    let position = entries.iter().position(|(entry, _)| entry == name).unwrap_or_else(|| {
        entries.push((name.to_owned(), Slot::Vacant));
        entries.len() - 1
    });
    &mut entries[position].1
}

fn insert(place: &mut Slot, steps: &[Step], value: String) -> Result<(), Conflict> {
    let Some((step, rest)) = steps.split_first() else {
        return match place {
            Slot::Vacant | Slot::Text(_) => {
                *place = Slot::Text(value);
                Ok(())
            }
            Slot::List(_) | Slot::Map(_) => Err(Conflict),
        };
    };
    if let Slot::Vacant = place {
        *place = match step {
            Step::Append => Slot::List(Vec::new()),
            Step::Name(_) => Slot::Map(Vec::new()),
        };
    }
    match (step, place) {
        (Step::Name(name), Slot::Map(entries)) => insert(slot(entries, name), rest, value),
        (Step::Append, Slot::List(entries)) => {
            let open = !rest.is_empty() && entries.last().is_some_and(|last| !last.holds(rest));
            if !open {
                entries.push(Slot::Vacant);
            }
            insert(entries.last_mut().expect("an entry was open or pushed just now"), rest, value)
        }
        _ => Err(Conflict),
    }
}
