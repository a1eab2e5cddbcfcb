"""What is made from values.yaml and from `picket schema`: the chart's values.schema.json and the table in its README."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

CHART = Path(__file__).resolve().parents[2] / "helm" / "picket"
BEGIN, END = "<!-- values -->\n", "<!-- end of values -->"

# The chart decides these itself, from values of its own.
DECIDED = {
    "StateConfig": ["url", "caFile"],
    "NodeConfig": ["listen", "opsListen", "checkListen", "tls", "upstreamAssertion"],
    "CoordinatorConfig": ["listen", "opsListen", "auditStore", "admin"],
}
# Kubernetes' own words, which need no explanation of this chart.
KUBERNETES = {
    "accessModes": "of the volumes",
    "affinity": "of the pods",
    "annotations": "of the object",
    "className": "`ingressClassName`",
    "create": "whether the chart makes one",
    "enabled": "whether there is one",
    "envFrom": "more variables of the container",
    "extraEnv": "more variables of the container",
    "extraVolumeMounts": "more mounts of the container",
    "extraVolumes": "more volumes of the pod",
    "fullnameOverride": "instead of release and chart",
    "hostnames": "of the route",
    "initContainers": "of the pods",
    "interval": "between scrapes",
    "labels": "more labels of the object",
    "maxReplicas": "at most",
    "metricRelabelings": "of the monitor",
    "minReplicas": "at least",
    "nameOverride": "instead of the chart's name",
    "nodeSelector": "of the pods",
    "podAnnotations": "more annotations of the pods",
    "podLabels": "more labels of the pods",
    "pollingInterval": "seconds between looks",
    "port": "of the Service",
    "nodePort": "of the Service",
    "priorityClassName": "of the pods",
    "relabelings": "of the monitor",
    "revisionHistoryLimit": "of the workload",
    "scrapeTimeout": "of a scrape",
    "size": "of a volume",
    "terminationGracePeriodSeconds": "of the pods",
    "tolerations": "of the pods",
}
SPREAD = {"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "object"}}]}
TYPES = {bool: "boolean", int: "integer", str: "string", list: "array", dict: "object"}


@dataclass
class Value:
    """one row: a value that users set as a whole"""

    path: list[str]
    default: object
    kind: str
    says: str


def values(text: str) -> list[Value]:
    """the leaves of values.yaml with their comments"""
    found, comment, path = [], [], []
    defaults = yaml.safe_load(text)
    inside = None  # indentation of a value that is a leaf although it is a map
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if inside is not None and stripped and indent > inside:
            continue
        inside = None
        if stripped.startswith("# -- "):
            comment = [stripped[5:]]
        elif stripped.startswith("# ") and comment:
            comment.append(stripped[2:])
        elif match := re.match(r"([A-Za-z]\w*):", stripped):
            path = path[: indent // 2] + [match[1]]
            default = defaults
            for name in path:
                default = default[name]
            said = " ".join(comment)
            kind, says = re.match(r"(?:\(([^)]*)\) ?)?(.*)", said).groups()
            comment = []
            if isinstance(default, dict) and default and not kind:
                continue
            inside = indent
            says = says or KUBERNETES.get(path[-1], "")
            if not says and not (kind or "").startswith("enum"):
                raise SystemExit(f"helm/picket/values.yaml: {'.'.join(path)} has no comment `# -- …`")
            found.append(Value(list(path), default, kind or TYPES[type(default)], says))
    return found


def table(rows: list[Value]) -> str:
    lines = ["\n| value | default | is |\n|---|---|---|\n"]
    for row in rows:
        default = json.dumps(row.default, separators=(", ", ": "))
        says = row.says
        if row.kind.startswith("enum "):
            choice = ", ".join(f"`{one}`" for one in row.kind[5:].split("|"))
            says = f"{choice}{': ' if says else ''}{says}"
        lines.append(f"| `{'.'.join(row.path)}` | `{default}` | {says} |\n".replace("|`", "| `"))
    return "".join(lines) + "\n"


def schema(rows: list[Value], picket: dict) -> dict:
    """closed where the chart knows every name; `config` is what Picket's own types say"""
    config = without_secrets_and_defaults(picket)
    definitions = config.pop("$defs")
    for name, fields in DECIDED.items():
        for field in fields:
            del definitions[name]["properties"][field]
    config.pop("$schema"), config.pop("title")
    root = closed()
    for row in rows:
        place = root
        for name in row.path[:-1]:
            place = place["properties"].setdefault(name, closed())
        place["properties"][row.path[-1]] = of(row, config)
    # Charts above this one may hand down what is for all.
    root["properties"]["global"] = {"type": "object"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Values of the chart picket"} | root | {
        "$defs": definitions
    }


def closed() -> dict:
    return {"type": "object", "properties": {}, "additionalProperties": False}


def of(row: Value, config: dict) -> dict:
    says = {"description": row.says} if row.says else {}
    if row.kind == "config":
        return config | says
    if row.kind == "spread":
        return says | SPREAD
    if row.kind.startswith("enum "):
        return says | {"enum": row.kind[5:].split("|")}
    kinds = row.kind.split("|")
    return says | {"type": kinds if len(kinds) > 1 else kinds[0]}


def without_secrets_and_defaults(node):
    """what the schema calls writeOnly is a secret, and does not belong into a ConfigMap"""
    if isinstance(node, list):
        return [without_secrets_and_defaults(one) for one in node]
    if not isinstance(node, dict):
        return node
    kept = {}
    for key, value in node.items():
        if key == "properties":
            fields = {name: field for name, field in value.items() if not field.get("writeOnly")}
            kept[key] = {name: without_secrets_and_defaults(field) for name, field in fields.items()}
        elif key != "default":
            kept[key] = without_secrets_and_defaults(value)
    return kept


def made(picket_schema: str) -> dict[Path, str]:
    """every generated file with its text"""
    rows = values((CHART / "values.yaml").read_text())
    readme = CHART / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return {
        CHART / "values.schema.json": json.dumps(schema(rows, json.loads(picket_schema)), indent=2) + "\n",
        readme: before + BEGIN + table(rows) + END + after,
    }
