//! Checks that several resources share: texts, e-mail addresses, metadata, pages, time ranges.
//!
//! The rule: every text has a bound in characters, and what is wrong is named by its parameter.

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use utoipa::{IntoParams, ToSchema};

use super::params::MetadataParam;
use crate::domain::email::parse_email;
use crate::domain::session::Metadata;
use crate::domain::unseen::{Lines, first_unseen};
use crate::error::{Error, Result};
use crate::store::{CreatedFilter, Page};
use crate::wire::Expand;

/// Pairs in one object's metadata, as at Stripe.
const METADATA_PAIRS_MAX: usize = 50;
/// Characters in a metadata key, as at Stripe.
const METADATA_KEY_CHARS_MAX: usize = 40;
/// Characters in a metadata value, as at Stripe.
const METADATA_VALUE_CHARS_MAX: usize = 500;
/// Objects on a page unless asked otherwise, as at Stripe.
const PAGE_DEFAULT: i64 = 10;
/// Objects on a page at most, as at Stripe.
const PAGE_MAX: i64 = 100;
/// Paths in one `expand`, and their depth, as at Stripe.
const EXPAND_PATHS_MAX: usize = 20;
const EXPAND_DEPTH_MAX: usize = 4;
/// The last second of the year 9999. Later ones are typing errors (milliseconds, mostly), and the
/// database's timestamps end not far behind.
const MOMENT_MAX: i64 = 253_402_300_799;

/// A text of at most `chars_max` characters.
pub fn text(param: &str, value: Option<String>, chars_max: usize) -> Result<Option<String>> {
    match value {
        Some(text) if text.chars().count() > chars_max => {
            let message = format!("Invalid string: `{param}` must be at most {chars_max} characters.");
            Err(Error::invalid("parameter_invalid_string", param, message))
        }
        other => Ok(other),
    }
}

/// A text that people read before they pay or sign: nothing in it hides or turns the text round it.
pub fn seen(param: &str, value: &str, lines: Lines) -> Result<()> {
    let Some(one) = first_unseen(value, lines) else { return Ok(()) };
    let message = match one {
        '\n' | '\r' => format!("`{param}` must be one line of text."),
        _ => format!(
            "`{param}` holds the character U+{:04X}, which nobody sees or which turns the text round it. Leave it out.",
            u32::from(one)
        ),
    };
    Err(Error::invalid("parameter_invalid_string", param, message))
}

/// The same for a text that may be missing.
pub fn seen_text(param: &str, value: Option<String>, chars_max: usize) -> Result<Option<String>> {
    let value = text(param, value, chars_max)?;
    if let Some(value) = &value {
        seen(param, value, Lines::Many)?;
    }
    Ok(value)
}

/// An e-mail address.
pub fn email(param: &str, value: Option<String>) -> Result<Option<String>> {
    let Some(value) = value else { return Ok(None) };
    match parse_email(&value) {
        Some(email) => Ok(Some(email)),
        None => Err(Error::invalid("email_invalid", param, format!("Invalid email address in `{param}`."))),
    }
}

/// A moment in Unix seconds.
pub fn moment(param: &str, seconds: i64) -> Result<DateTime<Utc>> {
    let moment = (0..=MOMENT_MAX).contains(&seconds).then(|| DateTime::from_timestamp(seconds, 0)).flatten();
    moment.ok_or_else(|| {
        Error::invalid("parameter_invalid_integer", param, format!("`{param}` must be a Unix timestamp in seconds."))
    })
}

/// Applies the metadata of a request to an object's: given keys are set, empty ones deleted.
pub fn apply_metadata(param: &str, change: MetadataParam, metadata: &mut Metadata) -> Result<()> {
    let entries = match change {
        MetadataParam::Absent => return Ok(()),
        MetadataParam::Clear => {
            metadata.clear();
            return Ok(());
        }
        MetadataParam::Entries(entries) => entries,
    };
    for (key, value) in entries {
        let at = format!("{param}[{key}]");
        if key.is_empty() || key.chars().count() > METADATA_KEY_CHARS_MAX || key.contains(['[', ']']) {
            let message =
                format!("Metadata keys must be 1 to {METADATA_KEY_CHARS_MAX} characters without square brackets.");
            return Err(Error::invalid("parameter_invalid", param, message));
        }
        match value {
            None => {
                metadata.remove(&key);
            }
            Some(value) if value.chars().count() > METADATA_VALUE_CHARS_MAX => {
                let message = format!("Metadata values must be at most {METADATA_VALUE_CHARS_MAX} characters.");
                return Err(Error::invalid("parameter_invalid_string", at, message));
            }
            Some(value) => {
                metadata.insert(key, value);
            }
        }
    }
    if metadata.len() > METADATA_PAIRS_MAX {
        let message = format!("Metadata may hold at most {METADATA_PAIRS_MAX} keys.");
        return Err(Error::invalid("parameter_invalid", param, message));
    }
    Ok(())
}

/// New metadata.
pub fn metadata(param: &str, given: MetadataParam) -> Result<Metadata> {
    let mut metadata = Metadata::new();
    apply_metadata(param, given, &mut metadata)?;
    Ok(metadata)
}

/// The paths to expand.
pub fn expand(paths: Option<Vec<String>>) -> Result<Expand> {
    let paths = paths.unwrap_or_default();
    if paths.len() > EXPAND_PATHS_MAX {
        let message = format!("At most {EXPAND_PATHS_MAX} paths can be expanded at once.");
        return Err(Error::invalid("parameter_invalid", "expand", message));
    }
    for (index, path) in paths.iter().enumerate() {
        let depth = path.strip_prefix("data.").unwrap_or(path).split('.').count();
        if path.is_empty() || depth > EXPAND_DEPTH_MAX {
            let message = format!("Property paths to expand must be at most {EXPAND_DEPTH_MAX} levels deep.");
            return Err(Error::invalid("parameter_invalid", format!("expand[{index}]"), message));
        }
    }
    Ok(Expand::new(paths))
}

/// A page from its three parameters. A cursor that is no id of the kind listed is refused: a list that silently
/// begins anew, or ends, would be taken for the whole.
pub fn page<T>(
    limit: Option<i64>,
    after: Option<String>,
    before: Option<String>,
    parse_id: impl Fn(&str) -> Option<T>,
) -> Result<Page> {
    let limit = limit.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let message = format!("`limit` must be between 1 and {PAGE_MAX}.");
        return Err(Error::invalid("parameter_invalid_integer", "limit", message));
    }
    if after.is_some() && before.is_some() {
        let message = "You may pass only one of `starting_after` and `ending_before`.";
        return Err(Error::invalid("parameters_exclusive", "ending_before", message));
    }
    for (param, cursor) in [("starting_after", &after), ("ending_before", &before)] {
        if cursor.as_deref().is_some_and(|id| parse_id(id).is_none()) {
            let message = format!("`{param}` is not the id of an object in this list.");
            return Err(Error::invalid("resource_missing", param, message));
        }
    }
    Ok(Page { limit, starting_after: after, ending_before: before })
}

/// The parameters that every list takes.
#[derive(Deserialize, IntoParams, ToSchema, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PageParams {
    /// Objects on the page, 1 to 100; 10 unless given.
    pub limit: Option<i64>,
    /// The last id of the page before.
    pub starting_after: Option<String>,
    /// The first id of the page behind.
    pub ending_before: Option<String>,
    /// Paths to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// The parameters that every look-up takes.
#[derive(Deserialize, IntoParams, ToSchema, Debug)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ExpandParams {
    /// Paths to expand.
    #[param(style = DeepObject, explode)]
    pub expand: Option<Vec<String>>,
}

/// Bounds on the creation time: `created=…` or `created[gte]=…`.
#[derive(Debug, Default, ToSchema)]
pub struct CreatedParam {
    /// Exactly this second.
    pub at: Option<i64>,
    /// Later than.
    pub gt: Option<i64>,
    /// Then or later.
    pub gte: Option<i64>,
    /// Earlier than.
    pub lt: Option<i64>,
    /// Then or earlier.
    pub lte: Option<i64>,
}

impl<'de> Deserialize<'de> for CreatedParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bounds;
        impl<'de> Visitor<'de> for Bounds {
            type Value = CreatedParam;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("a Unix timestamp, or an object with gt, gte, lt, lte")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<CreatedParam, E> {
                let at = text.parse().map_err(|_| E::custom("must be a Unix timestamp in seconds"))?;
                Ok(CreatedParam { at: Some(at), ..CreatedParam::default() })
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CreatedParam, A::Error> {
                let mut bounds = CreatedParam::default();
                while let Some(key) = map.next_key::<String>()? {
                    let slot = match key.as_str() {
                        "gt" => &mut bounds.gt,
                        "gte" => &mut bounds.gte,
                        "lt" => &mut bounds.lt,
                        "lte" => &mut bounds.lte,
                        other => {
                            return Err(de::Error::unknown_field(other, &["gt", "gte", "lt", "lte"]));
                        }
                    };
                    *slot = map.next_value()?;
                }
                Ok(bounds)
            }
        }
        deserializer.deserialize_any(Bounds)
    }
}

impl CreatedParam {
    /// The filter that it asks for.
    pub fn filter(&self) -> Result<CreatedFilter> {
        let bound = |value: Option<i64>, name: &str| {
            value.map(|seconds| moment(&format!("created[{name}]"), seconds)).transpose()
        };
        Ok(CreatedFilter {
            gt: bound(self.gt, "gt")?,
            gte: bound(self.gte.or(self.at), "gte")?,
            lt: bound(self.lt, "lt")?,
            lte: bound(self.lte.or(self.at), "lte")?,
        })
    }
}
