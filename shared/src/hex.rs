//! Bytes as hexadecimal digits: written in lower case, read in any.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// two digits a byte, the high one first
pub fn encode(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// `2 N` digits
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_as_the_formatter_tells_it() {
        let bytes: Vec<u8> = (0..=255).collect();
        let told: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(encode(&bytes), told);
    }
    #[test]
    fn what_was_encoded_is_decoded_and_nothing_else() {
        let bytes = [0, 0x0f, 0xa9, 0xff];
        assert_eq!(decode(&encode(&bytes)), Some(bytes));
        assert_eq!(decode("000FA9FF"), Some(bytes));
        for text in ["", "0", "zz", "é", "+1", "000"] {
            assert_eq!(decode::<1>(text), None, "{text}");
        }
    }
}
