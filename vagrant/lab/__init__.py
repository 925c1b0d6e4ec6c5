"""
Builds the integration machine's image and boots it; see vagrant/README.md.

The modules in the order in which a run goes through them: `cache` (where things lie), `recipe`
(what the image is made of), `image`, `build` and `initrd` (making it), `tree` (packing the
source), `qemu` and `console` (booting), `guest` (commands inside), `run` (the whole of it). `box`
and `libvirt` are the Vagrant door. `shell` and `progress` serve all of them.
"""
