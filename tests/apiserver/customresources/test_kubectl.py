"""kubectl against custom resources of a server inside the test's loop."""

import asyncio
import json
import shutil

import pytest

from tests.apiserver.customresources.test_custom_resources import definition, widget
from tests.apiserver.inside import serving

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")

RBAC = "rbac.authorization.k8s.io"
EVERYBODY = {
    "apiVersion": f"{RBAC}/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "everybody"},
    "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"apiGroup": RBAC, "kind": "User", "name": "system:anonymous"}],
}


async def test_kubectl_drives_a_custom_resource_from_definition_to_deletion(tmp_path):
    async with serving(tmp_path) as client:
        # Over plain HTTP kubectl sends no credentials: whoever comes may do anything here.
        client.server.authenticator.anonymous_paths = None
        bound = await client("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", EVERYBODY)
        assert bound.status == 201, bound.json

        async def kubectl(*arguments, given=None):
            process = await asyncio.create_subprocess_exec(
                "kubectl", f"--server=http://127.0.0.1:{client.port}", f"--cache-dir={tmp_path}",
                *arguments,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                env={"HOME": str(tmp_path), "KUBECONFIG": "/dev/null"},
            )  # fmt: skip
            out, _ = await process.communicate(json.dumps(given).encode() if given else b"")
            return process.returncode, out.decode()

        code, out = await kubectl("apply", "-f", "-", given=definition())
        assert code == 0, out
        name = "crd/widgets.example.com"
        assert "condition met" in (await kubectl("wait", "--for=condition=Established", name, "--timeout=5s"))[1]
        assert "created" in (await kubectl("apply", "-f", "-", given=widget("a", size=2)))[1]
        assert (await kubectl("get", "wd"))[1].split()[:5] == ["NAME", "SIZE", "AGE", "a", "2"]
        assert "configured" in (await kubectl("apply", "-f", "-", given=widget("a", size=3)))[1]
        assert "too large" in (await kubectl("apply", "-f", "-", given=widget("a", size=300)))[1]
        assert "scaled" in (await kubectl("scale", "wd/a", "--replicas=4"))[1]
        explained = (await kubectl("explain", "widget.spec"))[1]
        assert "size\t<integer> -required-" in explained and "enum: red, blue" in explained
        assert "deleted" in (await kubectl("delete", name, "--timeout=10s"))[1]
        assert (await kubectl("get", "wd"))[0] == 1
