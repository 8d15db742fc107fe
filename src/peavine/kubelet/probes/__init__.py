"""Probes: how one is done (`prober.py`), and the loop that does it and counts (`worker.py`)."""
