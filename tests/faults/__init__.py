"""
Faults at any moment: whatever fails or is killed, `delete --force` succeeds and the host is clean.

    binding   counts the system calls of a command, and lets one of them fail
    verbs     the commands that are tried, and what they need
    trial     one command with one fault, and what must hold afterwards
    figures   how many faults of which kind have happened

`python -m tests.faults` runs everything, in several processes at once.
"""
