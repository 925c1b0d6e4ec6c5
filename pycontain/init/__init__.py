"""
The child's side of a plan: the steps of the process that becomes the container's program.

    main         from the fork to execve
    context      what the steps share
    guard        blocking imports
    filesystem   registers the steps below that build the root file system
    rootfs       mounts, before the root is "/"
    copying      filling a tmpfs with what it covers
    devices      device files and links
    pivot        the rootfs becomes "/"
    protection   read-only and masked paths
    host_mounts  the steps of a child without a mount namespace
    process      names, kernel parameters and identity
    joining      entering existing namespaces
    terminal     opening a terminal
    scheduling   scheduling and the execution domain
    memory       the memory policy
    labels       AppArmor and SELinux
    notify       filters that ask an agent
    hooks        hooks in the container's namespaces
    start        waiting for `start`
    program      finding the program and executing it
    joined_pids  the program's process in a joined pid namespace
    diagnose     why a program cannot be executed

The parent's side is `pycontain.launch`.
"""
