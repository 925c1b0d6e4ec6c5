"""
Builds the integration machine's image and boots it; see vagrant/README.md.

The modules in the order in which a run uses them: `cache` (where files are kept), `recipe`
(what the image consists of), `image`, `build` and `initrd` (building it), `tree` (packing the
source), `qemu` and `console` (booting), `guest` (commands inside), `run` (a complete run). `box`
is for Vagrant. `shell` and `progress` are used by all of them.
"""
