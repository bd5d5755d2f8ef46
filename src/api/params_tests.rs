//! Tests of the parameter decoder: tables of what is read and what is refused, and properties over
//! arbitrary bytes and trees. The rule: a table row holds the request as a client sends it and the
//! complete error. The encoders here are the tests' own, so that they share no fault with the code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Params {
    success_url: Option<String>,
    quantity: Option<u32>,
    amount: Option<i64>,
    count: Option<u64>,
    livemode: Option<bool>,
    api_key: Option<i64>,
    mode: Option<Mode>,
    expand: Vec<String>,
    line_items: Vec<LineItem>,
    name: Patch<String>,
    limit: Patch<u32>,
    address: Patch<Address>,
    metadata: MetadataParam,
    labels: BTreeMap<String, String>,
    checked: Option<Even>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Payment,
    Setup,
    Subscription,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LineItem {
    price: Option<String>,
    quantity: Option<u32>,
    price_data: Option<PriceData>,
    tax_rates: Option<Vec<String>>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceData {
    currency: String,
    unit_amount: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    country: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(try_from = "i64")]
struct Even(i64);

impl TryFrom<i64> for Even {
    type Error = &'static str;
    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if number % 2 == 0 { Ok(Self(number)) } else { Err("must be even.") }
    }
}

fn form(text: &str) -> Result<Params, ParamError> {
    decode_form(text.as_bytes())
}

fn json(text: &str) -> Result<Params, ParamError> {
    decode_json(text.as_bytes())
}

fn item(price: &str, quantity: u32) -> LineItem {
    LineItem { price: Some(price.to_owned()), quantity: Some(quantity), ..LineItem::default() }
}

/// Rows of a form body and the JSON body that means the same.
const EQUIVALENT: &str = r#"
 | {}
&& | {}
success_url=https://shop.example/a+b | {"success_url":"https://shop.example/a b"}
success_url=https%3A%2F%2Fshop.example%2fa%20b | {"success_url":"https://shop.example/a b"}
success_url=a=b | {"success_url":"a=b"}
success_url=a%2Bb%26 | {"success_url":"a+b&"}
success_url=a%0D%0Ab%09 | {"success_url":"a\r\nb\t"}
success_url=%C3%BC | {"success_url":"ü"}
success_url=a&success_url=b | {"success_url":"b"}
success_url=&quantity=&livemode=&mode | {"success_url":null,"quantity":null,"livemode":null,"mode":null}
success_url= | {"success_url":""}
quantity=08 | {"quantity":8}
amount=1&amount=2 | {"amount":1,"amount":2}
amount=-9223372036854775808 | {"amount":-9223372036854775808}
count=9223372036854775807 | {"count":9223372036854775807}
livemode=true | {"livemode":true}
livemode=false | {"livemode":false}
mode=subscription | {"mode":"subscription"}
checked=4 | {"checked":4}
expand[]=a&expand[]=b | {"expand":["a","b"]}
expand%5B%5D=a&expand%5b%5d=b | {"expand":["a","b"]}
expand[1]=b&expand[0]=a | {"expand":["a","b"]}
expand[10]=c&expand[999]=d&expand[9]=b | {"expand":["b","c","d"]}
line_items[0][price]=p&line_items[1][price]=q&line_items[0][quantity]=2 | {"line_items":[{"price":"p","quantity":2},{"price":"q"}]}
line_items[][price]=p&line_items[][quantity]=2&line_items[][price]=q | {"line_items":[{"price":"p","quantity":2},{"price":"q"}]}
line_items[][tax_rates][]=a&line_items[][tax_rates][]=b | {"line_items":[{"tax_rates":["a","b"]}]}
line_items[][price_data][currency]=eur&line_items[][price_data][unit_amount]=5 | {"line_items":[{"price_data":{"currency":"eur","unit_amount":5}}]}
name= | {"name":null}
name= | {"name":""}
name=x&limit=5 | {"name":"x","limit":5}
address= | {"address":null}
address[country]=DE | {"address":{"country":"DE"}}
metadata= | {"metadata":null}
metadata= | {"metadata":""}
metadata[0]=x&metadata[order id]=&metadata[a.b]=7 | {"metadata":{"0":"x","order id":null,"a.b":"7"}}
labels[0]=x | {"labels":{"0":"x"}}
"#;

/// Rows of a form body, the error's code, its param and its message.
const REFUSED_FORMS: &str = "
foo=1 | parameter_unknown | foo | Received unknown parameter: foo
sucess_url=x | parameter_unknown | sucess_url | Received unknown parameter: sucess_url. Did you mean success_url?
line_items[1][qauntity]=1 | parameter_unknown | line_items[1][qauntity] | Received unknown parameter: line_items[1][qauntity]. Did you mean line_items[1][quantity]?
line_items[7][price_data][unit_amount]=1 | parameter_missing | line_items[7][price_data][currency] | Missing required param: line_items[7][price_data][currency].
address[country]= | parameter_invalid_empty | address[country] | You passed an empty string for 'address[country]'. We assume empty values are an attempt to unset a parameter; however 'address[country]' cannot be unset. You should remove 'address[country]' from your request or supply a non-empty value.
quantity=abc | parameter_invalid_integer | quantity | Invalid integer: abc
quantity=1.0 | parameter_invalid_integer | quantity | Invalid integer: 1.0
quantity=%2B1 | parameter_invalid_integer | quantity | Invalid integer: +1
quantity=- | parameter_invalid_integer | quantity | Invalid integer: -
quantity=٣ | parameter_invalid_integer | quantity | Invalid integer: ٣
quantity=-1 | parameter_invalid_integer | quantity | Invalid integer: -1. It must be from 0 to 4294967295.
amount=9223372036854775808 | parameter_invalid_integer | amount | Invalid integer.
amount=4242+4242+4242+424x | parameter_invalid_integer | amount | Invalid integer.
api_key=sk_x | parameter_invalid_integer | api_key | Invalid integer.
quantity[a]=1 | parameter_invalid_integer | quantity | Invalid integer. Expected an integer, not an object.
livemode=True | parameter_invalid_boolean | livemode | Invalid boolean: True
livemode=1 | parameter_invalid_boolean | livemode | Invalid boolean: 1
success_url[]=1 | parameter_invalid_string | success_url | Invalid string: success_url must be a string, not a list.
expand=a | parameter_invalid_array | expand | Invalid array: expand must be a list, not a string.
expand[a]=a | parameter_invalid_array | expand | Invalid array: expand must be a list, not an object.
expand[01]=a | parameter_invalid_array | expand | Invalid array: expand must be a list, not an object.
expand[1000]=a | parameters_too_many | expand[1000] | Invalid index: expand[1000]. Lists are numbered from 0 to 999.
expand[99999999999999999999]=a | parameters_too_many | expand[99999999999999999999] | Invalid index: expand[99999999999999999999]. Lists are numbered from 0 to 999.
metadata=x | parameter_invalid_object | metadata | Invalid object: metadata must be an object, not a string.
metadata[]=x | parameter_invalid_object | metadata | Invalid object: metadata must be an object, not a list.
metadata[a][b]=x | parameter_invalid_string | metadata[a] | Invalid string: metadata[a] must be a string, not an object.
mode=pay | parameter_invalid_value | mode | Invalid mode: must be one of payment, setup, or subscription
checked=3 | parameter_invalid_value | checked | Invalid checked: must be even.
success_url=%00 | parameter_nul_character | success_url | The value of success_url contains the NUL character (U+0000).
a%00=x | parameter_nul_character |  | A parameter name contains the NUL character (U+0000).
metadata[a]=%1b | parameter_control_character | metadata[a] | The value of metadata[a] contains the control character U+001B.
a%7F=x | parameter_control_character |  | A parameter name contains a control character.
metadata[a%0A]=x | parameter_control_character |  | A parameter name contains a control character.
expand[]=%FF | parameters_malformed | expand[] | The value of expand[] is not valid UTF-8.
%C3=x | parameters_malformed |  | A parameter name is not valid UTF-8.
name=100% | parameters_malformed | name | The value of name has a % that is not followed by two hexadecimal digits.
name=x&name[a]=y | parameters_malformed | name[a] | name[a] is used in more than one way: as a value, an object or a list.
expand[]=x&expand[0]=y | parameters_malformed | expand[0] | expand[0] is used in more than one way: as a value, an object or a list.
a[1][2][3][4][5][6][7][8][9][10]=x | parameters_too_deep | a | A parameter name is nested more than 10 levels deep.
";

/// Rows of a JSON body, the error's code, its param and its message.
const REFUSED_JSON: &str = r#"
{"foo":1} | parameter_unknown | foo | Received unknown parameter: foo
{"quantity":"5"} | parameter_invalid_integer | quantity | Invalid integer: 5. A JSON body gives integers without quotes.
{"quantity":1.0} | parameter_invalid_integer | quantity | Invalid integer: 1.0
{"amount":9223372036854775808} | parameter_invalid_integer | amount | Invalid integer.
{"livemode":"true"} | parameter_invalid_boolean | livemode | Invalid boolean: true. A JSON body gives true and false without quotes.
{"livemode":1} | parameter_invalid_boolean | livemode | Invalid boolean: 1. Expected true or false, not a number.
{"success_url":5} | parameter_invalid_string | success_url | Invalid string: success_url must be a string, not a number.
{"metadata":{"a":5}} | parameter_invalid_string | metadata[a] | Invalid string: metadata[a] must be a string, not a number.
{"metadata":{"a":true}} | parameter_invalid_string | metadata[a] | Invalid string: metadata[a] must be a string, not a boolean.
{"mode":5} | parameter_invalid_value | mode | Invalid mode: must be one of payment, setup, or subscription
{"expand":{"0":"a"}} | parameter_invalid_array | expand | Invalid array: expand must be a list, not an object.
{"line_items":[{},{"price_data":{"currency":"eur"}}]} | parameter_missing | line_items[1][price_data][unit_amount] | Missing required param: line_items[1][price_data][unit_amount].
{"address":{"country":null}} | parameter_invalid_empty | address[country] | You passed null for 'address[country]', but 'address[country]' cannot be unset. You should remove 'address[country]' from your request or supply a value.
{"line_items":[{"price":"\u0000"}]} | parameter_nul_character | line_items[0][price] | The value of line_items[0][price] contains the NUL character (U+0000).
{"a\u0007":1} | parameter_control_character |  | A parameter name contains a control character.
[] | parameters_malformed |  | The JSON body must be an object.
null | parameters_malformed |  | The JSON body must be an object.
{"a":1}} | parameters_malformed |  | The body is not valid JSON: parsing stopped at line 1, column 8.
{"name":"\ud800"} | parameters_malformed |  | The body is not valid JSON: parsing stopped at line 1, column 16.
"#;

fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = table.lines().filter(|line| !line.is_empty());
    lines.map(|line| line.split(" | ").map(str::trim).collect())
}

#[test]
fn forms_and_json_of_the_same_meaning_read_the_same() {
    for row in rows(EQUIVALENT) {
        let [body, same] = row[..] else { panic!("two cells: {row:?}") };
        let read = form(body);
        assert!(read.is_ok(), "{body}: {read:?}");
        assert_eq!(read, json(same), "{body}");
        assert_eq!(read, decode_query(body.as_bytes()), "{body}");
    }
    assert_eq!(json(""), Ok(Params::default()));
}

#[test]
fn each_value_arrives_where_it_belongs() {
    let entries = [("a", Some("x")), ("b", None)];
    let entries = entries.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    let expected = Params {
        success_url: Some("u".to_owned()),
        quantity: Some(1),
        amount: Some(-2),
        livemode: Some(true),
        mode: Some(Mode::Setup),
        expand: vec!["a".to_owned(), "b".to_owned()],
        line_items: vec![item("p", 3)],
        name: Patch::Clear,
        limit: Patch::Set(4),
        metadata: MetadataParam::Entries(entries.to_vec()),
        checked: Some(Even(6)),
        ..Params::default()
    };
    let body = "success_url=u&quantity=1&amount=-2&livemode=true&mode=setup&expand[]=a&expand[]=b\
        &line_items[0][price]=p&line_items[0][quantity]=3&name=&limit=4&metadata[a]=x&metadata[b]=&checked=6";
    assert_eq!(form(body), Ok(expected));
    assert_eq!(form("metadata=").map(|read| read.metadata), Ok(MetadataParam::Clear));
    assert_eq!(form("").map(|read| read.metadata), Ok(MetadataParam::Absent));
}

#[test]
fn refusals_say_which_parameter_and_why() {
    let forms = rows(REFUSED_FORMS).map(|row| (form(row[0]), row));
    for (read, row) in forms.chain(rows(REFUSED_JSON).map(|row| (json(row[0]), row))) {
        let error = read.expect_err(row[0]);
        assert_eq!([error.code.as_str(), &error.param, &error.message], row[1..], "{}", row[0]);
    }
    let error = decode_json::<Params>(b"{\"name\":\"\xff\"}").expect_err("invalid UTF-8");
    assert_eq!(error.code, ParamCode::Malformed);
}

#[test]
fn names_with_unbalanced_or_unclear_brackets_are_refused() {
    for name in ["", "[a]", "a]", "a[", "a[b", "a[b]c", "a[b]]", "a[[b]]", "a[][]", "a[b[c]]"] {
        let error = form(&format!("{name}=x")).expect_err(name);
        assert_eq!((error.code, error.param.as_str()), (ParamCode::Malformed, ""), "{name}");
    }
}

#[test]
fn every_bound_holds_at_its_edge() {
    type Anything = BTreeMap<String, serde::de::IgnoredAny>;
    let code_of_form = |body: &str| decode_form::<Anything>(body.as_bytes()).map(|read| read.len()).map_err(|e| e.code);
    let code_of_json = |body: &str| decode_json::<Anything>(body.as_bytes()).map(|read| read.len()).map_err(|e| e.code);

    let pairs = |count: usize| (0..count).map(|index| format!("k{index}=v")).collect::<Vec<_>>().join("&");
    assert_eq!(code_of_form(&pairs(PARAMETER_PAIRS_MAX)), Ok(PARAMETER_PAIRS_MAX));
    assert_eq!(code_of_form(&pairs(PARAMETER_PAIRS_MAX + 1)), Err(ParamCode::TooMany));

    let deep_name = |levels: usize| format!("a{}=x", "[b]".repeat(levels - 1));
    assert_eq!(code_of_form(&deep_name(FORM_DEPTH_MAX)), Ok(1));
    assert_eq!(code_of_form(&deep_name(FORM_DEPTH_MAX + 1)), Err(ParamCode::TooDeep));

    let long_name = |bytes: usize| "k".repeat(bytes);
    assert_eq!(code_of_form(&long_name(PARAMETER_NAME_BYTES_MAX)), Ok(1));
    assert_eq!(code_of_form(&long_name(PARAMETER_NAME_BYTES_MAX + 1)), Err(ParamCode::Malformed));
    assert_eq!(
        code_of_json(&format!("{{\"{}\":1}}", long_name(PARAMETER_NAME_BYTES_MAX + 1))),
        Err(ParamCode::Malformed)
    );

    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(code_of_json(&nested(JSON_DEPTH_MAX)), Ok(1));
    assert_eq!(code_of_json(&nested(JSON_DEPTH_MAX + 1)), Err(ParamCode::TooDeep));
    assert_eq!(code_of_json(&"[".repeat(100_000)), Err(ParamCode::TooDeep));
    assert_eq!(code_of_json(&format!(r#"{{"a":"\"{}"}}"#, "[".repeat(50))), Ok(1), "brackets in text are text");

    let list = |entries: usize| format!("{{\"a\":[{}]}}", vec!["1"; entries].join(","));
    assert_eq!(code_of_json(&list(LIST_ENTRIES_MAX)), Ok(1));
    assert_eq!(code_of_json(&list(LIST_ENTRIES_MAX + 1)), Err(ParamCode::TooMany));
}

#[test]
fn values_repeated_in_messages_are_short() {
    let error = form(&format!("quantity={}", "x".repeat(5000))).expect_err("not an integer");
    assert_eq!(error.message, format!("Invalid integer: {}…", "x".repeat(40)));
}

#[test]
fn a_patch_without_serde_default_is_missing_when_absent_not_cleared() {
    #[derive(Debug, Deserialize)]
    struct Forgotten {
        #[serde(rename = "name")]
        _name: Patch<String>,
    }
    let error = decode_form::<Forgotten>(b"").expect_err("absent");
    assert_eq!((error.code, error.param.as_str()), (ParamCode::Missing, "name"));
}

/// Writes a tree as a form, the way client libraries do: lists with indexes.
fn encode_form(prefix: &str, node: &Node, encoded: &mut String) {
    let under = |name: &str| {
        if prefix.is_empty() { name.to_owned() } else { format!("{prefix}[{name}]") }
    };
    match node {
        Node::Map(entries) => entries.iter().for_each(|(name, node)| encode_form(&under(name), node, encoded)),
        Node::List(nodes) => {
            nodes.iter().enumerate().for_each(|(index, node)| encode_form(&under(&index.to_string()), node, encoded));
        }
        Node::Text(text) => {
            for byte in format!("{prefix}={text}").replacen('=', "\u{1}", 1).bytes() {
                match byte {
                    1 => encoded.push('='),
                    b' ' => encoded.push('+'),
                    b'a'..=b'z' | b'0'..=b'9' | b'_' => encoded.push(char::from(byte)),
                    _ => write!(encoded, "%{byte:02X}").expect("writing to a string"),
                }
            }
            encoded.push('&');
        }
        Node::Null | Node::Bool(_) | Node::Number(_) => unreachable!("form trees hold text"),
    }
}

/// The tree a form yields: lists are objects with numeric names until a list is asked for.
fn as_read_from_form(node: &Node) -> Node {
    match node {
        Node::List(nodes) => Node::Map(
            nodes.iter().enumerate().map(|(index, node)| (index.to_string(), as_read_from_form(node))).collect(),
        ),
        Node::Map(entries) => {
            Node::Map(entries.iter().map(|(name, node)| (name.clone(), as_read_from_form(node))).collect())
        }
        other => other.clone(),
    }
}

fn as_json(node: &Node) -> Value {
    match node {
        Node::Null => Value::Null,
        Node::Bool(flag) => Value::Bool(*flag),
        Node::Number(number) => Value::Number(number.clone()),
        Node::Text(text) => Value::String(text.clone()),
        Node::List(nodes) => Value::Array(nodes.iter().map(as_json).collect()),
        Node::Map(entries) => Value::Object(entries.iter().map(|(name, node)| (name.clone(), as_json(node))).collect()),
    }
}

fn names() -> impl Strategy<Value = String> {
    "[a-zé&=%+ .][a-z0-9_é&%+ .]{0,8}".prop_filter("the encoder splits at the first =", |name| !name.contains('='))
}

fn trees(leaves: BoxedStrategy<String>) -> impl Strategy<Value = NodeCase> {
    let leaf = leaves.prop_map(|text| NodeCase(Node::Text(text)));
    let inner = leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..5)
                .prop_map(|nodes| NodeCase(Node::List(nodes.into_iter().map(|case| case.0).collect()))),
            prop::collection::btree_map(names(), inner, 1..5).prop_map(NodeCase::object),
        ]
    });
    prop::collection::btree_map(names(), inner, 0..5).prop_map(NodeCase::object)
}

/// A tree that proptest can print; the tree itself must not be printable.
#[derive(Clone)]
struct NodeCase(Node);

impl NodeCase {
    fn object(entries: BTreeMap<String, Self>) -> Self {
        Self(Node::Map(entries.into_iter().map(|(name, case)| (name, case.0)).collect()))
    }
}

impl fmt::Debug for NodeCase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", as_json(&self.0))
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode_form::<Params>(&bytes);
        let _ = decode_json::<Params>(&bytes);
    }

    #[test]
    fn almost_valid_requests_never_panic_and_errors_stay_short(
        form in "((line_items|expand|metadata|address|quantity|mode)(\\[[0-9a-z\\[]{0,3}\\]?){0,4}(=[a-z0-9%]{0,3})?&?){0,8}",
        json in "[{}\\[\\]\",:0-9a\\\\u. ]{0,60}",
    ) {
        for error in [decode_form::<Params>(form.as_bytes()).err(), decode_json::<Params>(json.as_bytes()).err()] {
            let Some(error) = error else { continue };
            prop_assert!(error.message.len() < 1000 && !error.message.contains(char::is_control));
        }
    }

    #[test]
    fn a_form_reads_back_as_it_was_written(tree in trees("[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]{0,12}".boxed())) {
        let mut encoded = String::new();
        encode_form("", &tree.0, &mut encoded);
        let read = tree_from_form(encoded.as_bytes()).expect("within every bound");
        prop_assert!(read == as_read_from_form(&tree.0), "{encoded}");
    }

    #[test]
    fn json_reads_back_as_it_was_written(tree in trees("[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]{0,12}".boxed())) {
        let encoded = as_json(&tree.0).to_string();
        let read = tree_from_json(encoded.as_bytes()).expect("within every bound");
        prop_assert!(read == tree.0, "{encoded}");
    }

    #[test]
    fn every_way_to_write_a_list_of_objects_reads_the_same(
        wanted in prop::collection::vec(("[a-z]{1,5}", 0_u32..), 1..9),
    ) {
        let rows = || wanted.iter().enumerate();
        let indexed: String = rows().map(|(i, (p, q))| format!("line_items[{i}][price]={p}&line_items[{i}][quantity]={q}&")).collect();
        let reversed: String =
            rows().rev().map(|(i, (p, q))| format!("line_items[{i}][quantity]={q}&line_items[{i}][price]={p}&")).collect();
        let unnamed: String = rows().map(|(_, (p, q))| format!("line_items[][price]={p}&line_items[][quantity]={q}&")).collect();
        let items: Vec<_> = wanted.iter().map(|(p, q)| serde_json::json!({"price": p, "quantity": q})).collect();
        let expected = Params { line_items: wanted.iter().map(|(p, q)| item(p, *q)).collect(), ..Params::default() };
        for body in [indexed, reversed, unnamed] {
            let read = form(&body);
            prop_assert_eq!(read.as_ref(), Ok(&expected));
        }
        let read = json(&serde_json::json!({ "line_items": items }).to_string());
        prop_assert_eq!(read, Ok(expected));
    }
}
