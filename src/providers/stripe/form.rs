//! Bodies of requests to Stripe: forms with bracketed names, wiped when they are dropped.
//!
//! Rule: a card is written once, into memory that never grows and is wiped; what is left of it then
//! lies in buffers of TLS and the socket, which nobody here can reach. Parameters that the operator
//! told to omit are left out here and nowhere else.

use axum::body::Bytes;
use url::form_urlencoded::Serializer;
use zeroize::Zeroizing;

/// Room for a card with its holder's name in percent-encoding: growing would leave an unwiped copy.
const FORM_BYTES: usize = 4096;

/// A form in the making.
pub(super) struct Form<'a> {
    text: Zeroizing<String>,
    omitted: &'a [String],
}

impl<'a> Form<'a> {
    /// An empty one, without the parameters that start with these words.
    pub(super) fn new(omitted: &'a [String]) -> Self {
        Form { text: Zeroizing::new(String::with_capacity(FORM_BYTES)), omitted }
    }

    /// With a field.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        let parameter = name.split('[').next().unwrap_or(name);
        if !self.omitted.iter().any(|omitted| omitted == parameter) {
            Serializer::new(&mut *self.text).append_pair(name, value);
        }
        self
    }

    /// With a field, where there is a value.
    pub(super) fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// The body; its memory is wiped when the last one lets go of it.
    pub(super) fn into_body(self) -> Bytes {
        Bytes::from_owner(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_follow_each_other_and_are_encoded() {
        let form = Form::new(&[]).with("amount", "100").with("card[cvc]", "1&2").with_some("description", None);
        assert_eq!(&form.into_body()[..], b"amount=100&card%5Bcvc%5D=1%262");
    }

    #[test]
    fn what_is_to_be_omitted_is_not_there() {
        let omitted = ["billing_details".to_owned(), "return_url".to_owned()];
        let form =
            Form::new(&omitted).with("billing_details[name]", "Ada").with("return_url", "x").with("type", "card");
        assert_eq!(&form.into_body()[..], b"type=card");
    }

    #[test]
    fn a_card_fits_without_growing() {
        let name = "\u{1f600}".repeat(100);
        let form = Form::new(&[])
            .with("type", "card")
            .with("card[number]", "4242424242424242424")
            .with("card[exp_month]", "12")
            .with("card[exp_year]", "2049")
            .with("card[cvc]", "1234")
            .with("billing_details[name]", &name);
        assert_eq!(form.text.capacity(), FORM_BYTES);
    }
}
