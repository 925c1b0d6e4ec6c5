"""Tests that need the integration machine, or that test the machine itself."""
