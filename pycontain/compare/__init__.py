"""One program behind every wall: natively, in a container, in a virtual machine, emulated."""
