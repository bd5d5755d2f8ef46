//! The last net under card numbers: hides digit runs that could be one before text leaves the process.
//!
//! Rule: better to hide a number that is none than to show one that is. The first defence is that card types have no text form;
//! this one catches what was typed into the wrong field or carried in by somebody else's error message.

use std::borrow::Cow;

/// The lengths a card number can have (ISO/IEC 7812-1 allows up to 19 digits; the shortest in use has 12).
const CARD_NUMBER_DIGITS: std::ops::RangeInclusive<usize> = 12..=19;

/// Replaces each digit of a suspicious run by `*` and borrows the text if there is none.
///
/// A run is ASCII digits with at most one space, `-` or `+` (a space in a posted form) between two of them. It is suspicious if
/// any 12 to 19 digits in a row within it pass the Luhn check. All of the run is hidden, the last four digits too: what follows
/// a card number without a gap may be its security code.
pub fn mask_card_numbers(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let end = end_of_run(bytes, at);
        if is_suspicious(&bytes[at..end]) {
            for byte in &mut masked.get_or_insert_with(|| bytes.to_vec())[at..end] {
                if byte.is_ascii_digit() {
                    *byte = b'*';
                }
            }
        }
        at = end;
    }
    match masked {
        None => Cow::Borrowed(text),
        Some(bytes) => Cow::Owned(String::from_utf8(bytes).expect("one ASCII byte took the place of another")),
    }
}

/// The end of the run that starts with the digit at `start`; the byte before the end is a digit.
fn end_of_run(bytes: &[u8], start: usize) -> usize {
    let mut end = start + 1;
    loop {
        match (bytes.get(end), bytes.get(end + 1)) {
            (Some(digit), _) if digit.is_ascii_digit() => end += 1,
            (Some(b' ' | b'-' | b'+'), Some(digit)) if digit.is_ascii_digit() => end += 2,
            _ => return end,
        }
    }
}

fn is_suspicious(run: &[u8]) -> bool {
    if run.len() < *CARD_NUMBER_DIGITS.start() {
        return false;
    }
    let digits: Vec<u8> = run.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0').collect();
    CARD_NUMBER_DIGITS.into_iter().any(|length| digits.windows(length).any(passes_luhn))
}

/// The check of ISO/IEC 7812-1 annex B: from the right, each second digit doubled, digit sum divisible by ten.
fn passes_luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, &digit)| match (place % 2, u32::from(digit)) {
            (0, digit) => digit,
            (_, digit) if digit > 4 => digit * 2 - 9,
            (_, digit) => digit * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_card_numbers_however_they_are_written() {
        for (text, expected) in [
            ("4242424242424242", "****************"),
            ("4242 4242 4242 4242", "**** **** **** ****"),
            ("4242-4242-4242-4242", "****-****-****-****"),
            ("card[number]=4242+4242+4242+4242&x=1", "card[number]=****+****+****+****&x=1"),
            ("{\"name\":\"378282246310005\"}", "{\"name\":\"***************\"}"),
            ("é 5555555555554444 é", "é **************** é"),
            ("a 6011111111111117, b 30569309025904.", "a ****************, b **************."),
        ] {
            assert_eq!(mask_card_numbers(text), expected, "{text}");
        }
    }

    #[test]
    fn hides_a_security_code_or_date_that_touches_the_number() {
        assert_eq!(mask_card_numbers("4242424242424242123"), "*******************");
        assert_eq!(mask_card_numbers("4242424242424242 12 2030 123"), "**************** ** **** ***");
    }

    #[test]
    fn leaves_other_text_as_it_is_without_a_copy() {
        for text in [
            "",
            "no digits",
            "status 200 in 17 ms",
            "111111111111",
            "2026-11-20T23:12:01.123456Z",
            "12345678901",
            "127.0.0.1:4242",
            "req_2a3b4c5d6e7f2a3b4c5d6e7f",
        ] {
            assert!(matches!(mask_card_numbers(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn finds_a_number_inside_a_longer_run() {
        assert_eq!(mask_card_numbers("000142424242424242429999"), "*".repeat(24));
    }
}
