"""The chart as Helm renders it, without a cluster."""

import json
from pathlib import Path

import helm_python as helm
import yaml
from helm_python import _native

from documents import CHART

RELEASE, NAMESPACE = "demo", "prod"
# The oldest that the chart is for, the first with `sleep` before the stop, and the newest that schemas are there for.
KUBERNETES = ["1.27", "1.30", "1.37"]
CI = sorted((CHART / "ci").glob("*-values.yaml"))


def values(name: str) -> dict:
    return yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text()) or {}


class Rendered:
    def __init__(self, values: dict, kubernetes: str = KUBERNETES[-1], apis: tuple[str, ...] = ()):
        release = {"name": RELEASE, "namespace": NAMESPACE, "kube_version": f"v{kubernetes}.0", "api_versions": list(apis)}
        # `Chart.render` does not take the versions, what is below it does.
        with helm.Chart.load(str(CHART)) as chart:
            self.texts = json.loads(_native.call_string("helm_render", chart._raw(), json.dumps(values), json.dumps(release)))
        self.notes = next((text for path, text in self.texts.items() if path.endswith("NOTES.txt")), "")
        manifests = [text for path, text in sorted(self.texts.items()) if path.endswith(".yaml")]
        self.objects = [one for text in manifests for one in yaml.safe_load_all(text) if one]

    def all(self, kind: str) -> list[dict]:
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str) -> dict:
        found = [one for one in self.all(kind) if one["metadata"]["name"] == name]
        assert len(found) == 1, f"{kind} {name}: {[o['metadata']['name'] for o in self.all(kind)]}"
        return found[0]

    def workload(self, role: str) -> dict:
        kind = {"node": "Deployment", "coordinator": "StatefulSet"}[role]
        return self.one(kind, f"{RELEASE}-picket-{role}")

    def pods(self) -> list[dict]:
        """the specification of every pod, the ones of `helm test` too"""
        templates = [one["spec"]["template"]["spec"] for one in self.all("Deployment") + self.all("StatefulSet")]
        return templates + [one["spec"] for one in self.all("Pod")]

    def configuration(self) -> dict:
        return yaml.safe_load(self.one("ConfigMap", f"{RELEASE}-picket")["data"]["picket.yaml"])
