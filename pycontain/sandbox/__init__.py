"""
Sandboxes for untrusted code: what `pycontain.Sandbox` and `pycontain.Pool` are made of.

    limits       what a sandbox may use, and what enforces that on this host
    root         the root file system of python=True: this interpreter and its standard library
    configure    the configuration of a sandbox's containers
    image        an image instead
    files        the files of a sandbox, from outside
    namespace    the mounts that the containers of a sandbox share
    network      a list of HOST:PORT that it may connect to
    watch        one run: its output, its limits, its end
    result       how a run ended
    log          what ran
    container    a run in a container of its own
    box          `Sandbox`
    session      an interpreter that keeps its state
    stream       the lines of a program's output
    pool         `Pool`: runs in copies of a prepared interpreter
    server       the container of a pool
    copy         a run in it
    inside/      what runs in the sandbox
"""
