#!/bin/sh
# deploy/deps.sh - install what building sluice needs, on Debian 12 or 13.  Root or sudo.
# usage: deploy/deps.sh [--test]     --test: also what the test suites need
set -eu

SUDO=
[ "$(id -u)" -eq 0 ] || SUDO=sudo
. /etc/os-release

packages="gcc libc6-dev meson ninja-build pkg-config libuv1-dev libjansson-dev libpcre2-dev libutf8proc-dev libinih-dev ca-certificates curl python3 python3-pip"
if [ "${1:-}" = --test ]; then
    packages="$packages libcmocka-dev clang libclang-rt-14-dev python3-venv git"
    [ "${VERSION_CODENAME:-}" = bookworm ] ||
        packages=$(printf '%s' "$packages" | sed 's/libclang-rt-14-dev/libclang-rt-dev/')
fi

missing() {
    for p in "$@"; do
        dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || printf '%s ' "$p"
    done
}

apt_install() {
    $SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# llhttp is in Debian 13 but not in 12: there, take that one package from 13's suite, pinned.
llhttp_from_trixie() {
    uri=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    [ -n "$uri" ] || uri=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm main.*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1)
    [ -n "$uri" ] || { echo "deps.sh: no Debian source found in /etc/apt" >&2; exit 1; }
    printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$uri" |
        $SUDO tee /etc/apt/sources.list.d/sluice-llhttp.sources >/dev/null
    printf 'Package: *\nPin: release n=trixie\nPin-Priority: 1\n\nPackage: libllhttp*\nPin: release n=trixie\nPin-Priority: 500\n' |
        $SUDO tee /etc/apt/preferences.d/sluice-llhttp >/dev/null
}

want=$(missing $packages)
llhttp=$(missing libllhttp-dev)
if [ -n "$want$llhttp" ]; then
    if [ -n "$llhttp" ] && [ "${VERSION_CODENAME:-}" = bookworm ]; then
        llhttp_from_trixie
    fi
    $SUDO apt-get update -q
    # shellcheck disable=SC2086
    apt_install $want $llhttp
fi
