#!/bin/sh
# In the machine, once the source tree has been copied in: makes the `pycontain` program of this
# tree, and loads the KVM that the processor has.
#
# The compiled part comes with a tree that was installed where it came from; otherwise it is made.
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
