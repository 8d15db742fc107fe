"""CVE-2021-25741: a container that exchanges a directory for a link while a subPath is mounted gets nothing by it."""

import os

import pytest

from peavine.kubelet.pods.environment import ConfigError
from peavine.kubelet.volumes import manager as subject


@pytest.mark.parametrize("swapped", ["in", "in/deep"])
@pytest.mark.parametrize("target", ["/etc", "../.."])
def test_cve_2021_25741_a_link_put_there_between_the_check_and_the_mount_is_not_followed(
    tmp_path, monkeypatch, swapped, target
):
    volume = tmp_path / "volume"
    (volume / "in" / "deep").mkdir(parents=True)
    mounted, honest = [], os.open
    monkeypatch.setattr(subject.mounts, "bind", lambda source, where: mounted.append(os.readlink(source)))
    monkeypatch.setattr(subject.mounts, "is_mounted", lambda where: False)
    assert subject._subpath(volume, "in/deep", tmp_path / "mounts" / "0", create=True)
    assert mounted == [str(volume / "in" / "deep")]  # so much for the honest case

    def swapping(path, flags, *rest, **more):
        """The check has been made: the thing is exchanged now, before it is opened."""
        if not (volume / swapped).is_symlink():
            os.rename(volume / swapped, tmp_path / "aside")
            os.symlink(target, volume / swapped)
        return honest(path, flags, *rest, **more)

    monkeypatch.setattr(subject.os, "open", swapping)
    with pytest.raises(ConfigError):
        subject._subpath(volume, "in/deep", tmp_path / "mounts" / "1", create=True)
    assert len(mounted) == 1
