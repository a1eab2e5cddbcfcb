"""An alert as it is shipped, which fires in a real Prometheus that reads a real picket."""

import json
import unittest

from processes import until
from watched import WatchedTest, get


class Alert(WatchedTest):
    def test_fires_as_shipped(self):
        prometheus = self.prometheus()

        def firing() -> set[str]:
            alerts = json.loads(get(f"{prometheus}/api/v1/alerts"))["data"]["alerts"]
            return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

        def somebody_tries_passwords() -> bool:
            for _ in range(5):
                get(f"http://{self.management}/api/security/nodes", {"Authorization": "Basic YTpi"})
            return "PicketManagementAttacked" in firing()

        self.assertEqual(firing(), set())
        until(somebody_tries_passwords)
        self.assertEqual(firing(), {"PicketManagementAttacked"})


if __name__ == "__main__":
    unittest.main()
