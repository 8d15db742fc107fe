"""lightkube: create, apply on the server's side, watch, delete."""

import pytest
from lightkube import Client, KubeConfig
from lightkube.core.exceptions import ApiError
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap


@pytest.fixture
def client(kubeconfig, namespace):
    return Client(config=KubeConfig.from_file(str(kubeconfig)), namespace=namespace, field_manager="example")


def test_the_life_of_a_config_map(client):
    client.create(ConfigMap(metadata=ObjectMeta(name="settings"), data={"color": "green"}))
    applied = ConfigMap(metadata=ObjectMeta(name="settings"), data={"size": "large"})
    assert client.apply(applied, force=True).data == {"color": "green", "size": "large"}
    for operation, seen in client.watch(ConfigMap, fields={"metadata.name": "settings"}):
        assert (operation, seen.metadata.name) == ("ADDED", "settings")
        break
    client.delete(ConfigMap, "settings")
    with pytest.raises(ApiError, match="not found"):
        client.get(ConfigMap, "settings")
