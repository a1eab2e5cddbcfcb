//! One bell for all sessions of a node: rung when the block list, the policy, revoked tokens or the node's own fate changed.

use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::ReusableBoxFuture;

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
    pub fn listen(&self) -> Listener {
        Listener::to(self.0.subscribe())
    }

    pub fn ring(&self) {
        self.0.send_modify(|_| ());
    }

    pub fn drain(&self, spread: Duration) {
        self.0.send_modify(|notice| notice.drain = Some(spread));
    }
}

/// a session's ear: asked at every message, it costs a comparison until the bell rings
pub struct Listener {
    bell: watch::Receiver<Notice>,
    /// stays registered from one poll to the next
    ring: ReusableBoxFuture<'static, ()>,
}

impl Listener {
    fn to(bell: watch::Receiver<Notice>) -> Self {
        let ring = ReusableBoxFuture::new(next_ring(bell.clone()));
        Listener { bell, ring }
    }

    /// whether the bell has rung since the last `take`
    pub fn has_rung(&self) -> bool {
        // The sender lives as long as the gate, so an error cannot come.
        self.bell.has_changed().unwrap_or(false)
    }

    pub fn take(&mut self) -> Notice {
        let notice = *self.bell.borrow_and_update();
        self.ring.set(next_ring(self.bell.clone()));
        notice
    }

    /// ready once the bell has rung; then `take` comes before the next poll
    pub fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.ring.poll(cx)
    }

    /// a second ear, for a wait within the session; what it hears is still to be taken here
    pub fn bell(&self) -> watch::Receiver<Notice> {
        self.bell.clone()
    }

    /// what changed before the session listened is looked at, too
    pub fn ring_at_once(&mut self) {
        self.bell.mark_changed();
    }
}

async fn next_ring(mut bell: watch::Receiver<Notice>) {
    bell.changed().await.ok();
}

/// rings whenever one of the sources changed, until `stop` resolves
pub async fn ring_on_changes(
    attention: Attention,
    [mut blocks, mut policy, mut revocations]: [watch::Receiver<u64>; 3],
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    loop {
        let changed = tokio::select! {
            changed = blocks.changed() => changed,
            changed = policy.changed() => changed,
            changed = revocations.changed() => changed,
            () = &mut stop => return,
        };
        if changed.is_err() {
            return;
        }
        attention.ring();
    }
}
