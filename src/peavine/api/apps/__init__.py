"""The apps group: deployments and the controllers of pods."""
