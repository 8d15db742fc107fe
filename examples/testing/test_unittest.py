"""Without pytest: one cluster for the class, a snapshot to go back to before each test."""

import unittest

import kubernetes

from peavine.testing import Cluster


class ConfigMapsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = cls.enterClassContext(Cluster(controllers=False, scheduler=False, nodes=0))
        cls.api = kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(str(cls.cluster.kubeconfig)))
        cls.before = cls.cluster.snapshot()

    def setUp(self):
        self.cluster.reset(self.before)

    def names(self):
        return [item.metadata.name for item in self.api.list_namespaced_config_map("default").items]

    def test_one_makes_a_map(self):
        self.api.create_namespaced_config_map("default", {"metadata": {"name": "made"}, "data": {"a": "1"}})
        self.assertIn("made", self.names())

    def test_two_does_not_see_it(self):
        self.assertNotIn("made", self.names())


if __name__ == "__main__":
    unittest.main()
