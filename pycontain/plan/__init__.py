"""
From a checked configuration to the steps that bring a container up. Nothing here calls the kernel.

    plan           the order of the steps of create and run
    joining        the same for exec
    steps/         the steps, as records
    walk           how the two processes perform them in turns
    request        the parameters of create, run and exec
    facts          what must be known of the host
    vfork          when the child may share its parent's memory
    namespaces     namespaces
    ids            mappings of user namespaces and mounts
    mounts         mounts and their options
    devices        device files and links of /dev
    device_filter  the rules for devices, as an eBPF program
    resources      limits, as files of the cgroup
    process        the process and its identity
    seccomp        the system call filter, as numbers
    labels         AppArmor and SELinux
    memory         the memory policy
    rdt            Intel RDT
    sdnotify       the socket that a program notifies systemd through
    groups         supplementary groups that are kept
"""
