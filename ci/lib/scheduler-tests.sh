# SPDX-License-Identifier: GPL-2.0-only
# Sourced after step.sh or common.sh: builds what the scheduler's tests need, and runs them in a VM.
# shellcheck shell=bash

# The path of a program of cargo's tests. It is built; the compiler's messages go to stderr.
test_program() {
	local messages program
	messages=$(cargo test --release --no-run --test "$1" --message-format json-render-diagnostics) ||
		die "the test program $1 does not build"
	program=$(grep -oE "\"executable\":\"[^\"]*/deps/$1-[^\"]+\"" <<<"$messages" | cut -d'"' -f4 | tail -n 1)
	[ -x "$program" ] || die "cargo names no test program $1"
	echo "$program"
}

# design_folders TO: designs in folders, each with its object for the kernel.
design_folders() {
	local to=$1 folder
	rm -rf "$to"
	mkdir -p "$to"
	for folder in examples/designs/* tests/scheduler/folders/*; do
		cp -r "$folder" "$to"
		"$BPF_CLANG" -g -O2 -target bpf -mcpu=v3 -Wall -Wextra -Werror -I include \
			-c "$folder/core_rule.c" -o "$to/$(basename "$folder")/core_rule.o"
	done
}

# scheduler_tests OUT KERNEL CPUS [NAME]...: all of that number of CPUs, or those named.
scheduler_tests() {
	local out=$1 kernel=$2 cpus=$3 stress=${FLEXNET_STRESS_SECONDS:-60} program
	shift 3
	cargo build --release
	cargo build --release -p flexnet-preload
	ci/c-interface attached
	program=$(test_program scheduler)
	design_folders "$TARGET/test/designs"
	# The stress test prints nothing before its end.
	ci/vm --kernel "$kernel" --cpus "$cpus" --silence $((300 + stress)) --out "$out" \
		--env "FLEXNET_STRESS_SECONDS=$stress" \
		--add "$program:/flexnet/bin/scheduler-tests" \
		--add "$TARGET/test/attached/attached:/flexnet/bin/c-attached" \
		--add "$TARGET/test/designs:/flexnet/designs" \
		--add "$TARGET/release/libflexnet_preload.so" --add "$(tool stress-ng)" \
		--add "$(tool ip)" --add "$(tool ethtool)" -- \
		scheduler-tests --in-vm "$@"
}

# network_threads OUT KERNEL [NAME]...: those of a real driver, and of the backlog.
network_threads() {
	local out=$1 kernel=$2 program
	cargo build --release
	program=$(test_program scheduler)
	ci/vm --kernel "$kernel" --net --append thread_backlog_napi --out "$out" \
		--add "$program:/flexnet/bin/scheduler-tests" --add "$(tool ip)" --add "$(tool ethtool)" -- \
		scheduler-tests --in-vm virtio_net_threads_get_cores_by_load backlog_threads_stay_where_they_are
}
