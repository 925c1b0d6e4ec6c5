#!/bin/sh
# Runs in the machine after the source tree has been copied in: installs this tree's `pycontain`
# program and loads the KVM module for the processor.
#
# If the tree was installed on the host, it already contains the compiled module; otherwise it is
# built here.
set -eu

cd "$(dirname "$(readlink -f "$0")")/.."
python=/opt/pycontain/venv/bin/python
made=pycontain/kernel/_vfork.abi3.so
if [ ! "$made" -nt pycontain/kernel/_vfork.c ]; then
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    cc -shared -fPIC -O2 -I "$headers" -o "$made" pycontain/kernel/_vfork.c
fi
"$python" -m pycontain.cli.launcher /usr/local/bin/pycontain
modprobe -q kvm-amd || modprobe -q kvm-intel || echo "tree: no KVM in this machine"
