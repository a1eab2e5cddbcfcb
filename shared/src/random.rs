//! Randomness from the operating system, for identifiers and generated credentials.

/// `bytes` random bytes as lower-case hex
#[expect(clippy::expect_used, reason = "without the system's randomness no identifier is safe to hand out")]
pub fn hex(bytes: usize) -> String {
    let mut buffer = vec![0u8; bytes];
    getrandom::fill(&mut buffer).expect("the operating system has no randomness");
    crate::hex::encode(&buffer)
}

/// `N` random bytes, for keys
#[expect(clippy::expect_used, reason = "without the system's randomness no key is safe to use")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut buffer = [0u8; N];
    getrandom::fill(&mut buffer).expect("the operating system has no randomness");
    buffer
}

/// `count` times `N` random bytes, asked for at once
#[expect(clippy::expect_used, reason = "without the system's randomness no salt is safe to use")]
pub fn many<const N: usize>(count: usize) -> Vec<[u8; N]> {
    let mut buffer = vec![[0u8; N]; count];
    getrandom::fill(buffer.as_flattened_mut()).expect("the operating system has no randomness");
    buffer
}
