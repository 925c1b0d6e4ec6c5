#!/bin/sh
# Runs in the machine after the source tree has been copied in: installs this tree's `pycontain`
# program and loads the KVM module for the processor.
#
# If the tree was installed on the host, it already contains the compiled modules; otherwise they are
# built here.
set -eu

cd "$(dirname "$(readlink -f "$0")")/.."
python=/opt/pycontain/venv/bin/python
headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
for name in _vfork _bare; do
    made=pycontain/kernel/$name.abi3.so
    if [ ! "$made" -nt pycontain/kernel/$name.c ]; then
        # the flags are those that pyproject.toml gives _bare: its code is copied elsewhere
        cc -shared -fPIC -O2 -fno-stack-protector -fno-tree-vectorize \
            -fno-tree-loop-distribute-patterns -I "$headers" -o "$made" pycontain/kernel/$name.c
    fi
done
"$python" -m pycontain.cli.launcher /usr/local/bin/pycontain
modprobe -q kvm-amd || modprobe -q kvm-intel || echo "tree: no KVM in this machine"
