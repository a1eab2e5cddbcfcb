//! HTML character references, as far as they matter for judging: numeric ones, and the named ones for ASCII and invisible
//! characters. Any other name stays as it is, since no other yields a character that a scheme, a tag or a script needs.

use std::borrow::Cow;

const NAMED: &[(&str, char)] = &[
    ("Tab;", '\t'),
    ("NewLine;", '\n'),
    ("excl;", '!'),
    ("quot;", '"'),
    ("QUOT;", '"'),
    ("num;", '#'),
    ("dollar;", '$'),
    ("percnt;", '%'),
    ("amp;", '&'),
    ("AMP;", '&'),
    ("apos;", '\''),
    ("lpar;", '('),
    ("rpar;", ')'),
    ("ast;", '*'),
    ("midast;", '*'),
    ("plus;", '+'),
    ("comma;", ','),
    ("period;", '.'),
    ("sol;", '/'),
    ("colon;", ':'),
    ("semi;", ';'),
    ("lt;", '<'),
    ("LT;", '<'),
    ("equals;", '='),
    ("gt;", '>'),
    ("GT;", '>'),
    ("quest;", '?'),
    ("commat;", '@'),
    ("lsqb;", '['),
    ("lbrack;", '['),
    ("bsol;", '\\'),
    ("rsqb;", ']'),
    ("rbrack;", ']'),
    ("Hat;", '^'),
    ("lowbar;", '_'),
    ("UnderBar;", '_'),
    ("grave;", '`'),
    ("DiacriticalGrave;", '`'),
    ("lcub;", '{'),
    ("lbrace;", '{'),
    ("verbar;", '|'),
    ("vert;", '|'),
    ("VerticalLine;", '|'),
    ("rcub;", '}'),
    ("rbrace;", '}'),
    ("nbsp;", '\u{a0}'),
    ("shy;", '\u{ad}'),
    ("ZeroWidthSpace;", '\u{200b}'),
    ("NoBreak;", '\u{2060}'),
    ("amp", '&'),
    ("AMP", '&'),
    ("lt", '<'),
    ("LT", '<'),
    ("gt", '>'),
    ("GT", '>'),
    ("quot", '"'),
    ("QUOT", '"'),
];

pub(super) fn decode(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'&', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(ampersand) = memchr::memchr(b'&', rest.as_bytes()) {
        let (plain, reference) = rest.split_at(ampersand);
        decoded.push_str(plain);
        let body = reference.get(1..).unwrap_or_default();
        let (character, length) = numeric(body).or_else(|| named(body)).unwrap_or(('&', 0));
        decoded.push(character);
        rest = body.get(length..).unwrap_or_default();
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

/// `#106;`, `#0000106`, `#x6A;`: the final semicolon may be missing.
fn numeric(body: &str) -> Option<(char, usize)> {
    let digits = body.strip_prefix('#')?;
    let (digits, radix, prefix) = match digits.strip_prefix(['x', 'X']) {
        Some(hexadecimal) => (hexadecimal, 16, 2),
        None => (digits, 10, 1),
    };
    let mut code = 0_u32;
    let mut length = 0;
    while let Some(digit) = digits.as_bytes().get(length).and_then(|byte| char::from(*byte).to_digit(radix)) {
        code = code.saturating_mul(radix).saturating_add(digit);
        length += 1;
    }
    if length == 0 {
        return None;
    }
    let semicolon = usize::from(digits.as_bytes().get(length) == Some(&b';'));
    let character = char::from_u32(code).filter(|character| *character != '\0');
    Some((character.unwrap_or(char::REPLACEMENT_CHARACTER), prefix + length + semicolon))
}

fn named(body: &str) -> Option<(char, usize)> {
    let first = body.bytes().next().filter(u8::is_ascii_alphabetic)?;
    let candidates = NAMED.iter().filter(|(name, _)| name.as_bytes().first() == Some(&first));
    candidates
        .map(|(name, character)| (*character, name))
        .find(|(_, name)| body.starts_with(*name))
        .map(|(character, name)| (character, name.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p10_references_decode_as_a_browser_decodes_them() {
        let cases = [
            ("a&#106;b", "ajb"),
            ("&#0000106avascript", "javascript"),
            ("&#x6A;&#X6a", "jj"),
            ("java&Tab;script&colon;x", "java\tscript:x"),
            ("R&D &unknown; & &#; &#x;", "R&D &unknown; & &#; &#x;"),
            ("&lt;&ltx&amp;lt;", "<<x&lt;"),
            ("&#99999999999;", "\u{fffd}"),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text), expected, "{text}");
        }
    }
}
