"""Container logs: CRI's line format, reading with kubectl's options, rotation."""
