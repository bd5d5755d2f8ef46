//! How each locale writes money: separators, grouping, the place of the symbol, and the symbols.
//!
//! Written by `scripts/generate-money-formats.mjs`; change that and run it again. The data is from the Unicode CLDR
//! 48.0 (Unicode License v3), read through Node's Intl. How many decimals an amount has is not in here.

use super::MoneyFormat;

/// The symbol that most locales use, by currency; a currency that is not listed is written as its code.
#[rustfmt::skip]
pub(super) const SHARED_SYMBOLS: &[(&str, &str)] = &[
    ("aud", "AU$"), ("brl", "R$"), ("cad", "CA$"), ("cny", "CN¥"), ("eur", "€"), ("gbp", "£"),
    ("hkd", "HK$"), ("ils", "₪"), ("inr", "₹"), ("jpy", "¥"), ("krw", "₩"), ("mxn", "MX$"),
    ("nzd", "NZ$"), ("twd", "NT$"), ("usd", "US$"), ("vnd", "₫"), ("xaf", "FCFA"), ("xcd", "EC$"),
    ("xcg", "Cg."), ("xof", "F\u{202f}CFA"), ("xpf", "CFPF"),
];

/// Every locale that we know, by tag. `symbols` holds those that differ from the shared ones.
#[rustfmt::skip]
pub(super) const MONEY_FORMATS: &[MoneyFormat] = &[
    MoneyFormat { tag: "ar", positive: "\u{200f}#\u{a0}¤", negative: "\u{200f}\u{200e}-#\u{a0}¤",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aed", "\u{62f}.\u{625}.\u{200f}"), ("bhd", "\u{62f}.\u{628}.\u{200f}"),
            ("dzd", "\u{62f}.\u{62c}.\u{200f}"), ("egp", "\u{62c}.\u{645}.\u{200f}"), ("gbp", "UK£"),
            ("jod", "\u{62f}.\u{623}.\u{200f}"), ("jpy", "JP¥"), ("kwd", "\u{62f}.\u{643}.\u{200f}"),
            ("lbp", "\u{644}.\u{644}.\u{200f}"), ("mad", "\u{62f}.\u{645}.\u{200f}"),
            ("mru", "\u{623}.\u{645}."), ("omr", "\u{631}.\u{639}.\u{200f}"),
            ("qar", "\u{631}.\u{642}.\u{200f}"), ("sar", "\u{631}.\u{633}.\u{200f}"), ("thb", "฿"),
            ("tnd", "\u{62f}.\u{62a}.\u{200f}"), ("yer", "\u{631}.\u{64a}.\u{200f}"),
        ] },
    MoneyFormat { tag: "bg", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("gbp", "GBP"), ("hkd", "HKD"),
            ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"), ("nzd", "NZD"),
            ("twd", "TWD"), ("usd", "щ.д."), ("vnd", "VND"), ("xcd", "XCD"),
        ] },
    MoneyFormat { tag: "cs", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("czk", "Kč"), ("ils", "ILS"), ("inr", "INR"), ("jpy", "JP¥"), ("vnd", "VND"),
        ] },
    MoneyFormat { tag: "da", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("dkk", "kr."), ("jpy", "JP¥"), ("thb", "฿"),
        ] },
    MoneyFormat { tag: "de", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "de-AT", positive: "¤\u{a0}#", negative: "-¤\u{a0}#",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "de-CH", positive: "¤\u{a0}#", negative: "¤-#",
        group: "'", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("eur", "EUR"), ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "el", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("jpy", "JP¥"), ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "en", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("php", "₱"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "en-AU", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "$"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("eur", "EUR"), ("gbp", "GBP"),
            ("hkd", "HKD"), ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"),
            ("nzd", "NZD"), ("scr", "Rs"), ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xaf", "XAF"),
            ("xcd", "XCD"), ("xof", "XOF"), ("xpf", "CFP"),
        ] },
    MoneyFormat { tag: "en-CA", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("cad", "$"), ("jpy", "JP¥"), ("php", "₱"), ("xcg", "Cg"),
        ] },
    MoneyFormat { tag: "en-GB", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("jpy", "JP¥"), ("php", "₱"),
        ] },
    MoneyFormat { tag: "en-IN", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 2,
        symbols: &[
            ("aud", "A$"), ("jpy", "JP¥"), ("php", "₱"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "en-US", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("php", "₱"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "es", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("gbp", "GBP"), ("hkd", "HKD"),
            ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"), ("nzd", "NZD"),
            ("thb", "฿"), ("twd", "TWD"), ("xaf", "XAF"), ("xcd", "XCD"), ("xof", "XOF"),
        ] },
    MoneyFormat { tag: "es-419", positive: "¤\u{a0}#", negative: "-¤\u{a0}#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("eur", "EUR"), ("gbp", "GBP"),
            ("hkd", "HKD"), ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"),
            ("nzd", "NZD"), ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xaf", "XAF"), ("xcd", "XCD"),
            ("xof", "XOF"),
        ] },
    MoneyFormat { tag: "es-MX", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("eur", "EUR"), ("gbp", "GBP"),
            ("hkd", "HKD"), ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mru", "UM"),
            ("mxn", "$"), ("nzd", "NZD"), ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xaf", "XAF"),
            ("xcd", "XCD"), ("xof", "XOF"),
        ] },
    MoneyFormat { tag: "et", positive: "#\u{a0}¤", negative: "−#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "fa", positive: "\u{200e}¤#", negative: "\u{200e}−\u{200e}¤#",
        group: "\u{66c}", decimal: "\u{66b}", zero: '\u{6f0}', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("afn", "\u{60b}"), ("aud", "A$"), ("cad", "$CA"), ("cny", "¥CN"), ("hkd", "$HK"), ("mxn", "$MX"),
            ("nzd", "$NZ"), ("thb", "฿"), ("usd", "$"), ("xcd", "$EC"),
            ("xof", "\u{641}\u{631}\u{627}\u{646}\u{6a9}\u{202f}CFA"),
        ] },
    MoneyFormat { tag: "fi", positive: "#\u{a0}¤", negative: "−#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("hkd", "HKD"), ("ils", "ILS"),
            ("inr", "INR"), ("krw", "KRW"), ("mxn", "MXN"), ("nzd", "NZD"), ("twd", "TWD"), ("usd", "$"),
            ("vnd", "VND"), ("xcd", "XCD"), ("xpf", "XPF"),
        ] },
    MoneyFormat { tag: "fil", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("php", "₱"), ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "fr", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{202f}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("ars", "$AR"), ("aud", "$AU"), ("bmd", "$BM"), ("bnd", "$BN"), ("bzd", "$BZ"), ("cad", "$CA"),
            ("clp", "$CL"), ("cny", "CNY"), ("cop", "$CO"), ("fjd", "$FJ"), ("fkp", "£FK"), ("gbp", "£GB"),
            ("gip", "£GI"), ("hkd", "HKD"), ("jpy", "JPY"), ("lbp", "£LB"), ("mxn", "$MX"), ("nad", "$NA"),
            ("nzd", "$NZ"), ("sbd", "$SB"), ("sgd", "$SG"), ("srd", "$SR"), ("ttd", "$TT"), ("twd", "TWD"),
            ("usd", "$US"), ("uyu", "$UY"), ("wst", "$WS"), ("xcd", "XCD"), ("xpf", "FCFP"),
        ] },
    MoneyFormat { tag: "fr-CA", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "$\u{a0}AU"), ("cad", "$"), ("hkd", "$\u{a0}HK"), ("ils", "ILS"), ("inr", "INR"),
            ("krw", "KRW"), ("mxn", "MXN"), ("nzd", "$\u{a0}NZ"), ("sgd", "$\u{a0}SG"), ("twd", "TWD"),
            ("usd", "$\u{a0}US"), ("vnd", "VND"), ("xaf", "XAF"), ("xcd", "XCD"), ("xof", "XOF"), ("xpf", "XPF"),
        ] },
    MoneyFormat { tag: "fr-CH", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{202f}", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("ars", "$AR"), ("aud", "$AU"), ("bmd", "$BM"), ("bnd", "$BN"), ("bzd", "$BZ"), ("cad", "$CA"),
            ("clp", "$CL"), ("cny", "CNY"), ("cop", "$CO"), ("fjd", "$FJ"), ("fkp", "£FK"), ("gbp", "£GB"),
            ("gip", "£GI"), ("hkd", "HKD"), ("jpy", "JPY"), ("lbp", "£LB"), ("mxn", "$MX"), ("nad", "$NA"),
            ("nzd", "$NZ"), ("sbd", "$SB"), ("sgd", "$SG"), ("srd", "$SR"), ("ttd", "$TT"), ("twd", "TWD"),
            ("usd", "$US"), ("uyu", "$UY"), ("wst", "$WS"), ("xcd", "XCD"), ("xpf", "FCFP"),
        ] },
    MoneyFormat { tag: "he", positive: "\u{200f}#\u{a0}\u{200f}¤", negative: "\u{200f}\u{200e}-#\u{a0}\u{200f}¤",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("cny", "\u{200e}CN¥\u{200e}"), ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "hi", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 2,
        symbols: &[
            ("aud", "A$"), ("jpy", "JP¥"), ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "hr", positive: "#\u{a0}¤", negative: "−#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("gbp", "GBP"), ("hkd", "HKD"),
            ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"), ("nzd", "NZD"),
            ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xcd", "XCD"), ("xpf", "XPF"),
        ] },
    MoneyFormat { tag: "hu", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("eur", "EUR"), ("gbp", "GBP"),
            ("hkd", "HKD"), ("huf", "Ft"), ("ils", "ILS"), ("inr", "INR"), ("krw", "KRW"), ("mxn", "MXN"),
            ("nzd", "NZD"), ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xcd", "XCD"),
        ] },
    MoneyFormat { tag: "id", positive: "¤#", negative: "-¤#",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("idr", "Rp"), ("inr", "Rs"), ("jpy", "JP¥"), ("thb", "฿"),
        ] },
    MoneyFormat { tag: "it", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("brl", "BRL"), ("hkd", "HKD"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"),
            ("mxn", "MXN"), ("php", "₱"), ("thb", "฿"), ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"),
            ("xcg", "Cf"),
        ] },
    MoneyFormat { tag: "ja", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("cny", "元"), ("jpy", "￥"), ("usd", "$"), ("xcg", "Cg"),
        ] },
    MoneyFormat { tag: "ko", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("jpy", "JP¥"),
        ] },
    MoneyFormat { tag: "lt", positive: "#\u{a0}¤", negative: "−#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("gbp", "GBP"), ("hkd", "HKD"),
            ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"), ("nzd", "NZD"),
            ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xaf", "XAF"), ("xcd", "XCD"), ("xof", "XOF"),
            ("xpf", "XPF"),
        ] },
    MoneyFormat { tag: "lv", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("thb", "฿"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "ms", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("cad", "CAD"), ("jpy", "JP¥"), ("mxn", "MXN"), ("myr", "RM"), ("usd", "USD"),
        ] },
    MoneyFormat { tag: "mt", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("jpy", "JP¥"),
        ] },
    MoneyFormat { tag: "nb", positive: "#\u{a0}¤", negative: "−#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("hkd", "HKD"), ("ils", "ILS"),
            ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"), ("nok", "kr"), ("nzd", "NZD"),
            ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xaf", "XAF"), ("xcd", "XCD"), ("xpf", "XPF"),
        ] },
    MoneyFormat { tag: "nl", positive: "¤\u{a0}#", negative: "¤\u{a0}-#",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("cad", "C$"), ("fjd", "FJ$"), ("jpy", "JP¥"), ("sbd", "SI$"), ("thb", "฿"), ("xpf", "XPF"),
        ] },
    MoneyFormat { tag: "pl", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("cad", "CAD"), ("cny", "CNY"), ("gbp", "GBP"), ("hkd", "HKD"), ("ils", "ILS"),
            ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"), ("nzd", "NZD"), ("pln", "zł"),
            ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xcg", "XCG"),
        ] },
    MoneyFormat { tag: "pt", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("jpy", "JP¥"), ("thb", "฿"),
        ] },
    MoneyFormat { tag: "pt-BR", positive: "¤\u{a0}#", negative: "-¤\u{a0}#",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("jpy", "JP¥"), ("thb", "฿"),
        ] },
    MoneyFormat { tag: "ro", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("eur", "EUR"), ("gbp", "GBP"),
            ("hkd", "HKD"), ("ils", "ILS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("mxn", "MXN"),
            ("nzd", "NZD"), ("twd", "TWD"), ("usd", "USD"), ("vnd", "VND"), ("xcd", "XCD"),
        ] },
    MoneyFormat { tag: "ru", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "A$"), ("rub", "₽"), ("thb", "฿"), ("uah", "₴"), ("usd", "$"), ("xcg", "Cg"),
        ] },
    MoneyFormat { tag: "sk", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("cny", "CNY"), ("gbp", "GBP"), ("hkd", "HKD"),
            ("ils", "NIS"), ("inr", "INR"), ("jpy", "JPY"), ("krw", "KRW"), ("nzd", "NZD"), ("twd", "TWD"),
            ("usd", "USD"), ("vnd", "VND"), ("xcg", "Cg"),
        ] },
    MoneyFormat { tag: "sl", positive: "#\u{a0}¤", negative: "−#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 5, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("brl", "BRL"), ("cad", "CAD"), ("gbp", "GBP"), ("mxn", "MXN"), ("nzd", "NZD"),
            ("twd", "TWD"), ("usd", "$"), ("xcd", "XCD"),
        ] },
    MoneyFormat { tag: "sv", positive: "#\u{a0}¤", negative: "−#\u{a0}¤",
        group: "\u{a0}", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("aud", "AUD"), ("bbd", "Bds$"), ("bmd", "BM$"), ("brl", "BR$"), ("bsd", "BS$"), ("bzd", "BZ$"),
            ("cny", "CNY"), ("dkk", "Dkr"), ("dop", "RD$"), ("egp", "EG£"), ("gbp", "GBP"), ("hkd", "HKD"),
            ("inr", "INR"), ("isk", "Ikr"), ("jmd", "JM$"), ("jpy", "JPY"), ("krw", "KRW"), ("nok", "Nkr"),
            ("nzd", "NZD"), ("sek", "kr"), ("twd", "TWD"), ("vnd", "VND"), ("xcg", "XCG"),
        ] },
    MoneyFormat { tag: "th", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("thb", "฿"),
        ] },
    MoneyFormat { tag: "tr", positive: "¤#", negative: "-¤#",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("thb", "฿"), ("try", "₺"), ("usd", "$"),
        ] },
    MoneyFormat { tag: "vi", positive: "#\u{a0}¤", negative: "-#\u{a0}¤",
        group: ".", decimal: ",", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("thb", "฿"),
        ] },
    MoneyFormat { tag: "zh", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("cny", "¥"), ("jpy", "JP¥"),
        ] },
    MoneyFormat { tag: "zh-HK", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[] },
    MoneyFormat { tag: "zh-TW", positive: "¤#", negative: "-¤#",
        group: ",", decimal: ".", zero: '0', grouping_digits_min: 4, group_size_next: 3,
        symbols: &[
            ("krw", "￦"), ("twd", "$"),
        ] },
];
