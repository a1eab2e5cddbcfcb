//! Randomness from the operating system, for identifiers and generated credentials.

/// `bytes` random bytes as lower-case hex
#[expect(clippy::expect_used, reason = "without the system's randomness no identifier is safe to hand out")]
pub fn hex(bytes: usize) -> String {
    let mut buffer = vec![0u8; bytes];
    getrandom::fill(&mut buffer).expect("the operating system has no randomness");
    buffer.iter().map(|byte| format!("{byte:02x}")).collect()
}
