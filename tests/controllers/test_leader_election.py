"""Several controller managers, each a process: one works, and who cannot renew stops."""

import asyncio
import os
import signal
import sys

import pytest

from peavine.machinery.errors import ApiError
from peavine.testing import AsyncCluster
from tests.controllers.conftest import eventually

FLAGS = ("--secure-port=0", "--controllers=serviceaccount-controller", "--leader-elect-lease-duration=6")
FLAGS += ("--leader-elect-renew-deadline=4", "--leader-elect-retry-period=0.5")


@pytest.mark.slow
def test_a_killed_leader_is_followed_and_a_stopped_one_that_wakes_ends_itself():
    async def main():
        async with AsyncCluster(controllers=False, scheduler=False, nodes=0) as cluster:
            leases = cluster.client.resource("coordination.k8s.io/v1", "leases")
            kubeconfig = f"--kubeconfig={cluster.pki.kubeconfig('controller-manager')}"
            started = []

            async def start():
                command = (sys.executable, "-m", "peavine.cmd.main", "controller-manager", kubeconfig, *FLAGS)
                quiet = asyncio.subprocess.DEVNULL
                started.append(await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet))
                return started[-1]

            async def leads(process):
                try:
                    spec = (await leases.get("kube-controller-manager", "kube-system"))["spec"]
                except ApiError:
                    return False
                return spec["holderIdentity"].endswith(f"_{process.pid}")

            async def works(namespace):
                """The leader, and nobody else, makes a namespace's ServiceAccount."""
                await cluster.client.resource("v1", "namespaces").create({"metadata": {"name": namespace}})
                await eventually(lambda: accounts(namespace), 60)

            async def accounts(namespace):
                return (await cluster.client.resource("v1", "serviceaccounts").list(namespace))["items"]

            try:
                first = await start()
                await eventually(lambda: leads(first), 60)
                await works("one")
                second, third = await start(), await start()
                first.kill()
                await first.wait()

                async def one_of_two():
                    return second if await leads(second) else third if await leads(third) else None

                leader = await eventually(one_of_two, 60)
                follower = second if leader is third else third
                await works("two")
                os.kill(leader.pid, signal.SIGSTOP)
                await eventually(lambda: leads(follower), 60)
                os.kill(leader.pid, signal.SIGCONT)
                assert await asyncio.wait_for(leader.wait(), 60) != 0, "it led until it was stopped, and must not go on"
                assert await leads(follower)
                await works("three")
                follower.terminate()
                await asyncio.wait_for(follower.wait(), 60)
                holder = (await leases.get("kube-controller-manager", "kube-system"))["spec"].get("holderIdentity", "")
                assert holder == "", "who ends in order gives the lease back"
            finally:
                for process in started:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()

    asyncio.run(main())


def test_each_controller_acts_as_its_own_service_account():
    async def main():
        names = ("deployment-controller", "replicaset-controller", "serviceaccount-controller", "job-controller")
        async with AsyncCluster(controllers=names, scheduler=False, nodes=0) as cluster:
            await cluster.create_namespace("work")
            labels = {"app": "web"}
            template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "web:1"}]}}
            spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
            await cluster.client.resource("apps/v1", "deployments").create(
                {"metadata": {"name": "web", "namespace": "work"}, "spec": spec}
            )
            await eventually(lambda: cluster.requests.count(verb="create", resource="pods"), 60)
            account = "system:serviceaccount:kube-system:"
            who = {r.resource: r.user for r in cluster.requests.writes(namespace="work") if r.verb == "create"}
            assert who["replicasets"] == f"{account}deployment-controller"
            assert who["pods"] == f"{account}replicaset-controller"
            assert who["serviceaccounts"] == f"{account}service-account-controller"

            # And may do no more than its role allows.
            from peavine.client.identity import ServiceAccountClient, anonymous_context

            parent = cluster.client
            own = ServiceAccountClient(parent, "kube-system", "replicaset-controller", anonymous_context(parent))
            await own.renew()
            with pytest.raises(ApiError) as refused:
                await own.resource("v1", "secrets").list("work")
            assert refused.value.code == 403
            own.close()

    asyncio.run(main())
