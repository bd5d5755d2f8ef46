//! Headers that a merchant wants on the deliveries of an endpoint, for a gateway or a firewall of his own.
//! He may add, never replace: names that the sender, HTTP itself or the network's own machines give a
//! meaning to are refused, so that no delivery can be made to say something else than it does. Values
//! are taken for secrets, because an `Authorization` is one.

/// Headers of one endpoint. A gateway wants one or two.
pub const HEADERS_MAX: usize = 10;

/// Characters in a name.
pub const NAME_CHARS_MAX: usize = 64;

/// Bytes in a value: room for a signed token, and all ten of them fit into what servers take as a head.
pub const VALUE_BYTES_MAX: usize = 512;

/// Names in lower case that are refused, beside the families below.
const NAMES_REFUSED: [&str; 46] = [
    // The sender's own.
    "accept-encoding",
    "stripe-signature",
    "user-agent",
    // Those of the connection (RFC 9110, section 7.6.1), and what else decides where a message begins and ends.
    "connection",
    "expect",
    "http2-settings",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    // Where a request goes, and how it is read on its way.
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "forwarded",
    "from",
    "host",
    "max-forwards",
    "origin",
    "range",
    "referer",
    "true-client-ip",
    "via",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-host",
    "x-real-ip",
    "x-rewrite-url",
    // A browser's memory, and caches.
    "cache-control",
    "cookie",
    "cookie2",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "pragma",
    "set-cookie",
    "set-cookie2",
    // What clouds ask for before they tell a machine's secrets.
    "metadata",
    "metadata-flavor",
    "x-google-metadata-request",
];

/// Beginnings of names, in lower case, that are refused.
const FAMILIES_REFUSED: [&str; 9] =
    ["access-control-", "content-", "proxy-", "sec-", "webhook-", "x-amz-", "x-aws-", "x-envoy-", "x-forwarded-"];

/// Judges a name; gives it in lower case. The error is a sentence for the merchant.
///
/// # Errors
/// For what is no plain name of a header, and for names that are refused.
pub fn judge_name(name: &str) -> Result<String, String> {
    // RFC 9110 allows more. Receivers behind CGI or WSGI take an underscore for a hyphen, which would make another
    // header of it.
    let is_taken = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.bytes().all(is_taken) {
        return Err(format!(
            "A header's name has 1 to {NAME_CHARS_MAX} letters, digits and hyphens, as in `X-Shop-Token`."
        ));
    }
    let name = name.to_ascii_lowercase();
    if NAMES_REFUSED.contains(&name.as_str()) || FAMILIES_REFUSED.iter().any(|family| name.starts_with(family)) {
        return Err(format!("The header `{name}` cannot be set: it has a meaning to the sender or on the way."));
    }
    Ok(name)
}

/// Judges a value. The error is a sentence for the merchant and repeats nothing of it.
///
/// # Errors
/// For what is empty, long, or not printable ASCII.
pub fn judge_value(value: &str) -> Result<(), String> {
    let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if value.is_empty() || value.len() > VALUE_BYTES_MAX || !printable || value.trim() != value {
        return Err(format!(
            "A header's value has 1 to {VALUE_BYTES_MAX} printable ASCII characters, without spaces round it."
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_merchants_own_are_taken_in_lower_case() {
        for (name, kept) in [
            ("X-Shop-Token", "x-shop-token"),
            ("Authorization", "authorization"),
            ("CF-Access-Client-Id", "cf-access-client-id"),
            ("traceparent", "traceparent"),
        ] {
            assert_eq!(judge_name(name).as_deref(), Ok(kept));
        }
    }

    #[test]
    fn names_with_a_meaning_are_refused_in_any_writing() {
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        let malformed = ["", "a b", "X-Übergabe", "x:y", "x\r\ny", "x\0", "(x)", "X_Forwarded_For", &long];
        let families = ["Webhook-Id", "WEBHOOK-SIGNATURE", "Proxy-Authorization", "X-Forwarded-For", "Content-Length"];
        for name in malformed.into_iter().chain(families) {
            assert!(judge_name(name).is_err(), "{name}");
        }
        for name in NAMES_REFUSED {
            assert!(judge_name(&name.to_uppercase()).is_err(), "{name}");
        }
    }

    #[test]
    fn values_are_one_printable_line() {
        let longest = "v".repeat(VALUE_BYTES_MAX);
        for value in ["Bearer abc.def", "1", &longest] {
            assert_eq!(judge_value(value), Ok(()));
        }
        let long = "v".repeat(VALUE_BYTES_MAX + 1);
        for value in ["", " x", "x ", "x\r\nHost: evil", "x\ny", "\u{e9}", "x\0", &long] {
            let refused = judge_value(value);
            assert!(refused.is_err_and(|message| value.len() < 3 || !message.contains(value)), "{value:?}");
        }
    }
}
