# SPDX-License-Identifier: GPL-2.0-only
"""Is every message of the programs and the library in docs/troubleshooting.md?

Looks at literals of bail!, context, with_context and log::warn! up to the first
placeholder; what is only of use to developers is named below.
"""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parents[2]
FOR_DEVELOPERS = {
    "the object has no", "cannot duplicate the ring", "no probe is called", "no counters", "cannot duplicate the page table", "no CPU", "no pipe",
    "cannot start a thread", "cannot handle signals", "cannot write", "comes out otherwise in BPF",
}
folders = ["src", "crates/flexnet/src/client", "crates/flexnet/src/executor", "crates/flexnet-cli/src/top", "crates/flexnet-cli/src/trace", "crates/flexnet-cli/src/design", "crates/flexnet-preload/src"]
files = [path for folder in folders for path in (root / folder).rglob("*.rs")]
files += [root / "crates/flexnet-cli/src" / name for name in ("run.rs", "status.rs", "why.rs")]
page = (root / "docs/troubleshooting.md").read_text()
call = re.compile(r'(?:bail!|log::warn!|context|format!)\(\s*(?:\|\|\s*)?\{?\s*(?:format!\(\s*)?"((?:[^"\\]|\\.)*)"')
missing = []
for path in files:
    source = path.read_text().split("#[cfg(test)]")[0]
    for match in call.finditer(source):
        if "format!" in match.group(0) and "context" not in match.group(0):
            continue
        parts = [part.strip(" :,;") for part in re.split(r"\{[^}]*\}|\\", match.group(1))]
        text = max(parts, key=len)
        if len(text) < 8 or any(text.startswith(known) for known in FOR_DEVELOPERS):
            continue
        if text not in page:
            missing.append(f"{path.relative_to(root)}: {text!r}")
print("\n".join(missing) or "every message is in docs/troubleshooting.md")
sys.exit(bool(missing))
