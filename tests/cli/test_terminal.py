# ruff: noqa: E501
"""What a person at a terminal sees, and a script does not."""

import io
import os
import shutil
import subprocess
import sys

import pytest

from peavine.cli.failures import printable
from peavine.cli.output.printers import for_person
from peavine.cli.output.redrawn import Redrawn
from peavine.cli.output.tables import TablePrinter
from peavine.cli.terminal import Progress, by_status, has_colour, suggestion
from peavine.cli.topview.model import make_view, ordered

GREEN, END = "\x1b[32m", "\x1b[0m"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def table(*rows):
    columns = [{"name": "Name"}, {"name": "Status"}]
    return {
        "columnDefinitions": columns,
        "rows": [{"cells": list(row), "object": {"metadata": {"uid": row[0], "name": row[0]}}} for row in rows],
    }


def test_states_are_coloured_on_a_terminal_only():
    out, script = Terminal(), io.StringIO()
    for stream in (out, script):
        TablePrinter(stream).show(table(("a", "Running"), ("b", "CrashLoopBackOff")))
    assert f"{GREEN}Running{END}" in out.getvalue() and "\x1b[31mCrashLoopBackOff" in out.getvalue()
    assert script.getvalue() == "NAME   STATUS\na      Running\nb      CrashLoopBackOff\n"


def test_no_color_and_a_dumb_terminal_have_no_colour(monkeypatch):
    assert has_colour(Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colour(Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colour(Terminal())


def test_colour_keeps_the_width():
    assert by_status("Running   ") == f"{GREEN}Running{END}   "
    assert by_status("0/1  ").startswith("\x1b[33m") and by_status("1/1") == "1/1" and by_status("web") == "web"


def test_progress_is_drawn_over_itself_and_goes():
    err, script = Terminal(), io.StringIO()
    for stream in (err, script):
        with Progress(stream) as shown:
            shown.tick("waiting")
            shown.tick("waiting")
    assert err.getvalue().count("waiting") == 2 and err.getvalue().endswith("\r\x1b[K")
    assert script.getvalue() == ""


def test_suggestions_are_for_persons():
    assert suggestion("podz", ["pods", "nodes"], Terminal()) == "\n\nDid you mean this?\n\tpods"
    assert suggestion("podz", ["pods"], io.StringIO()) == ""
    assert suggestion("zzz", ["pods"], Terminal()) == ""


def test_escape_sequences_of_the_cluster_do_not_reach_a_terminal():
    evil = "\x1b]0;owned\x07 \x9b31m"
    assert "\x1b" not in for_person(evil, Terminal()) and "\x9b" not in printable(evil)
    assert for_person(evil, io.StringIO()) == evil
    out = Terminal()
    TablePrinter(out).show(table((evil, "x")))
    assert "\x1b]0" not in out.getvalue()


def test_a_redrawn_table_shows_what_there_is_now():
    out = Terminal()
    redrawn = Redrawn(out, lambda: TablePrinter(out))
    redrawn.take("ADDED", table(("a", "Pending"), ("b", "Pending")))
    redrawn.take("MODIFIED", table(("a", "Ok")))
    redrawn.take("DELETED", table(("b", "Pending")))
    last = out.getvalue().rpartition("\x1b[H\x1b[2J")[2]
    assert "a" in last and "Ok" in last and "Pending" not in last


NODE = {"metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"unschedulable": True},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "allocatable": {"cpu": "2", "memory": "1Gi", "pods": "9"}}}  # fmt: skip


def pod(name, **status):
    return {
        "metadata": {"name": name, "namespace": "d"},
        "spec": {"nodeName": "n", "containers": [{}]},
        "status": status,
    }


def test_the_view_counts_and_sorts():
    waiting = {"name": "c", "ready": False, "restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    pods = [pod("a", phase="Running"), pod("b", phase="Running", containerStatuses=[waiting])]
    usage = [{"metadata": {"name": "b", "namespace": "d"}, "containers": [{"usage": {"cpu": "500m", "memory": "2Mi"}}]}]
    nodes = [{"metadata": {"name": "n"}, "usage": {"cpu": "1", "memory": "512Mi"}}]
    view = make_view([NODE], pods, [], nodes, usage)
    assert view.summary == "nodes 1/1 ready   pods 1/2 running, 1 want attention"
    assert view.nodes[0].cells[:5] == ("n", "Ready,SchedulingDisabled", "2/9", "1.00 (50%)", "512Mi (50%)")
    assert [row.cells[1] for row in ordered(view.pods, "cpu")] == ["b", "a"]
    assert ordered(view.pods, "name")[1].cells[:7] == ("d", "b", "0/1", "CrashLoopBackOff", "3", "500m", "2Mi")


def test_the_screen_shows_the_view_and_goes_on_after_errors():
    pytest.importorskip("textual", reason="peavine top needs its extra: pip install peavine[top]")
    import asyncio

    from peavine.cli.topview.app import Top

    answers = [make_view([NODE], [pod("a", phase="Running")], [], [], []), OSError("no server")]

    async def look():
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def run():
        app = Top(look, 1000)
        async with app.run_test() as pilot:
            await pilot.pause()
            assert app.query_one("#pods").row_count == 1
            await pilot.press("r")
            await pilot.pause()
            assert "no server" in str(app.query_one("#summary").render())
            await pilot.press("q")

    asyncio.run(run())


def test_peavine_top_says_what_it_lacks():
    script = "import sys; sys.modules['textual'] = None; from peavine.cmd.top import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "pip install 'peavine[top]'" in done.stderr


# --- completion and plugins


def test_bash_completes_with_what_kubectl_answers(tmp_path, ours):
    bash = shutil.which("bash")
    if not bash:
        pytest.skip("bash is not on this machine")
    fake = tmp_path / "kubectl"
    fake.write_text("#!/bin/sh\nprintf 'pods\\nservices\\tabout\\npodtemplates\\n:4\\n'\n")
    fake.chmod(0o755)
    (tmp_path / "script").write_text(ours("completion bash").out)
    line = "kubectl get po"
    ask = (f"source {tmp_path / 'script'}; COMP_LINE='{line}'; COMP_POINT={len(line)}; __kubectl_complete; "
           'printf "%s\\n" "${COMPREPLY[@]}"')  # fmt: skip
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, timeout=60, env=environment)
    assert done.stdout.splitlines() == ["pods", "podtemplates"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_well_formed(shell, tmp_path, ours):
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"{shell} is not on this machine")
    (tmp_path / "script").write_text(ours(f"completion {shell}").out)
    assert subprocess.run([program, "-n", str(tmp_path / "script")], timeout=60).returncode == 0


def test_a_program_on_the_path_is_a_command(tmp_path, environment):
    program = tmp_path / "kubectl-foo-bar_baz"
    program.write_text('#!/bin/sh\necho "$0 $@"\n')
    program.chmod(0o755)
    (tmp_path / "kubectl-get").write_text("not executable")
    env = {**os.environ, **environment, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    def kubectl(*words):
        start = [sys.executable, "-m", "peavine.cmd.main", "kubectl"]
        return subprocess.run([*start, *words], capture_output=True, text=True, timeout=60, env=env)

    assert kubectl("foo", "bar-baz", "x", "--y").stdout == f"{program} x --y\n"
    listed = kubectl("plugin", "list", "--name-only")
    assert listed.stdout.splitlines()[2:4] == ["kubectl-foo-bar_baz", "kubectl-get"]
    assert "not executable" in listed.stderr and listed.returncode == 1
