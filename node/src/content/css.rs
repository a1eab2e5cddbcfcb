//! Style declarations that load or run something: judged without comments, escapes, white space and case.

/// Functions and properties by which a declaration reaches beyond how its element looks.
const REACHES: &[&str] = &[
    "expression(",
    "behavior:",
    "behaviour:",
    "-moz-binding",
    "@import",
    "@namespace",
    "image(",
    "image-set(",
    "cross-fade(",
    "src(",
    "javascript:",
    "vbscript:",
    "-o-link",
    "<",
];

/// True if the content of a `style` attribute would load or run something.
pub(super) fn reaches_out(style: &str) -> bool {
    let plain = normalised(style);
    REACHES.iter().any(|reach| plain.contains(reach)) || loads_url(&plain)
}

/// `url(…)` loads, unless it names a fragment of the same document.
fn loads_url(plain: &str) -> bool {
    let mut rest = plain;
    while let Some(at) = rest.find("url(") {
        rest = rest.get(at + 4..).unwrap_or_default();
        if !rest.trim_start_matches(['"', '\'']).starts_with('#') {
            return true;
        }
    }
    false
}

fn normalised(style: &str) -> String {
    let mut plain = String::with_capacity(style.len());
    let mut rest = style;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '\\' => push_escape(&mut plain, rest),
            _ => {
                if !first.is_whitespace() && !first.is_control() {
                    plain.push(first.to_ascii_lowercase());
                }
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    plain
}

/// `\65 ` is a letter by its code, `\e` outside hexadecimal the letter itself.
fn push_escape(plain: &mut String, rest: &str) -> usize {
    let digits = rest.bytes().skip(1).take(6).take_while(u8::is_ascii_hexdigit).count();
    if digits == 0 {
        return 1;
    }
    let code = rest.get(1..=digits).and_then(|code| u32::from_str_radix(code, 16).ok());
    if let Some(character) = code.and_then(char::from_u32).filter(|character| !character.is_whitespace()) {
        plain.push(character.to_ascii_lowercase());
    }
    1 + digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p09_styles_that_load_or_run_are_told_from_styles_that_paint() {
        for style in [
            "background:url(//x/y)",
            "x:exp/**/ression(alert(1))",
            "b\\65havior:url(#x)",
            "-moz-binding:url(x)",
            "BACKGROUND : URL( 'x' )",
            "background:u\\72l(x)",
            "width:expres\\sion(1)",
        ] {
            assert!(reaches_out(style), "{style}");
        }
        for style in
            ["color:red", "font-family:'a b';width:calc(1px + 2em)", "fill:url(#gradient)", "", "/* unfinished"]
        {
            assert!(!reaches_out(style), "{style}");
        }
    }
}
