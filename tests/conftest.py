"""What holds for all tests."""

import os

from hypothesis import settings

# The same examples every time: a run says something about the code, not about luck. To search for new ones:
# HYPOTHESIS_PROFILE=search pytest tests/...
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
