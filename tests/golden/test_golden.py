"""The server answers as a real kube-apiserver did, but for the differences listed with a reason."""

from __future__ import annotations

import collections

import pytest

from tests.apiserver.serving import ServerProcess
from tests.golden import replay
from tests.golden.differences import KNOWN, Known, reason


@pytest.mark.slow
def test_every_recorded_exchange_agrees_or_differs_for_a_listed_reason(tmp_path):
    flags = ["--service-cluster-ip-range", "10.96.0.0/12", "--disable-admission-plugins", "ServiceAccount"]
    with ServerProcess(tmp_path, flags) as server:
        api = replay.Api("127.0.0.1", server.port, *server.client_files())
        unexplained, used, agree, total = [], collections.Counter[Known](), 0, 0
        for record, code, answer in replay.run(api, replay.recorded()):
            total += 1
            where = f"{record['scenario']} {record['method']} {record['path']}"
            problems = replay.compare(record, code, answer)
            agree += not problems
            for problem in problems:
                known = reason(where, problem)
                if known is None:
                    unexplained.append(f"{where}\n    {problem}")
                else:
                    used[known] += 1
    print(f"{agree} of {total} exchanges agree in everything")
    assert not unexplained, f"{len(unexplained)} differences without a reason:\n" + "\n".join(unexplained[:40])
    assert not [known for known in KNOWN if not used[known] and not known.sometimes], (
        "differences that are none any more"
    )
