# SPDX-License-Identifier: GPL-2.0-only
# Sourced by the scripts of ci/: where things are, how progress and errors read.
# shellcheck shell=bash

set -euo pipefail

# The project's root; the scripts work from any directory.
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

say() { printf 'ci: %s\n' "$*" >&2; }
die() { printf 'ci: error: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: itself, or by sudo where that asks no password.
as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# A private view of the Debian archive's trixie suites, so that the machine's
# own apt configuration stays as it is. The archive's address is taken from
# that configuration: a user's mirror is respected, and none stands here.
APT_DIR=$TARGET/apt
private_apt() {
	local tool=$1
	shift
	"$tool" -o Dir::Etc::sourcelist="$APT_DIR/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State="$APT_DIR" -o Dir::State::Lists="$APT_DIR/lists" \
		-o Dir::State::status="$APT_DIR/status" -o Dir::Cache="$APT_DIR/cache" \
		-o APT::Sandbox::User="$(id -un)" -o APT::Architecture=amd64 \
		-o Debug::NoLocking=1 "$@"
}

prepare_private_apt() {
	[ -e "$APT_DIR/ready" ] && return
	command -v apt-get >/dev/null || die "no apt-get here: name a sched_ext kernel image in FLEXNET_KERNEL"
	mkdir -p "$APT_DIR"/{lists/partial,cache/archives/partial}
	: >"$APT_DIR/status"
	local archive
	# The variables are apt's own.
	# shellcheck disable=SC2016
	archive=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN)' 'Created-By: Packages' |
		awk '$2 == "Debian" && $1 !~ /security/ { print $1; exit }')
	[ -n "$archive" ] || die "this machine's apt knows no Debian archive: name a sched_ext kernel image in FLEXNET_KERNEL"
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	{
		echo "deb [signed-by=$keyring] $archive trixie main"
		echo "deb [signed-by=$keyring] $archive trixie-backports main"
	} >"$APT_DIR/sources.list"
	say "reading the archive's list of packages"
	private_apt apt-get -qq update || die "the Debian archive's lists cannot be read"
	touch "$APT_DIR/ready"
}

# Unpacks the named packages into a directory: unpack_packages DIR PACKAGE...
unpack_packages() {
	local dir=$1 debs
	shift
	debs=$(mktemp -d "$TARGET/debs.XXXXXX")
	(cd "$debs" && private_apt apt-get -qq download "$@" >/dev/null) ||
		die "cannot download $*"
	for deb in "$debs"/*.deb; do dpkg -x "$deb" "$dir"; done
	rm -rf "$debs"
}
