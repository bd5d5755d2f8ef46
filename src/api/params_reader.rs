//! Feeds the parameter tree to serde.
//! The rule it keeps: form text becomes an integer or a boolean where the struct asks for one, JSON
//! types are taken as they are, and an empty value unsets what can be unset.
//! Flattened structs and untagged or internally tagged enums lose the path and see form text
//! uncoerced; parameter structs avoid them. Wording is left to `params_failure`.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::params::{LIST_ENTRIES_MAX, Node, Source};
use super::params_failure::{Failure, Fault, shorten};

/// Reads one node of the tree as whatever type serde asks for.
#[derive(Clone, Copy)]
pub(super) struct NodeReader<'a> {
    pub(super) node: &'a Node,
    pub(super) source: Source,
}

impl<'a> NodeReader<'a> {
    fn child(self, node: &'a Node) -> Self {
        Self { node, source: self.source }
    }

    /// An empty value unsets; a type that gets here cannot be unset.
    fn refuse_empty(self) -> Result<(), Failure> {
        match self.node {
            Node::Null => Err(Failure::new(Fault::Null)),
            Node::Text(text) if text.is_empty() => Err(Failure::new(Fault::Empty)),
            _ => Ok(()),
        }
    }

    fn found(self) -> &'static str {
        match self.node {
            Node::Null => "null",
            Node::Bool(_) => "a boolean",
            Node::Number(_) => "a number",
            Node::Text(_) => "a string",
            Node::List(_) => "a list",
            Node::Map(_) => "an object",
        }
    }

    /// The value as a message may show it.
    fn given(self) -> Option<String> {
        match self.node {
            Node::Text(text) => Some(shorten(text)),
            Node::Number(number) => Some(shorten(&number.to_string())),
            Node::Bool(flag) => Some(flag.to_string()),
            Node::Null | Node::List(_) | Node::Map(_) => None,
        }
    }

    fn integer(self) -> Result<i64, Failure> {
        self.refuse_empty()?;
        let (integer, hint) = match (self.node, self.source) {
            (Node::Text(text), Source::Form) => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                // The standard parser would take a leading plus as well.
                (decimal.then(|| text.parse().ok()).flatten(), None)
            }
            (Node::Text(_), Source::Json) => (None, Some("A JSON body gives integers without quotes.".to_owned())),
            (Node::Number(number), _) => (number.as_i64(), None),
            _ => (None, Some(format!("Expected an integer, not {}.", self.found()))),
        };
        integer.ok_or_else(|| Failure::new(Fault::Integer { given: self.given(), hint }))
    }

    fn integer_within<I: TryFrom<i64>>(
        self,
        lowest: impl fmt::Display,
        highest: impl fmt::Display,
    ) -> Result<I, Failure> {
        I::try_from(self.integer()?).map_err(|_| {
            let hint = Some(format!("It must be from {lowest} to {highest}."));
            Failure::new(Fault::Integer { given: self.given(), hint })
        })
    }

    fn boolean(self) -> Result<bool, Failure> {
        self.refuse_empty()?;
        let hint = match (self.node, self.source) {
            (Node::Bool(flag), _) => return Ok(*flag),
            (Node::Text(text), Source::Form) if text == "true" => return Ok(true),
            (Node::Text(text), Source::Form) if text == "false" => return Ok(false),
            (Node::Text(_), Source::Form) => None,
            (Node::Text(_), Source::Json) => Some("A JSON body gives true and false without quotes.".to_owned()),
            _ => Some(format!("Expected true or false, not {}.", self.found())),
        };
        Err(Failure::new(Fault::Boolean { given: self.given(), hint }))
    }

    fn text(self) -> Result<&'a str, Failure> {
        self.refuse_empty()?;
        match self.node {
            Node::Text(text) => Ok(text),
            _ => Err(Failure::new(Fault::Text { found: self.found() })),
        }
    }

    fn entries(self) -> Result<&'a [(String, Node)], Failure> {
        self.refuse_empty()?;
        match self.node {
            Node::Map(entries) => Ok(entries),
            _ => Err(Failure::new(Fault::Object { found: self.found() })),
        }
    }

    /// The entries of a list with the index each was sent under.
    fn list(self) -> Result<Vec<(usize, &'a Node)>, Failure> {
        self.refuse_empty()?;
        let not_a_list = || Failure::new(Fault::Array { found: self.found() });
        match (self.node, self.source) {
            (Node::List(nodes), _) => Ok(nodes.iter().enumerate().collect()),
            (Node::Map(entries), Source::Form) => {
                let mut list = Vec::with_capacity(entries.len());
                for (name, node) in entries {
                    // Only the shortest spelling: 1 and 01 would be one entry under two names.
                    let numeric =
                        name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
                    if !numeric {
                        return Err(not_a_list());
                    }
                    let index = name.parse().ok().filter(|index| *index < LIST_ENTRIES_MAX);
                    list.push((index.ok_or_else(|| Failure::at(Fault::IndexTooHigh, name))?, node));
                }
                list.sort_by_key(|(index, _)| *index);
                Ok(list)
            }
            _ => Err(not_a_list()),
        }
    }

    fn visit_list<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_seq(ListReader { entries: self.list()?.into_iter(), reader: self })
    }

    fn visit_entries<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_map(MapReader { entries: self.entries()?.iter(), pending: None, reader: self })
    }
}

macro_rules! read_integers {
    ($($method:ident $visit:ident $integer:ty,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            visitor.$visit(self.integer_within::<$integer>(<$integer>::MIN, <$integer>::MAX)?)
        })*
    };
}

impl<'de> Deserializer<'de> for NodeReader<'_> {
    type Error = Failure;

    read_integers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        // PostgreSQL's bigint is signed, so its upper half is out of reach for unsigned types too.
        visitor.visit_u64(self.integer_within::<u64>(0, i64::MAX)?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_bool(self.boolean()?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.refuse_empty() {
            Err(_) => visitor.visit_none(),
            Ok(()) => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.visit_list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.visit_list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.visit_entries(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.visit_entries(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        allowed: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.refuse_empty()?;
        match self.node {
            Node::Text(text) => visitor.visit_enum(VariantName(text)),
            _ => Err(Failure::new(Fault::Choice { allowed })),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node {
            Node::Null => visitor.visit_unit(),
            Node::Bool(flag) => visitor.visit_bool(*flag),
            // Fractions never leave the tree: no parameter is one, and money must not pass through
            // them.
            Node::Number(_) => visitor.visit_i64(self.integer()?),
            Node::Text(text) => visitor.visit_str(text),
            Node::List(_) => self.visit_list(visitor),
            Node::Map(_) => self.visit_entries(visitor),
        }
    }

    forward_to_deserialize_any! { i128 u128 f32 f64 bytes byte_buf unit unit_struct tuple_struct identifier }
}

struct ListReader<'a> {
    entries: std::vec::IntoIter<(usize, &'a Node)>,
    reader: NodeReader<'a>,
}

impl<'de> SeqAccess<'de> for ListReader<'_> {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((index, node)) = self.entries.next() else {
            return Ok(None);
        };
        seed.deserialize(self.reader.child(node)).map(Some).map_err(|failure| failure.under(index))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len())
    }
}

struct MapReader<'a> {
    entries: std::slice::Iter<'a, (String, Node)>,
    pending: Option<&'a (String, Node)>,
    reader: NodeReader<'a>,
}

impl<'de> MapAccess<'de> for MapReader<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.pending = self.entries.next();
        let Some((name, _)) = self.pending else {
            return Ok(None);
        };
        let key: StrDeserializer<'_, Failure> = name.as_str().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        let (name, node) = self.pending.take().expect("serde asks for a value after its key");
        seed.deserialize(self.reader.child(node)).map_err(|failure| failure.under(name))
    }
}

/// An enum is the name of a variant without content.
struct VariantName<'a>(&'a str);

impl<'de> EnumAccess<'de> for VariantName<'_> {
    type Error = Failure;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failure> {
        let name: StrDeserializer<'_, Failure> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for VariantName<'_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, _: S) -> Result<S::Value, Failure> {
        Err(Failure::new(Fault::Object { found: "a string" }))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Failure> {
        Err(Failure::new(Fault::Object { found: "a string" }))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Failure> {
        Err(Failure::new(Fault::Object { found: "a string" }))
    }
}
