//! Comma-separated values (RFC 4180) that a spreadsheet does not take for formulas.

/// one line with its end
pub(super) fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<_> = cells.into_iter().map(cell).collect();
    format!("{}\r\n", cells.join(","))
}

fn cell(text: &str) -> String {
    // A spreadsheet runs what starts so; the quote makes it text (OWASP, CSV injection).
    let safe = if text.starts_with(['\t', '\r', '\n']) || starts_a_formula(text) {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if safe.contains(['"', ',', '\r', '\n', ';', '\'']) { format!("\"{}\"", safe.replace('"', "\"\"")) } else { safe }
}

/// also in full width, and behind what a spreadsheet may take away
fn starts_a_formula(text: &str) -> bool {
    let text = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
    text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r11_a_cell_is_never_a_formula() {
        let behind = ["\t=1", "\r=1", "\u{feff}=1", " =1", "\u{a0}@SUM(A1)", "\u{feff} \u{3000}＋1", "\u{1}=1"];
        let plain = ["=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "＝1", "＋1", "－1", "＠SUM(A1)"];
        for text in plain.into_iter().chain(behind) {
            let line = line([text]);
            assert!(line.trim_start_matches('"').starts_with('\''), "{line}");
        }
        assert_eq!(line(["a", "b,c", "d\"e", "f\ng", "1-2"]), "a,\"b,c\",\"d\"\"e\",\"f\ng\",1-2\r\n");
    }
}
