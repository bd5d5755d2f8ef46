//! Characters that nobody sees, or that turn the reading direction of what follows.
//!
//! The rule: a text that people read before they pay or sign shows all that it holds. What only hides or
//! reorders is refused wherever it stands; marks that some scripts and emoji need are taken where such a
//! script or emoji stands before them (Unicode's Default_Ignorable_Code_Point and Bidi_Control).

/// Whether a text may have several lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lines {
    /// No.
    One,
    /// Yes; tabs, too.
    Many,
}

/// What stands before a character.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing that is seen.
    Nothing,
    /// A letter of the Latin alphabet, a digit or a sign, as in ASCII.
    Plain,
    /// Anything else that is seen.
    Other,
    /// The black flag, or a tag after it: together they make the flag of a region.
    Flag,
}

/// The first character of a text that has no place in it.
pub fn first_unseen(text: &str, lines: Lines) -> Option<char> {
    let mut before = Before::Nothing;
    for one in text.chars() {
        before = match one {
            '\n' | '\r' | '\t' if lines == Lines::Many => Before::Nothing,
            _ if one.is_control() || is_hidden(one) => return Some(one),
            // Joiners and marks of direction inside words, variants of Mongolian and of ideographs.
            '\u{200c}'..='\u{200f}' | '\u{180b}'..='\u{180f}' | '\u{e0100}'..='\u{e01ef}'
                if before == Before::Other =>
            {
                Before::Nothing
            }
            // The two looks of an emoji, digits on keys included.
            '\u{fe00}'..='\u{fe0f}' if before != Before::Nothing => before,
            '\u{e0020}'..='\u{e007f}' if before == Before::Flag => Before::Flag,
            '\u{200c}'..='\u{200f}' | '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}' => {
                return Some(one);
            }
            '\u{1f3f4}' => Before::Flag,
            _ if one.is_whitespace() => Before::Nothing,
            _ if one.is_ascii() => Before::Plain,
            _ => Before::Other,
        };
    }
    None
}

/// Hides, reorders, or shows nothing, whatever stands before it.
fn is_hidden(one: char) -> bool {
    matches!(one,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{200b}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_every_script_and_emoji_stay() {
        for text in [
            "",
            "A canoe, 5 m — “as seen” 100 % ½ €",
            "Ünïcödé e\u{301} قهوة كبيرة 咖啡 कॉफ़ी קפה ☕",
            "می\u{200c}خواهم",
            "क\u{94d}\u{200d}ष",
            "קפה\u{200f}!",
            "❤\u{fe0f}\u{200d}🔥 👩\u{200d}💻 1\u{fe0f}\u{20e3} 👍🏽",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f} whisky",
            "葛\u{e0100}",
            "no\u{a0}break",
        ] {
            assert_eq!(first_unseen(text, Lines::One), None, "{text:?}");
        }
        assert_eq!(first_unseen("One\r\n\ttwo\n", Lines::Many), None);
    }

    #[test]
    fn what_hides_or_turns_the_text_is_found() {
        for one in ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}').chain([
            '\0', '\u{7f}', '\u{85}', '\u{ad}', '\u{200b}', '\u{2028}', '\u{2060}', '\u{feff}', '\u{3164}', '\u{61c}',
        ]) {
            for text in [format!("a{one}b"), format!("ש{one}"), one.to_string()] {
                assert_eq!(first_unseen(&text, Lines::Many), Some(one), "{text:?}");
            }
        }
        for (text, one) in [
            ("pay\u{200c}pal", '\u{200c}'),
            ("\u{200d}", '\u{200d}'),
            ("ש\u{200f}\u{200f}", '\u{200f}'),
            ("a\u{e0061}", '\u{e0061}'),
            ("\u{fe0f}", '\u{fe0f}'),
            ("葛\u{e0100}\u{e0100}", '\u{e0100}'),
        ] {
            assert_eq!(first_unseen(text, Lines::One), Some(one), "{text:?}");
        }
        assert_eq!(first_unseen("two\nlines", Lines::One), Some('\n'));
    }
}
