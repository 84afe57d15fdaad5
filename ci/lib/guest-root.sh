# SPDX-License-Identifier: GPL-2.0-only
# A guest's root file system with systemd and dpkg: a minimal Debian, made once
# by mmdebstrap from the archive this machine uses.
# The single-quoted commands are mmdebstrap's.
# shellcheck shell=bash disable=SC2016

# What is in it beyond the essential packages. Not udev and not dbus: nothing
# here waits for devices or talks to others.
GUEST_PACKAGES=systemd-sysv,kmod,libelf1t64,zlib1g,libseccomp2,procps,iproute2
# Changed when what is below is: an older image is then made anew.
GUEST_ROOT_VERSION=1

# Sets GUEST_ROOT to the image (ext4, sparse), which FLEXNET_GUEST_ROOT may name.
guest_root() {
	GUEST_ROOT=${FLEXNET_GUEST_ROOT:-$TARGET/guest/root-$GUEST_ROOT_VERSION.ext4}
	[ ! -s "$GUEST_ROOT" ] || return 0
	[ -z "${FLEXNET_GUEST_ROOT:-}" ] || die "FLEXNET_GUEST_ROOT: no such file as $GUEST_ROOT"
	command -v mmdebstrap >/dev/null || die "no mmdebstrap: run ci/setup"
	prepare_private_apt
	mkdir -p "$TARGET/guest"
	local tree log=$TARGET/guest/mmdebstrap.log
	# /dev and owners need root, and a place that is not mounted nodev.
	tree=$(mktemp -d "$TARGET/guest/tree.XXXXXX")
	say "making a Debian root file system for the VM (once, some minutes)"
	# systemd's own start is all that is wanted; manual pages and documentation
	# stay out of it, but not out of what is installed there later.
	as_root mmdebstrap --mode=root --variant=minbase --include="$GUEST_PACKAGES" \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='APT::Sandbox::User "root"' \
		--customize-hook='rm -f "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/apt/apt.conf.d/99mmdebstrap' \
		--customize-hook='systemctl --root="$1" mask getty.target e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer systemd-pcrlock-make-policy.service' \
		--customize-hook='systemd-machine-id-setup --root="$1"' \
		trixie "$tree" "$APT_DIR/sources.list" >"$log" 2>&1 || {
		tail -n 30 "$log" >&2
		as_root rm -rf "$tree"
		die "mmdebstrap failed; the whole log is $log"
	}
	# Room for what a test writes; the file itself is sparse.
	as_root /sbin/mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$tree" "$GUEST_ROOT.new" 1G ||
		die "mke2fs failed"
	as_root rm -rf "$tree"
	as_root chown "$(id -u):$(id -g)" "$GUEST_ROOT.new"
	mv "$GUEST_ROOT.new" "$GUEST_ROOT"
}
