"""Flags as upstream's parser takes them, anywhere on the line: `--name=value`, `--name value`, `-n value`."""

from __future__ import annotations

from collections.abc import Iterable

from peavine.cli.failures import CliError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Flag:
    """One flag. `kind` is string, bool, int, strings (repeated and comma-separated), array (repeated) or duration.

    `bare` is the value of the flag given without one, for flags that may be (`--dry-run`, `--cascade`).
    """

    __slots__ = ("bare", "default", "help", "kind", "name", "short")

    def __init__(
        self,
        name: str,
        short: str = "",
        kind: str = "string",
        default: Any = None,
        help: str = "",
        bare: str | None = None,
    ) -> None:
        self.name, self.short, self.kind, self.default, self.help, self.bare = name, short, kind, default, help, bare

    @property
    def initial(self) -> Any:
        if self.default is not None:
            return self.default
        return {"bool": False, "int": 0, "strings": (), "array": (), "duration": 0.0}.get(self.kind, "")


class Parsed:
    """Values by flag name, the names that were given, the arguments, and those after `--`."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.given: set[str] = set()
        self.arguments: list[str] = []
        self.after_dashes: list[str] | None = None

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)


def first_word(words: list[str], flags: Iterable[Flag]) -> int | None:
    """Where the first word stands that is neither a flag nor the value of one."""
    flags = [flag for flag in flags if flag.kind != "bool" and flag.bare is None]
    takes_value = {f"--{flag.name}" for flag in flags} | {f"-{flag.short}" for flag in flags if flag.short}
    at = 0
    while at < len(words):
        if not words[at].startswith("-"):
            return at
        at += 2 if words[at] in takes_value else 1
    return None


def parse(flags: Iterable[Flag], line: list[str], command: str, *, stop_at_argument: bool = False) -> Parsed:
    """Raises CliError in upstream's words. `stop_at_argument` leaves everything from the first argument on alone."""
    by_name = {flag.name: flag for flag in flags}
    by_short = {flag.short: flag for flag in by_name.values() if flag.short}
    parsed = Parsed({flag.name: flag.initial for flag in by_name.values()})
    try:
        return _parse(parsed, by_name, by_short, line, stop_at_argument)
    except CliError as error:
        raise CliError(f"{error}\nSee 'kubectl {command} --help' for usage.") from None


def _parse(
    parsed: Parsed, by_name: dict[str, Flag], by_short: dict[str, Flag], line: list[str], stop_at_argument: bool
) -> Parsed:
    at = 0
    while at < len(line):
        word = line[at]
        at += 1
        if word == "--":
            parsed.after_dashes = line[at:]
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            flag = by_name.get(name)
            if flag is None:
                raise CliError(f"unknown flag: --{name}{_meant(name, by_name)}")
            at = _take(parsed, flag, f"--{name}", value if equals else None, line, at)
        elif word.startswith("-") and len(word) > 1:
            at = _shorthands(parsed, by_short, word, line, at)
        else:
            parsed.arguments.append(word)
            if stop_at_argument:
                parsed.arguments += line[at:]
                break
    return parsed


def _meant(name: str, by_name: dict[str, Flag]) -> str:
    import sys

    from peavine.cli.terminal import suggestion

    close = suggestion(name, by_name, sys.stderr)
    return close.replace("\t", "\t--") if close else ""


def _shorthands(parsed: Parsed, by_short: dict[str, Flag], word: str, line: list[str], at: int) -> int:
    letters = word[1:]
    while letters:
        flag = by_short.get(letters[0])
        if flag is None:
            raise CliError(f"unknown shorthand flag: '{letters[0]}' in {word}")
        rest = letters[1:]
        if flag.kind == "bool" and not rest.startswith("="):
            _set(parsed, flag, "true")
            letters = rest
            continue
        return _take(parsed, flag, f"-{flag.short}, --{flag.name}", rest.removeprefix("=") if rest else None, line, at)
    return at


def _take(parsed: Parsed, flag: Flag, shown: str, value: str | None, line: list[str], at: int) -> int:
    if value is None:
        if flag.kind == "bool":
            value = "true"
        elif flag.bare is not None:
            value = flag.bare
        elif at < len(line):
            value, at = line[at], at + 1
        else:
            needs = shown if shown.startswith("--") else f"'{flag.short}' in -{flag.short}"
            raise CliError(f"flag needs an argument: {needs}")
    _set(parsed, flag, value)
    return at


def _set(parsed: Parsed, flag: Flag, text: str) -> None:
    named = f"-{flag.short}, --{flag.name}" if flag.short else f"--{flag.name}"

    def bad(why: str) -> CliError:
        return CliError(f'invalid argument "{text}" for "{named}" flag: {why}')

    value: Any = text
    if flag.kind == "bool":
        if text.lower() not in ("1", "0", "t", "f", "true", "false"):
            raise bad(f'strconv.ParseBool: parsing "{text}": invalid syntax')
        value = text.lower() in ("1", "t", "true")
    elif flag.kind == "int":
        if not (text[1:] if text[:1] in "+-" else text).isdecimal():
            raise bad(f'strconv.ParseInt: parsing "{text}": invalid syntax')
        value = int(text)
    elif flag.kind == "duration":
        from peavine.machinery.duration import parse_duration

        try:
            value = parse_duration(text + "s" if text.removeprefix("-").isdecimal() else text)
        except ValueError as error:
            raise bad(str(error)) from None
    elif flag.kind in ("strings", "array"):
        before = parsed.values[flag.name] if flag.name in parsed.given else ()
        value = (*before, *(text.split(",") if flag.kind == "strings" else [text]))
    parsed.values[flag.name] = value
    parsed.given.add(flag.name)


def string(name: str, short: str = "", default: str = "", help: str = "", bare: str | None = None) -> Flag:
    return Flag(name, short, "string", default, help, bare)


def boolean(name: str, short: str = "", default: bool = False, help: str = "") -> Flag:
    return Flag(name, short, "bool", default, help)


def integer(name: str, short: str = "", default: int = 0, help: str = "") -> Flag:
    return Flag(name, short, "int", default, help)


def strings(name: str, short: str = "", help: str = "") -> Flag:
    return Flag(name, short, "strings", (), help)


def array(name: str, short: str = "", help: str = "") -> Flag:
    return Flag(name, short, "array", (), help)


def duration(name: str, short: str = "", default: float = 0.0, help: str = "") -> Flag:
    return Flag(name, short, "duration", default, help)


OUTPUT = string("output", "o", help="Output format.")
TEMPLATE = string("template", help="Template string or path to template file to use when -o=go-template.")
SHOW_MANAGED = boolean("show-managed-fields", help="If true, keep the managedFields when printing objects.")
ALLOW_MISSING = boolean("allow-missing-template-keys", default=True, help="Ignore missing keys in templates.")
PRINTING = (OUTPUT, TEMPLATE, SHOW_MANAGED, ALLOW_MISSING)
FILES = (
    Flag("filename", "f", "strings", (), "Filename, directory, or URL to files."),
    string("kustomize", "k", help="Process the kustomization directory."),
    boolean("recursive", "R", help="Process the directory used in -f, --filename recursively."),
)
SELECTOR = string("selector", "l", help="Selector (label query) to filter on.")
FIELD_SELECTOR = string("field-selector", help="Selector (field query) to filter on.")
ALL_NAMESPACES = boolean("all-namespaces", "A", help="If present, list the requested object(s) across all namespaces.")
DRY_RUN = string("dry-run", default="none", bare="unchanged", help='Must be "none", "server", or "client".')
FIELD_MANAGER = string("field-manager", help="Name of the manager used to track field ownership.")

GLOBAL = (
    string("kubeconfig", help="Path to the kubeconfig file to use for CLI requests."),
    string("context", help="The name of the kubeconfig context to use"),
    string("cluster", help="The name of the kubeconfig cluster to use"),
    string("user", help="The name of the kubeconfig user to use"),
    string("namespace", "n", help="If present, the namespace scope for this CLI request"),
    string("server", "s", help="The address and port of the Kubernetes API server"),
    string("token", help="Bearer token for authentication to the API server"),
    string("as", help="Username to impersonate for the operation."),
    array("as-group", help="Group to impersonate for the operation, this flag can be repeated."),
    string("as-uid", help="UID to impersonate for the operation."),
    string("certificate-authority", help="Path to a cert file for the certificate authority"),
    string("client-certificate", help="Path to a client certificate file for TLS"),
    string("client-key", help="Path to a client key file for TLS"),
    boolean("insecure-skip-tls-verify", help="If true, the server's certificate will not be checked for validity."),
    string("tls-server-name", help="Server name to use for server certificate validation."),
    string("request-timeout", default="0", help="How long to wait for the answer to a single request."),
    string("cache-dir", help="Default cache directory"),
    string("username", help="Username for basic authentication to the API server"),
    string("password", help="Password for basic authentication to the API server"),
    Flag("v", "v", "int", 0, "number for the log level verbosity: 6 and more show the requests"),
    string("vmodule", help="Unused: there are no log files of modules."),
    duration("log-flush-frequency", default=5.0, help="Unused: nothing is logged to files."),
    string("profile-output", default="profile.pprof", help="Name of the file to write the profile to"),
    Flag("profile", "", "string", "none", "Profile to capture: none or cpu (Python's pstats)"),
    array("as-user-extra", help="User extras to impersonate for the operation, key=value; can be repeated."),
    boolean("warnings-as-errors", help="Treat warnings received from the server as errors."),
    boolean("match-server-version", help="Require server version to match client version"),
    boolean("disable-compression", help="If true, opt-out of response compression."),
    boolean("help", "h", help="Help for the command"),
)  # fmt: skip
