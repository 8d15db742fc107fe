"""What may come next on a command line: asked by the scripts of `completion` (`kubectl __complete WORDS`)."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from peavine.cli import kubeconfig
from peavine.cli.failures import CliError
from peavine.cli.flags import GLOBAL, Flag, Parsed
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS: tuple[Flag, ...] = ()
TAKES_ALL = True  # no word of the line is a flag of this command
FILES, SPACE, NO_SPACE, ONLY_ENDINGS = 0, 4, 6, 8
_DIRECTIVE = "ShellCompDirective"
_WORDS = {
    FILES: f"{_DIRECTIVE}Default", SPACE: f"{_DIRECTIVE}NoFileComp", ONLY_ENDINGS: f"{_DIRECTIVE}FilterFileExt",
    NO_SPACE: f"{_DIRECTIVE}NoSpace, {_DIRECTIVE}NoFileComp",
}  # fmt: skip
_ENDINGS = ["json", "yaml", "yml"]
_FORMATS = "json yaml name go-template go-template-file template templatefile jsonpath jsonpath-as-json jsonpath-file"
_WORKLOADS = ["daemonsets", "deployments", "pods", "cronjobs", "replicasets", "replicationcontrollers", "statefulsets"]
_KINDS = {
    "rollout status": ["deployment", "daemonset", "statefulset"],
    "rollout history": ["deployment", "daemonset", "statefulset"],
    "rollout undo": ["deployment", "daemonset", "statefulset"],
    "rollout restart": ["deployment", "daemonset", "statefulset"],
    "rollout pause": ["deployment"],
    "rollout resume": ["deployment"],
    "scale": ["deployment", "replicaset", "replicationcontroller", "statefulset"],
    "autoscale": ["deployment", "replicaset", "replicationcontroller", "statefulset"],
    "expose": ["pod", "service", "replicationcontroller", "deployment", "replicaset"],
    "taint": ["node"],
    **{f"set {name}": _WORKLOADS for name in ("image", "env", "resources", "serviceaccount")},
}  # fmt: skip
# Commands whose first argument is a kind (or kind/name), and the rest names of it.
_ANY_KIND = {"get", "describe", "delete", "edit", "annotate", "label", "patch", "debug", "apply view-last-applied",
             "apply edit-last-applied", "wait", "explain", "events", "set subject", "set selector"}  # fmt: skip
_NAMES_OF = {
    "logs": "pods", "exec": "pods", "attach": "pods", "port-forward": "pods", "top pod": "pods", "top node": "nodes",
    "drain": "nodes", "cordon": "nodes", "uncordon": "nodes", "create token": "serviceaccounts",
    "certificate approve": "certificatesigningrequests", "certificate deny": "certificatesigningrequests",
}  # fmt: skip
_ONE_NAME = {"logs", "exec", "attach", "port-forward", "top pod", "top node", "create token"}
_CONFIG = {
    "config use-context": "contexts", "config delete-context": "contexts", "config rename-context": "contexts",
    "config set-context": "contexts", "config get-contexts": "contexts", "config delete-cluster": "clusters",
    "config set-cluster": "clusters", "config delete-user": "users", "config set-credentials": "users",
}  # fmt: skip
Answer = tuple[list[str], int]


async def run(session: Session, flags: Parsed) -> int:
    try:
        found, directive = await _Line(session, flags.after_dashes or [""]).candidates()
    except (CliError, ApiError, OSError):
        found, directive = [], FILES  # somebody is typing: an error has no place on that line
    session.out.write("".join(f"{word}\n" for word in found) + f":{directive}\n")
    session.out.flush()
    session.warn(f"Completion ended with directive: {_WORDS[directive]}")
    return 0


class _Line:
    """A command line as far as it is typed; the last word is the one to complete."""

    def __init__(self, session: Session, words: list[str]) -> None:
        self.session, self.words, self.last = session, words[:-1], words[-1]
        self.command, self.module, self.arguments = "", None, []  # type: ignore[var-annotated]
        self.pending: Flag | None = None
        self.values: dict[str, Any] = {}

    async def candidates(self) -> Answer:
        from peavine.cli.main import ALIASES, COMMANDS, summary

        rest = list(self.words)
        self._take(rest, GLOBAL, only_flags=True)
        if not self.arguments:
            if self.pending:
                return await self._value(self.pending, self.last)
            if self.last.startswith("-"):
                return self._flags(GLOBAL)
            named = [f"{name}\t{summary(name)}" for name in sorted(COMMANDS)]
            return self._matching(named), SPACE
        name = self.arguments[0]
        module_name = COMMANDS.get(ALIASES.get(name, name))
        if "--" in self.words:
            return [], SPACE
        if module_name is None:
            return [], FILES
        module = importlib.import_module(f"peavine.cli.commands.{module_name}")
        self.command, rest, self.arguments = name, self.words[self.words.index(name) + 1 :], []
        subs: dict[str, str] = getattr(module, "SUBCOMMANDS", {})
        given = next((word for word in rest if not word.startswith("-")), None)
        if subs and given in subs:
            found = module.subcommand(rest)
            module, self.command = found[0], f"{name} {given}"
            rest = [word for word in rest if word != given]
        elif subs and given is None and not self.last.startswith("-") and not self._wants_value(rest, module):
            return self._matching([f"{sub}\t{text.rstrip('.')}" for sub, text in sorted(subs.items())]), SPACE
        flags = (*module.FLAGS, *GLOBAL)
        self._take(rest, flags)
        if self.pending:
            return await self._value(self.pending, self.last)
        if self.last.startswith("--") and "=" in self.last:
            flag_name, _, value = self.last[2:].partition("=")
            flag = next((f for f in flags if f.name == flag_name), None)
            return await self._value(flag, value, before=f"--{flag_name}=") if flag else ([], FILES)
        if self.last.startswith("-"):
            return self._flags(flags)
        return await self._argument()

    def _wants_value(self, rest: list[str], module: Any) -> bool:
        """Whether the last flag of a command that has subcommands, but works without one, is still open."""
        self._take(rest, (*module.FLAGS, *GLOBAL))
        return self.pending is not None

    def _take(self, words: list[str], flags: tuple[Flag, ...], *, only_flags: bool = False) -> None:
        """Sort words into arguments and values of flags; a flag at the end may still want its value."""
        self.arguments, self.pending = [], None
        by_name = {f"--{flag.name}": flag for flag in flags} | {f"-{flag.short}": flag for flag in flags if flag.short}
        at = 0
        while at < len(words):
            word = words[at]
            at += 1
            flag = by_name.get(word.partition("=")[0])
            if not word.startswith("-"):
                self.arguments.append(word)
                if only_flags:
                    return
            elif flag is None or flag.kind == "bool":
                continue
            elif "=" in word:
                self.values[flag.name] = word.partition("=")[2]
            elif flag.bare is None:
                if at == len(words):
                    self.pending = flag
                else:
                    self.values[flag.name] = words[at]
                    at += 1

    def _matching(self, found: list[str], prefix: str | None = None) -> list[str]:
        start = self.last if prefix is None else prefix
        return [word for word in found if word.startswith(start)]

    def _flags(self, flags: tuple[Flag, ...]) -> Answer:
        named = [f"--{flag.name}\t{flag.help}" for flag in sorted(flags, key=lambda f: f.name)]
        short = [f"-{flag.short}\t{flag.help}" for flag in flags if flag.short]
        return self._matching([*named, *(short if self.last in ("-", "") else [])]), SPACE

    async def _value(self, flag: Flag, start: str, before: str = "") -> Answer:
        choose: dict[str, Callable[[], Awaitable[list[str]]]] = {
            "namespace": lambda: self._names("namespaces"), "context": lambda: self._entries("contexts"),
            "cluster": lambda: self._entries("clusters"), "user": lambda: self._entries("users"),
            "container": self._containers,
        }  # fmt: skip
        if flag.name in ("filename", "kubeconfig", "cert", "key", "certificate-authority"):
            return (_ENDINGS, ONLY_ENDINGS) if flag.name == "filename" else ([], FILES)
        if flag.name == "output":
            more = " custom-columns custom-columns-file wide" if self.command == "get" else ""
            return self._matching((_FORMATS + more).split(), start), SPACE
        if flag.name == "dry-run":
            return self._matching(["none", "server", "client"], start), SPACE
        if flag.name not in choose:
            return [], FILES
        found = self._matching(await choose[flag.name](), start)
        return [before + word for word in found], SPACE if found else FILES

    async def _argument(self) -> Answer:
        command, given = self.command, self.arguments
        if command == "completion":
            return self._matching(["powershell", "bash", "zsh", "fish"]) if not given else [], SPACE
        if command in _CONFIG:
            several = command in ("config get-contexts",)
            return (self._matching(await self._entries(_CONFIG[command])) if several or not given else []), SPACE
        if command in _NAMES_OF:
            if given and command == "logs" and len(given) == 1 and "/" not in given[0]:
                return self._matching(await self._containers()), SPACE
            if given and command in _ONE_NAME:
                return [], SPACE
            if "/" in self.last:
                return await self._slashed()
            return self._matching([n for n in await self._names(_NAMES_OF[command]) if n not in given]), SPACE
        if command == "cp":
            pods = [f"{name}:" for name in await self._names("pods")]
            spaces = [f"{name}/" for name in await self._names("namespaces")]
            return self._matching([*spaces, *pods]), NO_SPACE
        kinds = _KINDS.get(command)
        if kinds is None and command not in _ANY_KIND:
            return [], FILES
        if "/" in self.last:
            return await self._slashed()
        if given:
            return self._matching([n for n in await self._names(given[0]) if n not in given]), SPACE
        return self._matching(kinds if kinds is not None else await self._kinds()), SPACE

    async def _kinds(self) -> list[str]:
        """Core resources by their plural, others with their group; each once."""
        listed = [m for m in await self.session.mappings() if {"get", "list"} & set(m.verbs)]
        return list(dict.fromkeys(m.gvr.group_resource for m in sorted(listed, key=lambda m: (m.group, m.plural))))

    async def _slashed(self) -> Answer:
        kind = self.last.partition("/")[0]
        return self._matching([f"{kind}/{name}" for name in await self._names(kind)]), SPACE

    async def _names(self, kind: str) -> list[str]:
        mapping = await self.session.mapping(kind)
        self.session.flags.values.update({k: v for k, v in self.values.items() if k in ("namespace",)})
        namespace = self.session.namespace if mapping.namespaced else None
        form = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
        headers = {"Accept": form}
        listed = await self.session.client.json("GET", mapping.gvr.path(namespace), headers=headers)
        return sorted(item["metadata"]["name"] for item in listed.get("items") or ())

    async def _entries(self, section: str) -> list[str]:
        return sorted(entry["name"] for entry in kubeconfig.load(self.session.flags)[section])

    async def _containers(self) -> list[str]:
        if not self.arguments:
            return []
        name = self.arguments[0].removeprefix("pod/").removeprefix("pods/")
        pod = await self.session.get((await self.session.mapping("pods")).gvr.path(self.session.namespace, name))
        parts = ("initContainers", "containers", "ephemeralContainers")
        return [container["name"] for part in parts for container in pod["spec"].get(part) or ()]
