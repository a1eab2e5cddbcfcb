//! What is measured of a peer: the names, units and places of all figures.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::peers::Peer;
use crate::stats::median;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    /// processor time of the proxy and of Redis per message, in microseconds
    Fifty,
    FiftyRedis,
    FiftyRate,
    FiveHundred,
    FiveHundredRedis,
    FiveHundredRate,
    Burst,
    BurstRedis,
    BurstRate,
    Paced,
    PacedP50,
    PacedP99,
    Polled,
    PolledRedis,
    PolledRate,
    PolledP50,
    PolledP99,
    IdleKib,
    Accepted,
    Refused,
    TripsBeyond,
    TripsThousand,
    RedisThousand,
    TripsHundred,
    RedisHundred,
}

/// every round's value, by peer and figure; a figure that a peer cannot have is absent
#[derive(Debug, Default, Serialize)]
pub struct Results(pub BTreeMap<Peer, BTreeMap<Figure, Vec<f64>>>);

impl Results {
    pub fn add(&mut self, peer: Peer, figure: Figure, value: f64) {
        self.0.entry(peer).or_default().entry(figure).or_default().push(value);
    }

    pub fn rounds(&self, peer: Peer, figure: Figure) -> &[f64] {
        self.0.get(&peer).and_then(|figures| figures.get(&figure)).map_or(&[], Vec::as_slice)
    }

    pub fn median(&self, peer: Peer, figure: Figure) -> Option<f64> {
        median(self.rounds(peer, figure))
    }

    /// the median over the rounds of a value made of what each round measured
    pub fn of_rounds<const N: usize>(&self, of: [(Peer, Figure); N], value: fn([f64; N]) -> f64) -> Option<f64> {
        let rounds = of.iter().map(|(peer, figure)| self.rounds(*peer, *figure).len()).min()?;
        let values = (0..rounds).map(|round| value(of.map(|(peer, figure)| self.rounds(peer, figure)[round])));
        median(&values.collect::<Vec<_>>())
    }

    pub fn peers(&self) -> impl Iterator<Item = Peer> {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_inside_a_round() {
        let mut results = Results::default();
        for (picket, bare) in [(10.0, 10.0), (30.0, 20.0), (4.0, 4.0)] {
            results.add(Peer::Picket, Figure::Fifty, picket);
            results.add(Peer::Bare, Figure::Fifty, bare);
        }
        let ratio = results.of_rounds([(Peer::Picket, Figure::Fifty), (Peer::Bare, Figure::Fifty)], |[a, b]| a / b);
        assert_eq!(ratio, Some(1.0));
        assert_eq!(results.of_rounds([(Peer::Nginx, Figure::Fifty)], |[a]| a), None);
    }
}
