"""A library of C's math functions for Wine, whose own lacks complex numbers: its source and its exports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

LIBRARY = "api-ms-win-crt-math-l1-1-0.dll"
_TO_COMPLEX = [
    "cacos",
    "cacosh",
    "casin",
    "casinh",
    "catan",
    "catanh",
    "ccos",
    "ccosh",
    "cexp",
    "clog",
    "conj",
    "cproj",
    "csin",
    "csinh",
    "csqrt",
    "ctan",
    "ctanh",
]
_TO_REAL = ("cabs", "carg", "cimag", "creal")
_HEAD = """
#include <complex.h>
typedef struct { float re, im; } F;
typedef struct { double re, im; } D;
static float complex of_F(F a) { return a.re + a.im * I; }
static double complex of_D(D a) { return a.re + a.im * I; }
static F to_F(float complex z) { F a = {crealf(z), cimagf(z)}; return a; }
static D to_D(double complex z) { D a = {creal(z), cimag(z)}; return a; }
"""


def write_source(folder: Path, names: Sequence[str]) -> None:
    """Write math.c and math.def: every function of `names` passed on to ucrtbase, and the complex ones."""
    own = dict(define_functions())
    (folder / "math.c").write_text(_HEAD + "\n".join(own.values()) + "\n", encoding="ascii")
    passed = [f"  {name} = ucrtbase.{name}" for name in sorted({*names} - own.keys())]
    exports = [f"LIBRARY {LIBRARY}", "EXPORTS", *passed, *(f"  {name} = own_{name}" for name in own)]
    (folder / "math.def").write_text("\n".join(exports) + "\n", encoding="ascii")


def define_functions() -> Iterator[tuple[str, str]]:
    """Each complex function's name and its C: float, double, and long double (a double on Windows)."""
    for end, kind, real in (("f", "F", "float"), ("", "D", "double"), ("l", "D", "double")):
        called = "f" if kind == "F" else ""
        for name in _TO_COMPLEX:
            body = f"return to_{kind}({name}{called}(of_{kind}(a)));"
            yield name + end, f"{kind} own_{name}{end}({kind} a) {{ {body} }}"
        for name in _TO_REAL:
            yield name + end, f"{real} own_{name}{end}({kind} a) {{ return {name}{called}(of_{kind}(a)); }}"
        body = f"return to_{kind}(cpow{called}(of_{kind}(a), of_{kind}(b)));"
        yield "cpow" + end, f"{kind} own_cpow{end}({kind} a, {kind} b) {{ {body} }}"
        yield "norm" + end, f"{real} own_norm{end}({kind} a) {{ return a.re * a.re + a.im * a.im; }}"
