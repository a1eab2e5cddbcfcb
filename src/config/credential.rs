//! The management credential's hash, and the secrets that everybody knows.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};

/// defaults and examples of every manual, as [`plain`] writes them
const KNOWN: [&str; 10] = [
    "admin",
    "changeme",
    "default",
    "example",
    "password",
    "picket",
    "secret",
    "test",
    "0123456789abcdef",
    "supersecret",
];
/// those that are tried against a hash: each try costs as much as a login
const TRIED: [&str; 5] = ["admin", "change-me", "changeme", "password", "secret"];

/// what is said about a known password
pub const KNOWN_PASSWORD: &str = "the password is a default or an example that everybody knows; choose another";

/// the Argon2id hash of a password, in PHC string format
pub fn hash(password: &str) -> Result<String, String> {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| format!("cannot be hashed: {error}"))
}

/// what is wrong with the text of a hash
pub fn check_hash(text: &str) -> Result<(), String> {
    match PasswordHash::new(text) {
        Ok(hash) if hash.algorithm.as_str().starts_with("argon2") && hash.hash.is_some() => Ok(()),
        _ => Err("is not an Argon2 hash in PHC string format, such as $argon2id$v=19$m=19456,t=2,p=1$…".to_owned()),
    }
}

/// whether the secret is a default or an example
pub fn is_known(secret: &str) -> bool {
    let plain = plain(secret);
    plain.contains("changeme") || KNOWN.iter().any(|known| !plain.is_empty() && plain.replace(known, "").is_empty())
}

/// whether the hash is one of a default or an example
pub fn is_hash_of_known(text: &str) -> bool {
    PasswordHash::new(text)
        .is_ok_and(|hash| TRIED.iter().any(|known| Argon2::default().verify_password(known.as_bytes(), &hash).is_ok()))
}

fn plain(secret: &str) -> String {
    secret.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_and_examples_are_known_however_they_are_padded() {
        for known in [
            "change-me",
            "please CHANGE_ME to something long 12345",
            "secret",
            "secret-secret-secret-secret-secret",
            "Password",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(is_known(known), "{known}");
        }
        for unknown in
            ["an-hmac-secret-of-the-stories-0123456789abcdef", "a-long-password-of-the-stories", "x7", "5f2b8c"]
        {
            assert!(!is_known(unknown), "{unknown}");
        }
    }

    #[test]
    fn a_hash_is_checked_and_known_passwords_are_found_in_it() {
        let (weak, strong) = (hash("change-me").unwrap(), hash("correct horse battery staple").unwrap());
        assert!(check_hash(&strong).is_ok() && check_hash("5f4dcc3b5aa765d61d8327deb882cf99").is_err());
        assert!(check_hash("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ").is_err(), "without the hash itself");
        assert!(is_hash_of_known(&weak) && !is_hash_of_known(&strong));
    }
}
