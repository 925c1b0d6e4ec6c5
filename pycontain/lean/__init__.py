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

What else a start saves, in instructions before `run` has a child, 48 million of which 20 are bare
Python's (valgrind's callgrind counts them, the same on a busy machine):

    steps that a plan does not have are not imported    `plan.steps`           3.8 %; `exec` 11 %
    records have no slots                               `lean.record`          1.4 %
    imports are absolute in the archive                 `cli.pack`             1.0 %
    the protocol is imported where a child is forked    `launch.forked`        0.8 %
    commands for people are not loaded                  `cli.people_commands`  0.5 %

Most of what is left is creating objects: 57,000 instructions for any class, 75,000 for a record's
and 90,000 for an exception's, 17 for each byte of the archive. So a class that few commands need
belongs in a module of its own.
"""
