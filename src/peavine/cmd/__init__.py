"""One small module a process: the composition roots. No rule lives here, only wiring."""
