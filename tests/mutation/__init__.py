"""Mutation tests: each step, turned into a no-op, must fail a test (`make mutate`)."""
