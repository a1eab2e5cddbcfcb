//! The short code by which somebody who was refused names the audit record of it: to read out, to type, to find the record by.
//!
//! Nine characters of Crockford's Base32 say a part of the record's id (the second, and twenty bits of chance), the tenth checks
//! them. A second comes round again in a year or so; what is found is the latest.

use std::fmt;

use crate::clock::Timestamp;

/// without I, L, O and U, which are misread
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARACTERS: usize = 10;
const CHANCE_BITS: u32 = 20;
/// hexadecimal digits of an id that are chance and in the code
const CHANCE_DIGITS: usize = 5;
const SECOND_BITS: u32 = 25;
/// how many times a second that came round is looked for
const ROUNDS: u64 = 3;
/// a record's clock may be so far ahead
const AHEAD_SECONDS: u64 = 3600;

/// a code that is sound
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppealCode(u64);

impl AppealCode {
    /// the code of the record with this id; `None` of what is no id
    pub fn of(id: &str) -> Option<Self> {
        if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let millis = u64::from_str_radix(&id[..12], 16).ok()?;
        let chance = u64::from_str_radix(&id[id.len() - CHANCE_DIGITS..], 16).ok()?;
        let second = (millis / 1000) % (1 << SECOND_BITS);
        Some(AppealCode(second << CHANCE_BITS | chance))
    }

    /// reads what a person typed: any case, hyphens and spaces, O for 0 and the like; `None` if a character is wrong
    pub fn parse(text: &str) -> Option<Self> {
        let mut digits = Vec::with_capacity(CHARACTERS);
        for character in text.chars().filter(|character| !matches!(character, '-' | ' ')) {
            if digits.len() == CHARACTERS {
                return None;
            }
            digits.push(digit(character)?);
        }
        let (check, digits) = digits.split_last()?;
        let code = digits.iter().fold(0, |sum, digit| sum << 5 | u64::from(*digit));
        (digits.len() + 1 == CHARACTERS && check_digit(digits) == *check).then_some(AppealCode(code))
    }

    /// the seconds in which the record can lie, by their beginnings, the latest first
    pub fn seconds(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let round = 1 << SECOND_BITS;
        let (second, latest) = (self.0 >> CHANCE_BITS, now.as_millis() / 1000 + AHEAD_SECONDS);
        let newest = latest - (latest + round - second) % round;
        (0..ROUNDS)
            .filter_map(move |rounds| newest.checked_sub(rounds * round))
            .map(|second| Timestamp::from_millis(second * 1000))
    }

    fn digits(self) -> [u8; CHARACTERS - 1] {
        std::array::from_fn(|place| (self.0 >> (5 * (CHARACTERS - 2 - place)) & 31) as u8)
    }
}

fn digit(character: char) -> Option<u8> {
    let character = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let place = ALPHABET.iter().position(|known| char::from(*known) == character)?;
    u8::try_from(place).ok()
}

/// Luhn's algorithm over 32 characters: it notices any wrong character, and nearly any two that changed places
fn check_digit(digits: &[u8]) -> u8 {
    let doubled = |digit: u8| digit * 2 / 32 + digit * 2 % 32;
    let sum: u8 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 0 { doubled(*digit) } else { *digit })
        .fold(0, |sum, digit| (sum + digit) % 32);
    (32 - sum) % 32
}

impl fmt::Display for AppealCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digits();
        for (place, digit) in digits.iter().chain([&check_digit(&digits)]).enumerate() {
            if place == CHARACTERS / 2 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(ALPHABET[usize::from(*digit)]))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditRecord;
    use crate::reason::Reason;
    use proptest::prelude::*;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn id_at(at: Timestamp) -> String {
        AuditRecord::refusal(Reason::Burst, [192, 0, 2, 1].into(), at).id
    }

    #[test]
    fn a_code_is_read_as_people_write_it() {
        let code = AppealCode::of(&id_at(NOW)).unwrap();
        let text = code.to_string();
        println!("{text}");
        assert_eq!(text.len(), CHARACTERS + 1);
        for spelling in
            [text.clone(), text.to_lowercase(), text.replace('-', " "), text.replace('0', "o").replace('1', "l")]
        {
            assert_eq!(AppealCode::parse(&spelling), Some(code), "{spelling}");
        }
        for wrong in ["", "0", "00000-00001", &format!("{text}0"), "ÄÄÄÄÄ-ÄÄÄÄÄ", "UUUUU-UUUUU"] {
            assert_eq!(AppealCode::parse(wrong), None, "{wrong}");
        }
        assert_eq!(AppealCode::of("0abc"), None);
    }

    proptest! {
        #[test]
        fn a_wrong_character_is_noticed(chance in any::<u64>(), place in 0..CHARACTERS, by in 1usize..32) {
            let text = AppealCode(chance >> 19).to_string().replace('-', "");
            let mut characters: Vec<u8> = text.into_bytes();
            let known = ALPHABET.iter().position(|known| *known == characters[place]).unwrap();
            characters[place] = ALPHABET[(known + by) % 32];
            prop_assert_eq!(AppealCode::parse(std::str::from_utf8(&characters).unwrap()), None);
        }

        #[test]
        fn a_record_lies_in_one_of_the_seconds_of_its_code(age in 0u64..1_100 * 86_400, ahead in 0u64..3000) {
            let then = NOW.minus(Duration::from_secs(age)).plus(Duration::from_secs(ahead));
            let code = AppealCode::of(&id_at(then)).unwrap();
            let lies_in = |second: Timestamp| second <= then && then.since(second) < Duration::from_secs(1);
            prop_assert!(code.seconds(NOW).any(lies_in), "{} {:?}", then, code);
        }
    }
}
