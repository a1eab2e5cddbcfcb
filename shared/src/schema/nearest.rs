//! The known word that is nearest to a mistyped one.

/// the nearest of `known`, if it is near enough to be what was meant
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = plain(word);
    let reach = (plain.len() / 3).clamp(1, 3);
    let scored = known.into_iter().map(|candidate| (distance(&plain, &self::plain(candidate)), candidate));
    scored.filter(|(distance, _)| *distance <= reach).min().map(|(_, candidate)| candidate)
}

/// without what people spell differently: case, `_` and `-`
fn plain(word: &str) -> Vec<char> {
    const WORD_CHARS_MAX: usize = 64;
    word.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).take(WORD_CHARS_MAX).collect()
}

/// the edit distance of Levenshtein
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_word_and_nonsense_finds_none() {
        let known = ["allowedOrigins", "allowAnyOrigin", "allowedMethods"];
        for (word, expected) in [
            ("allowed_origins", Some("allowedOrigins")),
            ("AllowedOrigin", Some("allowedOrigins")),
            ("alowedMetods", Some("allowedMethods")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
    }
}
