//! Whom a block would hit, before it does.

use futures_util::future::join_all;
use ipnet::IpNet;
use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::state::{Block, LeaseKey};
use schemars::JsonSchema;
use serde::Serialize;
use std::time::Duration;

use super::Api;
use super::problem::Problem;

/// how far back users are looked for
const USERS_SINCE: Duration = Duration::from_secs(86_400);
/// users whose open connections are counted, the last seen first
const COUNTED_MAX: usize = 20;
/// wider blocks that are named
const WIDER_MAX: usize = 20;

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BlockPreview")]
pub(super) struct Preview {
    /// as it would be
    block: Block,
    /// why it would be refused without `force`
    objection: Option<&'static str>,
    /// an address of it is on the allow list: a block goes before that list
    allow_listed: bool,
    conflicts: Conflicts,
    /// open now; `null` for prefixes that are not counted as one, and while the state does not answer
    anonymous_connections: Option<u32>,
    /// seen there in the last 24 hours, the last seen first; `null` without the scope `audit:read`
    users: Option<Vec<User>>,
    /// those of them who did nothing that counts against them
    clean_users: usize,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Conflicts {
    /// the block of the same address or prefix, in whose place it would come
    replaces: Option<Block>,
    /// wider blocks that hold it, the widest first
    wider: Vec<Block>,
    /// blocks of parts of it
    narrower: usize,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "UserBehind")]
struct User {
    user_id: String,
    last_seen: Timestamp,
    clean: bool,
    /// open now, wherever the user is; `null` if they were not counted
    connections: Option<u32>,
}

pub(super) async fn of(
    api: &Api,
    block: Block,
    objection: Option<&'static str>,
    names_users: bool,
    now: Timestamp,
) -> Result<Preview, Problem> {
    let (network, rules) = (block.network, api.policy.current());
    let users = users(api, network, now).await?;
    Ok(Preview {
        objection,
        allow_listed: rules.security.allow_list.iter().any(|one| one.contains(&network) || network.contains(one)),
        conflicts: conflicts(api.state.blocks.load(now).await?.blocks, network),
        anonymous_connections: match counted_as(network) {
            Some(address) => held(api, LeaseKey::AnonymousOf(address)).await,
            None => None,
        },
        clean_users: users.iter().filter(|user| user.clean).count(),
        users: names_users.then_some(users),
        block,
    })
}

fn conflicts(blocks: Vec<Block>, network: IpNet) -> Conflicts {
    let mut conflicts = Conflicts { replaces: None, wider: Vec::new(), narrower: 0 };
    for block in blocks {
        if block.network == network {
            conflicts.replaces = Some(block);
        } else if block.network.contains(&network) {
            conflicts.wider.push(block);
        } else if network.contains(&block.network) {
            conflicts.narrower += 1;
        }
    }
    conflicts.wider.sort_by_key(|block| block.network.prefix_len());
    conflicts.wider.truncate(WIDER_MAX);
    conflicts
}

async fn users(api: &Api, network: IpNet, now: Timestamp) -> Result<Vec<User>, Problem> {
    let seen = api.store.users(network, now.minus(USERS_SINCE)).await?;
    let counted = seen.iter().take(COUNTED_MAX).map(|(user, _)| held(api, LeaseKey::User(user.as_str().into())));
    let counts = join_all(counted).await.into_iter().chain(std::iter::repeat(None));
    let offenders = api.enforcement.offenders_within(network);
    let user = |((user_id, last_seen), connections): ((String, Timestamp), Option<u32>)| User {
        clean: !offenders.contains(&user_id),
        user_id,
        last_seen,
        connections,
    };
    Ok(seen.into_iter().zip(counts).map(user).collect())
}

async fn held(api: &Api, key: LeaseKey) -> Option<u32> {
    let held = api.state.leases.held(&key).await;
    held.inspect_err(|error| tracing::warn!(%error, "open connections not counted")).ok()
}

/// the address or prefix whose anonymous connections are those of the network
fn counted_as(network: IpNet) -> Option<AddressKey> {
    let one = AddressKey::of(network.addr());
    let is_within_one = one.network().contains(&network);
    is_within_one.then_some(one).or_else(|| {
        let mut tiers = AddressKey::tiers(network.addr()).map(|(tier, _)| tier);
        tiers.find(|tier| tier.network() == network)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_client_or_by_a_tier() {
        for (network, counted) in [
            ("192.0.2.7/32", Some("192.0.2.7")),
            ("192.0.2.0/24", None),
            ("2001:db8::1/128", Some("2001:db8::/64")),
            ("2001:db8::/64", Some("2001:db8::/64")),
            ("2001:db8::/48", Some("2001:db8::/48")),
            ("2001:db8::/32", None),
        ] {
            let found = counted_as(network.parse().unwrap()).map(|key| key.to_string());
            assert_eq!(found.as_deref(), counted, "{network}");
        }
    }
}
