import asyncio
import json
import os
import signal
import sys

from peavine.base.lifetimes import scope
from peavine.cmd.processes import Process
from peavine.cmd.supervise import Supervisor, lock


def test_only_one_supervisor_holds_a_directory(tmp_path):
    first = lock(tmp_path)
    assert first is not None and lock(tmp_path) is None
    os.close(first)
    second = lock(tmp_path)
    assert second is not None
    os.close(second)


def test_a_killed_process_is_started_again_and_all_end_with_the_supervisor(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "logs").mkdir()
    command = [sys.executable, "-c", "import time; time.sleep(1000)"]

    def pid():
        try:
            state = json.loads((tmp_path / "run" / "state.json").read_text())
        except FileNotFoundError:
            return None
        return state["processes"].get("sleeper", {}).get("pid")

    async def changed(old):
        async with asyncio.timeout(10):
            while (new := pid()) in (None, old):
                await asyncio.sleep(0.01)
            return new

    async def main():
        async with scope() as tasks:
            tasks.start(Supervisor([Process("sleeper", command)], tmp_path).run())
            first = await changed(None)
            os.kill(first, signal.SIGKILL)
            return await changed(first)

    last = asyncio.run(main())
    try:
        os.kill(last, 0)
    except ProcessLookupError:
        return
    raise AssertionError("the process outlived its supervisor")
