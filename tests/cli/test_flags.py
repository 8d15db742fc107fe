# ruff: noqa: E501
import importlib

import pytest

from peavine.cli.failures import CliError
from peavine.cli.flags import Flag, array, boolean, duration, integer, parse, string, strings
from peavine.cli.main import COMMANDS, main
from peavine.client.blocking import drive

FLAGS = (
    string("namespace", "n"), string("output", "o"), boolean("watch", "w"), boolean("quiet", "q"), integer("tail", default=-1),
    strings("label-columns", "L"), array("literal"), duration("timeout"), Flag("dry-run", "", "string", "none", "", "unchanged"),
)  # fmt: skip


def test_flags_stand_anywhere_and_in_every_form():
    parsed = parse(FLAGS, ["-nx", "pods", "-o=json", "--watch", "--tail", "5", "name", "-wq"], "get")
    assert parsed.arguments == ["pods", "name"]
    assert (parsed["namespace"], parsed["output"], parsed["watch"], parsed["quiet"], parsed["tail"]) == (
        "x",
        "json",
        True,
        True,
        5,
    )
    assert parse(FLAGS, ["--watch=false"], "get")["watch"] is False


def test_what_follows_two_dashes_is_left_alone():
    parsed = parse(FLAGS, ["pod", "--", "ls", "-l", "--", "x"], "exec")
    assert parsed.arguments == ["pod"] and parsed.after_dashes == ["ls", "-l", "--", "x"]


def test_repeated_flags_gather():
    parsed = parse(FLAGS, ["-La,b", "-L", "c", "--literal=a=1,2", "--literal", "b"], "get")
    assert parsed["label-columns"] == ("a", "b", "c") and parsed["literal"] == ("a=1,2", "b")


def test_a_flag_may_come_without_its_value():
    assert parse(FLAGS, ["--dry-run", "x"], "create")["dry-run"] == "unchanged"
    assert parse(FLAGS, ["--dry-run=client"], "create")["dry-run"] == "client"
    assert parse(FLAGS, ["--timeout=1m30s"], "wait")["timeout"] == 90


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--nope"], "unknown flag: --nope"), (["-Z"], "unknown shorthand flag: 'Z' in -Z"), (["-n"], "flag needs an argument: 'n' in -n"),
        (["--output"], "flag needs an argument: --output"),
        (["--tail=x"], 'invalid argument "x" for "--tail" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["-w=maybe"], 'invalid argument "maybe" for "-w, --watch" flag: strconv.ParseBool: parsing "maybe": invalid syntax'),
    ],
)  # fmt: skip
def test_wrong_flags_are_refused_in_upstreams_words(line, message):
    with pytest.raises(CliError) as error:
        parse(FLAGS, line, "get")
    assert str(error.value) == f"{message}\nSee 'kubectl get --help' for usage."


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_global_flags_may_stand_before_between_and_after_the_words_of_a_command(command, monkeypatch):
    module = importlib.import_module(f"peavine.cli.commands.{COMMANDS[command]}")
    seen = []

    async def run(session, flags):
        seen.append((flags["namespace"], flags["context"], flags["kubeconfig"], flags.arguments[-1:]))
        return 0

    for sub in getattr(module, "SUBCOMMANDS", {"": ""}):
        words = [command, *([sub] if sub else [])]
        words += {"secret": ["generic"], "service": ["clusterip"]}.get(sub, []) if command == "create" else []
        with monkeypatch.context() as patch:
            patch.setattr("peavine.cli.main._awaited", lambda module, session: run(session, session.flags))
            patch.setattr("asyncio.run", drive)
            for at in range(len(words) + 1):
                line = [*words[:at], "-n", "space", "--context", "c", "--kubeconfig=k", *words[at:], "last"]
                seen.clear()
                assert main(line) == 0, line
                assert seen == [("space", "c", "k", ["last"])], line
