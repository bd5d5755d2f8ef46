// Writes src/i18n/money_formats.rs and src/i18n/money_golden.tsv from the locale data inside Node (ICU and CLDR).
// Run it by hand with Node 20 or later, as `node scripts/generate-money-formats.mjs`, and commit what changes:
// neither the build nor the tests need Node.
//
// Before anything is written, every locale is put together again with every currency from the small table that Rust
// will have, and compared with Intl's own text. A locale whose rules do not fit the table stops the script.

import { readFileSync, writeFileSync } from "node:fs";

const root = new URL("..", import.meta.url);
const codes = [...readFileSync(new URL("src/domain/money.rs", root), "utf8").matchAll(/\*b"([a-z]{3})"/g)].map((match) => match[1]);

// The locales of Stripe's hosted page, then those that write money differently from their language's default.
const tags = [
  ..."bg cs da de el en en-GB es es-419 et fi fil fr fr-CA hr hu id it ja ko lt lv ms mt nb nl pl pt pt-BR ro ru".split(" "),
  ..."sk sl sv th tr vi zh zh-HK zh-TW".split(" "),
  ..."ar de-AT de-CH en-AU en-CA en-IN en-US es-MX fa fr-CH he hi".split(" "),
].sort();

// In CLDR plain `pt` is Brazil; on Stripe's page it is Portugal, and Brazil has a tag of its own.
const sources = { pt: "pt-PT" };

const formatters = new Map();
function intl(tag, code, decimals) {
  const key = `${tag} ${code} ${decimals}`;
  if (!formatters.has(key)) {
    const options = { style: "currency", currency: code, minimumFractionDigits: decimals, maximumFractionDigits: decimals };
    formatters.set(key, new Intl.NumberFormat(sources[tag] ?? tag, options));
  }
  return formatters.get(key);
}

// Splits Intl's text into what stands before the digits, the digits, and what stands behind them.
function around(tag, code, amount) {
  const parts = intl(tag, code, 0).formatToParts(amount);
  const first = parts.findIndex((part) => part.type === "integer");
  const text = (list) => list.map((part) => part.value).join("");
  return {
    before: text(parts.slice(0, first)),
    digits: parts[first].value,
    behind: text(parts.slice(first + 1)),
    symbol: parts.find((part) => part.type === "currency").value,
  };
}

const endsLikeAWord = (symbol) => /[\p{L}\p{N}.]$/u.test(symbol);

function pattern(tag, amount) {
  // A symbol that ends like a word may get a space of its own; the pattern is read from one that does not.
  const code = codes.find((each) => !endsLikeAWord(around(tag, each, 1).symbol.replace(/\p{Cf}/gu, ""))) ?? "chf";
  const { before, behind, symbol } = around(tag, code, amount);
  return `${before}#${behind}`.replace(symbol, "¤");
}

function symbolOf(tag, positive, code) {
  const { before, behind } = around(tag, code, 1);
  const [lead, trail] = positive.split("¤");
  const text = `${before}#${behind}`;
  const symbol = text.slice(lead.length, text.length - trail.length);
  // Where the pattern has no space, the one after a word belongs to the rule in `assemble`, not to the symbol.
  return trail === "#" ? symbol.replace(/\u00a0$/, "") : symbol;
}

function describe(tag) {
  const positive = pattern(tag, 1);
  const five = intl(tag, "eur", 2).formatToParts("1234567.89");
  const value = (type) => five.find((part) => part.type === type).value;
  const integers = five.filter((part) => part.type === "integer").map((part) => part.value);
  const four = intl(tag, "eur", 0).formatToParts(1234).filter((part) => part.type === "group").length;
  return {
    tag,
    positive,
    negative: pattern(tag, -1),
    group: value("group"),
    decimal: value("decimal"),
    zero: String.fromCodePoint(around(tag, "eur", 1).digits.codePointAt(0) - 1),
    groupingDigitsMin: four ? 4 : 5,
    groupSizeNext: integers.at(-2).length,
    symbols: Object.fromEntries(codes.map((code) => [code, symbolOf(tag, positive, code)])),
  };
}

// The same steps as `format_money` in src/i18n.rs.
function assemble(format, symbol, minor, exponent) {
  const text = String(minor < 0n ? -minor : minor).padStart(exponent + 1, "0");
  const whole = text.slice(0, text.length - exponent);
  let number = "";
  for (let index = 0; index < whole.length; index += 1) {
    const left = whole.length - index;
    const boundary = left === 3 || (left > 3 && (left - 3) % format.groupSizeNext === 0);
    if (index > 0 && boundary && whole.length >= format.groupingDigitsMin) number += format.group;
    number += whole[index];
  }
  if (exponent > 0) number += format.decimal + text.slice(-exponent);
  const zero = format.zero.codePointAt(0);
  number = number.replace(/[0-9]/g, (digit) => String.fromCodePoint(zero + Number(digit)));
  const spaced = endsLikeAWord(symbol) ? `${symbol}\u00a0` : symbol;
  const chosen = minor < 0n ? format.negative : format.positive;
  return chosen.replace("¤#", () => `${spaced}#`).replace("¤", () => symbol).replace("#", () => number);
}

// Amounts go to Intl as decimal text, which it reads exactly.
function expected(tag, code, minor, exponent) {
  const text = String(minor < 0n ? -minor : minor).padStart(exponent + 1, "0");
  const point = text.length - exponent;
  const decimal = `${minor < 0n ? "-" : ""}${text.slice(0, point)}${exponent ? "." : ""}${text.slice(point)}`;
  return intl(tag, code, exponent).format(decimal);
}

const unknown = tags.filter((tag) => !Intl.NumberFormat.supportedLocalesOf(sources[tag] ?? tag).length);
if (unknown.length) throw new Error(`this Node has no data for ${unknown.join(", ")}`);

const formats = tags.map(describe);
for (const format of formats) {
  for (const code of codes) {
    for (const exponent of [0, 2, 3]) {
      for (const minor of [0n, 7n, 123450n, 1234567n, 12345678901n, 999999999999n, -1n, -1234567n]) {
        const [ours, theirs] = [assemble(format, format.symbols[code], minor, exponent), expected(format.tag, code, minor, exponent)];
        if (ours !== theirs) {
          throw new Error(`${format.tag} ${code} ${minor}: the table gives ${JSON.stringify(ours)}, Intl ${JSON.stringify(theirs)}`);
        }
      }
    }
  }
}

// Each currency's most frequent symbol is written once; a locale lists only where it differs.
const shared = {};
for (const code of codes) {
  const counts = new Map();
  for (const format of formats) counts.set(format.symbols[code], (counts.get(format.symbols[code]) ?? 0) + 1);
  shared[code] = [...counts].sort((left, right) => right[1] - left[1])[0][0];
}

// What cannot be seen, or turns the direction of the line round it, is written as an escape.
const quoted = (text) =>
  `"${text.replace(/["\\]/g, "\\$&").replace(/[\p{Cf}\p{Zs}\p{Script=Arabic}\p{Script=Hebrew}\p{Nd}\u066b\u066c]/gu, (char) =>
    /[ 0-9]/.test(char) ? char : `\\u{${char.codePointAt(0).toString(16)}}`)}"`;
const pairs = (entries, indent) => {
  const lines = [""];
  for (const [code, symbol] of entries) {
    const pair = `("${code}", ${quoted(symbol)}),`;
    if (lines.at(-1).length + pair.length > 100) lines.push("");
    lines[lines.length - 1] += (lines.at(-1) ? " " : "") + pair;
  }
  return lines.map((line) => `${indent}${line}`).join("\n");
};

const rust = [
  "//! How each locale writes money: separators, grouping, the place of the symbol, and the symbols.",
  "//!",
  "//! Written by `scripts/generate-money-formats.mjs`; change that and run it again. The data is from the Unicode CLDR",
  `//! ${process.versions.cldr} (Unicode License v3), read through Node's Intl. How many decimals an amount has is not in here.`,
  "",
  "use super::MoneyFormat;",
  "",
  "/// The symbol that most locales use, by currency; a currency that is not listed is written as its code.",
  "#[rustfmt::skip]",
  "pub(super) const SHARED_SYMBOLS: &[(&str, &str)] = &[",
  pairs(codes.filter((code) => shared[code] !== code.toUpperCase()).map((code) => [code, shared[code]]), "    "),
  "];",
  "",
  "/// Every locale that we know, by tag. `symbols` holds those that differ from the shared ones.",
  "#[rustfmt::skip]",
  "pub(super) const MONEY_FORMATS: &[MoneyFormat] = &[",
  ...formats.map((format) => {
    const own = codes.filter((code) => format.symbols[code] !== shared[code]).map((code) => [code, format.symbols[code]]);
    return [
      `    MoneyFormat { tag: "${format.tag}", positive: ${quoted(format.positive)}, negative: ${quoted(format.negative)},`,
      `        group: ${quoted(format.group)}, decimal: ${quoted(format.decimal)}, zero: '${quoted(format.zero).slice(1, -1)}', ` +
        `grouping_digits_min: ${format.groupingDigitsMin}, group_size_next: ${format.groupSizeNext},`,
      own.length ? `        symbols: &[\n${pairs(own, "            ")}\n        ] },` : "        symbols: &[] },",
    ].join("\n");
  }),
  "];",
  "",
].join("\n");
writeFileSync(new URL("src/i18n/money_formats.rs", root), rust);

const goldenExponents = { eur: 2, usd: 2, chf: 2, gbp: 2, jpy: 0, xof: 0, kwd: 3, cad: 2, cny: 2, isk: 2, ils: 2, sar: 2 };
const golden = [];
for (const tag of tags) {
  for (const [code, exponent] of Object.entries(goldenExponents)) {
    const amounts = code === "eur" || code === "chf" ? [7n, 123450n, 999999999999n, -123450n] : [100n, 1234560n];
    for (const minor of amounts) golden.push([tag, code, minor, expected(tag, code, minor, exponent)].join("\t"));
  }
}
writeFileSync(new URL("src/i18n/money_golden.tsv", root), `${golden.join("\n")}\n`);
console.log(`${formats.length} locales, ${codes.length} currencies, ${golden.length} golden rows`);
