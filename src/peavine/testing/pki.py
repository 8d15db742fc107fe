"""The keys of clusters under test: made once a process, copied for each cluster.

They guard nothing but a port on the loopback device for as long as a test runs, so clusters may share them, and there
is no need to wait until they are on the disk.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

from peavine.base.clock import Clock
from peavine.cmd.pki import BACKDATE_SECONDS, DAY, Pki, ensure_kubeconfigs, ensure_pki, kubeconfig

SERVER = "https://server.invalid"
NODES_USER = "peavine:simulated-nodes"  # all of them at once, so no one of them by name
_making = threading.Lock()


def copy_pki(directory: Path, address: str, clock: Clock) -> Pki:
    """The keys and certificates below `directory`. Raises ValueError where `clock` is too far from the real time:
    TLS goes by that one, and the server, which checks again, by its own clock."""
    if not -BACKDATE_SECONDS < clock.time() - time.time() < 30 * DAY:
        raise ValueError("certificates are checked by the real time too: begin near it, SimulatedClock(time.time())")
    with _making:
        model = _model(address)
    for path, content in model.items():
        target = directory / path
        target.parent.mkdir(mode=0o700, exist_ok=True)
        target.touch(0o600)
        target.write_text(content)
    return Pki(directory)


def kubeconfigs(pki: Pki, server: str) -> dict[str, Path]:
    """Point the kubeconfigs to `server`. Returns name -> path, as `ensure_kubeconfigs`."""
    paths = {path.stem: path for path in (pki.data_dir / "kubeconfigs").iterdir()}
    for path in (*paths.values(), pki.admin_kubeconfig):
        path.write_text(path.read_text().replace(SERVER, server))
    return {**paths, "admin": pki.admin_kubeconfig}


@cache
def _model(address: str) -> dict[str, str]:
    """Relative path -> content."""
    directory = Path(tempfile.mkdtemp(prefix="peavine-test-keys-"))
    try:
        pki = ensure_pki(directory, advertise_addresses=[address])
        ensure_kubeconfigs(pki, SERVER)
        kubeconfig(pki, pki.kubeconfig("nodes"), SERVER, NODES_USER, ("system:masters",))
        return {str(p.relative_to(directory)): p.read_text() for p in directory.rglob("*") if p.is_file()}
    finally:
        shutil.rmtree(directory)
