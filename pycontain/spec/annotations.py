"""Annotations that have an effect, such as crun's, with which Podman's users select features."""

from __future__ import annotations

KEEP_GROUPS = "run.oci.keep_original_groups"  # present: the caller's supplementary groups stay
HANDLER = "run.oci.handler"  # another way to run the program, such as WebAssembly
ISOLATION = "run.pycontain.isolation"  # what the program runs in: namespaces, kvm or emulate

# The prefixes of all annotations that affect this runtime; `features` lists them, for callers who
# run bundles of others.
OBEYED = ("org.systemd.property.", "run.oci.", "run.pycontain.")
