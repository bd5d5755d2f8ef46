//! What counts as an e-mail address: enough to be sent to, nothing that could break a header.
//!
//! The rule is HTML's (the `input type=email` grammar), so that a browser and this service agree,
//! plus the lengths of RFC 5321. Whether anybody reads it is known only by writing to it.

/// Longest address (RFC 5321 section 4.5.3.1, with the erratum on paths).
pub const EMAIL_LENGTH_MAX: usize = 254;

/// Longest part before the `@`.
const LOCAL_LENGTH_MAX: usize = 64;

/// Longest label of the host name.
const LABEL_LENGTH_MAX: usize = 63;

/// Reads an address, without white space round it; `None` when it is not one.
pub fn parse_email(text: &str) -> Option<String> {
    let text = text.trim();
    let (local, host) = text.rsplit_once('@')?;
    let local_is_fine = (1..=LOCAL_LENGTH_MAX).contains(&local.len())
        && local.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte));
    let host_is_fine = host.split('.').all(|label| {
        (1..=LABEL_LENGTH_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    });
    (text.len() <= EMAIL_LENGTH_MAX && local_is_fine && host_is_fine && host.contains('.')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_what_is_none() {
        for good in ["a@b.example", "first.last+tag@sub.host-name.example", " padded@shop.example "] {
            assert_eq!(parse_email(good).as_deref(), Some(good.trim()));
        }
        let long = format!("{}@b.example", "a".repeat(65));
        for bad in [
            "",
            "a",
            "a@",
            "@b.example",
            "a@b",
            "a@b..example",
            "a@-b.example",
            "a b@c.example",
            "a@b.example\r\nBcc: x@y.example",
            "a@b@c.example",
            "ü@b.example",
            "a@b.exam\u{202e}ple",
            long.as_str(),
        ] {
            assert_eq!(parse_email(bad), None, "{bad:?}");
        }
    }
}
