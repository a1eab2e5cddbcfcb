//! `picket node` and `picket coordinator`: a role of its own needs a state that processes share.

use crate::refusal::Refusal;

pub fn refuse(role: &str) -> anyhow::Result<()> {
    let message = format!(
        "picket {role}: a {role} of its own needs shared state on Redis (state.url), which is not available in this version; \
         `picket standalone` runs node and coordinator in one process"
    );
    Err(Refusal::Command(message).into())
}
