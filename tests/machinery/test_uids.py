"""UUIDs: random, well-formed, and never the same in two processes."""

import os
import re
import uuid

from peavine.machinery.meta import UIDS_AT_ONCE, new_uid


def test_they_are_random_uuids():
    made = [new_uid() for _ in range(2 * UIDS_AT_ONCE + 1)]
    assert len(set(made)) == len(made)
    form = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(form, one) for one in made)
    assert all(str(uuid.UUID(one)) == one for one in made)


def test_a_forked_process_makes_others():
    new_uid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, new_uid().encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 100).decode() != new_uid()
    os.close(reading)
    os.close(writing)
