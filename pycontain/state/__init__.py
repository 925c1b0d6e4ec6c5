"""
What is stored about a container between one command and the next.

    ROOT/                    0700, /run/pycontain or --root; nobody else may write to it, nor put
                             something else in its place (`kernel.safe_path`)
      .seccomp/              the cache of `kernel.seccomp`
      ID/                    0700; creating it claims the id
        state.json           `record.State` as it was before the process was created;
                             state.json.new is there before the cgroup is
        process              the first process: its pid and start time, then "created" once
                             everything but the program is set up
        config.json          the configuration as it was at create (runtime.md, Lifecycle)
        device.N             device files for a user namespace, until they are mounted there
        groups               directories elsewhere that are removed with this one (`groups`)
        notify/              where the notification socket is, which is mounted for the program
        start.in, start.out  FIFOs to the child that waits for `start`, which removes them

Pids are reused, so a pid is stored with the process's start time (in clock ticks since boot,
proc(5)). Each file appears atomically. None is written again, except for the last word of
`process`, and config.json, which `update` replaces: on ext4, replacing a file waits for the disk.
Commands that change a container hold a lock on its directory.
"""
