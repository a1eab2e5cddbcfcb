//! Every key and channel on Redis. An identity enters a key only as a keyed 128-bit hash, and that hash is the hash tag: no
//! client chooses a key, a slot or a name.

use parking_lot::RwLock;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

use crate::address::AddressKey;
use crate::hex;
use crate::state::{CounterKey, LeaseKey, LimitName, Subject};

/// the longest prefix of keys, in bytes
const PREFIX_BYTES_MAX: usize = 32;
/// bytes of the key that identities are hashed with
pub(super) const HASH_KEY_BYTES: usize = 16;

/// formats keys; the hash key is the cluster's, and may turn out to be another than this process chose
pub(super) struct Keys {
    prefix: String,
    hash_key: RwLock<[u8; HASH_KEY_BYTES]>,
}

/// the seven keys of the block list, in the order of `block_log.lua`
pub(super) type BlockKeys = [String; 7];

impl Keys {
    /// `None` if the prefix could change what the keys mean
    pub(super) fn new(prefix: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        let usable = !prefix.is_empty() && prefix.len() <= PREFIX_BYTES_MAX && prefix.chars().all(plain);
        usable.then(|| Keys { prefix: prefix.to_owned(), hash_key: RwLock::new(crate::random::bytes()) })
    }

    pub(super) fn hash_key(&self) -> [u8; HASH_KEY_BYTES] {
        *self.hash_key.read()
    }

    /// takes the cluster's hash key; says whether it is another one
    pub(super) fn adopt(&self, hash_key: [u8; HASH_KEY_BYTES]) -> bool {
        std::mem::replace(&mut *self.hash_key.write(), hash_key) != hash_key
    }

    pub(super) fn counter(&self, key: &CounterKey) -> String {
        let identity = self.subject(&key.subject);
        let prefix = &self.prefix;
        match &key.limit {
            LimitName::Connections => format!("{prefix}:{{{identity}}}:c"),
            LimitName::Messages => format!("{prefix}:{{{identity}}}:m"),
            LimitName::Event(name) => format!("{prefix}:{{{identity}}}:e:{}", self.hash(b'e', name.as_bytes())),
        }
    }

    pub(super) fn lease(&self, key: &LeaseKey) -> String {
        let prefix = &self.prefix;
        match key {
            LeaseKey::Anonymous => format!("{prefix}:{{anonymous}}:l"),
            LeaseKey::AnonymousOf(address) => format!("{prefix}:{{{}}}:l:anonymous", self.address(*address)),
            LeaseKey::User(user) => format!("{prefix}:{{{}}}:l:user", self.hash(b'u', user.as_bytes())),
        }
    }

    /// the hash key and the generations, as in `heartbeat.lua`
    pub(super) fn heartbeat(&self) -> [String; 2] {
        let prefix = &self.prefix;
        [format!("{prefix}:{{members}}:hash-key"), format!("{prefix}:{{members}}:generations")]
    }

    pub(super) fn nodes(&self) -> [String; 2] {
        let prefix = &self.prefix;
        [format!("{prefix}:{{members}}:nodes:seen"), format!("{prefix}:{{members}}:nodes")]
    }

    pub(super) fn coordinators(&self) -> [String; 2] {
        let prefix = &self.prefix;
        [format!("{prefix}:{{members}}:coordinators:seen"), format!("{prefix}:{{members}}:coordinators")]
    }

    pub(super) fn blocks(&self) -> BlockKeys {
        ["list", "ends", "automatic", "log", "whole", "term", "lifts"]
            .map(|part| format!("{}:{{blocks}}:{part}", self.prefix))
    }

    /// the three keys of revoked tokens, in the order of `revoke.lua`
    pub(super) fn revocations(&self) -> [String; 3] {
        ["list", "log", "ends"].map(|part| format!("{}:{{revocations}}:{part}", self.prefix))
    }

    pub(super) fn policy(&self) -> String {
        format!("{}:{{policy}}:versions", self.prefix)
    }

    pub(super) fn trial(&self) -> String {
        format!("{}:{{policy}}:trial", self.prefix)
    }

    /// the three keys of answers to changes, in the order of `answer_begin.lua`
    pub(super) fn answers(&self) -> [String; 3] {
        ["list", "claims", "ends"].map(|part| format!("{}:{{answers}}:{part}", self.prefix))
    }

    /// the audit stream and its dead letters
    pub(super) fn audit(&self) -> [String; 2] {
        ["stream", "dead"].map(|part| format!("{}:{{audit}}:{part}", self.prefix))
    }

    pub(super) fn blocks_channel(&self) -> String {
        format!("{}:blocks", self.prefix)
    }

    pub(super) fn policy_channel(&self) -> String {
        format!("{}:policy", self.prefix)
    }

    pub(super) fn revocations_channel(&self) -> String {
        format!("{}:revocations", self.prefix)
    }

    pub(super) fn heartbeat_channel(&self) -> String {
        format!("{}:heartbeat", self.prefix)
    }

    fn subject(&self, subject: &Subject) -> String {
        match subject {
            Subject::Address(address) => self.address(*address),
            Subject::User(user) => self.hash(b'u', user.as_bytes()),
            Subject::Crowd(crowd) => self.hash(b'c', &crowd.to_le_bytes()),
        }
    }

    fn address(&self, address: AddressKey) -> String {
        self.hash(b'a', address.to_string().as_bytes())
    }

    /// `kind` keeps a user apart from an address of the same text
    fn hash(&self, kind: u8, identity: &[u8]) -> String {
        let mut hasher = SipHasher24::new_with_key(&self.hash_key.read());
        hasher.write_u8(kind);
        hasher.write(identity);
        hex::encode(&hasher.finish128().as_u128().to_be_bytes())
    }
}
