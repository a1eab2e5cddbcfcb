//! The chart: for each load, one bar a peer, the proxy's processor time and behind it that of Redis.

use crate::figures::{Figure, Results};
use crate::peers::Peer;

const WIDTH: f64 = 860.0;
const LABEL: f64 = 290.0;
const BAR: f64 = 18.0;
const GAP: f64 = 6.0;
const HEAD: f64 = 34.0;

const GROUPS: [(&str, Figure, Figure); 3] = [
    ("50 connections", Figure::Fifty, Figure::FiftyRedis),
    ("500 connections", Figure::FiveHundred, Figure::FiveHundredRedis),
    ("50 connections, 8 messages at once", Figure::Burst, Figure::BurstRedis),
];

pub fn draw(results: &Results) -> String {
    let bars = |figure| results.peers().filter_map(move |peer| Some((peer, results.median(peer, figure)?)));
    let with_redis = |peer, value: f64, redis| value + results.median(peer, redis).unwrap_or(0.0);
    let most = GROUPS
        .iter()
        .flat_map(|(_, figure, redis)| bars(*figure).map(|(peer, value)| with_redis(peer, value, *redis)))
        .fold(1.0, f64::max);
    let scale = (WIDTH - LABEL - 110.0) / most;
    let mut body = String::new();
    let mut y = 30.0;
    for (title, figure, redis) in GROUPS {
        body.push_str(&text(8.0, y + 16.0, "start", "bold", title));
        y += HEAD - GAP;
        for (peer, value) in bars(figure) {
            body.push_str(&text(LABEL - 8.0, y + 13.0, "end", "normal", peer.title()));
            let width = value * scale;
            body.push_str(&bar(LABEL, y, width, colour(peer)));
            let behind = results.median(peer, redis).unwrap_or(0.0);
            body.push_str(&bar(LABEL + width, y, behind * scale, "#b9bec7"));
            let end = LABEL + (value + behind) * scale + 6.0;
            let said = if behind > 0.0 { format!("{value:.1} + {behind:.1}") } else { format!("{value:.1}") };
            body.push_str(&text(end, y + 13.0, "start", "normal", &said));
            y += BAR + GAP;
        }
        y += GAP * 2.0;
    }
    let title = text(8.0, 18.0, "start", "normal", "CPU per message in µs (grey: Redis); less is better");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"13\" \
         role=\"img\">\n<title>CPU per message of Picket and its peers</title>\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#ffffff\"/>\n{title}{body}</svg>\n"
    )
}

fn colour(peer: Peer) -> &'static str {
    match peer {
        Peer::Picket | Peer::PicketTwoCores | Peer::PicketSocketio => "#1f6feb",
        Peer::Bare | Peer::BareEager | Peer::BareBusy | Peer::Nginx | Peer::Haproxy | Peer::SocketioUnchecked => {
            "#8aa0b8"
        }
        Peer::NodeProxy | Peer::SocketioChecked => "#d08a2e",
    }
}

/// titles hold no character that XML would mind
fn text(x: f64, y: f64, anchor: &str, weight: &str, words: &str) -> String {
    format!(
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-weight=\"{weight}\" fill=\"#1f2328\">{words}</text>\n"
    )
}

fn bar(x: f64, y: f64, width: f64, colour: &str) -> String {
    format!("<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_a_bar_that_fits() {
        let mut results = Results::default();
        results.add(Peer::Picket, Figure::Fifty, 16.0);
        results.add(Peer::Picket, Figure::FiftyRedis, 0.5);
        results.add(Peer::NodeProxy, Figure::Fifty, 60.0);
        let chart = draw(&results);
        assert_eq!(chart.matches("fill=\"#1f6feb\"").count(), 1);
        assert!(chart.contains(">16.0 + 0.5</text>") && chart.contains(">60.0</text>"), "{chart}");
        assert!(chart.contains(&format!("width=\"{:.1}\"", WIDTH - LABEL - 110.0)), "{chart}");
    }
}
