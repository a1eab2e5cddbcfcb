//! The kill switch: a file on this machine whose word, `off`, `shadow` or `on`, takes the place of `policy.enforce`. It needs nothing
//! else that works: no shared state, no coordinator, no credential.

use picket_shared::audit::{AuditRecord, EventType, Outbox, Severity};
use picket_shared::clock::Clock;
use picket_shared::policy::Enforce;
use picket_shared::state::LivePolicy;
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// how often the file is looked at
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// of the file, what is read
const WORD_BYTES_MAX: u64 = 64;

pub struct Switch {
    pub file: PathBuf,
    pub node: Arc<str>,
    pub policy: LivePolicy,
    pub outbox: Outbox,
    pub clock: Arc<dyn Clock>,
}

impl Switch {
    /// does what the file says, until `stop` resolves
    pub async fn follow(self, mut is_readable: bool, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = &mut stop => return,
            }
            is_readable = self.look(is_readable);
        }
    }

    /// a file that cannot be understood leaves everything as it is, and is told of once
    pub fn look(&self, was_readable: bool) -> bool {
        match self.word() {
            Ok(word) => {
                if word != self.policy.switched() {
                    self.policy.switch(word);
                    self.tell(word);
                }
                true
            }
            Err(error) => {
                if was_readable {
                    tracing::error!(file = %self.file.display(), %error, "node.enforceFile is not followed; it holds one word: off, shadow or on");
                }
                false
            }
        }
    }

    fn word(&self) -> io::Result<Option<Enforce>> {
        let file = match std::fs::File::open(&self.file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut text = String::new();
        file.take(WORD_BYTES_MAX).read_to_string(&mut text)?;
        match text.trim() {
            "off" => Ok(Some(Enforce::Off)),
            "shadow" => Ok(Some(Enforce::Shadow)),
            "on" => Ok(Some(Enforce::On)),
            _ => Err(io::Error::new(ErrorKind::InvalidData, "another word")),
        }
    }

    fn tell(&self, word: Option<Enforce>) {
        let message = match word {
            Some(_) => "enforcement is set by node.enforceFile",
            None => "enforcement is the policy's again, node.enforceFile has gone",
        };
        let mode = self.policy.enforcement().mode();
        tracing::warn!(enforce = mode.as_str(), file = %self.file.display(), "{message}");
        let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let record = AuditRecord::new(EventType::PolicyChanged, Severity::High, nobody, message, self.clock.now());
        let record = AuditRecord { node: Some(self.node.to_string()), ..record };
        self.outbox.record(record.with("enforce", mode.as_str()).with("actor", self.file.display().to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use picket_shared::clock::SystemClock;
    use picket_shared::policy::{Environment, Policy};

    #[test]
    fn x30_the_files_word_rules_and_what_is_no_word_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("enforce");
        let policy = LivePolicy::starting_with(Policy::default(), Environment::Production).unwrap();
        let switch = Switch {
            file: file.clone(),
            node: "edge".into(),
            policy: policy.clone(),
            outbox: Outbox::default(),
            clock: Arc::new(SystemClock),
        };
        let says = |text: &str| {
            std::fs::write(&file, text).unwrap();
            (switch.look(true), policy.enforcement().mode())
        };
        assert!(switch.look(true));
        assert_eq!(policy.enforcement().mode(), Enforce::On);
        assert_eq!(says("off\n"), (true, Enforce::Off));
        assert_eq!(says("offf"), (false, Enforce::Off));
        assert_eq!(says(""), (false, Enforce::Off), "a file that is being written");
        assert_eq!(says(" shadow "), (true, Enforce::Shadow));
        assert_eq!(policy.as_version().policy.enforce, Enforce::On, "the policy itself stays");
        std::fs::remove_file(&file).unwrap();
        assert!(switch.look(true));
        assert_eq!(policy.enforcement().mode(), Enforce::On);
    }
}
