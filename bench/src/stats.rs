//! The arithmetic of measurements: percentiles and medians.

/// the smallest value that at least this part of all values does not exceed; `sorted` ascends
pub fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1).min(last)).copied()
}

pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = ascending(values.to_vec());
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Between which values the median of what was sampled lies, with 95 % confidence whatever its distribution: order statistics,
/// their ranks by the normal approximation of the binomial (Conover, Practical Nonparametric Statistics, 3.2). None below 6.
pub fn median_interval(values: &[f64]) -> Option<(f64, f64)> {
    const Z: f64 = 1.96;
    let sorted = ascending(values.to_vec());
    let count = sorted.len() as f64;
    if count < 6.0 {
        return None;
    }
    let reach = Z * count.sqrt() / 2.0;
    let low = (count / 2.0 - reach).floor().max(1.0) as usize - 1;
    let high = (count / 2.0 + reach).ceil() as usize;
    Some((sorted[low], sorted[high.min(sorted.len() - 1)]))
}

pub fn ascending(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 0.5), Some(50.0));
        assert_eq!(percentile(&hundred, 0.99), Some(99.0));
        assert_eq!(percentile(&hundred, 1.0), Some(100.0));
        assert_eq!(percentile(&hundred, 0.0), Some(1.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn the_median_of_twenty_lies_between_the_fifth_and_the_sixteenth() {
        let twenty: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(median_interval(&twenty), Some((5.0, 16.0)));
        assert_eq!(median_interval(&twenty[..6]), Some((15.0, 20.0)));
        assert_eq!(median_interval(&twenty[..5]), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
