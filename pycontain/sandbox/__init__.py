"""
Sandboxes for untrusted code: what `pycontain.Sandbox` and `pycontain.Pool` are made of.

    limits       what a sandbox may use, and what holds it to that on this host
    root         the root file system of python=True: this interpreter and its standard library
    configure    the configuration of a sandbox's containers
    files        the files of a sandbox, from outside
    watch        one run: its output, its limits, its end
    result       how a run ended
    container    a run in a container of its own
    box          `Sandbox`
    session      an interpreter that keeps its state
    pool         `Pool`: runs that fork from a prepared interpreter
    inside/      what runs in the sandbox
"""
