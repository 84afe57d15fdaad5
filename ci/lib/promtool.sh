# SPDX-License-Identifier: GPL-2.0-only
# Prometheus's promtool: the machine's own, or the archive's in a private directory.
# shellcheck shell=bash

# Sets PROMTOOL.
choose_promtool() {
	PROMTOOL=promtool
	! command -v promtool >/dev/null || return 0
	local dir=$TARGET/promtool
	PROMTOOL=$dir/usr/bin/promtool
	[ ! -x "$PROMTOOL" ] || return 0
	prepare_private_apt
	say "downloading promtool"
	rm -rf "$dir.new" "$dir"
	mkdir -p "$dir.new"
	unpack_packages "$dir.new" promtool
	mv "$dir.new" "$dir"
}
