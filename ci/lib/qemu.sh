# SPDX-License-Identifier: GPL-2.0-only
# Which QEMU to run and how to accelerate it.
# shellcheck shell=bash disable=SC2034,SC2054

# QEMU 7.2's multi-threaded TCG breaks the guest kernel's text patching
# (measured: the guest died in 5 of 5 boots that attached in a loop); 10.0 is
# fine. An older one than this is replaced by the archive's, in a private
# directory with its own libraries.
QEMU_MAJOR_MIN=10

qemu_major() { "$@" --version 2>/dev/null | sed -nE '1s/.*version ([0-9]+)\..*/\1/p'; }

fetch_qemu() {
	local dir=$TARGET/qemu loader lock
	# Two VMs that start at once: one of them downloads.
	exec {lock}>"$TARGET/qemu.lock"
	flock "$lock"
	if [ ! -x "$dir/run" ]; then
		prepare_private_apt
		say "downloading a newer QEMU (the machine's own breaks guests under emulation)"
		private_apt apt-get -qq install -y --download-only --no-install-recommends qemu-system-x86 >/dev/null ||
			return 1
		rm -rf "$dir"
		mkdir -p "$dir/root"
		for deb in "$APT_DIR"/cache/archives/*.deb; do dpkg -x "$deb" "$dir/root"; done
		rm -f "$APT_DIR"/cache/archives/*.deb
		loader=$(find "$dir/root" -name 'ld-linux-x86-64.so.2' | head -n 1)
		local libraries=$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu
		cat >"$dir/run.new" <<-RUN
			#!/bin/sh
			export QEMU_MODULE_DIR="$dir/root/usr/lib/x86_64-linux-gnu/qemu"
			exec "$loader" --library-path "$libraries" "$dir/root/usr/bin/qemu-system-x86_64" \\
				-L "$dir/root/usr/share/qemu" -L "$dir/root/usr/share/seabios" "\$@"
		RUN
		chmod +x "$dir/run.new"
		mv "$dir/run.new" "$dir/run"
	fi
	exec {lock}>&-
	[ -n "$(qemu_major "$dir/run")" ]
}

# Sets QEMU (array) and TCG (its acceleration argument).
choose_qemu() {
	QEMU=(qemu-system-x86_64)
	TCG=tcg,thread=multi
	local major
	major=$(qemu_major "${QEMU[@]}" || true)
	if [ "${major:-0}" -lt "$QEMU_MAJOR_MIN" ]; then
		if command -v apt-get >/dev/null && fetch_qemu; then
			QEMU=("$TARGET/qemu/run")
		elif [ -n "$major" ]; then
			say "QEMU $major is old and no newer one can be had: one thread, slower"
			TCG=tcg,thread=single
		else
			die "no qemu-system-x86_64: run ci/setup"
		fi
	fi
}

# Sets ACCEL. /dev/kvm may open and still not run a kernel, so one boot with a
# short limit decides, and the answer is remembered. FLEXNET_ACCEL=kvm|tcg|count
# decides instead; count: emulated by one thread, and the guest's clock counts its
# instructions, one a nanosecond, whatever the host is busy with.
choose_accel() {
	local memo=$TARGET/vm/accel answer=${FLEXNET_ACCEL:-}
	if [ -z "$answer" ] && [ -e "$memo" ]; then answer=$(cat "$memo"); fi
	if [ -z "$answer" ]; then
		answer=tcg
		if [ -w /dev/kvm ]; then
			say "trying KVM (once, 20 s at most)"
			if kvm_boots "$1"; then answer=kvm; fi
		fi
		mkdir -p "$TARGET/vm"
		echo "$answer" >"$memo"
	fi
	case $answer in
	kvm) ACCEL=(-accel kvm -cpu host) ;;
	tcg) ACCEL=(-accel "$TCG" -cpu max) ;;
	count) ACCEL=(-accel tcg,thread=single -icount "shift=0,sleep=off" -cpu max) ;;
	*) die "FLEXNET_ACCEL is '$answer': kvm, tcg or count" ;;
	esac
}

# Does a kernel panic for want of a root file system within 20 s under KVM?
kvm_boots() {
	local log=$TARGET/vm/kvm.log
	mkdir -p "$TARGET/vm"
	timeout -k 2 20 "${QEMU[@]}" -accel kvm -cpu host -m 512M -display none -nodefaults -no-reboot \
		-serial "file:$log" -kernel "$1" -append "console=ttyS0 panic=-1" </dev/null >/dev/null 2>&1 || true
	grep -q 'Unable to mount root' "$log" 2>/dev/null
}

# The plugin of virtual time needs the plugin interface of this series.
VIRTUAL_TIME_QEMU=10.0

qemu_series() { "$@" --version 2>/dev/null | sed -nE '1s/.*version ([0-9]+\.[0-9]+)\..*/\1/p'; }

# Sets QEMU for virtual time: the machine's own where it is of that series, else the archive's.
choose_virtual_time_qemu() {
	local found
	QEMU=(qemu-system-x86_64)
	found=$(qemu_series "${QEMU[@]}" || true)
	[ "$found" != "$VIRTUAL_TIME_QEMU" ] || return 0
	# In a process of its own: a failure of the archive ends that one only.
	(fetch_qemu) ||
		die "--virtual-time needs QEMU $VIRTUAL_TIME_QEMU: this machine has ${found:-none}, and no other one can be downloaded"
	QEMU=("$TARGET/qemu/run")
	found=$(qemu_series "${QEMU[@]}" || true)
	[ "$found" = "$VIRTUAL_TIME_QEMU" ] ||
		die "--virtual-time needs QEMU $VIRTUAL_TIME_QEMU: the archive has ${found:-none}"
}

# Sets ACCEL, VIRTUAL_TIME (for the kernel's command line) and LOCKSTEP (the guest's command), for
# a guest whose clock counts instructions: virtual_time FOLDER CPUS SEED [MIPS].
#
# All CPUs together run 1000 million instructions a guest second, or that halved some times: an
# instruction is a power of two of nanoseconds. The most halvings that leave MIPS are taken.
virtual_time() {
	local folder=$1 cpus=$2 seed=$3 mips=${4:-125} shift=0 each
	[ "$cpus" -le 16 ] || die "--virtual-time: 16 CPUs at most, not $cpus"
	# More than eight CPUs cannot have the default.
	[ -n "${4:-}" ] || [ "$cpus" -le 8 ] || mips=$((1000 / cpus))
	[ $((mips * cpus)) -le 1000 ] ||
		die "--mips: each of $cpus CPUs has $((1000 / cpus)) million instructions a second at most, not $mips"
	while [ $((mips * cpus << (shift + 1))) -le 1000 ]; do shift=$((shift + 1)); done
	each=$((1000 / cpus >> shift))
	say "virtual time: seed $seed, $each million instructions a second on each of $cpus CPUs"
	"${CC:-cc}" -nostdlib -static -o "$folder/lockstep" "$ROOT/ci/virtual-time/lockstep.S"
	"${CC:-cc}" -shared -fPIC -O2 -o "$folder/lockstep.so" "$ROOT/ci/virtual-time/lockstep.c"
	LOCKSTEP=$folder/lockstep
	# All CPUs have had their turn every 10 µs.
	ACCEL=(-accel tcg,thread=single -icount "shift=$shift,sleep=off" -cpu max
		-seed "$seed" -rtc base=2026-01-01T00:00:00,clock=vm
		-plugin "$folder/lockstep.so,quantum=$((each * 10)),seed=$seed")
	# One CPU boots, and guest-run starts the others. The kernel's tests of its own cryptography
	# would take seconds.
	VIRTUAL_TIME="tsc=reliable tsc_early_khz=1000000 no_timer_check nokaslr maxcpus=1 cryptomgr.notests"
}

# Has the run counted: virtual_time_profile FOLDER, after virtual_time. FOLDER/profile is the result.
virtual_time_profile() {
	"${CC:-cc}" -shared -fPIC -O2 -o "$1/profile.so" "$ROOT/ci/virtual-time/profile.c"
	ACCEL+=(-plugin "$1/profile.so,output=$1/profile")
}
