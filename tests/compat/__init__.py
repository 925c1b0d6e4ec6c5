"""
Engines on top of the runtime, in the integration machine: `make compat`.

Each case runs with runc, too, as the control: a case that fails with both is wrong itself. The
commands are those of docs/engines.md.
"""
