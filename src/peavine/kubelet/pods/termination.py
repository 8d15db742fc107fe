"""The last words of a container: its termination message file, or the end of its log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peavine.kubelet.paths import Paths
from peavine.kubelet.pods.records import TERMINATION_POLICY, Container

Object = dict[str, Any]

MESSAGE_BYTES_MAX = 4096
LOG_BYTES_MAX = 2048
LOG_LINES_MAX = 80


def file_of(paths: Paths, uid: str, container: str, attempt: int) -> Path:
    return paths.container(uid, container) / f"termination-{attempt}"


def message(paths: Paths, uid: str, pod: Object, record: Container) -> str:
    """At most 4096 bytes of the file; with FallbackToLogsOnError, of a failed one's log when the file is empty."""
    if record.state != "exited":
        return ""
    try:
        data = file_of(paths, uid, record.name, record.restart_count).read_bytes()[:MESSAGE_BYTES_MAX]
    except OSError:
        data = b""
    if data:
        return data.decode("utf-8", "replace")
    policy = record.annotations.get(TERMINATION_POLICY)
    if policy == "FallbackToLogsOnError" and record.exit_code != 0 and record.log_path:
        from peavine.kubelet.logs.files import tail_text

        return tail_text(Path(record.log_path), lines=LOG_LINES_MAX, bytes_max=LOG_BYTES_MAX)
    return record.message
