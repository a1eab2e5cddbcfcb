//! WebSocket frame headers of a client (RFC 6455 section 5.2), judged before their payload is there.
//!
//! tungstenite judges a frame when its payload has arrived, and shows messages, not fragments. This scanner sees each header as
//! it passes, so that a refusal costs no memory, and counts what tungstenite hides.

use picket_shared::clock::Timestamp;
use picket_shared::window::{Quota, Verdict, Window};

/// bounds of what a client may send
#[derive(Clone, Copy, Debug)]
pub struct FrameBounds {
    pub message_bytes_max: u64,
    pub fragments_max: usize,
    /// pings, pongs and closes
    pub control_frames: Quota,
}

/// what is wrong with a frame; the text is for operators
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("{0}")]
    Protocol(&'static str),
    #[error("a message of {0} bytes")]
    TooBig(u64),
    #[error("too many {0}")]
    Flood(&'static str),
}

/// the longest header: two bytes, eight of length, four of mask
const HEADER_BYTES_MAX: usize = 14;
const MASK_BYTES: usize = 4;
const CONTROL_BYTES_MAX: u64 = 125;
const CLOSE: u8 = 8;

/// follows the frames in a stream of bytes
#[derive(Debug)]
pub struct FrameScanner {
    bounds: FrameBounds,
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    mask: [u8; MASK_BYTES],
    payload_left: u64,
    message: Option<Message>,
    control: Window,
    /// the body of a close frame so far: its code is judged here, since tungstenite knows fewer codes
    close: Vec<u8>,
}

/// a message whose last fragment has not come, or not whole
#[derive(Debug)]
struct Message {
    since: Timestamp,
    bytes: u64,
    fragments: usize,
    /// the last frame is here, only its payload is missing
    is_last: bool,
}

impl FrameScanner {
    pub fn new(bounds: FrameBounds) -> Self {
        FrameScanner {
            bounds,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            mask: [0; MASK_BYTES],
            payload_left: 0,
            message: None,
            control: Window::default(),
            close: Vec::new(),
        }
    }

    /// since when a message or a header is under way
    pub fn unfinished_since(&self) -> Option<Timestamp> {
        self.message.as_ref().map(|message| message.since)
    }

    /// the code of the close frame that was seen, in whatever is registered (RFC 6455 section 7.4, IANA)
    pub fn close_code(&self) -> Option<u16> {
        Some(u16::from_be_bytes(self.close.get(..2)?.try_into().ok()?))
    }

    /// a changed policy reaches messages that are under way
    pub fn limit_messages(&mut self, bytes_max: u64) {
        self.bounds.message_bytes_max = bytes_max;
    }

    /// looks at the next bytes; on a violation says how many bytes before it are sound
    pub fn scan(&mut self, bytes: &[u8], now: Timestamp) -> Result<(), (usize, Violation)> {
        let mut at = 0;
        let mut sound = 0;
        while at < bytes.len() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.look_into_close(&bytes[at..at + skipped]);
                self.payload_left -= skipped as u64;
                at += skipped;
            } else {
                self.header[self.header_len] = bytes[at];
                self.header_len += 1;
                at += 1;
                self.judge(now).map_err(|violation| (sound, violation))?;
            }
            if self.payload_left == 0 && self.header_len == 0 {
                self.finish_frame().map_err(|violation| (sound, violation))?;
                sound = at;
            }
        }
        Ok(())
    }

    /// judges as much of the header as is there; clears it when it is complete
    fn judge(&mut self, now: Timestamp) -> Result<(), Violation> {
        let first = self.header[0];
        let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
        if self.header_len == 1 {
            return self.judge_first(first, is_final, opcode, now);
        }
        let second = self.header[1];
        if second & 0x80 == 0 {
            return Err(Violation::Protocol("unmasked frame"));
        }
        let short = u64::from(second & 0x7f);
        if opcode >= 8 && short > CONTROL_BYTES_MAX {
            return Err(Violation::Protocol("control frame longer than 125 bytes"));
        }
        let length_bytes = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let extended =
            self.header[2..2 + length_bytes].iter().fold(0u64, |length, &byte| length << 8 | u64::from(byte));
        let length = if length_bytes == 0 { short } else { extended };
        if self.header_len == 2 + length_bytes {
            return self.judge_length(opcode, length);
        }
        if self.header_len == 2 + length_bytes + MASK_BYTES {
            self.mask.copy_from_slice(&self.header[2 + length_bytes..self.header_len]);
            self.payload_left = length;
            self.header_len = 0;
        }
        Ok(())
    }

    /// unmasks the body of a close frame, which is short
    fn look_into_close(&mut self, masked: &[u8]) {
        if self.header[0] & 0x0f == CLOSE {
            for byte in masked {
                self.close.push(byte ^ self.mask[self.close.len() % MASK_BYTES]);
            }
        }
    }

    fn judge_first(&mut self, first: u8, is_final: bool, opcode: u8, now: Timestamp) -> Result<(), Violation> {
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("reserved bits are set"));
        }
        match opcode {
            0 => match &mut self.message {
                Some(message) => {
                    message.fragments += 1;
                    message.is_last = is_final;
                    let too_many = message.fragments > self.bounds.fragments_max;
                    if too_many { Err(Violation::Flood("fragments")) } else { Ok(()) }
                }
                None => Err(Violation::Protocol("continuation of nothing")),
            },
            1 | 2 if self.message.is_some() => Err(Violation::Protocol("a message inside a message")),
            1 | 2 => {
                self.message = Some(Message { since: now, bytes: 0, fragments: 1, is_last: is_final });
                Ok(())
            }
            8..=10 if !is_final => Err(Violation::Protocol("fragmented control frame")),
            8..=10 => match self.control.admit(self.bounds.control_frames, now) {
                Verdict::Admitted => Ok(()),
                Verdict::Refused { .. } => Err(Violation::Flood("control frames")),
            },
            _ => Err(Violation::Protocol("reserved opcode")),
        }
    }

    fn judge_length(&mut self, opcode: u8, length: u64) -> Result<(), Violation> {
        let Some(message) = self.message.as_mut().filter(|_| opcode < 8) else {
            return Ok(());
        };
        message.bytes = message.bytes.saturating_add(length);
        match message.bytes > self.bounds.message_bytes_max {
            true => Err(Violation::TooBig(message.bytes)),
            false => Ok(()),
        }
    }

    /// a frame has ended; a control frame between fragments leaves the message open
    fn finish_frame(&mut self) -> Result<(), Violation> {
        let opcode = self.header[0] & 0x0f;
        if opcode < 8 && self.message.as_ref().is_some_and(|message| message.is_last) {
            self.message = None;
        }
        match (opcode, self.close.len(), self.close_code()) {
            (CLOSE, 1, _) => Err(Violation::Protocol("a close frame of one byte")),
            (CLOSE, _, Some(code)) if !may_be_sent(code) => Err(Violation::Protocol("illegal close code")),
            _ => Ok(()),
        }
    }
}

/// close codes that an endpoint may put into a frame
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn scanner() -> FrameScanner {
        FrameScanner::new(FrameBounds {
            message_bytes_max: 1000,
            fragments_max: 4,
            control_frames: Quota::new(3, 5000),
        })
    }

    fn frame(first: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match payload {
            0..=125 => frame.push(0x80 | u8::try_from(payload).unwrap()),
            126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([1, 2, 3, 4]);
        frame.extend(std::iter::repeat_n(b'x', payload.min(2000)));
        frame
    }

    fn verdict(frames: &[Vec<u8>]) -> Result<(), (usize, Violation)> {
        scanner().scan(&frames.concat(), NOW)
    }

    #[test]
    fn legal_frames_pass_and_leave_nothing_open() {
        let mut scanner = scanner();
        let frames = [
            frame(0x81, 0),
            frame(0x82, 999),
            frame(0x01, 10),
            frame(0x89, 5),
            frame(0x00, 10),
            frame(0x80, 0),
            frame(0x88, 0),
        ];
        assert_eq!(scanner.scan(&frames.concat(), NOW), Ok(()));
        assert_eq!(scanner.unfinished_since(), None);
    }

    #[test]
    fn f01_f02_f03_f04_f07_f08_f09_f10_f12_violations_are_seen_from_the_header() {
        let protocol = |text| Violation::Protocol(text);
        let cases: Vec<(Vec<Vec<u8>>, Violation)> = vec![
            (vec![vec![0x81, 0x05]], protocol("unmasked frame")),
            (vec![vec![0xc1]], protocol("reserved bits are set")),
            (vec![vec![0x83]], protocol("reserved opcode")),
            (vec![vec![0x8b]], protocol("reserved opcode")),
            (vec![vec![0x09]], protocol("fragmented control frame")),
            (vec![vec![0x89, 0xfe]], protocol("control frame longer than 125 bytes")),
            (vec![vec![0x80]], protocol("continuation of nothing")),
            (vec![frame(0x01, 3), vec![0x81]], protocol("a message inside a message")),
            (vec![frame(0x81, 1001)[..4].to_vec()], Violation::TooBig(1001)),
            (vec![vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]], Violation::TooBig(1 << 63)),
            (vec![frame(0x01, 600), frame(0x80, 401)], Violation::TooBig(1001)),
            (
                vec![frame(0x01, 1), frame(0x00, 0), frame(0x00, 0), frame(0x00, 0), vec![0x00]],
                Violation::Flood("fragments"),
            ),
            (vec![frame(0x89, 0), frame(0x8a, 0), frame(0x89, 0), vec![0x89]], Violation::Flood("control frames")),
        ];
        for (frames, expected) in cases {
            let sound: usize = frames[..frames.len() - 1].iter().map(Vec::len).sum();
            assert_eq!(verdict(&frames), Err((sound, expected)), "{expected}");
        }
    }

    #[test]
    fn f06_close_codes_are_read_through_the_mask() {
        let close = |code: u16| {
            let body = code.to_be_bytes();
            vec![0x88, 0x82, 1, 2, 3, 4, body[0] ^ 1, body[1] ^ 2]
        };
        for code in [1000, 1014, 3000, 4999] {
            let mut scanner = scanner();
            assert_eq!(scanner.scan(&close(code), NOW), Ok(()), "{code}");
            assert_eq!(scanner.close_code(), Some(code));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            assert_eq!(
                scanner().scan(&close(code), NOW),
                Err((0, Violation::Protocol("illegal close code"))),
                "{code}"
            );
        }
        let one_byte = [0x88, 0x81, 1, 2, 3, 4, 5];
        assert_eq!(scanner().scan(&one_byte, NOW), Err((0, Violation::Protocol("a close frame of one byte"))));
    }

    #[test]
    fn f11_f13_an_unfinished_message_has_a_start() {
        let mut scanner = scanner();
        scanner.scan(&frame(0x81, 5)[..8], NOW).unwrap();
        assert_eq!(scanner.unfinished_since(), Some(NOW));
        scanner.scan(&frame(0x81, 5)[8..], NOW.plus(std::time::Duration::from_secs(9))).unwrap();
        assert_eq!(scanner.unfinished_since(), None);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_the_bytes_arrive(frames in prop::collection::vec((0u8..=255, 0usize..300), 1..8), cut in 1usize..20) {
            let bytes: Vec<u8> = frames.into_iter().flat_map(|(first, payload)| frame(first, payload)).collect();
            let whole = scanner().scan(&bytes, NOW);
            let mut pieces = scanner();
            let mut at = 0;
            let mut outcome = Ok(());
            for piece in bytes.chunks(cut) {
                if let Err((_, violation)) = pieces.scan(piece, NOW) {
                    outcome = Err(violation);
                    break;
                }
                at += piece.len();
            }
            prop_assert!(at <= bytes.len());
            prop_assert_eq!(whole.map_err(|(_, violation)| violation), outcome);
        }
    }
}
