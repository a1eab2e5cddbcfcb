"""The Grafana dashboards: their panels are said here, and their JSON is made in helm/picket/files/dashboards."""

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "helm" / "picket" / "files" / "dashboards"
WIDTH, HEIGHT = 24, 8
SCHEMA_VERSION = 39

# What of it a process shows is chosen above: all jobs and all instances to begin with.
HERE = 'job=~"$job", instance=~"$instance"'


def rate(metric: str, by: str = "", labels: str = "") -> str:
    selector = ", ".join(filter(None, [HERE, labels]))
    total = f"sum by ({by}) " if by else "sum"
    return f"{total}(rate({metric}{{{selector}}}[$__rate_interval]))"


def increase(metric: str, by: str = "", labels: str = "") -> str:
    return rate(metric, by, labels).replace("rate(", "increase(", 1).replace("$__rate_interval", "$__range")


def gauge(metric: str, by: str = "", labels: str = "", how: str = "sum") -> str:
    selector = ", ".join(filter(None, [HERE, labels]))
    return f"{how}{f' by ({by}) ' if by else ''}({metric}{{{selector}}})"


def quantile(part: float, metric: str, by: str = "", labels: str = "") -> str:
    return f"histogram_quantile({part}, {rate(f'{metric}_bucket', ', '.join(filter(None, ['le', by])), labels)})"


REFUSED = 'picket_outcome="refused"'
UPSTREAM = 'picket_reason=~"upstream_.*"'
LIMITS = 'picket_reason=~"too_many_handshakes|connection_rate|too_many_connections|anonymous_limit|event_rate|burst|message_rate|inspection_time|overload"'
CONTENT = 'picket_reason=~"hostile_content|active_content|suspicious_content|schema|malformed|unknown_event|role_required|text_too_long|too_deep|payload_too_large"'

# (title, what it tells, unit, kind, [(expression, legend)])
DASHBOARDS = {
    "overview": (
        "Picket: overview",
        [
            ("Connections", "Open over all nodes.", "short", "stat", [(gauge("picket_connections_active"), "open")]),
            ("Events", "That passed, each second.", "ops", "stat", [(rate("picket_events_total"), "events")]),
            ("Refused", "Connections and events, each second.", "ops", "stat", [(rate("picket_decisions_total", labels=REFUSED), "refused")]),
            ("Degraded nodes", "That decide without the shared state.", "short", "stat", [(gauge("picket_mode", labels='picket_mode="degraded"'), "nodes")]),
            ("Connections by identity", "", "short", "timeseries", [(gauge("picket_connections_active", "picket_identity"), "{{picket_identity}}")]),
            ("Refusals by reason", "docs/reasons.md says what each means.", "ops", "timeseries", [(rate("picket_decisions_total", "picket_reason", REFUSED), "{{picket_reason}}")]),
            ("Connections admitted and refused", "", "ops", "timeseries", [(rate("picket_decisions_total", "picket_outcome", 'picket_stage=~"handshake|admission"'), "{{picket_outcome}}")]),
            ("Reasons in the chosen time", "", "short", "table", [(f"topk(20, {increase('picket_decisions_total', 'picket_reason', REFUSED)})", "{{picket_reason}}")]),
        ],
    ),
    "node": (
        "Picket: nodes",
        [
            ("Connections by node", "", "short", "timeseries", [(gauge("picket_connections_active", "instance"), "{{instance}}")]),
            ("Events by node", "", "ops", "timeseries", [(rate("picket_events_total", "instance"), "{{instance}}")]),
            ("Refusals by node", "", "ops", "timeseries", [(rate("picket_decisions_total", "instance", REFUSED), "{{instance}}")]),
            ("Refusals by stage", "", "ops", "timeseries", [(rate("picket_decisions_total", "picket_stage", REFUSED), "{{picket_stage}}")]),
            ("Admissions take", "Of connections, by quantile.", "s", "timeseries", [
                (quantile(part, "picket_decision_duration_seconds", labels='picket_stage="admission"'), f"p{part * 100:.0f}") for part in (0.5, 0.9, 0.99)
            ]),
            ("Inspections take", "Of those that begin in one millisecond of 64.", "s", "timeseries", [
                (quantile(part, "picket_decision_duration_seconds", labels='picket_stage="inspection"'), f"p{part * 100:.0f}") for part in (0.5, 0.9, 0.99)
            ]),
            ("Mode", "1 for the mode that a node is in.", "short", "timeseries", [(gauge("picket_mode", "instance, picket_mode", how="max"), "{{instance}} {{picket_mode}}")]),
            ("Enforcement", "1 for what a node does with refusals.", "short", "timeseries", [(gauge("picket_enforcement", "instance, picket_enforce", how="max"), "{{instance}} {{picket_enforce}}")]),
            ("Keys of issuers", "Time since they were fetched; they are asked for every five minutes, and serve for an hour.", "s", "timeseries", [(gauge("picket_token_keys_age_seconds", "picket_issuer", how="max"), "{{picket_issuer}}")]),
            ("Clock", "How far Redis's clock is ahead; more than two seconds is an error.", "ms", "timeseries", [(gauge("picket_clock_offset_milliseconds", "instance", how="max"), "{{instance}}")]),
            ("Upstreams", "Refusals for the application's sake, and upstreams left alone.", "ops", "timeseries", [
                (rate("picket_decisions_total", "picket_reason", UPSTREAM), "{{picket_reason}}"),
                (rate("picket_upstream_ejections_total"), "left alone"),
            ]),
            ("Panics", "Each ended one connection; report them.", "short", "timeseries", [(increase("picket_panics_total", "instance"), "{{instance}}")]),
            ("Certificates", "Changes of the gateway's certificate.", "short", "timeseries", [(increase("picket_renewals_total", "picket_outcome"), "{{picket_outcome}}")]),
        ],
    ),
    "limits": (
        "Picket: limits and reputation",
        [
            ("Refused by limits", "", "ops", "timeseries", [(rate("picket_decisions_total", "picket_reason", LIMITS), "{{picket_reason}}")]),
            ("Refused for content and permission", "", "ops", "timeseries", [(rate("picket_decisions_total", "picket_reason", CONTENT), "{{picket_reason}}")]),
            ("Passed and recorded", "Sanitised or suspicious content.", "ops", "timeseries", [(rate("picket_observations_total", "picket_reason"), "{{picket_reason}}")]),
            ("Blocked addresses at the door", "", "ops", "timeseries", [(rate("picket_decisions_total", labels='picket_reason="address_blocked"'), "refused")]),
            ("Blocks come into force after", "From the making to each process; p99.", "s", "timeseries", [(quantile(0.99, "picket_block_propagation_seconds", "instance"), "{{instance}}")]),
            ("Automatic blocks", "", "short", "timeseries", [(increase("picket_coordinator_automatic_blocks_total"), "blocks")]),
            ("Addresses with a score", "", "short", "timeseries", [(gauge("picket_coordinator_addresses_scored", how="max"), "addresses")]),
            ("Beyond a limit", "0 in calm: what nodes let through while Redis was away, or forgot.", "short", "timeseries", [
                (increase("picket_limits_overshoot_total", "picket_limit"), "{{picket_limit}}"),
                (gauge("picket_limits_overshoot_max", "picket_limit", how="max"), "{{picket_limit}}, at most at once"),
            ]),
            ("Counters in the shared state", "", "short", "timeseries", [(gauge("picket_identities", "instance"), "{{instance}}")]),
            ("Counted in a crowd", "Newcomers beyond node.limits.identitiesMax.", "ops", "timeseries", [(rate("picket_identities_crowded_total", "instance"), "{{instance}}")]),
        ],
    ),
    "coordinator": (
        "Picket: coordinator and audit",
        [
            ("Audit lag", "Records that wait to be stored; health warns beyond 10,000.", "short", "timeseries", [(gauge("picket_audit_lag", how="max"), "records")]),
            ("Stored", "", "ops", "timeseries", [
                (rate("picket_audit_records_stored_total"), "stored"),
                (rate("picket_audit_records_repeated_total"), "delivered again"),
                (rate("picket_audit_records_not_stored_total"), "of low severity, left out"),
            ]),
            ("Lost", "", "short", "timeseries", [
                (increase("picket_audit_dropped_total"), "dropped by nodes"),
                (increase("picket_audit_records_deleted_total"), "deleted by retention"),
                (increase("picket_audit_store_failures_total"), "batches not stored at once"),
            ]),
            ("Alarms", "What the coordinator raised, resolved or noticed.", "short", "timeseries", [(f'{increase("picket_alarms_total", "kind, state")} > 0', "{{kind}} {{state}}")]),
            ("Alarms to receivers", "", "short", "timeseries", [(increase("picket_alarms_notifications_total", "outcome"), "{{outcome}}")]),
            ("Logins", "", "short", "timeseries", [(increase("picket_coordinator_logins_total", "outcome"), "{{outcome}}")]),
            ("Management requests", "", "ops", "timeseries", [(rate("picket_coordinator_requests_total", "status"), "{{status}}")]),
            ("Telemetry lost", "", "short", "timeseries", [(increase("picket_telemetry_dropped_total", "picket_signal, picket_cause"), "{{picket_signal}} {{picket_cause}}")]),
        ],
    ),
    "redis": (
        "Picket: Redis and outages",
        [
            ("Degraded nodes", "That decide without Redis.", "short", "timeseries", [(gauge("picket_mode", "picket_mode"), "{{picket_mode}}")]),
            ("Time without Redis", "Share of the chosen time, over all nodes.", "percentunit", "stat", [(f'avg(avg_over_time(picket_mode{{{HERE}, picket_mode="degraded"}}[$__range]))', "degraded")]),
            ("Calls", "To Redis, each second, by lane and outcome: checks wait for theirs, durable is what waits for a replica, upkeep is everything else.", "ops", "timeseries", [
                (rate("picket_state_call_duration_seconds_count", "picket_lane, picket_outcome"), "{{picket_lane}} {{picket_outcome}}"),
            ]),
            ("Calls take", "Answered ones, by lane.", "s", "timeseries", [
                (quantile(part, "picket_state_call_duration_seconds", "picket_lane", 'picket_outcome="answered"'), f"{{{{picket_lane}}}} p{part * 100:.0f}") for part in (0.5, 0.99)
            ]),
            ("Given away alone", "Uses and places that nodes gave away by themselves.", "ops", "timeseries", [(rate("picket_limits_alone_total", "picket_limit"), "{{picket_limit}}")]),
            ("Refused because Redis is away", "node.onOutage: closed.", "ops", "timeseries", [(rate("picket_decisions_total", labels='picket_reason="state_unavailable"'), "refused")]),
            ("Found to be too much", "What turned out to be beyond a limit when Redis was back.", "short", "timeseries", [(increase("picket_limits_overshoot_total", "picket_limit"), "{{picket_limit}}")]),
            ("Audit", "Waiting at the coordinator, and dropped by nodes.", "short", "timeseries", [
                (gauge("picket_audit_lag", how="max"), "waiting"),
                (increase("picket_audit_dropped_total"), "dropped"),
            ]),
        ],
    ),
}


def dashboard(name: str) -> dict:
    title, panels = DASHBOARDS[name]
    return {
        "uid": f"picket-{name}",
        "title": title,
        "tags": ["picket"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["picket"], "title": "Picket", "asDropdown": True, "includeVars": True, "keepTime": True}],
        "templating": {"list": [datasource(), variable("job", ""), variable("instance", 'job=~"$job"')]},
        "panels": placed(panels),
    }


def datasource() -> dict:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def variable(label: str, within: str) -> dict:
    query = f'label_values({{__name__=~"picket_.+"{", " + within if within else ""}}}, {label})'
    return {
        "name": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def placed(panels: list[tuple]) -> list[dict]:
    """single numbers four to a line, everything else two"""
    made, x, y, line = [], 0, 0, 0
    for number, (title, tells, unit, kind, targets) in enumerate(panels, start=1):
        width, height = (6, 4) if kind == "stat" else (12, HEIGHT)
        if x + width > WIDTH or (made and line != height):
            x, y = 0, y + line
        place = {"x": x, "y": y, "w": width, "h": height}
        made.append(panel(number, title, tells, unit, kind, targets) | {"gridPos": place})
        x, line = x + width, height
    return made


def panel(number: int, title: str, tells: str, unit: str, kind: str, targets: list[tuple]) -> dict:
    source = {"type": "prometheus", "uid": "${datasource}"}
    at_once = {"instant": True, "range": False, "format": "table"} if kind == "table" else {}
    return {
        "id": number,
        "title": title,
        "description": tells,
        "type": kind,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": unit, "min": None if unit == "ms" else 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}} if kind == "timeseries" else {},
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": source, "expr": expression, "legendFormat": legend} | at_once | exemplar(kind, expression)
            for index, (expression, legend) in enumerate(targets)
        ],
    }


def exemplar(kind: str, expression: str) -> dict:
    """refusals lead to their traces: docs/telemetry.md"""
    shown = kind == "timeseries" and expression.startswith("sum") and "picket_decisions_total" in expression
    return {"exemplar": True} if shown else {}


def made() -> dict[Path, str]:
    """every generated file with its text"""
    return {FOLDER / f"{name}.json": json.dumps(dashboard(name), indent=2) + "\n" for name in DASHBOARDS}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in made().items():
        path.write_text(text)
