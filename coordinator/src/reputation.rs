//! Scoring: points per offence, decaying with a half-life, by address (IPv6: /64, and the wider prefixes that one subscriber
//! may hold, at higher thresholds). A pure function of history and time.
//!
//! What any web page can make its visitors' browsers do never blocks an address by itself, whatever the policy says.

use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use picket_shared::address::AddressKey;
use picket_shared::clock::Timestamp;
use picket_shared::policy::Security;
use picket_shared::reason::Reason;

/// addresses that have a score at once; beyond it the lowest scores go first
pub const ADDRESSES_MAX: usize = 100_000;

/// a refusal of a verified client address
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offence {
    pub address: AddressKey,
    pub reason: Reason,
    pub at: Timestamp,
    /// instead of the reason's: those of the rule that noticed it
    pub points: Option<f64>,
}

/// an address's score and what it is made of
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub score: f64,
    pub parts: BTreeMap<Reason, f64>,
}

impl Standing {
    /// the number that is compared with the threshold
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float cast saturates, and scores are not negative"
    )]
    pub fn rounded(&self) -> u64 {
        self.score.round() as u64
    }

    /// whether it is time to block: the threshold is reached, and not only by what others can cause
    pub fn calls_for_a_block(&self, security: &Security) -> bool {
        self.calls_for_a_block_of(1, security)
    }

    /// the same for a prefix with `factor` times the threshold
    pub fn calls_for_a_block_of(&self, factor: u32, security: &Security) -> bool {
        let own: f64 =
            self.parts.iter().filter(|(reason, _)| !others_can_cause(**reason)).map(|(_, points)| points).sum();
        own.round() >= 1.0 && self.rounded() >= threshold(factor, security)
    }
}

/// the score at which a prefix with this factor is blocked
pub fn threshold(factor: u32, security: &Security) -> u64 {
    u64::from(security.suspicious_activity_threshold) * u64::from(factor)
}

/// whether any web page can cause it in its visitors' browsers
fn others_can_cause(reason: Reason) -> bool {
    matches!(reason, Reason::OriginNotAllowed | Reason::TooManyHandshakes)
}

/// the scores of all addresses
#[derive(Debug)]
pub struct Scores {
    addresses: HashMap<AddressKey, History>,
    capacity: usize,
}

impl Default for Scores {
    fn default() -> Self {
        Self::with_capacity(ADDRESSES_MAX)
    }
}

impl Scores {
    pub fn with_capacity(capacity: usize) -> Self {
        Scores { addresses: HashMap::new(), capacity: capacity.max(1) }
    }

    /// adds an offence; answers the standing of each prefix that got worse, with its factor, the narrowest first
    pub fn add(&mut self, offence: Offence, security: &Security, now: Timestamp) -> Vec<Worse> {
        let Some(worse) = self.add_to(offence.address, offence, Seldom::Counts, security, now) else {
            return Vec::new();
        };
        let mut all = vec![Worse { address: offence.address, factor: 1, standing: worse }];
        // What any page can cause in the browsers of many subscribers must not add up against all of them.
        if !others_can_cause(offence.reason) {
            for (address, factor) in AddressKey::tiers(offence.address.network().addr()).skip(1) {
                let worse = self.add_to(address, offence, Seldom::Ignored, security, now);
                all.extend(worse.map(|standing| Worse { address, factor, standing }));
            }
        }
        all
    }

    fn add_to(
        &mut self,
        address: AddressKey,
        offence: Offence,
        seldom: Seldom,
        security: &Security,
        now: Timestamp,
    ) -> Option<Standing> {
        if !self.addresses.contains_key(&address) && self.addresses.len() >= self.capacity {
            self.make_room(half_life(security), now);
        }
        // A node's clock may run ahead; an offence cannot lie in the future.
        let offence = Offence { at: offence.at.min(now), ..offence };
        self.addresses.entry(address).or_default().offended(offence, seldom, security, now)
    }

    pub fn standing(&self, address: AddressKey, security: &Security, now: Timestamp) -> Standing {
        self.addresses.get(&address).map(|history| history.standing(half_life(security), now)).unwrap_or_default()
    }

    /// every address of the network starts anew
    pub fn reset(&mut self, network: IpNet) {
        self.addresses.retain(|address, _| !network.contains(&address.network()));
    }

    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// forgets the lowest tenth, so that a flood of addresses costs amortised O(1) each
    fn make_room(&mut self, half_life: Duration, now: Timestamp) {
        let mut scores: Vec<_> =
            self.addresses.iter().map(|(address, history)| (history.score(half_life, now), *address)).collect();
        let surplus = (scores.len() / 10).max(1).min(scores.len());
        if surplus < scores.len() {
            scores.select_nth_unstable_by(surplus, |a, b| a.0.total_cmp(&b.0));
        }
        for (_, address) in &scores[..surplus] {
            self.addresses.remove(address);
        }
    }
}

/// a prefix whose standing got worse
#[derive(Clone, Debug, PartialEq)]
pub struct Worse {
    pub address: AddressKey,
    /// how many times the threshold of one address it has
    pub factor: u32,
    pub standing: Standing,
}

/// whether a reason that counts once in a while does so here, or was counted elsewhere already
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seldom {
    Counts,
    Ignored,
}

/// the offences of one subject, as decayed sums at `at`
#[derive(Debug, Default)]
pub(crate) struct History {
    at: Timestamp,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    reason: Reason,
    points: f64,
    last_counted: Timestamp,
}

impl History {
    /// adds an offence; answers the standing if it got worse
    pub(crate) fn offended(
        &mut self,
        offence: Offence,
        seldom: Seldom,
        security: &Security,
        now: Timestamp,
    ) -> Option<Standing> {
        let points = offence.points.unwrap_or_else(|| points_of(offence.reason, security));
        let counted = points > 0.0 && self.add(offence.reason, points, offence.at, half_life(security), seldom);
        counted.then(|| self.standing(half_life(security), now))
    }

    pub(crate) fn standing_now(&self, security: &Security, now: Timestamp) -> Standing {
        self.standing(half_life(security), now)
    }

    /// false if an offence of this kind was counted too shortly before or after
    fn add(&mut self, reason: Reason, points: f64, at: Timestamp, half_life: Duration, seldom: Seldom) -> bool {
        let every = reason.consequence().points.at_most_every.filter(|_| seldom == Seldom::Counts);
        let known = self.parts.iter().position(|part| part.reason == reason);
        if let (Some(index), Some(every)) = (known, every)
            && apart(self.parts[index].last_counted, at) < every
        {
            return false;
        }
        if at > self.at {
            let faded = decay(at.since(self.at), half_life);
            self.parts.iter_mut().for_each(|part| part.points *= faded);
            self.at = at;
        }
        let points = points * decay(self.at.since(at), half_life);
        match known {
            Some(index) => {
                let part = &mut self.parts[index];
                part.points += points;
                part.last_counted = part.last_counted.max(at);
            }
            None => self.parts.push(Part { reason, points, last_counted: at }),
        }
        true
    }

    fn score(&self, half_life: Duration, now: Timestamp) -> f64 {
        self.parts.iter().map(|part| part.points).sum::<f64>() * decay(now.since(self.at), half_life)
    }

    fn standing(&self, half_life: Duration, now: Timestamp) -> Standing {
        let faded = decay(now.since(self.at), half_life);
        let parts: BTreeMap<_, _> = self.parts.iter().map(|part| (part.reason, part.points * faded)).collect();
        // Summed in the order of the reasons, so that equal histories have equal scores.
        Standing { score: parts.values().sum(), parts }
    }
}

fn points_of(reason: Reason, security: &Security) -> f64 {
    security.reputation.points.get(reason.token()).copied().unwrap_or(reason.consequence().points.points)
}

fn half_life(security: &Security) -> Duration {
    Duration::from_millis(security.reputation.half_life_ms.max(1))
}

fn decay(passed: Duration, half_life: Duration) -> f64 {
    0.5_f64.powf(passed.as_secs_f64() / half_life.as_secs_f64())
}

fn apart(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn offence(reason: Reason, seconds: u64) -> Offence {
        Offence { address: mallory(), reason, at: at(seconds), points: None }
    }

    fn mallory() -> AddressKey {
        AddressKey::of("192.0.2.66".parse().unwrap())
    }

    fn scored(offences: &[Offence], security: &Security, now: Timestamp) -> Standing {
        let mut scores = Scores::default();
        for offence in offences {
            scores.add(*offence, security, now);
        }
        scores.standing(mallory(), security, now)
    }

    #[test]
    fn a_score_falls_to_its_half_in_a_half_life() {
        let security = Security::default();
        let offences =
            [offence(Reason::TokenInvalid, 0), offence(Reason::TokenInvalid, 0), offence(Reason::HostileContent, 0)];
        assert_eq!(scored(&offences, &security, at(0)).score, 3.0);
        assert!((scored(&offences, &security, at(1800)).score - 1.5).abs() < 1e-9);
        assert_eq!(scored(&offences, &security, at(0)).parts[&Reason::TokenInvalid], 2.0);
    }

    #[test]
    fn five_offences_at_once_call_for_a_block_and_the_same_over_a_day_do_not() {
        let security = Security::default();
        let at_once: Vec<_> = (0..5).map(|_| offence(Reason::TokenInvalid, 0)).collect();
        assert!(!scored(&at_once[..4], &security, at(0)).calls_for_a_block(&security));
        assert!(scored(&at_once, &security, at(0)).calls_for_a_block(&security));
        let over_a_day: Vec<_> = (0..5).map(|n| offence(Reason::TokenInvalid, n * 17_280)).collect();
        assert!(!scored(&over_a_day, &security, at(86_400)).calls_for_a_block(&security));
    }

    #[test]
    fn the_policy_sets_points_and_reasons_that_count_seldom_stay_so() {
        let mut security = Security::default();
        security.reputation.points = [("token_invalid".into(), 0.0), ("burst".into(), 3.0)].into();
        let offences = [
            offence(Reason::TokenInvalid, 0),
            offence(Reason::Burst, 0),
            offence(Reason::Burst, 59),
            offence(Reason::Burst, 60),
        ];
        let standing = scored(&offences, &security, at(60));
        assert!((5.8..6.0).contains(&standing.score), "{standing:?}");
        assert!(!standing.parts.contains_key(&Reason::TokenInvalid));
    }

    #[test]
    fn h24_r16_bad_origins_alone_never_call_for_a_block() {
        let mut security = Security { suspicious_activity_threshold: 1, ..Security::default() };
        security.reputation.half_life_ms = 1_000_000_000_000;
        security.reputation.points = [("origin_not_allowed".into(), 1000.0)].into();
        let mut offences: Vec<_> = (0..100).map(|hour| offence(Reason::OriginNotAllowed, hour * 3600)).collect();
        offences.extend((0..100).map(|hour| offence(Reason::TooManyHandshakes, hour * 3600)));
        assert!(!scored(&offences, &security, at(360_000)).calls_for_a_block(&security));
        offences.push(offence(Reason::TokenInvalid, 360_000));
        assert!(scored(&offences, &security, at(360_000)).calls_for_a_block(&security));
    }

    #[test]
    fn bad_origins_count_once_an_hour_by_default() {
        let offences: Vec<_> = (0..3600).map(|second| offence(Reason::OriginNotAllowed, second)).collect();
        assert!(scored(&offences, &Security::default(), at(3600)).score <= 1.0);
    }

    #[test]
    fn an_offence_of_the_future_counts_as_one_of_this_moment() {
        let standing = scored(&[offence(Reason::TokenInvalid, 1_000_000)], &Security::default(), at(0));
        assert_eq!(standing.score, 1.0);
    }

    #[test]
    fn one_subscriber_has_one_score_and_a_reset_clears_a_network() {
        let security = Security::default();
        let mut scores = Scores::default();
        for host in ["2001:db8:1:2::1", "2001:db8:1:2::2", "2001:db8:1:3::1"] {
            let address = AddressKey::of(host.parse().unwrap());
            scores.add(Offence { address, reason: Reason::TokenInvalid, at: at(0), points: None }, &security, at(0));
        }
        assert_eq!(scores.len(), 4, "two of a /64, one of the /56 and one of the /48");
        assert_eq!(scores.standing(AddressKey::of("2001:db8:1:2::9".parse().unwrap()), &security, at(0)).score, 2.0);
        scores.reset("2001:db8:1::/48".parse().unwrap());
        assert_eq!(scores.len(), 0);
    }

    #[test]
    fn h23_offences_from_ever_new_prefixes_add_up_at_higher_thresholds() {
        let security = Security::default();
        let mut scores = Scores::default();
        let mut blocked = Vec::new();
        for network in 0..100u16 {
            let host = std::net::Ipv6Addr::new(0x2001, 0xdb8, 7, network * 16, 0, 0, 0, 1);
            let offence =
                Offence { address: AddressKey::of(host.into()), reason: Reason::TokenInvalid, at: at(0), points: None };
            for worse in scores.add(offence, &security, at(0)) {
                if worse.standing.calls_for_a_block_of(worse.factor, &security) {
                    blocked.push((network + 1, worse.address.to_string()));
                }
            }
        }
        assert_eq!(blocked.first(), Some(&(80, "2001:db8:7::/48".to_owned())), "sixteen times five offences");
        let mut scores = Scores::default();
        for _ in 0..100 {
            let address = AddressKey::of("2001:db8:7:1::1".parse().unwrap());
            let offence = Offence { address, reason: Reason::OriginNotAllowed, at: at(0), points: None };
            assert!(scores.add(offence, &security, at(0)).len() <= 1, "what any page can cause stays with its /64");
        }
    }

    #[test]
    fn the_map_is_bounded_and_the_lowest_scores_go_first() {
        let security = Security::default();
        let mut scores = Scores::with_capacity(100);
        for _ in 0..3 {
            scores.add(offence(Reason::TokenInvalid, 0), &security, at(0));
        }
        for n in 0..5000u32 {
            let address = AddressKey::of(std::net::Ipv4Addr::from(0x0a00_0000 + n).into());
            scores.add(Offence { address, reason: Reason::TokenInvalid, at: at(0), points: None }, &security, at(0));
            assert!(scores.len() <= 100);
        }
        assert_eq!(scores.standing(mallory(), &security, at(0)).score, 3.0);
    }

    fn any_offences() -> impl Strategy<Value = Vec<Offence>> {
        let reason = proptest::sample::select(Reason::ALL.to_vec());
        proptest::collection::vec((reason, 0u64..20_000).prop_map(|(reason, seconds)| offence(reason, seconds)), 0..60)
    }

    proptest! {
        #[test]
        fn a_score_is_never_more_than_the_points_added_and_only_falls(mut offences in any_offences(), later in 0u64..100_000) {
            offences.sort_by_key(|offence| offence.at);
            let security = Security::default();
            let most: f64 = offences.iter().map(|offence| offence.reason.consequence().points.points).sum();
            let standing = scored(&offences, &security, at(20_000));
            prop_assert!(standing.score <= most + 1e-9 && standing.score >= 0.0);
            prop_assert!(scored(&offences, &security, at(20_000 + later)).score <= standing.score + 1e-9);
        }

        #[test]
        fn the_order_of_offences_of_one_moment_does_not_matter(mut offences in any_offences(), seed in any::<u64>()) {
            for offence in &mut offences {
                offence.at = at(5);
            }
            let security = Security::default();
            let forwards = scored(&offences, &security, at(100));
            let turn = usize::try_from(seed % 60).unwrap_or(0).min(offences.len());
            offences.rotate_left(turn);
            offences.reverse();
            prop_assert!((scored(&offences, &security, at(100)).score - forwards.score).abs() < 1e-9);
        }

        #[test]
        fn late_news_of_frequent_reasons_scores_the_same(mut offences in any_offences()) {
            offences.retain(|offence| offence.reason.consequence().points.at_most_every.is_none());
            let security = Security::default();
            let as_heard = scored(&offences, &security, at(20_000)).score;
            offences.sort_by_key(|offence| offence.at);
            prop_assert!((scored(&offences, &security, at(20_000)).score - as_heard).abs() < 1e-6);
        }
    }
}
