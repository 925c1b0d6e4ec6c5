#!/bin/sh
# In the machine, once the source tree has been copied in: makes the `pycontain` program of this
# tree, and loads the KVM that the processor has.
set -eu

cd "$(dirname "$(readlink -f "$0")")/.."
/opt/pycontain/venv/bin/python -m pycontain.cli.launcher /usr/local/bin/pycontain
modprobe -q kvm-amd || modprobe -q kvm-intel || echo "tree: no KVM in this machine"
