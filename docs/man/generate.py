# SPDX-License-Identifier: GPL-2.0-only
"""Makes the manual pages of the C interface out of the comments in flexnet.h and its parts.

usage: generate.py DIRECTORY    writes DIRECTORY/man3/*.3 and man7/flexnet.7

One source for both: a comment in kernel-doc form (name() - what, @parameters,
text, Return:, Errors:, Context:) before each declaration. A structure's page is
that of the first function which takes it. flexnet.7 is written by hand; what it
must list is checked here.
"""
import datetime
import os
import pathlib
import re
import sys
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
HEADERS = [HERE.parents[1] / f"include/flexnet/{name}.h" for name in ("flexnet", "runtime", "flow", "send", "coroutine")]
SECTIONS = ("Return", "Errors", "Context")


class Comment:
    """A kernel-doc comment and the declaration behind it."""

    def __init__(self, text, declaration):
        lines = [re.sub(r"^ \* ?", "", line) for line in text.split("\n")]
        head = re.fullmatch(r"(struct )?(\w+)(\(\))? - (.+)", lines[0])
        if not head:
            sys.exit(f"not 'name() - what': {lines[0]!r}")
        self.is_struct, self.name, self.what = bool(head[1]), head[2], head[4]
        self.declaration = declaration
        self.params, self.text, self.sections = [], [], {}
        self._parse(lines[1:])
        documented = [name for name, _ in self.params]
        declared = fields(declaration) if self.is_struct else [a.split("*")[-1].split()[-1] for a in self.arguments()]
        if documented != declared:
            sys.exit(f"{self.name}: documents {documented}, declares {declared}")
        if not self.is_struct:
            wanted = {"Return", "Context"}
            if not wanted <= set(self.sections):
                sys.exit(f"{self.name}: without {wanted - set(self.sections)}")

    def _parse(self, lines):
        where = self.text
        for line in lines:
            param = re.match(r"@(\w+): (.*)", line)
            section = re.match(r"(\w+):(?: (.*)|$)", line)
            if param and where is self.text and not self.text:
                self.params.append((param[1], [param[2]]))
            elif line.startswith("\t") and self.params and not self.text:
                self.params[-1][1].append(line.strip())
            elif section and section[1] in SECTIONS:
                where = self.sections.setdefault(section[1], [])
                if section[2]:
                    where.append(section[2])
            elif line or where:
                where.append(line)

    def arguments(self):
        inner = re.search(r"\((.*)\)", self.declaration, re.S)[1]
        arguments = [" ".join(argument.split()) for argument in inner.split(",")]
        return [] if arguments == ["void"] else arguments

    def result(self):
        return " ".join(self.declaration[: self.declaration.index(self.name)].split())


def fields(declaration):
    body = declaration[declaration.index("{") + 1 :]
    names = re.findall(r"(?:\(\*(\w+)\)\([^;]*\)|(\w+)(?:\[[^;]*\])?);", body)
    return [a or b for a, b in names]


def paragraphs(lines):
    return [part for part in "\n".join(lines).strip().split("\n\n") if part]


def roff(text):
    """Text as mdoc: a sentence a line, names and references as macros."""
    text = " ".join(text.split()).replace("\\", "\\e")
    out = []
    for sentence in re.split(r"(?<=[.?!]) (?=[A-Z@])", text):
        at = 0
        # A macro has a line of its own, with the punctuation that follows.
        for match in re.finditer(r"(\w+)\((\d?)\)([.,;:]*)|@(\w+)([.,;:?]*)", sentence):
            name, section, marks = (match[1], match[2] or "3", match[3]) if match[1] else (match[4], "", match[5])
            macro = f".Xr {name} {section}" if section else f".Fa {name}"
            out += wrapped(sentence[at : match.start()])
            out.append(" ".join([macro, *marks]))
            at = match.end()
        out += wrapped(sentence[at:])
    return out


def wrapped(text):
    lines = textwrap.wrap(text.strip(), 76, break_long_words=False, break_on_hyphens=False)
    lines = [re.sub(r"(?<!\w)-(?=[E\d])", r"\\-", line) for line in lines]
    return [("\\&" + line) if line[0] in ".'" else line for line in lines]


def body(lines):
    out = []
    for part in paragraphs(lines):
        out += [".Pp"] * bool(out) + roff(part)
    return out


def sentence(lines):
    return [lines[0][0].upper() + lines[0][1:]] + lines[1:]


def tagged(pairs, tag):
    out = [".Bl -tag -width Ds"]
    for name, lines in pairs:
        out += [f".It {tag} {name}"] + roff(" ".join(lines))
    return out + [".El"]


def errors(lines):
    """Lines of '-EONE, -ETWO: text', with text before them perhaps."""
    intro, entries = [], []
    for line in lines:
        entry = re.match(r"((?:-E[A-Z0-9]+(?:, )?)+(?:\.\.\.)?): (.*)", line)
        if entry:
            entries.append((entry[1].replace("-", "\\-"), [entry[2]]))
        elif entries:
            entries[-1][1].append(line)
        else:
            intro.append(line)
    out = roff(" ".join(intro)) if "".join(intro).strip() else []
    return out + (tagged(entries, "Er") if entries else [])


def structure(struct):
    code = struct.declaration.replace("\\", "\\e").replace("\t", "    ").split("\n")
    out = [".Bd -literal -offset indent"] + code + [".Ed", ".Pp", "where:"]
    text = body(struct.text)
    return out + tagged(struct.params, "Va") + [".Pp"] * bool(text) + text


def page(function, structs, date):
    arguments = function.arguments()
    out = [
        '.\\" SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause',
        '.\\" Made by docs/man/generate.py of the headers in include/flexnet.',
        f".Dd {date}",
        f".Dt {function.name.upper()} 3",
        ".Os scx_flexnet",
        ".Sh NAME",
        f".Nm {function.name}",
        f".Nd {function.what}",
        ".Sh LIBRARY",
        "libflexnet (pkg-config flexnet)",
        ".Sh SYNOPSIS",
        ".In flexnet/flexnet.h",
        f".Ft {quoted(function.result())}",
        f".Fo {function.name}",
    ]
    out += [f".Fa {quoted(argument)}" for argument in arguments or ["void"]] + [".Fc", ".Sh DESCRIPTION"]
    if function.params:
        out += tagged(function.params, "Fa") + [".Pp"] * bool(function.text)
    out += body(function.text)
    for struct, first in structs:
        if first:
            out += structure(struct)
        else:
            out += [".Pp", f".Vt struct {struct.name}", "is described in", f".Xr {struct.first} 3 ."]
    if out[-1] == ".Sh DESCRIPTION":
        out += roff(function.what[0].upper() + function.what[1:] + ".")
    out += [".Sh WHO MAY CALL"] + body(function.sections["Context"])
    out += [".Sh RETURN VALUES"] + body(sentence(function.sections["Return"]))
    if "Errors" in function.sections:
        out += [".Sh ERRORS"] + errors(function.sections["Errors"])
    mentioned = set(re.findall(r"^\.Xr (\w+) 3", "\n".join(out), re.M)) - {function.name}
    out += [".Sh SEE ALSO"] + [f".Xr {name} 3 ," for name in sorted(mentioned)] + [".Xr flexnet 7"]
    # A page does not refer to itself.
    return re.sub(rf"^\.Xr {function.name} 3", ".Nm", "\n".join(out), flags=re.M) + "\n"


def quoted(text):
    return f'"{text}"' if " " in text else text


def comments():
    text = "".join(header.read_text() for header in HEADERS)
    found = re.findall(r"/\*\*\n(.*?)\n \*/\n((?:struct \w+ \{.*?\n\};)|(?:[^{};]*?\);))", text, re.S)
    found = [Comment(*pair) for pair in found]
    functions = [c for c in found if not c.is_struct]
    declared = re.findall(r"^[a-z][\w \*]*?(flexnet_\w+)\(", text, re.M)
    if [f.name for f in functions] != declared:
        sys.exit(f"declared but not documented: {set(declared) ^ {f.name for f in functions}}")
    return functions, [c for c in found if c.is_struct]


def main():
    target = pathlib.Path(sys.argv[1])
    stamp = int(os.environ.get("SOURCE_DATE_EPOCH", max(header.stat().st_mtime for header in HEADERS)))
    date = datetime.datetime.fromtimestamp(stamp, datetime.timezone.utc)
    date = f"{date:%B} {date.day}, {date.year}"
    functions, structs = comments()
    (target / "man3").mkdir(parents=True, exist_ok=True)
    (target / "man7").mkdir(parents=True, exist_ok=True)
    for function in functions:
        used = []
        for struct in structs:
            if re.search(rf"\bstruct {struct.name}\b", function.declaration):
                first = not hasattr(struct, "first")
                if first:
                    struct.first = function.name
                used.append((struct, first))
        (target / "man3" / f"{function.name}.3").write_text(page(function, used, date))
    overview = (HERE / "flexnet.7").read_text()
    listed = set(re.findall(r"^\.(?:It )?Xr (flexnet_\w+) 3", overview, re.M))
    names = {function.name for function in functions}
    if listed != names:
        sys.exit(f"flexnet.7 lists what is not there, or not all: {sorted(listed ^ names)}")
    (target / "man7" / "flexnet.7").write_text(overview.replace("@DATE@", date))


main()
