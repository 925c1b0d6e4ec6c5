#!/bin/sh
# Create a root file system or a bundle, cached outside of git:
#
#   rootfs/make.sh busybox   a root file system of busybox alone, from the package busybox-static
#   rootfs/make.sh debian    a minimal Debian, by debootstrap
#   rootfs/make.sh python SUITE
#                            a Debian that has its Python alone, by mmdebstrap
#   rootfs/make.sh demo      a bundle on the busybox root that shows what a container sees
#
# Prints the folder's path. An existing root file system is reused.
set -eu

cache=${PYCONTAIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/pycontain}
here=$(dirname "$(readlink -f "$0")")

make_busybox() {
    root=$cache/rootfs/busybox
    if [ ! -e "$root/bin/sh" ]; then
        program=$(command -v busybox) || { echo "rootfs: busybox is missing: make packages" >&2; exit 1; }
        fresh=$(mktemp -d "$cache/rootfs/busybox.XXXXXX")
        for folder in bin dev etc proc root run sys tmp usr/bin var; do mkdir -p "$fresh/$folder"; done
        cp "$program" "$fresh/bin/busybox"
        for applet in $("$program" --list); do
            [ "$applet" = busybox ] || ln -s busybox "$fresh/bin/$applet"
        done
        echo 'root:x:0:0:root:/root:/bin/sh' >"$fresh/etc/passwd"
        echo 'root:x:0:' >"$fresh/etc/group"
        chmod 755 "$fresh"
        chmod 1777 "$fresh/tmp"
        mv -T "$fresh" "$root" 2>/dev/null || rm -rf "$fresh" # another run was faster
    fi
    echo "$root"
}

make_debian() {
    root=$cache/rootfs/debian
    if [ ! -e "$root/bin/sh" ]; then
        command -v debootstrap >/dev/null || { echo "rootfs: debootstrap is missing: apt-get install debootstrap" >&2; exit 1; }
        fresh=$(mktemp -d "$cache/rootfs/debian.XXXXXX")
        trap 'rm -rf "$fresh"' EXIT
        debootstrap --variant=minbase "${SUITE:-stable}" "$fresh" >&2
        chmod 755 "$fresh"
        mv -T "$fresh" "$root"
        trap - EXIT
    fi
    echo "$root"
}

# Unpacked without running anything of it, so an unstable suite that does not install serves, too.
make_python() {
    root=$cache/rootfs/python-$1
    if [ ! -e "$root/usr/bin/python3" ]; then
        command -v mmdebstrap >/dev/null || { echo "rootfs: mmdebstrap is missing: apt-get install mmdebstrap" >&2; exit 1; }
        fresh=$(mktemp -d "$cache/rootfs/python-$1.XXXXXX")
        trap 'rm -rf "$fresh"' EXIT
        mmdebstrap --quiet --variant=extract --include=python3 \
            --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --aptopt='Acquire::Check-Valid-Until "false"' "$1" "$fresh" >&2
        chroot "$fresh" /usr/bin/python3 -m compileall -q -j 2 /usr/lib >/dev/null || true
        chmod 755 "$fresh"
        mv -T "$fresh" "$root"
        trap - EXIT
    fi
    echo "$root"
}

# The bundle's root is the shared busybox one, mounted read-only so that the demo can't change it.
make_demo() {
    bundle=$cache/bundles/demo
    root=$(make_busybox)
    mkdir -p "$bundle"
    sed "s|@ROOTFS@|$root|; s|@DEMO@|$here/demo|" "$here/demo/config.json.in" >"$bundle/config.json"
    echo "$bundle"
}

mkdir -p "$cache/rootfs"
case ${1:-} in
busybox | debian | demo) "make_$1" ;;
python) make_python "${2:?which Debian}" ;;
*)
    echo "usage: $0 busybox | debian | python SUITE | demo" >&2
    exit 2
    ;;
esac
