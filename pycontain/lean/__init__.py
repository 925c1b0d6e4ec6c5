"""
What exists only so that commands start fast. To understand containers, skip this package.

An engine calls its runtime several times for each container, and a container takes 3 ms of kernel
work, so imports are most of what a command costs. Bare `python3 -IS` starts in 6.5 ms; imports add
(milliseconds, least of 120 runs on two cores of a virtual machine):

    json                                  7.2     jsontext    0.7   C's JSON scanner, without `json`
    dataclasses                          14.6     record      0.8   immutable records
    os                                    0.8     os, path    0.7   the part of `os` that is used
    the modules of `run`, as usual       15.1     archive     6.9   all code in one file
    typing 9.4, enum 3.9, re 5.3, subprocess 10.7                   not imported by these commands

`python benchmarks/imports.py` measures them again. `from ..lean import os` is therefore not the
standard library's `os`: it has the same names, and `environ` in bytes.
"""
