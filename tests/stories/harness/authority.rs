//! A certificate authority of the stories' own, and the pairs that it signs for servers and clients on loopback.

use std::path::PathBuf;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

pub struct Authority {
    directory: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { directory: TempDir::new().unwrap() };
        authority.openssl(&format!(
            "req -x509 {KEY} -subj /CN=authority -keyout ca.key -out ca.pem -addext keyUsage=critical,keyCertSign"
        ));
        authority
    }

    /// `ca.pem`, or `NAME.pem` and `NAME.key` of a pair that was signed.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `NAME.pem` and `NAME.key`, for 127.0.0.1; another pair each time.
    pub fn signs(&self, name: &str) {
        self.openssl(&format!(
            "req {KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr -addext subjectAltName=IP:127.0.0.1"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -copy_extensions copy -out {name}.pem"
        ));
    }

    /// SHA-256 of the public key of a pair that was signed, in base64.
    pub fn pin(&self, name: &str) -> String {
        self.openssl(&format!("x509 -in {name}.pem -pubkey -noout -out {name}.pub"));
        self.openssl(&format!("pkey -pubin -in {name}.pub -outform der -out {name}.der"));
        self.openssl(&format!("dgst -sha256 -binary -out {name}.hash {name}.der"));
        STANDARD.encode(std::fs::read(self.file(&format!("{name}.hash"))).unwrap())
    }

    fn openssl(&self, words: &str) {
        let made = Command::new("openssl").args(words.split(' ')).current_dir(self.directory.path()).output();
        let made = made.expect("this story needs openssl (`apt-get install openssl`)");
        assert!(made.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2";
