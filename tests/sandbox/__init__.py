"""Tests of `pycontain.Sandbox` and `pycontain.Pool`."""
