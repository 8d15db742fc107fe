"""Set a new size for a deployment, replica set, replication controller, or stateful set."""

from __future__ import annotations

from peavine.cli.changes import Changes
from peavine.cli.failures import CliError
from peavine.cli.flags import DRY_RUN, FILES, PRINTING, SELECTOR, Parsed, boolean, duration, integer, string
from peavine.cli.resources import targets
from peavine.cli.session import Session
from peavine.machinery.errors import ApiError

FLAGS = (
    *PRINTING, *FILES, SELECTOR, DRY_RUN,
    integer("replicas", help="The new desired number of replicas. Required."),
    integer("current-replicas", default=-1, help="Precondition for current size."),
    string("resource-version", help="Precondition for resource version."),
    duration("timeout", help="How long to wait for the scale operation, zero means don't wait."),
    boolean("all", help="Select all resources in the namespace of the specified resource types."),
)  # fmt: skip


async def run(session: Session, flags: Parsed) -> int:
    if "replicas" not in flags.given:
        raise CliError('required flag(s) "replicas" not set')
    if flags["replicas"] < 0:
        raise CliError("The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0")
    changes = Changes(session, flags, "kubectl-scale")
    any_found = False
    found = targets(session, flags, command="scale")
    while True:
        try:
            target = await anext(found)
        except StopAsyncIteration:
            break
        except ApiError as error:
            raise CliError(f"no objects passed to scale {error.message}") from None
        any_found = True
        try:
            live = (target.object or {}).get("spec", {}).get("replicas", 0)
            expected = flags["current-replicas"]
            if expected != -1 and live != expected:
                raise CliError(f"Expected replicas to be {expected}, was {live}")
            body = {"spec": {"replicas": flags["replicas"]}}
            answer = None
            if changes.dry_run != "client":
                answer = await changes.patch(target, body, "merge", subresource="scale")
            changes.report(target, "scaled", answer)
        except ApiError as error:
            if error.code == 404:
                raise CliError(f"could not find the scale subresource of {target.shown}: {error.message}") from None
            changes.fail(error)
    if not any_found:
        raise CliError("no objects passed to scale")
    return changes.code
