"""The annotations of crun that Podman's users reach features by. crun(1), Annotations."""

from __future__ import annotations

KEEP_GROUPS = "run.oci.keep_original_groups"  # present: the caller's supplementary groups stay
HANDLER = "run.oci.handler"  # another way to run the program, such as WebAssembly
