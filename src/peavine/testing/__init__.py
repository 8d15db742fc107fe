"""Supported fakes and the pytest fixture for people who test against Kubernetes."""
