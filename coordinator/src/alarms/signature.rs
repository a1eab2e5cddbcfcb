//! The signature of a webhook after the Standard Webhooks specification: HMAC-SHA256 over id, time and body.
//!
//! A secret file may hold several secrets, one in a line: each signs, so that a receiver can change from one to the next.

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use tokio::io::AsyncReadExt;

/// the largest file that is read
const FILE_BYTES_MAX: u64 = 4096;
const SECRETS_MAX: usize = 8;
/// what the specification asks of a secret
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

#[derive(Debug, thiserror::Error)]
pub(super) enum SecretError {
    #[error("secretFile cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("secretFile holds no secret of the form whsec_ and 24 to 64 bytes in Base64")]
    NoSecret,
}

/// what a webhook is signed with
pub(super) struct Secrets(Vec<Key>);

impl Secrets {
    pub(super) async fn read(path: &Path) -> Result<Self, SecretError> {
        let mut text = String::new();
        tokio::fs::File::open(path).await?.take(FILE_BYTES_MAX).read_to_string(&mut text).await?;
        Self::parse(&text).ok_or(SecretError::NoSecret)
    }

    fn parse(text: &str) -> Option<Self> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let key = |line: &str| {
            let bytes = STANDARD.decode(line.strip_prefix("whsec_")?).ok()?;
            SECRET_BYTES.contains(&bytes.len()).then(|| Key::new(HMAC_SHA256, &bytes))
        };
        let keys: Vec<_> = lines.map(key).collect::<Option<_>>()?;
        (1..=SECRETS_MAX).contains(&keys.len()).then_some(Secrets(keys))
    }

    /// the value of `webhook-signature`
    pub(super) fn sign(&self, id: &str, seconds: u64, body: &str) -> String {
        let content = format!("{id}.{seconds}.{body}");
        let sign = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, content.as_bytes())));
        self.0.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_signed_alike() {
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_and_what_is_none_is_refused() {
        let two = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nwhsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD\n";
        assert_eq!(Secrets::parse(two).unwrap().sign("a", 1, "{}").split(' ').count(), 2);
        for text in ["", "root:x:0:0", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", &two.repeat(5)] {
            assert!(Secrets::parse(text).is_none(), "{text}");
        }
    }
}
