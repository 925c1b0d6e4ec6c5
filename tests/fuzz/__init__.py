"""
Fuzzing: no input makes pycontain fail with anything but an error of its own.

    targets   what is fed, each a function of bytes
    mutate    configurations with a few things wrong
    __main__  `make fuzz FOR=10m`: atheris, guided by coverage, one target after the other
    found     inputs that once failed, by target; each is a test
"""
