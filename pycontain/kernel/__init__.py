"""
The only package that calls Linux.

    calls        one function per system call
    const        kernel constants, grouped by header
    ffi_source   the C declarations from which `_ffi` is generated
    root         files below a root file system, by descriptor
    mounts       detached mounts, and attaching them
    safe_path    files where other users must not decide what a path leads to
    files        reading small files
    descriptors  descriptors that an object owns
    sockets      descriptors sent over Unix sockets
    wait         waiting that a signal or a deadline ends
    seal         the interpreter that no container can overwrite
    sealed_copy  creating its sealed copy
    vfork        a child that shares memory until execve (`_vfork.c`)
    bare         a process without any memory of its creator (`_bare.c`)
    userns       user namespaces and their mappings
    subids       subordinate ids of a user
    rights       whether this process is root on the host
    procfs       a proc file system of another pid namespace
    net          network namespaces and loopback
    tty          pseudo-terminals
    seccomp      from a profile to a BPF program, with a cache
    bpf          BPF programs of cgroups
    elf          ELF headers
    mempolicy    the memory policy of a process
    sdnotify     passing on to systemd that a program is ready
"""
