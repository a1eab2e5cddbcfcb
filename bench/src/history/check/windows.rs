//! The arithmetic of the proof. A message was let through at some moment of an interval: not before it was sent, not after its
//! arrival. A window surely holds it only if the window holds the whole interval; nothing else is claimed, so no alarm is false.

use std::collections::BTreeMap;

use crate::history::record::Moment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub low: Moment,
    pub high: Moment,
}

impl Interval {
    pub fn width(self) -> u64 {
        self.high - self.low
    }
}

/// so many intervals lie whole between the two moments, or places were held all that time
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub start: Moment,
    pub end: Moment,
    pub count: usize,
}

/// for each moment at which an interval begins: how many lie whole within the window from then on, its end not included. Any other
/// window holds no more than the one that begins with the first interval that it holds
pub fn counts(intervals: &[Interval], window: u64) -> Vec<Count> {
    let mut by_low: Vec<usize> = (0..intervals.len()).collect();
    by_low.sort_unstable_by_key(|&one| intervals[one].low);
    let mut by_high = by_low.clone();
    by_high.sort_unstable_by_key(|&one| intervals[one].high);
    let mut has_begun_before = vec![false; intervals.len()];
    let (mut ended, mut left, mut inside) = (0, 0, 0usize);
    let mut counts = Vec::with_capacity(intervals.len());
    for &first in &by_low {
        let start = intervals[first].low;
        while let Some(&one) = by_high.get(ended).filter(|&&one| intervals[one].high < start + window) {
            inside += usize::from(!has_begun_before[one]);
            ended += 1;
        }
        while let Some(&one) = by_low.get(left).filter(|&&one| intervals[one].low < start) {
            has_begun_before[one] = true;
            inside -= usize::from(intervals[one].high < start + window);
            left += 1;
        }
        counts.push(Count { start, end: start + window, count: inside });
    }
    counts
}

/// a place that was taken: asked for at `asked`, surely held from `held.low` to `held.high`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    pub asked: Moment,
    pub held: Interval,
}

/// for each place that was given away: how many were surely held when that was decided, itself included. It was decided between
/// the asking and the answer, so those count that were held all that time
pub fn occupancies(stays: &[Stay]) -> Vec<Count> {
    let mut by_asked: Vec<&Stay> = stays.iter().collect();
    by_asked.sort_unstable_by_key(|stay| stay.asked);
    let mut by_taken = by_asked.clone();
    by_taken.sort_unstable_by_key(|stay| stay.held.low);
    let mut leaving = Leaving::new(stays);
    let mut taken = 0;
    let mut counts = Vec::with_capacity(stays.len());
    for stay in by_asked {
        while let Some(other) = by_taken.get(taken).filter(|other| other.held.low <= stay.asked) {
            leaving.add(other.held.high);
            taken += 1;
        }
        let (start, end) = (stay.asked, stay.held.low);
        counts.push(Count { start, end, count: leaving.not_before(end) + 1 });
    }
    counts
}

/// how many of those added leave not before a moment: sums of a Fenwick tree over the moments of leaving
struct Leaving {
    places: BTreeMap<Moment, usize>,
    sums: Vec<usize>,
    all: usize,
}

impl Leaving {
    fn new(stays: &[Stay]) -> Self {
        let mut places: BTreeMap<Moment, usize> = stays.iter().map(|stay| (stay.held.high, 0)).collect();
        places.values_mut().enumerate().for_each(|(index, place)| *place = index + 1);
        Leaving { sums: vec![0; places.len() + 1], places, all: 0 }
    }

    fn add(&mut self, at: Moment) {
        let mut place = self.places.get(&at).copied().unwrap_or_default();
        self.all += 1;
        while place > 0 && place < self.sums.len() {
            self.sums[place] += 1;
            place += place & place.wrapping_neg();
        }
    }

    fn not_before(&self, at: Moment) -> usize {
        let mut place = self.places.range(..at).next_back().map_or(0, |(_, &place)| place);
        let mut before = 0;
        while place > 0 {
            before += self.sums[place];
            place &= place - 1;
        }
        self.all - before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(low: Moment, width: u64) -> Interval {
        Interval { low, high: low + width }
    }

    fn most(intervals: &[Interval], window: u64) -> usize {
        counts(intervals, window).into_iter().map(|one| one.count).max().unwrap_or(0)
    }

    /// every window that begins at any moment
    fn brute_force(intervals: &[Interval], window: u64) -> usize {
        let last = intervals.iter().map(|one| one.high).max().unwrap_or(0);
        let holds = |start, one: &&Interval| one.low >= start && one.high < start + window;
        (0..=last).map(|start| intervals.iter().filter(|one| holds(start, one)).count()).max().unwrap_or(0)
    }

    #[test]
    fn a_window_with_one_too_many_is_found_and_one_that_is_just_full_is_not() {
        let limit = 5;
        let full: Vec<_> = (0..limit).map(|n| at(n * 199, 3)).collect();
        assert_eq!(most(&full, 1000), 5);
        let next = [full.clone(), vec![at(1000, 1)]].concat();
        assert_eq!(most(&next, 1000), 5, "the first one has left when the sixth comes");
        let too_soon = [full, vec![at(990, 5)]].concat();
        assert_eq!(most(&too_soon, 1000), 6);
    }

    #[test]
    fn what_may_have_been_outside_is_not_counted() {
        let uncertain = [at(0, 10), at(500, 400), at(500, 600)];
        assert_eq!(most(&uncertain, 1000), 2, "the third may have come when the first had left");
        assert_eq!(most(&[], 1000), 0);
    }

    #[test]
    fn twice_the_quota_around_the_end_of_a_window_of_the_clock_is_found() {
        let aligned: Vec<_> = (0..10).map(|n| at(5990 + n, 2)).chain((0..10).map(|n| at(6010 + n, 2))).collect();
        assert_eq!(most(&aligned, 6000), 20);
    }

    #[test]
    fn a_place_beyond_the_cap_is_found_and_one_that_was_just_left_is_not() {
        let stay = |asked, low, high| Stay { asked, held: Interval { low, high } };
        let at_once = [stay(0, 2, 50), stay(10, 12, 50), stay(20, 22, 50)];
        let most = |stays: &[Stay]| occupancies(stays).into_iter().map(|one| one.count).max();
        assert_eq!(most(&at_once), Some(3));
        let one_left = [stay(0, 2, 21), stay(10, 12, 50), stay(20, 22, 50)];
        assert_eq!(most(&one_left), Some(2), "it may have left before the third was let in");
        let same_moment = [stay(0, 20, 50), stay(10, 20, 50)];
        assert_eq!(most(&same_moment), Some(1), "neither was there for sure when the other was let in");
    }

    proptest! {
        #[test]
        fn counts_are_those_of_brute_force(
            intervals in prop::collection::vec((0u64..300, prop_oneof![0u64..10, 0u64..200]), 0..60),
            window in 1u64..250,
        ) {
            let intervals: Vec<_> = intervals.into_iter().map(|(low, width)| at(low, width)).collect();
            prop_assert_eq!(most(&intervals, window), brute_force(&intervals, window));
        }

        #[test]
        fn a_history_that_a_strict_log_admits_passes_and_one_message_more_is_found(
            gaps in prop::collection::vec(1u64..120, 20..200),
            widths in prop::collection::vec(0u64..30, 200),
            limit in 1usize..12,
        ) {
            const WINDOW: u64 = 500;
            let (mut now, mut admitted) = (1000u64, Vec::<u64>::new());
            for gap in gaps {
                now += gap;
                if admitted.iter().filter(|&&then| then + WINDOW > now).count() < limit {
                    admitted.push(now);
                }
            }
            // Whatever the intervals are, as long as they hold the truth, a legal history is legal.
            let around = |n: usize, then: u64| Interval { low: then - widths[n % 200], high: then + widths[(n + 7) % 200] };
            let seen: Vec<_> = admitted.iter().enumerate().map(|(n, &then)| around(n, then)).collect();
            prop_assert!(most(&seen, WINDOW) <= limit);
            let fullest = admitted.iter().position(|&then| {
                admitted.iter().filter(|&&one| one >= then && one < then + WINDOW).count() == limit
            });
            if let Some(first) = fullest {
                let exact: Vec<_> = admitted.iter().map(|&then| at(then, 0)).collect();
                let more = [exact, vec![at(admitted[first], 0)]].concat();
                prop_assert_eq!(most(&more, WINDOW), limit + 1);
            }
        }

        #[test]
        fn occupancies_are_those_of_brute_force(
            stays in prop::collection::vec((0u64..100, 1u64..10, 0u64..60), 0..40),
        ) {
            let stays: Vec<_> = stays
                .into_iter()
                .map(|(asked, took, stayed)| Stay { asked, held: at(asked + took, stayed) })
                .collect();
            let expected = stays.iter().map(|one| {
                1 + stays.iter().filter(|other| other.held.low <= one.asked && other.held.high >= one.held.low).count()
            });
            let found = occupancies(&stays).into_iter().map(|one| one.count);
            prop_assert_eq!(found.max(), expected.max());
        }
    }
}
