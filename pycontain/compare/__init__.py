"""One program compared: run natively, in a container, in a virtual machine, and emulated."""
