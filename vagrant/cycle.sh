#!/bin/sh
# The whole lifecycle of a Vagrant machine: add the box, up, the machine's own tests, halt, destroy.
#
# usage: cycle.sh BOX [PYTEST OPTION...]    with VAGRANT_HOME and VAGRANT_DOTFILE_PATH set
set -eu

cd "$(dirname "$(readlink -f "$0")")"
box=$1
shift

say() { echo "vagrant: $* ($(($(date +%s) - began)) s since the start)"; }
began=$(date +%s)

say "adding the box"
vagrant box add --force --name pycontain/debian "$box"
trap 'vagrant destroy --force > /dev/null 2>&1 || true' EXIT
say "vagrant up"
vagrant up --provider libvirt
say "tests"
vagrant ssh -c "cd /src/pycontain && sudo env PATH=/opt/pycontain/venv/bin:\$PATH \
    python -m pytest -p no:cacheprovider $*" < /dev/null
say "vagrant halt"
vagrant halt
say "vagrant destroy"
vagrant destroy --force
say "done"
