"""
What is known of a container between one command and the next.

    ROOT/                    0700, /run/pycontain unless --root says otherwise
      ID/                    0700; made with the id: who makes it owns the name
        state.json           `record.State` as it is before there is a process
        process              the first process: its pid and start time, then "created" once all but
                             the program is set up
        config.json          the configuration as it was at create (runtime.md, Lifecycle)
        start.in, start.out  FIFOs to the child that waits for `start`; gone once it was called

A pid alone may be somebody else's by now, so it is stored with the process's start time (in clock
ticks since boot, proc(5)). Each file appears whole or not at all. None is written again, except for
the last word of `process`, and config.json, which `update` replaces: on ext4, replacing a file
waits for the disk. Commands that change a container hold a lock on its directory.
"""
