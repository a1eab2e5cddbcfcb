//! The verdict as a table for people.

use super::bounds::Regime;
use super::ledger::Limit;
use super::{Beside, ByLoad, Row, Verdict, Violation, Worst};

pub fn report(verdict: &Verdict) -> String {
    let regimes = Regime::ALL.map(|regime| format!(" {} |", regime.as_str())).concat();
    let rows: String = verdict.rows.iter().map(|(limit, row)| limit_row(*limit, row)).collect();
    let outages = verdict.outages.injected.iter().map(|outage| {
        let second = |at: u64| at as f64 / 1e6;
        format!(
            "Redis was away from {:.1} s to {:.1} s, and all nodes were normal at {:.1} s.\n",
            second(outage.cut),
            second(outage.back),
            second(outage.healed)
        )
    });
    format!(
        "seed {}; {:.0} s\n\n\
         | limit | subjects | asked | let through | refused |{regimes} full in calm | verdict |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n{rows}\n\
         Each cell: the most that a window surely held / the most that it may hold, of the worst subject.\n\
         {}In {} moments besides a node had no answer in time; uses let through alone: {}, of which nodes later learnt that \
         {} were beyond a limit.\n\
         {:.0} % of all messages were sent in calm. When a message was let through is known within {:.2} ms (p50), {:.2} ms (p99).\n\n{}{}",
        verdict.seed,
        verdict.seconds,
        outages.collect::<String>(),
        verdict.outages.disturbances.len(),
        verdict.alone,
        verdict.overshoot,
        100.0 * sent(&verdict.calm) as f64 / sent(&verdict.all).max(1) as f64,
        verdict.width_p50_ms,
        verdict.width_p99_ms,
        loads(verdict),
        verdict.violations().map(violation).collect::<String>(),
    )
}

fn sent(by_load: &ByLoad) -> u64 {
    by_load.values().map(|beside| beside.sent).sum()
}

fn limit_row(limit: Limit, row: &Row) -> String {
    let cell = |regime: Regime| row.worst.get(&regime).map_or_else(|| "–".to_owned(), worst);
    let cells = Regime::ALL.map(|regime| format!(" {} |", cell(regime))).concat();
    let verdict = match row.violations.len() {
        0 => "holds".to_owned(),
        violations => format!("**{violations} VIOLATIONS**"),
    };
    format!(
        "| {} | {} | {} | {} | {} |{cells} {} | {verdict} |\n",
        limit.as_str(),
        row.subjects,
        row.asked,
        row.through,
        row.refused,
        row.full
    )
}

fn worst(worst: &Worst) -> String {
    format!("{} / {}", worst.count, worst.bound)
}

fn loads(verdict: &Verdict) -> String {
    let part = |beside: &Beside| match beside.exact {
        0 => "–".to_owned(),
        exact => format!("{:.3}", beside.through as f64 / exact as f64),
    };
    let row = |(load, all): (_, &Beside)| {
        let calm = verdict.calm.get(load).copied().unwrap_or_default();
        let name = format!("{load:?}").to_lowercase();
        format!("| {name} | {} | {} | {} | {} | {} |\n", calm.sent, calm.through, calm.exact, part(&calm), part(all))
    };
    format!(
        "| load | sent in calm | let through | by an exact log | ratio | ratio, faults included |\n|---|---|---|---|---|---|\n{}\n",
        verdict.all.iter().map(row).collect::<String>()
    )
}

fn violation(violation: &Violation) -> String {
    let Violation { limit, regime, worst, inside } = violation;
    let lines: String = inside.iter().map(|one| format!("  {} – {} µs\n", one.low, one.high)).collect();
    format!(
        "VIOLATION: {} of {}, {}: {} in the window from {} µs, where {} are the most\n{lines}",
        limit.as_str(),
        worst.subject,
        regime.as_str(),
        worst.count,
        worst.start,
        worst.bound
    )
}
