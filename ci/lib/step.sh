# SPDX-License-Identifier: GPL-2.0-only
# Sourced by every step of ci/test: the project's root as working directory, the compilers'
# environment, and an emptied folder OUT for what the step writes. An output of an earlier run
# can therefore never pass for one of this run.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
. "$ROOT/ci/env"
cd "$ROOT"

OUT=$TARGET/test/$(basename "$0")${1:+-$1}${2:+-$2}
rm -rf "$OUT"
mkdir -p "$OUT"

# A program of the machine, wherever its administrator's programs are.
tool() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" || die "there is no $1 here: run ci/setup"; }

# Fails where a command succeeds: must_fail COMMAND...
must_fail() {
	if "$@"; then die "succeeded, and must not: $*"; fi
}
