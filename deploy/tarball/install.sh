#!/bin/sh
# Installs what lies beside it, where there is no Debian package to be had: the binary into
# /usr/local/sbin, a unit for systemd, groups, manual pages, completions, and examples of both
# configuration files where there are none. It starts nothing. Run it again to upgrade.
#
#   ./install.sh                 install or upgrade
#   ./install.sh --uninstall     take it away again; asks `kordon detach` to end enforcement,
#                                and leaves /etc/kordon and /var/lib/kordon as they are
#
# DESTDIR=/somewhere installs below that folder, for images.
set -eu
cd "$(dirname "$0")"

sbin=${DESTDIR:-}/usr/local/sbin
lib=${DESTDIR:-}/usr/local/lib/kordon
units=${DESTDIR:-}/etc/systemd/system
man=${DESTDIR:-}/usr/local/share/man/man8
bash=${DESTDIR:-}/usr/local/share/bash-completion/completions/kordon
etc=${DESTDIR:-}/etc/kordon

reload() {
    if [ -z "${DESTDIR:-}" ] && [ -d /run/systemd/system ]; then
        systemctl daemon-reload
    fi
}

if [ "${1:-}" = --uninstall ]; then
    if [ -z "${DESTDIR:-}" ] && [ -d /run/systemd/system ]; then
        systemctl disable --now kordon || true
    fi
    if [ -z "${DESTDIR:-}" ]; then
        "$sbin/kordon" release-guard || true
    fi
    if [ -z "${DESTDIR:-}" ] && [ -d /sys/fs/bpf/kordon ]; then
        "$sbin/kordon" detach
        # A mount of its own: sys-fs-bpf-kordon.mount.
        ! mountpoint -q /sys/fs/bpf/kordon || umount /sys/fs/bpf/kordon
        rmdir /sys/fs/bpf/kordon || true
    fi
    for unit in units/*; do
        rm -f "$units/${unit##*/}"
    done
    rm -f "$sbin/kordon" "$lib/boot-guard-holds" "$man"/kordon.8 "$man"/kordon-*.8 "$bash"
    rmdir "$lib" || true
    reload
    exit 0
fi
if [ $# -gt 0 ]; then
    echo "usage: $0 [--uninstall]" >&2
    exit 2
fi

# Beside the old one, then in its place: what runs goes on.
install -D -m 755 kordon "$sbin/kordon.new"
mv "$sbin/kordon.new" "$sbin/kordon"
install -d -m 750 "${DESTDIR:-}/var/lib/kordon"
install -d "$units" "$man" "$(dirname "$bash")" "$etc"
for unit in units/*; do
    to=$units/${unit##*/}
    sed 's,/usr/sbin/kordon ,/usr/local/sbin/kordon ,; s,/usr/lib/kordon/,/usr/local/lib/kordon/,' "$unit" >"$to"
    chmod 644 "$to"
done
install -D -m 755 boot-guard-holds "$lib/boot-guard-holds"
install -m 644 man/*.8 "$man"
install -m 644 completions/kordon.bash "$bash"
for file in kordon.toml policy.toml; do
    if [ ! -e "$etc/$file" ]; then
        install -m 644 "etc/$file" "$etc/$file"
    fi
done
if [ -z "${DESTDIR:-}" ]; then
    for group in kordon kordon-read; do
        getent group "$group" >/dev/null || groupadd --system "$group"
    done
fi
reload
if [ -z "${DESTDIR:-}" ] && [ -d /run/systemd/system ] && systemctl --quiet is-enabled kordon; then
    # An older version had no boot guard to enable.
    systemctl reenable kordon
fi
echo "installed. After an upgrade: systemctl restart kordon (what is enforced stays enforced)."
echo "The first time: write $etc/policy.toml and $etc/kordon.toml, then kordon asndb update,"
echo "kordon check, systemctl enable --now kordon."
