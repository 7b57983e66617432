#!/usr/bin/env python3
"""Checks the licences and versions of the crates in Cargo.lock.

Every third-party crate must be usable under the licences of ALLOWED alone, and no crate of
FAMILIES, whose types cross the borders of crates, may be there in two versions.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    # Of data, which it asks nothing of who uses: the list of authorities whose certificates are believed.
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
}
# A family is the crate of this name and those that append to it: arrow, arrow-array, timely_bytes.
FAMILIES = ["arrow", "parquet", "timely", "differential-dataflow", "datafusion"]


def licences_needed(expression, allowed):
    """The allowed licences which satisfy an SPDX expression, or None if they do not.

    Of alternatives, the first that is allowed counts. `A/B` is Cargo's old way to write `A OR B`.
    AND binds tighter than OR, and WITH tighter than both: `A WITH e` is one licence, distinct from
    A, and is allowed only if it is listed as such.
    """
    tokens = re.findall(r"[()/]|[^\s()/]+", expression)
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        token = peek()
        if token is None:
            raise ValueError(f"the licence ends too early: {expression!r}")
        position += 1
        return token

    def alternatives():
        found = [conjunction()]
        while peek() in ("OR", "/"):
            take()
            found.append(conjunction())
        return next((needed for needed in found if needed is not None), None)

    def conjunction():
        found = [licence()]
        while peek() == "AND":
            take()
            found.append(licence())
        return None if None in found else frozenset().union(*found)

    def operand():
        name = take()
        if name in ("(", ")", "/", "AND", "OR", "WITH"):
            raise ValueError(f"a name is missing before {name}: {expression!r}")
        return name

    def licence():
        if peek() == "(":
            take()
            inner = alternatives()
            if take() != ")":
                raise ValueError(f"a parenthesis is not closed: {expression!r}")
            return inner
        name = operand()
        if peek() == "WITH":
            take()
            name = f"{name} WITH {operand()}"
        return frozenset([name]) if name in allowed else None

    needed = alternatives()
    if peek() is not None:
        raise ValueError(f"{peek()!r} is out of place: {expression!r}")
    return needed


def test_licences_needed():
    allowed = {"A", "B", "C", "A WITH e"}
    for expression, needed in {
        "A": "A",
        "X": None,
        "A OR X": "A",
        "X OR A": "A",
        "X/A": "A",
        "X / Y": None,
        "A AND B": "A B",
        "A AND X": None,
        "X AND A OR B": "B",
        "B OR X AND A": "B",
        "X OR A AND B": "A B",
        "X AND (A OR B)": None,
        "(X OR A) AND B": "A B",
        "(X OR A) AND (Y OR (B AND C))": "A B C",
        "((A))": "A",
        "B WITH e": None,
        "B WITH e OR A": "A",
        "X OR B WITH e AND A": None,
    }.items():
        expected = None if needed is None else frozenset(needed.split())
        found = licences_needed(expression, allowed)
        assert found == expected, f"{expression}: {found}, not {expected}"
    assert licences_needed("X OR A WITH e", allowed) == {"A WITH e"}
    for broken in ["", "A OR", "AND A", "(A", "A)", "A B", "()", "A WITH", "A OR OR B", "A WITH )"]:
        try:
            licences_needed(broken, allowed)
        except ValueError:
            continue
        raise AssertionError(f"{broken!r} was taken for a licence")


def licence_problems(packages):
    """Packages which ALLOWED does not cover, and licences in ALLOWED which none needs."""
    used = set()
    for package in packages:
        name, licence = f"{package['name']} {package['version']}", package["license"]
        if not licence:
            yield f"{name} states no SPDX licence (licence file: {package['license_file']})"
            continue
        try:
            needed = licences_needed(licence, ALLOWED)
        except ValueError as error:
            yield f"{name}: {error}"
            continue
        if needed is None:
            yield f"{name} has the licence {licence}, which is not allowed"
        else:
            used |= needed
    for licence in sorted(ALLOWED - used):
        yield f"no crate needs the licence {licence} any more; take it off the list"


def version_problems(packages):
    """Members of the families which are there in more than one version."""
    for family in FAMILIES:
        versions = {}
        for package in packages:
            if re.fullmatch(re.escape(family) + r"([-_].+)?", package["name"]):
                versions.setdefault(package["name"], set()).add(package["version"])
        for name, found in sorted(versions.items()):
            if len(found) > 1:
                yield f"{name} is there in several versions: {', '.join(sorted(found))}"


def main():
    test_licences_needed()
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    # Crates of this workspace have no source.
    packages = [package for package in json.loads(output)["packages"] if package["source"]]
    problems = [*licence_problems(packages), *version_problems(packages)]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print(f"{len(packages)} crates: licences and versions are as they should be")


if __name__ == "__main__":
    main()
