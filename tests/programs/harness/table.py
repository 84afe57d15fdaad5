# SPDX-License-Identifier: GPL-2.0-only
"""The table of what was run, in the preload library's documentation."""
import re
import subprocess

# What each case is run in, beside plain.
MODES = ["always", "adaptive", "adaptive-queued", "strict"]

HEAD = """# Programs that are tried with the preload library

`ci/steps/unmodified-programs --write-table` makes this page from what it has run. The step fails
where programs, modes or checks are others here. Versions are those of the last writing. Each case
reports the same in all of its modes as without the library, and leaves nothing behind;
[tests/programs](../../tests/programs/README.md) has the rules.

| case | program | modes | what is driven, beside stalled readers and resets |
|---|---|---|---|
"""


def version(command):
    """The program with its first number of a version."""
    said = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, errors="replace", check=False).stdout
    number = re.search(r"\d+(\.\d+)+", said)
    return f"{command[0]} {number.group(0) if number else '?'}"


def page(cases):
    """`cases`: modules by name, all of which have run."""
    rows = (f"| {name} | {version(case.VERSION)} | {', '.join(MODES)} | {case.CHECKED} |\n"
            for name, case in sorted(cases.items()))
    return HEAD + "".join(rows)


def without_versions(text):
    return re.sub(r"^(\| \w+ \| [\w-]+) [\d.?]+ \|", r"\1 |", text, flags=re.M)


def check(path, cases, write):
    """What is wrong with the page at that path, in words; nothing where it was written."""
    made = page(cases)
    if write:
        path.write_text(made)
    elif without_versions(path.read_text()) != without_versions(made):
        return f"{path.name} is not what was run: ci/steps/unmodified-programs --write-table"
    return ""
