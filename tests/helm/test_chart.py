"""What the chart promises, on every file in helm/picket/ci."""

import functools
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

import documents
import picket
from chart import CI, KUBERNETES, NAMESPACE, RELEASE, Rendered, values

HERE = Path(__file__).parent
# Custom resources, which the schemas of Kubernetes do not know.
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "HTTPRoute", "ExternalSecret"}
OPERATOR = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")
# In which a node ends its tasks and delivers audit and telemetry after the drain.
STOP_SECONDS = 20


def on_every_example(test):
    @functools.wraps(test)
    def run(self):
        for path in CI:
            with self.subTest(path.name):
                test(self, path.name, yaml.safe_load(path.read_text()) or {})

    return run


# What templates leave is not wrong, only not pretty.
UNPRETTY = ["line-length", "empty-lines", "trailing-spaces", "new-line-at-end-of-file", "indentation", "hyphens"]
YAMLLINT = json.dumps({"extends": "relaxed", "rules": dict.fromkeys(UNPRETTY, "disable")})


class EveryExample(unittest.TestCase):
    def test_is_there(self):
        needed = ["cluster", "default", "everything", "external-secrets", "keda", "minimal", "postgres", "sentinel", "tls"]
        self.assertEqual([path.name.removesuffix("-values.yaml") for path in CI], needed)

    @on_every_example
    def test_is_lint_free(self, name, given):
        found = helm.lint(str(documents.CHART), given, strict=True, kube_version=f"v{KUBERNETES[-1]}.0")
        said = [message["error"] for message in found["messages"] if "icon is recommended" not in message["error"]]
        self.assertEqual((found["errors"], said), ([], []))

    @on_every_example
    def test_is_what_kubernetes_takes(self, _, given):
        for kubernetes in KUBERNETES:
            for one in Rendered(given, kubernetes, OPERATOR).objects:
                self.assertEqual(one["metadata"].get("namespace", NAMESPACE), NAMESPACE)
                if one["kind"] not in CUSTOM:
                    kubernetes_validate.validate(one, kubernetes, strict=True)

    @on_every_example
    def test_has_a_configuration_that_picket_takes(self, name, given):
        rendered = Rendered(given)
        coordinator, node = (picket.check_config(rendered, role) for role in ["coordinator", "node"])
        self.assertEqual((coordinator.returncode, coordinator.stderr), (0, ""))
        if name == "default-values.yaml":
            self.assertEqual(node.returncode, 64)
            self.assertIn("node.routes", node.stderr)
        else:
            self.assertEqual((node.returncode, node.stderr), (0, ""))

    def test_is_hardened(self):
        with tempfile.TemporaryDirectory() as folder:
            for path in CI:
                rendered = Rendered(yaml.safe_load(path.read_text()) or {})
                # Pods of `helm test` end by themselves: nothing is there to probe.
                objects = [one for one in rendered.objects if one["kind"] != "Pod"]
                Path(folder, path.name).write_text(yaml.safe_dump_all(objects))
            checkov = subprocess.run(
                ["checkov", "--directory", folder, "--framework", "kubernetes", "--config-file", HERE / "checkov.yaml"],
                capture_output=True, text=True,
            )
        self.assertEqual(checkov.returncode, 0, checkov.stdout + checkov.stderr)

    @on_every_example
    def test_reads_well(self, name, given):
        text = "\n---\n".join(text for name, text in Rendered(given).texts.items() if name.endswith(".yaml"))
        lint = subprocess.run(["yamllint", "--strict", "-d", YAMLLINT, "-"], input=text, capture_output=True, text=True)
        self.assertEqual((lint.returncode, lint.stdout), (0, ""))

    @on_every_example
    def test_is_restricted(self, _, given):
        """the Pod Security Standard of that name, for the pods of `helm test` too"""
        for pod in Rendered(given).pods():
            self.assertTrue(pod["securityContext"]["runAsNonRoot"])
            self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
            self.assertFalse(pod["automountServiceAccountToken"])
            for container in pod["containers"]:
                security = container["securityContext"]
                self.assertEqual(security["capabilities"], {"drop": ["ALL"]})
                self.assertTrue(security["readOnlyRootFilesystem"])
                self.assertFalse(security["allowPrivilegeEscalation"])
                self.assertIn("memory", container["resources"]["limits"])

    @on_every_example
    def test_waits_for_the_whole_drain(self, _, given):
        rendered = Rendered(given)
        pod = rendered.workload("node")["spec"]["template"]["spec"]
        sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = rendered.configuration()["node"]["drain"]
        needed = sleep + (drain["graceMs"] + drain["spreadMs"]) / 1000 + STOP_SECONDS
        self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], needed)

    @on_every_example
    def test_mounts_only_what_there_is(self, _, given):
        for pod in Rendered(given).pods():
            volumes = {volume["name"] for volume in pod.get("volumes", [])} | {"data"}
            mounts = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
            self.assertEqual(mounts - volumes, set())


class Secrets(unittest.TestCase):
    def refused(self, given: dict, words: str):
        with self.assertRaises(Exception) as error:
            Rendered(given)
        self.assertIn(words, str(error.exception))

    def test_do_not_fit_into_the_configuration(self):
        issuer = {"issuer": "shop", "audience": "chat", "algorithms": ["HS256"], "secret": picket.SECRET}
        self.refused({"config": {"auth": {"jwt": {"issuers": [issuer]}}}}, "secret")
        self.refused({"config": {"state": {"url": "redis://:canary@redis"}}}, "url")
        self.refused({"config": {"node": {"checkToken": "canary"}}}, "checkToken")
        self.refused({"config": {"coordinator": {"admin": {}}}}, "admin")

    def test_are_in_secrets_only(self):
        rendered = Rendered({"redis": {"url": "redis://:canary@redis:6379"}})
        holding = [one["kind"] for one in rendered.objects if "canary" in str(one)]
        self.assertEqual((holding, "canary" in rendered.notes), (["Secret"], False))

    def test_of_others_make_the_chart_make_none(self):
        self.assertEqual(Rendered(values("external-secrets")).all("Secret"), [])
        self.assertEqual(Rendered(values("external-secrets")).texts, Rendered(values("external-secrets")).texts)

    def test_of_the_check_api_are_needed(self):
        self.refused({"node": {"checkApi": {"enabled": True}}}, "bearer token")

    def test_of_nodes_are_not_mounted_at_coordinators(self):
        rendered = Rendered(values("everything"))
        names = lambda role: {v["name"] for v in rendered.workload(role)["spec"]["template"]["spec"]["volumes"]}
        self.assertEqual(names("node") & {"tls", "assertion", "secret-jwt"}, {"tls", "assertion", "secret-jwt"})
        self.assertEqual(names("coordinator") & {"tls", "assertion", "secret-jwt"}, set())


class Values(unittest.TestCase):
    def test_that_nobody_knows_are_refused(self):
        for given, words in [
            ({"node": {"replicas": 3}}, "replicas"),
            ({"node": {"replicaCount": "three"}}, "want integer"),
            ({"config": {"node": {"rutes": []}}}, "rutes"),
            ({"config": {"policy": {"security": {"allowAnonymous": "yes"}}}}, "allowAnonymous"),
            ({"config": {"node": {"listen": "0.0.0.0:1"}}}, "listen"),
        ]:
            with self.assertRaises(Exception) as error:
                Rendered(given)
            self.assertIn(words, str(error.exception))

    def test_are_documented(self):
        """values.schema.json and README.md; UPDATE_DOCS=1 writes them"""
        for path, text in documents.made(picket.schema()).items():
            if os.environ.get("UPDATE_DOCS"):
                path.write_text(text)
            self.assertEqual(path.read_text() if path.exists() else "", text, f"{path.name} is stale: UPDATE_DOCS=1 tests/run helm")


class Policy(unittest.TestCase):
    def checksum(self, given: dict, role: str) -> str:
        return Rendered(given).workload(role)["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    def test_that_changes_restarts_coordinators_and_no_node(self):
        before, after = values("minimal"), values("minimal")
        after["config"]["policy"]["security"] = {"allowAnonymous": False}
        self.assertEqual(self.checksum(before, "node"), self.checksum(after, "node"))
        self.assertNotEqual(self.checksum(before, "coordinator"), self.checksum(after, "coordinator"))
        after["config"]["node"]["trustedProxies"] = ["10.0.0.0/8"]
        self.assertNotEqual(self.checksum(before, "node"), self.checksum(after, "node"))

    def test_is_published_by_coordinators_alone(self):
        rendered = Rendered(values("minimal"))
        self.assertIn("policySource: file", picket.check_config(rendered, "coordinator").stdout)
        self.assertIn("policySource: state", picket.check_config(rendered, "node").stdout)


class Cluster(unittest.TestCase):
    def test_without_the_operator_there_is_nothing_for_it(self):
        kinds = {"ServiceMonitor", "PrometheusRule"}
        made = lambda apis: {one["kind"] for one in Rendered(values("minimal"), apis=apis).objects} & kinds
        self.assertEqual((made(()), made(OPERATOR)), (set(), kinds))

    def test_gets_the_alerts_and_dashboards_of_the_files(self):
        rendered = Rendered(values("everything"))
        pages = values("everything")["prometheusRule"]["runbookUrl"]
        alerts = yaml.safe_load((documents.CHART / "files" / "rules.yml").read_text().replace("docs/runbook.md", pages))
        self.assertEqual(rendered.one("PrometheusRule", f"{RELEASE}-picket")["spec"], alerts)
        shown = {name: text for one in rendered.all("ConfigMap") for name, text in one["data"].items() if name.endswith(".json")}
        files = list((documents.CHART / "files" / "dashboards").glob("*.json"))
        self.assertEqual(len(shown), len(files))
        for path in files:
            self.assertEqual(json.loads(shown[f"picket-{path.name}"]), json.loads(path.read_text()))

    def test_that_is_old_has_no_sleep_before_the_stop(self):
        pod = Rendered(values("minimal"), "1.29").workload("node")["spec"]["template"]["spec"]
        self.assertEqual(("lifecycle" in pod["containers"][0], pod["terminationGracePeriodSeconds"]), (False, 55))

    def test_scales_instead_of_the_values(self):
        for name, kind in [("everything", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")]:
            rendered = Rendered(values(name))
            self.assertNotIn("replicas", rendered.workload("node")["spec"])
            scaler = rendered.one(kind, f"{RELEASE}-picket-node")
            self.assertEqual(scaler["spec"]["scaleTargetRef"]["name"], f"{RELEASE}-picket-node")
        with self.assertRaisesRegex(Exception, "choose one"):
            Rendered({"node": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}})

    def test_keeps_polling_clients_on_their_node(self):
        nginx = Rendered(values("everything")).one("Ingress", f"{RELEASE}-picket-node")
        self.assertEqual(nginx["metadata"]["annotations"]["nginx.ingress.kubernetes.io/upstream-hash-by"], "$remote_addr")
        traefik = Rendered(values("keda")).one("Service", f"{RELEASE}-picket-node")
        self.assertEqual(traefik["metadata"]["annotations"]["traefik.ingress.kubernetes.io/service.sticky.cookie"], "true")

    def test_selects_only_pods_of_its_own(self):
        rendered = Rendered(values("everything"))
        pods = {role: rendered.workload(role)["spec"]["template"]["metadata"]["labels"] for role in ["node", "coordinator"]}
        for service in rendered.all("Service"):
            selector = service["spec"]["selector"].items()
            selected = [role for role, labels in pods.items() if selector <= labels.items()]
            self.assertEqual(selected, ["coordinator" if "coordinator" in service["metadata"]["name"] else "node"])

    def test_keeps_the_trail_in_postgres_and_needs_no_volumes_then(self):
        rendered = Rendered(values("postgres"))
        coordinator, node = (rendered.workload(role)["spec"] for role in ["coordinator", "node"])
        self.assertEqual((coordinator["replicas"], "volumeClaimTemplates" in coordinator), (2, False))
        container = coordinator["template"]["spec"]["containers"][0]
        variables = {entry["name"]: entry for entry in container["env"]}
        secret = {"name": "picket-postgres", "key": "uri"}
        self.assertEqual(variables["PICKET_COORDINATOR__AUDIT_STORE"]["valueFrom"]["secretKeyRef"], secret)
        folder = Path(variables["PGSSLROOTCERT"]["value"]).parent
        self.assertIn(str(folder), [mount["mountPath"] for mount in container["volumeMounts"]])
        self.assertNotIn("postgres", str(node), "nodes know nothing of it")
        self.assertIn("auditStore: postgres", picket.check_config(rendered, "coordinator").stdout)
        policy = rendered.one("NetworkPolicy", f"{RELEASE}-picket-coordinator")["spec"]["egress"]
        self.assertIn([{"port": 5432, "protocol": "TCP"}], [rule["ports"] for rule in policy])
        self.assertIn("volumeClaimTemplates", Rendered(values("sentinel")).workload("coordinator")["spec"])

    def test_hears_what_is_missing(self):
        notes = Rendered({"ingress": {"enabled": True, "hosts": [{"host": "a"}]}}).notes
        for words in ["config.node.routes is empty", "allowedOrigins", "trustedProxies"]:
            self.assertIn(words, notes)
        self.assertNotIn("NOT READY", Rendered(values("minimal")).notes)


if __name__ == "__main__":
    unittest.main()
