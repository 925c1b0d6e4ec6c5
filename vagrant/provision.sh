#!/bin/sh
# Turns a Debian system into pycontain's integration machine. Used twice: on the bare tree while
# the image is built (offline afterwards), and by `vagrant up` on any box.
# Running it again changes nothing.
#
# usage: provision.sh [WHEELS]     WHEELS: a folder of Python packages, used instead of an index
set -eu

here=$(dirname "$(readlink -f "$0")")
wheels=${1:-}
venv=/opt/pycontain/venv
source=/src/pycontain

say() { echo "provision: $*"; }

packages() {
    missing=
    while read -r name; do
        case $name in "" | "#"*) continue ;; esac
        dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed ||
            missing="$missing $name"
    done < "$here/packages.txt"
    [ -n "$missing" ] || return 0
    say "installing$missing"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing
}

requirements() {
    if [ -e "$here/python.txt" ]; then
        cat "$here/python.txt"
    else
        cd "$here/.."
        python3 -c 'from vagrant.lab import recipe; print(*recipe.requirements(), sep="\n")'
    fi
}

python() {
    list=$(mktemp)
    requirements > "$list"
    stamp=$(sha256sum < "$list")
    if [ "$(cat "$venv/stamp" 2>/dev/null)" = "$stamp" ]; then
        rm "$list"
        return 0
    fi
    say "Python environment in $venv"
    python3 -m venv "$venv"
    # setuptools and wheel build the packages that are only available as source
    set -- setuptools wheel
    from=
    if [ -n "$wheels" ]; then from="--no-index --find-links=$wheels"; fi
    # shellcheck disable=SC2086  # options
    "$venv/bin/pip" install -q $from "$@"
    # shellcheck disable=SC2086
    "$venv/bin/pip" install -q $from --no-build-isolation -r "$list"
    "$venv/bin/python" -m compileall -q "$venv/lib"
    echo "$stamp" > "$venv/stamp"
    rm "$list"
}

configuration() {
    # the tree under test is importable from any directory; tree.sh installs its program
    mkdir -p "$source" /etc/containers
    for site in "$venv"/lib/python3*/site-packages; do echo "$source" > "$site/pycontain-source.pth"; done
    cat > /etc/containers/containers.conf <<-END
	[engine]
	runtime_supports_json = ["crun", "runc", "pycontain"]
	[engine.runtimes]
	pycontain = ["/usr/local/bin/pycontain"]
	END
    echo "PATH=$venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" > /etc/environment
    # marks this system as the machine
    echo debian > /etc/pycontain-lab
}

user() {
    id vagrant >/dev/null 2>&1 || useradd --create-home --shell /bin/bash vagrant
    # "*" matches no password but, unlike "!", does not lock the account for ssh
    usermod --password '*' vagrant
    echo 'vagrant ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/vagrant
    chmod 440 /etc/sudoers.d/vagrant
}

packages
python
configuration
user
say "done"
