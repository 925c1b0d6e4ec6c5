"""Tests that only make sense inside the integration machine, or that test the machine itself."""
