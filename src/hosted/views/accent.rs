//! The merchant's accent colour as a style sheet of its own, because the pages' CSP allows no style attribute.
//! Rule: whatever colour a merchant picks, the text on it and the edge of the button stay readable in light and dark.
//! Whole numbers only. Left to others: serving the sheet.

/// Path of the style sheet for a merchant's accent colour, `/assets/accent-<rrggbb>.css`, from the same input as
/// [`accent_stylesheet`].
pub fn accent_stylesheet_path(hex: &str) -> Option<String> {
    let [red, green, blue] = parse_accent(hex)?;
    Some(format!("/assets/accent-{red:02x}{green:02x}{blue:02x}.css"))
}

/// The style sheet for a merchant's accent colour: `hex` is six hexadecimal digits, with or without `#`; anything else is `None`.
///
/// Text on the accent is black or white, whichever has the higher contrast; that is 4.5:1 or more for every colour (WCAG 2.2, 1.4.3).
/// Where the accent has less than 3:1 against the page, light or dark, the button gets a visible edge (1.4.11).
pub fn accent_stylesheet(hex: &str) -> Option<String> {
    let accent = parse_accent(hex)?;
    let light_text = luminance(accent) <= LUMINANCE_BETWEEN_BLACK_AND_WHITE;
    let text = if light_text { "#fff" } else { "#000" };
    // Away from the text colour, so that hovering never costs contrast.
    let hover = accent.map(|channel| if light_text { channel - channel / 8 } else { channel + (255 - channel) / 8 });
    let edge = |page| {
        if contrast_at_least(accent, page, 3, 1) { "transparent" } else { "var(--line-strong)" }
    };
    let rules = |page| {
        format!(
            "--accent:{};--accent-hover:{};--on-accent:{text};--accent-edge:{}",
            css_colour(accent),
            css_colour(hover),
            edge(page)
        )
    };
    Some(format!(":root{{{}}}\n@media (prefers-color-scheme:dark){{:root{{{}}}}}\n", rules(WHITE), rules(DARK_PAGE)))
}

const WHITE: [u8; 3] = [255, 255, 255];
/// The page colour of the dark scheme in `checkout.css`.
const DARK_PAGE: [u8; 3] = [0x16, 0x18, 0x1d];
/// Where black and white text have the same contrast, sqrt(1.05 * 0.05) - 0.05, in units of [`luminance`].
const LUMINANCE_BETWEEN_BLACK_AND_WHITE: u64 = 179_128_784;

fn css_colour([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn parse_accent(hex: &str) -> Option<[u8; 3]> {
    let digits = hex.strip_prefix('#').unwrap_or(hex);
    if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let number = u32::from_str_radix(digits, 16).ok()?;
    let [_, red, green, blue] = number.to_be_bytes();
    Some([red, green, blue])
}

/// Relative luminance as WCAG 2.2 defines it, times 10^9.
fn luminance([red, green, blue]: [u8; 3]) -> u64 {
    let light = |channel: u8| u64::from(LINEAR_LIGHT[usize::from(channel)]);
    2126 * light(red) + 7152 * light(green) + 722 * light(blue)
}

/// True when two colours have a contrast of `numerator`:`denominator` or more.
fn contrast_at_least(one: [u8; 3], other: [u8; 3], numerator: u64, denominator: u64) -> bool {
    const FLARE: u64 = 50_000_000;
    let (one, other) = (luminance(one) + FLARE, luminance(other) + FLARE);
    one.max(other) * denominator >= one.min(other) * numerator
}

/// Linear light of each 8-bit sRGB channel value, times 10^5 (IEC 61966-2-1). A table, because the curve needs a power that whole
/// numbers do not have.
#[rustfmt::skip]
const LINEAR_LIGHT: [u32; 256] = [
    0, 30, 61, 91, 121, 152, 182, 212, 243, 273, 304, 335, 368, 402, 439, 478,
    518, 561, 605, 651, 700, 750, 802, 857, 913, 972, 1033, 1096, 1161, 1229, 1298, 1370,
    1444, 1521, 1600, 1681, 1764, 1850, 1938, 2029, 2122, 2217, 2315, 2416, 2519, 2624, 2732, 2843,
    2956, 3071, 3190, 3310, 3434, 3560, 3689, 3820, 3955, 4092, 4231, 4374, 4519, 4667, 4817, 4971,
    5127, 5286, 5448, 5613, 5781, 5951, 6125, 6301, 6480, 6663, 6848, 7036, 7227, 7421, 7619, 7819,
    8022, 8228, 8438, 8650, 8866, 9084, 9306, 9531, 9759, 9990, 10224, 10462, 10702, 10946, 11193, 11444,
    11697, 11954, 12214, 12477, 12744, 13014, 13287, 13563, 13843, 14126, 14413, 14703, 14996, 15293, 15593, 15896,
    16203, 16513, 16827, 17144, 17465, 17789, 18116, 18447, 18782, 19120, 19462, 19807, 20156, 20508, 20864, 21223,
    21586, 21953, 22323, 22697, 23074, 23455, 23840, 24228, 24620, 25016, 25415, 25818, 26225, 26636, 27050, 27468,
    27889, 28315, 28744, 29177, 29614, 30054, 30499, 30947, 31399, 31855, 32314, 32778, 33245, 33716, 34191, 34670,
    35153, 35640, 36131, 36625, 37124, 37626, 38133, 38643, 39157, 39676, 40198, 40724, 41254, 41789, 42327, 42869,
    43415, 43966, 44520, 45079, 45641, 46208, 46778, 47353, 47932, 48515, 49102, 49693, 50289, 50888, 51492, 52100,
    52712, 53328, 53948, 54572, 55201, 55834, 56471, 57112, 57758, 58408, 59062, 59720, 60383, 61050, 61721, 62396,
    63076, 63760, 64448, 65141, 65837, 66539, 67244, 67954, 68669, 69387, 70110, 70838, 71569, 72306, 73046, 73791,
    74540, 75294, 76052, 76815, 77582, 78354, 79130, 79910, 80695, 81485, 82279, 83077, 83880, 84687, 85499, 86316,
    87137, 87962, 88792, 89627, 90466, 91310, 92158, 93011, 93869, 94731, 95597, 96469, 97345, 98225, 99110, 100000,];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accents_that_are_not_six_hexadecimal_digits_are_refused() {
        for hex in
            ["", "#", "#fff", "#12345", "#1234567", "##12345", "+12345", "12345g", "#12 456", "red", "#١٢٣", "url(x)"]
        {
            assert_eq!(accent_stylesheet(hex), None, "{hex}");
            assert_eq!(accent_stylesheet_path(hex), None, "{hex}");
        }
        assert_eq!(accent_stylesheet_path("#0F766E").as_deref(), Some("/assets/accent-0f766e.css"));
    }

    #[test]
    fn text_on_every_accent_has_a_contrast_of_four_and_a_half() {
        for number in (0..=0xff_ffff_u32).step_by(251) {
            let hex = format!("{number:06x}");
            let accent = parse_accent(&hex).expect("six digits");
            let sheet = accent_stylesheet(&hex).expect("six digits");
            let text = if sheet.contains("--on-accent:#fff") { WHITE } else { [0, 0, 0] };
            assert!(contrast_at_least(accent, text, 9, 2), "{hex}");
        }
    }

    #[test]
    fn the_dark_page_is_the_one_in_the_style_sheet() {
        let sheet = include_str!("../../../templates/assets/checkout.css");
        assert!(sheet.contains(&format!("--page: {};", css_colour(DARK_PAGE))));
    }

    #[test]
    fn an_accent_close_to_the_page_gets_an_edge() {
        let pale = accent_stylesheet("#fff3b0").expect("a colour");
        let (light, dark) = pale.split_once('\n').expect("two schemes");
        assert!(light.contains("--accent-edge:var(--line-strong)") && dark.contains("--accent-edge:transparent"));
        let deep = accent_stylesheet("#101020").expect("a colour");
        let (light, dark) = deep.split_once('\n').expect("two schemes");
        assert!(light.contains("--accent-edge:transparent") && dark.contains("--accent-edge:var(--line-strong)"));
    }
}
