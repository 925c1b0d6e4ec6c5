"""Annotations that have an effect: crun's, that Podman's users reach features by, and others."""

from __future__ import annotations

KEEP_GROUPS = "run.oci.keep_original_groups"  # present: the caller's supplementary groups stay
HANDLER = "run.oci.handler"  # another way to run the program, such as WebAssembly
ISOLATION = "run.pycontain.isolation"  # what the program runs in: namespaces, kvm or emulate

# Prefixes of all that changes what this runtime does: who takes bundles from others asks for them.
OBEYED = ("org.systemd.property.", "run.oci.", "run.pycontain.")
