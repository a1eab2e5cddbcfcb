//! The PROXY protocol, versions 1 and 2 (HAProxy, `doc/proxy-protocol.txt`): whom a load balancer speaks for. Pure, no IO.
//!
//! Strict: one spelling of each address, no header that names no client, no byte beyond [`HEADER_BYTES_MAX`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// the longest header that is read, its TLVs included
pub const HEADER_BYTES_MAX: usize = 2048;
/// the longest line of version 1, with its line end (section 2.1)
const LINE_BYTES_MAX: usize = 107;

const LINE_SIGNATURE: &[u8] = b"PROXY ";
const BINARY_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// signature, version and command, family and transport, length
const BINARY_PREFIX_BYTES: usize = 16;

/// TLV whose value is the CRC-32C of the whole header, itself as zeros (section 2.2.3)
const TLV_CRC32C: u8 = 0x03;
/// type and length of a TLV
const TLV_PREFIX_BYTES: usize = 3;

/// what the first bytes of a connection are
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// may become a header
    Incomplete,
    /// no header: the connection speaks for itself
    Absent,
    /// a header of so many bytes
    Header { bytes: usize, from: Named },
}

/// whom a header names
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    Client(SocketAddr),
    /// LOCAL, UNKNOWN or a family without addresses: the proxy itself, as in its health checks
    Nobody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a PROXY line that is not `PROXY TCP4|TCP6 source destination port port`")]
    Line,
    #[error("a PROXY header of another version or command than 2, PROXY and LOCAL")]
    Command,
    #[error("a PROXY header for another transport than a stream")]
    Transport,
    #[error("a PROXY header whose lengths do not fit")]
    Length,
    #[error("a PROXY header with a wrong checksum")]
    Checksum,
}

/// reads as much of a header as is there; called again with more bytes while it is incomplete
pub fn read(bytes: &[u8]) -> Result<Opening, Malformed> {
    if bytes.starts_with(LINE_SIGNATURE) {
        read_line(bytes)
    } else if bytes.starts_with(BINARY_SIGNATURE) {
        read_binary(bytes)
    } else if LINE_SIGNATURE.starts_with(bytes) || BINARY_SIGNATURE.starts_with(bytes) {
        Ok(Opening::Incomplete)
    } else {
        Ok(Opening::Absent)
    }
}

fn read_line(bytes: &[u8]) -> Result<Opening, Malformed> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() < LINE_BYTES_MAX { Ok(Opening::Incomplete) } else { Err(Malformed::Line) };
    };
    let line = std::str::from_utf8(&seen[LINE_SIGNATURE.len()..end]).map_err(|_| Malformed::Line)?;
    // What follows UNKNOWN must be ignored (section 2.1).
    let from = if line == "UNKNOWN" || line.starts_with("UNKNOWN ") { Named::Nobody } else { addresses_of(line)? };
    Ok(Opening::Header { bytes: end + 2, from })
}

fn addresses_of(line: &str) -> Result<Named, Malformed> {
    let mut words = line.split(' ');
    let mut word = || words.next().ok_or(Malformed::Line);
    let address: fn(&str) -> Option<IpAddr> = match word()? {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return Err(Malformed::Line),
    };
    let source = address(word()?).ok_or(Malformed::Line)?;
    address(word()?).ok_or(Malformed::Line)?;
    let source_port = port(word()?).ok_or(Malformed::Line)?;
    port(word()?).ok_or(Malformed::Line)?;
    match words.next() {
        None => Ok(Named::Client(SocketAddr::new(source, source_port))),
        Some(_) => Err(Malformed::Line),
    }
}

/// digits without sign and leading zeros
fn port(text: &str) -> Option<u16> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical)
}

fn read_binary(bytes: &[u8]) -> Result<Opening, Malformed> {
    let Some((prefix, rest)) = bytes.split_at_checked(BINARY_PREFIX_BYTES) else {
        return Ok(Opening::Incomplete);
    };
    let [.., command, family, high, low] = *prefix else {
        return Err(Malformed::Length);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = BINARY_PREFIX_BYTES + length;
    if total > HEADER_BYTES_MAX {
        return Err(Malformed::Length);
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Command),
    };
    let addresses = addresses_length(family)?;
    if length < addresses && !is_local {
        return Err(Malformed::Length);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Opening::Incomplete);
    };
    if is_local {
        // Whatever stands in it must be ignored (section 2.2).
        return Ok(Opening::Header { bytes: total, from: Named::Nobody });
    }
    check_tlvs(&bytes[..total], BINARY_PREFIX_BYTES + addresses)?;
    Ok(Opening::Header { bytes: total, from: source(family, body)? })
}

/// bytes of both addresses and ports
fn addresses_length(family: u8) -> Result<usize, Malformed> {
    match family {
        0x00 => Ok(0),
        0x11 => Ok(12),
        0x21 => Ok(36),
        0x31 => Ok(216),
        _ => Err(Malformed::Transport),
    }
}

fn source(family: u8, body: &[u8]) -> Result<Named, Malformed> {
    let cut = || Malformed::Length;
    let (ip, port) = match family {
        0x11 => {
            let ip: [u8; 4] = body.get(..4).ok_or_else(cut)?.try_into().map_err(|_| cut())?;
            (IpAddr::from(ip), body.get(8..10).ok_or_else(cut)?)
        }
        0x21 => {
            let ip: [u8; 16] = body.get(..16).ok_or_else(cut)?.try_into().map_err(|_| cut())?;
            (IpAddr::from(ip), body.get(32..34).ok_or_else(cut)?)
        }
        _ => return Ok(Named::Nobody),
    };
    Ok(Named::Client(SocketAddr::new(ip, u16::from_be_bytes(port.try_into().map_err(|_| cut())?))))
}

/// the TLVs fill the header exactly, and a checksum among them is right
fn check_tlvs(header: &[u8], start: usize) -> Result<(), Malformed> {
    let mut at = start;
    while at < header.len() {
        let &[kind, high, low] = header.get(at..at + TLV_PREFIX_BYTES).ok_or(Malformed::Length)? else {
            return Err(Malformed::Length);
        };
        let value_at = at + TLV_PREFIX_BYTES;
        let end = value_at + usize::from(u16::from_be_bytes([high, low]));
        let value = header.get(value_at..end).ok_or(Malformed::Length)?;
        if kind == TLV_CRC32C {
            let said: [u8; 4] = value.try_into().map_err(|_| Malformed::Length)?;
            let zeroed = header[..value_at].iter().chain(&[0; 4]).chain(&header[end..]);
            if crc32c(zeroed.copied()) != u32::from_be_bytes(said) {
                return Err(Malformed::Checksum);
            }
        }
        at = end;
    }
    Ok(())
}

/// Castagnoli's CRC (RFC 3720 appendix B.4), bit by bit: a header is short and has one of these at most seldom
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL_REFLECTED: u32 = 0x82f6_3b78;
    let update = |crc: u32, byte: u8| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (POLYNOMIAL_REFLECTED & (crc & 1).wrapping_neg()))
    };
    !bytes.fold(u32::MAX, update)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [BINARY_SIGNATURE, &[command, family], &length, body].concat()
    }

    fn ipv4_body(tlvs: &[u8]) -> Vec<u8> {
        [&[198, 51, 100, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80], tlvs].concat()
    }

    fn client(bytes: &[u8]) -> Option<String> {
        match read(bytes) {
            Ok(Opening::Header { bytes: length, from: Named::Client(address) }) if length == bytes.len() => {
                Some(address.to_string())
            }
            _ => None,
        }
    }

    #[test]
    fn a_line_names_the_client() {
        assert_eq!(client(b"PROXY TCP4 198.51.100.7 10.0.0.1 8080 80\r\n").as_deref(), Some("198.51.100.7:8080"));
        assert_eq!(client(b"PROXY TCP6 2001:db8::7 ::1 1 65535\r\n").as_deref(), Some("[2001:db8::7]:1"));
        for nobody in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN whatever stands here\r\n"] {
            assert_eq!(read(nobody), Ok(Opening::Header { bytes: nobody.len(), from: Named::Nobody }));
        }
    }

    #[test]
    fn a_line_has_one_spelling() {
        for line in [
            "PROXY TCP4 198.51.100.7 10.0.0.1 8080\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 8080 80 1\r\n",
            "PROXY TCP4 198.51.100.7  10.0.0.1 8080 80\r\n",
            "PROXY  TCP4 198.51.100.7 10.0.0.1 8080 80\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 8080 80 \r\n",
            "PROXY TCP4 198.51.100.007 10.0.0.1 8080 80\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 +8080 80\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 08080 80\r\n",
            "PROXY TCP4 198.51.100.7 10.0.0.1 65536 80\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 1\r\n",
            "PROXY TCP6 198.51.100.7 10.0.0.1 1 1\r\n",
            "PROXY TCP5 198.51.100.7 10.0.0.1 1 1\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Err(Malformed::Line), "{line:?}");
        }
        assert_eq!(read(&[b"PROXY ".to_vec(), vec![b'x'; 101]].concat()), Err(Malformed::Line), "an endless line");
        assert_eq!(read(b"PROXY \xff\r\n"), Err(Malformed::Line));
    }

    #[test]
    fn a_binary_header_names_the_client() {
        assert_eq!(client(&binary(0x21, 0x11, &ipv4_body(&[]))).as_deref(), Some("198.51.100.7:8080"));
        assert_eq!(client(&binary(0x21, 0x11, &ipv4_body(&[4, 0, 2, 0, 0]))).as_deref(), Some("198.51.100.7:8080"));
        let mut ipv6 = vec![0; 36];
        ipv6[..2].copy_from_slice(&[0x20, 0x01]);
        ipv6[33] = 9;
        assert_eq!(client(&binary(0x21, 0x21, &ipv6)).as_deref(), Some("[2001::]:9"));
    }

    #[test]
    fn h25_what_names_nobody_or_is_malformed_is_told_apart() {
        for (header, from) in [
            (binary(0x20, 0x00, &[]), Named::Nobody),
            (binary(0x20, 0x11, &[]), Named::Nobody),
            (binary(0x20, 0x21, &[1; 7]), Named::Nobody),
            (binary(0x21, 0x00, &[]), Named::Nobody),
            (binary(0x21, 0x31, &[0; 216]), Named::Nobody),
        ] {
            assert_eq!(read(&header), Ok(Opening::Header { bytes: header.len(), from }), "{header:?}");
        }
        for (header, malformed) in [
            (binary(0x11, 0x11, &ipv4_body(&[])), Malformed::Command),
            (binary(0x22, 0x11, &ipv4_body(&[])), Malformed::Command),
            (binary(0x21, 0x12, &ipv4_body(&[])), Malformed::Transport),
            (binary(0x21, 0x44, &ipv4_body(&[])), Malformed::Transport),
            (binary(0x20, 0xff, &[]), Malformed::Transport),
            (binary(0x21, 0x11, &[0; 11]), Malformed::Length),
            (binary(0x21, 0x21, &ipv4_body(&[])), Malformed::Length),
            (binary(0x21, 0x11, &ipv4_body(&[4])), Malformed::Length),
            (binary(0x21, 0x11, &ipv4_body(&[4, 0, 9, 0])), Malformed::Length),
            (binary(0x21, 0x11, &ipv4_body(&[3, 0, 1, 0])), Malformed::Length),
            (binary(0x21, 0x11, &ipv4_body(&[3, 0, 4, 1, 2, 3, 4])), Malformed::Checksum),
            (binary(0x21, 0x11, &[0; HEADER_BYTES_MAX]), Malformed::Length),
        ] {
            assert_eq!(read(&header), Err(malformed), "{header:?}");
        }
    }

    #[test]
    fn a_checksum_is_held_to() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let mut header = binary(0x21, 0x11, &ipv4_body(&[3, 0, 4, 0, 0, 0, 0]));
        let checksum = crc32c(header.iter().copied()).to_be_bytes();
        let at = header.len() - 4;
        header[at..].copy_from_slice(&checksum);
        assert_eq!(client(&header).as_deref(), Some("198.51.100.7:8080"));
    }

    #[test]
    fn what_is_no_header_speaks_for_itself() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"POST /", b"PROXY\t", b"proxy ", b"\x16\x03\x01", b"\r\n\r\nGET"] {
            assert_eq!(read(bytes), Ok(Opening::Absent), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), signature in 0..3) {
            let start: &[u8] = [&b""[..], LINE_SIGNATURE, BINARY_SIGNATURE][signature as usize];
            let bytes = [start, &bytes].concat();
            if let Ok(Opening::Header { bytes: length, .. }) = read(&bytes) {
                prop_assert!(length <= bytes.len() && length <= HEADER_BYTES_MAX);
            }
        }

        #[test]
        fn a_header_is_read_the_same_however_it_arrives(ip: [u8; 4], port: u16, follows in prop::collection::vec(any::<u8>(), 0..40)) {
            let source = SocketAddr::from((ip, port));
            let line = format!("PROXY TCP4 {} 10.0.0.1 {port} 80\r\n", source.ip()).into_bytes();
            let body = [&ip[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[0, 80]].concat();
            for header in [line, binary(0x21, 0x11, &body)] {
                for cut in 0..header.len() {
                    prop_assert_eq!(read(&header[..cut]), Ok(Opening::Incomplete), "{} bytes", cut);
                }
                let whole = Opening::Header { bytes: header.len(), from: Named::Client(source) };
                prop_assert_eq!(read(&[&header[..], &follows].concat()), Ok(whole));
            }
        }
    }
}
