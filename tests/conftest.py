"""What holds for all tests."""

import os

from hypothesis import settings

# The same examples every time: a run says something about the code, not about luck. To search for new ones:
# HYPOTHESIS_PROFILE=search pytest tests/...
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_configure(config):
    """Leave our own modules as they are written.

    The package brings a pytest plugin, so pytest would rewrite the assertions of all its modules, parsing each at its
    import. Modules are imported when first needed, in the thread of a test cluster too, and CPython 3.11 may not parse
    in two threads at once ("AST constructor recursion depth mismatch").
    """
    config.pluginmanager.rewrite_hook._must_rewrite.discard("peavine")
