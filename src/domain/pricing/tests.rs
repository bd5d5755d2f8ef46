//! Tests of `pricing`: tables of single carts, then properties that hold for every cart.

use super::*;
use proptest::prelude::*;

fn currency(code: &str) -> Currency {
    Currency::parse(code).expect("a code from the table")
}

fn line(unit_amount: i64, quantity: i64) -> LineInput {
    LineInput {
        name: "Tea".to_owned(),
        description: None,
        images: Vec::new(),
        product_metadata: BTreeMap::new(),
        currency: currency("eur"),
        unit_amount: Some(unit_amount),
        unit_amount_decimal: None,
        quantity: Some(quantity),
    }
}

fn decimal_line(unit_amount_decimal: &str, quantity: i64) -> LineInput {
    LineInput { unit_amount: None, unit_amount_decimal: Some(unit_amount_decimal.to_owned()), ..line(0, quantity) }
}

/// What a merchant would be told: parameter and code.
fn refusal(lines: Vec<LineInput>) -> (String, Option<&'static str>) {
    let error = price_lines(lines).expect_err("this cart has no price");
    assert!(error.to_string().ends_with('.'), "{error}");
    (error.param(), error.code())
}

#[test]
fn a_cart_costs_what_its_lines_cost() {
    let cart = price_lines(vec![line(1_999, 2), line(0, 1), decimal_line("0.5", 3)]).expect("priced");
    let totals: Vec<i64> = cart.lines.iter().map(|line| line.amount_total).collect();
    assert_eq!(totals, [3_998, 0, 2]);
    assert_eq!((cart.amount_subtotal, cart.amount_total), (4_000, 4_000));
    assert_eq!(cart.total(), Money::new(4_000, currency("eur")));
}

#[test]
fn a_decimal_price_is_multiplied_before_it_is_rounded_half_up() {
    for (unit, quantity, amount) in [
        ("0.5", 1, 1),
        ("0.499999999999", 1, 0),
        ("0.3", 5, 2),
        ("0.3", 4, 1),
        ("2.5", 1, 3),
        ("0.000000000001", 999_999, 0),
        ("0.05", 999_999, 50_000),
        ("12.5", 2, 25),
    ] {
        let cart = price_lines(vec![line(1, 1), decimal_line(unit, quantity)]).expect("priced");
        assert_eq!(cart.lines[1].amount_subtotal, amount, "{quantity} x {unit}");
    }
}

#[test]
fn a_price_is_given_back_both_ways_where_it_is_whole() {
    for (given, decimal, whole) in [
        ("1250", "1250", Some(1_250)),
        ("1250.000", "1250", Some(1_250)),
        ("0012.50", "12.5", None),
        ("0.000000000001", "0.000000000001", None),
        ("0", "0", Some(0)),
        ("-0", "0", Some(0)),
    ] {
        let cart = price_lines(vec![line(1, 1), decimal_line(given, 1)]).expect("priced");
        assert_eq!(cart.lines[1].unit_amount_decimal, decimal, "{given}");
        assert_eq!(cart.lines[1].unit_amount, whole, "{given}");
    }
    let cart = price_lines(vec![line(1_250, 1)]).expect("priced");
    assert_eq!(cart.lines[0].unit_amount_decimal, "1250");
}

#[test]
fn what_is_not_a_plain_decimal_number_is_refused() {
    let at = || "line_items[0][price_data][unit_amount_decimal]".to_owned();
    for text in [
        "",
        ".",
        "5.",
        ".5",
        "1e3",
        "+1",
        " 1",
        "1 ",
        "1,5",
        "1.2.3",
        "٣",
        "--1",
        "NaN",
        "0x10",
        "0.1234567890123",
        "1_0",
    ] {
        let expected = (at(), Some("parameter_invalid_integer"));
        assert_eq!(refusal(vec![decimal_line(text, 1)]), expected, "{text}");
    }
    assert_eq!(refusal(vec![decimal_line("-1", 1)]), (at(), Some("parameter_invalid_integer")));
    for text in ["1000000000000", "999999999999.1", "9".repeat(400).as_str()] {
        assert_eq!(refusal(vec![decimal_line(text, 1)]), (at(), Some("amount_too_large")), "{text}");
    }
}

#[test]
fn each_wrong_field_is_named_with_its_line() {
    let second = |change: fn(&mut LineInput)| {
        let mut wrong = line(100, 1);
        change(&mut wrong);
        let (param, code) = refusal(vec![line(100, 1), wrong]);
        let field = param.strip_prefix("line_items[1]").expect("the second line").to_owned();
        (field, code)
    };
    type Case = (fn(&mut LineInput), &'static str, Option<&'static str>);
    let cases: [Case; 13] = [
        (|line| line.quantity = Some(0), "[quantity]", Some("parameter_invalid_integer")),
        (|line| line.quantity = Some(-1), "[quantity]", Some("parameter_invalid_integer")),
        (|line| line.quantity = Some(1_000_000), "[quantity]", Some("parameter_invalid_integer")),
        (|line| line.quantity = None, "[quantity]", Some("parameter_missing")),
        (|line| line.unit_amount = Some(-1), "[price_data][unit_amount]", Some("parameter_invalid_integer")),
        (|line| line.unit_amount = Some(i64::MAX), "[price_data][unit_amount]", Some("amount_too_large")),
        (|line| line.unit_amount = None, "[price_data][unit_amount]", Some("parameter_missing")),
        (
            |line| line.unit_amount_decimal = Some("1".to_owned()),
            "[price_data][unit_amount_decimal]",
            Some("parameters_exclusive"),
        ),
        (
            |line| (line.unit_amount, line.quantity) = (Some(AMOUNT_MINOR_MAX), Some(2)),
            "[price_data][unit_amount]",
            Some("amount_too_large"),
        ),
        (|line| line.name = " ".to_owned(), "[price_data][product_data][name]", Some("parameter_invalid_empty")),
        (|line| line.name = "é".repeat(NAME_CHARS_MAX + 1), "[price_data][product_data][name]", None),
        (|line| line.images = vec![String::new(); IMAGES_MAX + 1], "[price_data][product_data][images]", None),
        (|line| line.currency = currency("usd"), "[price_data][currency]", None),
    ];
    for (change, field, code) in cases {
        assert_eq!(second(change), (field.to_owned(), code));
    }
}

#[test]
fn the_list_as_a_whole_has_bounds() {
    let whole = |code| ("line_items".to_owned(), code);
    assert_eq!(refusal(Vec::new()), whole(Some("parameter_invalid_empty")));
    assert_eq!(refusal(vec![line(1, 1); LINES_MAX + 1]), whole(None));
    assert_eq!(refusal(vec![line(0, 5)]), whole(Some("amount_too_small")));
    assert_eq!(refusal(vec![line(AMOUNT_MINOR_MAX, 1), line(1, 1)]), whole(Some("amount_too_large")));
    assert!(price_lines(vec![line(1, 1); LINES_MAX]).is_ok());
    assert!(price_lines(vec![line(AMOUNT_MINOR_MAX, 1)]).is_ok());
}

#[test]
fn a_total_that_the_currency_cannot_carry_is_refused_but_a_unit_price_may_have_it() {
    let priced_in = |code: &str, unit_amount, quantity| {
        price_lines(vec![LineInput { currency: currency(code), ..line(unit_amount, quantity) }])
    };
    assert_eq!(
        priced_in("kwd", 5_124, 1).map_err(|error| (error.param(), error.kind)),
        Err(("line_items".to_owned(), PricingErrorKind::NotChargeableStep(10)))
    );
    assert!(priced_in("kwd", 5_124, 5).is_ok());
    assert!(priced_in("isk", 550, 1).is_err());
    assert!(priced_in("isk", 550, 2).is_ok());
    assert!(priced_in("jpy", 1, 1).is_ok());
}

prop_compose! {
    /// A line that any shop might send; 100 of them stay far below the largest total.
    fn any_line()(unit in 0_i64..100_000_000, decimals in 0_u64..1_000_000_000_000, decimal: bool, quantity in 1_i64..50)
        -> LineInput {
        if decimal {
            decimal_line(&format!("{unit}.{decimals:012}"), quantity)
        } else {
            line(unit, quantity)
        }
    }
}

proptest! {
    #[test]
    fn the_total_is_the_sum_of_the_lines(inputs in prop::collection::vec(any_line(), 1..=LINES_MAX)) {
        if let Ok(cart) = price_lines(inputs) {
            prop_assert_eq!(cart.amount_total, cart.lines.iter().map(|line| line.amount_total).sum::<i64>());
            prop_assert_eq!(cart.amount_subtotal, cart.lines.iter().map(|line| line.amount_subtotal).sum::<i64>());
            prop_assert!(cart.total().check_chargeable().is_ok());
        }
    }

    #[test]
    fn the_order_of_the_lines_changes_no_amount(
        (inputs, shuffled) in prop::collection::vec(any_line(), 1..20)
            .prop_flat_map(|inputs| (Just(inputs.clone()), Just(inputs).prop_shuffle()))
    ) {
        let total = |inputs| price_lines(inputs).map(|cart| cart.amount_total).map_err(|error| error.kind);
        prop_assert_eq!(total(inputs), total(shuffled));
    }

    #[test]
    fn more_of_a_line_never_costs_less(mut input in any_line(), more in 1_i64..1_000) {
        let amount = |input: &LineInput| {
            price_lines(vec![line(1, 1), input.clone()]).map(|cart| cart.lines[1].amount_total)
        };
        let before = amount(&input).expect("a small line has a price");
        input.quantity = input.quantity.map(|quantity| quantity + more);
        prop_assert!(amount(&input).expect("a larger line still has a price") >= before);
    }

    #[test]
    fn a_line_is_off_by_half_a_minor_unit_at_most(input in any_line()) {
        let unit = match (&input.unit_amount, &input.unit_amount_decimal) {
            (Some(minor), _) => UnitPrice::from_minor(*minor),
            (None, decimal) => UnitPrice::parse(decimal.as_deref().unwrap_or("")),
        }
        .expect("a valid price");
        let quantity = input.quantity.expect("a quantity");
        let minor = unit.times(quantity).expect("within the largest amount");
        let off = i128::from(minor) * PARTS_PER_MINOR - unit.0 * i128::from(quantity);
        prop_assert!(-PARTS_PER_MINOR / 2 < off && off <= PARTS_PER_MINOR / 2);
    }

    #[test]
    fn no_numbers_make_pricing_panic(
        amounts in prop::collection::vec((any::<Option<i64>>(), any::<Option<i64>>()), 0..=LINES_MAX + 1)
    ) {
        let inputs = amounts.into_iter().map(|(unit_amount, quantity)| LineInput { unit_amount, quantity, ..line(0, 1) });
        if let Ok(cart) = price_lines(inputs.collect()) {
            prop_assert!((1..=AMOUNT_MINOR_MAX).contains(&cart.amount_total));
        }
    }

    #[test]
    fn no_text_makes_reading_a_decimal_panic(text in "[-+0-9.eE٣ ]{0,40}|.{0,40}") {
        let _ = UnitPrice::parse(&text);
    }

    #[test]
    fn a_decimal_price_reads_back_as_itself(unit in 0_i64..=AMOUNT_MINOR_MAX - 1, decimals in 0_u64..1_000_000_000_000) {
        let price = UnitPrice::parse(&format!("{unit}.{decimals:012}")).expect("a valid price");
        prop_assert_eq!(UnitPrice::parse(&price.to_string()), Ok(price));
    }
}
