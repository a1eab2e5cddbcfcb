//! One bell for all sessions of a node: rung when the block list, the policy or the node's own fate changed.

use std::time::Duration;
use tokio::sync::watch;

/// what a session looks at when the bell rings
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// sessions leave, spread over this time
    pub drain: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Attention(watch::Sender<Notice>);

impl Default for Attention {
    fn default() -> Self {
        Attention(watch::Sender::new(Notice::default()))
    }
}

impl Attention {
    pub fn listen(&self) -> watch::Receiver<Notice> {
        self.0.subscribe()
    }

    pub fn ring(&self) {
        self.0.send_modify(|_| ());
    }

    pub fn drain(&self, spread: Duration) {
        self.0.send_modify(|notice| notice.drain = Some(spread));
    }
}

/// rings whenever one of the sources changed, until `stop` resolves
pub async fn ring_on_changes(
    attention: Attention,
    mut blocks: watch::Receiver<u64>,
    mut policy: watch::Receiver<u64>,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    loop {
        let changed = tokio::select! {
            changed = blocks.changed() => changed,
            changed = policy.changed() => changed,
            () = &mut stop => return,
        };
        if changed.is_err() {
            return;
        }
        attention.ring();
    }
}
