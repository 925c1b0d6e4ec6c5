"""Benchmarks of pycontain and its peers."""
