"""
Sandboxes for untrusted code: what `pycontain.Sandbox` and `pycontain.Pool` are made of.

    limits       what a sandbox may use, and what enforces that on this host
    root         the root file system of python=True: this interpreter and its standard library
    image        an image instead
    interpreter  the Python in it, and whether that is still the same
    configure    the configuration of a sandbox's containers
    setup        what `Sandbox` and `Pool` are given alike
    users        a user for each
    files        the files of a sandbox, from outside
    namespace    the mounts that the containers of a sandbox share
    network      a list of HOST:PORT that it may connect to
    supervise    one run: its output, its limits, its end
    result       how a run ended
    log          what ran
    container    a run in a container of its own
    sandbox      `Sandbox`
    session      an interpreter that keeps its state
    stream       the lines of a program's output
    pool         `Pool`: runs that have been prepared
    server       the container of a pool, whose interpreter is copied
    fork         a run in such a copy
    prepared     the runs of a pool on an image: containers that wait
    inside/      what runs in the sandbox
"""
