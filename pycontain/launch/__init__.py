"""
How a container's first process is created: the parent's side of a plan.

    bring_up      carries out the plan; ends with the program running or everything undone
    launch        what the parent's steps share, and how to undo them
    steps         the parent's steps, one function each; rare ones in the modules below
    child         the first process, and what both ways to create it have in common
    fork          a child with memory of its own
    vfork         a child that shares this process's memory until execve
    recover       the program that this process executes if such a child is killed half-way
    intermediate  the process that creates a child in a user namespace
    joined_pids   the program's process in a joined pid namespace
    idmap         steps for user namespaces and id-mapped mounts
    joining       steps for namespaces to join
    hooks         hooks on the host
    terminal      the console socket
    scheduling    scheduling that only the parent may set
    netdevices    network devices of the host
    notify        filters that ask an agent
    rdt           Intel RDT
    sdnotify      the socket that a program notifies systemd through
    details       the report of --debug

The child's side is `pycontain.init`.
"""
