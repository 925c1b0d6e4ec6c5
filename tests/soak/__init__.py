"""
A soak: many processes, random commands, random faults, and invariants after each.

    work        one worker: chooses a command and a fault, runs it, checks
    invariants  what must hold of a container's id whatever was done to it
    __main__    `python -m tests.soak --seconds 600 --seed N`, or `make soak`
"""
